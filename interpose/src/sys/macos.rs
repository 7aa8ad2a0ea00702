//! macOS: libSystem's functions, called directly. dyld does not interpose the interposing image.
#![expect(unsafe_code, reason = "system calls")]

use super::{Fd, RawName, Result};
use core::ffi::CStr;
use libc::{c_int, c_void, sockaddr, socklen_t};

fn check(result: c_int) -> Result<c_int> {
    if result < 0 { Err(super::errno()) } else { Ok(result) }
}

fn check_size(result: isize) -> Result<usize> {
    usize::try_from(result).map_err(|_| super::errno())
}

/// Where the thread's errno is.
pub(super) fn errno_location() -> *mut c_int {
    // SAFETY: takes no arguments.
    unsafe { libc::__error() }
}

fn close_on_exec(fd: c_int) -> Result<()> {
    control(fd, libc::F_SETFD, usize::try_from(libc::FD_CLOEXEC).unwrap_or(1)).map(|_| ())
}

fn ours(fd: c_int) -> Result<Fd> {
    let fd = Fd::owned(fd);
    close_on_exec(fd.number()).map(|()| fd)
}

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

/// close(2).
pub(super) fn close(fd: c_int) {
    // SAFETY: close(2) takes an integer; only an owner calls this.
    let _ = unsafe { libc::close(fd) };
}

/// bind(2) to a socket name.
pub(crate) fn bind(fd: c_int, name: &[u8]) -> Result<()> {
    // SAFETY: address and length describe `name`, which the kernel reads.
    check(unsafe { libc::bind(fd, name.as_ptr().cast::<sockaddr>(), super::socklen(name.len())) }).map(|_| ())
}

/// connect(2) to a socket name.
pub(crate) fn connect(fd: c_int, name: &[u8]) -> Result<()> {
    // SAFETY: address and length describe `name`, which the kernel reads.
    check(unsafe { libc::connect(fd, name.as_ptr().cast::<sockaddr>(), super::socklen(name.len())) })
        .map(|_| ())
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

/// getsockopt(2).
pub(crate) fn get_option(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    length: &mut socklen_t,
) -> Result<()> {
    // SAFETY: the caller's buffer has `length` bytes.
    check(unsafe { libc::getsockopt(fd, level, name, value, core::ptr::from_mut(length)) }).map(|_| ())
}

/// setsockopt(2).
pub(crate) fn set_option_raw(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *const c_void,
    length: socklen_t,
) -> Result<()> {
    // SAFETY: the caller's buffer has `length` bytes.
    check(unsafe { libc::setsockopt(fd, level, name, value, length) }).map(|_| ())
}

/// fcntl(2) with an integer argument.
pub(crate) fn control(fd: c_int, command: c_int, argument: usize) -> Result<c_int> {
    // SAFETY: the commands used here take an integer.
    check(unsafe { libc::fcntl(fd, command, argument) })
}

/// dup2(2): `from` takes the number `to`. macOS has no dup3; between the two calls an exec in another thread
/// could inherit the descriptor.
pub(crate) fn replace(from: c_int, to: c_int, close_on_exec_flag: bool) -> Result<()> {
    // SAFETY: dup2(2) takes two integers.
    check(unsafe { libc::dup2(from, to) })?;
    if close_on_exec_flag { close_on_exec(to) } else { Ok(()) }
}

/// access(2) with `F_OK`.
pub(crate) fn access(path: &CStr) -> Result<()> {
    // SAFETY: `path` ends in NUL.
    check(unsafe { libc::access(path.as_ptr(), libc::F_OK) }).map(|_| ())
}

/// Whether there is a file that may be executed. What is no regular file (a folder may be "executed") is none.
pub(crate) fn is_program(path: &CStr) -> bool {
    // SAFETY: `path` ends in NUL.
    if check(unsafe { libc::access(path.as_ptr(), libc::X_OK) }).is_err() {
        return false;
    }
    // Without permission to read it nothing more is known.
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

/// Size of an open file in bytes.
pub(crate) fn size(fd: c_int) -> Option<i64> {
    status(fd).map(|status| status.st_size)
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
            super::socklen(name.len()),
        )
    })
    .map(|_| ())
}

/// Sends on a connected socket what there is room for at once.
pub(crate) fn send_now(fd: c_int, data: &[u8]) -> Result<()> {
    // There is no MSG_NOSIGNAL: a peer that has left must not cost the program a SIGPIPE.
    super::set_option(fd, libc::SOL_SOCKET, libc::SO_NOSIGPIPE, 1)?;
    // SAFETY: pointer and length describe `data`; there is no address.
    check_size(unsafe {
        libc::sendto(fd, data.as_ptr().cast::<c_void>(), data.len(), libc::MSG_DONTWAIT, core::ptr::null(), 0)
    })
    .map(|_| ())
}

/// Receives one message and the descriptors that came with it, two at the most (unix(4)), close-on-exec.
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
        msg_controllen: super::socklen(size_of_val(&control)),
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

/// Waits until there is something to read, or the end; whether there is. A signal does not cut it short.
pub(crate) fn wait_readable(fd: c_int, milliseconds: u32) -> bool {
    let end = monotonic_ns().saturating_add(u64::from(milliseconds) * 1_000_000);
    loop {
        let left = end.saturating_sub(monotonic_ns()).div_ceil(1_000_000);
        let mut entry = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        // SAFETY: one entry, which the system reads and writes.
        match check(unsafe { libc::poll(&raw mut entry, 1, c_int::try_from(left).unwrap_or(0)) }) {
            Err(libc::EINTR) => {}
            result => return result.is_ok_and(|count| count > 0),
        }
    }
}

