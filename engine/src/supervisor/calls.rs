//! What becomes of a call of a program. The decisions are those of [`agentfs_wire::rewrite`]; here they are carried out with
//! sockets of the port space.
use super::names::Which;
use super::{Asked, Filter, Source, Supervisor};
use crate::address;
use crate::facts::{self, Tcp};
use crate::limits::{ADDRESS_BYTES, LOCK_TRIES, PORT_TRIES};
use crate::notices::News;
use crate::ports::Ports;
use crate::process::Caller;
use crate::registration::Others;
use crate::sys::options;
use crate::sys::seccomp::{self, Answer, Notification};
use agentfs_wire::address::{Endpoint, Scope};
use agentfs_wire::environ::membership;
use agentfs_wire::notice::{Call, Outcome, Why};
use agentfs_wire::rewrite::{self, Action, Before};
use nix::sys::epoll::EpollFlags;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::AssertUnwindSafe;
use std::rc::Rc;

impl Supervisor {
    /// Answers the next call of a filter.
    pub(super) fn serve(&mut self, which: u64) {
        let Some(Filter { notifications, .. }) = self.filters.get(&which) else { return };
        let Ok(Some(notification)) = seccomp::receive(notifications.as_fd()) else { return };
        self.serve_one(which, notification, 0);
    }

    /// Answers the calls that waited for the run dir's lock. A program that holds it may wait for us, so we never do.
    pub(super) fn try_again(&mut self) {
        for (which, notification, tries) in std::mem::take(&mut self.waiting) {
            self.serve_one(which, notification, tries + 1);
        }
    }

    fn serve_one(&mut self, which: u64, notification: Notification, tries: u32) {
        let Some(Filter { notifications, member, network }) = self.filters.get(&which) else { return };
        let (member, filter, network) = (Rc::clone(member), Rc::clone(notifications), *network);
        let Notification { id, thread, arguments, .. } = notification;
        let number = lower_half(arguments[0]).cast_signed();
        let asked = Asked { filter, member, network, id, caller: Caller(thread), number };
        // The program must go on even if there is a mistake of ours.
        let answer = std::panic::catch_unwind(AssertUnwindSafe(|| self.answer(&asked, &notification)))
            .unwrap_or(Answer::Continue);
        let answer = match answer {
            // As the library: whoever holds the lock for so long was stopped.
            Answer::Later if tries >= LOCK_TRIES => Answer::Fail(libc::EADDRINUSE),
            Answer::Later => return self.waiting.push((which, notification, tries)),
            answer => answer,
        };
        if let Some(Filter { notifications, .. }) = self.filters.get(&which) {
            seccomp::answer(notifications.as_fd(), id, answer);
        }
    }

    fn answer(&mut self, asked: &Asked, notification: &Notification) -> Answer {
        if self.ports.is_err() || (self.has_foreigners && self.is_foreigner(asked.caller)) {
            return Answer::Continue;
        }
        let arguments = &notification.arguments;
        match notification.number {
            libc::SYS_epoll_create1 => {
                self.epolls.forget();
                Answer::Continue
            }
            #[cfg(target_arch = "x86_64")]
            libc::SYS_epoll_create => {
                self.epolls.forget();
                Answer::Continue
            }
            libc::SYS_socket => self.make_socket(asked, arguments),
            // The kernel itself carries out what a ring is asked for: no filter sees that.
            libc::SYS_io_uring_setup => {
                self.notices.tell_of(asked.caller, News::of(Call::Ring, Outcome::Passed, Why::Ring));
                Answer::Continue
            }
            libc::SYS_listen => self.listen(asked, lower_half(arguments[1])),
            libc::SYS_bind => match self.address(asked, arguments[1], arguments[2]) {
                Some((bytes, endpoint)) => self.bind(asked, &bytes, endpoint),
                None => Answer::Continue,
            },
            libc::SYS_connect => self.connect_to(asked, arguments[1], arguments[2]),
            libc::SYS_getsockname => self.name_of(asked, (arguments[1], arguments[2]), Which::Own),
            libc::SYS_getpeername => self.name_of(asked, (arguments[1], arguments[2]), Which::Peer),
            libc::SYS_sendto => self.connect_to(asked, arguments[4], arguments[5]),
            libc::SYS_sendmsg | libc::SYS_sendmmsg => {
                // `msghdr` begins with the name and its length, `mmsghdr` with a `msghdr`.
                let mut header = [0_u8; 16];
                match asked.caller.read(arguments[1], &mut header) {
                    Ok(16) => {
                        let [a, b, c, d, e, f, g, h, i, j, k, l, ..] = header;
                        let name = u64::from_ne_bytes([a, b, c, d, e, f, g, h]);
                        self.connect_to(asked, name, u32::from_ne_bytes([i, j, k, l]).into())
                    }
                    _ => Answer::Continue,
                }
            }
            _ => Answer::Continue,
        }
    }

