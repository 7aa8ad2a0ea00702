"""Executes the hooks of the linked library, for both kinds of Mac, against a model of libSystem and XNU.

Each test is a program: what it calls, what it gets back, and what the system saw. `errno` must come back as
it was from every call that succeeds.
"""
import functools
import os
import socket
import struct
import unittest

import machine
import macho
import xnu

LIBRARY = os.environ.get("AGENTFS_DYLIB", "")
BASE = b"/Users/dev/.agentfs"
RUN = BASE + b"/run"
INTERPOSE = "/Users/dev/.agentfs/lib/0123/libagentfs_interpose.dylib"
ENVIRONMENT = [
    "HOME=/Users/dev",
    f"DYLD_INSERT_LIBRARIES={INTERPOSE}",
    f"AGENTFS_RUN={RUN.decode()}",
    "AGENTFS_APP=app",
    "AGENTFS_INSTANCE=instance",
    f"AGENTFS_INTERPOSE={INTERPOSE}",
]
# An errno that no call sets.
UNTOUCHED = 77
LISTEN_BACKLOG = 4096


def unix(path):
    """The sockaddr_un of a path as macOS lays it out."""
    return bytes([2 + len(path) + 1, xnu.AF_UNIX]) + path + b"\0"


def address(text, port):
    """The sockaddr of an address as a program writes it."""
    if ":" in text:
        return xnu.inet(True, socket.inet_pton(socket.AF_INET6, text), port)
    return xnu.inet(False, socket.inet_pton(socket.AF_INET, text), port)


def text_of(raw):
    """(address, port) of a sockaddr that a program was given, whose layout is checked."""
    if raw[1] == xnu.AF_INET:
        if len(raw) != 16 or raw[0] != 16 or raw[8:] != bytes(8):
            raise AssertionError(f"no sockaddr_in: {raw.hex()}")
        return socket.inet_ntop(socket.AF_INET, raw[4:8]), int.from_bytes(raw[2:4], "big")
    if raw[1] == xnu.AF_INET6:
        if len(raw) != 28 or raw[0] != 28 or raw[4:8] != bytes(4) or raw[24:] != bytes(4):
            raise AssertionError(f"no sockaddr_in6: {raw.hex()}")
        return socket.inet_ntop(socket.AF_INET6, raw[8:24]), int.from_bytes(raw[2:4], "big")
    raise AssertionError(f"no inet address: {raw.hex()}")


class Program:
    """A program with the library loaded: its calls go through the hooks, as dyld would bind them."""

    def __init__(self, image, environment=ENVIRONMENT, files=(), loaded=True):
        files = [(BASE + b"/trace.page", bytes(4096)), (INTERPOSE.encode(), b""), *files]
        self.system = xnu.System(environment, files)
        self.machine = machine.Machine(image, self.system)
        self.system.start()
        self.system.datagrams[BASE + b"/collector.notice"] = []
        if loaded:
            self.load(image)

    def load(self, image):
        """What dyld does last: the constructors, with main's arguments."""
        section = image.section("__mod_init_func")
        for at in range(section.address, section.address + section.size, 8):
            self.machine.run(machine.SLIDE + image.pointer(at), 0, 0, 0, 0)

    @property
    def notices(self):
        return self.system.datagrams[BASE + b"/collector.notice"]

    def call(self, name, *arguments, variadic=(), wide=False):
        """A call of the program: (result, errno), errno being 0 where the call left it alone."""
        self.system.errno = UNTOUCHED
        result = self.machine.call(name, *arguments, variadic=variadic)
        if not wide:
            result &= 0xFFFF_FFFF
            result -= (1 << 32) if result >> 31 else 0
        errno = self.system.errno
        return result, 0 if errno == UNTOUCHED else errno

    def succeed(self, name, *arguments, variadic=()):
        result, errno = self.call(name, *arguments, variadic=variadic)
        if result < 0 or errno:
            raise AssertionError(f"{name} returns {result} with errno {errno}")
        return result

    # === sockets as a program uses them

    def socket(self, domain=xnu.AF_INET, kind=xnu.SOCK_STREAM):
        return self.succeed("socket", domain, kind, 0)

    def bind(self, fd, raw):
        return self.call("bind", fd, self.machine.allocate(raw), len(raw))

    def connect(self, fd, raw, name="connect"):
        return self.call(name, fd, self.machine.allocate(raw), len(raw))

    def listener(self, text="127.0.0.1", port=8080):
        fd = self.socket(xnu.AF_INET6 if ":" in text else xnu.AF_INET)
        result = self.bind(fd, address(text, port))
        if result != (0, 0):
            raise AssertionError(f"bind: {result}")
        self.succeed("listen", fd, 5)
        return fd

    def client(self, text="127.0.0.1", port=8080):
        fd = self.socket(xnu.AF_INET6 if ":" in text else xnu.AF_INET)
        result = self.connect(fd, address(text, port))
        if result != (0, 0):
            raise AssertionError(f"connect: {result}")
        return fd

    def name(self, call, fd, room=128):
        """An address from getsockname, getpeername or accept: (result, errno, bytes, length)."""
        buffer = self.machine.allocate(b"\xcc" * 128)
        length = self.machine.allocate(struct.pack("<I", room))
        result, errno = self.call(call, fd, buffer, length)
        size = struct.unpack("<I", self.machine.read(length, 4))[0]
        return result, errno, self.machine.read(buffer, 128), size

    def own(self, fd):
        return self.address("getsockname", fd)

    def peer(self, fd):
        return self.address("getpeername", fd)

    def address(self, call, fd):
        result, errno, raw, size = self.name(call, fd)
        if result < 0 or errno:
            raise AssertionError(f"{call}: {result}, errno {errno}")
        return text_of(raw[:size])

    def accept(self, fd, name="accept"):
        result, errno, raw, size = self.name(name, fd)
        if result < 0 or errno:
            raise AssertionError(f"{name}: {result}, errno {errno}")
        return result, text_of(raw[:size])

    def option(self, fd, level, name, room=4):
        buffer, length = self.machine.allocate(bytes(room)), self.machine.allocate(struct.pack("<I", room))
        result, errno = self.call("getsockopt", fd, level, name, buffer, length)
        size = struct.unpack("<I", self.machine.read(length, 4))[0]
        value = int.from_bytes(self.machine.read(buffer, size), "little")
        return result, errno, value

    def set_option(self, fd, level, name, value):
        return self.call("setsockopt", fd, level, name, self.machine.allocate(struct.pack("<i", value)), 4)

    # === what the system has

    def paths(self):
        return sorted(path for path, node in self.system.files.items() if node.socket is not None)

    def behind(self, fd):
        return self.system.socket_at(fd)


