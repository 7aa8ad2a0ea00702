#!/usr/bin/env python3
"""What agentfs costs, each figure beside its native counterpart of the same run.

    benches/run.py [--binary target/release/agentfs] [--only wrap,routable,redis,pgbench,memory,calls,engine]
                  [--rounds 13] [--instances 1000] [--seconds 2]

Needs a release build, redis-server, redis-benchmark, PostgreSQL and a C compiler (`./test --setup`). Uses a private
AGENTFS_HOME; leaves nothing running. Prints Markdown tables for docs/benchmarks.md. On a shared machine
trust the ratios, not the figures; the order within a round rotates, medians are over rounds.
"""
import argparse
import glob
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import engine as engines

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)


class Home:
    """A private AGENTFS_HOME with a running collector, of a user that root may name."""

    def __init__(self, binary, where="/tmp", user=None):
        self.binary = binary
        self.folder = tempfile.mkdtemp(prefix="afb", dir=where)
        self.become = []
        if user and os.geteuid() == 0:
            self.become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"]
            shutil.chown(self.folder, user, user)
        self.home = os.path.join(self.folder, "h")
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("AGENTFS_")}
        self.environment.update(AGENTFS_HOME=self.home, AGENTFS_ROUTER="127.0.0.1:0")
        self.agentfs("daemon", "start")

    def agentfs(self, *arguments):
        return subprocess.run([*self.become, self.binary, *arguments], env=self.environment, check=True, stdout=subprocess.PIPE)

    def start(self, *arguments, **options):
        return subprocess.Popen([self.binary, *arguments], env=self.environment, **options)

    def control(self):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(30)
        connection.connect(os.path.join(self.home, "collector.sock"))
        return connection.makefile("rw")

    def call(self, method, stream=None):
        stream = stream or self.control()
        stream.write(json.dumps({"id": 1, "method": method, "params": {}}) + "\n")
        stream.flush()
        return json.loads(stream.readline())["result"]

    def close(self):
        # A measurement without a collector has stopped it already.
        subprocess.run([*self.become, self.binary, "daemon", "stop"], env=self.environment, stderr=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL)
        shutil.rmtree(self.folder)


def microseconds(seconds):
    return f"{seconds * 1e6:.0f} µs" if seconds < 0.01 else f"{seconds * 1e3:.1f} ms"


def quantile(values, part):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


def timed(command, environment):
    start = time.perf_counter()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def wrap(home, rounds):
    """What `agentfs wrap --` adds to /bin/true."""
    library = home.agentfs("wrap", "--", "sh", "-c", "printf %s $AGENTFS_INTERPOSE").stdout.decode()
    commands = {
        "/bin/true": ["/bin/true"],
        "agentfs wrap -- /bin/true": [home.binary, "wrap", "--app", "bench", "--", "/bin/true"],
        "the library alone, preloaded": ["/usr/bin/env", f"LD_PRELOAD={library}", "/bin/true"],
        "env alone": ["/usr/bin/env", "/bin/true"],
    }
    times = {name: [] for name in commands}
    names = list(commands)
    for number in range(rounds * 16):
        for name in names[number % len(names):] + names[:number % len(names)]:
            times[name].append(timed(commands[name], home.environment))
    base = statistics.median(times["/bin/true"])
    print("| command | median | p90 | more than native | ratio |\n|---|---|---|---|---|")
    for name, values in times.items():
        middle = statistics.median(values)
        print(f"| {name} | {microseconds(middle)} | {microseconds(quantile(values, 0.9))} "
              f"| {microseconds(max(0, middle - base))} | {middle / base:.2f} |")


LISTENER = """
import os, socket, sys, time
for port in range(int(sys.argv[1]), int(sys.argv[2])):
    sys.stdin.readline()
    s = socket.socket(); s.bind(("127.0.0.1", port)); s.listen(16)
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    print(now, flush=True)
    if "keep" not in globals(): keep = []
    keep.append(s)
sys.stdin.readline()
"""


def next_listener(stream):
    """Waits for a listener_up event; when it came, in CLOCK_MONOTONIC nanoseconds."""
    while True:
        line = stream.readline()
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        if json.loads(line)["kind"] == "listener_up":
            return now


