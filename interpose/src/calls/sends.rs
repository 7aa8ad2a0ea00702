//! send, sendto, sendmsg, sendmmsg. Two things differ:
//! - A connected TCP stream ignores an address; a Unix stream refuses it (EISCONN).
//! - TCP takes data for a peer that has closed, until the peer has answered the first data. A Unix stream fails at once
//!   (EPIPE).
//!
//! The real call comes first. Nothing more is done unless it fails.
#![expect(unsafe_code, reason = "carries out hooked calls")]

use crate::config;
use crate::facts;
use crate::real;
use crate::sys::{self, Errno};
use libc::{c_int, c_void, msghdr, size_t, sockaddr, socklen_t, ssize_t};

/// send(2).
///
/// # Safety
/// As send(2).
#[cfg(target_os = "linux")]
pub(crate) unsafe fn send(fd: c_int, data: *const c_void, size: size_t, flags: c_int) -> ssize_t {
    let errno = sys::errno();
    // SAFETY: the program's own arguments.
    let sent = unsafe { crate::real::gnu::send(fd, data, size, flags) };
    if sent >= 0 {
        return sent;
    }
    let Some(taken) = late::taken(fd, size) else { return sent };
    sys::set_errno(errno);
    taken
}

/// sendto(2), also as an implicit connect (`MSG_FASTOPEN`, tcp(7)).
///
/// # Safety
/// As sendto(2).
pub(crate) unsafe fn sendto(
    fd: c_int,
    data: *const c_void,
    size: size_t,
    flags: c_int,
    address: *const sockaddr,
    length: socklen_t,
) -> ssize_t {
    #[cfg(target_os = "linux")]
    if !address.is_null() && flags & libc::MSG_FASTOPEN != 0 && config::get().is_some() {
        // SAFETY: the program's own arguments: this send is a connect first.
        if unsafe { super::connect(fd, address, length) } != 0 {
            return -1;
        }
        // SAFETY: the program's own data, no address.
        return unsafe { real::sendto(fd, data, size, flags & !libc::MSG_FASTOPEN, core::ptr::null(), 0) };
    }
    let errno = sys::errno();
    // SAFETY: the program's own arguments.
    let sent = unsafe { real::sendto(fd, data, size, flags, address, length) };
    #[cfg(target_os = "linux")]
    if sent < 0
        && let Some(taken) = late::taken(fd, size)
    {
        sys::set_errno(errno);
        return taken;
    }
    if sent >= 0 || address.is_null() || !refused_for_address(fd) {
        return sent;
    }
    sys::set_errno(errno);
    // SAFETY: the program's own data, no address.
    unsafe { sendto(fd, data, size, flags, core::ptr::null(), 0) }
}

/// sendmsg(2).
///
/// # Safety
/// As sendmsg(2).
pub(crate) unsafe fn sendmsg(fd: c_int, message: *const msghdr, flags: c_int) -> ssize_t {
    #[cfg(target_os = "linux")]
    if flags & libc::MSG_FASTOPEN != 0 && !message.is_null() && config::get().is_some() {
        // SAFETY: before the kernel, for a header that is not NULL.
        let mut plain = unsafe { message.read_unaligned() };
        if !plain.msg_name.is_null() {
            // SAFETY: the program's own arguments: this send is a connect first.
            if unsafe { super::connect(fd, plain.msg_name.cast::<sockaddr>(), plain.msg_namelen) } != 0 {
                return -1;
            }
            plain.msg_name = core::ptr::null_mut();
            plain.msg_namelen = 0;
            // SAFETY: the program's own message without its address.
            return unsafe { real::sendmsg(fd, &raw const plain, flags & !libc::MSG_FASTOPEN) };
        }
    }
    let errno = sys::errno();
    // SAFETY: the program's own arguments.
    let sent = unsafe { real::sendmsg(fd, message, flags) };
    if sent >= 0 {
        // SAFETY: the kernel has read the header.
        unsafe { gives_away(message) };
        return sent;
    }
    #[cfg(target_os = "linux")]
    if matches!(sys::errno(), libc::EPIPE | libc::ENOTCONN) && !message.is_null() {
        // SAFETY: the kernel reads the header and its parts before it finds that the peer has gone, else it says
        // EFAULT.
        let size = unsafe { late::size_of(message) };
        if let Some(taken) = late::taken(fd, size) {
            sys::set_errno(errno);
            return taken;
        }
    }
    if !matches!(sys::errno(), libc::EISCONN | libc::EOPNOTSUPP) || message.is_null() {
        return sent;
    }
    // SAFETY: the kernel reads the header before it finds that the address is not wanted, else it says EFAULT.
    let mut plain = unsafe { message.read_unaligned() };
    if plain.msg_name.is_null() || !refused_for_address(fd) {
        return sent;
    }
    plain.msg_name = core::ptr::null_mut();
    plain.msg_namelen = 0;
    sys::set_errno(errno);
    // SAFETY: the program's own message without its address.
    unsafe { sendmsg(fd, &raw const plain, flags) }
}

