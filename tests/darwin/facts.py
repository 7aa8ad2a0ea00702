"""For somebody with a Mac: does its kernel do what the emulated tests believe it does?

    python3 tests/darwin/facts.py

Needs nothing of agentfs. Each line is one rule of `xnu.py`, tried on the system it runs on. On Linux some of
them do not hold; that is why they are written down.
"""
import ctypes
import errno
import os
import platform
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

LIBC = ctypes.CDLL(None, use_errno=True)
MAC = platform.system() == "Darwin"
FACTS = []


def fact(text):
    def register(function):
        FACTS.append((text, function))
        return function

    return register


class Place:
    """A folder with short paths, removed afterwards with what is in it."""

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="af", dir="/private/tmp" if MAC else "/tmp")
        return self

    def __exit__(self, *_):
        self.folder.cleanup()

    def path(self, name="a-b.80.sock"):
        return os.path.join(self.folder.name, name)

    def listener(self, backlog=5, path=None):
        made = socket.socket(socket.AF_UNIX)
        made.bind(path or self.path())
        if backlog is not None:
            made.listen(backlog)
        return made

    def client(self, name=None, path=None):
        made = socket.socket(socket.AF_UNIX)
        if name:
            made.bind(name)
        made.connect(path or self.path())
        return made


def raw_name(call, made):
    """(bytes, length) that getsockname or getpeername gives."""
    buffer, length = ctypes.create_string_buffer(128), ctypes.c_uint32(128)
    if getattr(LIBC, call)(made.fileno(), buffer, ctypes.byref(length)):
        raise OSError(ctypes.get_errno(), call)
    return buffer.raw[: length.value]


def inet(port):
    head = struct.pack(">BBH", 16, socket.AF_INET, port) if MAC else struct.pack("=H", 2) + struct.pack(">H", port)
    return head + bytes([127, 0, 0, 1]) + bytes(8)


def connect_error(made, address):
    result = LIBC.connect(made.fileno(), address, len(address))
    return ctypes.get_errno() if result else 0


def probe(path):
    """What connecting a datagram socket says."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        return made.connect_ex(path)


@fact("a datagram's connect to a listening stream fails with EPROTOTYPE")
def _(place):
    place.kept = place.listener()
    return probe(place.path()) == errno.EPROTOTYPE


@fact("to a stream that is bound and does not listen too")
def _(place):
    place.kept = place.listener(None)
    return probe(place.path()) == errno.EPROTOTYPE


@fact("to a file whose socket is gone with ECONNREFUSED")
def _(place):
    place.listener().close()
    return probe(place.path()) == errno.ECONNREFUSED


@fact("an accepted connection has the listener's name, the client sees it as its peer's")
def _(place):
    server = place.listener()
    client = place.client()
    accepted, _ = server.accept()
    return accepted.getsockname() == place.path() == client.getpeername()


@fact("names stay when their files are removed, and are spelt as they were bound")
def _(place):
    path = place.folder.name + "//a-b.80.sock"
    server = place.listener(path=path)
    client = place.client(name=place.path("c.1"), path=path)
    accepted, peer = server.accept()
    os.unlink(place.path("c.1"))
    os.unlink(place.path())
    return (accepted.getsockname(), peer, accepted.getpeername(), client.getpeername()) == (
        path, place.path("c.1"), place.path("c.1"), path,
    )  # fmt: skip


@fact("an unnamed socket's name is three bytes: 3, AF_UNIX, 0")
def _(place):
    place.kept = place.listener()
    return raw_name("getsockname", place.client()) == bytes([3, socket.AF_UNIX, 0])


@fact("sun_len is the length that was bound, the NUL included")
def _(place):
    name = raw_name("getsockname", place.listener())
    return name[0] == len(name) and name[2:].rstrip(b"\0") == place.path().encode()


@fact("an inet address on a Unix socket is refused with EAFNOSUPPORT")
def _(_):
    with socket.socket(socket.AF_UNIX) as made:
        return connect_error(made, inet(9)) == errno.EAFNOSUPPORT


@fact("the refused socket can still be connected")
def _(place):
    place.kept = place.listener()
    with socket.socket(socket.AF_UNIX) as made:
        connect_error(made, inet(9))
        return made.connect_ex(place.path()) == 0


@fact("getsockopt answers LOCAL_PEERCRED (1) at the level of TCP")
def _(place):
    server = place.listener()
    client = place.client()
    server.accept()
    return len(client.getsockopt(socket.IPPROTO_TCP, 1, 128)) > 4


@fact("setsockopt at the level of TCP is refused with EOPNOTSUPP")
def _(_):
    with socket.socket(socket.AF_UNIX) as made:
        try:
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            return error.errno == errno.EOPNOTSUPP
        return False


@fact("SO_ACCEPTCONN of a listener reads as 2")
def _(place):
    return place.listener().getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 2


@fact("a full queue refuses, whatever backlog was asked for, at some 128 connections")
def _(place):
    server, clients = place.listener(4096), []
    for _ in range(400):
        made = socket.socket(socket.AF_UNIX)
        made.setblocking(False)
        clients.append(made)
        if result := made.connect_ex(place.path()):
            return result == errno.ECONNREFUSED and 64 <= len(clients) <= 300
    server.close()
    return False


@fact("a Unix socket has an inode number of its own, a TCP socket none")
def _(place):
    tcp, one, other = socket.socket(), place.listener(), place.listener(path=place.path("x"))
    tcp, one, other = (os.fstat(made.fileno()).st_ino for made in (tcp, one, other))
    return tcp == 0 and 0 not in (one, other) and one != other


@fact("an address to send to is ignored on a connected stream")
def _(place):
    place.kept = place.listener()
    client, address = place.client(), inet(9)
    return LIBC.sendto(client.fileno(), b"x", 1, 0, address, len(address)) == 1


@fact("the address of received data of a stream has length 0")
def _(place):
    server = place.listener()
    client = place.client(name=place.path("c.1"))
    accepted, _ = server.accept()
    client.send(b"x")
    buffer, length = ctypes.create_string_buffer(128), ctypes.c_uint32(128)
    LIBC.recvfrom(accepted.fileno(), ctypes.create_string_buffer(4), 4, 0, buffer, ctypes.byref(length))
    return length.value == 0


@fact("dup2 over a bound socket leaves its file behind and its name with the new one")
def _(place):
    made, other = place.listener(), socket.socket()
    os.dup2(made.fileno(), other.fileno())
    made.close()
    return raw_name("getsockname", other)[2:].rstrip(b"\0") == place.path().encode()


class Watch:
    """A kqueue that waits for one thing; a Mac's alone."""

    def __init__(self, ident, what, note):
        if not hasattr(select, "kqueue"):
            raise OSError(errno.ENOSYS, "there is no kqueue")
        self.queue = select.kqueue()
        flags = select.KQ_EV_ADD | select.KQ_EV_CLEAR
        self.queue.control([select.kevent(ident, getattr(select, what), flags, getattr(select, note))], 0)

    def is_told(self):
        return len(self.queue.control([], 1, 5)) == 1


