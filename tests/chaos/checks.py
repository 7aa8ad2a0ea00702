"""What must hold at any time, looked at from outside: names, the collector's size, processes, files."""
import json
import re
import time
from pathlib import Path

import home as homes

# Seconds that a name may outlive its owner while a collector runs.
STALE = 2.0
# Growth of the collector's memory between two moments without instances, in bytes and as a ratio.
GROWTH_BYTES, GROWTH_RATIO = 8 << 20, 1.3
# Descriptors more than at the first such moment.
GROWTH_DESCRIPTORS = 2


class Checks:
    def __init__(self, home, findings):
        self.home, self.findings = home, findings
        # What is stale → since when, with a collector.
        self.stale = {}
        self.collector = None
        self.looked = time.monotonic()
        self.worst_stale = 0.0
        # The collector's size at each ebb: pid, seconds, descriptors, bytes.
        self.ebbs = []

    def look(self):
        """One look at names and list. Names that are stale for too long are violations."""
        now = time.monotonic()
        # A machine that held us up held the collector up too.
        lag, self.looked = max(0.0, now - self.looked - 0.5), now
        listed = self.home.call('list')
        pid = self.home.collector() if listed else None
        troubled = self.findings.at_work(now, now) & {'fill disk', 'starve collector', 'lock run dir', 'kill collector'}
        if not pid or pid != self.collector or troubled:
            self.collector, self.stale = pid, {}
            return
        found = set(self._stale_files()) | set(self._stale_instances(listed['instances']))
        # Only what is stale now as well: an owner may have died between two questions.
        self.stale = {what: self.stale.get(what, now) + lag for what in found}
        for what, since in list(self.stale.items()):
            self.worst_stale = max(self.worst_stale, now - since)
            if now - since > STALE:
                self.findings.violation(f'{what} is stale for {now - since:.2f} s')
                self.stale[what] = now + 3600

    def _stale_files(self):
        for path in self.home.run.iterdir():
            if path.is_socket() and not path.is_symlink():
                if not homes.is_held(path) and path.exists():
                    yield f'file {path.name}'
            elif path.is_symlink():
                if not path.exists():
                    yield f'link {path.name}'
            elif path.suffix == '.json':
                if self._is_dead(path):
                    yield f'companion {path.name}'

    def _is_dead(self, path):
        try:
            companion = json.loads(path.read_bytes())
        except (OSError, ValueError):
            return False
        if any(homes.is_alive(companion[key]) for key in ('wrap_pid', 'child_pid') if companion[key]):
            return False
        prefix = path.name.removesuffix('json')
        files = [file for file in self.home.run.iterdir() if file.name.startswith(prefix) and file.is_socket()]
        return not any(homes.is_held(file) for file in files) and not self._has_process(companion)

    def _has_process(self, companion):
        wanted = f'AGENTFS_INSTANCE={companion["instance"]}'.encode()
        for pid in self.home.processes():
            try:
                if wanted in Path(f'/proc/{pid}/environ').read_bytes().split(b'\0'):
                    return True
            except OSError:
                continue
        return False

    def _stale_instances(self, instances):
        for instance in instances:
            pids = [*instance['pids'], instance['wrap_pid'] or 0]
            if any(pid and homes.is_alive(pid) for pid in pids):
                continue
            if any(homes.is_held(listener['socket']) for listener in instance['listeners']):
                continue
            if not self._has_process(instance):
                yield f'instance {instance["app"]}/{instance["instance"]} in the list'

    # --- without instances

    def ebb(self):
        """With nothing running: no name, no process but the collector and its guardian, and that no larger than before."""
        deadline = time.monotonic() + STALE + 3
        while time.monotonic() < deadline:
            pid = self.home.collector()
            ours = (pid, self.home.guardian())
            left = [path.name for path in self.home.run.iterdir()]
            processes = {other: command for other, command in self.home.processes().items() if other not in ours}
            if pid and not left and not processes:
                break
            if not pid:
                self.home.command('ps')
            time.sleep(0.1)
        else:
            if left:
                self.findings.violation(f'left in the run dir when nothing runs: {" ".join(sorted(left)[:20])}')
            if processes:
                self.findings.violation(f'processes left when nothing should run: {processes}')
            if not pid:
                self.findings.violation('no collector when nothing runs')
                return
        if self.home.call('list')['instances']:
            self.findings.violation('instances in the list when nothing runs')
        # Connections that have just been closed are let go of.
        time.sleep(1)
        status = Path(f'/proc/{pid}/status').read_text()
        memory = int(re.search(r'VmRSS:\s+(\d+)', status)[1]) * 1024
        descriptors = len(list(Path(f'/proc/{pid}/fd').iterdir()))
        first = next((ebb for ebb in self.ebbs if ebb[0] == pid), None)
        self.ebbs.append((pid, time.monotonic() - self.findings.began, descriptors, memory))
        self.findings.note(f'ebb: collector {pid} has {descriptors} descriptors and {memory >> 10} KiB')
        if first and descriptors > first[2] + GROWTH_DESCRIPTORS:
            self.findings.violation(f'the collector grew from {first[2]} to {descriptors} descriptors')
        if first and memory > first[3] * GROWTH_RATIO + GROWTH_BYTES:
            self.findings.violation(f'the collector grew from {first[3] >> 10} to {memory >> 10} KiB')

    def farewell(self):
        """After the collector was told to end: no process, no socket, an empty run dir."""
        status, said = self.home.command('daemon', 'stop')
        if status != 0:
            self.findings.violation(f'`agentfs daemon stop`: status {status}: {said}')
        if processes := self.home.processes():
            self.findings.violation(f'processes left at the end: {processes}')
        left = [str(path.relative_to(self.home.path)) for path in self.home.path.rglob('*')
                if path.is_socket() or path.parent == self.home.run or path.suffix == '.tmp']
        if left:
            self.findings.violation(f'files left at the end: {left}')
