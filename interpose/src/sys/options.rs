//! Options of sockets that are integers.
use super::errno::Result;
use super::syscalls::sockets::{get_option, set_option_raw};
use crate::header::socklen;
use libc::{c_int, c_void};

/// An int option of a socket.
pub(crate) fn option(fd: c_int, level: c_int, name: c_int) -> Result<c_int> {
    let mut value: c_int = 0;
    get_option(fd, level, name, &mut value)?;
    Ok(value)
}

/// Sets an int option of a socket.
pub(crate) fn set_option(fd: c_int, level: c_int, name: c_int, value: c_int) -> Result<()> {
    set_option_raw(fd, level, name, (&raw const value).cast::<c_void>(), socklen(size_of::<c_int>()))
}

/// Whether a socket listens. Linux answers 1, macOS the option's own bit.
pub(crate) fn is_listening(fd: c_int) -> bool {
    option(fd, libc::SOL_SOCKET, libc::SO_ACCEPTCONN).is_ok_and(|value| value != 0)
}

/// Copies the value of one option from one socket to another, up to 16 bytes (timeval, linger, int).
pub(crate) fn copy_option(from: c_int, to: c_int, level: c_int, name: c_int) {
    let mut value = [0_u64; 2];
    if let Ok(length) = get_option(from, level, name, &mut value) {
        let _ = set_option_raw(to, level, name, value.as_ptr().cast::<c_void>(), length);
    }
}
