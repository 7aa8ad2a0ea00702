"""Cases on the life of listeners: backlog, races for a port, changed users."""
import errno
import os
import resource
import select
import signal
import socket
import threading
import time
from socket import SO_ERROR, SOL_SOCKET

from kit import (LOCAL, NOBODY, PATIENCE, Word, case, child, connected, conversation, echo, echoed, ended_well,
                 equal, fails, free_port, joined, listening, readable, reusable, served, tcp, thread, true)


@case
def life_unaccepted_reset():
    """Closing the listener resets a connection that was never accepted."""
    port = free_port()
    listener = listening(LOCAL, port)
    quiet, talkative = connected(LOCAL, port), connected(LOCAL, port)
    talkative.sendall(b'is anybody there')
    listener.close()
    for client in (quiet, talkative):
        readable(client, 'the client learns of it')
        fails(errno.ECONNRESET, 'recv', client.recv, 1)


@case
def life_listens_again_when_busy():
    """Listeners that are some time old are shut down and listen again, on a busy machine: each is reached."""
    def spins():
        while True:
            pass
    busy = [child(spins) for _ in range(os.cpu_count() or 1)]
    listeners = [(port, listening(LOCAL, port)) for port in (free_port() for _ in range(40))]
    # The age is the point: names that are younger than a quarter of a second are known to nobody yet.
    time.sleep(0.3)
    try:
        for port, listener in listeners:
            listener.shutdown(socket.SHUT_RD)
            listener.listen(5)
            client = connected(LOCAL, port)
            accepted, peer = listener.accept()
            equal(peer, client.getsockname(), 'the peer')
            accepted.close()
            client.close()
    finally:
        for pid in busy:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


@case
def life_shutdown_listener():
    """A listener that is shut down for reading refuses and keeps its port; it can listen again."""
    port = free_port()
    listener = listening(LOCAL, port)
    waiter = thread(fails, errno.EINVAL, 'the accept that waits', listener.accept)
    # Early or late, it ends with the same errno.
    time.sleep(0.1)
    listener.shutdown(socket.SHUT_WR)
    equal(listener.getsockopt(SOL_SOCKET, socket.SO_ACCEPTCONN), 1, 'SO_ACCEPTCONN after SHUT_WR')
    listener.shutdown(socket.SHUT_RD)
    joined(waiter, 'the accept that waits')
    equal(listener.getsockopt(SOL_SOCKET, socket.SO_ACCEPTCONN), 0, 'SO_ACCEPTCONN after SHUT_RD')
    fails(errno.EINVAL, 'accept', listener.accept)
    fails(errno.ECONNREFUSED, 'connect', tcp().connect, (LOCAL, port))
    fails(errno.EADDRINUSE, 'bind by another', tcp().bind, (LOCAL, port))
    equal(listener.getsockname(), (LOCAL, port), 'the name')
    listener.listen(5)
    client = connected(LOCAL, port)
    served_client, peer = listener.accept()
    equal(peer, client.getsockname(), 'the peer after the second listen')
    served_client.sendall(b'again')
    equal(client.recv(5), b'again', 'what the client read')
    listener.shutdown(socket.SHUT_RDWR)
    fails(errno.ECONNREFUSED, 'connect after SHUT_RDWR', tcp().connect, (LOCAL, port))


@case
def life_small_backlog():
    """Connects without waiting beyond the backlog are in progress; all are served in the end."""
    port = free_port()
    listener = listening(LOCAL, port, backlog=1)
    clients = []
    for number in range(4):
        client = tcp()
        client.setblocking(False)
        code = client.connect_ex((LOCAL, port))
        true(code in (0, errno.EINPROGRESS), f'connect {number}: {errno.errorcode.get(code, code)}')
        clients.append(client)
    for number, client in enumerate(clients):
        equal(client.getsockopt(SOL_SOCKET, SO_ERROR), 0, f'SO_ERROR of connect {number}')
    # The kernel tries again after 1, 2 and 4 s where a connection found no room.
    listener.settimeout(9)
    peers = {listener.accept()[1] for _ in clients}
    equal(peers, {client.getsockname() for client in clients}, 'the clients served')
    for number, client in enumerate(clients):
        equal(client.getsockopt(SOL_SOCKET, SO_ERROR), 0, f'SO_ERROR of connect {number} at the end')
        equal(client.getpeername(), (LOCAL, port), f'peer of client {number}')


