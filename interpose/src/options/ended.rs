//! How this process has shut a connection down; a Unix socket cannot be asked. Bit 0: for reading. Bit 1: for writing.
//! Bit 2: data was sent after the peer had closed. Bit 3: the program has read a reset. The bits above: the process that shut it down for writing, because a
//! child has a copy of the table.
use super::kept::{get, set};
use super::table::Key;
use crate::sys;
use libc::c_int;

/// The first of the bits for a process id, which has 22 (linux/threads.h).
const PROCESS: u32 = 4;
/// The program has read that the peer reset the connection.
const RESET: c_int = 8;

fn own_process() -> c_int {
    c_int::try_from(sys::process_id()).unwrap_or(0)
}

/// Remembers how a connection was shut down.
pub(crate) fn note_shutdown(fd: c_int, how: c_int) {
    let Some(inode) = sys::inode(fd) else { return };
    let bits = match how {
        libc::SHUT_RD => 1,
        libc::SHUT_WR => 2,
        _ => 3,
    };
    let mut before = get(inode, Key::Ended).unwrap_or(0);
    let mut process = 0;
    if bits & 2 != 0 {
        before &= (1 << PROCESS) - 1;
        process = own_process() << PROCESS;
    }
    set(inode, Key::Ended, before | bits | process);
}

/// Whether this very process has shut a connection down for writing.
pub(crate) fn is_ended_here(fd: c_int) -> bool {
    let bits = sys::inode(fd).and_then(|inode| get(inode, Key::Ended)).unwrap_or(0);
    bits & 2 != 0 && bits >> PROCESS == own_process()
}

/// Whether this process has shut a connection down for reading, and for writing.
pub(crate) fn shut_down(fd: c_int) -> (bool, bool) {
    let bits = sys::inode(fd).and_then(|inode| get(inode, Key::Ended)).unwrap_or(0);
    (bits & 1 != 0, bits & 2 != 0)
}

/// Remembers that the program has read a reset.
pub(crate) fn note_reset(fd: c_int) {
    let Some(inode) = sys::inode(fd) else { return };
    set(inode, Key::Ended, get(inode, Key::Ended).unwrap_or(0) | RESET);
}

/// Whether the program has read a reset.
pub(crate) fn was_reset(fd: c_int) -> bool {
    sys::inode(fd).and_then(|inode| get(inode, Key::Ended)).is_some_and(|bits| bits & RESET != 0)
}

/// Whether this is the first data for a peer that has closed.
pub(crate) fn is_first_late(fd: c_int) -> bool {
    const LATE: c_int = 4;
    let Some(inode) = sys::inode(fd) else { return false };
    let bits = get(inode, Key::Ended).unwrap_or(0);
    set(inode, Key::Ended, bits | LATE);
    bits & LATE == 0
}
