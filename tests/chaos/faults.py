"""What is done to agentfs while programs run. Each fault begins, lasts, and is taken back."""
import os
import random
import subprocess
import time
from pathlib import Path

import home as homes


class Faults:
    def __init__(self, home, fleet, findings, seed):
        self.home, self.fleet, self.findings = home, fleet, findings
        self.random = random.Random(seed)
        self.done = {}
        # Whether the collector may be killed: not while its growth is measured.
        self.may_kill = True

    def kinds(self):
        kinds = [self.empty_run_dir, self.starve_collector]
        if self.may_kill:
            kinds.append(self.kill_collector)
        if self.home.mounted:
            kinds.append(self.fill_disk)
        if self.home.user or os.geteuid() != 0:
            kinds.append(self.lock_run_dir)
        return kinds

    def inject(self):
        """One fault, from its begin to its end; then the calm in which everything must come back."""
        fault = self.random.choice(self.kinds())
        name = fault.__name__.replace('_', ' ')
        self.findings.fault_begins(name)
        try:
            fault()
        finally:
            self.findings.fault_ends()
        self.done[name] = self.done.get(name, 0) + 1

    def kill_collector(self):
        """The collector alone, which its guardian starts again, or both."""
        pid, guardian = self.home.collector(), self.home.guardian()
        if guardian and self.random.random() < 0.5:
            homes.kill(guardian)
        if pid:
            homes.kill(pid)
        time.sleep(self.random.uniform(0, 1.5))
        status, said = self.home.command('ps')
        if status != 0:
            self.findings.violation(f'`agentfs ps` after the kill of the collector: status {status}: {said}')
        if not self.home.collector():
            self.findings.violation('`agentfs ps` brought no collector back')

    def empty_run_dir(self):
        for entry in list(self.home.run.iterdir()):
            entry.unlink(missing_ok=True)

    def lock_run_dir(self):
        self.home.run.chmod(0)

    def fill_disk(self):
        """No byte and no file more, for a while."""
        ballast = self.home.path / 'ballast'
        ballast.mkdir()
        try:
            try:
                with open(ballast / 'bytes', 'wb', buffering=0) as file:
                    while True:
                        file.write(bytes(1 << 20))
            except OSError:
                pass  # full
            try:
                for number in range(1 << 20):
                    (ballast / str(number)).touch()
            except OSError:
                pass  # full
            time.sleep(self.random.uniform(1, 4))
        finally:
            for entry in ballast.iterdir():
                entry.unlink()
            ballast.rmdir()
        # What went to the host stays there, in everybody's way, until it ends.
        self.fleet.end_those_on_the_host()

    def starve_collector(self):
        """No descriptor more for the collector than it has, for a while."""
        pid = self.home.collector()
        if not pid:
            return
        try:
            before = Path(f'/proc/{pid}/limits').read_text().partition('Max open files')[2].split()[:2]
            have = len(os.listdir(f'/proc/{pid}/fd'))
        except FileNotFoundError:
            return  # it has just ended
        for soft in (str(have), before[0]):
            # As the collector's own user: who runs this may not change limits of others.
            self.home.popen(['prlimit', f'--pid={pid}', f'--nofile={soft}:{before[1]}'],
                            stderr=subprocess.DEVNULL).wait()
            time.sleep(self.random.uniform(1, 3) if soft != before[0] else 0)
