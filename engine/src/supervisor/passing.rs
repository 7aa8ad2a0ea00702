//! Connections that the supervisor passes on: from fronts into the port space, and from bridges to listeners of the library.
use super::{Bridge, ENTRANCE, Passed, Source, Supervisor};
use crate::facts;
use crate::fronts::Place;
use crate::limits::{BACKLOG, RELAYS};
use crate::relay::{Relay, Side, State};
use crate::sys::options::{self, Value};
use agentfs_wire::address::{Endpoint, Scope};
use agentfs_wire::peer::Peer;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::epoll::{EpollEvent, EpollFlags};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, connect, getpeername, socket};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, accept_with, sendmsg};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

impl Supervisor {
    /// Accepts what waits at a front, and connects to the listener that it stands for.
    pub(super) fn accept_at_front(&mut self, place: Place) {
        loop {
            let Some(front) = self.fronts.get_mut(place) else { return };
            let unix = match next_of(&front.socket, self.relays.len()) {
                Ok(Some(unix)) => unix,
                Ok(None) => return,
                Err(Full) => return self.rest(Source::Front(place)),
            };
            let client = name_of(&unix);
            let wants_descriptor = matches!(client, Some(Peer::Forwarded { handed_over: true, .. }));
            let connected = self.connect_inside(place, client);
            match connected {
                // The collector gets the connection itself. It reads the end if there is none.
                Ok((tcp, _)) if wants_descriptor => {
                    if !is_refused(&tcp) {
                        let _ = hand_out(&unix, &tcp);
                    }
                }
                Ok((tcp, connecting)) => self.add_relay(Relay::new(unix, tcp, connecting)),
                Err(_) => self.sweep(),
            }
        }
    }