/// sendmmsg(2).
///
/// # Safety
/// As sendmmsg(2).
#[cfg(target_os = "linux")]
pub(crate) unsafe fn sendmmsg(
    fd: c_int,
    messages: *mut libc::mmsghdr,
    count: libc::c_uint,
    flags: c_int,
) -> c_int {
    if flags & libc::MSG_FASTOPEN != 0 && !messages.is_null() && config::get().is_some() {
        // SAFETY: the program's own array; the first message connects.
        return unsafe { one_by_one(fd, messages, count, flags) };
    }
    let errno = sys::errno();
    // SAFETY: the program's own arguments.
    let sent = unsafe { crate::real::gnu::sendmmsg(fd, messages, count, flags) };
    for index in 0..usize::try_from(sent).unwrap_or(0) {
        // SAFETY: the kernel has read as many headers.
        let message = unsafe { messages.add(index) };
        // SAFETY: as above.
        let header = unsafe { &raw const (*message).msg_hdr };
        // SAFETY: as above.
        unsafe { gives_away(header) };
    }
    if sent >= 0 || messages.is_null() {
        return sent;
    }
    if matches!(sys::errno(), libc::EPIPE | libc::ENOTCONN) {
        // SAFETY: the array has a first header, which the kernel has read.
        let first = unsafe { &raw const (*messages).msg_hdr };
        // SAFETY: as above, with its parts.
        let size = unsafe { late::size_of(first) };
        let Some(taken) = late::taken(fd, size) else { return -1 };
        sys::set_errno(errno);
        // SAFETY: the program's own array. The others are for its next call, as after a full buffer.
        unsafe { (*messages).msg_len = libc::c_uint::try_from(taken).unwrap_or(libc::c_uint::MAX) };
        return 1;
    }
    if !refused_for_address(fd) {
        return -1;
    }
    // The first one was refused, so none was sent: one by one, without addresses.
    // SAFETY: the program's own array.
    unsafe { one_by_one(fd, messages, count, flags) }
}

/// sendmmsg(2) by sendmsg(2).
///
/// # Safety
/// As sendmmsg(2), whose array is not NULL.
#[cfg(target_os = "linux")]
unsafe fn one_by_one(fd: c_int, messages: *mut libc::mmsghdr, count: libc::c_uint, flags: c_int) -> c_int {
    let mut done = 0;
    // The kernel takes 1024 at most (UIO_MAXIOV).
    for index in 0..usize::try_from(count.min(1024)).unwrap_or(0) {
        // SAFETY: the program has said that its array has `count` messages; nothing is read yet.
        let message = unsafe { messages.add(index) };
        // SAFETY: as above.
        let header = unsafe { &raw const (*message).msg_hdr };
        // SAFETY: as sendmsg(2), whose real call has the kernel read the header first.
        let length = unsafe { sendmsg(fd, header, flags) };
        if length < 0 {
            break;
        }
        // SAFETY: the kernel has read this message, and sendmmsg(2) is defined to write here.
        unsafe { (*message).msg_len = libc::c_uint::try_from(length).unwrap_or(0) };
        done += 1;
    }
    if done > 0 || count == 0 { done } else { -1 }
}

