//! Raw system calls (see `syscalls`).
#![expect(unsafe_code, reason = "system calls")]

use super::super::check::check;
use super::super::process::{block_signals, process_id, restore_signals};
use crate::sys::descriptor::Fd;
use crate::sys::errno::Result;
use crate::sys::symbols::kernel;
use libc::{c_int, c_void};

/// Makes a descriptor of ours. A program that has used all its descriptors can still bind and connect its sockets.
pub(in crate::sys::syscalls) fn with_room(make: impl Fn() -> Result<c_int>) -> Result<Fd> {
    /// Descriptors that one call needs at the same time, and the same again for other threads.
    const ROOM: u64 = 16;
    match make() {
        Err(libc::EMFILE) => above_limit(|usual| usual.saturating_add(ROOM), make),
        result => result,
    }
    .map(Fd::owned)
}

/// Makes a call while the limit of descriptors is `wanted`, or the hard limit if that is lower (getrlimit(2)). A
/// descriptor above the limit stays valid after the limit is lowered again.
fn above_limit<T>(wanted: impl Fn(u64) -> u64, call: impl Fn() -> Result<T>) -> Result<T> {
    // A handler that left here by siglongjmp(3) would leave the limit raised.
    let signals = block_signals();
    let result = while_raised(wanted, call);
    restore_signals(&signals);
    result
}

/// [`above_limit`] without signals.
fn while_raised<T>(wanted: impl Fn(u64) -> u64, call: impl Fn() -> Result<T>) -> Result<T> {
    use core::sync::atomic::{AtomicBool, Ordering};
    /// Whether a thread has raised the limit. A child that is forked at that moment cannot raise it any more.
    static RAISED: AtomicBool = AtomicBool::new(false);
    /// Times that other threads of the program may set the limit while it is lowered again.
    const TRIES: u32 = 8;
    let Some(usual) = descriptor_limit(None) else { return call() };
    let more = wanted(usual.rlim_cur).min(usual.rlim_max);
    if usual.rlim_cur >= more || RAISED.swap(true, Ordering::Acquire) {
        return call();
    }
    // What the program sets in another thread meanwhile is what holds: each call says what it replaced.
    let mut ours = libc::rlimit64 { rlim_cur: more, ..usual };
    let mut theirs = descriptor_limit(Some(ours)).unwrap_or(usual);
    let result = call();
    for _ in 0..TRIES {
        let Some(found) = descriptor_limit(Some(theirs)) else { break };
        if (found.rlim_cur, found.rlim_max) == (ours.rlim_cur, ours.rlim_max) {
            break;
        }
        (ours, theirs) = (theirs, found);
    }
    RAISED.store(false, Ordering::Release);
    result
}

/// The limit of descriptors, and maybe a new one (prlimit(2)).
fn descriptor_limit(new: Option<libc::rlimit64>) -> Option<libc::rlimit64> {
    let mut old = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    let new = new.as_ref().map_or(core::ptr::null(), core::ptr::from_ref);
    // SAFETY: the kernel reads `new`, which is NULL or a limit, and writes `old`.
    check(unsafe { kernel()(libc::SYS_prlimit64, 0, libc::RLIMIT_NOFILE, new, &raw mut old) })
        .ok()
        .map(|_| old)
}

/// fcntl(2) with an integer argument.
pub(crate) fn control(fd: c_int, command: c_int, argument: usize) -> Result<c_int> {
    // SAFETY: no command that is used here takes a pointer.
    check(unsafe { kernel()(libc::SYS_fcntl, fd, command, argument) })
}

/// dup3(2): `from` gets the number `to`. The kernel refuses a number above the limit, but the program may have lowered
/// the limit after it got the number.
pub(crate) fn replace(from: &Fd, to: c_int, close_on_exec: bool) -> Result<()> {
    let flags = if close_on_exec { libc::O_CLOEXEC } else { 0 };
    // SAFETY: dup3(2) takes three integers.
    let put = || check(unsafe { kernel()(libc::SYS_dup3, from.number(), to, flags) }).map(|_| ());
    match put() {
        Err(libc::EBADF) => above_limit(|_| u64::try_from(to).unwrap_or(0).saturating_add(1), put),
        result => result,
    }
}

/// Waits until there is something to read, or the end of the stream. Returns whether there is. Signals do not end it.
pub(crate) fn wait_readable(fd: c_int, milliseconds: u32) -> bool {
    let mut entry = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // The system call stores the remaining time in it (ppoll(2)).
    let mut left = libc::timespec {
        tv_sec: i64::from(milliseconds / 1000),
        tv_nsec: i64::from(milliseconds % 1000) * 1_000_000,
    };
    loop {
        let no_mask = core::ptr::null::<c_void>();
        // SAFETY: one entry and the time, which the kernel reads and writes; no signal mask.
        let ready = check(unsafe {
            kernel()(libc::SYS_ppoll, &raw mut entry, 1_usize, &raw mut left, no_mask, 8_usize)
        });
        match ready {
            Err(libc::EINTR) => {}
            result => return result.is_ok_and(|count| count > 0),
        }
    }
}

/// What poll(2) says about a descriptor at this moment.
pub(crate) fn events_now(fd: c_int, events: libc::c_short) -> Result<libc::c_short> {
    let mut entry = libc::pollfd { fd, events, revents: 0 };
    let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let no_mask = core::ptr::null::<c_void>();
    // SAFETY: one entry, which the kernel reads and writes, and the time; no signal mask.
    check(unsafe { kernel()(libc::SYS_ppoll, &raw mut entry, 1_usize, &raw const at_once, no_mask, 8_usize) })
        .map(|_| entry.revents)
}

/// epoll_ctl(2); for `EPOLL_CTL_DEL` the event is ignored.
pub(crate) fn epoll_control(
    epoll: c_int,
    operation: c_int,
    fd: c_int,
    mut event: libc::epoll_event,
) -> Result<()> {
    // SAFETY: the kernel reads the event.
    check(unsafe { kernel()(libc::SYS_epoll_ctl, epoll, operation, fd, &raw mut event) }).map(|_| ())
}

/// Whether an epoll instance watches the file that is open as `fd` under that number (kcmp(2),
/// `KCMP_EPOLL_TFD`). EBADF or EINVAL: there is no such instance. EPERM, ENOSYS: the kernel does not answer.
///
/// The question has no effect. To add the socket and see whether that fails would have one: a socket that is not
/// connected reports a hang-up, and a thread that waits on the instance would wake up.
pub(crate) fn epoll_watches(epoll: c_int, fd: c_int) -> Result<bool> {
    const KCMP_EPOLL_TFD: c_int = 7;
    // struct kcmp_epoll_slot (linux/kcmp.h): instance, number, which one of several with that number.
    let slot = [epoll.cast_unsigned(), fd.cast_unsigned(), 0];
    let own = process_id();
    // SAFETY: the kernel reads the slot.
    match check(unsafe { kernel()(libc::SYS_kcmp, own, own, KCMP_EPOLL_TFD, fd, slot.as_ptr()) }) {
        Ok(order) => Ok(order == 0),
        Err(libc::ENOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}
