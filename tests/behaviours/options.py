"""Cases on socket options: what is set is kept, over bind, listen and connect."""
import errno
import os
import socket
import struct
import time
from socket import (IPPROTO_IP, IPPROTO_TCP, SO_KEEPALIVE, SO_LINGER, SO_RCVBUF, SO_RCVTIMEO, SO_SNDBUF, SO_SNDTIMEO,
                    SOL_SOCKET)

from kit import (LOCAL, Trio, Word, case, child, connected, equal, echo, echoed, fails, free_port, listening, readable,
                 receive, seconds, sharing, tcp, true, until)

UNKNOWN = 9999
LISTEN, ESTABLISHED = 10, 1


def keeping(wanted):
    """Two functions: one sets the wanted options, (level, name) → value; the other asserts that they read back."""
    def prepare(sock):
        for (level, name), value in wanted.items():
            sock.setsockopt(level, name, value)
        return sock

    def kept(sock, what):
        for (level, name), value in wanted.items():
            equal(sock.getsockopt(level, name), value, f'option {level}/{name} {what}')

    return prepare, kept


def kept_by_both(prepare, kept):
    """Port, listener and client whose options were set first and read back after each step."""
    port = free_port()
    listener = prepare(tcp())
    listener.bind((LOCAL, port))
    kept(listener, 'after bind')
    listener.listen()
    kept(listener, 'after listen')
    client = prepare(tcp())
    client.connect((LOCAL, port))
    kept(client, 'after connect')
    return port, listener, client


@case
def opt_tcp_survive():
    """Options of TCP that were set before bind or connect read back after it."""
    wanted = {(IPPROTO_TCP, socket.TCP_NODELAY): 1, (SOL_SOCKET, SO_KEEPALIVE): 1,
              (IPPROTO_TCP, socket.TCP_KEEPIDLE): 33, (IPPROTO_TCP, socket.TCP_KEEPINTVL): 7,
              (IPPROTO_TCP, socket.TCP_KEEPCNT): 4, (IPPROTO_TCP, socket.TCP_USER_TIMEOUT): 5000}

    prepare, kept = keeping(wanted)
    port, _listener, client = kept_by_both(prepare, kept)
    kept(client.dup(), 'of a dup')
    bound = prepare(tcp())
    bound.bind((LOCAL, 0))
    bound.connect((LOCAL, port))
    kept(bound, 'after bind and connect')


@case
def opt_tcp_info():
    """TCP_INFO says LISTEN of a listener and ESTABLISHED of both ends."""
    trio = Trio()

    def state(sock):
        return sock.getsockopt(IPPROTO_TCP, socket.TCP_INFO, 104)[0]

    equal(state(trio.listener), LISTEN, 'the listener')
    equal(state(trio.client), ESTABLISHED, 'the client')
    equal(state(trio.accepted), ESTABLISHED, 'the accepted socket')


