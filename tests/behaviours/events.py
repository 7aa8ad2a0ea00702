"""Cases on events: epoll and SIGIO see what happens to sockets that were registered early."""
import fcntl
import os
import select
import signal
import socket
import struct
from select import EPOLLHUP, EPOLLIN, EPOLLRDHUP
from socket import SHUT_WR, SO_PEERCRED, SOL_SOCKET

from kit import (LOCAL, Trio, case, connected, equal, free_port, listening, tcp, true)

FIOASYNC = 0x5452
MILLISECONDS = 0.001


@case
def ev_epoll_before_bind_dup():
    """epoll gives one event per socket when it was dup-ed and registered before bind."""
    for register_dup in (False, True):
        port = free_port()
        sock = tcp()
        dup = sock.dup()
        poll = select.epoll()
        poll.register(sock, EPOLLIN)
        if register_dup:
            poll.register(dup, EPOLLIN)
        registered = sorted([sock.fileno()] + [dup.fileno()] * register_dup)
        sock.bind((LOCAL, port))
        sock.listen()
        equal(poll.poll(0), [], 'events before a client')
        client = connected(LOCAL, port)
        events = poll.poll(2)
        equal(sorted(number for number, _ in events), registered, 'sockets with an event')
        true(all(event == EPOLLIN for _, event in events), f'events: {events}')
        sock.accept()
        equal(poll.poll(0), [], 'events after accept')
        client.close()


@case
def ev_epoll_rdhup():
    """epoll reports EPOLLRDHUP when the peer ends its writing, and no EPOLLHUP yet."""
    trio = Trio()
    poll = select.epoll()
    poll.register(trio.accepted, EPOLLIN | EPOLLRDHUP)
    equal(poll.poll(0), [], 'events before')
    trio.client.shutdown(SHUT_WR)
    equal(poll.poll(2), [(trio.accepted.fileno(), EPOLLIN | EPOLLRDHUP)], 'events when the peer ends')
    trio.accepted.shutdown(SHUT_WR)
    (number, event), = poll.poll(2)
    equal(number, trio.accepted.fileno(), 'the socket')
    true(event & EPOLLHUP and event & EPOLLRDHUP, f'event when both ended: {event:#x}')


@case
def ev_epoll_close():
    """Closing a registered listener ends its events, and its number can be registered anew."""
    poll = select.epoll()
    port = free_port()
    listener = listening(LOCAL, port)
    number = listener.fileno()
    poll.register(listener, EPOLLIN)
    client = connected(LOCAL, port)
    equal(poll.poll(2), [(number, EPOLLIN)], 'events while it lives')
    listener.close()
    equal(poll.poll(50 * MILLISECONDS), [], 'events once it is closed')
    port = free_port()
    again = tcp()
    equal(again.fileno(), number, 'the number is used again')
    again.bind((LOCAL, port))
    again.listen()
    poll.register(again, EPOLLIN)
    equal(poll.poll(0), [], 'events of the new listener before a client')
    another = connected(LOCAL, port)
    equal(poll.poll(2), [(number, EPOLLIN)], 'events of the new listener')
    client.close()
    another.close()


@case
def ev_sigio():
    """F_SETOWN and FIOASYNC, set before bind, give a SIGIO for a connection."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGIO})
    port = free_port()
    sock = tcp()
    fcntl.fcntl(sock, fcntl.F_SETOWN, os.getpid())
    fcntl.ioctl(sock, FIOASYNC, struct.pack('i', 1))
    sock.bind((LOCAL, port))
    sock.listen()
    while signal.sigtimedwait({signal.SIGIO}, 0):
        pass
    client = connected(LOCAL, port)
    true(signal.sigtimedwait({signal.SIGIO}, 3), 'a SIGIO for the connection')
    equal(fcntl.fcntl(sock, fcntl.F_GETOWN), os.getpid(), 'F_GETOWN')
    true(fcntl.fcntl(sock, fcntl.F_GETFL) & os.O_ASYNC, 'O_ASYNC')
    sock.accept()
    client.close()


@case
def unix_own_peercred():
    """SO_PEERCRED on the program's own Unix sockets gives its own process."""
    own = (os.getpid(), os.getuid(), os.getgid())
    name = b'\0behaviours-%d' % os.getpid()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(name)
    listener.listen()
    client = socket.socket(socket.AF_UNIX)
    client.connect(name)
    accepted, _ = listener.accept()
    for sock in (client, accepted, *socket.socketpair()):
        equal(struct.unpack('3i', sock.getsockopt(SOL_SOCKET, SO_PEERCRED, 12)), own, 'SO_PEERCRED')
