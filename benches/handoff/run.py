#!/usr/bin/env python3
"""Keep-alive requests through a forward, beside the same server reached directly.

    benches/handoff/run.py [--binary target/release/agentfs] [--rounds 13] [--seconds 1] [--connections 16]

Each server runs unwrapped twice (the second is the control) and wrapped once, with two forwards of its port: one that
hands connections over, one that passes bytes. All run at the same time; wrk asks one after the other, the order
rotates, and ratios are those of one round. An answer other than 200, or a broken connection, ends the benchmark.
Needs a release build, wrk, nginx, node and a C compiler. Prints Markdown for docs/benchmarks.md.
"""
import argparse
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
WAYS = ("direct TCP", "handed over", "bytes passed", "direct TCP again (control)")
NGINX = """
daemon off; worker_processes 1; pid {folder}/{port}.pid; error_log stderr crit;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 100000000; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;
fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
server {{ listen {port}; return 200 "{body}"; }} }}
"""
NODE = """
const body = 'x'.repeat(1024);
require('http').createServer((request, answer) => {
    answer.writeHead(200, {'Content-Length': 1024}); answer.end(body);
}).listen(Number(process.argv[1]), '0.0.0.0');
"""


def nginx(folder, port):
    path = os.path.join(folder, f"{port}.conf")
    with open(path, "w") as file:
        file.write(NGINX.format(folder=folder, port=port, body="x" * 1024))
    return ["nginx", "-e", "stderr", "-p", folder, "-c", path]


def node(_folder, port):
    return ["node", "-e", NODE, str(port)]


def epoll(folder, port):
    program = os.path.join(folder, "epoll")
    if not os.path.exists(program):
        subprocess.run(["cc", "-O2", "-o", program, os.path.join(HERE, "epoll.c")], check=True)
    return [program, str(port)]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(address):
    host, port = address.rsplit(":", 1)
    for _ in range(600):
        try:
            with socket.create_connection((host, int(port)), timeout=5) as connection:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                if connection.recv(100).startswith(b"HTTP/1.1 200"):
                    return
        except OSError:
            pass
        time.sleep(0.05)
    sys.exit(f"error: nothing answers at {address}")


def ask(address, options):
    """Requests a second and the median latency in microseconds."""
    command = ["wrk", "-t1", f"-c{options.connections}", f"-d{options.seconds}s", "--latency", f"http://{address}/"]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    # wrk has these lines only where there were such.
    if "Non-2xx" in output or "Socket errors" in output:
        sys.exit(f"error: {address}\n{output}")
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", output)[1])
    value, unit = re.search(r"50%\s+([\d.]+)(us|ms|s)", output).groups()
    return rate, float(value) * {"us": 1, "ms": 1e3, "s": 1e6}[unit]


def measure(server, options, folder, environment):
    def agentfs(*arguments):
        command = [options.binary, *arguments]
        return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout

    ports = [free_port(), free_port()]
    inner = free_port()
    name = server.__name__
    running = [subprocess.Popen(server(folder, port), env=environment) for port in ports]
    wrapped = [options.binary, "wrap", "--app", "bench", "--instance", name, "--", *server(folder, inner)]
    running.append(subprocess.Popen(wrapped, env=environment))
    try:
        for _ in range(600):
            instances = json.loads(agentfs("ps", "--json"))
            if any(one["instance"] == name and one["listeners"] for one in instances):
                break
            time.sleep(0.05)
        own = json.loads(agentfs("forward", "--json", f"bench/{name}"))["listen"]
        proxy = json.loads(agentfs("forward", "--json", "--proxy", f"bench/{name}:{inner}"))["listen"]
        addresses = dict(zip(WAYS, (f"127.0.0.1:{ports[0]}", f"{own}:{inner}", proxy, f"127.0.0.1:{ports[1]}")))
        for address in addresses.values():
            answers(address)
            ask(address, options)
        found = {way: [] for way in WAYS}
        for number in range(options.rounds):
            for way in WAYS[number % len(WAYS):] + WAYS[:number % len(WAYS)]:
                found[way].append(ask(addresses[way], options))
        forwards = {one["listen"]: one for one in json.loads(agentfs("forward", "--list", "--json"))}
    finally:
        for process in running:
            process.send_signal(signal.SIGTERM)
        for process in running:
            process.wait()
    base = found[WAYS[0]]
    for way in WAYS:
        ratios = [rate / direct for (rate, _), (direct, _) in zip(found[way], base)]
        rate = statistics.median(rate for rate, _ in found[way])
        latency = statistics.median(latency for _, latency in found[way])
        print(f"| {name} | {way} | {rate:,.0f} | {statistics.median(ratios):.2f} | {latency:.0f} µs |", flush=True)
    handed = forwards[own]
    print(f"{name}: {handed['handed']} of {handed['connections']} connections were handed over, "
          f"{forwards[proxy]['handed']} of {forwards[proxy]['connections']} with --proxy", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=os.path.join(ROOT, "target/release/agentfs"))
    parser.add_argument("--rounds", type=int, default=13)
    parser.add_argument("--seconds", type=int, default=1)
    parser.add_argument("--connections", type=int, default=16)
    options = parser.parse_args()
    options.binary = os.path.abspath(options.binary)
    folder = tempfile.mkdtemp(prefix="afb", dir="/tmp")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AGENTFS_")}
    environment.update(AGENTFS_HOME=os.path.join(folder, "h"), AGENTFS_ROUTER="127.0.0.1:0",
                       AGENTFS_ROUTER_TLS="127.0.0.1:0", AGENTFS_QUIET="1")
    print("| server | way | median req/s | ratio to direct, median of rounds | median latency |\n|---|---|---|---|---|")
    try:
        for server in (nginx, node, epoll):
            measure(server, options, folder, environment)
    finally:
        subprocess.run([options.binary, "daemon", "stop"], env=environment, stdout=subprocess.DEVNULL)
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
