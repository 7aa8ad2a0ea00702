//! bind(2) and listen(2): a TCP socket becomes a Unix socket of the instance.
#![expect(unsafe_code, reason = "carries out hooked calls")]

use crate::config::{self, Config};
use crate::convert;
use crate::facts::{self, Fact};
use crate::notify::{self, News};
use crate::options;
use crate::rawaddr::{self, Given};
use crate::real;
use crate::rewrite::{self, Action, Before};
use crate::rundir::{self, Wanted};
use crate::sys::{self, Blocked, Errno};
use agentfs_wire::address::{Endpoint, Scope};
use agentfs_wire::limits::LISTEN_BACKLOG;
use agentfs_wire::name::Kind;
use agentfs_wire::notice::{Call, Outcome, Why};
use core::net::IpAddr;
use libc::{c_int, sockaddr, socklen_t};

/// bind(2).
///
/// # Safety
/// As bind(2).
pub(crate) unsafe fn bind(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int {
    let errno = Errno::keep();
    // SAFETY: before the kernel; `read` looks at no more than `length` bytes, and at nothing in the first page.
    let given = unsafe { rawaddr::read(address, length) };
    let action = match (config::get(), given) {
        (Some(config), Given::Inet(endpoint)) => decide(config, fd, endpoint),
        _ => None,
    };
    match action {
        Some((config, endpoint, Action::Replace(scope))) => {
            match rewrite_bound(config, fd, endpoint, scope) {
                Ok(()) => 0,
                Err(libc::EADDRINUSE) => {
                    refused(config, fd, endpoint);
                    drop(errno);
                    sys::fail(libc::EADDRINUSE)
                }
                Err(reason) => {
                    passed(config, fd, endpoint, Why::Failed, reason);
                    drop(errno);
                    // SAFETY: the program's own arguments.
                    unsafe { real::bind(fd, address, length) }
                }
            }
        }
        Some((_, _, Action::Refuse(reason))) => {
            drop(errno);
            sys::fail(reason)
        }
        Some((config, endpoint, Action::Pass(Why::OtherAddress))) => {
            let own = host::Own::of(config, fd, endpoint);
            if own == host::Own::InUse {
                refused(config, fd, endpoint);
                drop(errno);
                return sys::fail(libc::EADDRINUSE);
            }
            drop(errno);
            let before = sys::errno();
            // SAFETY: the program's own arguments.
            let result = unsafe { real::bind(fd, address, length) };
            if result != 0
                && sys::errno() == libc::EADDRINUSE
                && let host::Own::Free(scope) = own
                && rewrite_bound(config, fd, endpoint, scope).is_ok()
            {
                sys::set_errno(before);
                return 0;
            }
            let _errno = Errno::keep();
            passed(config, fd, endpoint, Why::OtherAddress, taken(result));
            result
        }
        Some((config, endpoint, Action::Pass(why))) => {
            drop(errno);
            // SAFETY: the program's own arguments.
            let result = unsafe { real::bind(fd, address, length) };
            let _errno = Errno::keep();
            passed(config, fd, endpoint, why, taken(result));
            result
        }
        None => {
            drop(errno);
            // SAFETY: the program's own arguments.
            unsafe { real::bind(fd, address, length) }
        }
    }
}

/// A bind to an address of the host's own that is not loopback. It goes to the host, so that the network reaches it.
/// Two exceptions keep the ports of the instance separate:
/// 1. A listener of the instance has the wildcard: the port is in use, as natively.
/// 2. Another program of the host has the port: the address becomes one of the instance alone. A program that probes
///    for a free port finds this one free, and a listener there is reached from the instance.
mod host {
    use super::{Config, Endpoint, Fact, IpAddr, Kind, Scope, c_int, facts, rewrite, rundir, sys};
    use crate::calls::connect::is_of_this_host;
    use crate::names;

    /// Whether the port is the instance's.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) enum Own {
        /// A listener of the instance has it.
        InUse,
        /// It is free in the instance, which takes it with this scope if the host refuses.
        Free(Scope),
        /// It does not matter.
        Nothing,
    }

    // === impl Own ===

    impl Own {
        pub(super) fn of(config: &Config, fd: c_int, endpoint: Endpoint) -> Self {
            let Fact::Tcp { name, .. } = facts::of(config, fd) else { return Self::Nothing };
            let ip = endpoint.canonical().ip;
            // The kernel refuses an IPv4 address on a socket for IPv6 only.
            if Scope::of(endpoint.ip, false).is_some() {
                return Self::Nothing;
            }
            if endpoint.port == 0 || name.port != 0 || !config.covers(endpoint.port) || ip.is_multicast() {
                return Self::Nothing;
            }
            if rewrite::wildcards(ip).into_iter().any(|scope| lives(config, endpoint.port, scope)) {
                return if is_of_this_host(ip) { Self::InUse } else { Self::Nothing };
            }
            match ip {
                IpAddr::V4(v4) if !shares(fd) => Self::Free(Scope::V4(v4)),
                _ => Self::Nothing,
            }
        }
    }

    fn lives(config: &Config, port: u16, scope: Scope) -> bool {
        let file = names::own_file(config, Kind::Listener { port, scope, worker: None });
        let name = names::path_of(config, file.as_bytes(), false);
        rundir::Prober::new().ask(config, &name) == rundir::Behind::Socket
    }

    fn shares(fd: c_int) -> bool {
        crate::hints::reuse_port(fd).unwrap_or_else(|| {
            sys::option(fd, libc::SOL_SOCKET, libc::SO_REUSEPORT).is_ok_and(|value| value != 0)
        })
    }
}

