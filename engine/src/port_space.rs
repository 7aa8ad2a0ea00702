//! The port space of an instance: a network name space of its own with `lo`, and nothing else. Sockets that are made there
//! work in any process, wherever it is: so a listener of a program is real TCP, on ports that no other instance has.
//!
//! ```text
//! supervisor (the host's network) ── "4" or "6" ──► helper (the port space)
//!                                 ◄── a batch of sockets ──
//!                                 ◄── "!": closed here ──
//! ```
//! The helper is a process, because a process that is not root gets a network of its own only together with a user name
//! space, from which it could no longer read the memory of programs. It ends with the supervisor.
use crate::limits::STOCK;
use crate::sys::{fork, options};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::ForkResult;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, ipproto, recvmsg, send, sendmsg, socket_with,
    socketpair,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Asks for IPv4 sockets, and for IPv6 ones.
const V4: u8 = b'4';
const V6: u8 = b'6';
/// The helper has closed its own copies of what it handed out. Until then a program cannot close a socket for good, and its
/// port would stay in use.
const CLOSED: u8 = b'!';
/// The supervisor ends because nobody needs it any more.
const END: u8 = b'.';

/// The supervisor's end.
#[derive(Debug)]
pub(crate) struct PortSpace {
    helper: OwnedFd,
    v4: Vec<OwnedFd>,
    v6: Vec<OwnedFd>,
    network: u64,
}

// === impl PortSpace ===

impl PortSpace {
    /// Makes a port space. The caller has one thread, and nothing open that must not live as long as the helper but `close`,
    /// which the helper closes. `ended` runs in the helper when the supervisor is gone.
    ///
    /// # Errors
    /// Why there is no port space: the system forbids user name spaces, for example.
    pub(crate) fn make(close: Vec<OwnedFd>, ended: impl FnOnce()) -> (io::Result<Self>, Vec<OwnedFd>) {
        let mut close = close;
        let made = Self::try_make(&mut close, ended);
        (made, close)
    }

    fn try_make(close: &mut Vec<OwnedFd>, ended: impl FnOnce()) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        if let ForkResult::Child = fork::fork()? {
            close.clear();
            drop(ours);
            if help(&theirs) == End::Unexpected {
                ended();
            }
            std::process::exit(0)
        }
        drop(theirs);
        let mut space = Self { helper: ours, v4: Vec::new(), v6: Vec::new(), network: 0 };
        let begun = space.begin();
        if begun.is_err() {
            space.end();
        }
        begun.map(|()| space)
    }

    fn begin(&mut self) -> io::Result<()> {
        self.v4 = self.batch(V4)?;
        let first = self.v4.first().ok_or_else(gone)?;
        self.network = options::network(first)?;
        Ok(())
    }

    /// Ends the helper, which otherwise tells of an unexpected end.
    pub(crate) fn end(&self) {
        let _ = send(&self.helper, &[END], SendFlags::NOSIGNAL);
    }

    /// Readable when the helper is gone.
    pub(crate) fn helper(&self) -> BorrowedFd<'_> {
        self.helper.as_fd()
    }

    /// Whether a socket of this network is one of the port space.
    pub(crate) fn has(&self, network: u64) -> bool {
        self.network == network
    }

    /// A fresh TCP socket.
    ///
    /// # Errors
    /// What the system says: `EAFNOSUPPORT` without IPv6, `EMFILE`.
    pub(crate) fn socket(&mut self, v6: bool) -> io::Result<OwnedFd> {
        let stock = if v6 { &mut self.v6 } else { &mut self.v4 };
        if let Some(socket) = stock.pop() {
            return Ok(socket);
        }
        let mut batch = self.batch(if v6 { V6 } else { V4 })?;
        let socket = batch.pop().ok_or_else(gone)?;
        *(if v6 { &mut self.v6 } else { &mut self.v4 }) = batch;
        Ok(socket)
    }

    fn batch(&self, family: u8) -> io::Result<Vec<OwnedFd>> {
        send(&self.helper, &[family], SendFlags::NOSIGNAL)?;
        let mut errno = [0_u8; 4];
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(STOCK))];
        let mut control = RecvAncillaryBuffer::new(&mut room);
        let mut parts = [IoSliceMut::new(&mut errno)];
        let received = recvmsg(&self.helper, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
        let sockets: Vec<OwnedFd> = control
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(rights) => Some(rights),
                _ => None,
            })
            .flatten()
            .collect();
        let mut closed = [0; 1];
        if received.bytes > 0 && rustix::net::recv(&self.helper, &mut closed[..], RecvFlags::empty())?.1 == 0
        {
            return Err(gone());
        }
        match (received.bytes, i32::from_ne_bytes(errno)) {
            (0, _) => Err(gone()),
            (_, 0) => Ok(sockets),
            (_, errno) => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the process that holds the ports has ended")
}

