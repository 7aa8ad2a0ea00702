//! Raw system calls (see `syscalls`).
#![expect(unsafe_code, reason = "system calls")]

use super::super::check::check;
use super::super::descriptors::with_room;
use crate::header::socklen;
use crate::sys::descriptor::Fd;
use crate::sys::errno::Result;
use crate::sys::name::RawName;
use crate::sys::plain::Plain;
use crate::sys::symbols::kernel;
use libc::{c_int, c_long, c_void, socklen_t};

/// A Unix socket of `kind` (`SOCK_STREAM`, `SOCK_DGRAM`), close-on-exec.
pub(crate) fn unix_socket(kind: c_int) -> Result<Fd> {
    let kind = kind | libc::SOCK_CLOEXEC;
    // SAFETY: socket(2) takes three integers.
    with_room(|| check(unsafe { kernel()(libc::SYS_socket, libc::AF_UNIX, kind, 0) }))
}

/// A TCP socket, close-on-exec.
pub(crate) fn tcp_socket(v6: bool) -> Result<Fd> {
    let domain = if v6 { libc::AF_INET6 } else { libc::AF_INET };
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
    // SAFETY: socket(2) takes three integers.
    with_room(|| check(unsafe { kernel()(libc::SYS_socket, domain, kind, libc::IPPROTO_TCP) }))
}

/// A UDP socket, close-on-exec.
pub(crate) fn udp_socket(v6: bool) -> Result<Fd> {
    let domain = if v6 { libc::AF_INET6 } else { libc::AF_INET };
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
    // SAFETY: socket(2) takes three integers.
    with_room(|| check(unsafe { kernel()(libc::SYS_socket, domain, kind, libc::IPPROTO_UDP) }))
}

/// bind(2) to a socket name.
pub(crate) fn bind(fd: c_int, name: &[u8]) -> Result<()> {
    // SAFETY: address and length describe `name`, which the kernel reads.
    check(unsafe { kernel()(libc::SYS_bind, fd, name.as_ptr(), name.len()) }).map(|_| ())
}

/// connect(2) to a socket name.
pub(crate) fn connect(fd: c_int, name: &[u8]) -> Result<()> {
    // SAFETY: address and length describe `name`, which the kernel reads.
    check(unsafe { kernel()(libc::SYS_connect, fd, name.as_ptr(), name.len()) }).map(|_| ())
}

/// getsockname(2).
pub(crate) fn own_name(fd: c_int) -> Result<RawName> {
    name_of(libc::SYS_getsockname, fd)
}

/// getpeername(2).
pub(crate) fn peer_name(fd: c_int) -> Result<RawName> {
    name_of(libc::SYS_getpeername, fd)
}

fn name_of(call: c_long, fd: c_int) -> Result<RawName> {
    let mut name = RawName::new();
    let mut length = RawName::room();
    // SAFETY: the kernel writes at most `length` bytes at the pointer, and the length.
    check(unsafe { kernel()(call, fd, name.pointer(), &raw mut length) })?;
    name.set_length(length);
    Ok(name)
}

/// getsockopt(2). Returns how many bytes the kernel has written.
pub(crate) fn get_option<T: Plain>(fd: c_int, level: c_int, name: c_int, value: &mut T) -> Result<socklen_t> {
    let mut length = socklen(size_of::<T>());
    let pointer = core::ptr::from_mut(value).cast::<c_void>();
    // SAFETY: the kernel writes no more than the size of `value`, for which any bytes are a value, and the length.
    check(unsafe { kernel()(libc::SYS_getsockopt, fd, level, name, pointer, &raw mut length) })?;
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
    check(unsafe { kernel()(libc::SYS_setsockopt, fd, level, name, value, length) }).map(|_| ())
}

/// The user who called listen(2) at the other end of a Unix socket (unix(7), `SO_PEERCRED`).
pub(crate) fn peer_user(fd: c_int) -> Result<u32> {
    let mut credentials = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    get_option(fd, libc::SOL_SOCKET, libc::SO_PEERCRED, &mut credentials)?;
    Ok(credentials.uid)
}

/// Sends a datagram to a socket name without waiting and without SIGPIPE.
pub(crate) fn send_to(fd: c_int, data: &[u8], name: &[u8]) -> Result<()> {
    // SAFETY: pointers and lengths describe `data` and `name`, which the kernel reads.
    check(unsafe {
        kernel()(
            libc::SYS_sendto,
            fd,
            data.as_ptr(),
            data.len(),
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
            name.as_ptr(),
            name.len(),
        )
    })
    .map(|_| ())
}

/// Sends one message on a connected socket, without SIGPIPE.
pub(crate) fn send(fd: c_int, data: &[u8]) -> Result<()> {
    // SAFETY: pointer and length describe `data`; there is no address.
    check(unsafe {
        kernel()(
            libc::SYS_sendto,
            fd,
            data.as_ptr(),
            data.len(),
            libc::MSG_NOSIGNAL,
            core::ptr::null::<c_void>(),
            0,
        )
    })
    .map(|_| ())
}

/// Sends on a connected socket as much as there is room for, without waiting and without SIGPIPE.
pub(crate) fn send_now(fd: c_int, data: &[u8]) -> Result<()> {
    // SAFETY: pointer and length describe `data`; there is no address.
    check(unsafe {
        kernel()(
            libc::SYS_sendto,
            fd,
            data.as_ptr(),
            data.len(),
            libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT,
            core::ptr::null::<c_void>(),
            0,
        )
    })
    .map(|_| ())
}

