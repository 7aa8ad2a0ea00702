"""One wrapped program: runs a server, is its own client, forks, crashes, starts again; says what failed.

    worker.py KIND PORT SEED REPORTS -- SERVER COMMAND...

Reports are JSON lines appended to one file, each whole (O_APPEND): `error` for a call that failed, with the
call and its errno, `wrong` for an answer of somebody else, `hang` for one that did not come, and every second a
`count` of what went well. Times are of CLOCK_MONOTONIC, which all processes share. Whether a failure may be is
judged by who started us (`checks.py`).

As a subreaper it inherits what its server leaves behind, so it knows when the last holder of a port has ended.
"""
import ctypes
import errno
import json
import os
import random
import resource
import select
import signal
import socket
import subprocess
import sys
import time

WHO = f"{os.environ.get('AGENTFS_APP')}/{os.environ.get('AGENTFS_INSTANCE')}"
PATIENCE = 25.0
PR_SET_CHILD_SUBREAPER = 36
# Failures in a row after which the server is started again.
MISSED = 20
# Descriptors that the program `tight` leaves itself: what one connection needs natively.
SPARE = 1


class Reports:
    """The file of reports, and the counts since the last one."""

    def __init__(self, path):
        self.file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self.counts = {}
        self.told = time.monotonic()

    def write(self, kind, **facts):
        facts = {'t': time.monotonic(), 'who': WHO, 'kind': kind, **facts}
        os.write(self.file, json.dumps(facts).encode() + b'\n')

    def count(self, what):
        self.counts[what] = self.counts.get(what, 0) + 1
        if time.monotonic() - self.told > 1:
            self.flush()

    def flush(self):
        self.told = time.monotonic()
        if self.counts:
            self.write('count', **{'counts': self.counts})
        self.counts = {}


def reap():
    """Waits for every child and grandchild that there is."""
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return


