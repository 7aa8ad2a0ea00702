//! The error queue of a socket (`MSG_ERRQUEUE`, recvmsg(2)): a Unix socket has none, so the kernel does not heed the
//! flag there and would give the stream's data for errors, or wait for some. TCP says EAGAIN where nothing is queued.
use crate::sys;
use libc::{c_int, ssize_t};

/// Whether a receive asks a rewritten socket for its errors. Costs the data path a test of `flags`.
#[cfg(target_os = "linux")]
#[inline]
pub(super) fn asked(fd: c_int, flags: c_int) -> bool {
    flags & libc::MSG_ERRQUEUE != 0 && is_rewritten(fd)
}

/// macOS has neither the flag nor the queue.
#[cfg(target_os = "macos")]
pub(super) fn asked(_fd: c_int, _flags: c_int) -> bool {
    false
}

/// What TCP answers: there are none.
#[cold]
pub(super) fn none() -> ssize_t {
    sys::set_errno(libc::EAGAIN);
    -1
}

#[cfg(target_os = "linux")]
#[cold]
fn is_rewritten(fd: c_int) -> bool {
    let _errno = sys::Errno::keep();
    crate::config::get().is_some_and(|config| crate::facts::of(config, fd).rewritten().is_some())
}
