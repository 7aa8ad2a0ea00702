//! Types that the kernel may fill in byte by byte.
#![expect(unsafe_code, reason = "says which types have no bytes that are no value")]
use libc::c_int;

/// A type that has only integers.
///
/// # Safety
/// Any bytes are a value of it.
pub(crate) unsafe trait Plain {}

// SAFETY: an integer.
unsafe impl Plain for c_int {}
// SAFETY: an integer.
unsafe impl Plain for u64 {}
// SAFETY: integers alone, without padding between them.
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {}
// SAFETY: two integers (sys/time.h).
unsafe impl Plain for libc::timeval {}
// SAFETY: three integers (unix(7)).
#[cfg(target_os = "linux")]
unsafe impl Plain for libc::ucred {}
// SAFETY: integers and an array of them (sys/ucred.h).
#[cfg(target_os = "macos")]
unsafe impl Plain for libc::xucred {}