@fact("a kqueue on a folder tells of a socket that is bound in it")
def _(place):
    folder = os.open(place.folder.name, os.O_RDONLY)
    watching = Watch(folder, "KQ_FILTER_VNODE", "KQ_NOTE_WRITE")
    place.listener()
    return watching.is_told()


@fact("a kqueue tells of the end of a process")
def _(_place):
    child = os.fork()
    if not child:
        signal.pause()
    try:
        watching = Watch(child, "KQ_FILTER_PROC", "KQ_NOTE_EXIT")
        os.kill(child, signal.SIGKILL)
        return watching.is_told()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@fact("and refuses to watch one that has ended and was not waited for, with ESRCH")
def _(_place):
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT) if hasattr(os, "waitid") else time.sleep(0.5)
    try:
        Watch(child, "KQ_FILTER_PROC", "KQ_NOTE_EXIT")
        return False
    except OSError as error:
        return error.errno == errno.ESRCH
    finally:
        os.waitpid(child, 0)


@fact("port 80 is free to everybody on a wildcard address, and not on a loopback one")
def _(_place):
    if os.geteuid() == 0:
        raise OSError(errno.EPERM, "run it as yourself: root may bind everything")
    answers = []
    for host in ["127.0.0.1", "0.0.0.0"]:
        with socket.socket() as made:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                made.bind((host, 80))
                answers.append(0)
            except OSError as error:
                answers.append(error.errno)
    # Something may have the port; then only the refusal of the loopback address can be seen.
    return answers[0] == errno.EACCES and answers[1] in (0, errno.EADDRINUSE)


def seen(command, **variables):
    """What a Python that is not the system's sees of three variables behind a command of the system."""
    if MAC and sys.executable.startswith(("/usr/bin/", "/System/")):
        raise OSError(errno.EPERM, "run it with a Python that is not macOS's own")
    code = "import os; print(*(os.environ.get(name) for name in ('DYLD_FACT', 'AGENTFS_FACT')))"
    words = [word.replace("PYTHON", f"'{sys.executable}' -c \"{code}\"") for word in command]
    words = [part for word in words for part in ([sys.executable, "-c", code] if word == "THEN" else [word])]
    environment = {"PATH": os.environ.get("PATH", ""), **variables}
    return subprocess.run(words, env=environment, stdout=subprocess.PIPE, text=True, check=False).stdout.strip()


@fact("a shell of the system loses DYLD_ variables as it starts, and keeps others (not if SIP is off: csrutil status)")
def _(_place):
    return seen(["/bin/sh", "-c", "PYTHON; :"], DYLD_FACT="1", AGENTFS_FACT="2") == "None 2"


@fact("what it exports itself, its children have; also what is assigned before one command")
def _(_place):
    texts = ["export DYLD_FACT='1' AGENTFS_FACT='2'; PYTHON", "DYLD_FACT='1' AGENTFS_FACT='2' PYTHON"]
    return all(seen(["/bin/sh", "-c", text]) == "1 2" for text in texts)


@fact("env(1) sets them for its command, also behind nohup")
def _(_place):
    words = ["/usr/bin/env", "DYLD_FACT=1", "AGENTFS_FACT=2", "THEN"]
    return all(seen([*before, *words]) == "1 2" for before in ([], ["/usr/bin/nohup"]))


@fact("one simple command of sh -c becomes the program: it has the shell's process id")
def _(_place):
    child = subprocess.Popen(
        ["/bin/sh", "-c", f"DYLD_FACT='1' '{sys.executable}' -c 'import os; print(os.getpid())'"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    return int(child.communicate()[0]) == child.pid


def main():
    wrong = 0
    for text, holds in FACTS:
        with Place() as place:
            try:
                answer = holds(place)
            except OSError as error:
                answer, text = False, f"{text} ({error})"
        wrong += not answer
        print(f"{'holds    ' if answer else 'DOES NOT '} {text}")
    print(f"{len(FACTS) - wrong} of {len(FACTS)} hold on {platform.system()} {platform.release()}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