def on_each_mac(test):
    """Runs a test with the slice of each architecture in turn."""

    @functools.wraps(test)
    def run(self):
        for architecture, image in IMAGES.items():
            with self.subTest(architecture):
                test(self, image)

    return run


IMAGES = {}


def setUpModule():
    if not LIBRARY:
        raise RuntimeError("AGENTFS_DYLIB names no library; ci/darwin.sh emulate sets it")
    IMAGES.update(macho.read(LIBRARY))


class Servers(unittest.TestCase):
    @on_each_mac
    def test_bind_makes_a_unix_socket_whose_name_says_the_address(self, image):
        program = Program(image)
        fd = program.socket()
        program.system.take_calls()
        self.assertEqual(program.bind(fd, address("127.0.0.1", 8080)), (0, 0))
        path = RUN + b"/app-instance.8080.l.sock"
        calls = program.system.take_calls()
        binds = [call for call in calls if call[0] == "bind"]
        self.assertEqual([name for _, _, name in binds], [unix(path)])
        made = binds[0][1]
        self.assertIn(("socket", xnu.AF_UNIX, xnu.SOCK_STREAM, 0), calls)
        self.assertLess(calls.index(binds[0]), calls.index(("dup2", made, fd)))
        self.assertEqual(calls[-1], ("close", made))
        self.assertIs(program.behind(fd), program.system.files[path].socket)
        self.assertEqual(set(program.system.fds), {fd}, "a descriptor of ours stays open")
        # FSEvents does not report the creation of a socket, but a change of its mode.
        self.assertIn(("chmod", path, 0o600), calls)

    @on_each_mac
    def test_listen_asks_for_a_long_backlog_and_tells_the_collector(self, image):
        program = Program(image)
        fd = program.socket()
        program.bind(fd, address("127.0.0.1", 8080))
        program.notices.clear()
        program.system.take_calls()
        self.assertEqual(program.call("listen", fd, 5), (0, 0))
        calls = program.system.take_calls()
        self.assertIn(("listen", fd, LISTEN_BACKLOG), calls)
        self.assertEqual(len(program.notices), 1)
        notice = program.notices[0]
        self.assertEqual(notice[0], 1, "version")
        for word in (b"app-instance.8080.l.sock", b"app", b"instance", b"server"):
            self.assertIn(struct.pack("<Q", len(word)) + word, notice)
        self.assertIn(struct.pack("<I", xnu.PID), notice)
        sender = [call for call in calls if call[0] == "sendto"]
        self.assertEqual([path for _, _, path in sender], [BASE + b"/collector.notice"])
        self.assertIn(("close", sender[0][1]), calls)

    @on_each_mac
    def test_nobody_hears_the_notice_and_nothing_changes(self, image):
        program = Program(image)
        program.system.datagrams.clear()
        fd = program.listener()
        self.assertEqual(program.own(fd), ("127.0.0.1", 8080))
        self.assertEqual(set(program.system.fds), {fd})

    @on_each_mac
    def test_addresses_are_those_of_tcp_on_both_sides(self, image):
        program = Program(image)
        server = program.listener()
        self.assertEqual(program.own(server), ("127.0.0.1", 8080))
        self.assertEqual(program.name("getpeername", server)[:2], (-1, xnu.ENOTCONN))
        client = program.client()
        connection, peer = program.accept(server)
        self.assertEqual(program.own(client), peer)
        self.assertEqual(program.peer(connection), peer)
        self.assertEqual(peer[0], "127.0.0.1")
        self.assertGreater(peer[1], 1023)
        self.assertEqual(program.own(connection), ("127.0.0.1", 8080))
        self.assertEqual(program.peer(client), ("127.0.0.1", 8080))
        self.assertEqual(set(program.system.fds), {server, client, connection})

    @on_each_mac
    def test_the_clients_file_does_not_stay(self, image):
        program = Program(image)
        server = program.listener()
        program.client()
        program.accept(server)
        self.assertEqual(program.paths(), [RUN + b"/app-instance.8080.l.sock"])

    @on_each_mac
    def test_clients_have_ports_of_their_own(self, image):
        program = Program(image)
        server = program.listener()
        clients = [program.client() for _ in range(8)]
        ports = {program.accept(server)[1] for _ in clients}
        self.assertEqual(len(ports), 8)
        self.assertEqual({program.own(client) for client in clients}, ports)

    @on_each_mac
    def test_every_spelling_of_localhost_has_its_own_name(self, image):
        for text, suffix in [
            ("127.0.0.1", b".l"),
            ("0.0.0.0", b""),
            ("127.0.0.2", b".l000002"),
            ("::1", b".l6"),
            ("::", b".d"),
        ]:
            with self.subTest(text):
                program = Program(image)
                fd = program.listener(text, 3000)
                self.assertEqual(program.paths(), [RUN + b"/app-instance.3000" + suffix + b".sock"])
                self.assertEqual(program.own(fd), (text, 3000))

    @on_each_mac
    def test_a_v6_only_wildcard_leaves_v4_alone(self, image):
        program = Program(image)
        fd = program.socket(xnu.AF_INET6)
        self.assertEqual(program.set_option(fd, xnu.IPPROTO_IPV6, xnu.IPV6_V6ONLY, 1), (0, 0))
        self.assertEqual(program.bind(fd, address("::", 3000)), (0, 0))
        self.assertEqual(program.paths(), [RUN + b"/app-instance.3000.6.sock"])
        self.assertEqual(program.option(fd, xnu.IPPROTO_IPV6, xnu.IPV6_V6ONLY), (0, 0, 1))

    @on_each_mac
    def test_ipv6_loopback_serves_ipv6_clients(self, image):
        program = Program(image)
        server = program.listener("::1", 3000)
        client = program.client("::1", 3000)
        connection, peer = program.accept(server)
        self.assertEqual(peer[0], "::1")
        self.assertEqual(program.own(client), peer)
        self.assertEqual(program.own(connection), ("::1", 3000))
        self.assertEqual(program.peer(client), ("::1", 3000))

    @on_each_mac
    def test_a_dual_stack_listener_sees_ipv4_clients_as_mapped(self, image):
        program = Program(image)
        server = program.listener("::", 3000)
        program.client("127.0.0.1", 3000)
        connection, peer = program.accept(server)
        self.assertEqual(peer[0], "::ffff:127.0.0.1")
        self.assertEqual(program.own(connection), ("::ffff:127.0.0.1", 3000))

    @on_each_mac
    def test_a_mapped_address_is_the_ipv4_listener_of_an_ipv6_socket(self, image):
        program = Program(image)
        fd = program.socket(xnu.AF_INET6)
        self.assertEqual(program.bind(fd, address("::ffff:127.0.0.1", 3000)), (0, 0))
        self.assertEqual(program.paths(), [RUN + b"/app-instance.3000.l.sock"])
        self.assertEqual(program.own(fd), ("::ffff:127.0.0.1", 3000))

    @on_each_mac
    def test_port_0_gives_a_free_port(self, image):
        program = Program(image)
        ports = set()
        for _ in range(5):
            fd = program.socket()
            self.assertEqual(program.bind(fd, address("127.0.0.1", 0)), (0, 0))
            text, port = program.own(fd)
            self.assertEqual(text, "127.0.0.1")
            ports.add(port)
        self.assertEqual(len(ports), 5)
        self.assertNotIn(0, ports)

    @on_each_mac
    def test_listen_without_bind_gives_a_wildcard_port(self, image):
        program = Program(image)
        fd = program.socket()
        self.assertEqual(program.call("listen", fd, 5), (0, 0))
        text, port = program.own(fd)
        self.assertEqual(text, "0.0.0.0")
        self.assertGreater(port, 0)

    @on_each_mac
    def test_a_taken_port_is_refused_and_nothing_is_left_open(self, image):
        program = Program(image)
        first = program.listener()
        for text in ("127.0.0.1", "0.0.0.0"):
            fd = program.socket()
            self.assertEqual(program.bind(fd, address(text, 8080)), (-1, xnu.EADDRINUSE), text)
            self.assertEqual(set(program.system.fds), {first, fd})
            program.machine.system.drop(fd)

    @on_each_mac
    def test_a_port_is_free_again_once_its_listener_is_gone(self, image):
        program = Program(image)
        program.system.drop(program.listener())
        self.assertEqual(len(program.paths()), 1, "the file stays")
        fd = program.listener()
        self.assertEqual(program.own(fd), ("127.0.0.1", 8080))
        self.assertFalse(program.system.files[BASE + b"/run.lock"].locked)

    @on_each_mac
    def test_binding_twice_is_an_error_as_with_tcp(self, image):
        program = Program(image)
        fd = program.listener()
        self.assertEqual(program.bind(fd, address("127.0.0.1", 8081)), (-1, xnu.EINVAL))

    @on_each_mac
    def test_flags_and_options_move_to_the_new_socket(self, image):
        program = Program(image)
        fd = program.socket()
        program.succeed("fcntl", fd, xnu.F_SETFL, variadic=(xnu.O_NONBLOCK,))
        program.succeed("fcntl", fd, xnu.F_SETFD, variadic=(xnu.FD_CLOEXEC,))
        for name in (xnu.SO_REUSEADDR, xnu.SO_KEEPALIVE, xnu.SO_NOSIGPIPE):
            self.assertEqual(program.set_option(fd, xnu.SOL_SOCKET, name, 1), (0, 0))
        self.assertEqual(program.set_option(fd, xnu.IPPROTO_TCP, xnu.TCP_NODELAY, 1), (0, 0))
        program.bind(fd, address("127.0.0.1", 8080))
        new = program.behind(fd)
        self.assertEqual(new.domain, xnu.AF_UNIX)
        self.assertEqual(new.flags & xnu.O_NONBLOCK, xnu.O_NONBLOCK)
        self.assertEqual(program.system.fds[fd][1], xnu.FD_CLOEXEC)
        for name in (xnu.SO_REUSEADDR, xnu.SO_KEEPALIVE, xnu.SO_NOSIGPIPE):
            self.assertTrue(any(new.options.get((xnu.SOL_SOCKET, name), b"")), hex(name))
        self.assertEqual(program.option(fd, xnu.IPPROTO_TCP, xnu.TCP_NODELAY), (0, 0, 1))