@case
def opt_tcp_info_states():
    """TCP_INFO follows a connection: CLOSE_WAIT once the peer has closed, FIN_WAIT after the own end, CLOSE after
    both, and after a reset. Its length is the kernel's, or the room given where that is less."""
    established, fin_wait1, fin_wait2, closed, close_wait, listen = 1, 4, 5, 7, 8, 10

    def state(sock):
        return sock.getsockopt(IPPROTO_TCP, socket.TCP_INFO, 1)[0]

    def becomes(sock, *states):
        until(f'state {states}', lambda: state(sock) in states)

    length = len(tcp().getsockopt(IPPROTO_TCP, socket.TCP_INFO, 1000))
    trio = Trio()
    for sock in (trio.listener, trio.client, trio.accepted):
        equal(len(sock.getsockopt(IPPROTO_TCP, socket.TCP_INFO, 1000)), length, 'length of TCP_INFO')
        for room in (1, 7, 104):
            equal(len(sock.getsockopt(IPPROTO_TCP, socket.TCP_INFO, room)), room, 'length of less room')
    equal((state(trio.listener), state(trio.client), state(trio.accepted)), (listen, established, established), 'states')
    trio.client.shutdown(socket.SHUT_WR)
    becomes(trio.client, fin_wait1, fin_wait2)
    becomes(trio.accepted, close_wait)
    trio.accepted.shutdown(socket.SHUT_WR)
    becomes(trio.client, closed)
    becomes(trio.accepted, closed)
    trio = Trio()
    trio.client.close()
    becomes(trio.accepted, close_wait)
    trio.accepted.shutdown(socket.SHUT_WR)
    becomes(trio.accepted, closed)
    trio = Trio()
    trio.client.sendall(b'request')
    trio.client.close()
    becomes(trio.accepted, close_wait)
    equal(receive(trio.accepted, 100), b'request', 'what came before the end')
    becomes(trio.accepted, close_wait)
    trio = Trio()
    trio.accepted.send(b'never read')
    readable(trio.client, 'the client')
    trio.client.close()
    becomes(trio.accepted, closed)
    trio = Trio()
    trio.accepted.shutdown(socket.SHUT_RD)
    equal((state(trio.client), state(trio.accepted)), (established, established), 'states after SHUT_RD')
    trio.listener.shutdown(socket.SHUT_RD)
    becomes(trio.listener, closed)
    bound = tcp()
    bound.bind((LOCAL, 0))
    equal(state(bound), closed, 'state of a bound socket')


@case
def opt_values_out_of_range():
    """What TCP refuses of a value, and how it rounds it, is the same on a listener and on both ends."""
    trio = Trio()
    values = [(socket.TCP_KEEPIDLE, (0, 1, 32767, 32768, -1)), (socket.TCP_KEEPINTVL, (0, 1, 32767, 32768)),
              (socket.TCP_KEEPCNT, (0, 1, 127, 128)), (socket.TCP_SYNCNT, (0, 1, 127, 128)),
              (socket.TCP_MAXSEG, (47, 87, 32768)), (socket.TCP_USER_TIMEOUT, (-1, 0, 5)),
              (socket.TCP_LINGER2, (-1, 5, 60, 121, 1000000)), (socket.TCP_DEFER_ACCEPT, (0, 1, 3, 5, 100)),
              (socket.TCP_NODELAY, (0, 1, 2, -5))]

    def tried(sock, name, value):
        try:
            sock.setsockopt(IPPROTO_TCP, name, value)
        except OSError as error:
            return errno.errorcode[error.errno]
        return sock.getsockopt(IPPROTO_TCP, name)

    for name, list_of in values:
        for value in list_of:
            want = tried(tcp(), name, value)
            for sock in (trio.listener, trio.client, trio.accepted):
                equal(tried(sock, name, value), want, f'option {name} with {value}')


@case
def opt_peer_unknown():
    """SO_PEERGROUPS and SO_PEERPIDFD say nothing of a TCP peer, and leave nothing open."""
    groups, pidfd = 59, 77
    trio = Trio()
    before = len(os.listdir('/proc/self/fd'))
    for name in (groups, pidfd):
        for sock in (trio.listener, trio.client, trio.accepted):
            fails(errno.ENODATA, f'option {name}', sock.getsockopt, SOL_SOCKET, name, 64)
    equal(len(os.listdir('/proc/self/fd')), before, 'open descriptors')


@case
def opt_transparent():
    """IP_FREEBIND and, for root, IP_TRANSPARENT are kept over bind and listen."""
    names = {socket.IP_FREEBIND if hasattr(socket, 'IP_FREEBIND') else 15}
    if os.geteuid() == 0:
        names.add(socket.IP_TRANSPARENT)

    def prepare(sock):
        for name in names:
            sock.setsockopt(IPPROTO_IP, name, 1)
        return sock

    trio = Trio(prepare=prepare)
    for name in names:
        equal(trio.listener.getsockopt(IPPROTO_IP, name), 1, f'option {name}')


