#!/usr/bin/env python3
"""Soak and chaos: instances start, fork, crash and start again while agentfs is maltreated.

    run.py [--seconds N] [--instances N] [--seed S] [--agentfs PATH] [--log FILE]

Every instance runs the same server port (`programs/`: threads, pre-fork, SO_REUSEPORT, epoll, a static program, node, a
shell), a third of them by the seccomp engine, with a worker beside it that talks to `localhost:PORT` and to its URL, kills its server, forks, runs out of
descriptors. Meanwhile the collector is killed, the run dir emptied or closed, the disk filled, the collector's
descriptors used up (`faults.py`). What must hold:

- a call of a wrapped program fails only where TCP would have it fail, or where `findings.py` says which fault
  excuses it and why;
- localhost:PORT is the instance's own server, never another's, whatever the fault;
- no name outlives its owner by more than 2 s while a collector runs;
- the collector's descriptors and memory do not grow; nothing is left behind, no process, no file, no mount.

The run goes in tides: at each ebb everything ends and the collector is measured. It is killed only in the first
half, so that one collector lives through the second. As root, the programs run as `nobody` in a home on a small
tmpfs; otherwise the disk is not filled. Exit status 0 only without a violation. The log says what was done when.
"""
import argparse
import random
import signal
import sys
import threading
import time
from pathlib import Path

import home as homes
from checks import Checks
from faults import Faults
from findings import SETTLE, Findings
from fleet import Fleet

REPOSITORY = Path(__file__).resolve().parents[2]
# Seconds between two ebbs.
TIDE = 60.0


def arguments():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument('--seconds', type=float, default=30)
    parser.add_argument('--instances', type=int, default=16, help='alive at once')
    parser.add_argument('--seed', type=int, default=None)
    parser.add_argument('--agentfs', default=str(REPOSITORY / 'target/release/agentfs'))
    parser.add_argument('--log', default=None)
    given = parser.parse_args()
    if given.seed is None:
        given.seed = random.SystemRandom().getrandbits(32)
    return given


class Loop(threading.Thread):
    """Does one thing again and again, until told to end. What it fails with ends the run."""

    def __init__(self, work, pause):
        super().__init__(daemon=True)
        self.work, self.pause = work, pause
        self.over = threading.Event()
        self.error = None

    def run(self):
        try:
            while not self.over.wait(self.pause):
                self.work()
        except BaseException as error:
            self.error = error

    def end(self):
        self.over.set()
        self.join()
        if self.error:
            raise self.error


def tide(given, fleet, faults, checks, findings, ends):
    """One tide: faults over a full fleet, then the ebb."""
    fleet.refill()
    loops = [Loop(fleet.tend, 0.03), Loop(lambda: (findings.read_reports(), checks.look()), 0.25)]
    for loop in loops:
        loop.start()
    try:
        pause = random.Random(given.seed)
        time.sleep(min(3, given.seconds / 10))
        while time.monotonic() < ends and not findings.hopeless() and all(loop.is_alive() for loop in loops):
            faults.inject()
            # Every fault has its own time, so that one failure has one cause.
            time.sleep(SETTLE + pause.uniform(0.5, 2.5))
    finally:
        for loop in loops:
            loop.end()
    fleet.drain()
    findings.read_reports()
    checks.ebb()


def summary(given, fleet, faults, checks, findings):
    took = time.monotonic() - findings.began
    counts = ', '.join(f'{number} {what}' for what, number in sorted(findings.counts.items()))
    lines = [
        f'seed {given.seed}, {took:.0f} s, {fleet.started} instances, {given.instances} at once, '
        f'{findings.refused} refused to start',
        f'done: {counts}',
        f'engines: {", ".join(f"{number} {engine}" for engine, number in sorted(fleet.engines.items()))}',
        f'ends: {", ".join(f"{number} {way}" for way, number in sorted(fleet.ends.items()))}',
        f'faults: {", ".join(f"{number} {what}" for what, number in sorted(faults.done.items()))}',
        f'excused: {", ".join(f"{number} {what}" for what, number in sorted(findings.excused.items())) or "nothing"}',
        f'longest stale name: {checks.worst_stale:.2f} s',
        'collector at each ebb: ' + '; '.join(f'{at:.0f} s pid {pid}: {descriptors} descriptors, {memory >> 10} KiB'
                                              for pid, at, descriptors, memory in checks.ebbs),
        f'{len(findings.violations)} violations',
    ]
    for line in lines:
        findings.note(line)
        print(line)


def main():
    given = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    home = homes.Home(given.agentfs)
    try:
        with open(given.log or home.root / 'log', 'w') as log:
            findings = Findings(home, log)
            fleet = Fleet(home, given.instances, given.seed, findings)
            faults = Faults(home, fleet, findings, given.seed)
            checks = Checks(home, findings)
            status, said = home.command('daemon', 'start')
            if status != 0:
                raise SystemExit(f'chaos: the collector does not start: {said}')
            over = findings.began + given.seconds
            while (now := time.monotonic()) < over and not findings.hopeless():
                left = over - now
                faults.may_kill = left > given.seconds / 2
                tides = max(1, round(left / TIDE) if given.seconds > TIDE else round(2 * left / given.seconds))
                tide(given, fleet, faults, checks, findings, now + left / tides)
            checks.farewell()
            summary(given, fleet, faults, checks, findings)
    finally:
        home.close()
    return 1 if findings.violations else 0


if __name__ == '__main__':
    sys.exit(main())
