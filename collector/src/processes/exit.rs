//! A descriptor that becomes readable when a process ends: pidfd_open(2) on Linux, a kqueue(2) of its own with
//! `NOTE_EXIT` on macOS (compiled, but not run on a Mac yet).
use nix::errno::Errno;
use std::os::fd::OwnedFd;

/// The descriptor for `pid`.
///
/// # Errors
/// `ESRCH` where no such process lives; what else the system says where there cannot be one.
#[cfg(target_os = "linux")]
pub(super) fn descriptor(pid: i32) -> Result<OwnedFd, Errno> {
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    let process = Pid::from_raw(pid).ok_or(Errno::ESRCH)?;
    pidfd_open(process, PidfdFlags::NONBLOCK).map_err(|errno| Errno::from_raw(errno.raw_os_error()))
}

/// The descriptor for `pid`.
///
/// # Errors
/// `ESRCH` where no such process lives; what else the system says where there cannot be one.
#[cfg(not(target_os = "linux"))]
pub(super) fn descriptor(pid: i32) -> Result<OwnedFd, Errno> {
    use nix::sys::event::{EvFlags, EventFilter, FilterFlag, KEvent, Kqueue};
    let ident = usize::try_from(pid).map_err(|_| Errno::ESRCH)?;
    let queue = Kqueue::new()?;
    let flags = EvFlags::EV_ADD | EvFlags::EV_ONESHOT;
    let change = KEvent::new(ident, EventFilter::EVFILT_PROC, flags, FilterFlag::NOTE_EXIT, 0, 0);
    let at_once = nix::libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // If there is no room for events, the call itself returns the error of the change (kqueue(2)).
    queue.kevent(&[change], &mut [], Some(at_once))?;
    Ok(OwnedFd::from(queue))
}