    /// Whether the caller's environment names another instance.
    fn is_foreigner(&self, caller: Caller) -> bool {
        let environment = caller.environment();
        membership(&environment, &self.places.paths.run).is_some_and(|member| {
            (member.app, member.instance) != (&*self.places.app, &*self.places.instance)
        })
    }

    /// An inet address in the program's memory.
    pub(super) fn address(
        &mut self,
        asked: &Asked,
        pointer: u64,
        length: u64,
    ) -> Option<(Vec<u8>, Endpoint)> {
        // A negative length, and what is longer, the kernel refuses.
        let length = usize::try_from(lower_half(length)).ok()?;
        if !(2..=ADDRESS_BYTES).contains(&length) {
            return None;
        }
        let mut bytes = vec![0; length];
        match asked.caller.read(pointer, &mut bytes) {
            Ok(read) if read == length => {
                let endpoint = address::read(&bytes)?;
                Some((bytes, endpoint))
            }
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                let news = News::of(Call::Connect, Outcome::Passed, Why::Unreadable);
                self.notices.tell_host(asked.caller, News { fd: asked.number, ..news });
                None
            }
            _ => None,
        }
    }

    // === bind ===

    fn bind(&mut self, asked: &Asked, bytes: &[u8], endpoint: Endpoint) -> Answer {
        let old = match self.socket_of(asked) {
            Ok(old) => old,
            Err(error) => return without_socket(&error),
        };
        let Some(tcp) = facts::of(&old) else { return Answer::Continue };
        // If it is inside, it has a name already, and the kernel says so.
        if self.is_inside(&old, tcp) || self.is_elsewhere(asked, &old, tcp) {
            return Answer::Continue;
        }
        let is_fresh = tcp.name.port == 0 && tcp.closed;
        let before =
            if is_fresh { Before::FreshTcp { v6: tcp.v6, v6_only: tcp.v6_only } } else { Before::Other };
        match rewrite::bind(endpoint, before, asked.member.rules.covers(endpoint.port)) {
            Action::Replace(scope) => match self.bind_inside(asked, &old, tcp, bytes, (endpoint.port, scope))
            {
                Ok(()) => Answer::Done,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Answer::Later,
                Err(error) => {
                    let errno = error.raw_os_error().unwrap_or(libc::EIO);
                    if errno == libc::EADDRINUSE {
                        self.refused(asked, endpoint);
                    }
                    Answer::Fail(errno)
                }
            },
            Action::Pass(Why::OtherAddress) if self.has_wildcard(endpoint, asked) => {
                self.refused(asked, endpoint);
                Answer::Fail(libc::EADDRINUSE)
            }
            Action::Pass(why) => {
                if why != Why::NotTcp {
                    let news = News::of(Call::Bind, Outcome::Passed, why);
                    let news = News { fd: asked.number, address: Some(endpoint), ..news };
                    self.notices.trace(asked.caller, news);
                }
                Answer::Continue
            }
            Action::Refuse(errno) => Answer::Fail(errno),
        }
    }

    /// Binds a socket of the port space as the program asked, and gives it to the program.
    fn bind_inside(
        &mut self,
        asked: &Asked,
        old: &OwnedFd,
        tcp: Tcp,
        bytes: &[u8],
        (port, scope): (u16, Scope),
    ) -> io::Result<()> {
        let in_use = || io::Error::from_raw_os_error(libc::EADDRINUSE);
        if port != 0 {
            self.sweep();
            self.clear_bridges(port);
            if self.fronts.is_taken(port, scope) {
                return Err(in_use());
            }
        }
        let mut tries = 0;
        let (new, name) = loop {
            let new = self.inside(tcp.v6)?;
            self.usual.carry(old, &new, tcp.v6);
            self.bind_socket(&new, bytes, !self.fronts.has_port(port))?;
            let name = self.own_name(&new)?;
            if port != 0 || !self.fronts.is_taken(name.port, scope) {
                break (new, name);
            }
            tries += 1;
            if tries >= PORT_TRIES {
                return Err(in_use());
            }
        };
        // A port that the program did not choose is nobody's before it listens.
        if port != 0 {
            let holder = self.watched.add(&new)?;
            self.fronts.take((port, scope), holder)?;
            self.watch_process(asked.caller);
        }
        let given = give(asked, Others::all(asked.caller, asked.number, old), old, &new);
        if given.is_ok() {
            self.copies.forget(old);
            self.copies.keep(asked.caller, &new);
        }
        if given.is_err() {
            drop(new);
            self.sweep();
        }
        given?;
        let news = News::of(Call::Bind, Outcome::Rewritten, Why::Rewritten);
        self.notices.trace(asked.caller, News { fd: asked.number, address: Some(name), ..news });
        Ok(())
    }

    /// Whether a listener of the instance has the wildcard of a port of which the host's own address is asked.
    fn has_wildcard(&mut self, endpoint: Endpoint, asked: &Asked) -> bool {
        let ip = endpoint.canonical().ip;
        let port = endpoint.port;
        if port == 0
            || ip.is_multicast()
            || Scope::of(endpoint.ip, false).is_some()
            || !asked.member.rules.covers(port)
        {
            return false;
        }
        self.sweep();
        let wildcards = rewrite::wildcards(ip);
        let here = wildcards.into_iter().any(|scope| self.fronts.get_mut((port, scope)).is_some());
        (here || self.fronts.elsewhere(ip, port).is_some_and(|(_, scope)| scope.is_any()))
            && is_of_this_host(ip)
    }

    fn refused(&mut self, asked: &Asked, endpoint: Endpoint) {
        let news = News::of(Call::Bind, Outcome::Refused, Why::InUse);
        let news = News { errno: libc::EADDRINUSE, fd: asked.number, address: Some(endpoint), ..news };
        self.notices.tell_of(asked.caller, news);
    }

    // === listen ===

    fn listen(&mut self, asked: &Asked, backlog: u32) -> Answer {
        let old = match self.socket_of(asked) {
            Ok(old) => old,
            Err(error) => return without_socket(&error),
        };
        let Some(tcp) = facts::of(&old) else { return Answer::Continue };
        let result = if self.is_elsewhere(asked, &old, tcp) {
            return Answer::Continue;
        } else if self.is_inside(&old, tcp) {
            self.listen_inside(asked, &old, backlog)
        } else if tcp.name.port == 0
            && tcp.closed
            && asked.member.rules.covers(0)
            && Scope::of(tcp.name.ip, false).is_some()
        {
            // TCP gives it a port, and here the port is one of the instance.
            let bytes = facts::spelled(Endpoint { port: 0, ..tcp.name }, tcp.v6);
            let Some(scope) = Scope::of(tcp.name.ip, tcp.v6_only) else { return Answer::Continue };
            self.bind_inside(asked, &old, tcp, &bytes, (0, scope))
                .and_then(|()| self.socket_of(asked))
                .and_then(|new| self.listen_inside(asked, &new, backlog))
        } else {
            return Answer::Continue;
        };
        match result {
            Ok(()) => Answer::Done,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Answer::Later,
            Err(error) => Answer::Fail(error.raw_os_error().unwrap_or(libc::EIO)),
        }
    }

    fn listen_inside(&mut self, asked: &Asked, socket: &OwnedFd, backlog: u32) -> io::Result<()> {
        let name = self.own_name(socket)?;
        let v6_only = facts::of(socket).is_some_and(|tcp| tcp.v6_only);
        if name.port == 0 {
            // It was disconnected: TCP gives it a port now.
            options::listen(socket, backlog.cast_signed())?;
            return Ok(());
        }
        let scope =
            Scope::of(name.ip, v6_only).ok_or_else(|| io::Error::from_raw_os_error(libc::EADDRINUSE))?;
        let place = (name.port, scope);
        self.sweep();
        if self.fronts.get_mut(place).is_none() {
            let holder = self.watched.add(socket)?;
            self.fronts.take(place, holder)?;
            self.watch_process(asked.caller);
        }
        options::listen(socket, backlog.cast_signed())?;
        self.copies.forget(socket);
        let owner = (asked.caller.leader(), asked.caller.name());
        let Some(front) = self.fronts.get_mut(place) else { return Ok(()) };
        if !front.listens {
            front.listen()?;
            front.owner = owner.clone();
            self.wait_at_front(place)?;
        }
        let file = self.fronts.get_mut(place).map(|front| front.file().to_owned()).unwrap_or_default();
        let news = News::of(Call::Listen, Outcome::Rewritten, Why::Rewritten);
        let news = News { fd: asked.number, address: Some(name), file: &file, ..news };
        self.notices.tell(owner.0, &owner.1, news);
        Ok(())
    }

    // === sockets ===

    /// The socket that a call names.
    pub(super) fn socket_of(&self, asked: &Asked) -> io::Result<OwnedFd> {
        self.copies.descriptor(asked.caller, asked.number)
    }

    /// socket(2), where we cannot get the program's sockets later.
    fn make_socket(&mut self, asked: &Asked, arguments: &[u64; 6]) -> Answer {
        let [domain, kind, protocol, ..] = arguments.map(|argument| lower_half(argument).cast_signed());
        let Ok(Some(socket)) = facts::made(domain, kind, protocol) else { return Answer::Continue };
        if !self.copies.has_room() {
            return Answer::Continue;
        }
        let closes_on_exec = kind & libc::SOCK_CLOEXEC != 0;
        match seccomp::give_new(asked.filter.as_fd(), asked.id, &socket, closes_on_exec) {
            Ok(()) => {
                self.copies.keep(asked.caller, &socket);
                Answer::Given
            }
            // The kernel says why not.
            Err(_) => Answer::Continue,
        }
    }

    /// A fresh socket of the port space.
    pub(super) fn inside(&mut self, v6: bool) -> io::Result<OwnedFd> {
        self.is_used = true;
        self.ports()?.socket(v6)
    }

    /// Binds a socket of the instance. `is_free`: nobody of the instance has the port.
    pub(super) fn bind_socket(&mut self, socket: &OwnedFd, bytes: &[u8], is_free: bool) -> io::Result<()> {
        self.ports()?.bind(socket, bytes, is_free)
    }

    fn own_name(&mut self, socket: &OwnedFd) -> io::Result<Endpoint> {
        self.ports()?.name(socket)
    }

    /// Where a port of the instance is.
    pub(super) fn place_of(&self, to: Endpoint) -> Endpoint {
        self.ports.as_ref().map_or(to, |ports| ports.at(to))
    }

    fn ports(&mut self) -> io::Result<&mut Ports> {
        self.ports.as_mut().map_err(|errno| io::Error::from_raw_os_error(*errno))
    }

    pub(super) fn is_inside(&self, socket: &OwnedFd, tcp: Tcp) -> bool {
        self.ports.as_ref().is_ok_and(|ports| ports.has(socket, tcp))
    }

    pub(super) fn has_stand_ins(&self) -> bool {
        matches!(self.ports, Ok(Ports::StandIns(_)))
    }

    /// Whether a socket is in another network than the one in which the program started, and others reach that network: the
    /// one of a container, where they expect its ports. A network with nothing but loopback, as sandboxes have, is served.
    pub(super) fn is_elsewhere(&self, asked: &Asked, socket: &OwnedFd, tcp: Tcp) -> bool {
        tcp.network != asked.network && !self.is_inside(socket, tcp) && asked.caller.has_outer_interface()
    }

    /// Watches for the end of a process that has a listener.
    fn watch_process(&mut self, caller: Caller) {
        let which = self.last + 1;
        let leader = caller.leader();
        if self.processes.values().any(|(known, _)| *known == leader) {
            return;
        }
        if let Ok(end) = caller.end()
            && self.wait_for(&end, Source::Process(which), EpollFlags::EPOLLIN).is_ok()
        {
            self.processes.insert(which, (leader, end));
        }
    }
}

