//! kcmp(2): whether an epoll instance of a process watches one of its sockets.
#![expect(unsafe_code, reason = "a raw system call")]

use std::io;

/// `KCMP_EPOLL_TFD` of linux/kcmp.h.
const WATCHED: libc::c_int = 7;

/// `struct kcmp_epoll_slot`.
#[repr(C)]
struct Slot {
    epoll: u32,
    target: u32,
    place: u32,
}

/// Whether the epoll instance may watch the socket. If the kernel does not say, it may.
pub(crate) fn may_watch(thread: u32, epoll: i32, socket: i32) -> bool {
    let (Ok(epoll), Ok(target)) = (u32::try_from(epoll), u32::try_from(socket)) else { return false };
    let slot = Slot { epoll, target, place: 0 };
    // SAFETY: four numbers and a structure that lives until the call returns.
    let result = unsafe {
        libc::syscall(libc::SYS_kcmp, thread, thread, WATCHED, libc::c_ulong::from(target), &raw const slot)
    };
    match result {
        0 => true,
        -1 => {
            let error = io::Error::last_os_error().raw_os_error();
            !matches!(error, Some(libc::ENOENT | libc::EBADF | libc::EINVAL))
        }
        _ => false,
    }
}
