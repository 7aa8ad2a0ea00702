#!/usr/bin/env python3
"""What many routes, many idle connections and much coming and going cost the router.

    benches/scale.py [--binary target/release/agentfs] [--only routes,idle,churn] [--rounds 15] [--seconds 2]

Needs a release build, nginx as the application and wrk. Uses private AGENTFS_HOMEs; leaves nothing running.
Prints Markdown for docs/benchmarks.md. What is compared takes turns in the same run, so that other work on
the machine hits both; medians are over rounds. `idle` needs `ulimit -Hn` of 25,000 or opens fewer connections.
"""
import argparse
import contextlib
import json
import os
import re
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ROUTES = 10_000
IDLE = 10_000
PER_MINUTE = 1_000
# Whatever was started or made, to be ended however the run ends.
CLEANUP = contextlib.ExitStack()
REQUEST = b"GET / HTTP/1.1\r\nHost: app.localhost\r\n\r\n"


class Application:
    """nginx with one worker on a Unix socket; answers 65 bytes."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="afs", dir="/tmp")
        CLEANUP.callback(shutil.rmtree, self.folder, ignore_errors=True)
        os.chmod(self.folder, 0o755)
        self.socket = f"{self.folder}/app.sock"
        with open(f"{self.folder}/conf", "w") as file:
            file.write(f"""daemon off; worker_processes 1; pid {self.folder}/pid; error_log {self.folder}/error.log;
{"user root;" if os.geteuid() == 0 else ""}
events {{ worker_connections 20000; }}
http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 1h;
  client_body_temp_path {self.folder}/1; proxy_temp_path {self.folder}/2; fastcgi_temp_path {self.folder}/3;
  uwsgi_temp_path {self.folder}/4; scgi_temp_path {self.folder}/5;
  server {{ listen unix:{self.socket}; location / {{ return 200 "{"x" * 64}\\n"; }} }} }}
""")
        nginx = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin") or sys.exit("error: cannot find nginx")
        self.process = subprocess.Popen([nginx, "-e", f"{self.folder}/error.log", "-c", f"{self.folder}/conf"])
        CLEANUP.callback(end, self.process)
        wait_for("nginx listens", lambda: os.path.exists(self.socket))


class Home:
    """A private AGENTFS_HOME with a running collector and routes by hand."""

    def __init__(self, binary, routes):
        self.binary = binary
        self.folder = tempfile.mkdtemp(prefix="afs", dir="/tmp")
        CLEANUP.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.home = os.path.join(self.folder, "h")
        os.mkdir(self.home, 0o700)
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("AGENTFS_")}
        self.environment.update(AGENTFS_HOME=self.home, AGENTFS_ROUTER="127.0.0.1:0", AGENTFS_ROUTER_THREADS="1")
        with open(f"{self.home}/routes.json", "w") as file:
            json.dump({"routes": [{"host": host, "target": target} for host, target in routes]}, file)
        self.agentfs("daemon", "start")
        CLEANUP.callback(self.agentfs, "daemon", "stop")
        status = json.loads(self.agentfs("daemon", "status", "--json"))
        self.pid, self.port = status["pid"], status["http_port"]

    def agentfs(self, *arguments):
        command = [self.binary, "--quiet", *arguments]
        return subprocess.run(command, env=self.environment, check=True, stdout=subprocess.PIPE).stdout

    def start(self, *arguments, **options):
        process = subprocess.Popen([self.binary, "--quiet", *arguments], env=self.environment, **options)
        CLEANUP.callback(end, process)
        return process

    def cpu(self):
        """Seconds of processor that the collector has used, to the nanosecond."""
        total = 0
        for task in os.listdir(f"/proc/{self.pid}/task"):
            with open(f"/proc/{self.pid}/task/{task}/schedstat") as file:
                total += int(file.read().split()[0])
        return total / 1e9

    def private_kb(self):
        with open(f"/proc/{self.pid}/smaps_rollup") as file:
            return int(re.search(r"Anonymous:\s+(\d+)", file.read())[1])

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), 30)


def end(process):
    if process.poll() is None:
        process.terminate()
        process.wait()


def wait_for(what, holds):
    end = time.monotonic() + 60
    while not holds():
        if time.monotonic() > end:
            sys.exit(f"error: {what}: not within a minute")
        time.sleep(0.01)


def ask(connection):
    """One request on a connection; its time in seconds. Any other answer than 200 ends the benchmark."""
    begin = time.perf_counter()
    connection.sendall(REQUEST)
    answer = b""
    while not answer.endswith(b"x\n"):
        part = connection.recv(4096)
        if not part:
            sys.exit(f"error: the router closed the connection after {answer!r}")
        answer += part
    if not answer.startswith(b"HTTP/1.1 200"):
        sys.exit(f"error: {answer!r}")
    return time.perf_counter() - begin


def load(home, seconds):
    """wrk with 64 connections: requests a second, and seconds of the collector's processor for 100,000."""
    before = home.cpu()
    command = ["wrk", "-t1", "-c64", f"-d{seconds}s", "-H", "Host: app.localhost", f"http://127.0.0.1:{home.port}/"]
    text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    if "Non-2xx" in text or "Socket errors" in text:
        sys.exit(f"error: {text}")
    requests = int(re.search(r"(\d+) requests in", text)[1])
    return float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1]), (home.cpu() - before) / requests * 1e5


