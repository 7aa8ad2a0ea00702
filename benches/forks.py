#!/usr/bin/env python3
"""What many instances at once cost: 10, 100 and 1,000 forks, each in a folder of its own, and 1,000 copies in one.

    benches/forks.py [--binary target/release/agentfs] [--forks 10,100,1000] [--copies 1000] [--apps 0] [--seconds 10]

Needs a release build and a C compiler. Every instance is a small C server on the same port. Measured for each count:

- start: one after another, each waited for until it listens, beside the same servers without agentfs;
- known: from the last listen until every instance answers through the router by its own name;
- idle: processor, wake-ups (voluntary context switches of all threads) and memory of the collector;
- change: a listener more in one of them, from the return of its listen() to the event that says so and its first
  answer through the router, which must be there by then;
- `ps`, `stop` of one and `stop` of all others, as commands;
- nothing: wake-ups when nothing is alive.

`--apps` takes forks that are apps of their own too. Uses private AGENTFS_HOMEs; leaves nothing running. Prints Markdown
for docs/benchmarks.md. Exit status 1 where something that must be reached with 1,000 is missed.
"""
import argparse
import contextlib
import json
import os
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
CLEANUP = contextlib.ExitStack()
PORT = 8080
# What must be reached with 1,000 instances: row of the table → the most.
MUST = {"start, more than native, s": 10, "collector, resident MB": 25, "idle, % of a core": 0.5, "idle, wake-ups a second": 1,
        "change, ms": 5, "ps, ms": 50, "stop of all, s": 5, "nothing alive, wake-ups": 0}

SERVER = r"""
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static struct pollfd listeners[64];
static int count;

/* Opens a port; the moment when listen() returned, in nanoseconds. */
static long long open_port(int port) {
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct timespec now;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (void *)&at, sizeof at) || listen(fd, 128)) { perror("listen"); exit(1); }
    clock_gettime(CLOCK_MONOTONIC, &now);
    listeners[count++] = (struct pollfd){.fd = fd, .events = POLLIN};
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

int main(int argc, char **argv) {
    open_port(atoi(argv[1]));
    if (write(1, "1", 1) != 1) return 1;
    for (;;) {
        if (poll(listeners, count, -1) < 1) continue;
        for (int i = 0, open = count; i < open; i++) {
            char text[4096], answer[256];
            int fd, length, port;
            if (!(listeners[i].revents & POLLIN) || (fd = accept(listeners[i].fd, 0, 0)) < 0) continue;
            length = read(fd, text, sizeof text - 1);
            if (length > 0) {
                long long at = 0;
                text[length] = 0;
                if (sscanf(text, "GET /open/%d ", &port) == 1) at = open_port(port);
                snprintf(text, sizeof text, "%lld", at);
                length = snprintf(answer, sizeof answer,
                    "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s", strlen(text), text);
                if (write(fd, answer, length) != length) return 1;
            }
            close(fd);
        }
    }
}
"""