@case
def opt_congestion():
    """The congestion control is one that the system has, and is kept over bind, connect and accept."""
    usual = tcp().getsockopt(IPPROTO_TCP, socket.TCP_CONGESTION, 16)
    fails(errno.ENOENT, 'an unknown one', tcp().setsockopt, IPPROTO_TCP, socket.TCP_CONGESTION, b'none-such')
    trio = Trio()
    for sock in (trio.listener, trio.client, trio.accepted):
        equal(sock.getsockopt(IPPROTO_TCP, socket.TCP_CONGESTION, 16), usual, 'the usual one')
        fails(errno.ENOENT, 'an unknown one', sock.setsockopt, IPPROTO_TCP, socket.TCP_CONGESTION, b'none-such')
        sock.setsockopt(IPPROTO_TCP, socket.TCP_CONGESTION, b'reno')
        equal(sock.getsockopt(IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b'\0'), b'reno', 'the one that was set')

    def reno(sock):
        sock.setsockopt(IPPROTO_TCP, socket.TCP_CONGESTION, b'reno')
        return sock

    trio = Trio(prepare=reno)
    for sock in (trio.listener, trio.accepted):
        equal(sock.getsockopt(IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b'\0'), b'reno', 'the one set before')


@case
def opt_socket_options_survive():
    """SO_RCVLOWAT and, for root, SO_MARK and SO_BUSY_POLL: kept over bind, listen and accept; SO_REUSEPORT set after
    bind reads back."""
    busy_poll = 46
    wanted = {socket.SO_RCVLOWAT: 5}
    if os.geteuid() == 0:
        wanted |= {socket.SO_MARK: 7, busy_poll: 50}

    def prepare(sock):
        for name, value in wanted.items():
            sock.setsockopt(SOL_SOCKET, name, value)
        return sock

    trio = Trio(prepare=prepare)
    for name, value in wanted.items():
        equal(trio.listener.getsockopt(SOL_SOCKET, name), value, f'option {name} of the listener')
        equal(trio.accepted.getsockopt(SOL_SOCKET, name), value, f'option {name} of the connection')
    for sock in (trio.listener, trio.client):
        equal(sock.getsockopt(SOL_SOCKET, socket.SO_REUSEPORT), 0, 'SO_REUSEPORT')
        sock.setsockopt(SOL_SOCKET, socket.SO_REUSEPORT, 1)
        equal(sock.getsockopt(SOL_SOCKET, socket.SO_REUSEPORT), 1, 'SO_REUSEPORT after bind')


@case
def opt_maxseg():
    """TCP_MAXSEG is a positive number on both ends."""
    trio = Trio()
    for sock in (trio.client, trio.accepted):
        true(sock.getsockopt(IPPROTO_TCP, socket.TCP_MAXSEG) > 0, 'TCP_MAXSEG')


@case
def opt_buffers():
    """SO_RCVBUF and SO_SNDBUF that were set before bind or connect are there after it (doubled, socket(7))."""
    port = free_port()

    def prepare(sock):
        sock.setsockopt(SOL_SOCKET, SO_RCVBUF, 65536)
        sock.setsockopt(SOL_SOCKET, SO_SNDBUF, 50000)
        return kept(sock, 'when set')

    def kept(sock, what):
        equal(sock.getsockopt(SOL_SOCKET, SO_RCVBUF), 131072, f'SO_RCVBUF {what}')
        equal(sock.getsockopt(SOL_SOCKET, SO_SNDBUF), 100000, f'SO_SNDBUF {what}')
        return sock

    listener = prepare(tcp())
    listener.bind((LOCAL, port))
    kept(listener, 'after bind')
    listener.listen()
    kept(listener, 'after listen')
    client = prepare(tcp())
    client.connect((LOCAL, port))
    kept(client, 'after connect')


@case
def opt_linger_readback():
    """SO_LINGER that was set before connect or bind reads back after it."""
    port = free_port()
    linger = struct.pack('ii', 1, 7)
    listener = tcp()
    listener.setsockopt(SOL_SOCKET, SO_LINGER, linger)
    listener.bind((LOCAL, port))
    listener.listen()
    equal(listener.getsockopt(SOL_SOCKET, SO_LINGER, 8), linger, 'after bind and listen')
    client = tcp()
    client.setsockopt(SOL_SOCKET, SO_LINGER, linger)
    client.connect((LOCAL, port))
    equal(client.getsockopt(SOL_SOCKET, SO_LINGER, 8), linger, 'after connect')


