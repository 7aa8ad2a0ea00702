//! Calls that only macOS has.
//!
//! A thread cannot be cancelled in a `$NOCANCEL` function: system libraries call them while they hold locks. So a call
//! that is not ours goes on to the `$NOCANCEL` function, never to the one without the suffix. A call that is ours is
//! carried out like the one without the suffix.
#![expect(unsafe_code, reason = "carries out hooked calls")]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "one contract covers a call and what it is wrapped in"
)]

use super::accept::accept_with;
use super::exec::searched;
use super::messages::{blank, receive};
use super::started::Search;
use crate::config;
use crate::convert;
use crate::facts::{self, Fact};
use crate::hints;
use crate::rawaddr::{self, Given};
use crate::real::macos as real;
use crate::rewrite;
use crate::sys::{self, Errno};
use libc::{
    c_char, c_int, c_uint, c_void, iovec, msghdr, sa_endpoints_t, sae_associd_t, sae_connid_t, size_t,
    sockaddr, socklen_t, ssize_t,
};

type Strings = *const *const c_char;

/// Whether a connect to this address may be ours.
///
/// # Safety
/// As [`rawaddr::read`].
unsafe fn may_be_here(address: *const sockaddr, length: socklen_t) -> bool {
    // SAFETY: the caller vouches for address and length.
    match unsafe { rawaddr::read(address, length) } {
        Given::Inet(endpoint) => rewrite::destination(endpoint).is_some(),
        Given::Unspecified | Given::Other => false,
    }
}

