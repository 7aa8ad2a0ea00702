//! Descriptors that we own.
#![expect(unsafe_code, reason = "closes descriptors")]
use super::errno::Errno;
#[cfg(target_os = "linux")]
use super::symbols::kernel;
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
    let _ = unsafe { kernel()(libc::SYS_close, fd) };
}

/// close(2).
#[cfg(target_os = "macos")]
fn close(fd: c_int) {
    // SAFETY: close(2) takes an integer; only an owner calls this.
    let _ = unsafe { libc::close(fd) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::errno::{errno, set_errno};
    use crate::sys::syscalls::descriptors::{control, replace};
    use crate::sys::syscalls::files::inode;
    use crate::sys::syscalls::sockets::unix_socket;

    fn socket() -> Fd {
        unix_socket(libc::SOCK_STREAM).unwrap()
    }

    #[test]
    fn a_descriptor_is_closed_where_its_owner_ends_and_errno_stays() {
        let fd = socket();
        let (number, socket) = (fd.number(), inode(fd.number()));
        assert!(socket.is_some());
        set_errno(libc::EXDEV);
        drop(fd);
        assert_eq!(errno(), libc::EXDEV);
        // Another thread may have the number by now.
        assert_ne!(inode(number), socket);
    }

    #[test]
    fn a_descriptor_that_is_given_away_stays_open() {
        let fd = socket();
        let socket = inode(fd.number());
        let number = fd.give();
        assert_eq!(inode(number), socket);
        drop(Fd::owned(number));
        assert_ne!(inode(number), socket);
    }

    #[test]
    fn closing_what_is_not_open_says_nothing() {
        set_errno(libc::EXDEV);
        drop(Fd::owned(-1));
        assert_eq!(errno(), libc::EXDEV);
    }

    #[test]
    fn ours_are_closed_on_exec_and_what_replaces_others_as_it_is_told() {
        let (one, other) = (socket(), socket());
        assert_eq!(control(one.number(), libc::F_GETFD, 0), Ok(libc::FD_CLOEXEC));
        replace(&one, other.number(), false).unwrap();
        assert_eq!(control(other.number(), libc::F_GETFD, 0), Ok(0));
        replace(&one, other.number(), true).unwrap();
        assert_eq!(control(other.number(), libc::F_GETFD, 0), Ok(libc::FD_CLOEXEC));
    }
}
