//! Descriptors: flags, numbers, waiting.
use crate::sys::errno::Result;
use libc::c_int;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;

#[cfg(target_os = "linux")]
use linux as system;
#[cfg(target_os = "macos")]
use macos as system;

#[cfg(target_os = "linux")]
pub(super) use linux::with_room;
#[cfg(target_os = "linux")]
pub(crate) use linux::{epoll_control, epoll_watches, events_now};
#[cfg(target_os = "macos")]
pub(super) use macos::{close_on_exec, ours};
pub(crate) use system::{control, replace, wait_readable};

/// A file's status flags (`O_NONBLOCK` …).
pub(crate) fn status_flags(fd: c_int) -> Result<c_int> {
    control(fd, libc::F_GETFL, 0)
}
