//! How this process has shut a connection down; a Unix socket cannot be asked. Bit 0: for reading. Bit 1: for writing.
//! Bit 2: data was sent after the peer had closed.
use super::kept::{get, set};
use super::table::Key;
use crate::sys;
use libc::c_int;

/// Remembers how a connection was shut down.
pub(crate) fn note_shutdown(fd: c_int, how: c_int) {
    let Some(inode) = sys::inode(fd) else { return };
    let bits = match how {
        libc::SHUT_RD => 1,
        libc::SHUT_WR => 2,
        _ => 3,
    };
    set(inode, Key::Ended, get(inode, Key::Ended).unwrap_or(0) | bits);
}

/// Whether this process has shut a connection down for reading, and for writing.
pub(crate) fn shut_down(fd: c_int) -> (bool, bool) {
    let bits = sys::inode(fd).and_then(|inode| get(inode, Key::Ended)).unwrap_or(0);
    (bits & 1 != 0, bits & 2 != 0)
}

/// Whether this is the first data for a peer that has closed.
pub(crate) fn is_first_late(fd: c_int) -> bool {
    const LATE: c_int = 4;
    let Some(inode) = sys::inode(fd) else { return false };
    let bits = get(inode, Key::Ended).unwrap_or(0);
    set(inode, Key::Ended, bits | LATE);
    bits & LATE == 0
}
