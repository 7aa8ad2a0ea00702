//! The client end of a connection to a listener of the instance: a Unix socket under the program's descriptor. Its name
//! contains both addresses of the connection.
use crate::client_names;
use crate::config::Config;
use crate::convert;
#[cfg(target_os = "linux")]
use crate::hints;
use crate::names;
use crate::notify::{self, News};
use crate::options;
use crate::rawaddr::{self, UnixName};
use crate::room;
use crate::rundir;
use crate::sys;
use agentfs_wire::address::Endpoint;
use agentfs_wire::limits::CONNECT_WAIT_MS;
use agentfs_wire::notice::{Call, Outcome, Why};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use libc::c_int;

/// Ephemeral ports that are tried for one connect before `EADDRNOTAVAIL`, which TCP says when it has none left.
const PORT_TRIES: u32 = 64;

/// The socket that a program connects.
#[derive(Clone, Copy)]
pub(super) struct Caller {
    /// Its descriptor.
    pub(super) fd: c_int,
    /// Whether it is an IPv6 one.
    pub(super) v6_socket: bool,
    /// The address it was bound to before, by a rewritten bind.
    pub(super) bound: Option<Endpoint>,
    /// The address of the host's own that it was bound to before. It keeps that address.
    pub(super) own: Option<Endpoint>,
}

/// Makes the client's Unix socket, names it, connects it and puts it under the program's descriptor.
pub(super) fn connect_to(config: &Config, caller: Caller, to: Endpoint, name: &UnixName) -> sys::Result<()> {
    #[cfg(target_os = "linux")]
    let generation = hints::generation();
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
        if waits { connect_stream(config, socket, name) } else { connect_at_once(config, socket, name) };
    if let Err(reason) = connected {
        client_names::forget(config, caller.v6_socket, local, to);
        return Err(if reason == libc::EAGAIN { libc::ETIMEDOUT } else { reason });
    }
    let file = caller.bound.and_then(|_| names::file_of_socket(config, caller.fd));
    convert::replace(caller.fd, new)?;
    #[cfg(target_os = "linux")]
    if hints::is_single(caller.fd) {
        hints::made(caller.fd, generation);
    }
    client_names::forget(config, caller.v6_socket, local, to);
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

/// A connect that must not wait. If the backlog is full, it waits a moment all the same: TCP would queue the
/// connection, and programs treat EAGAIN as a failure.
fn connect_at_once(config: &Config, socket: c_int, name: &UnixName) -> sys::Result<()> {
    let usual = sys::control(socket, libc::F_GETFL, 0)?;
    let nonblocking = usize::try_from(usual | libc::O_NONBLOCK).unwrap_or(0);
    sys::control(socket, libc::F_SETFL, nonblocking)?;
    match connect_stream(config, socket, name) {
        Err(libc::EAGAIN) => {}
        result => return result,
    }
    sys::control(socket, libc::F_SETFL, usize::try_from(usual).unwrap_or(0))?;
    let timeout = options::send_timeout(socket);
    options::set_send_timeout(socket, options::milliseconds(CONNECT_WAIT_MS));
    let result = connect_stream(config, socket, name);
    options::set_send_timeout(socket, timeout);
    result
}

/// connect(2) of a stream.
#[cfg(target_os = "linux")]
fn connect_stream(_config: &Config, fd: c_int, name: &UnixName) -> sys::Result<()> {
    sys::connect(fd, name.bytes())
}

/// Tries at a listener whose queue is full, 1 ms apart.
#[cfg(target_os = "macos")]
const CONNECT_TRIES: u32 = 50;

/// connect(2) of a stream. A full queue (at most 128 connections, `kern.ipc.somaxconn`) refuses here, where TCP makes
/// the client wait. A socket that is bound and does not listen refuses in the same way.
#[cfg(target_os = "macos")]
fn connect_stream(config: &Config, fd: c_int, name: &UnixName) -> sys::Result<()> {
    use crate::rundir::{Behind, Prober};
    let mut tries = 0;
    loop {
        match sys::connect(fd, name.bytes()) {
            Err(libc::ECONNREFUSED) if tries < CONNECT_TRIES => {}
            result => return result,
        }
        if tries == 0 && Prober::new().ask(config, name) != Behind::Socket {
            return Err(libc::ECONNREFUSED);
        }
        tries += 1;
        sys::pause_us(1000);
    }
}

/// Has the broker connect in a run dir that this process can no longer enter.
#[cfg(target_os = "linux")]
pub(super) fn connect_by_broker(
    config: &Config,
    caller: Caller,
    to: Endpoint,
    file: &str,
) -> sys::Result<()> {
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

/// There is no broker on macOS.
#[cfg(not(target_os = "linux"))]
pub(super) fn connect_by_broker(
    _config: &Config,
    _caller: Caller,
    _to: Endpoint,
    _file: &str,
) -> sys::Result<()> {
    Err(libc::EACCES)
}

/// The local address of a client end: the one it was bound to, else loopback, else the host's own that it connects to.
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

/// Names the client end, with the port that it was bound to, else a free one.
fn name_socket(config: &Config, caller: Caller, to: Endpoint, socket: c_int) -> sys::Result<Endpoint> {
    let ip = local_ip(caller, to);
    if let Some(bound) = caller.bound.or(caller.own) {
        let local = Endpoint { ip, port: bound.port };
        return match client_names::give(config, socket, caller.v6_socket, local, to) {
            Err(libc::EADDRINUSE) => Err(libc::EADDRNOTAVAIL),
            result => result.map(|()| local),
        };
    }
    for _ in 0..PORT_TRIES {
        let local = Endpoint { ip, port: rundir::random_port() };
        if local == to {
            continue;
        }
        match client_names::give(config, socket, caller.v6_socket, local, to) {
            Ok(()) => return Ok(local),
            Err(libc::EADDRINUSE) => {}
            Err(reason) => return Err(reason),
        }
    }
    Err(libc::EADDRNOTAVAIL)
}
