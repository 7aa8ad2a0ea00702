"""Cases on a connection that is shut down for writing and closed with unread input: the peer reads the end, not a reset.
Nobody else loses the input who may still read it."""
import errno
import os
import socket
import subprocess
import sys
from socket import SHUT_RD, SHUT_RDWR, SHUT_WR

from kit import Trio, Word, case, child, ended_well, equal, fails, readable, receive

UNREAD = bytes(range(256)) * 8000


def answered(trio, how=SHUT_WR, unread=b'unread'):
    """A server that answers and shuts down, and has not read what its client sent."""
    trio.client.sendall(unread)
    readable(trio.accepted, 'the input')
    trio.accepted.sendall(b'answer')
    trio.accepted.shutdown(how)
    return trio


def heard(sock, what):
    equal(receive(sock, 6), b'answer', what)
    equal(sock.recv(1), b'', f'{what}: the end')


@case
def end_of_a_server_with_unread_input():
    """A server answers, shuts down and closes with input unread: its client reads the answer and the end."""
    for how in (SHUT_WR, SHUT_RDWR):
        for unread in (b'u', UNREAD):
            trio = answered(Trio(), how, unread)
            trio.accepted.close()
            heard(trio.client, f'shutdown {how}, {len(unread)} bytes unread')


@case
def end_of_a_client_with_unread_input():
    """The same the other way round."""
    trio = Trio()
    trio.accepted.sendall(b'unread')
    readable(trio.client, 'the input')
    trio.client.sendall(b'answer')
    trio.client.shutdown(SHUT_WR)
    trio.client.close()
    heard(trio.accepted, 'the server')


@case
def end_by_a_reset_without_shutdown():
    """Without a shutdown for writing the peer reads a reset."""
    for how in (None, SHUT_RD):
        trio = Trio()
        trio.client.sendall(b'unread')
        readable(trio.accepted, 'the input')
        trio.accepted.sendall(b'answer')
        if how is not None:
            trio.accepted.shutdown(how)
        trio.accepted.close()
        equal(receive(trio.client, 6), b'answer', 'the answer')
        fails(errno.ECONNRESET, 'what follows', trio.client.recv, 1)


def other_holder(share):
    """`share` gives the server's connection to somebody else, who reads the input after the server has closed."""
    trio = Trio()
    reads = share(trio)
    answered(trio)
    trio.accepted.close()
    equal(reads(), b'unread', 'what the other holder reads')
    heard(trio.client, 'the client')


@case
def end_leaves_a_duplicate_its_input():
    """A duplicate of the descriptor reads what is unread."""
    def share(trio):
        copy = trio.accepted.dup()
        return lambda: receive(copy, 6)
    other_holder(share)


@case
def end_leaves_a_passed_descriptor_its_input():
    """So does a descriptor that came by SCM_RIGHTS."""
    def share(trio):
        one, other = socket.socketpair()
        socket.send_fds(one, [b'x'], [trio.accepted.fileno()])
        _, [number], _, _ = socket.recv_fds(other, 1, 1)
        copy = socket.socket(fileno=number)
        return lambda: receive(copy, 6)
    other_holder(share)


@case
def end_leaves_a_child_its_input():
    """So does a forked child, whether its parent closes or it closes what it inherited."""
    def share(trio):
        go, told = Word(), Word()

        def reading():
            go.hear('the parent has closed')
            told.say(receive(trio.accepted, 6).decode())
        pid = child(reading)

        def reads():
            go.say()
            text = told.hear('what the child has read')
            ended_well(pid)
            return text.encode()
        return reads
    other_holder(share)
    # The other way round: the child closes, the parent reads.
    trio = answered(Trio())
    ended_well(child(trio.accepted.close))
    equal(receive(trio.accepted, 6), b'unread', 'what the parent reads')


@case
def end_leaves_a_program_its_input():
    """So does a program that was started with the descriptor, by vfork or posix_spawn."""
    script = "import socket, sys; sys.stdin.read(1); print(socket.socket(fileno=int(sys.argv[1])).recv(6).decode())"

    def by_subprocess(trio):
        number = trio.accepted.fileno()
        process = subprocess.Popen([sys.executable, '-c', script, str(number)], pass_fds=[number],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return lambda: process.communicate(b'x')[0].strip()
    other_holder(by_subprocess)

    def by_spawn(trio):
        number = trio.accepted.fileno()
        os.set_inheritable(number, True)
        (reader, writer), (theirs, ours) = os.pipe(), os.pipe()
        actions = [(os.POSIX_SPAWN_DUP2, theirs, 0), (os.POSIX_SPAWN_DUP2, writer, 1)]
        pid = os.posix_spawn(sys.executable, [sys.executable, '-c', script, str(number)], os.environ,
                             file_actions=actions)
        os.close(writer)

        def reads():
            os.write(ours, b'x')
            text = os.read(reader, 100).strip()
            ended_well(pid)
            return text
        return reads
    other_holder(by_spawn)


@case
def end_beside_a_program_that_closes_everything():
    """A program is started by vfork, whose child closes what it does not want: the parent's input stays."""
    trio = answered(Trio())
    subprocess.run(['true'], close_fds=True, check=True)
    os.spawnlp(os.P_WAIT, 'true', 'true')
    equal(receive(trio.accepted, 6), b'unread', 'what was unread')
    trio.accepted.close()
    heard(trio.client, 'the client')
