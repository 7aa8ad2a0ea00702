//! The answers of macOS.
use crate::sys::options::option;
use crate::sys::syscalls::sockets::get_option;
use libc::c_int;

/// Whether an inet socket is a TCP one. macOS has no `SO_PROTOCOL`; a stream of these families is TCP.
pub(crate) fn is_tcp(fd: c_int) -> bool {
    option(fd, libc::SOL_SOCKET, libc::SO_TYPE) == Ok(libc::SOCK_STREAM)
}

/// Whether a TCP socket is neither connected nor connecting (tcp(4), `TCP_CONNECTION_INFO`).
pub(crate) fn is_closed(fd: c_int) -> bool {
    // `struct tcp_connection_info` starts with the state; 0 is TCPS_CLOSED (netinet/tcp_fsm.h).
    let mut info = [0_u64; 64];
    get_option(fd, libc::IPPROTO_TCP, libc::TCP_CONNECTION_INFO, &mut info).is_ok()
        && info.first().is_some_and(|word| word & 0xff == 0)
}
