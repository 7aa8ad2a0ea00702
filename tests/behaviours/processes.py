"""Cases on processes: listeners and connections that reach another program by exec or SCM_RIGHTS."""
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from socket import AF_INET, AF_UNIX, SO_ACCEPTCONN, SO_DOMAIN, SO_PROTOCOL, SO_TYPE, SOCK_STREAM, SOL_SOCKET

from kit import (LOCAL, PATIENCE, Trio, Word, case, child, command, connected, conversation, ended_well, equal, echo,
                 echoed, free_port, joined, listening, program, readable, receive, served, thread, true)


def inet_listener(sock, port):
    """The socket is a TCP listener on 127.0.0.1:port in every respect."""
    equal(sock.getsockname(), (LOCAL, port), "the listener's name")
    equal(sock.getsockopt(SOL_SOCKET, SO_DOMAIN), AF_INET, 'SO_DOMAIN')
    equal(sock.getsockopt(SOL_SOCKET, SO_PROTOCOL), socket.IPPROTO_TCP, 'SO_PROTOCOL')
    equal(sock.getsockopt(SOL_SOCKET, SO_TYPE), SOCK_STREAM, 'SO_TYPE')
    equal(sock.getsockopt(SOL_SOCKET, SO_ACCEPTCONN), 1, 'SO_ACCEPTCONN')


def serve_once(sock, port):
    """Accepts one client, with the names right, and echoes."""
    readable(sock, 'a client')
    connection, peer = sock.accept()
    equal(peer[0], LOCAL, "accept's peer")
    true(peer[1] > 0, f"the peer's port: {peer[1]}")
    equal(connection.getpeername(), peer, 'getpeername')
    equal(connection.getsockname(), (LOCAL, port), "the accepted socket's name")
    echo(connection)
    connection.close()
    return peer


@program
def serve(number, port, clients):
    """An inherited listener: its names, and then clients."""
    sock = socket.socket(fileno=int(number))
    equal(sock.family, AF_INET, 'family')
    inet_listener(sock, int(port))
    for _ in range(int(clients)):
        serve_once(sock, int(port))
    return 0


@program
def hot_restart(number, port, generation, writer):
    """An inherited listener: serves one client, then executes itself, three generations long."""
    sock = socket.socket(fileno=int(number))
    inet_listener(sock, int(port))
    os.write(int(writer), f'{generation}\n'.encode())
    serve_once(sock, int(port))
    if int(generation) < 3:
        sock.set_inheritable(True)
        line = command('hot_restart', sock.fileno(), port, int(generation) + 1, writer)
        os.execv(line[0], line)
    return 0


@case
def proc_exec_self():
    """A server that executes itself keeps its listener: names right, and it serves."""
    port = free_port()
    word = Word()
    os.set_inheritable(word.writer, True)

    def first():
        sock = listening(LOCAL, port)
        sock.set_inheritable(True)
        line = command('hot_restart', sock.fileno(), port, 1, word.writer)
        os.execv(line[0], line)

    pid = child(first)
    for generation in range(1, 4):
        equal(word.hear(f'generation {generation}'), str(generation), 'the generation that serves')
        echoed(LOCAL, port)
    ended_well(pid, 'the server')


@case
def proc_exec_clean_env():
    """A listener inherited by a program with an empty environment is TCP's, and serves."""
    port = free_port()
    sock = listening(LOCAL, port)
    with subprocess.Popen(command('serve', sock.fileno(), port, 2), env={}, pass_fds=[sock.fileno()]) as server:
        sock.close()
        for _ in range(2):
            echoed(LOCAL, port)
        equal(server.wait(PATIENCE), 0, "the server's status")


@program
def ask(port):
    """A client that says what it sees."""
    with connected(LOCAL, int(port)) as client:
        equal(client.getpeername(), (LOCAL, int(port)), 'the peer')
        client.sendall(b'question')
        equal(receive(client, 6), b'answer', 'the answer')
        print(client.getsockname()[1])
    return 0


@case
def proc_clean_env_client():
    """A client with an empty environment reaches the port."""
    port = free_port()
    sock = listening(LOCAL, port)
    with subprocess.Popen(command('ask', port), env={}, stdout=subprocess.PIPE) as client:
        readable(sock, 'the client')
        connection, peer = sock.accept()
        equal(receive(connection, 8), b'question', 'the question')
        connection.sendall(b'answer')
        equal(int(client.communicate(timeout=PATIENCE)[0]), peer[1], "the client's port as both see it")
        equal(client.returncode, 0, "the client's status")


@program
def inetd_service(peer_port, port):
    """A service of inetd: the connection is standard input and output."""
    sock = socket.socket(fileno=0)
    equal(sock.family, AF_INET, 'family')
    equal(sock.getpeername(), (LOCAL, int(peer_port)), 'the peer')
    equal(sock.getsockname(), (LOCAL, int(port)), 'the name')
    for line in sys.stdin:
        print('echo ' + line, end='', flush=True)
    sock.detach()
    return 0