/// `connect$NOCANCEL`.
///
/// # Safety
/// As connect(2).
pub(crate) unsafe fn connect_nocancel(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int {
    // SAFETY: before the kernel; nothing in the first page is read.
    if config::get().is_some() && unsafe { may_be_here(address, length) } {
        // SAFETY: the program's own arguments.
        return unsafe { super::connect(fd, address, length) };
    }
    let errno = sys::errno();
    // SAFETY: the program's own arguments.
    let result = unsafe { real::connect_nocancel(fd, address, length) };
    // A rewritten socket that connects to another host becomes a TCP socket again.
    if result != 0 && sys::errno() == sys::WRONG_FAMILY && is_rewritten(fd) {
        sys::set_errno(errno);
        // SAFETY: the program's own arguments.
        return unsafe { super::connect(fd, address, length) };
    }
    result
}

fn is_rewritten(fd: c_int) -> bool {
    let _errno = Errno::keep();
    config::get().is_some_and(|config| facts::of(config, fd).rewritten().is_some())
}

/// `accept$NOCANCEL`.
///
/// # Safety
/// As accept(2).
pub(crate) unsafe fn accept_nocancel(fd: c_int, address: *mut sockaddr, length: *mut socklen_t) -> c_int {
    // SAFETY: each pointer is the program's own, or local to the call.
    unsafe { accept_with(fd, address, length, |address, length| real::accept_nocancel(fd, address, length)) }
}

/// `sendto$NOCANCEL`.
///
/// # Safety
/// As sendto(2).
pub(crate) unsafe fn sendto_nocancel(
    fd: c_int,
    data: *const c_void,
    size: size_t,
    flags: c_int,
    address: *const sockaddr,
    length: socklen_t,
) -> ssize_t {
    let errno = sys::errno();
    // SAFETY: the program's own arguments.
    let sent = unsafe { real::sendto_nocancel(fd, data, size, flags, address, length) };
    if sent >= 0 || address.is_null() || sys::errno() != libc::EISCONN || !is_rewritten(fd) {
        return sent;
    }
    sys::set_errno(errno);
    // SAFETY: the program's own data, no address.
    unsafe { real::sendto_nocancel(fd, data, size, flags, core::ptr::null(), 0) }
}

/// `sendmsg$NOCANCEL`.
///
/// # Safety
/// As sendmsg(2).
pub(crate) unsafe fn sendmsg_nocancel(fd: c_int, message: *const msghdr, flags: c_int) -> ssize_t {
    let errno = sys::errno();
    // SAFETY: the program's own arguments.
    let sent = unsafe { real::sendmsg_nocancel(fd, message, flags) };
    if sent >= 0 || sys::errno() != libc::EISCONN || message.is_null() || !is_rewritten(fd) {
        return sent;
    }
    // SAFETY: the kernel reads the header before it finds that the address is not wanted, else it says EFAULT.
    let mut plain = unsafe { message.read_unaligned() };
    plain.msg_name = core::ptr::null_mut();
    plain.msg_namelen = 0;
    sys::set_errno(errno);
    // SAFETY: the program's own message without its address.
    unsafe { real::sendmsg_nocancel(fd, &raw const plain, flags) }
}

/// `recvfrom$NOCANCEL`.
///
/// # Safety
/// As recvfrom(2).
pub(crate) unsafe fn recvfrom_nocancel(
    fd: c_int,
    data: *mut c_void,
    size: size_t,
    flags: c_int,
    address: *mut sockaddr,
    length: *mut socklen_t,
) -> ssize_t {
    // SAFETY: the program's own pointers, or local ones.
    unsafe {
        receive(address, length, |address, length| {
            real::recvfrom_nocancel(fd, data, size, flags, address, length)
        })
    }
}

/// `recvmsg$NOCANCEL`.
///
/// # Safety
/// As recvmsg(2).
pub(crate) unsafe fn recvmsg_nocancel(fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t {
    // SAFETY: before the kernel, for a header that is not NULL.
    let asks = !message.is_null() && !unsafe { (*message).msg_name }.is_null();
    // SAFETY: as above.
    let room = if asks { unsafe { (*message).msg_namelen } } else { 0 };
    // SAFETY: the program's own arguments.
    let received = unsafe { real::recvmsg_nocancel(fd, message, flags) };
    if received >= 0
        && asks
        && let Some(config) = config::get()
    {
        // SAFETY: the call has succeeded, so the kernel has read the header and filled it in.
        unsafe { blank(config, fd, message, room) };
    }
    received
}

/// connectx(2). To a loopback address it is a connect, after a bind if there is a source address, and before a write if
/// there is data. `CONNECT_RESUME_ON_READ_WRITE` is ignored: there is nothing to wait for.
///
/// # Safety
/// As connectx(2).
#[expect(clippy::too_many_arguments, reason = "connectx(2) has as many")]
pub(crate) unsafe fn connectx(
    fd: c_int,
    endpoints: *const sa_endpoints_t,
    association: sae_associd_t,
    flags: c_uint,
    data: *const iovec,
    count: c_uint,
    sent: *mut size_t,
    connection: *mut sae_connid_t,
) -> c_int {
    // SAFETY: before the kernel, for endpoints that are not NULL.
    if endpoints.is_null() || !unsafe { is_ours(fd, endpoints) } {
        // SAFETY: the program's own arguments.
        return unsafe { real::connectx(fd, endpoints, association, flags, data, count, sent, connection) };
    }
    // SAFETY: `is_ours` has read the same.
    let endpoints = unsafe { endpoints.read_unaligned() };
    if !endpoints.sae_srcaddr.is_null() {
        // SAFETY: the program's own arguments.
        let bound = unsafe { super::bind(fd, endpoints.sae_srcaddr, endpoints.sae_srcaddrlen) };
        if bound != 0 {
            return bound;
        }
    }
    // SAFETY: the program's own arguments.
    let connected = unsafe { super::connect(fd, endpoints.sae_dstaddr, endpoints.sae_dstaddrlen) };
    if connected != 0 {
        return connected;
    }
    if !connection.is_null() {
        // SAFETY: before the kernel, for a pointer that is not NULL. TCP has one connection, SAE_CONNID_ANY + 1
        // (sys/socket.h).
        unsafe { connection.write_unaligned(1) };
    }
    let mut written = 0;
    if !data.is_null() && count > 0 {
        // SAFETY: the program's own arguments.
        let result = unsafe { libc::writev(fd, data, c_int::try_from(count).unwrap_or(c_int::MAX)) };
        let Ok(size) = usize::try_from(result) else { return -1 };
        written = size;
    }
    if !sent.is_null() {
        // SAFETY: before the kernel, for a pointer that is not NULL.
        unsafe { sent.write_unaligned(written) };
    }
    0
}

/// Whether a connectx goes from a TCP socket to a loopback address.
///
/// # Safety
/// `endpoints` is as connectx(2) wants it.
unsafe fn is_ours(fd: c_int, endpoints: *const sa_endpoints_t) -> bool {
    let Some(config) = config::get() else { return false };
    // SAFETY: the caller vouches for the endpoints.
    let endpoints = unsafe { endpoints.read_unaligned() };
    // SAFETY: as above; nothing in the first page is read.
    if !unsafe { may_be_here(endpoints.sae_dstaddr, endpoints.sae_dstaddrlen) } {
        return false;
    }
    let _errno = Errno::keep();
    facts::of(config, fd) != Fact::Other
}

/// fcntl(2). The third argument is passed on even if the program passed none.
///
/// # Safety
/// As fcntl(2).
pub(crate) unsafe extern "C" fn fcntl(fd: c_int, command: c_int, argument: usize) -> c_int {
    // SAFETY: the program's own arguments.
    noted(fd, command, unsafe { real::fcntl(fd, command, argument) })
}

/// `fcntl$NOCANCEL`, likewise.
///
/// # Safety
/// As fcntl(2).
pub(crate) unsafe extern "C" fn fcntl_nocancel(fd: c_int, command: c_int, argument: usize) -> c_int {
    // SAFETY: the program's own arguments.
    noted(fd, command, unsafe { real::fcntl_nocancel(fd, command, argument) })
}

/// Notes duplicates and owners, as `descriptors` does for the other ways to make them.
fn noted(fd: c_int, command: c_int, result: c_int) -> c_int {
    match command {
        libc::F_DUPFD | libc::F_DUPFD_CLOEXEC => {
            convert::note_dup();
            hints::forget(result);
        }
        libc::F_SETOWN => hints::owner_set(fd),
        _ => {}
    }
    result
}

/// execvP(3).
///
/// # Safety
/// As execvP(3).
pub(crate) unsafe fn exec_search(program: *const c_char, path: *const c_char, arguments: Strings) -> c_int {
    // SAFETY: the program's own strings.
    unsafe {
        searched(program, arguments, Search::Folders(path), || real::exec_search(program, path, arguments))
    }
}

/// execl(3), its list as an array.
///
/// # Safety
/// As execl(3); the array ends in NULL.
pub(crate) unsafe extern "C" fn execl(program: *const c_char, arguments: Strings) -> c_int {
    // SAFETY: the program's own strings.
    unsafe { super::execv(program, arguments) }
}

/// execlp(3), its list as an array.
///
/// # Safety
/// As execlp(3); the array ends in NULL.
pub(crate) unsafe extern "C" fn execlp(program: *const c_char, arguments: Strings) -> c_int {
    // SAFETY: the program's own strings.
    unsafe { super::execvp(program, arguments) }
}

/// execle(3), its list as an array.
///
/// # Safety
/// As execle(3); the array ends in NULL, and the environment follows it.
pub(crate) unsafe extern "C" fn execle(program: *const c_char, arguments: Strings) -> c_int {
    let mut end = arguments;
    // SAFETY: the NULL at the end was not reached.
    while !unsafe { *end }.is_null() {
        // SAFETY: as above.
        end = unsafe { end.add(1) };
    }
    // SAFETY: what follows the NULL is the environment.
    let environment = unsafe { end.add(1).read() }.cast::<*const c_char>();
    // SAFETY: the program's own strings.
    unsafe { super::execve(program, arguments, environment) }
}
