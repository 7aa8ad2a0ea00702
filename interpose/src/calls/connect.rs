//! connect(2): a loopback port means the instance's own listener, if it has one.
#![expect(unsafe_code, reason = "carries out hooked calls")]

use super::hostport;
use crate::config::{self, Config};
use crate::convert;
use crate::facts::{self, Fact};
use crate::hooks::real;
use crate::names;
use crate::notify::{self, News};
use crate::options;
use crate::rawaddr::{self, Encoded, Given, UnixName};
use crate::rewrite;
use crate::room;
use crate::rundir::{self, Behind, Prober};
use crate::sys::{self, Errno};
use crate::target;
use agentfs_wire::address::Endpoint;
use agentfs_wire::limits::{CONNECT_WAIT_MS, REUSEPORT_WORKERS};
use agentfs_wire::name::{FileName, Kind};
use agentfs_wire::notice::{Call, Outcome, Why};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::sync::atomic::{AtomicU32, Ordering};
use libc::{c_int, sockaddr, socklen_t};

/// Ephemeral ports tried for one connect before `EADDRNOTAVAIL`, as when TCP has none left.
const PORT_TRIES: u32 = 64;

/// What became of a connect.
enum Done {
    /// Connected to a listener of the instance.
    Connected,
    /// The program gets this errno.
    Failed(c_int),
    /// The instance has no such listener.
    NobodyHere,
}

