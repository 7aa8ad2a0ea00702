//! Room for data that the other end has not read. The kernel charges a Unix socket's sender for it, 768 bytes for the
//! smallest message against a default of 208 KiB; TCP holds millions of those, and 4 MB in large ones. A program that
//! writes a thousand short lines before it reads, or a body that the server does not want, needs that room. So the
//! limit of both ends of a connection is raised where the program did not set it. An idle connection costs nothing
//! by it: it is a limit, not an allocation. What getsockopt(2) says stays what TCP says.
use crate::facts::Fact;
use crate::sys;
use core::sync::atomic::{AtomicI32, Ordering};
use libc::c_int;

/// What TCP shows of a connection over loopback: twenty segments of 64 KiB with what the kernel adds to each.
#[cfg(target_os = "linux")]
const CONNECTED: c_int = 2_626_560;
/// `net.inet.tcp.sendspace`.
#[cfg(target_os = "macos")]
const CONNECTED: c_int = 131_072;

/// What is asked for, half of what Linux then allows: 8 MiB are ten thousand short messages, and more than TCP holds of
/// long ones. Odd, so that no program asks for the same.
#[cfg(target_os = "linux")]
const WANTED: c_int = (4 << 20) - 1;
/// XNU starts with 8 KiB for either direction.
#[cfg(target_os = "macos")]
const WANTED: c_int = (1 << 20) - 1;

/// Raises the limit of one end of a connection whose program did not set it, as far as the system lets us (socket(7),
/// `wmem_max`; root may go beyond).
#[cfg(target_os = "linux")]
pub(crate) fn give(fd: c_int) {
    /// What is asked for, and by which option; 0 before the first time.
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
            // Less than `wmem_max`, to tell it from what a program gets that asks for as much as it can.
            (option, request) = (libc::SO_SNDBUF, granted / 2 - 1);
            let _ = set(fd, option, request);
        }
    }
    OPTION.store(option, Ordering::Relaxed);
    REQUEST.store(request, Ordering::Relaxed);
    RAISED.store(request * 2, Ordering::Relaxed);
}

/// Raises both limits of one end of a connection, where the program did not set them.
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

/// Whether a program has set `SO_RCVBUF` or `SO_SNDBUF`: whether it is neither what such sockets start with nor what
/// they are given here.
pub(crate) fn is_set(fd: c_int, name: c_int) -> bool {
    let Ok(size) = sys::option(fd, libc::SOL_SOCKET, name) else { return false };
    let Ok(own) = sys::own_name(fd) else { return false };
    let unix = sys::family_of(own.bytes()) == libc::AF_UNIX;
    fresh(unix, name).is_some_and(|fresh| fresh != size) && !(unix && size == raised())
}

/// What a raised limit reads back as in this process; 0 where that is not known.
static RAISED: AtomicI32 = AtomicI32::new(0);
/// What fresh sockets start with, asked once: `SO_SNDBUF` and `SO_RCVBUF` of a Unix socket, then of a TCP one.
static FRESH: [AtomicI32; 4] = [const { AtomicI32::new(0) }; 4];

/// What a fresh socket starts with.
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

/// Whether a buffer of this size may be one that the program did not set, of a Unix socket: a TCP one has another.
pub(crate) fn may_be_ours(name: c_int, size: c_int) -> bool {
    Some(size) == fresh(true, name) || size == raised()
}

/// What TCP answers where a rewritten socket has a buffer of `size` that the program did not set.
pub(crate) fn answer(fd: c_int, fact: Fact, name: c_int, size: c_int) -> Option<c_int> {
    if !may_be_ours(name, size) {
        return None;
    }
    let connected = matches!(fact, Fact::Client { .. }) || sys::peer_name(fd).is_ok();
    if name == libc::SO_SNDBUF && connected { Some(CONNECTED) } else { fresh(false, name) }
}
