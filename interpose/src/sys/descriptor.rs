//! Descriptors that we own.
#![expect(unsafe_code, reason = "closes descriptors")]
use super::errno::Errno;
use libc::c_int;

/// A descriptor of ours: closed when it goes out of scope, unless it is given away.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fd(c_int);

// === impl Fd ===

impl Fd {
    /// Takes over a descriptor that nobody else closes.
    pub(crate) fn owned(number: c_int) -> Self {
        Self(number)
    }

    /// Its number.
    pub(crate) fn number(&self) -> c_int {
        self.0
    }

    /// Gives it to the program.
    pub(crate) fn give(self) -> c_int {
        let number = self.0;
        core::mem::forget(self);
        number
    }
}

impl Drop for Fd {
    fn drop(&mut self) {
        let _errno = Errno::keep();
        close(self.0);
    }
}

/// close(2).
#[cfg(target_os = "linux")]
fn close(fd: c_int) {
    // SAFETY: close(2) takes an integer; only an owner calls this.
    let _ = unsafe { libc::syscall(libc::SYS_close, fd) };
}

/// close(2).
#[cfg(target_os = "macos")]
fn close(fd: c_int) {
    // SAFETY: close(2) takes an integer; only an owner calls this.
    let _ = unsafe { libc::close(fd) };
}
