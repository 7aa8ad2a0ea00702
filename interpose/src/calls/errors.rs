//! The error queue of a socket (`MSG_ERRQUEUE`, recvmsg(2)): a Unix socket has none, so the kernel does not heed the
//! flag there and would give the stream's data for errors, or wait for some. TCP says EAGAIN where nothing is queued.
use crate::config;
use crate::facts;
use crate::sys::{self, Errno};
use libc::{c_int, ssize_t};

/// The flag; macOS has neither it nor the queue.
#[cfg(target_os = "linux")]
const QUEUE: c_int = libc::MSG_ERRQUEUE;
#[cfg(target_os = "macos")]
const QUEUE: c_int = 0;

/// Whether a receive asks a rewritten socket for its errors. Costs the data path a test of `flags`.
#[inline]
pub(super) fn asked(fd: c_int, flags: c_int) -> bool {
    flags & QUEUE != 0 && is_rewritten(fd)
}

/// What TCP answers: there are none.
#[cold]
pub(super) fn none() -> ssize_t {
    sys::set_errno(libc::EAGAIN);
    -1
}

#[cold]
fn is_rewritten(fd: c_int) -> bool {
    let _errno = Errno::keep();
    config::get().is_some_and(|config| facts::of(config, fd).rewritten().is_some())
}
