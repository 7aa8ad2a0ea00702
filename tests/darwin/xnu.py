"""libSystem and the kernel, as far as the library calls them: sockets, a few files, one process.

The answers are those of XNU where it differs from other systems (read in Apple's published sources, files
named beside each rule). What the library must get right for them is checked here too: a wrong `sun_len`, a
path that is too long or a call that no hook should make is an error of the test, not an errno.
"""
import struct

AF_UNSPEC, AF_UNIX, AF_INET, AF_INET6 = 0, 1, 2, 30
SOCK_STREAM, SOCK_DGRAM = 1, 2
SOL_SOCKET, IPPROTO_IP, IPPROTO_TCP, IPPROTO_IPV6 = 0xFFFF, 0, 6, 41
SO_ACCEPTCONN, SO_REUSEADDR, SO_KEEPALIVE, SO_REUSEPORT = 0x2, 0x4, 0x8, 0x200
SO_SNDBUF, SO_RCVBUF, SO_SNDTIMEO, SO_RCVTIMEO, SO_TYPE = 0x1001, 0x1002, 0x1005, 0x1006, 0x1008
SO_LINGER, SO_NOSIGPIPE = 0x80, 0x1022
TCP_NODELAY, TCP_MAXSEG, TCP_KEEPALIVE, IPV6_V6ONLY = 1, 2, 0x10, 27
F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_GETOWN, F_SETOWN, F_DUPFD_CLOEXEC = 0, 1, 2, 3, 4, 5, 6, 67
O_NONBLOCK, O_CREAT, O_CLOEXEC = 0x4, 0x200, 0x1000000
ENOENT, EBADF, EACCES, EFAULT, EEXIST, EINVAL = 2, 9, 13, 14, 17, 22
ENOTSOCK, EPROTOTYPE, ENOPROTOOPT, EOPNOTSUPP, EAFNOSUPPORT = 38, 41, 42, 102, 47
EADDRINUSE, EISCONN, ENOTCONN, ECONNREFUSED, EAGAIN, EWOULDBLOCK = 48, 56, 57, 61, 35, 35
FD_CLOEXEC = 1
X_OK = 1
# sys/un.h
SUN_PATH = 104
# kern.ipc.somaxconn; a longer backlog is cut to it (uipc_socket.c, solistencommon).
SOMAXCONN = 128
# uipc_usrreq.c, sun_noname: what an unnamed Unix socket answers.
NO_NAME = bytes([3, AF_UNIX, 0])
# Level names of sys/un.h that getsockopt answers at *any* level of a Unix socket (uipc_ctloutput).
LOCAL_PEERCRED, LOCAL_PEERPID = 1, 2
PID = 4711


class Errno(Exception):
    """A call fails."""

    def __init__(self, number):
        super().__init__(number)
        self.number = number


class Socket:
    count = 0

    def __init__(self, domain, kind):
        Socket.count += 1
        self.domain, self.kind = domain, kind
        self.number = Socket.count
        self.name = None
        self.peer = None
        self.connected = self.closed = False
        self.backlog = None
        self.queue = []
        self.options = {}
        self.flags = 0
        self.owner = 0
        self.handles = 0

    def own_name(self):
        if self.name is not None:
            return self.name
        return NO_NAME if self.domain == AF_UNIX else inet(self.domain == AF_INET6, None, 0)


class File:
    def __init__(self, node):
        self.node = node
        self.flags = 0
        self.handles = 0


class Node:
    """What a path leads to: a regular file, or a socket."""

    def __init__(self, content=b"", socket=None):
        self.content, self.socket, self.mode, self.locked = content, socket, 0o755, False


def inet(v6, ip, port):
    """A sockaddr_in or sockaddr_in6 as macOS lays it out: length, family, port, address."""
    if v6:
        return struct.pack(">BBHI", 28, AF_INET6, port, 0) + (ip or bytes(16)) + bytes(4)
    return struct.pack(">BBH", 16, AF_INET, port) + (ip or bytes(4)) + bytes(8)


