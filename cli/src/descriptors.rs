//! Descriptors of processes that outlive the command that starts them: none that they do not need, and one that tells
//! when another process has ended.
use nix::errno::Errno;
use std::fs;
use std::os::fd::{OwnedFd, RawFd};

/// The folder with a file for each open descriptor.
const OPEN: &str = if cfg!(target_os = "linux") { "/proc/self/fd" } else { "/dev/fd" };

/// Closes what was inherited beyond the standard streams: a pipe whose reader waits for its end, a lock. Only for a
/// process that has opened nothing itself yet.
pub(crate) fn close_inherited() {
    let open: Vec<RawFd> = fs::read_dir(OPEN)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|descriptor| *descriptor > 2)
        .collect();
    for descriptor in open {
        // One of them was for reading the folder and is closed already.
        let _ = nix::unistd::close(descriptor);
    }
}

/// A descriptor that becomes readable when `pid` has ended (pidfd_open(2)).
///
/// # Errors
/// `ESRCH` if there is no such process; what else the system says.
#[cfg(target_os = "linux")]
pub(crate) fn end_of(pid: u32) -> Result<OwnedFd, Errno> {
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(Errno::ESRCH)?;
    pidfd_open(process, PidfdFlags::empty()).map_err(|errno| Errno::from_raw(errno.raw_os_error()))
}

/// A descriptor that becomes readable when `pid` has ended (kqueue(2), `NOTE_EXIT`).
///
/// # Errors
/// `ESRCH` if there is no such process; what else the system says.
#[cfg(not(target_os = "linux"))]
pub(crate) fn end_of(pid: u32) -> Result<OwnedFd, Errno> {
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
