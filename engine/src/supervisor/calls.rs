//! What becomes of a call of a program. The decisions are those of [`agentfs_wire::rewrite`]; here they are carried out with
//! sockets of the port space.
use super::{Filter, Source, Supervisor};
use crate::address;
use crate::facts::{self, Tcp};
use crate::limits::{ADDRESS_BYTES, LOCK_TRIES, PORT_TRIES};
use crate::notices::News;
use crate::process::Caller;
use crate::protocol::Member;
use crate::registration::Others;
use crate::sys::options;
use crate::sys::seccomp::{self, Answer, Notification};
use agentfs_wire::address::{Endpoint, Scope};
use agentfs_wire::barred::{Bar, MAGIC, ROW_BYTES, Row};
use agentfs_wire::environ::membership;
use agentfs_wire::notice::{Call, Outcome, Why};
use agentfs_wire::rewrite::{self, Action, Before, HostPort};
use nix::sys::epoll::EpollFlags;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::AssertUnwindSafe;
use std::rc::Rc;

/// A call that is being answered.
struct Asked {
    filter: OwnedFd,
    member: Rc<Member>,
    id: u64,
    caller: Caller,
    /// The descriptor that the call names.
    number: i32,
}

impl Supervisor {
    /// Answers the next call of a filter.
    pub(super) fn serve(&mut self, which: u64) {
        let Some(Filter { notifications, .. }) = self.filters.get(&which) else { return };
        let Ok(Some(notification)) = seccomp::receive(notifications) else { return };
        self.serve_one(which, notification, 0);
    }

    /// Answers the calls that waited for the run dir's lock. A program that holds it may wait for us, so we never do.
    pub(super) fn try_again(&mut self) {
        for (which, notification, tries) in std::mem::take(&mut self.waiting) {
            self.serve_one(which, notification, tries + 1);
        }
    }

    fn serve_one(&mut self, which: u64, notification: Notification, tries: u32) {
        let Some(Filter { notifications, member }) = self.filters.get(&which) else { return };
        let (member, filter) = (Rc::clone(member), notifications.try_clone());
        let Notification { id, thread, arguments, .. } = notification;
        let number = lower_half(arguments[0]);
        let answer = match filter {
            Ok(filter) => {
                let number = number.cast_signed();
                let asked = Asked { filter, member, id, caller: Caller(thread), number };
                // The program must go on even if there is a mistake of ours.
                std::panic::catch_unwind(AssertUnwindSafe(|| self.answer(&asked, &notification)))
                    .unwrap_or(Answer::Continue)
            }
            Err(_) => Answer::Continue,
        };
        let answer = match answer {
            // As the library: whoever holds the lock for so long was stopped.
            Answer::Later if tries >= LOCK_TRIES => Answer::Fail(libc::EADDRINUSE),
            Answer::Later => return self.waiting.push((which, notification, tries)),
            answer => answer,
        };
        if let Some(Filter { notifications, .. }) = self.filters.get(&which) {
            seccomp::answer(notifications, id, answer);
        }
    }

