"""Cases on data that is not read yet: how much of it there is room for, and what the options say of that."""
import errno
import http.client
import http.server
import socket
import socketserver
from socket import SO_RCVBUF, SO_SNDBUF, SOL_SOCKET

from kit import (LOCAL, PATIENCE, Trio, case, connected, equal, fails, free_port, joined, readable, receive, tcp,
                 thread, true)

LINES = 1000
LARGE = 2 << 20


def ahead(sock, piece, count):
    """Sends `count` pieces that nobody reads."""
    sock.settimeout(PATIENCE)
    for number in range(count):
        try:
            sock.sendall(piece)
        except TimeoutError:
            raise AssertionError(f'no room after {number} of {count} pieces of {len(piece)} bytes') from None


@case
def room_short_lines():
    """A thousand short lines find room before the first is read, in both directions."""
    trio = Trio()
    for sender, receiver in ((trio.client, trio.accepted), (trio.accepted, trio.client)):
        ahead(sender, b'a short line\n', LINES)
        equal(receive(receiver, 13 * LINES), b'a short line\n' * LINES, 'the lines')


@case
def room_large():
    """Two megabytes find room before the first byte is read, in both directions."""
    trio = Trio()
    for sender, receiver in ((trio.client, trio.accepted), (trio.accepted, trio.client)):
        ahead(sender, bytes(65536), LARGE >> 16)
        equal(len(receive(receiver, LARGE)), LARGE, 'bytes')


@case
def room_lines_before_reading():
    """A client that writes all its lines before it reads the echo of the first."""
    trio = Trio()
    server = thread(lambda: [trio.accepted.sendall(line) for line in trio.accepted.makefile('rb')])
    ahead(trio.client, b'x\n', LINES)
    trio.client.shutdown(socket.SHUT_WR)
    equal(receive(trio.client, 2 * LINES), b'x\n' * LINES, 'the echo')
    joined(server, 'the server')


@case
def room_answer_before_the_body():
    """A server that answers 413 without reading the body: the client gets the answer."""
    class Refuses(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.send_error(413)

        def log_message(self, *_):
            pass

    class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
        daemon_threads = True

    server = Server((LOCAL, free_port()), Refuses)
    thread(server.serve_forever)
    for _ in range(5):
        connection = http.client.HTTPConnection(LOCAL, server.server_port, timeout=PATIENCE)
        connection.request('POST', '/', bytes(300_000))
        equal(connection.getresponse().status, 413, 'status')
        connection.close()


def takes(trio, calls):
    """The first data for a peer that has closed is taken, nothing is sent without data, and then it fails."""
    for call in calls:
        client = connected(LOCAL, trio.port)
        accepted, _ = trio.listener.accept()
        accepted.close()
        readable(client, 'the end')
        equal(call(client, b''), 0, 'a send of nothing')
        equal(call(client, b'late'), 4, 'the first send')
        fails((errno.EPIPE, errno.ECONNRESET), 'the second send', lambda: [call(client, b'later') for _ in range(100)])
        fails(errno.EPIPE, 'the last send', call, client, b'too late')
        equal(client.recv(10), b'', 'the end of the stream')


@case
def room_late_send():
    """send, sendto, sendmsg: data for a peer that has closed."""
    takes(Trio(), [lambda sock, data: sock.send(data), lambda sock, data: sock.sendto(data, (LOCAL, 1)),
                   lambda sock, data: sock.sendmsg([data[:2], data[2:]])])


@case
def room_late_send_after_reset():
    """A peer that closes with data unread resets: ECONNRESET once, then EPIPE."""
    trio = Trio()
    trio.client.sendall(b'never read')
    readable(trio.accepted, 'the request')
    trio.accepted.close()
    readable(trio.client, 'the reset')
    fails(errno.ECONNRESET, 'the first send', trio.client.send, b'x')
    fails(errno.EPIPE, 'the second send', trio.client.send, b'x')


@case
def room_peer_shut_for_reading():
    """A peer that has shut down reading goes on taking data, and throws it away."""
    trio = Trio()
    trio.accepted.shutdown(socket.SHUT_RD)
    for _ in range(10):
        equal(trio.client.send(b'thrown away'), 11, 'a send')
    trio.accepted.sendall(b'answer')
    equal(receive(trio.client, 6), b'answer', 'the other direction')
    trio.client.shutdown(socket.SHUT_WR)
    fails(errno.EPIPE, 'a send after the own end', trio.client.send, b'x')


@case
def room_sizes():
    """SO_SNDBUF and SO_RCVBUF say what TCP says, until they are set; then what was set, doubled."""
    fresh = tcp()

    def sizes(sock):
        return sock.getsockopt(SOL_SOCKET, SO_SNDBUF), sock.getsockopt(SOL_SOCKET, SO_RCVBUF)

    trio = Trio()
    equal(sizes(trio.listener), sizes(fresh), 'sizes of a listener')
    for sock in (trio.client, trio.accepted):
        equal(sizes(sock)[1], sizes(fresh)[1], 'SO_RCVBUF of a connection')
        true(sizes(sock)[0] > 1 << 20, 'SO_SNDBUF of a connection has grown')
        sock.setsockopt(SOL_SOCKET, SO_SNDBUF, 30_000)
        equal(sizes(sock), (60_000, sizes(fresh)[1]), 'sizes after SO_SNDBUF was set')
        sock.setsockopt(SOL_SOCKET, SO_RCVBUF, 40_000)
        equal(sizes(sock), (60_000, 80_000), 'sizes after both were set')

    def only_receive(sock):
        sock.setsockopt(SOL_SOCKET, SO_RCVBUF, 50_000)
        return sock

    trio = Trio(prepare=only_receive)
    equal(sizes(trio.listener), (sizes(fresh)[0], 100_000), 'sizes of a listener with SO_RCVBUF')
    equal(sizes(trio.accepted)[1], 100_000, 'SO_RCVBUF that a connection has of its listener')
    ahead(trio.accepted, b'x', LINES)

    def small(sock):
        sock.setsockopt(SOL_SOCKET, SO_SNDBUF, 20_000)
        return sock

    trio = Trio(prepare=small)
    equal(sizes(trio.accepted)[0], 40_000, 'SO_SNDBUF that a connection has of its listener')
    client = small(tcp())
    client.connect((LOCAL, trio.port))
    equal(sizes(client)[0], 40_000, 'SO_SNDBUF that was set before connect')
