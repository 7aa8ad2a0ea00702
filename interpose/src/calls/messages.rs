//! recv, recvfrom, recvmsg, recvmmsg. A connected TCP stream returns no address; a Unix stream returns a path.
//! Calls without an address are the data path, and only pass a null check.
#![expect(unsafe_code, reason = "carries out hooked calls")]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "one contract covers a call and what it is wrapped in"
)]

use super::errors;
use crate::config::{self, Config};
use crate::facts;
use crate::hints;
use crate::names::{self, Meaning};
use crate::rawaddr;
use crate::real;
use crate::sys::{self, Errno, RawName};
use libc::{c_int, c_void, msghdr, size_t, sockaddr, socklen_t, ssize_t};

/// recv(2). If the socket is only bound, a Unix socket says EINVAL, and TCP says ENOTCONN.
///
/// # Safety
/// As recv(2).
#[cfg(target_os = "linux")]
pub(crate) unsafe fn recv(fd: c_int, data: *mut c_void, size: size_t, flags: c_int) -> ssize_t {
    if errors::asked(fd, flags) {
        return errors::none();
    }
    // SAFETY: the program's own arguments.
    corrected(fd, flags, unsafe { crate::real::gnu::recv(fd, data, size, flags) })
}

/// `__recv_chk`, what `_FORTIFY_SOURCE` makes of recv(2).
///
/// # Safety
/// As recv(2).
#[cfg(target_os = "linux")]
pub(crate) unsafe fn recv_chk(
    fd: c_int,
    data: *mut c_void,
    size: size_t,
    room: size_t,
    flags: c_int,
) -> ssize_t {
    if errors::asked(fd, flags) {
        return errors::none();
    }
    // SAFETY: the program's own arguments.
    corrected(fd, flags, unsafe { crate::real::gnu::recv_chk(fd, data, size, room, flags) })
}

/// The result of a receive, with TCP's errno for a socket that is not connected.
#[inline]
fn corrected(fd: c_int, flags: c_int, received: ssize_t) -> ssize_t {
    if received >= 0 || !matches!(sys::errno(), libc::EINVAL | libc::ECONNRESET) {
        return received;
    }
    #[cfg(target_os = "linux")]
    if sys::errno() == libc::ECONNRESET {
        reset(fd);
    }
    // TCP itself says EINVAL if there is no urgent data.
    if flags & libc::MSG_OOB != 0 || sys::errno() != libc::EINVAL {
        return received;
    }
    let rewritten = config::get().is_some_and(|config| facts::of(config, fd).rewritten().is_some());
    sys::set_errno(if rewritten { libc::ENOTCONN } else { libc::EINVAL });
    received
}

/// The program has read a reset, which the kernel says once. From now on the connection is closed, as over TCP.
#[cfg(target_os = "linux")]
#[cold]
fn reset(fd: c_int) {
    let _errno = Errno::keep();
    if config::get().is_some_and(|config| facts::of(config, fd).rewritten().is_some()) {
        crate::options::note_reset(fd);
    }
}

/// recvfrom(2).
///
/// # Safety
/// As recvfrom(2).
pub(crate) unsafe fn recvfrom(
    fd: c_int,
    data: *mut c_void,
    size: size_t,
    flags: c_int,
    address: *mut sockaddr,
    length: *mut socklen_t,
) -> ssize_t {
    if errors::asked(fd, flags) {
        return errors::none();
    }
    // SAFETY: the program's own pointers, or local ones.
    unsafe {
        receive(address, length, |address, length| {
            corrected(fd, flags, real::recvfrom(fd, data, size, flags, address, length))
        })
    }
}

/// `__recvfrom_chk`, what `_FORTIFY_SOURCE` makes of recvfrom(2).
///
/// # Safety
/// As recvfrom(2).
#[cfg(target_os = "linux")]
pub(crate) unsafe fn recvfrom_chk(
    fd: c_int,
    data: *mut c_void,
    size: size_t,
    room: size_t,
    flags: c_int,
    address: *mut sockaddr,
    length: *mut socklen_t,
) -> ssize_t {
    if errors::asked(fd, flags) {
        return errors::none();
    }
    // SAFETY: the program's own pointers, or local ones.
    unsafe {
        receive(address, length, |address, length| {
            corrected(fd, flags, crate::real::gnu::recvfrom_chk(fd, data, size, room, flags, address, length))
        })
    }
}

/// # Safety
/// `address` and `length` are as recvfrom(2) wants them; `call` is the real call.
pub(super) unsafe fn receive(
    address: *mut sockaddr,
    length: *mut socklen_t,
    call: impl FnOnce(*mut sockaddr, *mut socklen_t) -> ssize_t,
) -> ssize_t {
    if address.is_null() || length.is_null() {
        return call(address, length);
    }
    let Some(config) = config::get() else { return call(address, length) };
    let mut name = RawName::new();
    let mut name_length = RawName::room();
    let received = call(name.pointer(), &raw mut name_length);
    if received < 0 {
        return received;
    }
    name.set_length(name_length);
    if is_ours(config, name.bytes()) {
        name.set_length(0);
    }
    // SAFETY: before the kernel, which wrote to a name of ours; the caller vouches for both pointers.
    unsafe { rawaddr::give(name.bytes(), address, length) };
    received
}

