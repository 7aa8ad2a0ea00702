//! Puts another socket under a program's descriptor: same number, same flags, same epoll interest.
use crate::sys::{self, Fd};
use libc::c_int;

/// Puts `new` under the number `fd`. The number of `new` itself is closed, also if this fails. The program's flags are
/// copied: `O_NONBLOCK`, `O_ASYNC` with its owner and signal, `FD_CLOEXEC`, and the interest of every epoll instance.
/// Other descriptors of the same socket (dup before bind) get the new socket as well.
pub(crate) fn replace(fd: c_int, new: Fd) -> sys::Result<()> {
    let new = &new;
    let flags = sys::status_flags(fd)?;
    copy_flags(fd, new.number(), flags);
    let twins = crate::convert::platform::twins(fd);
    let interest = platform::Interest::take(fd);
    let result = put(new, fd);
    interest.give(fd);
    if let Some(twins) = twins {
        for twin in twins.iter() {
            let interest = platform::Interest::take(twin);
            let _ = put(new, twin);
            interest.give(twin);
        }
    }
    result
}

fn put(new: &Fd, fd: c_int) -> sys::Result<()> {
    let close_on_exec = sys::control(fd, libc::F_GETFD, 0)? & libc::FD_CLOEXEC != 0;
    sys::replace(new, fd, close_on_exec)
}

fn copy_flags(fd: c_int, new: c_int, flags: c_int) {
    let wanted = flags & (libc::O_NONBLOCK | libc::O_ASYNC);
    if (flags & libc::O_ASYNC != 0 || crate::hints::may_have_owner(fd))
        && let Ok(owner) = sys::control(fd, libc::F_GETOWN, 0)
        && owner != 0
    {
        platform::copy_owner(fd, new, owner);
    }
    if wanted != 0
        && let Ok(own) = sys::status_flags(new)
    {
        let _ = sys::control(new, libc::F_SETFL, usize::try_from(own | wanted).unwrap_or(0));
    }
}

#[cfg(target_os = "linux")]
#[path = "convert/linux.rs"]
mod platform;
#[cfg(target_os = "macos")]
#[path = "convert/macos.rs"]
mod platform;

pub(crate) use platform::note_dup;
#[cfg(target_os = "linux")]
pub(crate) use platform::note_epoll;