@case
def proc_inetd():
    """An accepted connection on standard input and output of another program keeps its names."""
    trio = Trio()
    line = command('inetd_service', trio.client.getsockname()[1], trio.port)
    with subprocess.Popen(line, stdin=trio.accepted, stdout=trio.accepted) as service:
        trio.accepted.close()
        trio.client.settimeout(PATIENCE)
        trio.client.sendall(b'one\ntwo\n')
        equal(receive(trio.client, 18), b'echo one\necho two\n', 'what the service says')
        trio.client.shutdown(socket.SHUT_WR)
        equal(receive(trio.client, 1), b'', 'the end')
        equal(service.wait(PATIENCE), 0, "the service's status")


@program
def activated(port):
    """A program that systemd would start: its listener is descriptor 3."""
    equal(os.environ['LISTEN_FDS'], '1', 'LISTEN_FDS')
    return serve(3, port, 2)


@case
def proc_listen_fds():
    """A listener that posix_spawn puts on descriptor 3 has its names, and serves."""
    port = free_port()
    sock = listening(LOCAL, port)
    high = fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD_CLOEXEC, 50)
    line = command('activated', port)
    pid = os.posix_spawn(line[0], line, {**os.environ, 'LISTEN_FDS': '1'},
                         file_actions=[(os.POSIX_SPAWN_DUP2, high, 3)])
    sock.close()
    os.close(high)
    for _ in range(2):
        echoed(LOCAL, port)
    ended_well(pid, 'the server')


def send_listener(channel, port):
    """Binds, sends the listener, and goes."""
    sock = listening(LOCAL, port)
    socket.send_fds(channel, [b'listener'], [sock.fileno()])
    os._exit(0)


def received(channel):
    message, numbers, _, _ = socket.recv_fds(channel, 64, 4)
    true(message, 'a message')
    equal(len(numbers), 1, 'descriptors received')
    return socket.socket(fileno=numbers[0])


def receive_and_serve(channel, port, ready):
    sock = received(channel)
    ready()
    equal(sock.family, AF_INET, 'family')
    inet_listener(sock, port)
    for _ in range(2):
        serve_once(sock, port)


@case
def proc_scm_listener():
    """A listener sent to a forked process has its names, and serves when the sender is gone."""
    port = free_port()
    here, there = socket.socketpair()
    word = Word()
    server = child(receive_and_serve, there, port, word.say)
    ended_well(child(send_listener, here, port), 'the sender')
    word.hear('the receiver')
    for _ in range(2):
        echoed(LOCAL, port)
    ended_well(server, 'the receiver')


@program
def adopt(channel, port, writer):
    """Receives a listener and serves it."""
    receive_and_serve(socket.socket(fileno=int(channel)), int(port), lambda: os.write(int(writer), b'ready\n'))
    return 0


@case
def proc_scm_listener_exec():
    """A listener sent to a program that was executed has its names, and serves."""
    port = free_port()
    here, there = socket.socketpair()
    word = Word()
    line = command('adopt', there.fileno(), port, word.writer)
    with subprocess.Popen(line, pass_fds=[there.fileno(), word.writer]) as server:
        ended_well(child(send_listener, here, port), 'the sender')
        word.hear('the receiver')
        for _ in range(2):
            echoed(LOCAL, port)
        equal(server.wait(PATIENCE), 0, "the receiver's status")


@case
def proc_scm_connection():
    """An accepted connection sent to another process keeps both names and works."""
    here, there = socket.socketpair()
    trio = Trio()
    name, peer = trio.accepted.getsockname(), trio.accepted.getpeername()

    def worker():
        for sock in (trio.accepted, trio.client, trio.listener, here):
            sock.close()
        connection = received(there)
        equal(connection.family, AF_INET, 'family')
        equal(connection.getsockname(), name, 'the name')
        equal(connection.getpeername(), peer, 'the peer')
        echo(connection)

    pid = child(worker)
    socket.send_fds(here, [b'connection'], [trio.accepted.fileno()])
    trio.accepted.close()
    trio.listener.close()
    trio.client.settimeout(PATIENCE)
    trio.client.sendall(b'hello')
    equal(receive(trio.client, 5), b'hello', 'the echo')
    trio.client.close()
    ended_well(pid, 'the worker')


@case
def proc_fork_threads():
    """A process that forks while its threads use sockets has children that can use sockets."""
    stop = []

    # Port 0, since a child holds a copy of whatever listens while it is forked.
    def busy():
        while not stop:
            with listening(LOCAL, 0) as listener:
                served(listener, *listener.getsockname())
            time.sleep(0.001)

    workers = [thread(busy) for _ in range(3)]

    def use_sockets():
        signal.alarm(4)
        with listening(LOCAL, 0) as listener:
            client = connected(*listener.getsockname())
            accepted, peer = listener.accept()
            equal(peer, client.getsockname(), "accept's peer")
            conversation(client, accepted)

    for _ in range(25):
        ended_well(child(use_sockets))
    stop.append(True)
    for worker in workers:
        joined(worker, 'a thread')
