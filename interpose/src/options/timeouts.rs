//! `SO_SNDTIMEO` and `SO_RCVTIMEO`.
use crate::sys;
use libc::c_int;

/// `SO_SNDTIMEO` as it is.
pub(crate) fn send_timeout(fd: c_int) -> libc::timeval {
    let mut value = libc::timeval { tv_sec: 0, tv_usec: 0 };
    let _ = sys::get_option(fd, libc::SOL_SOCKET, libc::SO_SNDTIMEO, &mut value);
    value
}

/// Sets `SO_SNDTIMEO`, which also bounds connect on a Unix socket (socket(7)).
pub(crate) fn set_send_timeout(fd: c_int, value: libc::timeval) {
    let pointer = (&raw const value).cast::<libc::c_void>();
    let length = sys::socklen(size_of::<libc::timeval>());
    let _ = sys::set_option_raw(fd, libc::SOL_SOCKET, libc::SO_SNDTIMEO, pointer, length);
}

/// Sets both `SO_SNDTIMEO` and `SO_RCVTIMEO`.
#[cfg(target_os = "linux")]
pub(crate) fn set_timeouts(fd: c_int, value: libc::timeval) {
    set_send_timeout(fd, value);
    let pointer = (&raw const value).cast::<libc::c_void>();
    let length = sys::socklen(size_of::<libc::timeval>());
    let _ = sys::set_option_raw(fd, libc::SOL_SOCKET, libc::SO_RCVTIMEO, pointer, length);
}

/// Milliseconds as a timeval.
pub(crate) fn milliseconds(milliseconds: u32) -> libc::timeval {
    let seconds = i32::try_from(milliseconds / 1000).unwrap_or(0);
    let microseconds = i32::try_from(milliseconds % 1000 * 1000).unwrap_or(0);
    libc::timeval { tv_sec: seconds.into(), tv_usec: microseconds as libc::suseconds_t }
}
