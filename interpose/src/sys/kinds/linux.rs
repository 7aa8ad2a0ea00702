//! The answers of Linux.
use crate::sys::options::option;
use libc::c_int;

/// Whether a socket is a TCP one. (MPTCP is TCP to a program.)
pub(crate) fn is_tcp(fd: c_int) -> bool {
    matches!(option(fd, libc::SOL_SOCKET, libc::SO_PROTOCOL), Ok(libc::IPPROTO_TCP | libc::IPPROTO_MPTCP))
}

/// Whether a TCP socket is in state `TCP_CLOSE`: neither connected nor connecting nor listening (tcp(7),
/// `TCP_INFO`).
pub(crate) fn is_closed(fd: c_int) -> bool {
    // `struct tcp_info` starts with the state; 7 is TCP_CLOSE (linux/tcp_states.h).
    matches!(option(fd, libc::IPPROTO_TCP, libc::TCP_INFO), Ok(word) if word & 0xff == 7)
}
