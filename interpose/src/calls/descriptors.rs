//! Calls that are only noted: new sockets and duplicates, for `hints`, the umask, and epoll instances, because a later bind or
//! connect must keep their interest. The kernel is asked nothing here.
#![expect(unsafe_code, reason = "carries out hooked calls")]

use crate::convert;
use crate::hints;
use crate::real;
use libc::c_int;

/// socket(2).
///
/// # Safety
/// As socket(2).
pub(crate) unsafe fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int {
    // SAFETY: socket(2) takes three integers.
    let fd = unsafe { real::socket(domain, kind, protocol) };
    hints::fresh(fd, domain, kind, protocol);
    fd
}

fn duplicated(from: c_int, to: c_int) -> c_int {
    hints::duplicated(from, to);
    to
}

/// dup(2).
///
/// # Safety
/// As dup(2).
pub(crate) unsafe fn dup(fd: c_int) -> c_int {
    convert::note_dup();
    // SAFETY: dup(2) takes an integer.
    duplicated(fd, unsafe { real::dup(fd) })
}

/// dup2(2).
///
/// # Safety
/// As dup2(2).
pub(crate) unsafe fn dup2(fd: c_int, to: c_int) -> c_int {
    convert::note_dup();
    // SAFETY: dup2(2) takes two integers.
    duplicated(fd, unsafe { real::dup2(fd, to) })
}

#[cfg(target_os = "linux")]
pub(crate) use linux::{dup3, epoll_create, epoll_create1, fcntl, fcntl64, umask};

#[cfg(target_os = "linux")]
mod linux {
    use crate::convert;
    use crate::real::gnu as real;
    use libc::c_int;

    /// dup3(2).
    ///
    /// # Safety
    /// As dup3(2).
    pub(crate) unsafe fn dup3(fd: c_int, to: c_int, flags: c_int) -> c_int {
        convert::note_dup();
        // SAFETY: dup3(2) takes three integers.
        super::duplicated(fd, unsafe { real::dup3(fd, to, flags) })
    }

    /// fcntl(2). Its one optional argument is passed on as a register-sized integer, as the C ABI of
    /// x86-64 and AArch64 Linux passes it.
    ///
    /// # Safety
    /// As fcntl(2).
    pub(crate) unsafe fn fcntl(fd: c_int, command: c_int, argument: usize) -> c_int {
        // SAFETY: the program's own arguments.
        noted_command(fd, command, unsafe { real::fcntl(fd, command, argument) })
    }

    /// fcntl(2) in programs built for large files.
    ///
    /// # Safety
    /// As fcntl(2).
    pub(crate) unsafe fn fcntl64(fd: c_int, command: c_int, argument: usize) -> c_int {
        // SAFETY: the program's own arguments.
        noted_command(fd, command, unsafe { real::fcntl64(fd, command, argument) })
    }

    fn noted_command(fd: c_int, command: c_int, result: c_int) -> c_int {
        match command {
            libc::F_DUPFD | libc::F_DUPFD_CLOEXEC => {
                convert::note_dup();
                super::duplicated(fd, result)
            }
            // F_SETOWN_EX of fcntl(2) is 15.
            libc::F_SETOWN | 15 => {
                crate::hints::owner_set(fd);
                result
            }
            _ => result,
        }
    }

    /// umask(2): the files of listeners are made with it.
    ///
    /// # Safety
    /// As umask(2).
    pub(crate) unsafe fn umask(mask: libc::mode_t) -> libc::mode_t {
        // SAFETY: umask(2) takes an integer.
        let before = unsafe { real::umask(mask) };
        crate::sys::mask_changed();
        before
    }

    /// epoll_create(2).
    ///
    /// # Safety
    /// As epoll_create(2).
    pub(crate) unsafe fn epoll_create(size: c_int) -> c_int {
        // SAFETY: epoll_create(2) takes an integer.
        noted(unsafe { real::epoll_create(size) })
    }

    /// epoll_create1(2).
    ///
    /// # Safety
    /// As epoll_create1(2).
    pub(crate) unsafe fn epoll_create1(flags: c_int) -> c_int {
        // SAFETY: epoll_create1(2) takes an integer.
        noted(unsafe { real::epoll_create1(flags) })
    }

    fn noted(epoll: c_int) -> c_int {
        if epoll >= 0 {
            convert::note_epoll(epoll);
        }
        epoll
    }
}
