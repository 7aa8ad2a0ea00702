#!/usr/bin/env python3
"""How much longer build tools take inside `agentfs wrap`: ratio.py [ROUNDS [TOOL]].

Runs npm ci, pip install and cargo build (all from caches, without the network) by turns without and with agentfs,
and a second time without it as control; prints the medians of the wall time and of the processor time (user +
system, of all children) and their ratios. AGENTFS_BIN and APPS_HOME as for run.sh, after run.sh --install.
"""
import json
import os
import pathlib
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

only = sys.argv[2] if len(sys.argv) > 2 else ""
rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
root = pathlib.Path(__file__).resolve().parents[2]
apps = pathlib.Path(os.environ.get("APPS_HOME", root / "target/apps"))
binary = os.environ.get("AGENTFS_BIN", str(root / "target/release/agentfs"))
scratch = pathlib.Path(tempfile.mkdtemp(prefix="aa.", dir="/tmp"))
environment = dict(os.environ, AGENTFS_HOME=str(scratch / "h"), AGENTFS_ROUTER="127.0.0.1:0")


def once(command, folder, clean):
    for name in clean:
        shutil.rmtree(folder / name, ignore_errors=True)
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, cwd=folder, env=environment, check=True, stdin=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(title, command, folder, clean):
    if not title.startswith(only):
        return
    wrap = [binary, "-q", "wrap", "--app", "ratio", "--", *command]
    kinds = [command, wrap, command]
    once(command, folder, clean)
    times = [[], [], []]
    for number in range(rounds):
        for shift in range(3):
            kind = (number + shift) % 3
            times[kind].append(once(kinds[kind], folder, clean))
    wall = [statistics.median(t[0] for t in kind) for kind in times]
    work = [statistics.median(t[1] for t in kind) for kind in times]
    print(f"{title}: {wall[0]:.2f} s; wall × {wall[1] / wall[0]:.3f} (control {wall[2] / wall[0]:.3f}), "
          f"processor × {work[1] / work[0]:.3f} (control {work[2] / work[0]:.3f})", flush=True)


try:
    subprocess.run([binary, "-q", "daemon", "start"], env=environment, check=True)
    folder = scratch / "npm"
    folder.mkdir()
    (folder / "package.json").write_text(json.dumps({"name": "x", "version": "1.0.0", "dependencies": {"express": "*"}}))
    subprocess.run(["npm", "install", "--no-audit", "--no-fund"], cwd=folder, check=True, capture_output=True)
    measure("npm ci (express)", ["npm", "ci", "--offline", "--no-audit", "--no-fund"], folder, ["node_modules"])
    folder = scratch / "pip"
    folder.mkdir()
    pip = str(apps / "venv/bin/pip")
    subprocess.run([pip, "download", "-q", "-d", "wheels", "flask"], cwd=folder, check=True, capture_output=True)
    measure("pip install (flask)", [pip, "install", "-q", "--no-index", "--find-links", "wheels", "--target", "out", "flask"], folder, ["out"])
    folder = scratch / "cargo"
    (folder / "src").mkdir(parents=True)
    (folder / "Cargo.toml").write_text('[package]\nname = "x"\nversion = "0.1.0"\nedition = "2024"\n[dependencies]\n'
                                       'tokio = { version = "1", default-features = false, features = ["net", "rt"] }\n[workspace]\n')
    (folder / "src/main.rs").write_text("fn main() {}\n")
    subprocess.run(["cargo", "fetch", "-q"], cwd=folder, check=True, capture_output=True)
    measure("cargo build (tokio)", ["cargo", "build", "-q", "--offline", "--target-dir", "target"], folder, ["target"])
finally:
    subprocess.run([binary, "-q", "daemon", "stop"], env=environment, check=False)
    shutil.rmtree(scratch, ignore_errors=True)
