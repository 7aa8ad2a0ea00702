"""Cases on names: what bind, accept, getsockname and getpeername say, and who reaches whom."""
import errno
import os
import socket
from socket import IPPROTO_IPV6, IPPROTO_TCP, IPV6_V6ONLY, SOCK_STREAM

from kit import (ANY, LOCAL, V6, Skip, Trio, case, child, connected, conversation, ended_well, equal, fails,
                 free_port, has_v6, listening, readable, served, tcp, true)

OTHER = '127.0.0.2'


def refused(host, port, family=socket.AF_INET):
    fails(errno.ECONNREFUSED, f'connect to {host}:{port}', connected, host, port, family)


def own_address():
    """An IPv4 address of this machine that is not loopback, by the table of the kernel."""
    with open('/proc/net/fib_trie', encoding='ascii') as table:
        lines = [line.split() for line in table]
    found = [before[1] for before, line in zip(lines, lines[1:])
             if line[:2] == ['/32', 'host'] and line[2:] == ['LOCAL'] and not before[1].startswith('127.')]
    if not found:
        raise Skip('no address but loopback here')
    return found[0]


@case
def addr_client_of_the_own_address():
    """A client that is bound to an address of the host's own keeps it when it connects to loopback."""
    host, port = own_address(), free_port()
    listener = listening(LOCAL, port)
    client = tcp()
    client.bind((host, 0))
    name = client.getsockname()
    client.connect((LOCAL, port))
    equal(client.getsockname(), name, 'the name of the client')
    accepted, peer = listener.accept()
    equal(peer, name, 'the peer')
    conversation(client, accepted)


@case
def addr_own_address_beside_the_wildcard():
    """A port that is bound on the wildcard is in use on the host's own addresses; free again, it is not."""
    host = own_address()
    for wildcard, family in ((ANY, socket.AF_INET), ('::', V6)):
        if family == V6 and not has_v6():
            continue
        port = free_port()
        listener = listening(wildcard, port, family)
        for _ in range(2):
            fails(errno.EADDRINUSE, 'bind to the own address', tcp().bind, (host, port))
        listener.close()
        again = listening(host, port)
        equal(again.getsockname(), (host, port), 'the name')
        served(again, host, port)
        again.close()
    fails(errno.EADDRNOTAVAIL, 'bind to a foreign address', tcp().bind, ('198.51.100.77', free_port()))


@case
def addr_broadcast_is_not_own():
    """The broadcast address of a network is not an address of the host: a wildcard listener is not reached by it."""
    with open('/proc/net/fib_trie', encoding='ascii') as table:
        lines = [line.split() for line in table]
    found = [before[1] for before, line in zip(lines, lines[1:])
             if line == ['/32', 'link', 'BROADCAST'] and not before[1].startswith('127.')]
    if not found:
        raise Skip('no network with a broadcast address here')
    port = free_port()
    listener = listening(ANY, port)
    fails(errno.ENETUNREACH, 'connect to the broadcast address', connected, found[0], port)
    served(listener, LOCAL, port)


@case
def addr_port0_distinct():
    """128 sockets bound to port 0 at the same time have 128 ports."""
    socks = [tcp() for _ in range(128)]
    for sock in socks:
        sock.bind((LOCAL, 0))
    ports = [sock.getsockname()[1] for sock in socks]
    true(all(1024 <= port <= 65535 for port in ports), f'ports out of range: {ports}')
    equal(len(set(ports)), 128, 'different ports')


@case
def addr_port0_distinct_processes():
    """Eight processes that bind port 0 at the same time, 16 times each, have 128 ports."""
    start_reader, start_writer = os.pipe()
    stop_reader, stop_writer = os.pipe()
    ports_reader, ports_writer = os.pipe()

    def bind_and_hold():
        os.close(stop_writer)
        os.read(start_reader, 1)
        socks = [tcp() for _ in range(16)]
        for sock in socks:
            sock.bind((LOCAL, 0))
        os.write(ports_writer, b''.join(b'%d\n' % sock.getsockname()[1] for sock in socks))
        os.read(stop_reader, 1)

    pids = [child(bind_and_hold) for _ in range(8)]
    os.close(ports_writer)
    os.write(start_writer, b'12345678')
    ports = []
    with os.fdopen(ports_reader) as lines:
        while len(ports) < 128 and (line := lines.readline()):
            ports.append(int(line))
    equal(len(ports), 128, 'ports reported')
    os.close(stop_writer)
    for pid in pids:
        ended_well(pid)
    equal(len(set(ports)), 128, 'different ports')


@case
def addr_port0_then_by_number():
    """A port that port 0 gave can be bound by number once it is closed, and serves."""
    for host in (LOCAL, ANY):
        with tcp() as probe:
            probe.bind((host, 0))
            port = probe.getsockname()[1]
        with listening(host, port) as sock:
            equal(sock.getsockname(), (host, port), 'name bound by number')
            served(sock, LOCAL, port)