@case
def life_listen_twice():
    """listen may be called again to change the backlog."""
    port = free_port()
    listener = listening(LOCAL, port, backlog=1)
    first = connected(LOCAL, port)
    listener.listen(40)
    clients = [first] + [connected(LOCAL, port) for _ in range(30)]
    peers = {listener.accept()[1] for _ in clients}
    equal(peers, {client.getsockname() for client in clients}, 'the clients served')
    listener.listen(1)
    served(listener, LOCAL, port)


@case
def life_bind_race():
    """Of eight processes that race to bind and listen on a port, exactly one wins, and it serves."""
    for prepare in (lambda sock: sock, reusable) * 3:
        port = free_port()
        start_reader, start_writer = os.pipe()
        stop_reader, stop_writer = os.pipe()
        result_reader, result_writer = os.pipe()

        def race():
            os.close(start_writer)
            os.close(stop_writer)
            sock = prepare(tcp())
            os.read(start_reader, 1)
            try:
                sock.bind((LOCAL, port))
                sock.listen()
            except OSError as error:
                os.write(result_writer, b'lost\n' if error.errno == errno.EADDRINUSE else b'broken\n')
                return
            os.write(result_writer, b'won\n')
            connection, _ = sock.accept()
            echo(connection)
            os.read(stop_reader, 1)

        pids = [child(race) for _ in range(8)]
        os.close(result_writer)
        os.close(start_writer)
        with os.fdopen(result_reader) as lines:
            results = sorted(lines.readline().strip() for _ in pids)
        equal(results, ['lost'] * 7 + ['won'], 'how the eight fared')
        echoed(LOCAL, port)
        os.close(stop_writer)
        for pid in pids:
            ended_well(pid)


def become_nobody():
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


@case(root=True)
def life_other_uid_connects():
    """Root binds with umask 077; a client of another user connects all the same."""
    os.umask(0o077)
    for host in (LOCAL, '0.0.0.0'):
        port = free_port()
        listener = listening(host, port)

        def other():
            become_nobody()
            with connected(LOCAL, port) as client:
                client.settimeout(PATIENCE)
                client.sendall(b'question')
                equal(client.recv(64), b'answer', 'the answer')

        pid = child(other)
        readable(listener, 'the other user')
        connection, peer = listener.accept()
        equal(peer[0], LOCAL, "accept's peer")
        equal(connection.recv(64), b'question', 'the question')
        connection.sendall(b'answer')
        ended_well(pid)


@case(root=True)
def life_drop_privileges():
    """A server that gives up root after bind serves on, and its port is free when it is gone."""
    port = free_port()
    word = Word()

    def server():
        sock = reusable(tcp())
        sock.bind((LOCAL, port))
        become_nobody()
        sock.listen()
        equal(sock.getsockname(), (LOCAL, port), 'name after the change')
        word.say()
        for _ in range(3):
            connection, peer = sock.accept()
            equal(peer[0], LOCAL, "accept's peer")
            echo(connection)
            connection.close()

    pid = child(server)
    word.hear('the server')
    for _ in range(3):
        echoed(LOCAL, port)
    ended_well(pid, 'the server')
    fails(errno.ECONNREFUSED, 'connect when it is gone', connected, LOCAL, port)
    served(listening(LOCAL, port, prepare=reusable), LOCAL, port)


