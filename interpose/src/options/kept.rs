//! The table of this process.
use super::table::{Key, Table};
use libc::c_int;

static TABLE: Table = Table::new();

/// The value kept for a socket, or `None` where none is.
pub(crate) fn get(inode: u64, key: Key) -> Option<c_int> {
    TABLE.get(inode, key)
}

/// Keeps a value for a socket.
pub(crate) fn set(inode: u64, key: Key, value: c_int) {
    TABLE.set(inode, key, value);
}