@case
def opt_rcvtimeo_accept():
    """SO_RCVTIMEO that was set before bind makes accept give up."""
    sock = tcp()
    sock.setsockopt(SOL_SOCKET, SO_RCVTIMEO, seconds(0.2))
    sock.bind((LOCAL, free_port()))
    sock.listen()
    before = time.monotonic()
    fails(errno.EAGAIN, 'accept with nobody there', sock.accept)
    took = time.monotonic() - before
    true(0.15 <= took < 3, f'accept gave up after {took:.2f} s, not 0.2')


@case
def opt_sndtimeo():
    """SO_SNDTIMEO that was set before connect makes a send into a full connection give up."""
    port = free_port()
    listener = listening(LOCAL, port)
    client = tcp()
    client.setsockopt(SOL_SOCKET, SO_SNDTIMEO, seconds(0.2))
    client.connect((LOCAL, port))
    _accepted, _ = listener.accept()
    sent = 0
    while True:
        before = time.monotonic()
        try:
            sent += client.send(bytes(1 << 20))
        except OSError as error:
            equal(error.errno, errno.EAGAIN, 'how send gave up')
            break
        true(sent < 1 << 28, 'the connection never fills')
    took = time.monotonic() - before
    true(0.15 <= took < 3, f'send gave up after {took:.2f} s, not 0.2')
    true(sent > 0, 'bytes sent before')


@case
def opt_ip_options():
    """IP_TOS and IP_TTL set and read back on both ends of a connection."""
    trio = Trio()
    for sock in (trio.client, trio.accepted):
        sock.setsockopt(IPPROTO_IP, socket.IP_TOS, 0x10)
        sock.setsockopt(IPPROTO_IP, socket.IP_TTL, 42)
        equal(sock.getsockopt(IPPROTO_IP, socket.IP_TOS), 0x10, 'IP_TOS')
        equal(sock.getsockopt(IPPROTO_IP, socket.IP_TTL), 42, 'IP_TTL')


@case
def opt_unknown():
    """An option that TCP does not know fails, set or read, before bind and after."""
    sock = tcp()

    def unknown(sock, what):
        fails(errno.ENOPROTOOPT, f'setsockopt {what}', sock.setsockopt, IPPROTO_TCP, UNKNOWN, 1)
        fails(errno.ENOPROTOOPT, f'getsockopt {what}', sock.getsockopt, IPPROTO_TCP, UNKNOWN)

    unknown(sock, 'on a fresh socket')
    sock.bind((LOCAL, free_port()))
    unknown(sock, 'after bind')
    sock.listen()
    unknown(sock, 'after listen')
    trio = Trio()
    unknown(trio.client, 'on a client')
    unknown(trio.accepted, 'on an accepted socket')


@case
def opt_reuseport_one_goes():
    """When one of two processes that share a port goes, the other serves on."""
    port = free_port()
    word = Word()

    def server():
        sock = listening(LOCAL, port, prepare=sharing)
        word.say()
        while True:
            connection, _ = sock.accept()
            echo(connection)
            connection.close()

    pids = []
    for _ in range(2):
        pids.append(child(server))
        word.hear('a server')
    for _ in range(10):
        echoed(LOCAL, port)
    for gone in pids:
        os.kill(gone, 9)
        os.waitpid(gone, 0)
        if gone == pids[0]:
            for _ in range(20):
                echoed(LOCAL, port)
    fails(errno.ECONNREFUSED, 'connect when both are gone', connected, LOCAL, port)


@case
def opt_reuseport_spreads():
    """SO_REUSEPORT spreads connections over the listeners."""
    port = free_port()
    listeners = [listening(LOCAL, port, prepare=sharing, backlog=256) for _ in range(2)]
    clients = [connected(LOCAL, port) for _ in range(200)]
    counts = []
    for listener in listeners:
        listener.setblocking(False)
        count = 0
        try:
            while True:
                listener.accept()[0].close()
                count += 1
        except BlockingIOError:
            counts.append(count)
    equal(sum(counts), len(clients), 'clients accepted')
    true(min(counts) >= 20, f'200 clients were spread {counts}')


