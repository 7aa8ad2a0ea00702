"""Cases on the stream: how bytes, their end and resets arrive."""
import array
import errno
import fcntl
import os
import select
import socket
import termios
import time
from socket import MSG_OOB, MSG_WAITALL, SHUT_RD, SHUT_WR

from kit import (LOCAL, Trio, case, conversation, equal, fails, free_port, joined, listening, readable,
                 receive, reset_on_close, tcp, thread, true, until)


@case
def data_fastopen():
    """sendto and sendmsg with MSG_FASTOPEN connect and send."""
    port = free_port()
    listener = listening(LOCAL, port)
    for send in (lambda sock, to: sock.sendto(b'first', socket.MSG_FASTOPEN, to),
                 lambda sock, to: sock.sendmsg([b'fi', b'rst'], [], socket.MSG_FASTOPEN, to)):
        client = tcp()
        equal(send(client, (LOCAL, port)), 5, 'bytes sent')
        accepted, peer = listener.accept()
        equal(peer, client.getsockname(), 'the client')
        equal(receive(accepted, 5), b'first', 'what came')


@case
def data_shut_rd():
    """After shutdown(SHUT_RD) recv returns the end of the stream, and the other direction goes on."""
    trio = Trio()
    for sock in (trio.accepted, trio.client):
        sock.settimeout(2)
    trio.accepted.shutdown(SHUT_RD)
    equal(trio.accepted.recv(10), b'', 'recv after shutdown')
    trio.accepted.sendall(b'still here')
    equal(receive(trio.client, 10), b'still here', 'the other direction')


@case
def data_linger0_reset():
    """SO_LINGER of 0 seconds and close reset the connection: the peer's recv fails."""
    trio = Trio()
    trio.client.sendall(b'last words')
    equal(receive(trio.accepted, 10), b'last words', 'what came before')
    reset_on_close(trio.client).close()
    readable(trio.accepted, 'the peer learns of it')
    fails(errno.ECONNRESET, 'recv after the reset', trio.accepted.recv, 1)


@case
def data_unread_reset():
    """Closing a socket with bytes unread resets the connection."""
    trio = Trio()
    trio.client.sendall(b'never read')
    readable(trio.accepted, 'the bytes')
    trio.accepted.close()
    readable(trio.client, 'the peer learns of it')
    fails(errno.ECONNRESET, 'recv after the reset', trio.client.recv, 1)


@case
def data_waitall():
    """MSG_WAITALL waits for every byte asked for, and gives fewer only at the end of the stream."""
    trio = Trio()
    trio.accepted.settimeout(None)
    trio.client.sendall(b'abc')

    def rest():
        for part in (b'def', b'ghi', b'j'):
            time.sleep(0.02)
            trio.client.sendall(part)
        trio.client.sendall(b'tail')
        trio.client.shutdown(SHUT_WR)

    worker = thread(rest)
    equal(trio.accepted.recv(10, MSG_WAITALL), b'abcdefghij', 'ten bytes in four parts')
    equal(trio.accepted.recv(10, MSG_WAITALL), b'tail', 'the end')
    joined(worker, 'the sender')


def inet_or_none(address, what):
    good = address is None or (isinstance(address, tuple) and len(address) == 2 and address[0] == LOCAL)
    true(good, f'{what}: address {address!r}')


@case
def data_recvfrom_stream():
    """recvfrom on a stream gives no address, or one of TCP; never a path."""
    trio = Trio()
    trio.client.sendall(b'up')
    data, address = trio.accepted.recvfrom(10)
    equal(data, b'up', 'at the server')
    inet_or_none(address, 'at the server')
    trio.accepted.sendall(b'down')
    buffer = bytearray(10)
    count, address = trio.client.recvfrom_into(buffer)
    equal(bytes(buffer[:count]), b'down', 'at the client')
    inet_or_none(address, 'at the client')
    trio.client.close()
    data, address = trio.accepted.recvfrom(10)
    equal(data, b'', 'the end')
    inet_or_none(address, 'at the end')


@case
def data_sendto_stream():
    """sendto with an address on a connected stream ignores the address."""
    trio = Trio()
    equal(trio.client.sendto(b'one', (LOCAL, free_port())), 3, 'bytes sent to a port where nobody is')
    equal(trio.client.sendto(b'two', (LOCAL, trio.port)), 3, "bytes sent to the peer's own address")
    equal(receive(trio.accepted, 6), b'onetwo', 'at the server')
    equal(trio.accepted.sendmsg([b'three'], [], 0, (LOCAL, free_port())), 5, 'bytes by sendmsg')
    equal(receive(trio.client, 5), b'three', 'at the client')


