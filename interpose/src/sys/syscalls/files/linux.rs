//! Raw system calls (see `syscalls`).
#![expect(unsafe_code, reason = "system calls")]

use super::super::check::check;
use super::super::descriptors::with_room;
use super::super::process::no_new_rights;
use crate::sys::descriptor::Fd;
use crate::sys::errno::Result;
use crate::sys::symbols::kernel;
use core::ffi::CStr;
use core::sync::atomic::{AtomicBool, Ordering};
use libc::{c_int, c_void};

/// access(2) with `F_OK`.
pub(crate) fn access(path: &CStr) -> Result<()> {
    // SAFETY: `path` ends in NUL.
    check(unsafe { kernel()(libc::SYS_faccessat, libc::AT_FDCWD, path.as_ptr(), libc::F_OK) }).map(|_| ())
}

/// Whether this process may execute a file.
pub(crate) fn may_execute(path: &CStr) -> bool {
    // SAFETY: `path` ends in NUL.
    check(unsafe { kernel()(libc::SYS_faccessat, libc::AT_FDCWD, path.as_ptr(), libc::X_OK) }).is_ok()
}

/// Whether there is a file that this process may execute. (A folder cannot be read.)
#[cfg(any(feature = "stand-ins", test))]
pub(crate) fn is_program(path: &CStr) -> bool {
    may_execute(path)
        && open(path, libc::O_RDONLY | libc::O_NONBLOCK, 0)
            .is_ok_and(|fd| read(fd.number(), &mut [0]).is_ok())
}

/// unlink(2).
pub(crate) fn unlink(path: &CStr) -> Result<()> {
    // SAFETY: `path` ends in NUL.
    check(unsafe { kernel()(libc::SYS_unlinkat, libc::AT_FDCWD, path.as_ptr(), 0) }).map(|_| ())
}

/// open(2), close-on-exec.
pub(crate) fn open(path: &CStr, flags: c_int, mode: c_int) -> Result<Fd> {
    let (here, flags) = (libc::AT_FDCWD, flags | libc::O_CLOEXEC);
    // SAFETY: `path` ends in NUL.
    with_room(|| check(unsafe { kernel()(libc::SYS_openat, here, path.as_ptr(), flags, mode) }))
}

/// Makes a folder.
pub(crate) fn make_folder(path: &CStr, mode: libc::mode_t) -> Result<()> {
    // SAFETY: `path` ends in NUL.
    check(unsafe { kernel()(libc::SYS_mkdirat, libc::AT_FDCWD, path.as_ptr(), mode) }).map(|_| ())
}

/// chmod(2). Only the owner may.
pub(crate) fn change_mode(path: &CStr, mode: libc::mode_t) -> Result<()> {
    // SAFETY: `path` ends in NUL.
    check(unsafe { kernel()(libc::SYS_fchmodat, libc::AT_FDCWD, path.as_ptr(), mode) }).map(|_| ())
}