@case
def opt_reuseport_mismatch():
    """A port is shared only by sockets that all say so before bind."""
    port = free_port()
    _first = listening(LOCAL, port, prepare=sharing)
    fails(errno.EADDRINUSE, 'bind without SO_REUSEPORT after one with it', tcp().bind, (LOCAL, port))
    port = free_port()
    _second = listening(LOCAL, port)
    fails(errno.EADDRINUSE, 'bind with SO_REUSEPORT after one without', sharing(tcp()).bind, (LOCAL, port))


@case
def opt_peer_credentials():
    """SO_PEERCRED of TCP names nobody: a server must not take its client for a local user."""
    trio = Trio()
    for what in ('listener', 'accepted', 'client'):
        value = getattr(trio, what).getsockopt(SOL_SOCKET, socket.SO_PEERCRED, 12)
        equal(struct.unpack('iii', value), (0, -1, -1), f'process, user and group of the {what}')


@case
def opt_rare_survive():
    """Options that few programs set before bind or connect read back after it."""
    wanted = {(SOL_SOCKET, socket.SO_BROADCAST): 1, (SOL_SOCKET, 29): 1, (SOL_SOCKET, socket.SO_PRIORITY): 3,
              (SOL_SOCKET, socket.SO_REUSEPORT): 1, (IPPROTO_TCP, socket.TCP_LINGER2): 7}

    prepare, kept = keeping(wanted)
    _, listener, _client = kept_by_both(prepare, kept)
    accepted, _ = listener.accept()
    equal(accepted.getsockopt(IPPROTO_TCP, socket.TCP_LINGER2), 7, 'TCP_LINGER2 of what it accepts')


@case
def opt_peer_name():
    """SO_PEERNAME answers as getpeername does, for as many bytes as are asked for."""
    name = 28
    trio = Trio()
    for sock, (host, port) in ((trio.client, trio.client.getpeername()), (trio.accepted, trio.peer)):
        whole = struct.pack('=H', socket.AF_INET) + struct.pack('!H', port) + socket.inet_aton(host) + bytes(8)
        for length in (16, 8, 2):
            equal(sock.getsockopt(SOL_SOCKET, name, length), whole[:length], f'{length} bytes')
        for length in (17, 28, 110):
            fails(errno.EINVAL, f'{length} bytes', sock.getsockopt, SOL_SOCKET, name, length)
    fails(errno.ENOTCONN, 'a listener', trio.listener.getsockopt, SOL_SOCKET, name, 16)
    fails(errno.ENOTCONN, 'a new socket', tcp().getsockopt, SOL_SOCKET, name, 16)


@case
def opt_tcp_info_queue():
    """TCP_INFO of a listener says how many connections wait, and how many may."""
    port = free_port()
    listener = listening(LOCAL, port, backlog=7)

    def queue():
        info = listener.getsockopt(IPPROTO_TCP, socket.TCP_INFO, 104)
        return struct.unpack_from('=II', info, 24)
    equal(queue(), (0, 7), 'nobody waits')
    clients = [connected(LOCAL, port) for _ in range(3)]
    equal(queue(), (3, 7), 'three wait')
    listener.accept()
    equal(queue(), (2, 7), 'one is accepted')
    true(clients, 'they are still there')
    listener.listen(9)
    equal(queue(), (2, 9), 'another backlog')


@case
def opt_tcp_info_after_reset():
    """After a reset was read, TCP_INFO says CLOSE, and a send EPIPE."""
    trio = Trio()
    trio.client.sendall(b'unread')
    readable(trio.accepted, 'the input')
    trio.accepted.close()
    fails(errno.ECONNRESET, 'recv', trio.client.recv, 1)
    equal(trio.client.getsockopt(IPPROTO_TCP, socket.TCP_INFO, 104)[0], 7, 'the state')
    fails(errno.EPIPE, 'send', trio.client.send, b'x')