fn is_ours(config: &Config, name: &[u8]) -> bool {
    sys::family_of(name) == libc::AF_UNIX
        && matches!(names::meaning(config, name), Meaning::Listener(_) | Meaning::Peer(_))
}

/// recvmsg(2).
///
/// # Safety
/// As recvmsg(2).
pub(crate) unsafe fn recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t {
    if errors::asked(fd, flags) {
        return errors::none();
    }
    // SAFETY: before the kernel, for a header that is not NULL.
    let asks = !message.is_null() && !unsafe { (*message).msg_name }.is_null();
    // SAFETY: as above.
    let room = if asks { unsafe { (*message).msg_namelen } } else { 0 };
    // SAFETY: the program's own arguments.
    let received = unsafe { real::recvmsg(fd, message, flags) };
    #[cfg(target_os = "linux")]
    if received < 0 && sys::errno() == libc::ECONNRESET {
        reset(fd);
    }
    if received >= 0 && config::get().is_some() {
        // SAFETY: the call has succeeded, so the kernel has read the header and filled it in.
        unsafe { for_each_descriptor(message, hints::forget) };
    }
    if received >= 0
        && asks
        && let Some(config) = config::get()
    {
        // SAFETY: as above, and the program gave it a place for a name.
        unsafe { blank(config, fd, message, room) };
    }
    received
}

/// recvmmsg(2).
///
/// # Safety
/// As recvmmsg(2).
#[cfg(target_os = "linux")]
pub(crate) unsafe fn recvmmsg(
    fd: c_int,
    messages: *mut libc::mmsghdr,
    count: libc::c_uint,
    flags: c_int,
    timeout: *mut libc::timespec,
) -> c_int {
    if errors::asked(fd, flags) {
        return sys::fail(libc::EAGAIN);
    }
    // SAFETY: the program's own headers.
    let room = unsafe { least_room(messages, count) };
    // SAFETY: the program's own arguments.
    let received = unsafe { crate::real::gnu::recvmmsg(fd, messages, count, flags, timeout) };
    if let Some(config) = config::get() {
        for index in 0..usize::try_from(received).unwrap_or(0) {
            // SAFETY: the call has succeeded, so the kernel has filled in as many headers.
            let header = unsafe { &raw mut (*messages.add(index)).msg_hdr };
            // SAFETY: as above.
            unsafe { for_each_descriptor(header, hints::forget) };
            // SAFETY: as above.
            if !unsafe { (*header).msg_name }.is_null() {
                // SAFETY: as above.
                unsafe { blank(config, fd, header, room) };
            }
        }
    }
    received
}

/// The least room for a name that any of several messages has.
///
/// # Safety
/// `messages` is NULL or has `count` headers.
#[cfg(target_os = "linux")]
unsafe fn least_room(messages: *const libc::mmsghdr, count: libc::c_uint) -> socklen_t {
    if messages.is_null() {
        return 0;
    }
    // The kernel takes 1024 at most (UIO_MAXIOV).
    (0..usize::try_from(count.min(1024)).unwrap_or(0))
        // SAFETY: as the caller vouches.
        .map(|index| unsafe { (*messages.add(index)).msg_hdr.msg_namelen })
        .min()
        .unwrap_or(0)
}

/// Calls `visit` with every descriptor that came or went with a message (`SCM_RIGHTS`, unix(7)).
///
/// # Safety
/// The kernel has filled in `message`, or has read it.
pub(super) unsafe fn for_each_descriptor(message: *const msghdr, visit: fn(c_int)) {
    // SAFETY: the caller vouches for the header (cmsg(3)).
    let mut control = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !control.is_null() {
        // SAFETY: cmsg(3) gives no pointer beyond the length that the kernel knows.
        let header = unsafe { control.read_unaligned() };
        if header.cmsg_level == libc::SOL_SOCKET && header.cmsg_type == libc::SCM_RIGHTS {
            // SAFETY: takes a number.
            let before = usize::try_from(unsafe { libc::CMSG_LEN(0) }).unwrap_or(0);
            let length = sys::control_length(&header);
            // SAFETY: as above.
            let data = unsafe { libc::CMSG_DATA(control) }.cast::<c_int>();
            for index in 0..length.saturating_sub(before) / size_of::<c_int>() {
                // SAFETY: the header's length covers this many descriptors.
                visit(unsafe { data.add(index).read_unaligned() });
            }
        }
        // SAFETY: as above.
        control = unsafe { libc::CMSG_NXTHDR(message, control) };
    }
}

/// Removes a name of ours from a received message.
///
/// # Safety
/// The kernel has filled in `message`, which asked for a name and had `room` bytes for it or more.
pub(super) unsafe fn blank(config: &Config, fd: c_int, message: *mut msghdr, room: socklen_t) {
    // SAFETY: the caller vouches for the header.
    let (name, length) = unsafe { ((*message).msg_name, (*message).msg_namelen) };
    // The length may be more than there is room for, so that only the family is looked at, where there is room for one.
    if length < 3 {
        return;
    }
    // SAFETY: `msg_name` has at least the two bytes of a family.
    let may_be_ours = room < 2 || unsafe { crate::header::family_at(name.cast()) } == libc::AF_UNIX;
    let _errno = Errno::keep();
    if may_be_ours && facts::of(config, fd).rewritten().is_some() {
        // SAFETY: the caller vouches for the header.
        unsafe { (*message).msg_namelen = 0 };
    }
}