    /// A socket that is connecting to a listener in the port space, in the client's name as far as that is possible.
    fn connect_inside(&mut self, (port, scope): Place, client: Option<Peer>) -> io::Result<(OwnedFd, bool)> {
        let (local, remote) = match client {
            Some(Peer::Client { local, remote, .. }) => (Some(local), Some(remote.ip)),
            Some(Peer::Forwarded { client, .. }) => (Some(client.canonical()), None),
            None => (None, None),
        };
        let ip = remote.filter(|ip| scope.reached_by(*ip)).unwrap_or_else(|| usual_ip(scope));
        let v6 = ip.is_ipv6();
        let mut tcp = self.inside(v6)?;
        if let Some(local) = local.filter(|local| local.ip.is_ipv6() == v6) {
            let _ = options::set(&tcp, libc::SOL_SOCKET, libc::SO_REUSEADDR, &Value::number(1));
            if options::bind(&tcp, &facts::spelled(local, v6)).is_err() {
                tcp = self.inside(v6)?;
                let _ = options::bind(&tcp, &facts::spelled(Endpoint { port: 0, ..local }, v6));
            }
        }
        fcntl(&tcp, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        match options::connect(&tcp, &facts::spelled(self.place_of(Endpoint { ip, port }), v6)) {
            Ok(()) => Ok((tcp, false)),
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok((tcp, true)),
            Err(error) => Err(error),
        }
    }

    /// Makes sure that a connect to `to` in the port space reaches the listener of the library.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn build_bridge(&mut self, to: Endpoint) -> io::Result<()> {
        let bridge = (to.ip, to.port);
        if self.bridges.contains_key(&bridge) {
            return Ok(());
        }
        let v6 = to.ip.is_ipv6();
        let socket = self.inside(v6)?;
        options::set(&socket, libc::SOL_SOCKET, libc::SO_REUSEADDR, &Value::number(1))?;
        self.bind_socket(&socket, &facts::spelled(to, v6), true)?;
        fcntl(&socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        options::listen(&socket, BACKLOG)?;
        let token = self.wait_for(&socket, Source::Bridge(bridge), EpollFlags::EPOLLIN)?;
        self.bridges.insert(bridge, (socket, token));
        Ok(())
    }

    /// Removes a bridge to a listener that has ended.
    pub(super) fn drop_dead_bridge(&mut self, bridge: Bridge) {
        if self.fronts.elsewhere(bridge.0, bridge.1).is_none()
            && let Some((_, token)) = self.bridges.remove(&bridge)
        {
            self.forget(token);
        }
    }

    /// The bridges of a port whose listeners have ended are removed: a program wants the port.
    pub(super) fn clear_bridges(&mut self, port: u16) {
        let of_port: Vec<Bridge> = self.bridges.keys().filter(|bridge| bridge.1 == port).copied().collect();
        for bridge in of_port {
            self.drop_dead_bridge(bridge);
        }
    }

    /// Accepts what waits at a bridge, and connects to the listener of the library.
    pub(super) fn accept_at_bridge(&mut self, bridge: Bridge) {
        loop {
            let Some((socket, _)) = self.bridges.get(&bridge) else { return };
            let tcp = match next_of(socket, self.relays.len()) {
                Ok(Some(tcp)) => tcp,
                Ok(None) => return,
                Err(Full) => return self.rest(Source::Bridge(bridge)),
            };
            match self.connect_outside(&tcp, bridge) {
                Ok(unix) => self.add_relay(Relay::new(unix, tcp, false)),
                Err(_) => {
                    reset(&tcp);
                    self.drop_dead_bridge(bridge);
                }
            }
        }
    }

    /// A Unix socket that is connected to a listener of the library, with the name of the TCP client.
    fn connect_outside(&mut self, tcp: &OwnedFd, (ip, port): Bridge) -> io::Result<OwnedFd> {
        let refused = || io::Error::from_raw_os_error(libc::ECONNREFUSED);
        let (path, _) = self.fronts.elsewhere(ip, port).ok_or_else(refused)?;
        let (local, remote) = (facts::peer(tcp)?.canonical(), Endpoint { ip, port }.canonical());
        let name = Peer::format_client(self.space_number, false, local, remote);
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let unix = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        // Without a name, the library invents one.
        let _ = UnixAddr::new_abstract(name.as_bytes().get(1..).unwrap_or(&[]))
            .and_then(|name| bind(unix.as_raw_fd(), &name));
        connect(unix.as_raw_fd(), &UnixAddr::new(&path)?)?;
        Ok(unix)
    }

    fn add_relay(&mut self, relay: Relay) {
        self.last += 1;
        let which = self.last;
        self.relays.insert(which, Passed { relay, waits: [None, None], silent: None });
        self.pass_on(which, Side::Unix, EpollFlags::empty());
    }

    /// Goes on with a connection.
    pub(super) fn pass_on(&mut self, which: u64, side: Side, events: EpollFlags) {
        let Some(mut passed) = self.relays.remove(&which) else { return };
        let state = passed.relay.go_on(events, &mut self.buffer);
        if state == State::Open && passed.silent.is_none() && passed.relay.has_hung_up() {
            let _ = self.epoll.delete(passed.relay.socket(side));
            passed.silent = Some(side);
        }
        if state == State::Open && self.await_relay(which, &mut passed).is_ok() {
            self.relays.insert(which, passed);
            return;
        }
        for (token, _) in passed.waits.into_iter().flatten() {
            self.forget(token);
        }
        drop(passed);
        if state == State::Refused {
            self.sweep();
        }
        self.wake();
    }

    /// Leaves what waits at a front or a bridge there, until there is room.
    pub(super) fn rest(&mut self, source: Source) {
        if self.await_clients(source, EpollFlags::empty()).is_some() {
            self.resting.push(source);
        }
    }

    /// There may be room.
    pub(super) fn wake(&mut self) {
        for source in std::mem::take(&mut self.resting) {
            let _ = self.await_clients(source, EpollFlags::EPOLLIN);
        }
    }

    fn await_clients(&mut self, source: Source, events: EpollFlags) -> Option<()> {
        let (socket, token) = match source {
            Source::Front(place) => (&self.fronts.get_mut(place)?.socket, *self.front_tokens.get(&place)?),
            Source::Bridge(bridge) => self.bridges.get(&bridge).map(|(socket, token)| (socket, *token))?,
            Source::Entrance => (&self.entrance, ENTRANCE),
            _ => return None,
        };
        self.epoll.modify(socket, &mut EpollEvent::new(events, token)).ok()
    }

    /// Waits for what the connection needs next.
    fn await_relay(&mut self, which: u64, passed: &mut Passed) -> io::Result<()> {
        for (slot, side) in [Side::Unix, Side::Tcp].into_iter().enumerate() {
            if passed.silent == Some(side) {
                continue;
            }
            let interest = passed.relay.interest(side);
            let Some(waits) = passed.waits.get_mut(slot) else { continue };
            match waits {
                None => {
                    let token =
                        self.wait_for(passed.relay.socket(side), Source::Relay(which, side), interest)?;
                    *waits = Some((token, interest));
                }
                Some((token, before)) if *before != interest => {
                    let mut event = EpollEvent::new(interest, *token);
                    self.epoll.modify(passed.relay.socket(side), &mut event)?;
                    *before = interest;
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}

/// There is no room for a further connection.
pub(super) struct Full;

/// The next connection that waits at a listener, if one does.
pub(super) fn next_of(listener: &OwnedFd, relays: usize) -> Result<Option<OwnedFd>, Full> {
    use rustix::io::Errno;
    if relays >= RELAYS {
        return Err(Full);
    }
    match accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
        Ok(socket) => Ok(Some(socket)),
        Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => Err(Full),
        Err(_) => Ok(None),
    }
}

/// The name of the client at the other end.
fn name_of(unix: &OwnedFd) -> Option<Peer> {
    let name: UnixAddr = getpeername(unix.as_raw_fd()).ok()?;
    let text = name.as_abstract()?;
    Peer::parse(&[b"\0", text].concat())
}

/// Whether nobody listened. Over loopback that is known when connect returns.
fn is_refused(tcp: &OwnedFd) -> bool {
    options::get_number(tcp, libc::SOL_SOCKET, libc::SO_ERROR).is_ok_and(|error| error != 0)
}

/// Sends a connection to the collector.
fn hand_out(unix: &OwnedFd, tcp: &OwnedFd) -> io::Result<()> {
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut room);
    let sockets = [tcp.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&sockets));
    sendmsg(unix, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?;
    Ok(())
}

/// Where a listener is reached by whoever does not say.
fn usual_ip(scope: Scope) -> IpAddr {
    match scope {
        Scope::V4(ip) => ip.into(),
        Scope::AnyV4 | Scope::AnyDual => Ipv4Addr::LOCALHOST.into(),
        Scope::AnyV6 | Scope::LoopbackV6 => Ipv6Addr::LOCALHOST.into(),
    }
}

/// Closes a connection so that the other end reads `ECONNRESET`.
fn reset(tcp: &OwnedFd) {
    let at_once = libc::linger { l_onoff: 1, l_linger: 0 };
    let _ = nix::sys::socket::setsockopt(tcp, nix::sys::socket::sockopt::Linger, &at_once);
}