def routes(binary, application, rounds, seconds):
    """10,000 routes against one."""
    print(f"\n## routes: {ROUTES:,} routes against one; 64 connections, one router thread.\n")
    app = ("app.localhost", application.socket)
    others = [(f"app-{number}.localhost", f"{application.folder}/none-{number}.sock") for number in range(ROUTES - 1)]
    homes = {"1 route": Home(binary, [app]), f"{ROUTES:,} routes": Home(binary, [*others, app])}
    one, many = homes
    results = {name: [] for name in homes}
    for home in homes.values():
        load(home, 1)
    for number in range(rounds):
        for name in list(homes)[::1 if number % 2 else -1]:
            results[name].append(load(homes[name], seconds))
    print("| | best req/s | CPU s per 100k requests, median | collector, private MB |\n|---|---|---|---|")
    for name, values in results.items():
        rate, cpu = max(rate for rate, _ in values), statistics.median(cpu for _, cpu in values)
        print(f"| {name} | {rate:,.0f} | {cpu:.3f} | {homes[name].private_kb() / 1024:.1f} |")
    cost = statistics.median(b[1] / a[1] for a, b in zip(results[one], results[many]))
    print(f"\nCPU of a request with {ROUTES:,} routes to that with one: **{cost:.3f}** (median of rounds; must be ≤ 1.02)")


def idle(binary, application, rounds, _seconds):
    """10,000 connections that made one request each and are kept."""
    home = Home(binary, [("app.localhost", application.socket)])
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(IDLE, hard - 200)
    busy = home.connect()
    def middle():
        return statistics.median(ask(busy) for _ in range(2000))
    ask(busy)
    alone, before = [middle() for _ in range(rounds)], home.private_kb()
    held = []
    begin = time.perf_counter()
    for _ in range(count):
        connection = home.connect()
        ask(connection)
        held.append(connection)
    took = time.perf_counter() - begin
    among, after = [middle() for _ in range(rounds)], home.private_kb()
    for connection in held[::100]:
        ask(connection)
    print(f"\n## idle: {count:,} connections that made one request each and are kept.\n")
    print("| private KB for each | requests p50 without them | with them | connected and asked, each |\n|---|---|---|---|")
    print(f"| {(after - before) / count:.2f} | {statistics.median(alone) * 1e6:.0f} µs | {statistics.median(among) * 1e6:.0f} µs "
          f"| {took / count * 1e6:.0f} µs |")
    for connection in held:
        connection.close()
    busy.close()