/// Receives one message and at most two descriptors that came with it (unix(7)), close-on-exec.
pub(crate) fn receive_with_descriptors(
    fd: c_int,
    buffer: &mut [u8],
    flags: c_int,
) -> Result<(usize, [Option<Fd>; 2])> {
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast::<c_void>(), iov_len: buffer.len() };
    // A header of 16 bytes and two descriptors (cmsg(3)).
    let mut control = [0_u64; 3];
    let mut message = libc::msghdr {
        msg_name: core::ptr::null_mut(),
        msg_namelen: 0,
        msg_iov: &raw mut part,
        msg_iovlen: 1,
        msg_control: control.as_mut_ptr().cast::<c_void>(),
        msg_controllen: size_of_val(&control),
        msg_flags: 0,
    };
    // SAFETY: the header describes buffers that live until the call returns.
    let count =
        check(unsafe { kernel()(libc::SYS_recvmsg, fd, &raw mut message, flags | libc::MSG_CMSG_CLOEXEC) })?;
    let [length, kind, data] = control;
    // The second word is level and type, each four bytes, SOL_SOCKET and SCM_RIGHTS being 1.
    let rights = kind == (1 << 32 | 1) && message.msg_controllen >= 20;
    let descriptor =
        |bits: u64| Some(Fd::owned(u32::try_from(bits & 0xffff_ffff).unwrap_or(0).cast_signed()));
    let descriptors = match length {
        20 if rights => [descriptor(data), None],
        24 if rights => [descriptor(data), descriptor(data >> 32)],
        _ => [None, None],
    };
    Ok((usize::try_from(count).unwrap_or(0), descriptors))
}

/// Length of a control message with its header (cmsg(3)).
pub(crate) fn control_length(header: &libc::cmsghdr) -> usize {
    header.cmsg_len
}

/// Bytes that were not read (`FIONREAD`, unix(7)).
pub(crate) fn unread(fd: c_int) -> c_int {
    let mut count: c_int = 0;
    // SAFETY: the kernel writes an integer.
    match check(unsafe { kernel()(libc::SYS_ioctl, fd, libc::FIONREAD, &raw mut count) }) {
        Ok(_) => count,
        Err(_) => 0,
    }
}

/// shutdown(2) for reading.
pub(crate) fn end_reading(fd: c_int) {
    // SAFETY: shutdown(2) takes two integers.
    let _ = check(unsafe { kernel()(libc::SYS_shutdown, fd, libc::SHUT_RD) });
}

/// Receives what is there, without waiting.
pub(crate) fn receive_now(fd: c_int, buffer: &mut [u8]) -> Result<usize> {
    let nobody = core::ptr::null_mut::<c_void>();
    let (data, size) = (buffer.as_mut_ptr(), buffer.len());
    // SAFETY: pointer and length describe `buffer`, which the kernel writes; no address is asked for.
    let count =
        check(unsafe { kernel()(libc::SYS_recvfrom, fd, data, size, libc::MSG_DONTWAIT, nobody, nobody) })?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// How many connections wait at a listening Unix socket, and how many may (sock_diag(7)).
pub(crate) fn queue_of(inode: u64) -> Option<(u32, u32)> {
    // linux/sock_diag.h, linux/unix_diag.h. All systems that are built for are little-endian.
    const SOCK_DIAG_BY_FAMILY: u32 = 20;
    const NLM_F_REQUEST: u32 = 1;
    const UDIAG_SHOW_RQLEN: u32 = 16;
    const UNIX_DIAG_RQLEN: u32 = 4;
    const RQLEN_BYTES: u32 = 12;
    const AF_UNIX: u32 = 1;
    let (domain, kind, protocol) =
        (libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_SOCK_DIAG);
    // SAFETY: socket(2) takes three integers.
    let socket = with_room(|| check(unsafe { kernel()(libc::SYS_socket, domain, kind, protocol) })).ok()?;
    // struct nlmsghdr: length, type and flags, sequence, sender. struct unix_diag_req: family, states, inode, what to
    // show, a cookie that fits any.
    let (kind, family) = (SOCK_DIAG_BY_FAMILY | NLM_F_REQUEST << 16, AF_UNIX);
    let any = u32::MAX;
    let request = [40, kind, 0, 0, family, any, u32::try_from(inode).ok()?, UDIAG_SHOW_RQLEN, any, any];
    // SAFETY: pointer and length describe `request`, which the kernel reads; no address: the kernel itself answers.
    check(unsafe {
        kernel()(
            libc::SYS_sendto,
            socket.number(),
            request.as_ptr(),
            size_of_val(&request),
            0,
            core::ptr::null::<c_void>(),
            0,
        )
    })
    .ok()?;
    let mut answer = [0_u32; 64];
    let nobody = core::ptr::null_mut::<c_void>();
    // SAFETY: pointer and length describe `answer`, which the kernel writes.
    check(unsafe {
        kernel()(
            libc::SYS_recvfrom,
            socket.number(),
            answer.as_mut_ptr(),
            size_of_val(&answer),
            libc::MSG_DONTWAIT,
            nobody,
            nobody,
        )
    })
    .ok()?;
    // The header, struct unix_diag_msg (4 words), then attributes: length and type, and here two words.
    let head = RQLEN_BYTES | UNIX_DIAG_RQLEN << 16;
    let is_answer = answer.get(1).is_some_and(|word| word & 0xffff == SOCK_DIAG_BY_FAMILY);
    match answer.get(8..11) {
        Some(&[found, waiting, room]) if is_answer && found == head => Some((waiting, room)),
        _ => None,
    }
}
