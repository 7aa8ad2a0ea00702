//! Duplicates on macOS. kqueue registers by number and has no list of what is registered. A program that
//! registers before bind registers again by its own calls, so nothing is copied here.
use crate::sys;
use libc::c_int;

/// Duplicates made before bind are not followed here: there is no cheap list of descriptors.
pub(crate) fn note_dup() {}

/// Copies who gets SIGIO.
pub(super) fn copy_owner(_fd: c_int, new: c_int, owner: c_int) {
    let _ = sys::control(new, libc::F_SETOWN, isize::try_from(owner).unwrap_or(0).cast_unsigned());
}

/// Nothing to move.
pub(super) struct Interest;

// === impl Interest ===

impl Interest {
    pub(super) fn take(_fd: c_int) -> Self {
        Self
    }

    pub(super) fn give(self, _fd: c_int) {}
}

/// No duplicates are known.
pub(super) struct Twins;

// === impl Twins ===

impl Twins {
    pub(super) fn iter(&self) -> impl Iterator<Item = c_int> + '_ {
        core::iter::empty()
    }
}

pub(super) fn twins(_fd: c_int) -> Option<Twins> {
    None
}