class Worker:
    def __init__(self, kind, port, seed, reports, command):
        self.kind, self.port, self.command = kind, port, command
        self.random = random.Random(seed)
        self.reports = Reports(reports)
        self.server = None
        # Until then a connection may break natively: a child of the server was killed.
        self.rough_until = 0.0
        # Since when the server listens, and how often in a row it was not found.
        self.up_since, self.missed = 0.0, 0
        # When the call in hand began: a fault that ended meanwhile may be its cause.
        self.began = 0.0

    # --- the server

    def start_server(self):
        """Starts the server and waits until it listens; whether it does."""
        began = time.monotonic()
        self.server = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                       stderr=subprocess.DEVNULL, process_group=0)
        said = b''
        while not said.endswith(b'\n'):
            left = began + PATIENCE - time.monotonic()
            if left <= 0 or not select.select([self.server.stdout], [], [], left)[0]:
                self.reports.write('hang', call='start', began=began)
                break
            part = os.read(self.server.stdout.fileno(), 4096)
            if not part:
                break
            said += part
        if said.startswith(b'listening'):
            self.reports.count('starts')
            self.up_since, self.missed = time.monotonic(), 0
            return True
        try:
            failure = json.loads(said)
            self.reports.write('error', call=failure['call'], errno=errno.errorcode[failure['errno']], began=began)
        except (ValueError, KeyError):
            self.reports.write('error', call='start', errno=f'said {said!r}', began=began)
        self.end_server(signal.SIGKILL)
        return False

    def end_server(self, number):
        """Ends the server with everything that it started, and waits for the last of it."""
        if self.server is None:
            return
        try:
            os.killpg(self.server.pid, number)
        except ProcessLookupError:
            pass  # it ended by itself
        self.server.stdout.close()
        self.server.returncode = 0  # reaped below, with its children
        self.server = None
        reap()

    # --- what a client does

    def failed(self, call, error):
        number = getattr(error, 'errno', None)
        name = errno.errorcode.get(number, type(error).__name__)
        self.reports.write('error', call=call, errno=name, began=self.began, server=self.kind,
                           up=self.up_since)

    def get(self, address, host='localhost', port=None):
        """One request; the body, or None where the connection failed and that was reported."""
        self.began = time.monotonic()
        call = 'socket'
        try:
            family = socket.AF_INET6 if ':' in address else socket.AF_INET
            with socket.socket(family) as client:
                client.settimeout(PATIENCE)
                call = 'connect'
                client.connect((address, port or self.port))
                call = 'exchange'
                client.sendall(b'GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' % host.encode())
                answer = b''
                while part := client.recv(65536):
                    answer += part
                    head, _, body = answer.partition(b'\r\n\r\n')
                    length = head.lower().partition(b'content-length:')[2].split(b'\r\n')[0].strip()
                    if length.isdigit() and len(body) >= int(length):
                        break
        except TimeoutError:
            self.reports.write('hang', call=call, began=self.began)
            return None
        except OSError as error:
            if not (call == 'exchange' and time.monotonic() < self.rough_until):
                self.failed(call if port is None else f'router {call}', error)
            return None
        return answer

    def ask_own(self):
        """localhost:PORT must be this instance's server."""
        six = self.kind in ('epoll', 'node') and self.random.random() < 0.3
        answer = self.get('::1' if six else '127.0.0.1')
        if answer is None:
            self.missed += 1
            if self.missed == MISSED:
                # What anybody does with a server that is not found.
                self.restart()
            return
        self.missed = 0
        body = answer.rpartition(b'\r\n\r\n')[2].decode(errors='replace')
        if body == WHO:
            self.reports.count('own')
        elif body or time.monotonic() > self.rough_until:
            self.reports.write('wrong' if body else 'error', call='exchange', errno='empty', body=body[:200],
                               began=self.began, server=self.kind)

    def ask_router(self):
        """The URL of the instance must lead to it, whoever else runs."""
        host, port = os.environ['AGENTFS_HOSTNAME'], int(os.environ['CHAOS_ROUTER'])
        try:
            address = socket.gethostbyname(host)
        except socket.gaierror:
            # The library's resolver is not in what the seccomp engine serves (docs/engines.md).
            if os.environ.get('AGENTFS_ENGINE') != 'active':
                raise
            address = '127.0.0.1'
        answer = self.get(address, host, port)
        if answer is None:
            return
        status = answer[9:12].decode(errors='replace')
        body = answer.rpartition(b'\r\n\r\n')[2].decode(errors='replace')
        if status == '200' and body != WHO:
            self.reports.write('wrong', call='router', body=body[:200], began=self.began, server=self.kind)
        elif status == '200':
            self.reports.count('router')
        elif time.monotonic() > self.rough_until:
            self.reports.write('error', call='router', errno=status or 'empty', began=self.began, server=self.kind,
                               up=self.up_since)

    def bind_any(self):
        """A listener on port 0, a connection to it, the names of both ends."""
        self.began = time.monotonic()
        call = 'socket'
        try:
            with socket.socket() as server, socket.socket() as client:
                call = 'bind'
                server.bind(('127.0.0.1', 0))
                call = 'listen'
                server.listen(1)
                call = 'connect'
                client.settimeout(PATIENCE)
                client.connect(server.getsockname())
                call = 'accept'
                server.settimeout(PATIENCE)
                accepted, peer = server.accept()
                with accepted:
                    if (peer, client.getpeername()) != (client.getsockname(), server.getsockname()):
                        self.reports.write('wrong', call='names', body=f'{peer} {client}', began=self.began)
                self.reports.count('any')
        except TimeoutError:
            self.reports.write('hang', call=call, began=self.began)
        except OSError as error:
            self.failed(f'any {call}', error)

    def fork_and_ask(self):
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            try:
                self.reports.counts = {}
                self.ask_own()
                self.reports.flush()
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        self.reports.count('forks')

    def at_the_limit(self):
        """The same with no more descriptors than TCP would need."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        # Filled up to the limit, so that the next number is the last.
        held = [os.open('/dev/null', os.O_RDONLY | os.O_CLOEXEC) for _ in range(8)]
        limit = max(held) + 1 + SPARE
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        try:
            gaps = []
            try:
                while True:
                    gaps.append(os.open('/dev/null', os.O_RDONLY | os.O_CLOEXEC))
            except OSError:
                pass
            os.close(gaps.pop())
            self.ask_own()
            self.began = time.monotonic()
            try:
                with socket.socket() as server:
                    server.bind(('127.0.0.1', 0))
                    server.listen(1)
            except OSError as error:
                self.failed('any bind', error)
            if resource.getrlimit(resource.RLIMIT_NOFILE) != (limit, hard):
                self.reports.write('wrong', call='getrlimit', body='the limit was changed', began=self.began)
            self.reports.count('tight')
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for descriptor in held + gaps:
                os.close(descriptor)

    def restart(self):
        """A server that is killed frees its port at once, and refuses."""
        self.reports.count('restarts')
        self.end_server(self.random.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM]))
        self.began = time.monotonic()
        with socket.socket() as client:
            client.settimeout(PATIENCE)
            refused = client.connect_ex(('127.0.0.1', self.port))
        if refused != errno.ECONNREFUSED:
            name = errno.errorcode.get(refused, str(refused))
            self.reports.write('error', call='connect to nobody', errno=name, began=self.began, server=self.kind)
        while not self.start_server():
            time.sleep(0.3)

    def act(self):
        dice = self.random.random()
        if dice < 0.02:
            self.restart()
        elif dice < 0.05:
            self.fork_and_ask()
        elif dice < 0.07 and self.kind in ('prefork', 'shared'):
            self.rough_until = time.monotonic() + 1
            os.kill(self.server.pid, signal.SIGUSR1)
        elif dice < 0.10:
            self.at_the_limit()
        elif dice < 0.20:
            self.bind_any()
        elif dice < 0.30:
            self.ask_router()
        else:
            self.ask_own()

    def stop(self, *_):
        self.end_server(signal.SIGTERM)
        self.reports.flush()
        os._exit(0)

    def run(self):
        signal.signal(signal.SIGTERM, self.stop)
        while not self.start_server():
            time.sleep(0.3)
        while True:
            self.act()
            time.sleep(self.random.uniform(0, 0.25))


def main():
    kind, port, seed, reports = sys.argv[1:5]
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    Worker(kind, int(port), int(seed), reports, sys.argv[6:]).run()


if __name__ == '__main__':
    main()
