//! Values kept for sockets. A lossy cache, not a truth: fixed slots, keyed by the socket's inode (which survives dup and
//! fork, and is not used again for four billion sockets). What was forgotten, or set before an exec, reads as the
//! default, and nothing depends on it.
//!
//! There is no lock. A slot is two words: the key, and the value with a check of the key that it belongs to.
//! 1. A writer whose key has a slot exchanges the value.
//! 2. Another one takes a slot: it marks it as changing, stores the value, and then the key. So two writers never have
//!    one slot, and a reader that sees a key finds its value.
//! 3. A reader that saw a key just before its slot was taken for another finds a value with another check, and no value
//!    of its own.
use core::sync::atomic::{AtomicU64, Ordering};
use libc::c_int;

/// Slots; 16 KiB of zeroed memory, touched only by programs that set such options.
const SLOTS: usize = 1024;
/// Places that one key may be in.
const PLACES: usize = 8;
/// Times that a writer looks for a slot when other threads take the same ones. After as many, the value is forgotten.
const TRIES: usize = 100;

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

/// The key of a slot that a thread is taking. In a child that was forked meanwhile it stays that for ever.
const CHANGING: u64 = u64::MAX;

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

    /// The slot for a key, and the key that is in it: the same, else none, else that of the socket with the lowest
    /// inode. That is the oldest socket, which gives way.
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
    /// Exchanges the value of the slot's key; `false` where the slot has gone to another key meanwhile.
    fn exchange(&self, key: u64, value: c_int) -> bool {
        let present = self.value.load(Ordering::Acquire);
        value_in(present, key).is_some()
            && self
                .value
                .compare_exchange(present, word(key, value), Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
    }

    /// Takes the slot, in which this key was found; `false` where another thread was faster.
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