CHURN = """
import os, socket, sys, time
held = []
while True:
    time.sleep(60 / float(sys.argv[1]))
    if os.path.exists(sys.argv[2]):
        listener = socket.socket(); listener.bind(("127.0.0.1", 0)); listener.listen(16)
        held.append(listener)
        if len(held) > 16: held.pop(0).close()
"""


def churn(binary, application, rounds, seconds):
    """Listeners that come and go while requests pass."""
    print(f"\n## churn: {PER_MINUTE:,} listeners a minute come, live for a second and go; one connection, request after request.\n")
    home = Home(binary, [("app.localhost", application.socket)])
    connection = home.connect()
    # The same program without agentfs is the control: what it costs by itself is not the router's.
    native, wrapped = f"{home.folder}/native", f"{home.folder}/wrapped"
    command = [sys.executable, "-c", CHURN, str(PER_MINUTE)]
    home.start("wrap", "--app", "churn", "--", *command, wrapped, stderr=subprocess.DEVNULL)
    CLEANUP.callback(end, subprocess.Popen([*command, native]))
    open(wrapped, "w").close()
    wait_for("the first listener", lambda: any(".sock" in name for name in os.listdir(f"{home.home}/run")))
    time.sleep(2)
    before, since = home.cpu(), sequence(home)
    time.sleep(5)
    share, events = (home.cpu() - before) / 5, (sequence(home) - since) / 5 * 60
    os.unlink(wrapped)
    kinds = {"nothing else": None, "TCP listeners of the host come and go": native,
             "listeners of an instance come and go": wrapped}
    quiet, control, busy = kinds
    results = {name: [] for name in kinds}
    # Short turns: what else the machine does hits all three alike.
    for number in range(rounds * seconds):
        for name in list(kinds)[number % 3:] + list(kinds)[:number % 3]:
            if kinds[name]:
                open(kinds[name], "w").close()
            time.sleep(0.1)
            times, until = [], time.monotonic() + 0.5
            while time.monotonic() < until:
                times.append(ask(connection))
            times.sort()
            results[name].append((times[len(times) // 2], times[len(times) * 99 // 100]))
            if kinds[name]:
                os.unlink(kinds[name])
    print("| | p50 | p99 |\n|---|---|---|")
    for name, values in results.items():
        print(f"| {name} | {statistics.median(p50 for p50, _ in values) * 1e6:.1f} µs | {statistics.median(p99 for _, p99 in values) * 1e6:.0f} µs |")
    moved, more = (statistics.median(b[0] / a[0] for a, b in zip(results[base], results[busy])) for base in (quiet, control))
    print(f"\np50 while listeners of an instance come and go to p50 without: **{moved:.3f}** (median of turns; must be "
          f"≤ 1.05), to p50 while TCP listeners do: {more:.3f}. Journal events: {events:,.0f} a minute, about three for "
          f"each listener. The collector without requests meanwhile: {share:.1%} of one core.")
    connection.close()


def sequence(home):
    """Number of the journal's last event: each listener makes some."""
    with socket.socket(socket.AF_UNIX) as control:
        control.settimeout(30)
        control.connect(f"{home.home}/collector.sock")
        with control.makefile("rw") as stream:
            stream.write('{"id":1,"method":"list"}\n')
            stream.flush()
            return json.loads(stream.readline())["result"]["sequence"]


def main():
    parts = {"routes": routes, "idle": idle, "churn": churn}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=f"{ROOT}/target/release/agentfs")
    parser.add_argument("--only", default=",".join(parts))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=int, default=2)
    options = parser.parse_args()
    if not os.access(options.binary, os.X_OK):
        sys.exit(f"error: cannot find {options.binary}\nhint: cargo build --release, or --binary")
    if not shutil.which("wrk"):
        sys.exit("error: cannot find wrk\nhint: it is in Debian's package wrk")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("error: ended by SIGTERM"))
    with CLEANUP:
        application = Application()
        for name in options.only.split(","):
            parts[name](os.path.abspath(options.binary), application, options.rounds, options.seconds)
            sys.stdout.flush()


if __name__ == "__main__":
    main()