@case
def addr_both_ends_agree():
    """The peer that the server sees is the client's own name, and the reverse."""
    trio = Trio()
    equal(trio.peer, trio.client.getsockname(), "accept's peer")
    equal(trio.accepted.getpeername(), trio.client.getsockname(), "the accepted socket's peer")
    equal(trio.client.getpeername(), trio.accepted.getsockname(), "the client's peer")


@case
def addr_clients_distinct():
    """Twenty clients at once have twenty ports, and the server sees exactly those."""
    port = free_port()
    listener = listening(LOCAL, port)
    clients = [connected(LOCAL, port) for _ in range(20)]
    names = [client.getsockname() for client in clients]
    equal(len(set(names)), 20, 'different clients')
    seen = [listener.accept() for _ in clients]
    equal(sorted(peer for _, peer in seen), sorted(names), 'clients as accept names them')
    equal(sorted(sock.getpeername() for sock, _ in seen), sorted(names), 'clients as getpeername names them')


@case
def addr_connect_to_any():
    """Connecting to 0.0.0.0 reaches a listener on 127.0.0.1, whose address becomes the peer's name."""
    port = free_port()
    listener = listening(LOCAL, port)
    client = connected(ANY, port)
    equal(client.getpeername(), (LOCAL, port), "the client's peer")
    readable(listener, 'the listener')
    accepted, peer = listener.accept()
    equal(peer, client.getsockname(), "accept's peer")
    conversation(client, accepted)


@case
def addr_client_bound_port():
    """A client that binds a port before it connects is seen with that port."""
    port, own = free_port(), free_port()
    listener = listening(LOCAL, port)
    client = tcp()
    client.bind((LOCAL, own))
    client.connect((LOCAL, port))
    accepted, peer = listener.accept()
    equal(client.getsockname(), (LOCAL, own), "the client's name")
    equal(peer, (LOCAL, own), "accept's peer")
    equal(accepted.getpeername(), (LOCAL, own), "the accepted socket's peer")
    equal(client.getpeername(), (LOCAL, port), "the client's peer")
    conversation(client, accepted)


@case
def addr_client_bound_port0():
    """A client bound to 127.0.0.1 port 0 before it connects has one ephemeral port throughout."""
    port = free_port()
    listener = listening(LOCAL, port)
    client = tcp()
    client.bind((LOCAL, 0))
    bound = client.getsockname()
    true(bound[0] == LOCAL and bound[1] >= 1024, f'name after bind: {bound}')
    client.connect((LOCAL, port))
    equal(client.getsockname(), bound, 'name after connect')
    accepted, peer = listener.accept()
    equal(peer, bound, "accept's peer")
    equal(accepted.getpeername(), bound, "the accepted socket's peer")


@case
def addr_client_bound_any():
    """A client bound to 0.0.0.0 port 0 becomes 127.0.0.1 with the same port on connect."""
    port = free_port()
    listener = listening(LOCAL, port)
    client = tcp()
    client.bind((ANY, 0))
    host, own = client.getsockname()
    equal(host, ANY, 'address after bind')
    true(own >= 1024, f'port after bind: {own}')
    client.connect((LOCAL, port))
    equal(client.getsockname(), (LOCAL, own), 'name after connect')
    equal(listener.accept()[1], (LOCAL, own), "accept's peer")


@case
def addr_two_loopbacks():
    """Listeners on 127.0.0.1 and 127.0.0.2 with one port number are two, each with its own clients."""
    port = free_port()
    listeners = {host: listening(host, port) for host in (LOCAL, OTHER)}
    for host, other in ((LOCAL, OTHER), (OTHER, LOCAL)):
        client = connected(host, port)
        equal(client.getpeername(), (host, port), "the client's peer")
        listeners[other].setblocking(False)
        fails(errno.EAGAIN, f'accept on {other} for a client of {host}', listeners[other].accept)
        listeners[other].setblocking(True)
        accepted, _ = listeners[host].accept()
        equal(accepted.getsockname(), (host, port), "the accepted socket's name")
        conversation(client, accepted)


@case
def addr_other_loopback_refused():
    """A listener on 127.0.0.1 does not answer on 127.0.0.2."""
    port = free_port()
    listener = listening(LOCAL, port)
    refused(OTHER, port)
    served(listener, LOCAL, port)


