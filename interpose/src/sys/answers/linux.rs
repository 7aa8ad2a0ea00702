//! Answers of Linux.
use crate::sys::descriptor::Fd;
use crate::sys::errno::Result;
use crate::sys::syscalls::sockets::{get_option, tcp_socket};
use libc::c_int;

/// What connect(2) says to an inet address on a Unix socket.
pub(crate) const WRONG_FAMILY: c_int = libc::EINVAL;

/// Whether getsockopt(2) on a Unix socket looks at the name only and answers at every level. Linux does not.
pub(crate) const ANSWERS_ANY_LEVEL: bool = false;

/// The value for setsockopt that gives a buffer which reads back as `size`: the kernel doubles it (socket(7)).
pub(crate) fn buffer_request(size: c_int) -> c_int {
    size / 2
}

/// Who is at the other end, beyond `SO_PEERCRED` (asm-generic/socket.h).
const SO_PEERGROUPS: c_int = 59;
const SO_PEERPIDFD: c_int = 77;

/// The option that answers as getpeername(2) does (asm-generic/socket.h).
pub(crate) const PEER_NAME_OPTION: c_int = 28;

/// Whether an option asks for something that a TCP socket does not have: TCP says ENODATA.
pub(crate) fn is_of_peer(name: c_int) -> bool {
    matches!(name, SO_PEERGROUPS | SO_PEERPIDFD)
}

/// Closes the answer to such an option, if it is a descriptor.
pub(crate) fn take_back(name: c_int, answer: c_int) {
    if name == SO_PEERPIDFD {
        drop(Fd::owned(answer));
    }
}

/// What a TCP socket answers to `SO_PEERCRED`, `struct ucred`: process 0 and no user. So no server takes its clients
/// for local users whom the kernel has identified.
pub(crate) fn peer_answer(name: c_int) -> Option<&'static [u8]> {
    (name == libc::SO_PEERCRED).then_some(&[0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255])
}

/// What a TCP socket answers to such an option.
pub(crate) fn inet_answer(name: c_int, v6: bool) -> Option<c_int> {
    match name {
        libc::SO_DOMAIN if v6 => Some(libc::AF_INET6),
        libc::SO_DOMAIN => Some(libc::AF_INET),
        libc::SO_PROTOCOL => Some(libc::IPPROTO_TCP),
        _ => None,
    }
}

/// The TCP option whose answer starts with the state.
pub(crate) const INFO_OPTION: c_int = libc::TCP_INFO;

/// Bytes of this kernel's answer to it. A TCP socket is asked once.
pub(crate) fn info_length() -> usize {
    use core::sync::atomic::{AtomicUsize, Ordering};
    /// Every kernel since Linux 4 answers at least this much.
    const LEAST: usize = 104;
    static LENGTH: AtomicUsize = AtomicUsize::new(0);
    let mut length = LENGTH.load(Ordering::Relaxed);
    if length == 0 {
        length = tcp_socket(false).ok().and_then(|socket| asked_info_length(&socket)).unwrap_or(LEAST);
        LENGTH.store(length, Ordering::Relaxed);
    }
    length
}

fn asked_info_length(socket: &Fd) -> Option<usize> {
    let mut info = [0_u64; 64];
    let length = get_option(socket.number(), libc::IPPROTO_TCP, libc::TCP_INFO, &mut info).ok()?;
    usize::try_from(length).ok()
}

/// The TCP option that is a text: the congestion control's name (tcp(7)).
pub(crate) const TEXT_OPTION: c_int = libc::TCP_CONGESTION;

/// The answer to it, 16 bytes.
pub(crate) fn text_of(fd: c_int, level: c_int, name: c_int) -> [c_int; 4] {
    let mut words = [0; 4];
    let _ = get_option(fd, level, name, &mut words);
    words
}

/// Whether programs set an option on every connection. Its values are checked here, without asking a TCP socket.
pub(crate) fn is_common(level: c_int, name: c_int) -> bool {
    use libc::{
        TCP_CORK, TCP_KEEPCNT, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_NODELAY, TCP_QUICKACK, TCP_USER_TIMEOUT,
    };
    level == libc::IPPROTO_TCP
        && matches!(
            name,
            TCP_NODELAY
                | TCP_CORK
                | TCP_QUICKACK
                | TCP_KEEPIDLE
                | TCP_KEEPINTVL
                | TCP_KEEPCNT
                | TCP_USER_TIMEOUT
        )
}

/// A value as the kernel reads it back: switches as 0 or 1; EINVAL for one that is out of range (tcp(7)).
pub(crate) fn as_read_back(level: c_int, name: c_int, value: c_int) -> Result<c_int> {
    let range = match (level, name) {
        (libc::IPPROTO_TCP, libc::TCP_NODELAY | libc::TCP_CORK | libc::TCP_QUICKACK) => {
            return Ok(c_int::from(value != 0));
        }
        (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE | libc::TCP_KEEPINTVL) => 1..=32_767,
        (libc::IPPROTO_TCP, libc::TCP_KEEPCNT) => 1..=127,
        (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT) => 0..=c_int::MAX,
        _ => c_int::MIN..=c_int::MAX,
    };
    if range.contains(&value) { Ok(value) } else { Err(libc::EINVAL) }
}

/// Whether a `SOL_SOCKET` option's answer tells a Unix socket from a TCP one.
pub(crate) fn is_telling(name: c_int) -> bool {
    matches!(
        name,
        libc::SO_DOMAIN
            | libc::SO_PROTOCOL
            | libc::SO_REUSEPORT
            | libc::SO_PEERCRED
            | SO_PEERGROUPS
            | SO_PEERPIDFD
            | PEER_NAME_OPTION
            | libc::SO_SNDBUF
            | libc::SO_RCVBUF
    )
}