class System:
    def __init__(self, environment, files=()):
        self.machine = None
        self.initial = list(environment)
        self.files = {path: Node(content) for path, content in files}
        self.fds = {}
        self.errno_at = self.environ_at = 0
        # Every call of the library into the system: (name, arguments).
        self.calls = []
        # Datagrams, by path.
        self.datagrams = {}
        # (function, program, arguments, environment)
        self.started = []
        # Memory that is mapped for a call, by its address.
        self.mappings = {}
        self.time = 1_000_000_000_000
        self.mask = 0
        # What other processes do while this one sleeps.
        self.on_pause = lambda: None
        # Sockets of the host's TCP and UDP, by kind and port.
        self.host = {}
        self.next_port = 50000

    def start(self):
        """What libSystem has before any library's constructor runs."""
        machine = self.machine
        self.errno_at = machine.allocate(bytes(4))
        self.environ_at = machine.allocate(struct.pack("<Q", machine.c_strings(self.initial)))
        self.program_at = machine.c_string("server")

    @property
    def errno(self):
        return self.machine.int32(self.errno_at)

    @errno.setter
    def errno(self, number):
        self.machine.write_int32(self.errno_at, number)

    def environment(self):
        return self.machine.strings(self.machine.word(self.environ_at))

    # === how calls arrive

    FUNCTIONS = {
        "___error": "error_location",
        "__NSGetEnviron": "environ_location",
        "_bzero": "zero",
        "___bzero": "zero",
    }

    def called(self, symbol):
        plain = symbol.removesuffix("$INODE64")
        name = self.FUNCTIONS.get(plain) or plain[1:].replace("$NOCANCEL", "").replace("$DARWIN_EXTSN", "")
        function = getattr(self, "do_" + name, None)
        if function is None:
            raise AssertionError(f"the library calls {symbol}, which nothing plays")
        try:
            return function(symbol[1:])
        except Errno as failure:
            self.errno = failure.number
            return -1

    def note(self, name, *arguments):
        self.calls.append((name, *arguments))

    def names(self):
        return [call[0] for call in self.calls]

    def take_calls(self):
        calls, self.calls = self.calls, []
        return calls

    def integers(self, count):
        """The first arguments as 32-bit integers."""
        values = [self.machine.argument(index) & 0xFFFF_FFFF for index in range(count)]
        return [value - (1 << 32) if value >> 31 else value for value in values]

    def read(self, address, size):
        from machine import Fault

        try:
            return self.machine.read(address, size)
        except Fault:
            raise Errno(EFAULT) from None

    # === C library

    def do_error_location(self, _):
        return self.errno_at

    def do_environ_location(self, _):
        return self.environ_at

    def do_getenv(self, _):
        name = self.machine.string(self.machine.argument(0))
        array = self.machine.word(self.environ_at)
        while pointer := self.machine.word(array):
            if self.machine.string(pointer).startswith(name + b"="):
                return pointer + len(name) + 1
            array += 8
        return 0

    def do_strlen(self, _):
        return len(self.machine.string(self.machine.argument(0)))

    def do_memcpy(self, _):
        to, source, size = (self.machine.argument(index) for index in range(3))
        self.machine.write(to, self.machine.read(source, size))
        return to

    do_memmove = do_memcpy

    def do_memset(self, _):
        to, byte, size = (self.machine.argument(index) for index in range(3))
        self.machine.write(to, bytes([byte & 0xFF]) * size)
        return to

    def do_zero(self, _):
        to, size = self.machine.argument(0), self.machine.argument(1)
        self.machine.write(to, bytes(size))

    def do_memcmp(self, _):
        one, other, size = (self.machine.argument(index) for index in range(3))
        one, other = self.machine.read(one, size), self.machine.read(other, size)
        return (one > other) - (one < other)

    def do_getprogname(self, _):
        return self.program_at

    def do_getpid(self, _):
        return PID

    def do_clock_gettime(self, _):
        self.time += 1_000_003
        self.machine.write(
            self.machine.argument(1), struct.pack("<qq", *divmod(self.time, 1_000_000_000))
        )
        return 0

    def do_sigprocmask(self, _):
        (how,) = self.integers(1)
        new, old = self.machine.argument(1), self.machine.argument(2)
        if how != 3:  # SIG_SETMASK
            raise Errno(EINVAL)
        if old:
            self.machine.write(old, struct.pack("<I", self.mask))
        (self.mask,) = struct.unpack("<I", self.machine.read(new, 4))
        return 0

    def do_nanosleep(self, _):
        seconds, nanoseconds = struct.unpack("<qq", self.machine.read(self.machine.argument(0), 16))
        self.time += seconds * 1_000_000_000 + nanoseconds
        self.on_pause()
        self.note("nanosleep", nanoseconds)
        return 0

    # === descriptors

    def at(self, fd):
        if fd not in self.fds:
            raise Errno(EBADF)
        return self.fds[fd][0]

    def socket_at(self, fd):
        found = self.at(fd)
        if not isinstance(found, Socket):
            raise Errno(ENOTSOCK)
        return found

    def install(self, thing, lowest=3, flags=0):
        fd = lowest
        while fd in self.fds:
            fd += 1
        self.put(fd, thing, flags)
        return fd

    def put(self, fd, thing, flags):
        thing.handles += 1
        self.drop(fd)
        self.fds[fd] = (thing, flags)

    def drop(self, fd):
        if fd not in self.fds:
            return
        thing, _ = self.fds.pop(fd)
        thing.handles -= 1
        if thing.handles == 0 and isinstance(thing, Socket):
            thing.closed = True
            if thing.peer is not None:
                # unp_disconnect: both ends are disconnected at once.
                thing.peer.connected, thing.peer.peer, thing.peer.closed_by_peer = False, None, True
                thing.peer = None
        elif thing.handles == 0:
            thing.node.locked = False

    def do_close(self, _):
        (fd,) = self.integers(1)
        self.note("close", fd)
        self.at(fd)
        self.drop(fd)
        return 0

    def do_dup(self, _):
        (fd,) = self.integers(1)
        self.note("dup", fd)
        return self.install(self.at(fd))

    def do_dup2(self, _):
        fd, to = self.integers(2)
        self.note("dup2", fd, to)
        thing = self.at(fd)
        if fd != to:
            self.put(to, thing, 0)
        return to

    def do_fcntl(self, symbol):
        fd, command = self.integers(2)
        argument = self.machine.variadic(2, 0)
        thing = self.at(fd)
        if command in (F_DUPFD, F_DUPFD_CLOEXEC):
            self.note(symbol, fd, command, argument)
            return self.install(thing, argument, FD_CLOEXEC if command == F_DUPFD_CLOEXEC else 0)
        if command == F_GETFD:
            return self.fds[fd][1]
        if command == F_SETFD:
            self.note(symbol, fd, command, argument)
            self.fds[fd] = (thing, argument)
        elif command == F_GETFL:
            return thing.flags | 2
        elif command == F_SETFL:
            self.note(symbol, fd, command, argument)
            thing.flags = argument & ~3
        elif command == F_GETOWN:
            return getattr(thing, "owner", 0)
        elif command == F_SETOWN:
            self.note(symbol, fd, command, argument)
            thing.owner = argument
        else:
            raise AssertionError(f"fcntl command {command}")
        return 0

    def do_fstat(self, _):
        (fd,) = self.integers(1)
        thing = self.at(fd)
        # struct stat with 64-bit inodes (sys/stat.h): 144 bytes.
        status = bytearray(144)
        if isinstance(thing, Socket):
            # uipc_sense gives Unix sockets a number; a TCP socket has none (pru_sense_null).
            inode = thing.number if thing.domain == AF_UNIX else 0
            struct.pack_into("<HHQ", status, 4, 0o140666, 0, inode)
        else:
            struct.pack_into("<HHQ", status, 4, 0o100600, 1, 99)
            struct.pack_into("<q", status, 96, len(thing.node.content))
        self.machine.write(self.machine.argument(1), status)
        return 0

    # === files

    def path(self, index=0):
        return self.clean(self.machine.string(self.machine.argument(index)))

    @staticmethod
    def clean(path):
        while b"//" in path:
            path = path.replace(b"//", b"/")
        return path

    def do_access(self, _):
        path, mode = self.path(), self.integers(2)[1]
        if path not in self.files:
            raise Errno(ENOENT)
        if mode & X_OK and not self.files[path].mode & 0o111:
            raise Errno(EACCES)
        return 0

    def do_unlink(self, _):
        path = self.path()
        self.note("unlink", path)
        if self.files.pop(path, None) is None:
            raise Errno(ENOENT)
        return 0

    def do_mkdir(self, _):
        # Folders are not modelled: every one is there.
        self.note("mkdir", self.path(), self.integers(2)[1])
        raise Errno(EEXIST)

    def do_chmod(self, _):
        path, mode = self.path(), self.integers(2)[1]
        self.note("chmod", path, mode)
        if path not in self.files:
            raise Errno(ENOENT)
        self.files[path].mode = mode
        return 0

    def do_open(self, _):
        path, flags = self.path(), self.integers(2)[1]
        mode = self.machine.variadic(2, 0) if flags & O_CREAT else None
        self.note("open", path, flags, mode)
        if path not in self.files:
            if not flags & O_CREAT:
                raise Errno(ENOENT)
            if mode != 0o600:
                raise AssertionError(f"a file is created with mode {mode:#o}")
            self.files[path] = Node()
        if self.files[path].socket is not None:
            raise Errno(EOPNOTSUPP)
        return self.install(File(self.files[path]), flags=FD_CLOEXEC if flags & O_CLOEXEC else 0)

    def do_read(self, _):
        (fd,) = self.integers(1)
        buffer, size = self.machine.argument(1), self.machine.argument(2)
        content = self.at(fd).node.content[:size]
        self.machine.write(buffer, content)
        return len(content)

    def do_flock(self, _):
        fd, operation = self.integers(2)
        node = self.at(fd).node
        if operation & 8:  # LOCK_UN
            node.locked = False
        elif node.locked:
            raise Errno(EWOULDBLOCK)
        else:
            node.locked = True
        return 0

    def do_mmap(self, _):
        _, size, _, flags, fd = self.integers(5)
        if flags & 0x1000:  # MAP_ANON
            address = self.machine.map_page(bytes(size))
            self.mappings[address] = size
            return address
        return self.machine.map_page(self.at(fd).node.content)

    def do_munmap(self, _):
        address, size = self.machine.argument(0), self.machine.argument(1)
        if self.mappings.pop(address, None) != size:
            raise AssertionError(f"{address:#x} was not mapped with {size} bytes")
        # Whoever reads it later sees that it is gone.
        self.machine.write(address, b"\xdd" * size)
        return 0

    # === sockets

    def do_socket(self, _):
        domain, kind, protocol = self.integers(3)
        self.note("socket", domain, kind, protocol)
        if domain not in (AF_UNIX, AF_INET, AF_INET6):
            raise Errno(EAFNOSUPPORT)
        if kind not in (SOCK_STREAM, SOCK_DGRAM):
            raise AssertionError(f"macOS has no flags in the kind of a socket: {kind:#x}")
        return self.install(Socket(domain, kind))

    def given_name(self, address, length):
        """An address that the library or the program passes, checked as the kernel does and more."""
        if not address:
            raise Errno(EFAULT)
        raw = self.read(address, length)
        if len(raw) < 2:
            raise Errno(EINVAL)
        if raw[1] == AF_UNIX:
            # getsockaddr overwrites sa_len, so the kernel does not mind; other readers do.
            if raw[0] != length:
                raise AssertionError(f"sun_len is {raw[0]}, the length passed {length}")
            path = raw[2:].rstrip(b"\0")
            if len(path) >= SUN_PATH:
                raise AssertionError(f"a path of {len(path)} bytes does not fit sun_path")
            if length != 2 + len(path) + 1:
                raise AssertionError(f"a path of {len(path)} bytes is passed with length {length}")
        return raw

    def do_bind(self, _):
        fd = self.integers(1)[0]
        thing = self.socket_at(fd)
        name = self.given_name(self.machine.argument(1), self.integers(3)[2])
        self.note("bind", fd, name)
        if name[1] != thing.domain:
            raise Errno(EAFNOSUPPORT)
        if thing.name is not None:
            raise Errno(EINVAL)
        if thing.domain == AF_UNIX:
            path = self.clean(name[2:].rstrip(b"\0"))
            if path in self.files:
                raise Errno(EADDRINUSE)
            self.files[path] = Node(socket=thing)
            thing.name = name
            return 0
        port = int.from_bytes(name[2:4], "big")
        if port == 0:
            port = self.next_port
            self.next_port += 1
        if (thing.kind, port) in self.host:
            raise Errno(EADDRINUSE)
        self.host[thing.kind, port] = thing
        thing.name = name[:2] + port.to_bytes(2, "big") + name[4:]
        return 0

    def do_listen(self, _):
        fd, backlog = self.integers(2)
        self.note("listen", fd, backlog)
        thing = self.socket_at(fd)
        if thing.domain == AF_UNIX and thing.name is None:
            raise Errno(EINVAL)
        thing.backlog = SOMAXCONN if backlog <= 0 else min(backlog, SOMAXCONN)
        return 0

    def do_connect(self, symbol):
        fd = self.integers(1)[0]
        thing = self.socket_at(fd)
        name = self.given_name(self.machine.argument(1), self.integers(3)[2])
        self.note(symbol, fd, name)
        if thing.connected and thing.kind == SOCK_STREAM:
            raise Errno(EISCONN)
        if thing.backlog is not None:
            raise Errno(EOPNOTSUPP)
        if thing.domain != AF_UNIX:
            return self.connect_host(thing, name)
        if name[1] not in (AF_UNSPEC, AF_UNIX):
            # unp_connect; Linux says EINVAL.
            raise Errno(EAFNOSUPPORT)
        self.connect_path(thing, self.clean(name[2:].rstrip(b"\0")))
        return 0

    def connect_path(self, thing, path):
        """unp_connect."""
        if path not in self.files:
            raise Errno(ENOENT)
        to = self.files[path].socket
        if to is None:
            raise Errno(ENOTSOCK)
        if to.closed:
            raise Errno(ECONNREFUSED)
        if to.kind != thing.kind:
            raise Errno(EPROTOTYPE)
        if thing.kind == SOCK_DGRAM:
            thing.peer, thing.connected = to, True
            return
        if to.backlog is None or len(to.queue) >= to.backlog:
            # A full queue refuses; it does not make the caller wait.
            raise Errno(ECONNREFUSED)
        accepted = Socket(AF_UNIX, SOCK_STREAM)
        accepted.name, accepted.peer, accepted.connected = to.name, thing, True
        accepted.options = dict(to.options)
        thing.peer, thing.connected = accepted, True
        to.queue.append(accepted)

    def connect_host(self, thing, name):
        port = int.from_bytes(name[2:4], "big")
        if name[1] != thing.domain:
            raise Errno(EAFNOSUPPORT)
        if (thing.kind, port) not in self.host or self.host[thing.kind, port].backlog is None:
            raise Errno(ECONNREFUSED)
        thing.connected, thing.remote = True, name
        return 0

    def give(self, name, address, length):
        """Copies a name out as the kernel does: cut to the room there is, its full length reported."""
        if not address:
            return
        room = self.machine.int32(length)
        self.machine.write(address, name[: max(room, 0)])
        self.machine.write_int32(length, len(name))

    def do_accept(self, symbol):
        fd = self.integers(1)[0]
        address, length = self.machine.argument(1), self.machine.argument(2)
        self.note(symbol, fd)
        thing = self.socket_at(fd)
        if thing.backlog is None:
            raise Errno(EINVAL)
        if not thing.queue:
            raise Errno(EAGAIN)
        accepted = thing.queue.pop(0)
        accepted.flags = thing.flags & O_NONBLOCK
        # uipc_accept: a client that is gone already has no name.
        name = accepted.peer.own_name() if accepted.peer is not None else NO_NAME
        self.give(name, address, length)
        return self.install(accepted)

    def do_getsockname(self, _):
        thing = self.socket_at(self.integers(1)[0])
        self.give(thing.own_name(), self.machine.argument(1), self.machine.argument(2))
        return 0

    def do_getpeername(self, _):
        thing = self.socket_at(self.integers(1)[0])
        if getattr(thing, "closed_by_peer", False):
            raise Errno(EINVAL)
        if not thing.connected:
            raise Errno(ENOTCONN)
        name = thing.peer.own_name() if thing.domain == AF_UNIX else thing.remote
        self.give(name, self.machine.argument(1), self.machine.argument(2))
        return 0

    def do_shutdown(self, _):
        fd, how = self.integers(2)
        self.note("shutdown", fd, how)
        if not self.socket_at(fd).connected:
            raise Errno(ENOTCONN)
        return 0

    def default(self, thing, level, name):
        """What a fresh socket answers; an errno where there is no such option."""
        if level == SOL_SOCKET:
            if name == SO_TYPE:
                return struct.pack("<i", thing.kind)
            if name == SO_ACCEPTCONN:
                return struct.pack("<i", SO_ACCEPTCONN if thing.backlog is not None else 0)
            if name in (SO_SNDBUF, SO_RCVBUF):
                return struct.pack("<i", 8192 if thing.domain == AF_UNIX else 131072)
            if name == SO_LINGER:
                return bytes(8)
            return bytes(16 if name in (SO_SNDTIMEO, SO_RCVTIMEO) else 4)
        if thing.domain == AF_UNIX:
            # uipc_ctloutput looks at the name only, whatever the level.
            if name in (LOCAL_PEERCRED, LOCAL_PEERPID):
                if not thing.connected:
                    raise Errno(ENOTCONN)
                return bytes(76) if name == LOCAL_PEERCRED else struct.pack("<i", PID)
            raise Errno(EOPNOTSUPP)
        if level == IPPROTO_IPV6 and thing.domain != AF_INET6:
            raise Errno(EINVAL)
        fresh = {TCP_KEEPALIVE: 7200, 0x101: 75, 0x102: 8} if level == IPPROTO_TCP else {4: 64}
        return struct.pack("<i", fresh.get(name, 0))

    def do_getsockopt(self, _):
        fd, level, name = self.integers(3)
        thing = self.socket_at(fd)
        value = thing.options.get((level, name))
        if value is None:
            value = self.default(thing, level, name)
        address, length = self.machine.argument(3), self.machine.argument(4)
        room = self.machine.int32(length)
        self.machine.write(address, value[:room])
        self.machine.write_int32(length, min(room, len(value)))
        return 0

    def do_setsockopt(self, _):
        fd, level, name = self.integers(3)
        thing = self.socket_at(fd)
        value = self.read(self.machine.argument(3), self.integers(5)[4])
        self.note("setsockopt", fd, level, name, value)
        if level != SOL_SOCKET and thing.domain == AF_UNIX:
            raise Errno(EOPNOTSUPP)
        if level == SOL_SOCKET and name in (SO_REUSEADDR, SO_KEEPALIVE, SO_REUSEPORT):
            # A flag reads back as its own bit (uipc_socket.c, sogetoptlock).
            value = struct.pack("<i", name if any(value) else 0)
        thing.options[level, name] = value
        return 0

    # === data

    def do_sendto(self, symbol):
        fd = self.integers(1)[0]
        data = self.read(self.machine.argument(1), self.machine.argument(2))
        address, length = self.machine.argument(4), self.integers(6)[5]
        thing = self.socket_at(fd)
        if thing.kind == SOCK_DGRAM and thing.domain == AF_UNIX:
            path = self.clean(self.given_name(address, length)[2:].rstrip(b"\0"))
            self.note(symbol, fd, path)
            if path not in self.datagrams:
                raise Errno(ENOENT)
            self.datagrams[path].append(data)
            return len(data)
        # uipc_send: a connected stream does not look at the address.
        self.note(symbol, fd, data, bool(address))
        if not thing.connected:
            raise Errno(ENOTCONN)
        return len(data)

    def do_sendmsg(self, symbol):
        fd = self.integers(1)[0]
        self.note(symbol, fd)
        if not self.socket_at(fd).connected:
            raise Errno(ENOTCONN)
        return 0

    def do_writev(self, _):
        fd, count = self.integers(1)[0], self.integers(3)[2]
        vectors = self.machine.argument(1)
        data = b"".join(
            self.machine.read(self.machine.word(at), self.machine.word(at + 8))
            for at in range(vectors, vectors + 16 * count, 16)
        )
        self.note("writev", fd, data)
        return len(data)

    def do_recvfrom(self, symbol):
        """A stream gives no address (soreceive): its length becomes 0."""
        fd = self.integers(1)[0]
        self.note(symbol, fd)
        data = b"data"
        self.machine.write(self.machine.argument(1), data)
        if self.machine.argument(4):
            self.machine.write_int32(self.machine.argument(5), 0)
        return len(data)

    def do_recvmsg(self, symbol):
        self.note(symbol, self.integers(1)[0])
        return 0

    # === programs

    def record(self, function, program, arguments, environment):
        texts = self.machine.strings(environment) if environment else []
        given = self.machine.strings(arguments)
        self.started.append((function, self.machine.string(program), given, texts))

    def do_execve(self, _):
        program, arguments, environment = (self.machine.argument(index) for index in range(3))
        self.record("execve", program, arguments, environment)
        raise Errno(ENOENT)

    def do_execv(self, symbol):
        program, arguments = self.machine.argument(0), self.machine.argument(1)
        self.record(symbol, program, arguments, self.machine.word(self.environ_at))
        raise Errno(ENOENT)

    do_execvp = do_execv

    def do_execvP(self, _):
        program, arguments = self.machine.argument(0), self.machine.argument(2)
        self.record("execvP", program, arguments, self.machine.word(self.environ_at))
        raise Errno(ENOENT)

    def do_posix_spawn(self, symbol):
        program, arguments, environment = (self.machine.argument(index) for index in (1, 4, 5))
        self.record(symbol, program, arguments, environment)
        self.machine.write_int32(self.machine.argument(0), 4712)
        return 0

    do_posix_spawnp = do_posix_spawn

    def do_system(self, symbol):
        self.started.append(
            (symbol, self.machine.string(self.machine.argument(0)), [], self.environment())
        )
        return 0

    do_popen = do_system

    # === names

    def do_getaddrinfo(self, _):
        self.note("getaddrinfo", self.machine.string(self.machine.argument(0)))
        return 0

    def do_gethostbyname(self, symbol):
        self.note(symbol, self.machine.string(self.machine.argument(0)))
        return 0

    do_gethostbyname2 = do_gethostbyname
