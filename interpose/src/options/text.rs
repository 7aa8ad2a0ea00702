//! The one option that is a text: the congestion control's name (tcp(7)), 16 bytes, kept as four words.
use super::kept::{get, set};
use super::table::Key;
use crate::sys;
use core::sync::atomic::{AtomicI32, Ordering};
use libc::c_int;

/// The congestion control's name that new sockets have. The kernel is asked once.
pub(crate) fn usual_text() -> [c_int; 4] {
    static USUAL: [AtomicI32; 4] = [const { AtomicI32::new(0) }; 4];
    let mut words = [0; 4];
    for (to, from) in words.iter_mut().zip(&USUAL) {
        *to = from.load(Ordering::Relaxed);
    }
    if words == [0; 4]
        && let Ok(socket) = sys::tcp_socket(false)
    {
        words = sys::text_of(socket.number(), libc::IPPROTO_TCP, sys::TEXT_OPTION);
        for (to, from) in USUAL.iter().zip(words) {
            to.store(from, Ordering::Relaxed);
        }
    }
    words
}

/// Keeps the congestion control's name, 16 bytes.
pub(crate) fn keep_text(inode: u64, words: [c_int; 4]) {
    for (index, word) in (0..).zip(words) {
        set(inode, Key::Text(index), word);
    }
}

/// The congestion control's name that a program has set.
pub(crate) fn text(inode: u64) -> Option<[c_int; 4]> {
    let mut words = [0; 4];
    for (index, word) in (0..).zip(&mut words) {
        *word = get(inode, Key::Text(index))?;
    }
    Some(words)
}

/// The bytes of such a name.
pub(crate) fn bytes_of(words: &[c_int; 4]) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(words.iter().flat_map(|word| word.to_ne_bytes())) {
        *to = from;
    }
    bytes
}