class Home:
    """A private AGENTFS_HOME with a running collector."""

    def __init__(self, binary):
        self.binary = binary
        self.folder = tempfile.mkdtemp(prefix="aff", dir="/tmp")
        self.processes = {}
        self.closed = False
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("AGENTFS_")}
        self.environment.update(AGENTFS_HOME=f"{self.folder}/h", AGENTFS_ROUTER="127.0.0.1:0")
        CLEANUP.callback(self.close)
        self.agentfs("daemon", "start")
        status = json.loads(self.agentfs("daemon", "status", "--json"))
        self.pid, self.port = status["pid"], status["http_port"]

    def agentfs(self, *arguments):
        command = [self.binary, "--quiet", *arguments]
        return subprocess.run(command, env=self.environment, check=True, stdout=subprocess.PIPE).stdout

    def timed(self, *arguments):
        begin = time.perf_counter()
        self.agentfs(*arguments)
        return time.perf_counter() - begin

    @contextlib.contextmanager
    def ask(self, method):
        """A stream of lines that begins with the answer."""
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(60)
            control.connect(f"{self.folder}/h/collector.sock")
            with control.makefile("rw") as stream:
                stream.write(json.dumps({"id": 1, "method": method}) + "\n")
                stream.flush()
                yield stream

    def list(self):
        with self.ask("list") as stream:
            return json.loads(stream.readline())["result"]["instances"]

    def get(self, host, path="/"):
        """Status and body of a request to the router."""
        with socket.create_connection(("127.0.0.1", self.port), 30) as stream:
            stream.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            answer = b""
            while part := stream.recv(65536):
                answer += part
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), body

    def of_collector(self, file, field):
        with open(f"/proc/{self.pid}/{file}") as text:
            return next(int(line.split()[1]) for line in text if line.startswith(f"{field}:"))

    def cpu(self):
        """Seconds of processor that the collector has used."""
        tasks = os.listdir(f"/proc/{self.pid}/task")
        return sum(int(read(f"/proc/{self.pid}/task/{task}/schedstat").split()[0]) for task in tasks) / 1e9

    def switches(self):
        """How often a thread of the collector has gone to sleep."""
        tasks = os.listdir(f"/proc/{self.pid}/task")
        return sum(self.of_collector(f"task/{task}/status", "voluntary_ctxt_switches") for task in tasks)

    def reap(self):
        for process in self.processes.values():
            process.wait()
        self.processes = {}

    def close(self):
        if self.closed:
            return
        self.closed = True
        for process in self.processes.values():
            process.kill()
        self.reap()
        subprocess.run([self.binary, "--quiet", "daemon", "stop"], env=self.environment, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


def read(path):
    with open(path) as file:
        return file.read()


def wait_for(what, holds):
    end = time.monotonic() + 600
    while not holds():
        if time.monotonic() > end:
            sys.exit(f"error: {what}: not within ten minutes")
        time.sleep(0.005)


def start(command, environment, folder):
    """Starts a server and waits until it listens."""
    reader, writer = os.pipe()
    process = subprocess.Popen(command, env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=writer)
    os.close(writer)
    listens = os.read(reader, 1)
    os.close(reader)
    if listens != b"1":
        sys.exit(f"error: {command} did not start")
    return process


def native(server, count, home):
    """Seconds to start the servers without agentfs, each on a port of its own."""
    begin = time.perf_counter()
    processes = []
    try:
        for _ in range(count):
            processes.append(start([server, "0"], home.environment, home.folder))
        return time.perf_counter() - begin
    finally:
        for process in processes:
            process.kill()
            process.wait()


def measure(binary, server, kind, count, seconds):
    """All rows of one count."""
    home = Home(binary)
    rows = {}
    folders = {}
    for number in range(count):
        name = "copies" if kind == "copies" else f"f{number}"
        folders[number] = f"{home.folder}/{name}"
        os.makedirs(folders[number], exist_ok=True)
    plain = native(server, count, home)
    begin = time.perf_counter()
    for number, folder in folders.items():
        app = ["--app", f"shop-{number}"] if kind == "apps" else ["--app", "shop"]
        instance = [] if kind == "copies" else ["--instance", f"f{number}"]
        command = [binary, "--quiet", "wrap", *app, *instance, "--", server, str(PORT)]
        home.processes[number] = start(command, home.environment, folder)
    wrapped = time.perf_counter() - begin
    begin = time.perf_counter()
    wait_for("all are known", lambda: sum(bool(instance["listeners"]) for instance in home.list()) == count)
    names = [(f'{instance["instance"]}.{instance["app"]}.localhost', instance) for instance in home.list()]
    for host, _ in names:
        if home.get(host)[0] != 200:
            sys.exit(f"error: {host} is not routed")
    rows["start, native, s"], rows["start, wrapped, s"] = plain, wrapped
    rows["start, more than native, s"] = wrapped - plain
    rows["all answer after the last listen, s"] = time.perf_counter() - begin

    changes = []
    with home.ask("subscribe") as events:
        events.readline()
        for number in range(20):
            host, _ = names[number * len(names) // 20]
            listened = int(home.get(host, f"/open/{9000 + number}")[1])
            while json.loads(events.readline())["kind"] != "listener_up":
                pass
            if home.get(f"{9000 + number}.{host}")[0] != 200:
                sys.exit("error: a listener was told before it was routed")
            changes.append((time.clock_gettime_ns(time.CLOCK_MONOTONIC) - listened) / 1e6)
    rows["change, ms"] = statistics.median(changes)

    # Kept connections and rates of requests have their own time; what is measured is rest.
    time.sleep(20)
    cpu, switches, begin = home.cpu(), home.switches(), time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - begin
    rows["idle, % of a core"] = (home.cpu() - cpu) / took * 100
    rows["idle, wake-ups a second"] = (home.switches() - switches) / took
    rows["collector, resident MB"] = home.of_collector("status", "VmRSS") / 1024
    rows["of it private MB"] = home.of_collector("smaps_rollup", "Anonymous") / 1024
    rows["ps, ms"] = statistics.median(home.timed("ps") for _ in range(7)) * 1e3

    _, one = names[len(names) // 2]
    rows["stop of one, s"] = home.timed("stop", f'{one["app"]}/{one["instance"]}')
    rows["stop of all, s"] = home.timed("stop", "--all")
    if left := home.list():
        sys.exit(f"error: {len(left)} instances are left")
    home.reap()
    wait_for("an empty run dir", lambda: not os.listdir(f"{home.folder}/h/run"))
    time.sleep(20)
    switches = home.switches()
    time.sleep(10)
    rows["nothing alive, wake-ups"] = home.switches() - switches
    home.close()
    return rows


def written(value):
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=f"{ROOT}/target/release/agentfs")
    parser.add_argument("--forks", default="10,100,1000")
    parser.add_argument("--copies", default="1000")
    parser.add_argument("--apps", default="0")
    parser.add_argument("--seconds", type=float, default=10, help="how long rest is measured")
    options = parser.parse_args()
    if not os.access(options.binary, os.X_OK):
        sys.exit(f"error: there is no {options.binary}\nhint: cargo build --release, or --binary")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("error: ended by SIGTERM"))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    binary = os.path.abspath(options.binary)
    columns = {}
    with CLEANUP:
        folder = tempfile.mkdtemp(prefix="aff", dir="/tmp")
        CLEANUP.callback(shutil.rmtree, folder, ignore_errors=True)
        server = f"{folder}/server"
        compiler = shutil.which("cc") or sys.exit("error: there is no C compiler")
        subprocess.run([compiler, "-O2", "-o", server, "-xc", "-"], input=SERVER.encode(), check=True)
        for kind in ("forks", "copies", "apps"):
            for count in map(int, getattr(options, kind).split(",")):
                if count:
                    columns[kind, count] = measure(binary, server, kind, count, options.seconds)
    missed = []
    print("| | " + " | ".join(f"{count:,} {kind}" for kind, count in columns) + " | must reach with 1,000 |")
    print("|---" * (len(columns) + 2) + "|")
    for row in next(iter(columns.values())):
        values = [column[row] for column in columns.values()]
        cells = [written(value) for value in values]
        for number, (kind, count) in enumerate(columns):
            if count >= 1000 and values[number] > MUST.get(row, float("inf")):
                missed.append(f"{row}: {values[number]:.3f} with {count:,} {kind}")
                cells[number] = f"**{cells[number]}, missed**"
        print(f"| {row} | {' | '.join(cells)} | {'≤ ' + written(MUST[row]) if row in MUST else ''} |")
    growth(columns)
    for miss in missed:
        print(f"missed: {miss}", file=sys.stderr)
    sys.exit(1 if missed else 0)


def growth(columns):
    """How much more the most forks cost than a tenth of them; ten times as much is linear."""
    counts = sorted(count for kind, count in columns if kind == "forks")
    if len(counts) < 2:
        return
    few, many = columns["forks", counts[-2]], columns["forks", counts[-1]]
    print(f"\nFrom {counts[-2]:,} to {counts[-1]:,} forks, {counts[-1] / counts[-2]:g} times as many:")
    for row in ("start, more than native, s", "all answer after the last listen, s", "change, ms", "idle, % of a core",
                "of it private MB", "ps, ms", "stop of one, s", "stop of all, s"):
        if few[row] > 0:
            print(f"- {row.split(',')[0] if 'start' not in row else 'start'}: {many[row] / few[row]:.1f} times as much")


if __name__ == "__main__":
    main()
