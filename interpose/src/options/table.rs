//! Values kept for sockets. This is a cache and may forget: it has a fixed number of slots. The key is the socket's
//! inode, which dup and fork keep, and which is not used again for four billion sockets. A value that was forgotten, or
//! set before an exec, reads as the default. Nothing depends on it.
//!
//! There is no lock. A slot has two words: the key, and the value with a check sum of the key.
//! 1. A writer whose key is in a slot exchanges the value of that slot.
//! 2. A writer whose key is in no slot takes one: it marks the slot as changing, stores the value, then stores the key.
//!    So a slot has one writer at a time, and a reader that sees a key finds its value.
//! 3. A reader may see a key just before another writer takes the slot. Then the check sum does not match, and the
//!    reader finds nothing.
use core::sync::atomic::{AtomicU64, Ordering};
use libc::c_int;

/// Slots; 16 KiB of zeroed memory, touched only by programs that set such options.
const SLOTS: usize = 1024;
/// Places that one key may be in.
const PLACES: usize = 8;
/// Times that a writer looks for a slot while other threads take the same ones. Then the value is forgotten.
const TRIES: usize = 100;

/// What a value of a socket is kept under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// An option that a program has set: level and name.
    Option(c_int, c_int),
    /// What accepted sockets inherit ([`HandedOn`](crate::known::HandedOn)).
    HandedOn,
    /// How this process has shut a connection down.
    #[cfg(target_os = "linux")]
    Ended,
    /// A word of the congestion control's name: which one.
    Text(u8),
}

/// A table of values.
pub(super) struct Table([Slot; SLOTS]);

/// The key of a slot that a writer is taking. If the process forks at that moment, the child loses the slot.
const CHANGING: u64 = u64::MAX;

struct Slot {
    /// 0 in an empty slot.
    key: AtomicU64,
    /// The check sum of the key in the upper half, the value in the lower half.
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

/// A check sum of 32 bits. It uses other bits of the key than [`start`].
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
        self.places(key)
            .filter(|slot| slot.key.load(Ordering::Acquire) == key)
            .find_map(|slot| value_in(slot.value.load(Ordering::Acquire), key))
    }

    /// Keeps a value for a socket.
    pub(super) fn set(&self, inode: u64, key: Key, value: c_int) {
        let key = key.of(inode);
        for _ in 0..TRIES {
            let Some((slot, present)) = self.place_for(key) else { return };
            if present == key {
                if slot.exchange(key, value) {
                    return;
                }
            } else if slot.take(present) {
                slot.fill(key, value);
                return;
            }
            core::hint::spin_loop();
        }
    }

    /// The slot to write a key to, and the key that is in it: the same key, else none, else the key with the lowest
    /// inode, because that socket is the oldest.
    fn place_for(&self, key: u64) -> Option<(&Slot, u64)> {
        let mut oldest: Option<(&Slot, u64)> = None;
        for slot in self.places(key) {
            let present = slot.key.load(Ordering::Acquire);
            if present == key || present == 0 {
                return Some((slot, present));
            }
            if present != CHANGING && oldest.is_none_or(|(_, old)| present < old) {
                oldest = Some((slot, present));
            }
        }
        oldest
    }
}

// === impl Slot ===

impl Slot {
    /// Exchanges the value of the slot's key; `false` if another writer has taken the slot.
    fn exchange(&self, key: u64, value: c_int) -> bool {
        let present = self.value.load(Ordering::Acquire);
        value_in(present, key).is_some()
            && self
                .value
                .compare_exchange(present, word(key, value), Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
    }

    /// Takes the slot, in which `present` was found; `false` if another writer was faster.
    fn take(&self, present: u64) -> bool {
        self.key.compare_exchange(present, CHANGING, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Fills a slot that was taken: the value, then the key.
    fn fill(&self, key: u64, value: c_int) {
        self.value.store(word(key, value), Ordering::Release);
        self.key.store(key, Ordering::Release);
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