/// How the supervisor ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Asked,
    Unexpected,
}

/// The helper: makes the port space and hands out sockets until the other end is closed.
fn help(supervisor: &OwnedFd) -> End {
    let _ = nix::sys::prctl::set_name(c"agentfs-ports");
    let made = make_space();
    let mut asked = [0; 1];
    loop {
        match rustix::net::recv(supervisor, &mut asked[..], RecvFlags::empty()) {
            Ok((1.., _)) if asked == [END] => return End::Asked,
            Ok((1.., _)) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Ok(_) | Err(_) => return End::Unexpected,
        }
        let family = if asked == [V6] { AddressFamily::INET6 } else { AddressFamily::INET };
        let made = made.as_ref().map_err(|error| error.raw_os_error().unwrap_or(libc::EPERM)).copied();
        let batch = made.and_then(|()| {
            let one = || socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, Some(ipproto::TCP));
            // As many as the limit of open files allows, but at least one.
            let sockets: Vec<OwnedFd> = (0..STOCK).map_while(|_| one().ok()).collect();
            if !sockets.is_empty() {
                return Ok(sockets);
            }
            one().map(|one| vec![one]).map_err(rustix::io::Errno::raw_os_error)
        });
        if give(supervisor, batch).is_err() {
            return End::Unexpected;
        }
    }
}

fn give(supervisor: &OwnedFd, batch: Result<Vec<OwnedFd>, i32>) -> io::Result<()> {
    let (errno, sockets) = match batch {
        Ok(sockets) => (0, sockets),
        Err(errno) => (errno, Vec::new()),
    };
    let borrowed: Vec<BorrowedFd<'_>> = sockets.iter().map(AsFd::as_fd).collect();
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(STOCK))];
    let mut control = SendAncillaryBuffer::new(&mut room);
    if !borrowed.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&borrowed));
    }
    sendmsg(supervisor, &[IoSlice::new(&errno.to_ne_bytes())], &mut control, SendFlags::NOSIGNAL)?;
    drop(sockets);
    send(supervisor, &[CLOSED], SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Enters a new network and prepares it.
fn make_space() -> io::Result<()> {
    // Root needs no user name space.
    unshare(CloneFlags::CLONE_NEWNET)
        .or_else(|_| unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET))?;
    set_up()?;
    // Ports under 1024 need no privilege. A kernel without the setting has none of them for others than root.
    let _ = std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
    Ok(())
}

