//! Room for data that the other end has not read. On a Unix socket the sender is charged for it, 768 bytes for the
//! smallest message, against a limit of 208 KiB. TCP holds millions of small messages, and 4 MB in large ones. A
//! program needs that room if it writes a thousand short lines before it reads, or sends a body that the server does
//! not read. So the limit of both ends of a connection is raised, unless the program set it. An idle connection costs
//! nothing: this is a limit, not an allocation. getsockopt(2) still answers what TCP answers.
use crate::facts::Fact;
use crate::sys;
use core::sync::atomic::{AtomicI32, Ordering};
use libc::c_int;

/// What TCP answers for a connection over loopback: twenty segments of 64 KiB, with what the kernel adds to each.
#[cfg(target_os = "linux")]
const CONNECTED: c_int = 2_626_560;
/// `net.inet.tcp.sendspace`.
#[cfg(target_os = "macos")]
const CONNECTED: c_int = 131_072;

/// The size that is asked for. Linux doubles it: 8 MiB hold ten thousand short messages, and more long ones than TCP
/// holds. It is odd, so that no program asks for the same.
#[cfg(target_os = "linux")]
const WANTED: c_int = (4 << 20) - 1;
/// The size that is asked for. XNU starts with 8 KiB for each direction.
#[cfg(target_os = "macos")]
const WANTED: c_int = (1 << 20) - 1;

/// Raises the limit of one end of a connection whose program did not set it, as far as the system allows (socket(7),
/// `wmem_max`; root may exceed it).
#[cfg(target_os = "linux")]
pub(crate) fn give(fd: c_int) {
    /// The size that is asked for, and by which option; 0 before the first time.
    static REQUEST: AtomicI32 = AtomicI32::new(0);
    static OPTION: AtomicI32 = AtomicI32::new(libc::SO_SNDBUF);
    let request = REQUEST.load(Ordering::Relaxed);
    if request != 0 && set(fd, OPTION.load(Ordering::Relaxed), request) {
        return;
    }
    let (mut option, mut request) = (libc::SO_SNDBUF, WANTED);
    if !set(fd, option, request) {
        return;
    }
    let granted = sys::option(fd, libc::SOL_SOCKET, libc::SO_SNDBUF).unwrap_or(0);
    if granted < WANTED * 2 {
        option = libc::SO_SNDBUFFORCE;
        if !set(fd, option, request) {
            // Less than `wmem_max`, which is what a program gets that asks for as much as it can.
            (option, request) = (libc::SO_SNDBUF, granted / 2 - 1);
            let _ = set(fd, option, request);
        }
    }
    OPTION.store(option, Ordering::Relaxed);
    REQUEST.store(request, Ordering::Relaxed);
    RAISED.store(request * 2, Ordering::Relaxed);
}

/// Raises both limits of one end of a connection, unless the program set them.
#[cfg(target_os = "macos")]
pub(crate) fn give(fd: c_int) {
    for name in [libc::SO_SNDBUF, libc::SO_RCVBUF] {
        if !is_set(fd, name) && set(fd, name, WANTED) {
            RAISED.store(WANTED, Ordering::Relaxed);
        }
    }
}

fn set(fd: c_int, name: c_int, size: c_int) -> bool {
    sys::set_option(fd, libc::SOL_SOCKET, name, size).is_ok()
}

/// Whether a program has set `SO_RCVBUF` or `SO_SNDBUF`: the size is neither what such sockets start with nor what they
/// get here.
pub(crate) fn is_set(fd: c_int, name: c_int) -> bool {
    let Ok(size) = sys::option(fd, libc::SOL_SOCKET, name) else { return false };
    let Ok(own) = sys::own_name(fd) else { return false };
    let unix = sys::family_of(own.bytes()) == libc::AF_UNIX;
    fresh(unix, name).is_some_and(|fresh| fresh != size) && !(unix && size == raised())
}

/// The size that a raised limit reads back as in this process; 0 if it is not known.
static RAISED: AtomicI32 = AtomicI32::new(0);
/// The sizes that sockets start with: `SO_SNDBUF` and `SO_RCVBUF` of a Unix socket, then of a TCP one. Asked once.
static FRESH: [AtomicI32; 4] = [const { AtomicI32::new(0) }; 4];

/// The size that a socket starts with.
fn fresh(unix: bool, name: c_int) -> Option<c_int> {
    let place = FRESH.get(usize::from(!unix) * 2 + usize::from(name == libc::SO_RCVBUF))?;
    match place.load(Ordering::Relaxed) {
        0 => {
            let socket = if unix { sys::unix_socket(libc::SOCK_STREAM) } else { sys::tcp_socket(false) };
            let size = sys::option(socket.ok()?.number(), libc::SOL_SOCKET, name).ok()?;
            place.store(size, Ordering::Relaxed);
            Some(size)
        }
        size => Some(size),
    }
}

fn raised() -> c_int {
    if RAISED.load(Ordering::Relaxed) == 0
        && let Ok(socket) = sys::unix_socket(libc::SOCK_STREAM)
    {
        give(socket.number());
    }
    RAISED.load(Ordering::Relaxed)
}

/// Whether a buffer of this size may be one of a Unix socket that the program did not set. TCP sockets have other
/// sizes.
pub(crate) fn may_be_ours(name: c_int, size: c_int) -> bool {
    Some(size) == fresh(true, name) || size == raised()
}

/// What TCP answers if a rewritten socket has a buffer of `size` that the program did not set.
pub(crate) fn answer(fd: c_int, fact: Fact, name: c_int, size: c_int) -> Option<c_int> {
    if !may_be_ours(name, size) {
        return None;
    }
    let connected = matches!(fact, Fact::Client { .. }) || sys::peer_name(fd).is_ok();
    if name == libc::SO_SNDBUF && connected { Some(CONNECTED) } else { fresh(false, name) }
}