type Decided = (&'static Config, Endpoint, Action<Scope>);

fn decide(config: &'static Config, fd: c_int, endpoint: Endpoint) -> Option<Decided> {
    let loopback = Scope::of(endpoint.ip, false).is_some();
    let before = match facts::of(config, fd) {
        Fact::Tcp { v6, name } if loopback && name.port == 0 => {
            let v6_only =
                v6 && sys::option(fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY).is_ok_and(|value| value != 0);
            Before::FreshTcp { v6, v6_only }
        }
        Fact::Listener(_) | Fact::Client { .. } => Before::Ours,
        Fact::Tcp { .. } if !loopback => return Some((config, endpoint, Action::Pass(Why::OtherAddress))),
        Fact::Tcp { .. } | Fact::Other => Before::Other,
    };
    Some((config, endpoint, rewrite::bind(endpoint, before, config.covers(endpoint.port))))
}

fn rewrite_bound(config: &Config, fd: c_int, endpoint: Endpoint, scope: Scope) -> sys::Result<()> {
    let v6 = matches!(endpoint.ip, IpAddr::V6(_));
    let shared = crate::hints::reuse_port(fd).unwrap_or_else(|| {
        sys::option(fd, libc::SOL_SOCKET, libc::SO_REUSEPORT).is_ok_and(|value| value != 0)
    });
    let wanted = Wanted { port: endpoint.port, scope, mapped: v6 && !scope.is_v6(), shared };
    // Until the program has the socket, nobody else closes it.
    let _blocked = Blocked::all();
    let new = sys::unix_socket(libc::SOCK_STREAM)?;
    let (port, file) = rundir::take(config, new.number(), wanted)?;
    options::carry(fd, new.number(), v6);
    sys::announce(&crate::names::path_of(config, file.as_bytes(), false));
    convert::replace(fd, new).inspect_err(|_| rundir::release(config, file.as_bytes()))?;
    #[cfg(target_os = "linux")]
    crate::hints::bound(fd, rundir::fingerprint(file.as_bytes()));
    notify::trace(
        config,
        News {
            fd,
            address: Some(Endpoint { port, ..endpoint }),
            file: file.as_str(),
            ..News::of(Call::Bind, Outcome::Rewritten, Why::Rewritten)
        },
    );
    Ok(())
}

fn passed(config: &Config, fd: c_int, endpoint: Endpoint, why: Why, errno: c_int) {
    let news = News { errno, fd, address: Some(endpoint), ..News::of(Call::Bind, Outcome::Passed, why) };
    if why == Why::Failed || (why != Why::NotTcp && errno != 0) {
        notify::tell(config, news);
    } else if why != Why::NotTcp {
        notify::trace(config, news);
    }
}

/// `EADDRINUSE` if that is why a bind failed, else 0. The collector says who has the port.
fn taken(result: c_int) -> c_int {
    if result != 0 && sys::errno() == libc::EADDRINUSE { libc::EADDRINUSE } else { 0 }
}

fn refused(config: &Config, fd: c_int, endpoint: Endpoint) {
    let news = News {
        errno: libc::EADDRINUSE,
        fd,
        address: Some(endpoint),
        ..News::of(Call::Bind, Outcome::Refused, Why::InUse)
    };
    notify::tell(config, news);
}

/// listen(2). A socket that is not bound gets a port of the instance, where TCP gives it an ephemeral port.
///
/// # Safety
/// As listen(2).
pub(crate) unsafe fn listen(fd: c_int, backlog: c_int) -> c_int {
    let Some(config) = config::get() else {
        // SAFETY: the program's own arguments.
        return unsafe { real::listen(fd, backlog) };
    };
    let errno = Errno::keep();
    #[cfg(target_os = "linux")]
    if is_told(config, fd) {
        drop(errno);
        return start_to_listen(fd, backlog);
    }
    let fact = match facts::of(config, fd) {
        Fact::Tcp { v6, name } if name.port == 0 => {
            let v6_only =
                v6 && sys::option(fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY).is_ok_and(|value| value != 0);
            if let Some(scope) = Scope::of(name.ip, v6_only)
                && config.covers(0)
                && rewrite_bound(config, fd, name, scope).is_ok()
            {
                facts::of(config, fd)
            } else {
                Fact::Other
            }
        }
        other => other,
    };
    drop(errno);
    let Fact::Listener(listener) = fact else {
        // SAFETY: the program's own arguments.
        return unsafe { real::listen(fd, backlog) };
    };
    let result = start_to_listen(fd, backlog);
    if result == 0 {
        let _errno = Errno::keep();
        let mut file = crate::names::own_file(
            config,
            Kind::Listener { port: listener.port, scope: listener.scope, worker: None },
        );
        if listener.shared {
            // Only the kernel knows which member of the group it is.
            file = crate::names::file_of_socket(config, fd).unwrap_or(file);
        }
        notify::tell_listener(
            config,
            News {
                fd,
                address: Some(listener.endpoint()),
                file: file.as_str(),
                ..News::of(Call::Listen, Outcome::Rewritten, Why::Rewritten)
            },
        );
    }
    result
}

/// Whether a descriptor is the listener that was bound last and whose notice was sent a moment ago: there is nothing to
/// find out and nothing to say. If the number stands for another socket by now, which only a raw system call can make
/// of it, that one gets a longer queue.
#[cfg(target_os = "linux")]
fn is_told(config: &Config, fd: c_int) -> bool {
    crate::hints::last_bound(fd).is_some_and(|file| notify::has_told(config, file))
}

fn start_to_listen(fd: c_int, backlog: c_int) -> c_int {
    #[cfg(target_os = "linux")]
    crate::hints::listens(fd, backlog);
    // A Unix socket refuses connections that TCP would queue, and a negative backlog means none.
    let backlog = if backlog < 0 { LISTEN_BACKLOG } else { backlog.max(LISTEN_BACKLOG) };
    // SAFETY: listen(2) takes two integers.
    unsafe { real::listen(fd, backlog) }
}