class Clients(unittest.TestCase):
    @on_each_mac
    def test_a_port_without_listener_here_is_the_hosts(self, image):
        program = Program(image)
        host = xnu.Socket(xnu.AF_INET, xnu.SOCK_STREAM)
        host.backlog = 1
        program.system.host[xnu.SOCK_STREAM, 5432] = host
        fd = program.client("127.0.0.1", 5432)
        self.assertEqual(program.behind(fd).domain, xnu.AF_INET)
        self.assertEqual(program.peer(fd), ("127.0.0.1", 5432))

    @on_each_mac
    def test_an_isolated_instance_does_not_reach_the_host(self, image):
        program = Program(image, [*ENVIRONMENT, "AGENTFS_ISOLATE=1"])
        fd = program.socket()
        self.assertEqual(program.connect(fd, address("127.0.0.1", 5432)), (-1, xnu.ECONNREFUSED))
        self.assertNotIn("connect", program.system.names())

    @on_each_mac
    def test_a_listener_that_is_only_bound_refuses(self, image):
        program = Program(image)
        bound = program.socket()
        program.bind(bound, address("127.0.0.1", 8080))
        fd = program.socket()
        self.assertEqual(program.connect(fd, address("127.0.0.1", 8080)), (-1, xnu.ECONNREFUSED))
        self.assertEqual(set(program.system.fds), {bound, fd})

    @on_each_mac
    def test_a_wildcard_destination_means_this_machine(self, image):
        program = Program(image)
        server = program.listener("0.0.0.0", 8080)
        client = program.client("0.0.0.0", 8080)
        self.assertEqual(program.peer(client), ("127.0.0.1", 8080))
        program.accept(server)

    @on_each_mac
    def test_a_bound_client_keeps_its_port(self, image):
        program = Program(image)
        server = program.listener()
        fd = program.socket()
        self.assertEqual(program.bind(fd, address("127.0.0.1", 40000)), (0, 0))
        self.assertEqual(program.connect(fd, address("127.0.0.1", 8080)), (0, 0))
        self.assertEqual(program.accept(server)[1], ("127.0.0.1", 40000))
        self.assertEqual(program.paths(), [RUN + b"/app-instance.8080.l.sock"])

    @on_each_mac
    def test_a_bound_socket_that_goes_elsewhere_becomes_tcp_again(self, image):
        for name in ("connect", "connect$NOCANCEL"):
            program = Program(image)
            host = xnu.Socket(xnu.AF_INET, xnu.SOCK_STREAM)
            host.backlog = 1
            program.system.host[xnu.SOCK_STREAM, 80] = host
            fd = program.socket()
            program.bind(fd, address("0.0.0.0", 40000))
            self.assertEqual(program.connect(fd, address("192.0.2.1", 80), name), (0, 0), name)
            self.assertEqual(program.behind(fd).domain, xnu.AF_INET)
            self.assertEqual(program.own(fd), ("0.0.0.0", 40000))

    @on_each_mac
    def test_a_connected_socket_does_not_connect_again(self, image):
        program = Program(image)
        program.listener()
        fd = program.client()
        self.assertEqual(program.connect(fd, address("127.0.0.1", 8080)), (-1, xnu.EISCONN))
        self.assertEqual(program.connect(fd, address("192.0.2.1", 80)), (-1, xnu.EISCONN))

    @on_each_mac
    def test_a_listener_does_not_connect(self, image):
        program = Program(image)
        server = program.listener()
        program.listener(port=8081)
        result, errno = program.connect(server, address("127.0.0.1", 8081))
        self.assertEqual(result, -1)
        self.assertIn(errno, (xnu.EISCONN, xnu.EOPNOTSUPP))
        self.assertEqual(program.own(server), ("127.0.0.1", 8080))

    @on_each_mac
    def test_another_hosts_address_costs_one_call(self, image):
        program = Program(image)
        fd = program.socket()
        program.system.take_calls()
        self.assertEqual(program.connect(fd, address("192.0.2.1", 80)), (-1, xnu.ECONNREFUSED))
        self.assertEqual(program.system.names(), ["connect"])

    @on_each_mac
    def test_a_client_without_a_name_gets_a_stable_inet_address(self, image):
        program = Program(image)
        server = program.listener()
        stranger = xnu.Socket(xnu.AF_UNIX, xnu.SOCK_STREAM)
        program.system.connect_path(stranger, RUN + b"/app-instance.8080.l.sock")
        connection, peer = program.accept(server)
        self.assertEqual(peer[0], "127.0.0.1")
        self.assertEqual(program.peer(connection), peer)

    @on_each_mac
    def test_a_client_that_left_before_accept_is_accepted(self, image):
        program = Program(image)
        server = program.listener()
        program.system.drop(program.client())
        connection, peer = program.accept(server)
        self.assertEqual(peer[0], "127.0.0.1")
        self.assertEqual(program.own(connection), ("127.0.0.1", 8080))

    @on_each_mac
    def test_the_nocancel_twins_do_the_same_and_call_their_own_originals(self, image):
        program = Program(image)
        server = program.listener()
        client = program.socket()
        self.assertEqual(program.connect(client, address("127.0.0.1", 8080), "connect$NOCANCEL"), (0, 0))
        program.system.take_calls()
        connection, peer = program.accept(server, "accept$NOCANCEL")
        self.assertEqual(program.system.names()[0], "accept$NOCANCEL")
        self.assertEqual(peer, program.own(client))
        program.system.take_calls()
        other = program.socket()
        program.connect(other, address("192.0.2.1", 80), "connect$NOCANCEL")
        self.assertIn("connect$NOCANCEL", program.system.names())
        self.assertNotIn("connect", program.system.names())
        data = program.machine.allocate(b"hello")
        raw = program.machine.allocate(address("127.0.0.1", 8080))
        self.assertEqual(program.call("sendto$NOCANCEL", connection, data, 5, 0, raw, 16), (5, 0))
        room, length = program.machine.allocate(bytes(16)), program.machine.allocate(struct.pack("<I", 16))
        self.assertEqual(program.call("recvfrom$NOCANCEL", connection, data, 5, 0, room, length), (4, 0))
        self.assertEqual(program.machine.int32(length), 0)
        message = program.machine.allocate(bytes(48))
        self.assertEqual(program.call("sendmsg$NOCANCEL", connection, message, 0), (0, 0))
        self.assertEqual(program.call("recvmsg$NOCANCEL", connection, message, 0), (0, 0))
        for name in ("sendto", "recvfrom", "sendmsg", "recvmsg"):
            self.assertIn(name + "$NOCANCEL", program.system.names())

    @on_each_mac
    def test_connectx_connects_binds_and_sends(self, image):
        program = Program(image)
        server = program.listener()
        fd = program.socket()
        source = program.machine.allocate(address("127.0.0.1", 40001))
        target = program.machine.allocate(address("127.0.0.1", 8080))
        endpoints = program.machine.allocate(struct.pack("<IxxxxQIxxxxQIxxxx", 0, source, 16, target, 16))
        data = program.machine.allocate(b"hello")
        vector = program.machine.allocate(struct.pack("<QQ", data, 5))
        sent, connection = program.machine.allocate(bytes(8)), program.machine.allocate(bytes(4))
        # Eight arguments: two of them on the stack of x86-64.
        result = program.call("connectx", fd, endpoints, 0, 1, vector, 1, sent, connection)
        self.assertEqual(result, (0, 0))
        self.assertEqual(program.machine.word(sent), 5)
        self.assertEqual(program.machine.int32(connection), 1)
        self.assertIn(("writev", fd, b"hello"), program.system.calls)
        self.assertEqual(program.accept(server)[1], ("127.0.0.1", 40001))

    @on_each_mac
    def test_a_storm_of_clients_waits_for_the_short_queue_of_macos(self, image):
        program = Program(image)
        server = program.listener()
        for _ in range(xnu.SOMAXCONN):
            program.client()
        fd = program.socket()
        # Somebody accepts while the next client waits.
        program.system.on_pause = lambda: program.system.socket_at(server).queue.pop(0)
        self.assertEqual(program.connect(fd, address("127.0.0.1", 8080)), (0, 0))


