//! Functions of libSystem (see `syscalls`).
#![expect(unsafe_code, reason = "system calls")]

use super::super::check::{check, check_size};
use crate::sys::descriptor::Fd;
use crate::sys::errno::Result;
use core::ffi::CStr;
use libc::{c_int, c_void};

/// access(2) with `F_OK`.
pub(crate) fn access(path: &CStr) -> Result<()> {
    // SAFETY: `path` ends in NUL.
    check(unsafe { libc::access(path.as_ptr(), libc::F_OK) }).map(|_| ())
}

/// Whether there is a regular file that this process may execute. (A folder has the same permission bit.)
pub(crate) fn is_program(path: &CStr) -> bool {
    // SAFETY: `path` ends in NUL.
    if check(unsafe { libc::access(path.as_ptr(), libc::X_OK) }).is_err() {
        return false;
    }
    // Without permission to read the file, this is all that is known.
    let Ok(fd) = open(path, libc::O_RDONLY | libc::O_NONBLOCK, 0) else { return true };
    status(fd.number()).is_some_and(|status| status.st_mode & libc::S_IFMT == libc::S_IFREG)
}

/// unlink(2).
pub(crate) fn unlink(path: &CStr) -> Result<()> {
    // SAFETY: `path` ends in NUL.
    check(unsafe { libc::unlink(path.as_ptr()) }).map(|_| ())
}

/// open(2), close-on-exec.
pub(crate) fn open(path: &CStr, flags: c_int, mode: c_int) -> Result<Fd> {
    // SAFETY: `path` ends in NUL.
    check(unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC, mode) }).map(Fd::owned)
}

/// Makes a folder.
pub(crate) fn make_folder(path: &CStr, mode: libc::mode_t) -> Result<()> {
    // SAFETY: `path` ends in NUL.
    check(unsafe { libc::mkdir(path.as_ptr(), mode) }).map(|_| ())
}

/// chmod(2). Only the owner may.
pub(crate) fn change_mode(path: &CStr, mode: libc::mode_t) -> Result<()> {
    // SAFETY: `path` ends in NUL.
    check(unsafe { libc::chmod(path.as_ptr(), mode) }).map(|_| ())
}

/// read(2).
pub(crate) fn read(fd: c_int, buffer: &mut [u8]) -> Result<usize> {
    // SAFETY: the kernel writes at most the buffer's length.
    check_size(unsafe { libc::read(fd, buffer.as_mut_ptr().cast::<c_void>(), buffer.len()) })
}

/// flock(2).
pub(crate) fn lock(fd: c_int, operation: c_int) -> Result<()> {
    // SAFETY: flock(2) takes two integers.
    check(unsafe { libc::flock(fd, operation) }).map(|_| ())
}

fn status(fd: c_int) -> Option<libc::stat> {
    let mut status = core::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: fstat(2) fills the structure.
    check(unsafe { libc::fstat(fd, status.as_mut_ptr()) }).ok()?;
    // SAFETY: fstat(2) succeeded, so the structure is filled in.
    Some(unsafe { status.assume_init() })
}

/// The inode number of an open file: it identifies a socket for as long as it lives.
pub(crate) fn inode(fd: c_int) -> Option<u64> {
    status(fd).map(|status| status.st_ino)
}

/// Wakes the watcher of a new socket file: FSEvents does not report new sockets, but it reports a change of mode.
pub(crate) fn announce(name: &crate::rawaddr::UnixName) {
    // SAFETY: the path ends in NUL.
    let _ = check(unsafe { libc::chmod(name.c_path().as_ptr(), 0o600) });
}
