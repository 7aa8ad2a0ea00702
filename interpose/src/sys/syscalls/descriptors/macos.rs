//! Functions of libSystem (see `syscalls`).
#![expect(unsafe_code, reason = "system calls")]

use super::super::check::check;
use super::super::process::monotonic_ns;
use crate::sys::descriptor::Fd;
use crate::sys::errno::Result;
use libc::c_int;

/// Sets the flag that closes a descriptor on exec.
pub(in crate::sys::syscalls) fn close_on_exec(fd: c_int) -> Result<()> {
    control(fd, libc::F_SETFD, usize::try_from(libc::FD_CLOEXEC).unwrap_or(1)).map(|_| ())
}

/// Owns a descriptor that was made without the flag that closes it on exec, and sets the flag.
pub(in crate::sys::syscalls) fn ours(fd: c_int) -> Result<Fd> {
    let fd = Fd::owned(fd);
    close_on_exec(fd.number()).map(|()| fd)
}

/// fcntl(2) with an integer argument.
pub(crate) fn control(fd: c_int, command: c_int, argument: usize) -> Result<c_int> {
    // SAFETY: no command that is used here takes a pointer.
    check(unsafe { libc::fcntl(fd, command, argument) })
}

/// dup2(2): `from` gets the number `to`. macOS has no dup3, so an exec in another thread between the two calls could
/// inherit the descriptor.
pub(crate) fn replace(from: &Fd, to: c_int, close_on_exec_flag: bool) -> Result<()> {
    // SAFETY: dup2(2) takes two integers.
    check(unsafe { libc::dup2(from.number(), to) })?;
    if close_on_exec_flag { close_on_exec(to) } else { Ok(()) }
}

/// Waits until there is something to read, or the end of the stream. Returns whether there is. Signals do not end it.
pub(crate) fn wait_readable(fd: c_int, milliseconds: u32) -> bool {
    let end = monotonic_ns().saturating_add(u64::from(milliseconds) * 1_000_000);
    loop {
        let left = end.saturating_sub(monotonic_ns()).div_ceil(1_000_000);
        let mut entry = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        // SAFETY: one entry, which the system reads and writes.
        match check(unsafe { libc::poll(&raw mut entry, 1, c_int::try_from(left).unwrap_or(0)) }) {
            Err(libc::EINTR) => {}
            result => return result.is_ok_and(|count| count > 0),
        }
    }
}