def fill(port):
    """Clients until the backlog has no room. Natively that is the second; a few thousand more are tried,
    since a kernel or a wrapper may give more room than was asked for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 10000), hard))
    clients = []
    for _ in range(5000):
        client = tcp()
        client.setblocking(False)
        clients.append(client)
        code = client.connect_ex((LOCAL, port))
        poll = select.poll()
        poll.register(client, select.POLLOUT)
        if code not in (0, errno.EINPROGRESS) or not poll.poll(20):
            return clients
    raise AssertionError('5000 clients do not fill a backlog of 0')


@case
def thr_blocked_connect():
    """While one thread waits in connect because the backlog is full, another can use sockets."""
    port = free_port()
    full = listening(LOCAL, port, backlog=0)
    waiting = fill(port)
    blocked = tcp()
    started = threading.Event()

    def connect():
        started.set()
        blocked.connect((LOCAL, port))

    worker = thread(connect)
    started.wait()
    time.sleep(0.1)
    true(worker.is_alive(), 'connect waits')
    before = time.monotonic()
    for _ in range(5):
        other = free_port()
        with listening(LOCAL, other) as listener:
            served(listener, LOCAL, other)
            listener.dup().close()
    took = time.monotonic() - before
    true(took < 0.8, f'5 rounds beside a waiting connect took {took:.1f} s')
    full.settimeout(9)
    while worker.is_alive():
        accepted, peer = full.accept()
        worker.join(0.05)
    joined(worker, 'connect ends')
    while peer != blocked.getsockname():
        accepted, peer = full.accept()
    conversation(blocked, accepted)


@case
def app_multiprocessing():
    """multiprocessing.connection's Listener and Client over TCP, with a key."""
    from multiprocessing.connection import Client, Listener
    port = free_port()
    with Listener((LOCAL, port), authkey=b'key') as listener:
        equal(listener.address, (LOCAL, port), "the listener's address")

        def client():
            with Client((LOCAL, port), authkey=b'key') as connection:
                connection.send({'numbers': list(range(1000)), 'name': 'x'})
                equal(connection.recv(), [999, 'x'], 'the answer')

        pid = child(client)
        with listener.accept() as connection:
            host, peer_port = listener.last_accepted
            equal(host, LOCAL, "the client's address")
            true(peer_port > 0, f"the client's port: {peer_port}")
            question = connection.recv()
            connection.send([question['numbers'][-1], question['name']])
            ended_well(pid)


@case
def app_asyncio_localhost():
    """asyncio.start_server('localhost', P) binds each address of localhost on one port and serves it."""
    import asyncio
    port = free_port()
    wanted = {info[4][0] for info in socket.getaddrinfo('localhost', port, type=socket.SOCK_STREAM,
                                                        flags=socket.AI_PASSIVE)}

    async def answer(reader, writer):
        writer.write(repr(writer.get_extra_info('sockname')[:2]).encode() + b'|' + await reader.readline())
        await writer.drain()
        writer.close()

    async def main():
        server = await asyncio.start_server(answer, 'localhost', port)
        names = [sock.getsockname() for sock in server.sockets]
        equal({name[0] for name in names}, wanted, 'addresses bound')
        equal({name[1] for name in names}, {port}, 'ports bound')
        for host in sorted(wanted) + ['localhost']:
            reader, writer = await asyncio.open_connection(host, port)
            equal(writer.get_extra_info('peername')[1], port, "the client's peer")
            writer.write(b'hello\n')
            local, _, rest = (await reader.read()).partition(b'|')
            equal(rest, b'hello\n', f'answer from {host}')
            if host != 'localhost':
                equal(local.decode(), repr((host, port)), f"the server's name towards a client of {host}")
            writer.close()
        server.close()

    asyncio.run(asyncio.wait_for(main(), PATIENCE))


@case
def life_umask():
    """A listener is reached whatever the umask is, that which the program started with and one that it sets later."""
    def works():
        port = free_port()
        with listening(LOCAL, port) as listener:
            served(listener, LOCAL, port)
    for mask in (0o777, 0o022, 0o277):
        before = os.umask(mask)
        works()
        works()
        os.umask(before)
    works()
