"""What the seccomp engine costs: `run.py --only engine`. The program is engine/load.c, linked statically."""
import os
import statistics
import subprocess
import time

HERE = os.path.dirname(os.path.abspath(__file__))
PORT = "18080"


def built(folder):
    """The program."""
    path = os.path.join(folder, "load")
    source = os.path.join(HERE, "engine", "load.c")
    subprocess.run([os.environ.get("CC", "cc"), "-O2", "-static", "-o", path, source], check=True)
    return path


def fields(pid, file):
    with open(f"/proc/{pid}/{file}") as lines:
        parts = (line.split() for line in lines)
        return {part[0].rstrip(":"): int(part[1]) for part in parts if len(part) == 3 and part[2] == "kB"}


def supervisors(home):
    """The supervisors of this home, and their helpers."""
    wanted = f"AGENTFS_HOME={home.home}".encode()
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as command, open(f"/proc/{pid}/environ", "rb") as environment:
                if b"\0engine-serve\0" in command.read() and wanted in environment.read().split(b"\0"):
                    found.append(int(pid))
        except OSError:
            continue
    return found


def listening(home, program, instance, what="pause"):
    """A program that listens in an instance of its own, once it does."""
    process = home.start("-q", "wrap", "--app", "bench", "--instance", instance, "--", program, what, PORT,
                         stdout=subprocess.PIPE)
    process.stdout.readline()
    return process


def only_the_server(home, program, rounds, seconds):
    """The same rate where nothing of the client asks the supervisor: it runs in the port space itself."""
    wrapped = listening(home, program, "server", "serve")
    helper = max(supervisors(home))
    native = subprocess.Popen([program, "serve", PORT], stdout=subprocess.PIPE)
    native.stdout.readline()
    enter = ["nsenter", f"--net=/proc/{helper}/ns/net"]
    rates = {"native": [], "wrapped": [], "control": []}
    for _ in range(rounds):
        for name, prefix in zip(rates, ([], enter, [])):
            command = [*prefix, program, "asks", PORT, seconds]
            rates[name].append(float(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))
    middle = [f"{statistics.median(values):,.0f}" for values in rates.values()]
    ratios = [statistics.median(one / other for one, other in zip(rates[name], rates["native"]))
              for name in ("wrapped", "control")]
    print(f"| the same, only the server is wrapped | {' | '.join(middle)} | {ratios[0]:.3f} | {ratios[1]:.3f} |", flush=True)
    for process in (wrapped, native):
        process.terminate()
        process.wait()


def measure(home, rounds, instances, seconds):
    program = built(home.folder)
    wrapped = [home.binary, "-q", "wrap", "--app", "bench", "--"]

    def run(prefix, *words):
        output = subprocess.run([*prefix, program, *words], env=home.environment, check=True, stdout=subprocess.PIPE)
        return float(output.stdout or 0)

    print("| what | native | wrapped | native again (control) | wrapped to native, median of rounds | control to native |\n"
          "|---|---|---|---|---|---|")
    for what, words in {
        "requests per second, keep-alive": ("keepalive", PORT, str(seconds)),
        "requests per second, a connection each": ("connect", PORT, str(seconds)),
        "ns of a system call that is not ours": ("call", "2000000"),
    }.items():
        kinds = {"native": [], "wrapped": wrapped, "control": []}
        values = {name: [] for name in kinds}
        names = list(kinds)
        for number in range(rounds):
            for name in names[number % 3:] + names[:number % 3]:
                values[name].append(run(kinds[name], *words))
        middle = {name: statistics.median(found) for name, found in values.items()}
        ratio = {name: statistics.median(one / other for one, other in zip(values[name], values["native"]))
                 for name in ("wrapped", "control")}
        print(f"| {what} | {middle['native']:,.0f} | {middle['wrapped']:,.0f} | {middle['control']:,.0f} "
              f"| {ratio['wrapped']:.3f} | {ratio['control']:.3f} |", flush=True)

    if os.geteuid() == 0:
        only_the_server(home, program, rounds, str(seconds))

    # A program that starts a supervisor, and one whose instance has one.
    stays = listening(home, program, "stays")
    joins = [home.binary, "-q", "wrap", "--app", "bench", "--instance", "stays", "--"]
    times = {"native": [], "the first of its instance": [], "another of its instance": []}
    for _ in range(rounds * 8):
        for name, prefix in zip(times, ([], wrapped, joins)):
            start = time.perf_counter()
            run(prefix, "true")
            times[name].append((time.perf_counter() - start) * 1e3)
    base = statistics.median(times["native"])
    print("\n| a static program that does nothing | median ms | more than native |\n|---|---|---|")
    for name, values in times.items():
        print(f"| {name} | {statistics.median(values):.2f} | {statistics.median(values) - base:+.2f} |", flush=True)

    print("\n| process | resident KiB | proportional (Pss) KiB | private KiB |\n|---|---|---|---|")
    for name, pid in zip(("supervisor", "its helper"), sorted(supervisors(home))):
        rollup = fields(pid, "smaps_rollup")
        private = rollup["Private_Clean"] + rollup["Private_Dirty"]
        print(f"| {name} | {fields(pid, 'status')['VmRSS']} | {rollup['Pss']} | {private} |", flush=True)
    stays.terminate()
    stays.wait()

    count = "100000"
    answered = run(wrapped, "signals", PORT, count)
    print(f"\n{int(answered):,} of {int(count):,} connections answered by a server with a signal every 100 µs", flush=True)

    began = time.perf_counter()
    running = [listening(home, program, f"n{number}") for number in range(instances)]
    took = time.perf_counter() - began
    found = supervisors(home)
    total = sum(fields(pid, "smaps_rollup")["Pss"] for pid in found) / 1024
    print(f"\n{instances:,} instances at once, started one after the other in {took:.1f} s: {len(found):,} processes of the "
          f"engine, {total:,.0f} MiB proportional (Pss)", flush=True)
    for process in running:
        process.terminate()
    for process in running:
        process.wait()
    deadline = time.monotonic() + 30
    while supervisors(home) and time.monotonic() < deadline:
        time.sleep(0.1)
    print(f"{len(supervisors(home))} of them left afterwards")
