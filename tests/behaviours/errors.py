"""Cases on failures: each call that TCP refuses, with the error number that it gives."""
import errno
from socket import SHUT_RD, SHUT_RDWR, SHUT_WR

from kit import (ANY, LOCAL, Trio, case, connected, conversation, equal, fails, free_port, listening, served,
                 tcp)


@case
def err_wildcard_vs_specific():
    """0.0.0.0:P after a listener on 127.0.0.1:P, and the reverse, fail; the first goes on serving."""
    for first, second in ((LOCAL, ANY), (ANY, LOCAL)):
        port = free_port()
        listener = listening(first, port)
        fails(errno.EADDRINUSE, f'bind of {second} after {first}', tcp().bind, (second, port))
        served(listener, LOCAL, port)


@case
def err_bind_twice():
    """bind on a bound socket fails and leaves its name as it was."""
    port = free_port()
    sock = tcp()
    sock.bind((LOCAL, port))
    fails(errno.EINVAL, 'second bind, another port', sock.bind, (LOCAL, free_port()))
    fails(errno.EINVAL, 'second bind, the same port', sock.bind, (LOCAL, port))
    equal(sock.getsockname(), (LOCAL, port), 'name after the second bind')
    sock.listen()
    fails(errno.EINVAL, 'bind while listening', sock.bind, (LOCAL, free_port()))
    served(sock, LOCAL, port)


@case
def err_bind_foreign():
    """Binding an address that this host does not have fails; the socket can still be bound."""
    port = free_port()
    sock = tcp()
    fails(errno.EADDRNOTAVAIL, 'bind of 192.0.2.1', sock.bind, ('192.0.2.1', port))
    sock.bind((LOCAL, port))
    equal(sock.getsockname(), (LOCAL, port), 'name')


@case
def err_refused_not_listening():
    """A port that is bound but does not listen refuses; once it listens it serves."""
    port = free_port()
    sock = tcp()
    sock.bind((LOCAL, port))
    fails(errno.ECONNREFUSED, 'connect before listen', connected, LOCAL, port)
    sock.listen()
    served(sock, LOCAL, port)


@case
def err_isconn():
    """connect on a connected socket fails, for either end, and the connection goes on."""
    trio = Trio()
    fails(errno.EISCONN, 'connect of the client', trio.client.connect, (LOCAL, trio.port))
    fails(errno.EISCONN, 'connect of the accepted socket', trio.accepted.connect, (LOCAL, trio.port))
    conversation(trio.client, trio.accepted)


@case
def err_retry_connect_same_socket():
    """A socket whose connect was refused can be connected later, and then works."""
    port = free_port()
    client = tcp()
    for _ in range(2):
        fails(errno.ECONNREFUSED, 'connect to a closed port', client.connect, (LOCAL, port))
    listener = listening(LOCAL, port)
    client.connect((LOCAL, port))
    accepted, peer = listener.accept()
    equal(peer, client.getsockname(), "accept's peer")
    conversation(client, accepted)


@case
def err_accept_eagain():
    """accept without waiting, while nobody is there, fails with EAGAIN; again after the last was taken."""
    port = free_port()
    listener = listening(LOCAL, port)
    listener.setblocking(False)
    fails(errno.EAGAIN, 'accept before anybody', listener.accept)
    client = connected(LOCAL, port)
    listener.accept()
    fails(errno.EAGAIN, 'accept after the only one', listener.accept)
    client.close()


@case
def err_accept_not_listening():
    """accept on a socket that does not listen fails: fresh, bound, and connected."""
    sock = tcp()
    fails(errno.EINVAL, 'accept on a fresh socket', sock.accept)
    sock.bind((LOCAL, free_port()))
    fails(errno.EINVAL, 'accept on a bound socket', sock.accept)
    trio = Trio()
    fails(errno.EINVAL, 'accept on a client', trio.client.accept)
    fails(errno.EINVAL, 'accept on an accepted socket', trio.accepted.accept)


@case
def err_recv_unconnected():
    """recv on a socket without a connection fails: fresh, bound, and listening."""
    sock = tcp()
    fails(errno.ENOTCONN, 'recv on a fresh socket', sock.recv, 1)
    sock.bind((LOCAL, free_port()))
    fails(errno.ENOTCONN, 'recv on a bound socket', sock.recv, 1)
    sock.listen()
    fails(errno.ENOTCONN, 'recv on a listener', sock.recv, 1)


@case
def err_shutdown_unconnected():
    """shutdown on a socket without a connection fails: fresh and bound, in every direction."""
    sock = tcp()
    for how in (SHUT_RD, SHUT_WR, SHUT_RDWR):
        fails(errno.ENOTCONN, 'shutdown on a fresh socket', sock.shutdown, how)
    sock.bind((LOCAL, free_port()))
    for how in (SHUT_RD, SHUT_WR, SHUT_RDWR):
        fails(errno.ENOTCONN, 'shutdown on a bound socket', sock.shutdown, how)


@case
def err_send_unconnected():
    """send, sendto and sendmsg on a socket that is bound or listens fail with EPIPE."""
    bound = tcp()
    bound.bind((LOCAL, 0))
    for sock in (bound, listening(LOCAL, free_port())):
        fails(errno.EPIPE, 'send', sock.send, b'x')
        fails(errno.EPIPE, 'sendmsg', sock.sendmsg, [b'x'])
        fails(errno.ENOTCONN, 'recv', sock.recv, 1)