/// read(2).
pub(crate) fn read(fd: c_int, buffer: &mut [u8]) -> Result<usize> {
    // SAFETY: the kernel writes at most the buffer's length.
    let count = check(unsafe { kernel()(libc::SYS_read, fd, buffer.as_mut_ptr(), buffer.len()) })?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// pread(2).
pub(crate) fn read_at(fd: c_int, offset: u64, buffer: &mut [u8]) -> Result<usize> {
    let (start, length) = (buffer.as_mut_ptr(), buffer.len());
    // SAFETY: the kernel writes at most the buffer's length.
    let count = check(unsafe { kernel()(libc::SYS_pread64, fd, start, length, offset) })?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// Whether executing a file changes the user or the group, or adds capabilities (execve(2)). Then the loader
/// ignores preloaded libraries that are named by a path (ld.so(8), secure-execution mode).
pub(crate) fn gains_rights(fd: c_int) -> bool {
    let mut status = core::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: fstat(2) fills the structure.
    if check(unsafe { kernel()(libc::SYS_fstat, fd, status.as_mut_ptr()) }).is_err() {
        return false;
    }
    // SAFETY: fstat(2) succeeded, so the structure is filled in.
    let status = unsafe { status.assume_init() };
    // SAFETY: geteuid(2) takes no arguments.
    let user = u32::try_from(unsafe { kernel()(libc::SYS_geteuid) }).unwrap_or(0);
    // SAFETY: getegid(2) takes no arguments.
    let group = u32::try_from(unsafe { kernel()(libc::SYS_getegid) }).unwrap_or(0);
    // Without the group's right to execute, the bit means something else (inode(7)).
    let grouped = libc::S_ISGID | libc::S_IXGRP;
    let gains = (status.st_mode & libc::S_ISUID != 0 && status.st_uid != user)
        || (status.st_mode & grouped == grouped && status.st_gid != group)
        || (user != 0 && has_capabilities(fd));
    gains && !no_new_rights()
}

/// Whether a file has capabilities (capabilities(7), file capabilities).
fn has_capabilities(fd: c_int) -> bool {
    let nowhere = core::ptr::null_mut::<c_void>();
    // SAFETY: the name ends in NUL; with no room for the value only its size is returned.
    check(unsafe { kernel()(libc::SYS_fgetxattr, fd, c"security.capability".as_ptr(), nowhere, 0_usize) })
        .is_ok_and(|size| size > 0)
}

/// getdents64(2).
pub(crate) fn directory_entries(fd: c_int, buffer: &mut [u8]) -> Result<usize> {
    // SAFETY: the kernel writes at most the buffer's length.
    let count = check(unsafe { kernel()(libc::SYS_getdents64, fd, buffer.as_mut_ptr(), buffer.len()) })?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// flock(2).
pub(crate) fn lock(fd: c_int, operation: c_int) -> Result<()> {
    // SAFETY: flock(2) takes two integers.
    check(unsafe { kernel()(libc::SYS_flock, fd, operation) }).map(|_| ())
}

/// The inode number of an open file: it identifies a socket for as long as it lives.
pub(crate) fn inode(fd: c_int) -> Option<u64> {
    let mut status = core::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: fstat(2) fills the structure.
    check(unsafe { kernel()(libc::SYS_fstat, fd, status.as_mut_ptr()) }).ok()?;
    // SAFETY: fstat(2) succeeded, so the structure is filled in.
    Some(unsafe { status.assume_init() }.st_ino)
}

/// Whether the umask is known to leave the owner the rights to use new files.
static USABLE: AtomicBool = AtomicBool::new(false);

/// The program has changed the umask.
pub(crate) fn mask_changed() {
    USABLE.store(false, Ordering::Relaxed);
}

/// Makes a new socket file usable by its owner: connecting asks for the right to write, which the umask may have taken.
/// The file is looked at once, and again after a change of the umask. (inotify reports new files to the watcher.)
pub(crate) fn announce(name: &crate::rawaddr::UnixName) {
    const USED: libc::mode_t = libc::S_IRUSR | libc::S_IWUSR;
    if USABLE.load(Ordering::Relaxed) {
        return;
    }
    let path = name.c_path();
    let mut status = core::mem::MaybeUninit::<libc::stat>::uninit();
    let nofollow = libc::AT_SYMLINK_NOFOLLOW;
    // SAFETY: the path ends in NUL, and newfstatat(2) fills the structure.
    let found = check(unsafe {
        kernel()(libc::SYS_newfstatat, libc::AT_FDCWD, path.as_ptr(), status.as_mut_ptr(), nofollow)
    });
    if found.is_err() {
        return;
    }
    // SAFETY: newfstatat(2) succeeded, so the structure is filled in.
    let mode = unsafe { status.assume_init() }.st_mode & 0o7777;
    if mode & USED == USED {
        USABLE.store(true, Ordering::Relaxed);
    } else {
        let _ = change_mode(path, mode | USED);
    }
}