@case
def addr_rebuild_from_fd():
    """A socket rebuilt from its number knows family, type, protocol and both names."""
    trio = Trio()
    for sock in (trio.listener, trio.client, trio.accepted):
        name = sock.getsockname()
        peer = sock.getpeername() if sock is not trio.listener else None
        copy = socket.fromfd(sock.fileno(), socket.AF_INET, SOCK_STREAM)
        equal(copy.getsockname(), name, 'name of the copy')
        copy.close()
        with socket.socket(fileno=sock.detach()) as rebuilt:
            equal(rebuilt.family, socket.AF_INET, 'family')
            equal(rebuilt.type, SOCK_STREAM, 'type')
            equal(rebuilt.proto, IPPROTO_TCP, 'protocol')
            equal(rebuilt.getsockname(), name, 'name')
            if peer:
                equal(rebuilt.getpeername(), peer, 'peer')


def any_v6(port, only):
    def prepare(sock):
        sock.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, only)
        return sock
    return listening('::', port, V6, prepare=prepare)


@case(v6=True)
def v6_dualstack_mapped_peer():
    """A listener for both families names a v4 client, and itself towards it, by mapped addresses."""
    port = free_port()
    listener = any_v6(port, 0)
    client = connected(LOCAL, port)
    own = client.getsockname()
    equal(own[0], LOCAL, "the client's address")
    accepted, peer = listener.accept()
    equal(peer, ('::ffff:127.0.0.1', own[1], 0, 0), "accept's peer")
    equal(accepted.getpeername(), peer, "the accepted socket's peer")
    equal(accepted.getsockname(), ('::ffff:127.0.0.1', port, 0, 0), "the accepted socket's name")
    equal(client.getpeername(), (LOCAL, port), "the client's peer")


@case(v6=True)
def v6_v6only_refuses_v4():
    """A wildcard listener of v6 only refuses v4 clients and serves those of v6."""
    port = free_port()
    listener = any_v6(port, 1)
    refused(LOCAL, port)
    served(listener, '::1', port, V6)


@case(v6=True)
def v6_wildcard_accepted_getsockname():
    """A v6 wildcard listener gives a client of ::1 the local name ::1."""
    for only in (0, 1):
        port = free_port()
        listener = any_v6(port, only)
        equal(listener.getsockname(), ('::', port, 0, 0), "the listener's name")
        client = connected('::1', port, V6)
        accepted, peer = listener.accept()
        equal(accepted.getsockname(), ('::1', port, 0, 0), "the accepted socket's name")
        equal(peer, client.getsockname(), "accept's peer")


@case(v6=True)
def v6_dual_then_v4_in_use():
    """After a listener of both families on [::]:P, binding 0.0.0.0:P fails."""
    port = free_port()
    listener = any_v6(port, 0)
    fails(errno.EADDRINUSE, 'bind of 0.0.0.0', tcp().bind, (ANY, port))
    served(listener, LOCAL, port)


@case(v6=True)
def v6_v6only_readback():
    """IPV6_V6ONLY reads back as set, before bind, after it and while listening."""
    for only in (0, 1):
        sock = tcp(V6)
        sock.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, only)
        equal(sock.getsockopt(IPPROTO_IPV6, IPV6_V6ONLY), only, 'before bind')
        sock.bind(('::', free_port()))
        equal(sock.getsockopt(IPPROTO_IPV6, IPV6_V6ONLY), only, 'after bind')
        sock.listen()
        equal(sock.getsockopt(IPPROTO_IPV6, IPV6_V6ONLY), only, 'after listen')


@case(v6=True)
def v6_create_server_dualstack():
    """socket.create_server for both families serves v4 and v6."""
    port = free_port()
    true(socket.has_dualstack_ipv6(), 'has_dualstack_ipv6')
    with socket.create_server(('', port), family=V6, dualstack_ipv6=True) as listener:
        equal(served(listener, LOCAL, port)[0], '::ffff:127.0.0.1', 'the v4 client')
        equal(served(listener, '::1', port, V6)[0], '::1', 'the v6 client')


def own_address():
    """An address of this host that is not loopback: where a datagram to the world would come from."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(('192.0.2.1', 9))
        except OSError as error:
            raise Skip('this host has no address but loopback') from error
        return sock.getsockname()[0]


@case
def addr_own_address():
    """A wildcard listener is reached by every address of the host, and both ends know by which; one on loopback is not."""
    host = own_address()
    for wildcard, family in ((ANY, socket.AF_INET), ('::', V6)):
        port = free_port()
        listener = listening(wildcard, port, family)
        client = connected(host, port)
        accepted, peer = listener.accept()
        mapped = '::ffff:' if family == V6 else ''
        equal(client.getpeername(), (host, port), 'the address that was dialled')
        equal(client.getsockname()[0], host, "the client's own address")
        equal(accepted.getsockname()[:2], (mapped + host, port), 'the address that was reached')
        equal(peer[:2], (mapped + host, client.getsockname()[1]), "the client as the server sees it")
        conversation(client, accepted)
    port = free_port()
    listening(LOCAL, port)
    refused(host, port)
