//! What the kernel says about a socket of a program.
use crate::address;
use crate::sys::options;
use agentfs_wire::address::Endpoint;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, SockaddrStorage, getpeername, getsockname, socket,
};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// `TCP_CLOSE` of `tcp_info.tcpi_state`: neither connected, nor connecting, nor listening.
const CLOSE: u8 = 7;
/// `IPPROTO_MPTCP`, which Go asks for by default.
const MULTIPATH: i32 = 262;

/// A TCP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tcp {
    /// Whether it is an IPv6 socket.
    pub(crate) v6: bool,
    /// Its `IPV6_V6ONLY`.
    pub(crate) v6_only: bool,
    /// Its own name; port 0 if it is not bound.
    pub(crate) name: Endpoint,
    /// Whether it is neither connected, nor connecting, nor listening.
    pub(crate) closed: bool,
    /// The network that it is in.
    pub(crate) network: u64,
}

/// The facts of a socket. Nothing if it is not a TCP socket.
pub(crate) fn of(socket: impl AsFd) -> Option<Tcp> {
    let socket = socket.as_fd();
    let kind = options::get_number(socket, libc::SOL_SOCKET, libc::SO_TYPE).ok()?;
    let protocol = options::get_number(socket, libc::SOL_SOCKET, libc::SO_PROTOCOL).ok()?;
    let domain = options::get_number(socket, libc::SOL_SOCKET, libc::SO_DOMAIN).ok()?;
    if kind != libc::SOCK_STREAM || ![libc::IPPROTO_TCP, MULTIPATH].contains(&protocol) {
        return None;
    }
    let v6 = match domain {
        libc::AF_INET => false,
        libc::AF_INET6 => true,
        _ => return None,
    };
    let v6_only = v6
        && options::get_number(socket, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY).is_ok_and(|value| value != 0);
    Some(Tcp {
        v6,
        v6_only,
        name: name(socket).ok()?,
        closed: is_closed(socket),
        network: options::network(socket).unwrap_or(0),
    })
}

/// A fresh TCP socket of the host.
///
/// # Errors
/// What the system says.
pub(crate) fn fresh(v6: bool) -> io::Result<OwnedFd> {
    let family = if v6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
    Ok(socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, SockProtocol::Tcp)?)
}

/// The TCP socket that socket(2) makes of these arguments. Nothing if they ask for another kind.
///
/// # Errors
/// What the system says.
pub(crate) fn made(domain: i32, kind: i32, protocol: i32) -> io::Result<Option<OwnedFd>> {
    let flags = kind & (libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK);
    let is_tcp = [libc::AF_INET, libc::AF_INET6].contains(&domain)
        && kind & !flags == libc::SOCK_STREAM
        && [0, libc::IPPROTO_TCP, MULTIPATH].contains(&protocol);
    is_tcp.then(|| options::socket(domain, kind | libc::SOCK_CLOEXEC, protocol)).transpose()
}

/// The socket's own name.
///
/// # Errors
/// What the system says.
pub(crate) fn name(socket: impl AsFd) -> io::Result<Endpoint> {
    let name: SockaddrStorage = getsockname(socket.as_fd().as_raw_fd())?;
    endpoint(&name).ok_or_else(|| io::Error::from_raw_os_error(libc::EAFNOSUPPORT))
}

/// The name of the other end.
///
/// # Errors
/// `ENOTCONN`, or what the system says.
pub(crate) fn peer(socket: impl AsFd) -> io::Result<Endpoint> {
    let name: SockaddrStorage = getpeername(socket.as_fd().as_raw_fd())?;
    endpoint(&name).ok_or_else(|| io::Error::from_raw_os_error(libc::EAFNOSUPPORT))
}

fn endpoint(name: &SockaddrStorage) -> Option<Endpoint> {
    if let Some(v4) = name.as_sockaddr_in() {
        return Some(Endpoint { ip: v4.ip().into(), port: v4.port() });
    }
    name.as_sockaddr_in6().map(|v6| Endpoint { ip: v6.ip().into(), port: v6.port() })
}

/// The number of a socket (`socket:[NUMBER]` in /proc).
pub(crate) fn inode(socket: impl AsFd) -> Option<u64> {
    rustix::fs::fstat(socket).ok().map(|status| status.st_ino)
}

fn is_closed(socket: impl AsFd) -> bool {
    // The first byte of `TCP_INFO` is the state.
    let info = options::get(socket, libc::IPPROTO_TCP, libc::TCP_INFO);
    info.map_or(true, |info| info.first() == CLOSE)
}

/// An endpoint as bytes, in the family of a socket.
pub(crate) fn spelled(endpoint: Endpoint, v6: bool) -> Vec<u8> {
    address::write(if v6 { endpoint.mapped() } else { endpoint.canonical() })
}