class Names(unittest.TestCase):
    @on_each_mac
    def test_a_small_buffer_gets_what_fits_and_the_whole_length(self, image):
        program = Program(image)
        fd = program.listener()
        for room in (0, 1, 7, 15):
            result, errno, raw, size = program.name("getsockname", fd, room)
            self.assertEqual((result, errno, size), (0, 0, 16))
            self.assertEqual(raw[:room], address("127.0.0.1", 8080)[:room])
            self.assertEqual(raw[room:], b"\xcc" * (128 - room))

    @on_each_mac
    def test_a_null_address_is_the_kernels_to_refuse(self, image):
        program = Program(image)
        fd = program.socket()
        self.assertEqual(program.call("bind", fd, 0, 16), (-1, xnu.EFAULT))
        self.assertEqual(program.call("connect", fd, 0, 16), (-1, xnu.EFAULT))
        self.assertEqual(program.call("connect$NOCANCEL", fd, 0, 16), (-1, xnu.EFAULT))
        self.assertEqual(program.call("bind", fd, 16, 16), (-1, xnu.EFAULT))

    @on_each_mac
    def test_accept_without_an_address_gives_none(self, image):
        program = Program(image)
        server = program.listener()
        program.client()
        self.assertGreater(program.succeed("accept", server, 0, 0), 2)

    @on_each_mac
    def test_errors_of_the_system_come_through(self, image):
        program = Program(image)
        for name in ("bind", "connect", "connect$NOCANCEL"):
            self.assertEqual(program.connect(99, address("127.0.0.1", 8080), name), (-1, xnu.EBADF))
        for name in ("getsockname", "getpeername", "accept", "accept$NOCANCEL"):
            self.assertEqual(program.name(name, 99)[:2], (-1, xnu.EBADF))
        self.assertEqual(program.call("listen", 99, 5), (-1, xnu.EBADF))
        self.assertEqual(program.name("accept", program.listener())[:2], (-1, xnu.EAGAIN))

    @on_each_mac
    def test_other_sockets_are_left_alone(self, image):
        program = Program(image)
        datagram = program.socket(kind=xnu.SOCK_DGRAM)
        self.assertEqual(program.bind(datagram, address("127.0.0.1", 8080)), (0, 0))
        self.assertEqual(program.behind(datagram).domain, xnu.AF_INET)
        stream = program.socket()
        self.assertEqual(program.bind(stream, address("192.0.2.1", 8080)), (0, 0))
        self.assertEqual(program.behind(stream).domain, xnu.AF_INET)
        own = program.socket(xnu.AF_UNIX)
        self.assertEqual(program.bind(own, unix(b"/tmp/own.sock")), (0, 0))
        result, errno, raw, size = program.name("getsockname", own)
        self.assertEqual((result, errno, raw[:size]), (0, 0, unix(b"/tmp/own.sock")))

    @on_each_mac
    def test_options_of_tcp_are_not_taken_for_those_of_unix_sockets(self, image):
        """uipc_ctloutput answers names 1 to 6 at every level: TCP_NODELAY would be the peer's credentials."""
        program = Program(image)
        server = program.listener()
        client = program.client()
        for fd in (server, client):
            self.assertEqual(program.option(fd, xnu.IPPROTO_TCP, xnu.TCP_NODELAY), (0, 0, 0))
            self.assertEqual(program.option(fd, xnu.IPPROTO_TCP, xnu.TCP_MAXSEG)[:2], (0, 0))
            self.assertNotEqual(program.option(fd, xnu.IPPROTO_TCP, xnu.TCP_MAXSEG)[2], xnu.PID)
            self.assertEqual(program.set_option(fd, xnu.IPPROTO_TCP, xnu.TCP_NODELAY, 1), (0, 0))
            self.assertEqual(program.option(fd, xnu.IPPROTO_TCP, xnu.TCP_NODELAY), (0, 0, 1))

    @on_each_mac
    def test_names_below_localhost_are_looked_up_as_localhost(self, image):
        program = Program(image)
        for name in ("getaddrinfo", "gethostbyname", "gethostbyname2"):
            program.call(name, program.machine.c_string("shop.localhost"), 0, 0, 0, wide=True)
            self.assertEqual(program.system.take_calls()[-1], (name, b"localhost"))
            program.call(name, program.machine.c_string("example.com"), 0, 0, 0, wide=True)
            self.assertEqual(program.system.take_calls()[-1], (name, b"example.com"))

    @on_each_mac
    def test_fcntl_hands_on_its_variadic_argument(self, image):
        program = Program(image)
        fd = program.socket()
        for name in ("fcntl", "fcntl$NOCANCEL"):
            program.system.take_calls()
            self.assertEqual(program.call(name, fd, xnu.F_DUPFD_CLOEXEC, variadic=(40,))[0], 40)
            self.assertEqual(program.system.take_calls(), [(name, fd, xnu.F_DUPFD_CLOEXEC, 40)])
            program.system.drop(40)
            self.assertEqual(program.call(name, fd, xnu.F_GETFL), (2, 0))


