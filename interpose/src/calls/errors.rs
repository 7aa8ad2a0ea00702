//! The error queue of a socket (`MSG_ERRQUEUE`, recvmsg(2)). A Unix socket has none: the kernel ignores the flag there,
//! and would return the stream's data as errors, or wait for data. TCP says EAGAIN if nothing is queued.
use crate::sys;
use libc::{c_int, ssize_t};

/// Whether a receive asks a rewritten socket for its errors. It costs the data path one test of `flags`.
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

/// What TCP answers: the queue is empty.
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
