//! connect(2): a loopback address leads to the instance's own listener, if it has one.
#![expect(unsafe_code, reason = "carries out hooked calls")]

mod client;
mod here;

use super::hostport;
use crate::config::{self, Config};
use crate::convert;
use crate::facts::{self, Fact};
use crate::names;
use crate::notify::{self, News};
use crate::options;
use crate::rawaddr::{self, Encoded, Given};
use crate::real;
use crate::rewrite;
use crate::rundir;
use crate::sys::{self, Errno};
use agentfs_wire::address::Endpoint;
use agentfs_wire::name::Kind;
use agentfs_wire::notice::{Call, Outcome, Why};
use client::Caller;
use core::net::IpAddr;
use here::{Done, connect_here};
use libc::{c_int, sockaddr, socklen_t};

/// connect(2).
///
/// # Safety
/// As connect(2).
pub(crate) unsafe fn connect(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int {
    let Some(config) = config::get() else {
        // SAFETY: the program's own arguments.
        return unsafe { real::connect(fd, address, length) };
    };
    let errno = Errno::keep();
    // SAFETY: before the kernel; `read` looks at no more than `length` bytes, and at nothing in the first page.
    let given = unsafe { rawaddr::read(address, length) };
    let here = match given {
        Given::Inet(endpoint) if !crate::hints::is_datagram(fd) => rewrite::destination(endpoint)
            .or_else(|| by_own_address(config, endpoint))
            .map(|to| (endpoint, to)),
        Given::Inet(_) | Given::Unspecified | Given::Other => None,
    };
    let Some((named, to)) = here else {
        // A rewritten socket could connect to a path, but the program must see a TCP socket.
        if given == Given::Other
            && !crate::hints::is_local(fd)
            && facts::of(config, fd).rewritten().is_some()
            // SAFETY: as above.
            && unsafe { rawaddr::names_other_family(address, length) }
        {
            return failed(errno, libc::EAFNOSUPPORT);
        }
        drop(errno);
        // SAFETY: the program's own arguments.
        return unsafe { elsewhere(config, fd, given, address, length) };
    };
    let caller = match facts::of(config, fd) {
        Fact::Tcp { v6, name } => {
            // The kernel refuses an IPv4 address on an IPv6 socket, and the reverse. A TCP socket that is
            // connected or connecting stays one. If its connect was refused, it has a port but is closed.
            if v6 != matches!(named.ip, IpAddr::V6(_)) || (name.port != 0 && !sys::is_closed(fd)) {
                drop(errno);
                // SAFETY: the program's own arguments.
                return unsafe { real::connect(fd, address, length) };
            }
            let own = name.canonical();
            let is_own = own.port != 0 && rewrite::perhaps_own(own).is_some();
            Caller { fd, v6_socket: v6, bound: None, own: is_own.then_some(own) }
        }
        Fact::Listener(_) if is_connection_or_listens(fd) => return failed(errno, libc::EISCONN),
        Fact::Client { .. } => return failed(errno, libc::EISCONN),
        Fact::Listener(listener) => {
            if listener.v6_socket != matches!(named.ip, IpAddr::V6(_)) {
                return failed(errno, if listener.v6_socket { libc::EINVAL } else { libc::EAFNOSUPPORT });
            }
            Caller { fd, v6_socket: listener.v6_socket, bound: Some(listener.endpoint()), own: None }
        }
        Fact::Other => {
            drop(errno);
            // SAFETY: the program's own arguments.
            return unsafe { real::connect(fd, address, length) };
        }
    };
    let done = if config.covers(to.port) { connect_here(config, caller, to) } else { Done::NobodyHere };
    match done {
        Done::Connected => 0,
        Done::Failed(reason) => {
            told(config, fd, to, Outcome::Refused, Why::NotAccepting, reason);
            failed(errno, reason)
        }
        Done::NobodyHere => {
            if let Some(why) = hostport::refused(config, to) {
                hostport::tell(config, fd, to, Outcome::Refused, why, libc::ECONNREFUSED);
                return failed(errno, libc::ECONNREFUSED);
            }
            hostport::tell(config, fd, to, Outcome::Passed, Why::NoListener, 0);
            if let Fact::Listener(listener) = facts::of(config, fd)
                && let Err(reason) = back_to_tcp(config, fd, listener.endpoint(), listener.v6_socket)
            {
                return failed(errno, reason);
            }
            drop(errno);
            // SAFETY: the program's own arguments.
            unsafe { real::connect(fd, address, length) }
        }
    }
}

/// Where a connect to an address of the host's own goes, for example by its name, or by the URL that a dev server shows
/// for the network: to a listener of the instance on the wildcard or on that address, if there is one.
fn by_own_address(config: &Config, endpoint: Endpoint) -> Option<Endpoint> {
    let to = rewrite::perhaps_own(endpoint)?;
    // The listener is checked first, so that a connect to another host costs only four access(2).
    let there = |scope| {
        let file = names::own_file(config, Kind::Listener { port: to.port, scope, worker: None });
        rundir::look(config, &names::path_of(config, file.as_bytes(), false)) != Err(libc::ENOENT)
    };
    let listens = config.covers(to.port)
        && (rewrite::candidates(to.ip).into_iter().any(there)
            || sys::exists(rundir::group_mark(config, to.port).c_path()));
    (listens && is_of_this_host(to.ip)).then_some(to)
}

/// Whether an address is one of this host's: then a datagram to it would be sent from the same address. (A bind proves
/// less: `ip_nonlocal_bind` allows it for any address, and broadcast addresses are always allowed.)
pub(super) fn is_of_this_host(ip: IpAddr) -> bool {
    let Ok(socket) = sys::udp_socket(matches!(ip, IpAddr::V6(_))) else { return false };
    // Nothing is sent. 9 is the discard port.
    sys::connect(socket.number(), Encoded::of(Endpoint { ip, port: 9 }).bytes()).is_ok()
        && sys::own_name(socket.number())
            .is_ok_and(|name| matches!(rawaddr::read_name(name.bytes()), Given::Inet(own) if own.ip == ip))
}

fn failed(errno: Errno, reason: c_int) -> c_int {
    drop(errno);
    sys::fail(reason)
}

/// A connect to another host, or one that resets the socket (`AF_UNSPEC`). A rewritten socket becomes TCP again, and
/// then connects.
///
/// # Safety
/// As connect(2).
unsafe fn elsewhere(
    config: &Config,
    fd: c_int,
    given: Given,
    address: *const sockaddr,
    length: socklen_t,
) -> c_int {
    let before = sys::errno();
    // SAFETY: the program's own arguments.
    let result = unsafe { real::connect(fd, address, length) };
    // The real call refuses an inet address on a Unix socket and changes nothing. So the common case, a TCP
    // socket and another host, costs no extra call.
    if result == 0 || given == Given::Other || sys::errno() != sys::WRONG_FAMILY {
        return result;
    }
    let (endpoint, v6) = match facts::of(config, fd) {
        #[cfg(target_os = "linux")]
        Fact::Listener(listener) if given == Given::Unspecified && sys::peer_name(fd).is_err() => {
            // A TCP listener stops listening and keeps its address. A socket that is only bound does not change.
            if sys::is_listening(fd) {
                super::shutdown::stop_listening(config, fd, listener);
            }
            sys::set_errno(before);
            return 0;
        }
        Fact::Listener(listener) if !is_connection_or_listens(fd) => {
            (listener.endpoint(), listener.v6_socket)
        }
        Fact::Listener(_) | Fact::Client { .. } if given != Given::Unspecified => {
            return sys::fail(libc::EISCONN);
        }
        Fact::Client { v6_socket, local, .. } => (Endpoint { ip: local.ip, port: 0 }, v6_socket),
        #[cfg(target_os = "linux")]
        Fact::Listener(listener) => (Endpoint { port: 0, ..listener.endpoint() }, listener.v6_socket),
        _ => return sys::fail(sys::WRONG_FAMILY),
    };
    match back_to_tcp(config, fd, endpoint, v6) {
        Err(reason) => sys::fail(reason),
        Ok(()) if given == Given::Unspecified => {
            sys::set_errno(before);
            0
        }
        Ok(()) => {
            sys::set_errno(before);
            // SAFETY: the program's own arguments.
            unsafe { real::connect(fd, address, length) }
        }
    }
}

/// Whether a socket with a listener's name is connected or listens.
fn is_connection_or_listens(fd: c_int) -> bool {
    sys::peer_name(fd).is_ok() || sys::is_listening(fd)
}

/// Makes a rewritten socket a TCP socket again, on the same port if that is free on the host.
fn back_to_tcp(config: &Config, fd: c_int, endpoint: Endpoint, v6: bool) -> sys::Result<()> {
    let new = sys::tcp_socket(v6)?;
    options::carry_back(fd, new.number(), v6);
    if endpoint.port != 0 && sys::bind(new.number(), Encoded::of(endpoint).bytes()).is_err() {
        let _ = sys::bind(new.number(), Encoded::of(Endpoint { port: 0, ..endpoint }).bytes());
    }
    let file = names::file_of_socket(config, fd);
    let result = convert::replace(fd, new);
    if let Some(file) = file {
        rundir::release_stale(config, file.as_bytes());
    }
    result
}

fn told(config: &Config, fd: c_int, to: Endpoint, outcome: Outcome, why: Why, errno: c_int) {
    notify::trace(config, News { errno, fd, address: Some(to), ..News::of(Call::Connect, outcome, why) });
}