    fn answer(&mut self, asked: &Asked, notification: &Notification) -> Answer {
        if self.space.is_err() || (self.has_foreigners && self.is_foreigner(asked.caller)) {
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
    fn address(&mut self, asked: &Asked, pointer: u64, length: u64) -> Option<(Vec<u8>, Endpoint)> {
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
        let Ok(old) = asked.caller.descriptor(asked.number) else { return Answer::Continue };
        let Some(tcp) = facts::of(&old) else { return Answer::Continue };
        if self.is_inside(tcp) {
            // It has a name already: the kernel says so.
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
            options::bind(&new, bytes)?;
            let name = facts::name(&new)?;
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
        let Ok(old) = asked.caller.descriptor(asked.number) else { return Answer::Continue };
        let Some(tcp) = facts::of(&old) else { return Answer::Continue };
        let result = if self.is_inside(tcp) {
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
                .and_then(|()| asked.caller.descriptor(asked.number))
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
        let name = facts::name(socket)?;
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

    // === connect ===

    fn connect_to(&mut self, asked: &Asked, pointer: u64, length: u64) -> Answer {
        let Some((_, endpoint)) = self.address(asked, pointer, length) else { return Answer::Continue };
        let here = rewrite::destination(endpoint).or_else(|| self.by_own_address(endpoint));
        let Ok(old) = asked.caller.descriptor(asked.number) else { return Answer::Continue };
        let Some(tcp) = facts::of(&old) else { return Answer::Continue };
        // The kernel refuses an IPv4 address on an IPv6 socket and the reverse, and a socket that is connected.
        if tcp.v6 != endpoint.ip.is_ipv6() || !tcp.closed {
            return Answer::Continue;
        }
        let Some(to) = here else { return self.leave_space(asked, &old, tcp) };
        if asked.member.rules.covers(to.port) {
            if self.fronts.reached_by(to.ip, to.port) {
                return self.enter_space(asked, &old, tcp, to);
            }
            if self.fronts.elsewhere(to.ip, to.port).is_some() {
                return match self.build_bridge(to) {
                    Ok(()) => self.enter_space(asked, &old, tcp, to),
                    Err(_) => Answer::Fail(libc::ECONNREFUSED),
                };
            }
        }
        let news = |outcome, why| News {
            fd: asked.number,
            address: Some(to),
            file: &asked.member.command,
            ..News::of(Call::Connect, outcome, why)
        };
        if let Some(why) = self.host_refused(asked, to) {
            let news = News { errno: libc::ECONNREFUSED, ..news(Outcome::Refused, why) };
            self.notices.tell_host(asked.caller, news);
            return Answer::Fail(libc::ECONNREFUSED);
        }
        self.notices.tell_host(asked.caller, news(Outcome::Passed, Why::NoListener));
        self.leave_space(asked, &old, tcp)
    }

    /// A connect to an address of the host's own reaches wildcard listeners of the instance.
    fn by_own_address(&mut self, endpoint: Endpoint) -> Option<Endpoint> {
        let to = rewrite::perhaps_own(endpoint)?;
        let listens =
            self.fronts.reached_by(to.ip, to.port) || self.fronts.elsewhere(to.ip, to.port).is_some();
        (listens && is_of_this_host(to.ip)).then_some(to)
    }

    /// The program's socket becomes one of the port space, and the kernel connects it.
    fn enter_space(&mut self, asked: &Asked, old: &OwnedFd, tcp: Tcp, to: Endpoint) -> Answer {
        if !self.is_inside(tcp) {
            let swapped = self.inside(tcp.v6).and_then(|new| {
                self.usual.carry(old, &new, tcp.v6);
                // It was bound to an address of the host's own.
                if tcp.name.port != 0 {
                    options::bind(&new, &facts::spelled(tcp.name, tcp.v6))?;
                }
                give(asked, Others::places(asked.caller, asked.number, &mut self.epolls), old, &new)
            });
            if let Err(error) = swapped {
                if error.raw_os_error() == Some(libc::EADDRINUSE) {
                    return Answer::Fail(libc::EADDRNOTAVAIL);
                }
                return Answer::Fail(libc::ENOBUFS);
            }
        }
        let news = News::of(Call::Connect, Outcome::Rewritten, Why::Rewritten);
        self.notices.trace(asked.caller, News { fd: asked.number, address: Some(to), ..news });
        Answer::Continue
    }

    /// A socket of the port space that connects to another host, or to a port of this one, becomes one of the host again, on
    /// the same port if that is free.
    fn leave_space(&mut self, asked: &Asked, old: &OwnedFd, tcp: Tcp) -> Answer {
        if !self.is_inside(tcp) {
            return Answer::Continue;
        }
        let swapped = outside(tcp.v6).and_then(|new| {
            self.usual.carry(old, &new, tcp.v6);
            if tcp.name.port != 0 && options::bind(&new, &facts::spelled(tcp.name, tcp.v6)).is_err() {
                let _ = options::bind(&new, &facts::spelled(Endpoint { port: 0, ..tcp.name }, tcp.v6));
            }
            give(asked, Others::places(asked.caller, asked.number, &mut self.epolls), old, &new)
        });
        match swapped {
            Ok(()) => Answer::Continue,
            Err(_) => Answer::Fail(libc::ENOBUFS),
        }
    }

    fn host_refused(&mut self, asked: &Asked, to: Endpoint) -> Option<Why> {
        let rules = &asked.member.rules;
        let port = HostPort {
            isolated: rules.isolates(to.port),
            allowed: rules.allow_host.contains(&to.port),
            covered: rules.covers(to.port),
        };
        let other = rewrite::other_localhost(to.ip);
        let beside =
            self.fronts.reached_by(other, to.port) || self.fronts.elsewhere(other, to.port).is_some();
        rewrite::host_refused(to, port, || beside, || self.barred(to.port))
    }

    /// What the page of barred ports says.
    fn barred(&self, port: u16) -> Option<Bar> {
        let page = std::fs::read(&self.places.paths.barred).ok()?;
        let rows = page.strip_prefix(&MAGIC)?.chunks_exact(ROW_BYTES).filter_map(Row::decode);
        rows.filter_map(|row| row.bars(self.space_number, port)).next()
    }

    // === sockets ===

    /// A fresh socket of the port space.
    pub(super) fn inside(&mut self, v6: bool) -> io::Result<OwnedFd> {
        match &mut self.space {
            Ok(space) => space.socket(v6),
            Err(errno) => Err(io::Error::from_raw_os_error(*errno)),
        }
    }

    fn is_inside(&self, tcp: Tcp) -> bool {
        self.space.as_ref().is_ok_and(|space| space.has(tcp.network))
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

/// The part of an argument that the kernel takes for an `int`.
fn lower_half(argument: u64) -> u32 {
    u32::try_from(argument & u64::from(u32::MAX)).unwrap_or(0)
}

/// Puts a socket in the place of the program's, under all of its descriptors and in its epoll instances.
fn give(asked: &Asked, others: Others, old: &OwnedFd, new: &OwnedFd) -> io::Result<()> {
    let Asked { filter, id, caller, number, .. } = asked;
    let put = || seccomp::replace(filter, *id, new, *number, caller.closes_on_exec(*number));
    match put() {
        // The number is above the limit of open files, which the program lowered after it opened the socket.
        Err(error) if error.raw_os_error() == Some(libc::EBADF) => caller.with_room_for(*number, put)?,
        result => result?,
    }
    for copy in &others.copies {
        let _ = seccomp::replace(filter, *id, new, *copy, caller.closes_on_exec(*copy));
    }
    let _ = others.register(old, new);
    Ok(())
}

/// A fresh TCP socket of the host.
fn outside(v6: bool) -> io::Result<OwnedFd> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
    let family = if v6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
    Ok(socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, SockProtocol::Tcp)?)
}

/// Whether an address is one of this host's: then a datagram to it would be sent from the same address. Nothing is sent.
fn is_of_this_host(ip: IpAddr) -> bool {
    let any: IpAddr = if ip.is_ipv6() { [0_u16; 8].into() } else { [0_u8; 4].into() };
    let socket = std::net::UdpSocket::bind((any, 0));
    // 9 is the discard port.
    socket.is_ok_and(|socket| {
        socket.connect((ip, 9)).is_ok() && facts::name(socket.as_fd()).is_ok_and(|name| name.ip == ip)
    })
}
