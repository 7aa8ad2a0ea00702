//! Socket names as the kernel gives them.
#![expect(unsafe_code, reason = "reads what the kernel wrote")]
use crate::header::socklen;
use libc::{sockaddr, socklen_t};

/// The name of a socket, its own or its peer's, as the kernel gives it.
pub(crate) struct RawName {
    bytes: [u64; 16],
    length: usize,
}

// === impl RawName ===

impl RawName {
    /// An empty name to be filled in.
    pub(crate) fn new() -> Self {
        Self { bytes: [0; 16], length: 0 }
    }

    /// Where a system call may write up to [`RawName::room`] bytes.
    pub(crate) fn pointer(&mut self) -> *mut sockaddr {
        self.bytes.as_mut_ptr().cast::<sockaddr>()
    }

    /// The number of bytes: more than any socket name of the kernel has.
    pub(crate) fn room() -> socklen_t {
        socklen(size_of::<[u64; 16]>())
    }

    /// Says how much a system call wrote.
    pub(crate) fn set_length(&mut self, length: socklen_t) {
        self.length = usize::try_from(length).unwrap_or(0).min(size_of::<[u64; 16]>());
    }

    /// The name's bytes, family first.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the array is initialised, `length` is at most its size, and bytes have no alignment.
        unsafe { core::slice::from_raw_parts(self.bytes.as_ptr().cast::<u8>(), self.length) }
    }
}
