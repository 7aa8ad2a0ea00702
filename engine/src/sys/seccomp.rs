//! seccomp(2): installing a filter, and answering its notifications (seccomp_unotify(2)).
#![expect(unsafe_code, reason = "seccomp(2) and its ioctls")]

use nix::errno::Errno;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// Wakes the program on the processor that answered (Linux 6.6), which halves the time of a call.
const SYNC_WAKE_UP: u64 = 1;

mod calls {
    nix::ioctl_readwrite!(receive, b'!', 0, libc::seccomp_notif);
    nix::ioctl_readwrite!(send, b'!', 1, libc::seccomp_notif_resp);
    nix::ioctl_write_ptr!(add, b'!', 3, libc::seccomp_notif_addfd);
    nix::ioctl_write_int!(set_flags, b'!', 4);
}

/// `SECCOMP_IOCTL_NOTIF_SET_FLAGS`: `_IOW('!', 4, __u64)`.
const SET_FLAGS: libc::c_ulong = nix::request_code_write!(b'!', 4, 8);

/// A system call that waits for an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Notification {
    /// Names the call until it is answered.
    pub(crate) id: u64,
    /// The thread that makes it.
    pub(crate) thread: u32,
    /// Its number.
    pub(crate) number: i64,
    /// Its arguments.
    pub(crate) arguments: [u64; 6],
}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The kernel carries out the call.
    Continue,
    /// The call returns 0.
    Done,
    /// The call fails with this errno.
    Fail(i32),
    /// None yet.
    Later,
    /// It was given together with a descriptor.
    Given,
}

/// Installs a filter in this thread and what it starts, and returns the descriptor of its notifications.
///
/// # Errors
/// `EBUSY` if a filter with notifications is installed already, here or in a parent; else what the system says.
pub(crate) fn install(program: &[libc::sock_filter]) -> io::Result<OwnedFd> {
    let usual = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    // A call that the supervisor has seen is not interrupted by signals (Linux 5.19). Every call is answered at once.
    match try_install(program, usual | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => try_install(program, usual),
        result => result,
    }
}

fn try_install(program: &[libc::sock_filter], flags: libc::c_ulong) -> io::Result<OwnedFd> {
    let length = u16::try_from(program.len()).map_err(io::Error::other)?;
    let filter = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    // SAFETY: `filter` points to `length` instructions, which the kernel only reads.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const filter) };
    let number = i32::try_from(Errno::result(result)?).map_err(io::Error::other)?;
    // SAFETY: the kernel has just opened it for us. It is closed on exec.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Prepares a descriptor of notifications. An older kernel does without.
pub(crate) fn prepare(notifications: impl AsFd) {
    let fd = notifications.as_fd().as_raw_fd();
    // SAFETY: this request takes its flags as a number.
    let _ = unsafe { libc::ioctl(fd, SET_FLAGS, SYNC_WAKE_UP) };
}

/// The next call that waits. Nothing if its program was killed meanwhile.
///
/// # Errors
/// What the system says.
pub(crate) fn receive(notifications: impl AsFd) -> io::Result<Option<Notification>> {
    // SAFETY: a plain structure of numbers.
    let mut raw: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: `raw` is zeroed, as the kernel requires, and lives until the call returns.
    match unsafe { calls::receive(notifications.as_fd().as_raw_fd(), &raw mut raw) } {
        Ok(_) => Ok(Some(Notification {
            id: raw.id,
            thread: raw.pid,
            number: raw.data.nr.into(),
            arguments: raw.data.args,
        })),
        Err(Errno::ENOENT | Errno::EINTR) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Answers a call. A program that was killed meanwhile needs no answer.
pub(crate) fn answer(notifications: impl AsFd, id: u64, answer: Answer) {
    let (error, flags) = match answer {
        Answer::Continue => (0, u32::try_from(libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE).unwrap_or(1)),
        Answer::Done => (0, 0),
        Answer::Fail(errno) => (-errno, 0),
        Answer::Later | Answer::Given => return,
    };
    let mut response = libc::seccomp_notif_resp { id, val: 0, error, flags };
    // SAFETY: `response` lives until the call returns.
    let _ = unsafe { calls::send(notifications.as_fd().as_raw_fd(), &raw mut response) };
}

/// Gives the program a new descriptor of `socket`, which its call returns (Linux 5.14).
///
/// # Errors
/// `EMFILE` if the program may have no more; else what the system says. The call is not answered then.
pub(crate) fn give_new(
    notifications: impl AsFd,
    id: u64,
    socket: impl AsFd,
    closes_on_exec: bool,
) -> io::Result<()> {
    /// `SECCOMP_ADDFD_FLAG_SEND` of linux/seccomp.h.
    const SEND: u32 = 2;
    let unsigned = |number: i32| u32::try_from(number).map_err(io::Error::other);
    let request = libc::seccomp_notif_addfd {
        id,
        flags: SEND,
        srcfd: unsigned(socket.as_fd().as_raw_fd())?,
        newfd: 0,
        newfd_flags: if closes_on_exec { unsigned(libc::O_CLOEXEC)? } else { 0 },
    };
    // SAFETY: `request` lives until the call returns.
    unsafe { calls::add(notifications.as_fd().as_raw_fd(), &raw const request) }?;
    Ok(())
}

/// Puts `socket` in the place of a descriptor of the calling program.
///
/// # Errors
/// `ENOENT` if the program was killed meanwhile; else what the system says.
pub(crate) fn replace(
    notifications: impl AsFd,
    id: u64,
    socket: impl AsFd,
    number: i32,
    closes_on_exec: bool,
) -> io::Result<()> {
    let unsigned = |number: i32| u32::try_from(number).map_err(io::Error::other);
    let request = libc::seccomp_notif_addfd {
        id,
        flags: u32::try_from(libc::SECCOMP_ADDFD_FLAG_SETFD).unwrap_or(1),
        srcfd: unsigned(socket.as_fd().as_raw_fd())?,
        newfd: unsigned(number)?,
        newfd_flags: if closes_on_exec { unsigned(libc::O_CLOEXEC)? } else { 0 },
    };
    // SAFETY: `request` lives until the call returns.
    unsafe { calls::add(notifications.as_fd().as_raw_fd(), &raw const request) }?;
    Ok(())
}
