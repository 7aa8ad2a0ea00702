"""What the Python cases share: the list of cases, free ports, sockets, expectations, children.

Owns no case. Nothing here, and nothing in the cases, knows of any library that may be loaded before the
program: every case is a plain TCP program. Who calls it: every module of cases, and `cases.py`.
"""
import errno
import functools
import os
import random
import select
import socket
import struct
import sys
import threading
import time
from socket import AF_INET, AF_INET6, SO_LINGER, SO_REUSEADDR, SO_REUSEPORT, SOCK_STREAM, SOL_SOCKET

LOCAL = '127.0.0.1'
ANY = '0.0.0.0'
NOBODY = 65534
V6 = AF_INET6
# Longer than anything takes that works, shorter than the runner's limit for a case: a case that waits in
# vain can still say for what.
PATIENCE = 5.0

CASES = {}
PROGRAMS = {}


class Skip(Exception):
    """The machine lacks what the case needs."""


def case(function=None, *, v6=False, root=False):
    """Registers a case under its function's name; its docstring says what TCP promises."""
    def register(function):
        CASES[function.__name__] = (function, v6, root)
        return function
    return register(function) if function else register


def program(function):
    """Registers a program that cases execute: `cases.py --program NAME ARGUMENTS`."""
    PROGRAMS[function.__name__] = function
    return function


def command(name, *arguments):
    """The command line that executes a program of `PROGRAMS`."""
    entry = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'cases.py')
    return [sys.executable, entry, '--program', name, *map(str, arguments)]


# ------------------------------------------------------------------------------------------ expectations
def equal(got, want, what):
    if got != want:
        raise AssertionError(f'{what}: got {got!r}, want {want!r}')


def true(condition, what):
    if not condition:
        raise AssertionError(what)


def fails(want, what, call, *arguments):
    """`call` must fail with one of the error numbers `want` (a number or several)."""
    wanted = want if isinstance(want, tuple) else (want,)
    try:
        result = call(*arguments)
    except OSError as error:
        if error.errno in wanted:
            return
        got = errno.errorcode.get(error.errno, repr(error))
    else:
        got = f'success ({result!r})'
    raise AssertionError(f'{what}: got {got}, want {" or ".join(errno.errorcode[number] for number in wanted)}')


