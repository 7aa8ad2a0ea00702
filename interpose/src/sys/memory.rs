//! Memory of our own.
#![expect(unsafe_code, reason = "maps memory")]
use super::syscalls::process::{map_memory, unmap_memory};

/// Memory that is mapped for one call, zeroed. For what may be too large for a stack.
pub(crate) struct Memory {
    address: usize,
    length: usize,
}

// === impl Memory ===

impl Memory {
    /// Memory for this many bytes.
    pub(crate) fn of(length: usize) -> Option<Self> {
        map_memory(length).map(|address| Self { address, length })
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        let start = core::ptr::with_exposed_provenance::<u8>(self.address);
        // SAFETY: the mapping has `length` initialised bytes, lives as long as `self` and is nobody else's.
        unsafe { core::slice::from_raw_parts(start, self.length) }
    }

    /// The bytes, to be written.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        let start = core::ptr::with_exposed_provenance_mut::<u8>(self.address);
        // SAFETY: as above, and borrowed exclusively.
        unsafe { core::slice::from_raw_parts_mut(start, self.length) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `of`; borrows of it end before `self` does.
        unsafe { unmap_memory(self.address, self.length) };
    }
}