/// What becomes of a call whose socket we cannot have. If we have no room for it, the host must not get the call instead.
pub(super) fn without_socket(error: &io::Error) -> Answer {
    match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM) => Answer::Fail(libc::ENOBUFS),
        _ => Answer::Continue,
    }
}

/// The part of an argument that the kernel takes for an `int`.
fn lower_half(argument: u64) -> u32 {
    u32::try_from(argument & u64::from(u32::MAX)).unwrap_or(0)
}

/// Puts a socket in the place of the program's, under all of its descriptors and in its epoll instances.
pub(super) fn give(asked: &Asked, others: Others, old: &OwnedFd, new: &OwnedFd) -> io::Result<()> {
    let Asked { filter, id, caller, number, .. } = asked;
    let put = || seccomp::replace(filter.as_fd(), *id, new, *number, caller.closes_on_exec(*number));
    match put() {
        // The number is above the limit of open files, which the program lowered after it opened the socket.
        Err(error) if error.raw_os_error() == Some(libc::EBADF) => caller.with_room_for(*number, put)?,
        result => result?,
    }
    for copy in &others.copies {
        let _ = seccomp::replace(filter.as_fd(), *id, new, *copy, caller.closes_on_exec(*copy));
    }
    let _ = others.register(old, new);
    Ok(())
}

/// Whether an address is one of this host's: then a datagram to it would be sent from the same address. Nothing is sent.
pub(super) fn is_of_this_host(ip: IpAddr) -> bool {
    let any: IpAddr = if ip.is_ipv6() { [0_u16; 8].into() } else { [0_u8; 4].into() };
    let socket = std::net::UdpSocket::bind((any, 0));
    // 9 is the discard port.
    socket.is_ok_and(|socket| {
        socket.connect((ip, 9)).is_ok() && facts::name(socket.as_fd()).is_ok_and(|name| name.ip == ip)
    })
}
