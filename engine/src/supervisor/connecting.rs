//! connect(2): to a listener of the instance, to one of the library over a bridge, or to the host.
use super::calls::{give, is_of_this_host, without_socket};
use super::{Asked, Supervisor};
use crate::facts::{self, Tcp};
use crate::notices::News;
use crate::registration::Others;
use crate::sys::options;
use crate::sys::seccomp::{self, Answer};
use crate::tcp_table;
use agentfs_wire::address::Endpoint;
use agentfs_wire::barred::{Bar, MAGIC, ROW_BYTES, Row};
use agentfs_wire::notice::{Call, Outcome, Why};
use agentfs_wire::rewrite::{self, HostPort};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::os::fd::{AsFd, OwnedFd};

impl Supervisor {
    pub(super) fn connect_to(&mut self, asked: &Asked, pointer: u64, length: u64) -> Answer {
        let Some((_, endpoint)) = self.address(asked, pointer, length) else { return Answer::Continue };
        let here = rewrite::destination(endpoint).or_else(|| self.by_own_address(endpoint));
        let old = match self.socket_of(asked).or_else(|error| self.anew(asked).ok_or(error)) {
            Ok(old) => old,
            Err(error) => return without_socket(&error),
        };
        let Some(tcp) = facts::of(&old) else { return Answer::Continue };
        // The kernel refuses an IPv4 address on an IPv6 socket and the reverse, and a socket that is connected.
        if tcp.v6 != endpoint.ip.is_ipv6() || !tcp.closed {
            return Answer::Continue;
        }
        // Whatever becomes of it, from here on we would only keep it open.
        self.copies.forget(&old);
        if self.is_elsewhere(asked, &old, tcp) {
            return Answer::Continue;
        }
        let Some(to) = here else { return self.leave_space(asked, &old, tcp, false) };
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
        self.leave_space(asked, &old, tcp, true)
    }

    /// Puts a fresh socket in the place of one that was connected in vain, of which we have no copy any more.
    fn anew(&mut self, asked: &Asked) -> Option<OwnedFd> {
        let Asked { filter, id, caller, number, .. } = asked;
        let before = caller.socket(*number)?;
        let v6 = self.copies.was_v6(before)?;
        if tcp_table::names(before).is_some() {
            return None;
        }
        let new = facts::fresh(v6).ok()?;
        if caller.is_nonblocking(*number) {
            fcntl(&new, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).ok()?;
        }
        seccomp::replace(filter.as_fd(), *id, &new, *number, caller.closes_on_exec(*number)).ok()?;
        self.copies.keep(*caller, &new);
        Some(new)
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
        let is_stand_in = self.has_stand_ins();
        if !is_stand_in && !self.is_inside(old, tcp) {
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
        if is_stand_in {
            connect_to_stand_in(old, &facts::spelled(self.place_of(to), tcp.v6))
        } else {
            Answer::Continue
        }
    }

    /// A socket of the port space that connects to another host, or to a port of this one, becomes one of the host again, on
    /// the same port if that is free.
    fn leave_space(&mut self, asked: &Asked, old: &OwnedFd, tcp: Tcp, on_loopback: bool) -> Answer {
        // A stand-in is on the host's loopback already.
        if (on_loopback && self.has_stand_ins()) || !self.is_inside(old, tcp) {
            return Answer::Continue;
        }
        let swapped = facts::fresh(tcp.v6).and_then(|new| {
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
}

/// Connects the program's socket elsewhere than it asked. We never wait: if the program would, the kernel carries out the call
/// too, which then waits for the connection that we began (connect(2) does not look at the address of that one).
fn connect_to_stand_in(socket: &OwnedFd, address: &[u8]) -> Answer {
    let flags = OFlag::from_bits_retain(fcntl(socket, FcntlArg::F_GETFL).unwrap_or(0));
    let waits = !flags.contains(OFlag::O_NONBLOCK);
    if waits && fcntl(socket, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).is_err() {
        return Answer::Fail(libc::ENOBUFS);
    }
    let result = options::connect(socket, address);
    if waits {
        let _ = fcntl(socket, FcntlArg::F_SETFL(flags));
    }
    match result.map_err(|error| error.raw_os_error().unwrap_or(libc::EIO)) {
        Ok(()) => Answer::Done,
        Err(libc::EINPROGRESS) if waits => Answer::Continue,
        Err(errno) => Answer::Fail(errno),
    }
}