/// Notes which descriptors went with a message that was sent. Another process may have them now.
///
/// # Safety
/// The kernel has read `message`.
unsafe fn gives_away(message: *const msghdr) {
    // SAFETY: as the caller vouches.
    if unsafe { (*message).msg_controllen } != 0 {
        // SAFETY: as above.
        unsafe { super::messages::for_each_descriptor(message, crate::hints::shared) };
    }
}

/// Whether a send on a rewritten socket failed only because a Unix stream takes no address.
fn refused_for_address(fd: c_int) -> bool {
    if sys::errno() != libc::EISCONN {
        return false;
    }
    let _errno = Errno::keep();
    config::get().is_some_and(|config| facts::of(config, fd).rewritten().is_some())
}

/// Data for a peer that has closed.
#[cfg(target_os = "linux")]
mod late {
    use crate::config;
    use crate::facts;
    use crate::options;
    use crate::room;
    use crate::sys::{self, Errno};
    use libc::{c_int, msghdr, ssize_t};

    /// How many bytes TCP would have taken of a send that failed with EPIPE. If none, it sets errno to what TCP says.
    /// (SIGPIPE was raised before, unless the program ignores it or sends with `MSG_NOSIGNAL`.)
    #[cold]
    pub(super) fn taken(fd: c_int, size: usize) -> Option<ssize_t> {
        let reason = sys::errno();
        if !matches!(reason, libc::EPIPE | libc::ENOTCONN) {
            return None;
        }
        let errno = Errno::keep();
        let fact =
            config::get().map(|config| facts::of(config, fd)).filter(|fact| fact.rewritten().is_some());
        if reason == libc::ENOTCONN {
            drop(errno);
            if fact.is_some() {
                // The socket is only bound, or listens.
                sys::set_errno(libc::EPIPE);
            }
            return None;
        }
        let fact = fact?;
        if sys::peer_name(fd).is_err() || options::shut_down(fd).1 || options::was_reset(fd) {
            return None;
        }
        let events = sys::events_now(fd, libc::POLLRDHUP).unwrap_or(libc::POLLERR);
        if events & libc::POLLERR != 0 {
            // The peer closed with unread data, which resets the connection. TCP reports that once.
            let _ = options::is_first_late(fd);
            drop(errno);
            if let Ok(reason @ 1..) = sys::option(fd, libc::SOL_SOCKET, libc::SO_ERROR) {
                sys::set_errno(reason);
            }
            return None;
        }
        let size = ssize_t::try_from(size).unwrap_or(ssize_t::MAX);
        // A peer that has only shut down reading still takes data, and drops it. A send without data sends nothing.
        if size == 0 || events & libc::POLLHUP == 0 {
            return Some(size);
        }
        // A peer that has closed answers the first data with a reset. So the first send succeeds, and takes what the
        // send buffer holds.
        let room = sys::option(fd, libc::SOL_SOCKET, libc::SO_SNDBUF).unwrap_or(c_int::MAX);
        let room = room::answer(fd, fact, libc::SO_SNDBUF, room).unwrap_or(room);
        options::is_first_late(fd).then(|| size.min(ssize_t::try_from(room).unwrap_or(ssize_t::MAX)))
    }

    /// Bytes of a message.
    ///
    /// # Safety
    /// The kernel has read `message` and its parts.
    pub(super) unsafe fn size_of(message: *const msghdr) -> usize {
        // SAFETY: as the caller vouches.
        let message = unsafe { message.read_unaligned() };
        let mut size: usize = 0;
        for index in 0..message.msg_iovlen {
            // SAFETY: the caller vouches for the header's parts.
            let part = unsafe { message.msg_iov.add(index) };
            // SAFETY: as above.
            size = size.saturating_add(unsafe { part.read_unaligned() }.iov_len);
        }
        size
    }
}