@case
def data_splice():
    """splice carries bytes from one connection through a pipe into another."""
    first, second = Trio(), Trio()
    reader, writer = os.pipe()
    message = os.urandom(20000)
    first.client.sendall(message)
    left = len(message)
    while left:
        count = os.splice(first.accepted.fileno(), writer, left)
        true(count > 0, f'splice from the socket gave {count}')
        moved = 0
        while moved < count:
            moved += os.splice(reader, second.client.fileno(), count - moved)
        left -= count
    equal(receive(second.accepted, len(message)), message, 'what came out')


@case
def data_siocoutq():
    """SIOCOUTQ is 0 once the peer has everything."""
    trio = Trio()

    def unsent():
        answer = array.array('i', [-1])
        fcntl.ioctl(trio.client, termios.TIOCOUTQ, answer)
        return answer[0]

    equal(unsent(), 0, 'before anything is sent')
    trio.client.sendall(b'x' * 10000)
    true(unsent() >= 0, 'while the bytes are on their way')
    equal(len(receive(trio.accepted, 10000)), 10000, 'bytes read')
    until('SIOCOUTQ is 0', lambda: unsent() == 0)


@case
def data_oob():
    """One urgent byte is received out of band, and stays out of the stream."""
    trio = Trio()
    trio.client.sendall(b'before')
    equal(trio.client.send(b'!', MSG_OOB), 1, 'urgent bytes sent')
    trio.client.sendall(b'after')
    true(select.select([], [], [trio.accepted], 2)[2], 'select reports an exceptional condition')
    equal(trio.accepted.recv(1, MSG_OOB), b'!', 'the urgent byte')
    equal(receive(trio.accepted, 11), b'beforeafter', 'the stream')
    fails(errno.EINVAL, 'a second urgent byte', trio.accepted.recv, 1, MSG_OOB)
    conversation(trio.client, trio.accepted)


MSG_ERRQUEUE = 0x2000


@case
def data_error_queue():
    """MSG_ERRQUEUE reads errors, never the stream: EAGAIN at once where there are none, data waiting or not."""
    trio = Trio()
    calls = (lambda sock: sock.recv(9, MSG_ERRQUEUE), lambda sock: sock.recvfrom(9, MSG_ERRQUEUE),
             lambda sock: sock.recvmsg(9, 99, MSG_ERRQUEUE))
    for sock in (trio.accepted, trio.client):
        for call in calls:
            fails(errno.EAGAIN, 'no errors, no data', call, sock)
    trio.client.sendall(b'data')
    readable(trio.accepted, 'the bytes')
    for call in calls:
        fails(errno.EAGAIN, 'no errors', call, trio.accepted)
    equal(receive(trio.accepted, 4), b'data', 'what the stream has')


@case
def data_long_send_to_closed():
    """Of data for a peer that has closed, TCP takes what its buffer holds; the rest fails. So no upload to a server that
    has gone looks complete."""
    upload = bytes(16 << 20)

    def closed(blocking):
        trio = Trio()
        trio.accepted.close()
        ended = select.poll()
        ended.register(trio.client, select.POLLRDHUP)
        true(ended.poll(5000), 'the end of the peer')
        trio.client.setblocking(blocking)
        return trio.client

    fails(errno.EPIPE, 'sendall to a closed peer', closed(True).sendall, upload)
    for name, send in [('send', lambda sock: sock.send(upload)), ('sendmsg', lambda sock: sock.sendmsg([upload])),
                       ('sendto', lambda sock: sock.sendto(upload, (LOCAL, 1)))]:
        for blocking in (True, False):
            client = closed(blocking)
            sent = send(client)
            true(0 < sent < len(upload), f'{name}, blocking {blocking}: took {sent} of {len(upload)} bytes')
            until(f'{name}, blocking {blocking}: the next fails', lambda: refused(client))
    client = closed(True)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    true(client.send(upload) < 1 << 20, 'a small buffer holds little')


def refused(sock):
    try:
        sock.send(b'x')
    except BrokenPipeError:
        return True
    return False
