"""Cases on descriptors: dups, numbers that are used again, listeners closed in unusual ways."""
import errno
import fcntl
import os
import socket
from socket import SO_ACCEPTCONN, SOL_SOCKET

from kit import LOCAL, case, connected, equal, fails, free_port, listening, served, tcp, true


def adopted(number):
    """A socket object over a number, without asking the kernel what it is."""
    return socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=number)


def free_again(port):
    """The port refuses, and can be bound and served."""
    fails(errno.ECONNREFUSED, f'connect to {port}', connected, LOCAL, port)
    with listening(LOCAL, port) as again:
        served(again, LOCAL, port)


@case
def fd_dup_names():
    """A dup has the listener's name, listens and accepts: by dup, dup2 and F_DUPFD_CLOEXEC."""
    port = free_port()
    listener = listening(LOCAL, port)
    number = listener.fileno()
    free = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 100)
    os.close(free)
    dups = {'dup': os.dup(number), 'dup2': os.dup2(number, free),
            'F_DUPFD_CLOEXEC': fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 120)}
    for how, dup in dups.items():
        sock = adopted(dup)
        equal(sock.getsockname(), (LOCAL, port), f'name of a {how}')
        equal(sock.getsockopt(SOL_SOCKET, SO_ACCEPTCONN), 1, f'a {how} listens')
        equal(served(sock, LOCAL, port)[0], LOCAL, f'peer accepted by a {how}')


@case
def fd_dup_before_bind():
    """bind on one of two dups binds both, listen on the other makes both listen, and both accept."""
    port = free_port()
    first = tcp()
    second = first.dup()
    third = adopted(fcntl.fcntl(first.fileno(), fcntl.F_DUPFD_CLOEXEC, 100))
    first.bind((LOCAL, port))
    for sock in (second, third):
        equal(sock.getsockname(), (LOCAL, port), 'name of the dup')
    second.listen()
    for sock in (first, second, third):
        equal(sock.getsockopt(SOL_SOCKET, SO_ACCEPTCONN), 1, 'it listens')
        served(sock, LOCAL, port)
    first.close()
    served(third, LOCAL, port)


@case
def fd_dup2_over_listener():
    """dup2 of a listener over another closes that one: its port is free, its number is the other's."""
    gone_port, kept_port = free_port(), free_port()
    gone, kept = listening(LOCAL, gone_port), listening(LOCAL, kept_port)
    os.dup2(kept.fileno(), gone.fileno())
    equal(gone.getsockname(), (LOCAL, kept_port), 'name on the number')
    free_again(gone_port)
    served(gone, LOCAL, kept_port)
    served(kept, LOCAL, kept_port)


@case
def fd_number_reused():
    """A pipe that takes the number of a closed listener is no socket."""
    # The object keeps the number after its descriptor is closed behind its back.
    sock = listening(LOCAL, free_port())
    number = sock.fileno()
    os.close(number)
    ends = os.pipe()
    true(number in ends, f'the pipe {ends} took the number {number}')
    fails(errno.ENOTSOCK, 'getsockname', sock.getsockname)
    fails(errno.ENOTSOCK, 'getpeername', sock.getpeername)
    fails(errno.ENOTSOCK, 'accept', sock.accept)
    fails(errno.ENOTSOCK, 'listen', sock.listen, 1)
    fails(errno.ENOTSOCK, 'bind', sock.bind, (LOCAL, free_port()))
    fails(errno.ENOTSOCK, 'connect', sock.connect, (LOCAL, free_port()))
    fails(errno.ENOTSOCK, 'getsockopt', sock.getsockopt, SOL_SOCKET, SO_ACCEPTCONN)
    sock.detach()
    os.write(ends[1], b'pipe')
    equal(os.read(ends[0], 10), b'pipe', 'through the pipe')


@case
def fd_closerange():
    """closerange over a listener frees its port and its number."""
    port = free_port()
    listener = listening(LOCAL, port)
    number = listener.fileno()
    os.closerange(number, number + 1)
    fails(errno.EBADF, 'getsockname', listener.getsockname)
    listener.detach()
    fresh = tcp()
    equal(fresh.fileno(), number, 'the number is free')
    equal(fresh.getsockname(), ('0.0.0.0', 0), 'a new socket there is fresh')
    free_again(port)
