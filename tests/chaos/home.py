"""One private AGENTFS_HOME under test: its folder, its collector, its commands, and what it leaves."""
import ctypes
import errno
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Small, so that it can be filled; room for a few hundred instances.
DISK_OPTIONS = 'size=32m,nr_inodes=4096,mode=700'
MNT_DETACH = 2
REPLY_TIME = 20.0


class Home:
    """Everything lies in one folder below /tmp: `h` is the home, a small file system of its own where we are root."""

    def __init__(self, agentfs):
        self.root = Path(tempfile.mkdtemp(prefix='chaos'))
        self.path = self.root / 'h'
        self.run = self.path / 'run'
        self.reports = self.root / 'reports.jsonl'
        self.programs = self.root / 'programs'
        self.agentfs = self.root / 'agentfs'
        self.mounted = False
        # As root, permissions mean nothing: then the programs are somebody else's.
        self.user = pwd.getpwnam('nobody') if os.geteuid() == 0 else None
        self.python = self._python()
        self.path.mkdir()
        self.reports.touch()
        shutil.copy(agentfs, self.agentfs)
        shutil.copytree(HERE / 'programs', self.programs, ignore=shutil.ignore_patterns('__pycache__'))
        subprocess.run([os.environ.get('CC', 'cc'), '-O2', '-Wall', '-Wextra', '-Werror', '-o',
                        str(self.programs / 'epoll'), str(self.programs / 'epoll.c')], check=True)
        # The same without a loader, for the seccomp engine; not every system has the parts.
        subprocess.run([os.environ.get('CC', 'cc'), '-O2', '-static', '-o', str(self.programs / 'static'),
                        str(self.programs / 'epoll.c')], check=False, stderr=subprocess.DEVNULL)
        if self.user:
            for path in [self.root, self.path, self.reports, self.programs, *self.programs.iterdir()]:
                os.chown(path, self.user.pw_uid, self.user.pw_gid)
        if os.geteuid() == 0:
            self._mount()
        self.router = free_port()

    def _python(self):
        """An interpreter that the programs' user may execute, at its quickest: without site packages."""
        for path in dict.fromkeys([os.path.realpath(sys.executable), '/usr/bin/python3']):
            if not self.user or all(folder.stat().st_mode & 1 for folder in [Path(path), *Path(path).parents]):
                return [path, '-I', '-S']
        # Everything but permissions can be tried as root too.
        self.user = None
        return [sys.executable, '-I', '-S']

    def _mount(self):
        owner = f',uid={self.user.pw_uid},gid={self.user.pw_gid}' if self.user else ''
        options = (DISK_OPTIONS + owner).encode()
        libc = ctypes.CDLL(None, use_errno=True)
        self.mounted = libc.mount(b'chaos', str(self.path).encode(), b'tmpfs', 0, options) == 0

    def environment(self):
        kept = {key: value for key, value in os.environ.items() if not key.startswith('AGENTFS_')}
        kept.pop('LD_PRELOAD', None)
        return {**kept, 'AGENTFS_HOME': str(self.path), 'AGENTFS_ROUTER': f'127.0.0.1:{self.router}',
                'AGENTFS_ROUTER_TLS': '127.0.0.1:0', 'AGENTFS_QUIET': '1', 'CHAOS_ROUTER': str(self.router), 'HOME': str(self.root)}

    def popen(self, words, **how):
        user = {'user': self.user.pw_uid, 'group': self.user.pw_gid, 'extra_groups': []} if self.user else {}
        return subprocess.Popen(words, cwd=self.root, env=self.environment(), stdin=subprocess.DEVNULL,
                                start_new_session=True, **user, **how)

    def command(self, *words):
        """Runs `agentfs WORDS`; its exit status and what it said."""
        process = self.popen([str(self.agentfs), *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            output, _ = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
            return None, f'still running after 60 s: {output.decode(errors="replace")}'
        return process.returncode, output.decode(errors='replace')

    # --- the collector

    def call(self, method):
        """Asks the collector; None where none answers."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(REPLY_TIME)
            try:
                client.connect(str(self.path / 'collector.sock'))
                client.sendall(json.dumps({'id': 1, 'method': method, 'params': {}}).encode() + b'\n')
                answer = b''
                while not answer.endswith(b'\n'):
                    part = client.recv(1 << 20)
                    if not part:
                        return None
                    answer += part
            except OSError:
                return None
        return json.loads(answer).get('result')

    def collector(self):
        """The pid of the collector that answers, or None."""
        info = self.call('daemon.info')
        return info and info['pid']

    def guardian(self):
        """The pid of the process that starts the collector again if it is killed, or None."""
        info = self.call('daemon.info')
        return info and info.get('guardian')

    def processes(self):
        """Every process with this home in its environment: pid → command."""
        wanted = f'AGENTFS_HOME={self.path}'.encode()
        found = {}
        for pid in filter(str.isdigit, os.listdir('/proc')):
            try:
                if wanted in Path(f'/proc/{pid}/environ').read_bytes().split(b'\0') and is_alive(int(pid)):
                    command = Path(f'/proc/{pid}/cmdline').read_bytes().replace(b'\0', b' ')
                    found[int(pid)] = command.decode(errors='replace').strip()[:160]
            except OSError:
                continue
        return found

    # --- the end

    def close(self):
        """Ends what is left and takes everything away."""
        deadline = time.monotonic() + 10
        # Again and again: those that are killed fork meanwhile.
        while (left := self.processes()) and time.monotonic() < deadline:
            for pid in left:
                kill(pid)
            time.sleep(0.05)
        if self.mounted:
            ctypes.CDLL(None).umount2(str(self.path).encode(), MNT_DETACH)
        shutil.rmtree(self.root, ignore_errors=True)


def free_port(first=None):
    """A port, from `first` on and below the ephemeral ones, that nothing on this machine has."""
    for port in range(first or 20000 + os.getpid() % 4000, 31000):
        with socket.socket() as one, socket.socket(socket.AF_INET6) as other:
            try:
                one.bind(('127.0.0.1', port))
                other.bind(('::1', port))
                return port
            except OSError as error:
                if error.errno == errno.EADDRNOTAVAIL:
                    return port  # no IPv6 here
    raise SystemExit('chaos: there is no free port between 20000 and 31000')


def kill(pid, number=signal.SIGKILL):
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass  # it has ended


def is_alive(pid):
    """Whether a process runs: neither gone nor a zombie."""
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] not in 'ZX'
    except OSError:
        return False


def session(number):
    """The processes of one session."""
    found = []
    for pid in filter(str.isdigit, os.listdir('/proc')):
        try:
            fields = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
        except OSError:
            continue
        if fields[3] == str(number) and fields[0] not in 'ZX':
            found.append(int(pid))
    return found


def host_listeners(port):
    """The sockets (`socket:[INODE]`) that listen on a TCP port of the host."""
    found = set()
    for table in ('/proc/net/tcp', '/proc/net/tcp6'):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            # proc_net_tcp: 0A is LISTEN.
            if fields[3] == '0A' and int(fields[1].rpartition(':')[2], 16) == port:
                found.add(f'socket:[{fields[9]}]')
    return found


def holds(pid, sockets):
    """Whether a process has one of the sockets open."""
    try:
        return any(os.readlink(entry.path) in sockets for entry in os.scandir(f'/proc/{pid}/fd'))
    except OSError:
        return False


def is_held(path):
    """Whether a process holds the Unix socket at a path: a datagram socket that connects to it is told."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asker:
        try:
            asker.connect(str(path))
        except OSError as error:
            return error.errno == errno.EPROTOTYPE
    return True