/// The socket that a program connects.
#[derive(Clone, Copy)]
struct Caller {
    fd: c_int,
    v6_socket: bool,
    /// The address it was bound to before, by a rewritten bind.
    bound: Option<Endpoint>,
    /// The address of the host's own that it was bound to before, which it keeps.
    own: Option<Endpoint>,
}

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
    // SAFETY: the program's own address and length.
    let given = unsafe { rawaddr::read(address, length) };
    let here = match given {
        Given::Inet(endpoint) if !crate::hints::is_datagram(fd) => rewrite::destination(endpoint)
            .or_else(|| by_own_address(config, endpoint))
            .map(|to| (endpoint, to)),
        Given::Inet(_) | Given::Unspecified | Given::Other => None,
    };
    let Some((named, to)) = here else {
        // A rewritten socket would connect to a path; to the program it is a TCP one.
        if given == Given::Other
            && !crate::hints::is_local(fd)
            && facts::of(config, fd).rewritten().is_some()
            // SAFETY: the program's own address and length.
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
            // An IPv4 address on an IPv6 socket, or the reverse, is the kernel's to refuse; a socket that
            // TCP has connected or begun to connect stays with TCP. One whose connect was refused keeps a
            // port, but is closed.
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

/// Where a connect to an address of the host's own goes (its name, the URL that a dev server shows for the network):
/// to a listener of the instance on the wildcard, or on that address, if it has one.
fn by_own_address(config: &Config, endpoint: Endpoint) -> Option<Endpoint> {
    let to = rewrite::perhaps_own(endpoint)?;
    // The listener first: a connect to the world out there pays for four looks into the run dir and no more.
    let there = |scope| {
        let file = names::own_file(config, Kind::Listener { port: to.port, scope, worker: None });
        rundir::look(config, &names::path_of(config, file.as_bytes(), false)) != Err(libc::ENOENT)
    };
    let listens = config.covers(to.port)
        && (rewrite::candidates(to.ip).into_iter().any(there)
            || sys::exists(rundir::group_mark(config, to.port).c_path()));
    (listens && is_of_this_host(to.ip)).then_some(to)
}

/// Whether an address is one of this host's: then a datagram for it would come from that very address. (A bind says
/// less: it is allowed for any address with `ip_nonlocal_bind`, and for broadcast addresses.)
pub(super) fn is_of_this_host(ip: IpAddr) -> bool {
    let Ok(socket) = sys::udp_socket(matches!(ip, IpAddr::V6(_))) else { return false };
    // The discard port; nothing is sent.
    sys::connect(socket.number(), Encoded::of(Endpoint { ip, port: 9 }).bytes()).is_ok()
        && sys::own_name(socket.number())
            .is_ok_and(|name| matches!(rawaddr::read_name(name.bytes()), Given::Inet(own) if own.ip == ip))
}

fn failed(errno: Errno, reason: c_int) -> c_int {
    drop(errno);
    sys::fail(reason)
}

/// A connect to another host, or one that only resets: real, after a rewritten socket is TCP again.
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
    // The real call refuses an inet address on a Unix socket and changes nothing, so that
    // the common case, a TCP socket and a host out there, costs no question.
    if result == 0 || given == Given::Other || sys::errno() != sys::WRONG_FAMILY {
        return result;
    }
    let (endpoint, v6) = match facts::of(config, fd) {
        #[cfg(target_os = "linux")]
        Fact::Listener(listener) if given == Given::Unspecified && sys::peer_name(fd).is_err() => {
            // TCP stops listening and keeps the address; for one that is only bound nothing changes.
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

/// Whether a socket with a listener's name is more than bound.
fn is_connection_or_listens(fd: c_int) -> bool {
    sys::peer_name(fd).is_ok() || sys::is_listening(fd)
}

/// Makes a rewritten socket that is only bound a TCP socket again, on the same port where the host has it free.
fn back_to_tcp(config: &Config, fd: c_int, endpoint: Endpoint, v6: bool) -> sys::Result<()> {
    let new = sys::tcp_socket(v6)?;
    options::carry_back(fd, new.number(), v6);
    if endpoint.port != 0 && sys::bind(new.number(), Encoded::of(endpoint).bytes()).is_err() {
        let _ = sys::bind(new.number(), Encoded::of(Endpoint { port: 0, ..endpoint }).bytes());
    }
    let file = own_file_of(config, fd);
    let result = convert::replace(fd, new);
    if let Some(file) = file {
        rundir::release_stale(config, file.as_bytes());
    }
    result
}

fn own_file_of(config: &Config, fd: c_int) -> Option<FileName> {
    let name = sys::own_name(fd).ok()?;
    let (file, _) = names::file_of(config.run(), rawaddr::unix_text(name.bytes()))?;
    FileName::of(file)
}

/// Connects to the instance's own listener.
fn connect_here(config: &Config, caller: Caller, to: Endpoint) -> Done {
    let mut listening = false;
    for scope in rewrite::candidates(to.ip) {
        let file = names::own_file(config, Kind::Listener { port: to.port, scope, worker: None });
        let name = names::path_of(config, file.as_bytes(), false);
        let result = match rundir::look(config, &name) {
            Ok(()) => connect_to(config, caller, to, &name),
            Err(libc::EACCES) => connect_by_broker(config, caller, to, file.as_str()),
            Err(_) => continue,
        };
        match result {
            Ok(()) => return Done::Connected,
            Err(libc::ECONNREFUSED | libc::ENOENT) => {
                listening |= Prober::new().ask(config, &name) == Behind::Socket;
            }
            Err(libc::EACCES | libc::EPERM) => return Done::NobodyHere,
            // No descriptor to make the connection with: TCP needs none, and says this when it is short of
            // something (connect(3p)).
            Err(libc::EMFILE | libc::ENFILE) => return Done::Failed(libc::ENOBUFS),
            Err(reason) => return Done::Failed(reason),
        }
    }
    if sys::exists(rundir::group_mark(config, to.port).c_path()) {
        match connect_to_group(config, caller, to) {
            Done::NobodyHere => {}
            done => return done,
        }
    }
    if !listening && !sys::exists(UnixName::path(&[config.run()]).c_path()) {
        return connect_from_other_root(config, caller, to);
    }
    // Bound but not listening: TCP refuses, and the host's listener is not meant.
    if listening { Done::Failed(libc::ECONNREFUSED) } else { Done::NobodyHere }
}

/// Connects for a process that has changed its root (chroot(2), as HAProxy does), from where no run dir is to be seen.
fn connect_from_other_root(config: &Config, caller: Caller, to: Endpoint) -> Done {
    for scope in rewrite::candidates(to.ip) {
        let file = names::own_file(config, Kind::Listener { port: to.port, scope, worker: None });
        match connect_by_broker(config, caller, to, file.as_str()) {
            Ok(()) => return Done::Connected,
            Err(libc::ENOENT | libc::ECONNREFUSED) => {}
            Err(_) => break,
        }
    }
    Done::NobodyHere
}

/// Connects to one member of a `SO_REUSEPORT` group, each in turn.
fn connect_to_group(config: &Config, caller: Caller, to: Endpoint) -> Done {
    static TURN: AtomicU32 = AtomicU32::new(0);
    for scope in rewrite::candidates(to.ip) {
        let member = |worker| {
            let file = names::own_file(config, Kind::Listener { port: to.port, scope, worker: Some(worker) });
            names::path_of(config, file.as_bytes(), false)
        };
        let mut present = [0_u8; REUSEPORT_WORKERS as usize];
        let mut count = 0_u32;
        for worker in 0..REUSEPORT_WORKERS {
            if sys::exists(member(worker).c_path())
                && let Some(place) = usize::try_from(count).ok().and_then(|count| present.get_mut(count))
            {
                *place = worker;
                count += 1;
            }
        }
        if count == 0 {
            continue;
        }
        let first = TURN.fetch_add(1, Ordering::Relaxed).wrapping_add(u32::from(rundir::random_port()));
        for step in 0..count {
            let index =
                usize::try_from(first.wrapping_add(step).checked_rem(count).unwrap_or(0)).unwrap_or(0);
            let worker = present.get(index).copied().unwrap_or(0);
            match connect_to(config, caller, to, &member(worker)) {
                Ok(()) => return Done::Connected,
                Err(libc::ECONNREFUSED | libc::ENOENT) => {}
                Err(libc::EMFILE | libc::ENFILE) => return Done::Failed(libc::ENOBUFS),
                Err(reason) => return Done::Failed(reason),
            }
        }
    }
    Done::NobodyHere
}

/// Makes the client's Unix socket, names it, connects it and puts it under the program's descriptor.
fn connect_to(config: &Config, caller: Caller, to: Endpoint, name: &UnixName) -> sys::Result<()> {
    let new = sys::unix_socket(libc::SOCK_STREAM)?;
    let socket = new.number();
    let local = name_socket(config, caller, to, socket)?;
    let sized = if caller.bound.is_some() {
        options::carry_ours(caller.fd, socket)
    } else {
        options::carry(caller.fd, socket, caller.v6_socket)
    };
    if !sized {
        room::give(socket);
    }
    let waits = sys::status_flags(caller.fd)? & libc::O_NONBLOCK == 0;
    let connected =
        if waits { sys::connect_stream(config, socket, name) } else { connect_at_once(config, socket, name) };
    if let Err(reason) = connected {
        target::forget_client_name(config, caller.v6_socket, local, to);
        return Err(if reason == libc::EAGAIN { libc::ETIMEDOUT } else { reason });
    }
    let file = caller.bound.and_then(|_| own_file_of(config, caller.fd));
    convert::replace(caller.fd, new)?;
    target::forget_client_name(config, caller.v6_socket, local, to);
    if let Some(file) = file {
        rundir::release_stale(config, file.as_bytes());
    }
    if notify::tracing(config) {
        let news = News {
            fd: caller.fd,
            address: Some(to),
            peer: Some(local),
            file: names::file_of(config.run(), rawaddr::unix_text(name.bytes())).map_or("", |(file, _)| file),
            ..News::of(Call::Connect, Outcome::Rewritten, Why::Rewritten)
        };
        notify::trace(config, news);
    }
    Ok(())
}

/// A connect that must not wait: a full backlog is waited for a moment all the same, because TCP would queue
/// and programs take EAGAIN for a failure.
fn connect_at_once(config: &Config, socket: c_int, name: &UnixName) -> sys::Result<()> {
    let usual = sys::control(socket, libc::F_GETFL, 0)?;
    let nonblocking = usize::try_from(usual | libc::O_NONBLOCK).unwrap_or(0);
    sys::control(socket, libc::F_SETFL, nonblocking)?;
    match sys::connect_stream(config, socket, name) {
        Err(libc::EAGAIN) => {}
        result => return result,
    }
    sys::control(socket, libc::F_SETFL, usize::try_from(usual).unwrap_or(0))?;
    let timeout = options::send_timeout(socket);
    options::set_send_timeout(socket, options::milliseconds(CONNECT_WAIT_MS));
    let result = sys::connect_stream(config, socket, name);
    options::set_send_timeout(socket, timeout);
    result
}

/// Has the connection made in a run dir that this process may no longer enter.
#[cfg(target_os = "linux")]
fn connect_by_broker(config: &Config, caller: Caller, to: Endpoint, file: &str) -> sys::Result<()> {
    use agentfs_wire::broker::Ask;
    use agentfs_wire::peer::Peer;
    let ip = local_ip(caller, to);
    for _ in 0..PORT_TRIES {
        let bound = caller.bound.or(caller.own);
        let port = bound.map_or_else(rundir::random_port, |bound| bound.port);
        let local = Endpoint { ip, port };
        let name = Peer::format_client(config.space, caller.v6_socket, local, to);
        let socket = match crate::broker::ask(config, Ask::Connect { file, name: name.as_bytes() }) {
            Err(libc::EADDRINUSE) if bound.is_none() => continue,
            result => result?,
        };
        let Some(socket) = socket else { return Err(libc::EACCES) };
        if !options::carry(caller.fd, socket.number(), caller.v6_socket) {
            room::give(socket.number());
        }
        return convert::replace(caller.fd, socket);
    }
    Err(libc::EADDRNOTAVAIL)
}

/// macOS keeps a process that changed its user out.
#[cfg(not(target_os = "linux"))]
fn connect_by_broker(_config: &Config, _caller: Caller, _to: Endpoint, _file: &str) -> sys::Result<()> {
    Err(libc::EACCES)
}

/// The own address of a client end: what it was bound to, else loopback, else the host's that it connects to.
fn local_ip(caller: Caller, to: Endpoint) -> IpAddr {
    match caller.bound.or(caller.own).map(|bound| bound.canonical().ip) {
        Some(ip) if !ip.is_unspecified() => ip,
        _ => match to.ip {
            IpAddr::V4(ip) if !ip.is_loopback() => to.ip,
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        },
    }
}

/// Names the client end: the port it was bound to, else a free one.
fn name_socket(config: &Config, caller: Caller, to: Endpoint, socket: c_int) -> sys::Result<Endpoint> {
    let ip = local_ip(caller, to);
    if let Some(bound) = caller.bound.or(caller.own) {
        let local = Endpoint { ip, port: bound.port };
        return match target::name_client(config, socket, caller.v6_socket, local, to) {
            Err(libc::EADDRINUSE) => Err(libc::EADDRNOTAVAIL),
            result => result.map(|()| local),
        };
    }
    for _ in 0..PORT_TRIES {
        let local = Endpoint { ip, port: rundir::random_port() };
        if local == to {
            continue;
        }
        match target::name_client(config, socket, caller.v6_socket, local, to) {
            Ok(()) => return Ok(local),
            Err(libc::EADDRINUSE) => {}
            Err(reason) => return Err(reason),
        }
    }
    Err(libc::EADDRNOTAVAIL)
}

fn told(config: &Config, fd: c_int, to: Endpoint, outcome: Outcome, why: Why, errno: c_int) {
    notify::trace(config, News { errno, fd, address: Some(to), ..News::of(Call::Connect, outcome, why) });
}
