//! close(2) of a connection with unread input. TCP resets the connection then, and so does a Unix socket. But if the
//! program has shut it down for writing before, TCP's peer has got the end of the stream first: it reads the answer, then
//! the end. (Python's socketserver and Java's `Socket.close` do that, for example for a body that is too large.) A Unix
//! peer reads the answer, then ECONNRESET. So the input is discarded before the close.
//!
//! Only this process may have the connection. Else the input may be for another one that reads it:
//! - It was accepted or connected here, and has one descriptor ([`hints`]).
//! - Since then no process was forked and no program was started: `fork`, `forkpty`, and all that is hooked for starting
//!   programs, are noted, also in the child of a vfork(2).
//! - It was not sent to another process (`SCM_RIGHTS`).
//! - This very process shut it down ([`options::is_ended_here`]): the child of a vfork(2), which closes what it does not
//!   want, has the same hints as its parent.
//!
//! A raw clone(2) is not seen, nor is a raw close (Node's), dup2(2) over the connection, or close_range(2): they go on as
//! they are.
#![expect(unsafe_code, reason = "carries out hooked calls")]

use crate::config;
use crate::facts;
use crate::hints;
use crate::options;
use crate::real::gnu as real;
use crate::sys::{self, Errno, Memory};
use libc::{c_char, c_int, pid_t, termios, winsize};

/// Bytes that are discarded at once.
const PIECE: usize = 65_536;
/// Pieces that are discarded. The peer cannot send any more meanwhile, and its send buffer holds less.
const PIECES: u32 = 256;

/// close(2).
///
/// # Safety
/// As close(2).
pub(crate) unsafe fn close(fd: c_int) -> c_int {
    if hints::is_ended(fd) {
        discard_input(fd);
    }
    // SAFETY: close(2) takes an integer.
    unsafe { real::close(fd) }
}

/// Finds libc's close(2) before it is needed, so that a signal handler need not search for it.
pub(crate) fn prepare() {
    let _errno = Errno::keep();
    // SAFETY: closes nothing.
    let _ = unsafe { real::close(-1) };
}

#[cold]
fn discard_input(fd: c_int) {
    let _errno = Errno::keep();
    let rewritten = config::get().is_some_and(|config| facts::of(config, fd).rewritten().is_some());
    if !rewritten || !options::is_ended_here(fd) {
        return;
    }
    hints::forget(fd);
    if sys::unread(fd) == 0 {
        return;
    }
    let Some(mut buffer) = Memory::of(PIECE) else { return };
    // From now on the peer cannot send. A thread that waits for input, though the connection is closed behind its back,
    // sees the end and not what is discarded.
    sys::end_reading(fd);
    for _ in 0..PIECES {
        if !sys::receive_now(fd, buffer.bytes_mut()).is_ok_and(|count| count > 0) {
            break;
        }
    }
}

/// fork(2).
///
/// # Safety
/// As fork(2).
pub(crate) unsafe fn fork() -> pid_t {
    hints::spawns();
    // SAFETY: fork(2) takes no arguments.
    let child = unsafe { real::fork() };
    hints::spawns();
    child
}

/// forkpty(3), which libc does not do by the hooked fork(2).
///
/// # Safety
/// As forkpty(3).
pub(crate) unsafe fn forkpty(
    terminal: *mut c_int,
    name: *mut c_char,
    settings: *const termios,
    size: *const winsize,
) -> pid_t {
    hints::spawns();
    // SAFETY: the program's own arguments.
    let child = unsafe { real::forkpty(terminal, name, settings, size) };
    hints::spawns();
    child
}