class Instances(unittest.TestCase):
    @on_each_mac
    def test_without_an_instance_every_call_goes_through(self, image):
        program = Program(image, ["HOME=/Users/dev"])
        fd = program.socket()
        program.bind(fd, address("127.0.0.1", 8080))
        program.succeed("listen", fd, 5)
        self.assertEqual(program.behind(fd).domain, xnu.AF_INET)
        self.assertIn(("listen", fd, 5), program.system.calls)
        self.assertEqual(program.own(fd), ("127.0.0.1", 8080))

    @on_each_mac
    def test_calls_before_the_constructor_go_through(self, image):
        program = Program(image, loaded=False)
        fd = program.socket()
        self.assertEqual(program.bind(fd, address("127.0.0.1", 8080)), (0, 0))
        self.assertEqual(program.behind(fd).domain, xnu.AF_INET)

    @on_each_mac
    def test_ports_that_are_excluded_stay_with_tcp(self, image):
        program = Program(image, [*ENVIRONMENT, "AGENTFS_EXCEPT=9229,8080"])
        fd = program.socket()
        program.bind(fd, address("127.0.0.1", 8080))
        self.assertEqual(program.behind(fd).domain, xnu.AF_INET)

    @on_each_mac
    def test_each_call_is_told_while_somebody_traces(self, image):
        for traced in (False, True):
            program = Program(image, files=[(BASE + b"/trace.page", bytes([traced]) + bytes(4095))])
            server = program.listener()
            program.client()
            program.accept(server)
            self.assertEqual(len(program.notices) > 2, traced)


