//! Functions of libSystem (see `syscalls`).
#![expect(unsafe_code, reason = "system calls")]

use super::super::check::{check, check_size};
use super::super::descriptors::{close_on_exec, ours};
use crate::header::socklen;
use crate::sys::descriptor::Fd;
use crate::sys::errno::Result;
use crate::sys::name::RawName;
use crate::sys::plain::Plain;
use libc::{c_int, c_void, sockaddr, socklen_t};

/// A Unix socket of `kind` (`SOCK_STREAM`, `SOCK_DGRAM`), close-on-exec, without SIGPIPE.
pub(crate) fn unix_socket(kind: c_int) -> Result<Fd> {
    // SAFETY: socket(2) takes three integers.
    ours(check(unsafe { libc::socket(libc::AF_UNIX, kind, 0) })?)
}

/// A TCP socket, close-on-exec.
pub(crate) fn tcp_socket(v6: bool) -> Result<Fd> {
    let domain = if v6 { libc::AF_INET6 } else { libc::AF_INET };
    // SAFETY: socket(2) takes three integers.
    ours(check(unsafe { libc::socket(domain, libc::SOCK_STREAM, libc::IPPROTO_TCP) })?)
}

/// A UDP socket, close-on-exec.
pub(crate) fn udp_socket(v6: bool) -> Result<Fd> {
    let domain = if v6 { libc::AF_INET6 } else { libc::AF_INET };
    // SAFETY: socket(2) takes three integers.
    ours(check(unsafe { libc::socket(domain, libc::SOCK_DGRAM, libc::IPPROTO_UDP) })?)
}

/// bind(2) to a socket name.
pub(crate) fn bind(fd: c_int, name: &[u8]) -> Result<()> {
    // SAFETY: address and length describe `name`, which the kernel reads.
    check(unsafe { libc::bind(fd, name.as_ptr().cast::<sockaddr>(), socklen(name.len())) }).map(|_| ())
}

/// connect(2) to a socket name.
pub(crate) fn connect(fd: c_int, name: &[u8]) -> Result<()> {
    // SAFETY: address and length describe `name`, which the kernel reads.
    check(unsafe { libc::connect(fd, name.as_ptr().cast::<sockaddr>(), socklen(name.len())) }).map(|_| ())
}

/// getsockname(2).
pub(crate) fn own_name(fd: c_int) -> Result<RawName> {
    let mut name = RawName::new();
    let mut length = RawName::room();
    // SAFETY: the kernel writes at most `length` bytes at the pointer, and the length.
    check(unsafe { libc::getsockname(fd, name.pointer(), &raw mut length) })?;
    name.set_length(length);
    Ok(name)
}

/// getpeername(2).
pub(crate) fn peer_name(fd: c_int) -> Result<RawName> {
    let mut name = RawName::new();
    let mut length = RawName::room();
    // SAFETY: the kernel writes at most `length` bytes at the pointer, and the length.
    check(unsafe { libc::getpeername(fd, name.pointer(), &raw mut length) })?;
    name.set_length(length);
    Ok(name)
}

/// getsockopt(2). Returns how many bytes the kernel has written.
pub(crate) fn get_option<T: Plain>(fd: c_int, level: c_int, name: c_int, value: &mut T) -> Result<socklen_t> {
    let mut length = socklen(size_of::<T>());
    let pointer = core::ptr::from_mut(value).cast::<c_void>();
    // SAFETY: the kernel writes no more than the size of `value`, for which any bytes are a value, and the length.
    check(unsafe { libc::getsockopt(fd, level, name, pointer, &raw mut length) })?;
    Ok(length)
}

/// setsockopt(2). The value may be a pointer of the program: the kernel checks it.
pub(crate) fn set_option_raw(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *const c_void,
    length: socklen_t,
) -> Result<()> {
    // SAFETY: the kernel only reads, and says EFAULT where it cannot.
    check(unsafe { libc::setsockopt(fd, level, name, value, length) }).map(|_| ())
}

/// User of the process that connected (unix(4), `LOCAL_PEERCRED`).
pub(crate) fn peer_user(fd: c_int) -> Result<u32> {
    // SAFETY: integers only, for which zeroes are values as well.
    let mut credentials = unsafe { core::mem::MaybeUninit::<libc::xucred>::zeroed().assume_init() };
    get_option(fd, libc::SOL_LOCAL, libc::LOCAL_PEERCRED, &mut credentials)?;
    Ok(credentials.cr_uid)
}

/// Sends a datagram to a socket name without waiting. Datagram sockets raise no SIGPIPE.
pub(crate) fn send_to(fd: c_int, data: &[u8], name: &[u8]) -> Result<()> {
    // SAFETY: pointers and lengths describe `data` and `name`, which the kernel reads.
    check_size(unsafe {
        libc::sendto(
            fd,
            data.as_ptr().cast::<c_void>(),
            data.len(),
            libc::MSG_DONTWAIT,
            name.as_ptr().cast::<sockaddr>(),
            socklen(name.len()),
        )
    })
    .map(|_| ())
}

/// Sends on a connected socket as much as there is room for, without waiting.
pub(crate) fn send_now(fd: c_int, data: &[u8]) -> Result<()> {
    // There is no MSG_NOSIGNAL. Without this option a peer that has closed would end the program by SIGPIPE.
    let on: c_int = 1;
    let value = (&raw const on).cast::<c_void>();
    set_option_raw(fd, libc::SOL_SOCKET, libc::SO_NOSIGPIPE, value, socklen(size_of::<c_int>()))?;
    // SAFETY: pointer and length describe `data`; there is no address.
    check_size(unsafe {
        libc::sendto(fd, data.as_ptr().cast::<c_void>(), data.len(), libc::MSG_DONTWAIT, core::ptr::null(), 0)
    })
    .map(|_| ())
}

/// Receives one message and at most two descriptors that came with it (unix(4)), close-on-exec.
pub(crate) fn receive_with_descriptors(
    fd: c_int,
    buffer: &mut [u8],
    flags: c_int,
) -> Result<(usize, [Option<Fd>; 2])> {
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast::<c_void>(), iov_len: buffer.len() };
    // A header of 12 bytes and two descriptors (sys/socket.h).
    let mut control = [0_u32; 5];
    let mut message = libc::msghdr {
        msg_name: core::ptr::null_mut(),
        msg_namelen: 0,
        msg_iov: &raw mut part,
        msg_iovlen: 1,
        msg_control: control.as_mut_ptr().cast::<c_void>(),
        msg_controllen: socklen(size_of_val(&control)),
        msg_flags: 0,
    };
    // SAFETY: the header describes buffers that live until the call returns.
    let count = check_size(unsafe { libc::recvmsg(fd, &raw mut message, flags) })?;
    let [length, level, kind, first, second] = control;
    let rights = level == libc::SOL_SOCKET.cast_unsigned()
        && kind == libc::SCM_RIGHTS.cast_unsigned()
        && message.msg_controllen >= 16;
    let descriptors = match length {
        16 if rights => [Some(first), None],
        20 if rights => [Some(first), Some(second)],
        _ => [None, None],
    };
    let descriptors = descriptors.map(|number| number.map(|number| Fd::owned(number.cast_signed())));
    for descriptor in descriptors.iter().flatten() {
        let _ = close_on_exec(descriptor.number());
    }
    Ok((count, descriptors))
}

/// Length of a control message with its header (cmsg(3)).
pub(crate) fn control_length(header: &libc::cmsghdr) -> usize {
    usize::try_from(header.cmsg_len).unwrap_or(0)
}