/// `ip link set lo up`, and `ip route add local default dev lo` for both families (rtnetlink(7)): every address is one of
/// the port space's own, so that a connect to an address of the host's reaches a listener on the wildcard there too.
fn set_up() -> io::Result<()> {
    /// `lo` is always the first.
    const LO: u32 = 1;
    const UP: u32 = 1;
    const NEW_LINK: u16 = 16;
    const NEW_ROUTE: u16 = 24;
    const REQUEST_ACK: u16 = 0x5;
    const CREATE: u16 = 0x400;
    const OUT: u16 = 4;
    const LOCAL_TABLE: u8 = 255;
    const BOOT: u8 = 3;
    const SCOPE_HOST: u8 = 254;
    const LOCAL: u8 = 2;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    let ask = |kind: u16, flags: u16, body: &[u8]| -> io::Result<()> {
        let length = u32::try_from(16 + body.len()).map_err(io::Error::other)?;
        let mut message = length.to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend((REQUEST_ACK | flags).to_ne_bytes());
        message.extend([0; 8]);
        message.extend(body);
        send(&socket, &message, SendFlags::empty())?;
        let mut reply = [0_u8; 256];
        let (length, _) = rustix::net::recv(&socket, &mut reply[..], RecvFlags::empty())?;
        // A header of 16 bytes, then the negative errno.
        let errno = reply.get(..length).and_then(|reply| reply.get(16..)?.first_chunk());
        match errno.map(|errno| i32::from_ne_bytes(*errno)) {
            Some(0) => Ok(()),
            Some(errno) => Err(io::Error::from_raw_os_error(-errno)),
            None => Err(io::Error::from_raw_os_error(libc::EBADMSG)),
        }
    };
    let link = [0, LO, UP, UP].map(u32::to_ne_bytes).concat();
    ask(NEW_LINK, 0, &link)?;
    for family in [libc::AF_INET, libc::AF_INET6] {
        let family = u8::try_from(family).map_err(io::Error::other)?;
        let mut route = vec![family, 0, 0, 0, LOCAL_TABLE, BOOT, SCOPE_HOST, LOCAL];
        route.extend(0_u32.to_ne_bytes());
        route.extend(8_u16.to_ne_bytes());
        route.extend(OUT.to_ne_bytes());
        route.extend(LO.to_ne_bytes());
        // Without it, only localhost works, which is what matters; a machine may have no IPv6.
        let _ = ask(NEW_ROUTE, CREATE, &route);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts;
    use agentfs_wire::address::Endpoint;

    #[test]
    fn two_port_spaces_have_the_same_port() {
        // Whether the system allows it is not ours to test.
        let mut one = match PortSpace::make(Vec::new(), || ()).0 {
            Err(error) if [libc::EPERM, libc::ENOSPC].contains(&error.raw_os_error().unwrap_or(0)) => return,
            one => one.unwrap(),
        };
        let mut two = PortSpace::make(Vec::new(), || ()).0.unwrap();
        let at = |text: &str| -> Endpoint {
            let address: std::net::SocketAddr = text.parse().unwrap();
            Endpoint { ip: address.ip(), port: address.port() }
        };
        let bind = |space: &mut PortSpace, text: &str| {
            let socket = space.socket(at(text).ip.is_ipv6()).unwrap();
            options::bind(&socket, &facts::spelled(at(text), at(text).ip.is_ipv6())).map(|()| socket)
        };
        let first = bind(&mut one, "0.0.0.0:80").unwrap();
        let _second = bind(&mut two, "0.0.0.0:80").unwrap();
        assert_eq!(bind(&mut one, "127.0.0.1:80").unwrap_err().raw_os_error(), Some(libc::EADDRINUSE));
        options::listen(&first, 5).unwrap();
        for address in ["127.0.0.1:80", "10.1.2.3:80"] {
            let client = one.socket(false).unwrap();
            options::connect(&client, &facts::spelled(at(address), false)).unwrap();
            assert_eq!(facts::peer(&client).unwrap(), at(address));
        }
        // A port is free at once when its socket is closed: nobody else has a copy of it.
        for _ in 0..40 * STOCK {
            drop(bind(&mut two, "0.0.0.0:81").unwrap());
        }
        // More than one batch.
        for _ in 0..2 * STOCK {
            let fact = facts::of(one.socket(true).unwrap()).unwrap();
            assert!(fact.v6 && one.has(fact.network) && !two.has(fact.network));
        }
    }
}
