//! The only place that turns -1 and errno into a result.
use crate::sys::errno::{Result, errno};
use libc::c_int;
#[cfg(target_os = "linux")]
use libc::c_long;

/// The result of a raw system call.
#[cfg(target_os = "linux")]
pub(super) fn check(result: c_long) -> Result<c_int> {
    if result < 0 { Err(errno()) } else { Ok(c_int::try_from(result).unwrap_or(c_int::MAX)) }
}

/// The result of a function of libSystem.
#[cfg(target_os = "macos")]
pub(super) fn check(result: c_int) -> Result<c_int> {
    if result < 0 { Err(errno()) } else { Ok(result) }
}

/// The result of a function of libSystem that counts bytes.
#[cfg(target_os = "macos")]
pub(super) fn check_size(result: isize) -> Result<usize> {
    usize::try_from(result).map_err(|_| errno())
}