class Programs(unittest.TestCase):
    """A child stays in its instance, whatever environment it is given."""

    ARGUMENTS = [b"node", b"server.js", b"3", b"4", b"5", b"6", b"7", b"8", b"9"]
    OURS = {entry.encode() for entry in ENVIRONMENT if not entry.startswith("HOME=")}

    def check_environment(self, program, function, own=(), wanted=b"node"):
        name, path, arguments, environment = program.system.started.pop()
        self.assertEqual(name, function)
        self.assertEqual(path, wanted)
        self.assertEqual(arguments, self.ARGUMENTS)
        self.assertEqual(sorted(environment), sorted(self.OURS | set(own)))

    def strings(self, program):
        return program.machine.c_string("node"), program.machine.c_strings(self.ARGUMENTS)

    @on_each_mac
    def test_an_environment_without_ours_gets_it_back(self, image):
        program = Program(image)
        path, arguments = self.strings(program)
        environment = program.machine.c_strings(["A=1"])
        self.assertEqual(program.call("execve", path, arguments, environment), (-1, xnu.ENOENT))
        self.check_environment(program, "execve", [b"A=1"])
        pid = program.machine.allocate(bytes(4))
        for function in ("posix_spawn", "posix_spawnp"):
            result = program.call(function, pid, path, 0, 0, arguments, environment)
            self.assertEqual((result, program.machine.int32(pid)), ((0, 0), 4712))
            self.check_environment(program, function, [b"A=1"])

    @on_each_mac
    def test_a_program_that_would_not_find_the_library_starts_without_it(self, image):
        program = Program(image)
        del program.system.files[INTERPOSE.encode()]
        path, arguments = self.strings(program)
        environment = program.machine.c_strings(["A=1", *ENVIRONMENT])
        self.assertEqual(program.call("execve", path, arguments, environment), (-1, xnu.ENOENT))
        started = program.system.started.pop()[3]
        self.assertIn(b"A=1", started)
        self.assertFalse([entry for entry in started if entry.startswith(b"DYLD_INSERT_LIBRARIES=")])

    @on_each_mac
    def test_another_inserted_library_stays_in_front_of_ours(self, image):
        program = Program(image)
        path, arguments = self.strings(program)
        given = [entry for entry in ENVIRONMENT if not entry.startswith("DYLD")]
        environment = program.machine.c_strings([*given, "DYLD_INSERT_LIBRARIES=/x/own.dylib"])
        program.call("execve", path, arguments, environment)
        entries = program.system.started.pop()[3]
        merged = [entry for entry in entries if entry.startswith(b"DYLD_INSERT_LIBRARIES=")]
        self.assertEqual(merged, [f"DYLD_INSERT_LIBRARIES=/x/own.dylib:{INTERPOSE}".encode()])

    @on_each_mac
    def test_an_environment_of_another_instance_is_left_alone(self, image):
        program = Program(image)
        path, arguments = self.strings(program)
        given = ["AGENTFS_INSTANCE=other", "A=1"]
        program.call("execve", path, arguments, program.machine.c_strings(given))
        self.assertEqual(program.system.started.pop()[3], [entry.encode() for entry in given])

    @on_each_mac
    def test_a_program_that_cleared_its_environment_still_hands_ours_on(self, image):
        program = Program(image)
        program.machine.write_word(program.system.environ_at, program.machine.c_strings(["A=1"]))
        path, arguments = self.strings(program)
        program.call("execv", path, arguments)
        self.check_environment(program, "execve", [b"A=1"])
        # The process's own environment is never touched: what was found is started with a completed copy.
        node = b"/opt/homebrew/bin/node"
        found = program.machine.c_string(node.decode())
        program.call("execvp", found, arguments)
        self.check_environment(program, "execve", [b"A=1"], node)
        program.call("execvP", found, program.machine.c_string("/bin"), arguments)
        self.check_environment(program, "execve", [b"A=1"], node)
        self.assertEqual(program.system.environment(), [b"A=1"], "the program's environment is as it was")

    @on_each_mac
    def test_listed_arguments_arrive_in_order(self, image):
        program = Program(image)
        path = program.machine.c_string("node")
        listed = [program.machine.c_string(text) for text in self.ARGUMENTS]
        whole = [entry.encode() for entry in ENVIRONMENT]
        for function, reaches in (("execl", "execv"), ("execlp", "execvp")):
            for count in range(1, len(listed) + 1):
                rest = (*listed[1:count], 0)
                self.assertEqual(program.call(function, path, listed[0], variadic=rest), (-1, xnu.ENOENT))
                name, given, arguments, environment = program.system.started.pop()
                self.assertEqual((name, given, arguments), (reaches, b"node", self.ARGUMENTS[:count]))
                self.assertEqual(environment, whole)

    @on_each_mac
    def test_the_environment_behind_listed_arguments_is_completed(self, image):
        program = Program(image)
        path = program.machine.c_string("node")
        listed = [program.machine.c_string(text) for text in self.ARGUMENTS]
        environment = program.machine.c_strings(["A=1"])
        for count in range(1, len(listed) + 1):
            rest = (*listed[1:count], 0, environment)
            self.assertEqual(program.call("execle", path, listed[0], variadic=rest), (-1, xnu.ENOENT))
            name, given, arguments, entries = program.system.started.pop()
            self.assertEqual((name, given, arguments), ("execve", b"node", self.ARGUMENTS[:count]))
            self.assertEqual(sorted(entries), sorted(self.OURS | {b"A=1"}))


if __name__ == "__main__":
    unittest.main()
