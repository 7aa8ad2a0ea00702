//! Values kept for sockets. A lossy cache, not a truth: fixed slots, keyed by the socket's inode (which survives dup and
//! fork, and is not used again for four billion sockets). What was forgotten, or set before an exec, reads as the
//! default, and nothing depends on it.
//!
//! There is no lock. A slot is two words: the key, and the value with a check of the key that it belongs to.
//! - A writer stores the value first and the key second. A reader that sees the key finds its value.
//! - Two threads may write one slot at the same time and leave the key of one beside the value of the other. The check
//!   shows that, and the slot counts as empty.
use core::sync::atomic::{AtomicU64, Ordering};
use libc::c_int;

/// Slots; 16 KiB of zeroed memory, touched only by programs that set such options.
const SLOTS: usize = 1024;
/// Places that one key may be in.
const PLACES: usize = 8;

/// What a value of a socket is kept under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// An option that a program has set: level and name.
    Option(c_int, c_int),
    /// What a listener hands on ([`HandedOn`](crate::known::HandedOn)).
    HandedOn,
    /// How this process has ended a connection.
    #[cfg(target_os = "linux")]
    Ended,
    /// A word of the congestion control's name: which one.
    Text(u8),
}

/// A table of values.
pub(super) struct Table([Slot; SLOTS]);

struct Slot {
    /// 0 in an empty slot.
    key: AtomicU64,
    /// The check of the key in the upper half, the value in the lower half.
    value: AtomicU64,
}

// === impl Key ===

impl Key {
    fn of(self, inode: u64) -> u64 {
        // Levels that no protocol has.
        const OWN: u64 = 0x7fff;
        const TEXT: u64 = 0x7ffe;
        let (level, name) = match self {
            Self::Option(level, name) => (u64::from(level.unsigned_abs()), u64::from(name.unsigned_abs())),
            Self::HandedOn => (OWN, 1),
            #[cfg(target_os = "linux")]
            Self::Ended => (OWN, 2),
            Self::Text(place) => (TEXT, u64::from(place)),
        };
        // The inode has 32 bits in practice; key 0 means an empty slot, and no socket has inode 0.
        (inode << 32) ^ (inode >> 32) ^ ((level << 16) | name)
    }
}

/// The place where the search for a key starts.
fn start(key: u64) -> usize {
    usize::try_from(key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48).unwrap_or(0) % SLOTS
}

/// A number of 32 bits that keys with the same start do not share.
fn check(key: u64) -> u64 {
    (key ^ (key >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32
}

fn word(key: u64, value: c_int) -> u64 {
    (check(key) << 32) | u64::from(value.cast_unsigned())
}

/// The value in a word, if it is one of this key.
fn value_in(word: u64, key: u64) -> Option<c_int> {
    let value = u32::try_from(word & 0xffff_ffff).ok()?;
    (word >> 32 == check(key)).then_some(value.cast_signed())
}

// === impl Table ===

impl Table {
    /// An empty table.
    pub(super) const fn new() -> Self {
        Self([const { Slot { key: AtomicU64::new(0), value: AtomicU64::new(0) } }; SLOTS])
    }

    fn places(&self, key: u64) -> impl Iterator<Item = &Slot> {
        let start = start(key);
        (0..PLACES).filter_map(move |place| self.0.get((start + place) % SLOTS))
    }

    /// The value kept for a socket, or `None` where none is.
    pub(super) fn get(&self, inode: u64, key: Key) -> Option<c_int> {
        let key = key.of(inode);
        let slot = self.places(key).find(|slot| slot.key.load(Ordering::Acquire) == key)?;
        value_in(slot.value.load(Ordering::Acquire), key)
    }

    /// Keeps a value for a socket.
    pub(super) fn set(&self, inode: u64, key: Key, value: c_int) {
        let key = key.of(inode);
        let mut oldest = None;
        for slot in self.places(key) {
            let present = slot.key.load(Ordering::Acquire);
            if present == key || present == 0 {
                oldest = Some(slot);
                break;
            }
            // With all places taken the socket with the lowest inode, the oldest, gives way.
            if oldest.is_none_or(|old: &Slot| present < old.key.load(Ordering::Relaxed)) {
                oldest = Some(slot);
            }
        }
        if let Some(slot) = oldest {
            slot.value.store(word(key, value), Ordering::Release);
            slot.key.store(key, Ordering::Release);
        }
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
