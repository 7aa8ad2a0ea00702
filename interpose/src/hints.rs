//! What this process did to a descriptor since it made the socket. It saves asking the kernel for twenty options
//! that nobody has set.
//!
//! These are hints, and only for speed. A number is *known* from `socket` until it may stand for another socket (dup,
//! accept, a descriptor that came by `SCM_RIGHTS`). For an unknown number the kernel is asked everything. It does not
//! matter if a number was closed: a call on what is not a socket fails in the kernel.
use core::sync::atomic::{AtomicU16, Ordering};
use libc::c_int;

/// Descriptors that are followed; higher numbers are always unknown. The memory is zeroed and only touched for numbers
/// in use.
const FOLLOWED: usize = 65536;

/// `socket` made it in this process.
const KNOWN: u16 = 1;
/// An option of TCP or IP was set, or one that accepted sockets inherit.
const OPTIONS: u16 = 2;
/// `SO_REUSEADDR` is on.
const REUSE_ADDRESS: u16 = 4;
/// `SO_REUSEPORT` is on.
const REUSE_PORT: u16 = 8;
/// An owner for SIGIO was set.
const OWNER: u16 = 16;

/// It is not a stream.
const DATAGRAM: u16 = 32;

/// `SO_SNDBUF` was set.
const SEND_BUFFER: u16 = 64;

/// `SO_RCVBUF` was set.
const RECEIVE_BUFFER: u16 = 1024;

/// It is a Unix socket that the program made.
const LOCAL: u16 = 128;

/// It has, or had, a second descriptor.
const DUPLICATED: u16 = 256;

/// It was made as a TCP socket.
const TCP: u16 = 512;

static HINTS: [AtomicU16; FOLLOWED] = [const { AtomicU16::new(0) }; FOLLOWED];

fn of(fd: c_int) -> Option<&'static AtomicU16> {
    HINTS.get(usize::try_from(fd).ok()?)
}

fn add(fd: c_int, flag: u16, on: bool) {
    let Some(hint) = of(fd) else { return };
    if on {
        hint.fetch_or(flag, Ordering::Relaxed);
    } else {
        hint.fetch_and(!flag, Ordering::Relaxed);
    }
}

fn has(fd: c_int, flag: u16) -> Option<bool> {
    let hint = of(fd)?.load(Ordering::Relaxed);
    (hint & KNOWN != 0).then_some(hint & flag != 0)
}

/// A socket was made.
pub(crate) fn fresh(fd: c_int, domain: c_int, kind: c_int, protocol: c_int) {
    // The kind has SOCK_NONBLOCK and SOCK_CLOEXEC in higher bits (socket(2)).
    let datagram = kind & 0xf != libc::SOCK_STREAM;
    let mut hints = KNOWN;
    if datagram {
        hints |= DATAGRAM;
    }
    if domain == libc::AF_UNIX {
        hints |= LOCAL;
    }
    if !datagram
        && matches!(domain, libc::AF_INET | libc::AF_INET6)
        && matches!(protocol, 0 | libc::IPPROTO_TCP)
    {
        hints |= TCP;
    }
    if let Some(hint) = of(fd) {
        hint.store(hints, Ordering::Relaxed);
    }
}

/// Whether it is known to be a Unix socket of the program's own.
pub(crate) fn is_local(fd: c_int) -> bool {
    has(fd, LOCAL).unwrap_or(false)
}

/// Whether an inet socket is known to be one of TCP.
pub(crate) fn is_tcp(fd: c_int) -> bool {
    has(fd, TCP).unwrap_or(false)
}

/// Whether it is known not to be a stream.
pub(crate) fn is_datagram(fd: c_int) -> bool {
    has(fd, DATAGRAM).unwrap_or(false)
}

/// `from` was duplicated as `to`.
pub(crate) fn duplicated(from: c_int, to: c_int) {
    add(from, DUPLICATED, true);
    if let Some(hint) = of(to) {
        hint.store(DUPLICATED, Ordering::Relaxed);
    }
}

/// Whether a socket is known to have only this one descriptor in this process.
#[cfg(target_os = "linux")]
pub(crate) fn is_single(fd: c_int) -> bool {
    has(fd, DUPLICATED) == Some(false)
}

/// The number may stand for something else now.
pub(crate) fn forget(fd: c_int) {
    if let Some(hint) = of(fd)
        && hint.load(Ordering::Relaxed) != 0
    {
        hint.store(0, Ordering::Relaxed);
    }
}

/// An option was set.
pub(crate) fn option_set(fd: c_int, level: c_int, name: c_int, value: Option<c_int>) {
    let on = value != Some(0);
    match (level, name) {
        (libc::SOL_SOCKET, libc::SO_REUSEADDR) => add(fd, REUSE_ADDRESS, on),
        (libc::SOL_SOCKET, libc::SO_REUSEPORT) => add(fd, REUSE_PORT, on),
        (libc::SOL_SOCKET, libc::SO_SNDBUF) => add(fd, OPTIONS | SEND_BUFFER, true),
        (libc::SOL_SOCKET, libc::SO_RCVBUF) => add(fd, OPTIONS | RECEIVE_BUFFER, true),
        (libc::SOL_SOCKET, name) if !crate::known::is_handed_on(name) => {}
        _ => add(fd, OPTIONS, true),
    }
}

/// An owner for SIGIO was set.
pub(crate) fn owner_set(fd: c_int) {
    add(fd, OWNER, true);
}

/// Whether options may have been set.
pub(crate) fn may_have_options(fd: c_int) -> bool {
    has(fd, OPTIONS).unwrap_or(true)
}

/// Whether a buffer size was set, where that is known.
pub(crate) fn buffer_set(fd: c_int, name: c_int) -> Option<bool> {
    has(fd, if name == libc::SO_SNDBUF { SEND_BUFFER } else { RECEIVE_BUFFER })
}

/// Whether an owner may have been set.
pub(crate) fn may_have_owner(fd: c_int) -> bool {
    has(fd, OWNER).unwrap_or(true)
}

/// Whether `SO_REUSEADDR` is on, where that is known.
pub(crate) fn reuse_address(fd: c_int) -> Option<bool> {
    has(fd, REUSE_ADDRESS)
}

/// Whether `SO_REUSEPORT` is on, where that is known.
pub(crate) fn reuse_port(fd: c_int) -> Option<bool> {
    has(fd, REUSE_PORT)
}
