//! errno: of our own calls as a result, and of the program, which our calls must not change.
#![expect(unsafe_code, reason = "reads and writes errno")]
use libc::c_int;

/// A result whose error is an errno.
pub(crate) type Result<T> = core::result::Result<T, c_int>;

/// Where the thread's errno is.
#[cfg(target_os = "linux")]
fn errno_location() -> *mut c_int {
    // SAFETY: takes no arguments (errno(3)).
    unsafe { libc::__errno_location() }
}

/// Where the thread's errno is.
#[cfg(target_os = "macos")]
fn errno_location() -> *mut c_int {
    // SAFETY: takes no arguments.
    unsafe { libc::__error() }
}

/// The calling thread's errno.
pub(crate) fn errno() -> c_int {
    // SAFETY: the location is valid for the life of the thread.
    unsafe { *errno_location() }
}

/// Sets the calling thread's errno.
pub(crate) fn set_errno(errno: c_int) {
    // SAFETY: the location is valid for the life of the thread.
    unsafe { *errno_location() = errno }
}

/// Fails a hooked call: sets errno and returns -1.
pub(crate) fn fail(errno: c_int) -> c_int {
    set_errno(errno);
    -1
}

/// The program's errno during our own calls: restored on drop.
pub(crate) struct Errno(c_int);

// === impl Errno ===

impl Errno {
    /// Remembers the present errno.
    pub(crate) fn keep() -> Self {
        Self(errno())
    }
}

impl Drop for Errno {
    fn drop(&mut self) {
        set_errno(self.0);
    }
}