def routable(home, rounds):
    """From the return of listen() to the event that says it is routed; an upper bound of the truth."""
    count = rounds * 16
    stream = home.control()
    home.call("subscribe", stream)
    program = home.start("wrap", "--app", "bench", "--", sys.executable, "-c", LISTENER, "20000", str(20000 + count),
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    noticed = []
    for _ in range(count):
        program.stdin.write("\n")
        program.stdin.flush()
        listened = int(program.stdout.readline())
        noticed.append((next_listener(stream) - listened) / 1e9)
    program.stdin.close()
    program.wait()
    watched = []
    run = os.path.join(home.home, "run")
    for number in range(count):
        listener = socket.socket(socket.AF_UNIX)
        path = os.path.join(run, f"hand-n{number}.sock")
        listener.bind(path)
        listener.listen(16)
        listened = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        watched.append((next_listener(stream) - listened) / 1e9)
        listener.close()
        os.unlink(path)
    print("| path | median | p90 | max |\n|---|---|---|---|")
    for name, values in (("notice (wrapped program)", noticed), ("watcher alone (socket made by hand)", watched)):
        print(f"| {name} | {microseconds(max(0, statistics.median(values)))} | {microseconds(quantile(values, 0.9))} "
              f"| {microseconds(max(values))} |")


REDIS = """
"$1" --port 6399 --bind 127.0.0.1 --unixsocket "$3" --save "" --loglevel warning --daemonize no >/dev/null &
until redis-cli -h 127.0.0.1 -p 6399 ping >/dev/null 2>&1; do :; done
redis-cli -h 127.0.0.1 -p 6399 set key:__rand_int__ xxx >/dev/null
redis-benchmark $2 -t get -c 50 -n 200000 --csv
redis-cli -h 127.0.0.1 -p 6399 shutdown nosave
wait
"""


def transports(home, rounds, tcp, unix, measure):
    """Runs `measure(prefix, target)`, which gives a rate, over each transport in turn, in rotated order."""
    wrap = [home.binary, "wrap", "--app", "bench"]
    kinds = {"native TCP": ([], tcp), "agentfs": ([*wrap, "--"], tcp),
             "agentfs, TCP of a port space": ([*wrap, "--engine", "seccomp", "--"], tcp),
             "native Unix socket": ([], unix), "native TCP again (control)": ([], tcp)}
    rates = {name: [] for name in kinds}
    names = list(kinds)
    for number in range(rounds):
        for name in names[number % len(names):] + names[:number % len(names)]:
            rates[name].append(measure(*kinds[name]))
    def ratios(name, base):
        return [value / other for value, other in zip(rates[name], rates[base])]
    print("| transport | median per second | to native TCP, median of rounds | rounds ahead | to native Unix socket |\n"
          "|---|---|---|---|---|")
    for name, values in rates.items():
        ahead = sum(ratio >= 1 for ratio in ratios(name, "native TCP"))
        print(f"| {name} | {statistics.median(values):,.0f} | {statistics.median(ratios(name, 'native TCP')):.2f} "
              f"| {ahead} of {rounds} | {statistics.median(ratios(name, 'native Unix socket')):.2f} |")


def redis(home, rounds):
    """redis-benchmark, GET, 50 clients, no pipeline; server and client in one instance."""
    path = os.path.join(home.folder, "redis.sock")

    def measure(prefix, target):
        command = [*prefix, "bash", "-c", REDIS, "bash", shutil.which("redis-server"), target, path]
        output = subprocess.run(command, env=home.environment, check=True, stdout=subprocess.PIPE).stdout.decode()
        row = next(line for line in output.splitlines() if line.startswith('"GET"'))
        return float(row.split(",")[1].strip('"'))

    transports(home, rounds, "-h 127.0.0.1 -p 6399", f"-s {path}", measure)


PGBENCH = """
cd "$1"
"$2/postgres" -D data -k "$1" -p 6432 -c listen_addresses=127.0.0.1 >>postgres.log 2>&1 &
until "$2/pg_isready" -q -h "$3" -p 6432; do :; done
"$2/pgbench" -S -n -M prepared -c 4 -j 1 -T 3 -h "$3" -p 6432 postgres
kill -INT $!
wait
"""


def pgbench(home, rounds):
    """pgbench -S, 4 clients, prepared; server and client in one instance."""
    programs = sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1]

    def run(script, *arguments):
        return subprocess.run([*home.become, *script, *arguments], env=home.environment, cwd=home.folder, check=True,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.decode()

    def measure(prefix, target):
        output = run(prefix, "bash", "-c", PGBENCH, "bash", home.folder, programs, target)
        return float(next(line for line in output.splitlines() if line.startswith("tps")).split()[2])

    run([f"{programs}/initdb"], "-D", "data", "-A", "trust", "-N", "-U", "postgres")
    home.environment["PGUSER"] = "postgres"
    fill = PGBENCH.replace("-S -n -M prepared -c 4 -j 1 -T 3", "-i -q -s 5")
    run([], "bash", "-c", fill, "bash", home.folder, programs, home.folder)
    transports(home, rounds, "127.0.0.1", home.folder, measure)


def memory(home, _rounds):
    """Resident memory of the collector, fresh and with 100 instances."""
    def resident():
        with open(f"/proc/{home.call('daemon.info')['pid']}/status") as status:
            fields = dict(line.split(":", 1) for line in status)
        return {name: int(fields[name].split()[0]) / 1024 for name in ("VmRSS", "RssAnon")}

    fresh = resident()
    script = "import socket, signal; s = socket.socket(); s.bind(('127.0.0.1', 5000)); s.listen(); signal.pause()"
    running = [home.start("wrap", "--app", "bench", "--instance", f"n{number}", "--", "/usr/bin/python3", "-c", script)
               for number in range(100)]
    while sum(bool(info["listeners"]) for info in home.call("list")["instances"]) < 100:
        time.sleep(0.05)
    full = resident()
    for process in running:
        process.send_signal(signal.SIGTERM)
    for process in running:
        process.wait()
    print("| collector | resident MB | of it private (anonymous) MB |\n|---|---|---|")
    for name, values in (("fresh", fresh), ("100 instances", full)):
        print(f"| {name} | {values['VmRSS']:.1f} | {values['RssAnon']:.1f} |")


def calls(home, rounds):
    """Nanoseconds of each intercepted call, native and wrapped."""
    for where in ("/tmp", "/dev/shm"):
        home = Home(home.binary, where)
        try:
            environment = {**home.environment, "ROUNDS": str(rounds)}
            script = os.path.join(HERE, "calls", "run.sh")
            print(f"### home in {where}\n\n```", flush=True)
            subprocess.run([script, home.binary, "wrap", "--"], env=environment, check=True)
            inside = home.agentfs("wrap", "--app", "bench", "--", "env", "-0").stdout.decode().split("\0")
            inside = [setting for setting in inside if setting.startswith(("AGENTFS_", "LD_PRELOAD="))]
            home.agentfs("daemon", "stop")
            print("\nthe same without a collector:", flush=True)
            subprocess.run([script, "env", *inside], env=environment, check=True)
            print("```\n", flush=True)
        finally:
            home.close()


def engine(home, rounds):
    """What the seccomp engine costs a static program."""
    engines.measure(home, rounds, OPTIONS.instances, OPTIONS.seconds)


OPTIONS = argparse.Namespace(instances=1000, seconds=2)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=os.path.join(ROOT, "target/release/agentfs"))
    parser.add_argument("--only", default="wrap,routable,redis,pgbench,memory,calls,engine")
    parser.add_argument("--rounds", type=int, default=13)
    parser.add_argument("--instances", type=int, default=OPTIONS.instances, help="of the engine at once")
    parser.add_argument("--seconds", type=float, default=OPTIONS.seconds, help="of each rate of the engine")
    options = parser.parse_args(namespace=OPTIONS)
    measurements = {function.__name__: function for function in (wrap, routable, redis, pgbench, memory, calls, engine)}
    for name in options.only.split(","):
        user = "postgres" if name == "pgbench" else None
        home = Home(os.path.abspath(options.binary), user=user)
        try:
            print(f"\n## {name}: {measurements[name].__doc__}\n", flush=True)
            measurements[name](home, options.rounds)
        finally:
            home.close()


if __name__ == "__main__":
    main()