def until(what, condition, patience=PATIENCE):
    """Polls `condition` until it holds."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f'{what}: not within {patience} s')
        time.sleep(0.005)


# ------------------------------------------------------------------------------------------------- ports
@functools.cache
def _ports_in_use():
    """Read once: a busy machine has a hundred thousand finished connections in these tables."""
    used = set()
    for table in ('tcp', 'tcp6', 'udp', 'udp6'):
        try:
            with open(f'/proc/net/{table}', encoding='ascii') as lines:
                next(lines)
                used.update(int(line.split()[1].rpartition(':')[2], 16) for line in lines)
        except OSError:
            continue
    return used


def port_range():
    """First and last port to pick from: below the ephemeral range; the runner gives each case at work at the
    same time a slice of its own."""
    if slice_given := os.environ.get('BEHAVIOURS_PORTS'):
        first, _, last = slice_given.partition('-')
        return int(first), int(last)
    with open('/proc/sys/net/ipv4/ip_local_port_range', encoding='ascii') as limits:
        ephemeral = int(limits.read().split()[0])
    return ephemeral - 12000, ephemeral - 1


_given = set()


def free_port():
    """A port that nobody uses, found without a socket."""
    first, last = port_range()
    while (port := random.randint(first, last)) in _ports_in_use() or port in _given:
        pass
    _given.add(port)
    return port


# ----------------------------------------------------------------------------------------------- sockets
def tcp(family=AF_INET):
    return socket.socket(family, SOCK_STREAM)


def reusable(sock):
    sock.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
    return sock


def sharing(sock):
    sock.setsockopt(SOL_SOCKET, SO_REUSEPORT, 1)
    return sock


def listening(host, port, family=AF_INET, backlog=64, prepare=lambda sock: sock):
    sock = prepare(tcp(family))
    sock.bind((host, port))
    sock.listen(backlog)
    return sock


def connected(host, port, family=AF_INET):
    sock = tcp(family)
    try:
        sock.connect((host, port))
    except BaseException:
        sock.close()
        raise
    return sock


class Trio:
    """A listener, a client of it and the accepted connection, with the address that accept gave."""

    def __init__(self, host=LOCAL, family=AF_INET, prepare=lambda sock: sock):
        self.port = free_port()
        self.listener = listening(host, self.port, family, prepare=prepare)
        self.client = connected(host, self.port, family)
        self.accepted, self.peer = self.listener.accept()


def receive(sock, count):
    """`count` bytes, fewer at the end of the stream."""
    parts = []
    while count and (part := sock.recv(min(count, 1 << 20))):
        parts.append(part)
        count -= len(part)
    return b''.join(parts)


def readable(sock, what, patience=PATIENCE):
    poll = select.poll()  # select stops at descriptor 1024
    poll.register(sock, select.POLLIN)
    true(poll.poll(patience * 1000), f'{what}: nothing to read within {patience} s')


def served(listener, host, port, family=AF_INET):
    """A client of host:port is accepted by `listener`, and both are heard; what accept said of the peer."""
    client = connected(host, port, family)
    readable(listener, f'{host}:{port} reaches its listener')
    accepted, peer = listener.accept()
    conversation(client, accepted)
    client.close()
    accepted.close()
    return peer


def conversation(client, accepted):
    client.sendall(b'question')
    equal(receive(accepted, 8), b'question', 'from client to server')
    accepted.sendall(b'answer')
    equal(receive(client, 6), b'answer', 'from server to client')


def echo(sock):
    """Serves one connection until its end."""
    while data := sock.recv(65536):
        sock.sendall(data)


def echoed(host, port, family=AF_INET):
    """A client whose bytes come back; its own address."""
    with connected(host, port, family) as client:
        client.settimeout(PATIENCE)
        client.sendall(b'ping')
        equal(receive(client, 4), b'ping', f'echo from {host}:{port}')
        return client.getsockname()


def reset_on_close(sock):
    sock.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack('ii', 1, 0))
    return sock


def seconds(duration):
    """A struct timeval."""
    return struct.pack('ll', int(duration), round(duration % 1 * 1_000_000))


# ---------------------------------------------------------------------------------- children and threads
def child(function, *arguments):
    """Forks; the child does `function` and leaves without the interpreter's goodbyes."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        function(*arguments)
        status = 0
    except BaseException as error:  # noqa: BLE001: a child reports whatever it dies of
        print(f'WHY: in the child: {type(error).__name__}: {error}', flush=True)
    finally:
        os._exit(status)


def ended_well(pid, what='child'):
    _, status = os.waitpid(pid, 0)
    equal(status, 0, f'{what}: wait status')


class Word:
    """A pipe on which one process says a word to another: readiness without sleeping."""

    def __init__(self):
        self.reader, self.writer = os.pipe()

    def say(self, text='ready'):
        os.write(self.writer, text.encode() + b'\n')

    def hear(self, what='a word'):
        readable(self.reader, what)
        text = os.read(self.reader, 4096)
        true(text, f'{what}: the pipe ended')
        return text.decode().strip()


def thread(function, *arguments):
    """A daemon thread, started; `.failure` is what it died of."""
    def run():
        try:
            function(*arguments)
        except BaseException as error:  # noqa: BLE001: handed to the thread that joins
            worker.failure = error
    worker = threading.Thread(target=run, daemon=True)
    worker.failure = None
    worker.start()
    return worker


def joined(worker, what, patience=PATIENCE):
    worker.join(patience)
    true(not worker.is_alive(), f'{what}: still at it after {patience} s')
    if worker.failure:
        raise worker.failure


def has_v6():
    try:
        with open('/proc/net/if_inet6', encoding='ascii') as interfaces:
            return any(line.startswith('0' * 31 + '1 ') for line in interfaces)
    except OSError:
        return False