/// User of the process that connected (unix(4), `LOCAL_PEERCRED`).
pub(crate) fn peer_user(fd: c_int) -> Result<u32> {
    let mut credentials = core::mem::MaybeUninit::<libc::xucred>::zeroed();
    let mut length = super::socklen(size_of::<libc::xucred>());
    let pointer = credentials.as_mut_ptr().cast::<c_void>();
    get_option(fd, libc::SOL_LOCAL, libc::LOCAL_PEERCRED, pointer, &mut length)?;
    // SAFETY: integers only, for which zeroes are values as well.
    Ok(unsafe { credentials.assume_init() }.cr_uid)
}

/// Whether this process is that user's, by its real or its effective user.
pub(crate) fn is_own_user(user: u32) -> bool {
    // SAFETY: takes no arguments.
    let real = unsafe { libc::getuid() };
    // SAFETY: takes no arguments.
    let effective = unsafe { libc::geteuid() };
    user == real || user == effective
}

/// The process id.
pub(crate) fn process_id() -> u32 {
    // SAFETY: getpid(2) takes no arguments.
    u32::try_from(unsafe { libc::getpid() }).unwrap_or(0)
}

/// CLOCK_REALTIME in nanoseconds.
pub(crate) fn now_ns() -> u64 {
    clock_ns(libc::CLOCK_REALTIME)
}

/// CLOCK_MONOTONIC in nanoseconds.
pub(crate) fn monotonic_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC)
}

/// Milliseconds of a monotonic clock.
pub(crate) fn coarse_ms() -> u64 {
    monotonic_ns() / 1_000_000
}

fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: clock_gettime(3) fills the structure.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.wrapping_mul(1_000_000_000).wrapping_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// Sleeps for some microseconds; only while another process holds the run dir's lock.
pub(crate) fn pause_us(microseconds: u32) {
    let time = libc::timespec { tv_sec: 0, tv_nsec: i64::from(microseconds) * 1000 };
    // SAFETY: nanosleep(2) reads the structure.
    let _ = check(unsafe { libc::nanosleep(&raw const time, core::ptr::null_mut()) });
}

/// Maps the first page of a file for reading, shared.
pub(crate) fn map_page(fd: c_int) -> Option<*const u8> {
    // SAFETY: a fresh mapping at an address of the kernel's choice touches no memory of the program.
    let page = unsafe { libc::mmap(core::ptr::null_mut(), 4096, libc::PROT_READ, libc::MAP_SHARED, fd, 0) };
    (page != libc::MAP_FAILED).then_some(page.cast::<u8>().cast_const())
}

/// Maps memory of the process's own, zeroed.
pub(super) fn map_memory(length: usize) -> Option<usize> {
    let rights = libc::PROT_READ | libc::PROT_WRITE;
    let kind = libc::MAP_PRIVATE | libc::MAP_ANON;
    // SAFETY: a fresh mapping at an address of the kernel's choice touches no memory of the program.
    let page = unsafe { libc::mmap(core::ptr::null_mut(), length, rights, kind, -1, 0) };
    (page != libc::MAP_FAILED).then(|| page.expose_provenance())
}

/// Gives mapped memory back.
///
/// # Safety
/// The mapping is the caller's, and nothing points into it any more.
pub(super) unsafe fn unmap_memory(address: usize, length: usize) {
    // SAFETY: as the caller vouches.
    let _ = unsafe { libc::munmap(core::ptr::with_exposed_provenance_mut(address), length) };
}

/// Whether an inet socket is a TCP one. macOS has no `SO_PROTOCOL`; a stream of these families is TCP.
pub(crate) fn is_tcp(fd: c_int) -> bool {
    super::option(fd, libc::SOL_SOCKET, libc::SO_TYPE) == Ok(libc::SOCK_STREAM)
}

/// The name of the process.
pub(crate) fn program_name(buffer: &mut [u8; 32]) -> &str {
    // SAFETY: returns a NUL-terminated string or NULL (getprogname(3)).
    let name = unsafe { libc::getprogname() };
    if name.is_null() {
        return "";
    }
    // SAFETY: not NULL, so a C string that lives as long as the process.
    let name = unsafe { CStr::from_ptr(name) }.to_bytes();
    let length = name.len().min(buffer.len());
    for (to, from) in buffer.iter_mut().zip(name) {
        *to = *from;
    }
    core::str::from_utf8(buffer.get(..length).unwrap_or(&[])).unwrap_or("")
}

/// Makes a new socket file known: FSEvents reports no creation of sockets, but a change of mode.
pub(crate) fn announce(name: &crate::rawaddr::UnixName) {
    // SAFETY: the path ends in NUL.
    let _ = check(unsafe { libc::chmod(name.c_path().as_ptr(), 0o600) });
}

/// Length of a control message with its header (cmsg(3)).
pub(crate) fn control_length(header: &libc::cmsghdr) -> usize {
    usize::try_from(header.cmsg_len).unwrap_or(0)
}

/// Whether a TCP socket is neither connected nor connecting (tcp(4), `TCP_CONNECTION_INFO`).
pub(crate) fn is_closed(fd: c_int) -> bool {
    // `struct tcp_connection_info` starts with the state; 0 is TCPS_CLOSED (netinet/tcp_fsm.h).
    let mut info = [0_u64; 64];
    let mut length = super::socklen(size_of_val(&info));
    let pointer = info.as_mut_ptr().cast::<c_void>();
    get_option(fd, libc::IPPROTO_TCP, libc::TCP_CONNECTION_INFO, pointer, &mut length).is_ok()
        && info.first().is_some_and(|word| word & 0xff == 0)
}
