//! Linux: raw system calls through syscall(2), so that neither our hooks nor another preloaded library
//! sees them.
#![expect(unsafe_code, reason = "system calls")]

use super::{Fd, RawName, Result};
use core::ffi::CStr;
use libc::{c_int, c_long, c_void, socklen_t};

fn check(result: c_long) -> Result<c_int> {
    if result < 0 { Err(super::errno()) } else { Ok(c_int::try_from(result).unwrap_or(c_int::MAX)) }
}

/// Where the thread's errno is.
pub(super) fn errno_location() -> *mut c_int {
    // SAFETY: takes no arguments (errno(3)).
    unsafe { libc::__errno_location() }
}

/// Makes a descriptor of ours. A program that has used up its limit still binds and connects what it has.
fn with_room(make: impl Fn() -> Result<c_int>) -> Result<Fd> {
    /// Descriptors of ours that a call needs at the same time, and as many for other threads.
    const ROOM: u64 = 16;
    match make() {
        Err(libc::EMFILE) => above_limit(|usual| usual.saturating_add(ROOM), make),
        result => result,
    }
    .map(Fd::owned)
}

/// Makes a call while the limit of descriptors is `wanted`, as far as the hard limit lets us (getrlimit(2)); a
/// descriptor beyond the limit stays valid after it is lowered again.
fn above_limit<T>(wanted: impl Fn(u64) -> u64, call: impl Fn() -> Result<T>) -> Result<T> {
    use core::sync::atomic::{AtomicBool, Ordering};
    /// Whether a thread has raised the limit. What it leaves behind in a forked child only keeps that child from
    /// raising it.
    static RAISED: AtomicBool = AtomicBool::new(false);
    /// Times that other threads of the program may set the limit while it is lowered again.
    const TRIES: u32 = 8;
    let Some(usual) = descriptor_limit(None) else { return call() };
    let more = wanted(usual.rlim_cur).min(usual.rlim_max);
    if usual.rlim_cur >= more || RAISED.swap(true, Ordering::Acquire) {
        return call();
    }
    // What the program sets in another thread meanwhile is what holds: each call says what it replaced.
    let mut ours = libc::rlimit64 { rlim_cur: more, ..usual };
    let mut theirs = descriptor_limit(Some(ours)).unwrap_or(usual);
    let result = call();
    for _ in 0..TRIES {
        let Some(found) = descriptor_limit(Some(theirs)) else { break };
        if (found.rlim_cur, found.rlim_max) == (ours.rlim_cur, ours.rlim_max) {
            break;
        }
        (ours, theirs) = (theirs, found);
    }
    RAISED.store(false, Ordering::Release);
    result
}

/// The limit of descriptors, and maybe a new one (prlimit(2)).
fn descriptor_limit(new: Option<libc::rlimit64>) -> Option<libc::rlimit64> {
    let mut old = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    let new = new.as_ref().map_or(core::ptr::null(), core::ptr::from_ref);
    // SAFETY: the kernel reads `new`, which is NULL or a limit, and writes `old`.
    check(unsafe { libc::syscall(libc::SYS_prlimit64, 0, libc::RLIMIT_NOFILE, new, &raw mut old) })
        .ok()
        .map(|_| old)
}

/// A Unix socket of `kind` (`SOCK_STREAM`, `SOCK_DGRAM`), close-on-exec.
pub(crate) fn unix_socket(kind: c_int) -> Result<Fd> {
    let kind = kind | libc::SOCK_CLOEXEC;
    // SAFETY: socket(2) takes three integers.
    with_room(|| check(unsafe { libc::syscall(libc::SYS_socket, libc::AF_UNIX, kind, 0) }))
}

/// A TCP socket, close-on-exec.
pub(crate) fn tcp_socket(v6: bool) -> Result<Fd> {
    let domain = if v6 { libc::AF_INET6 } else { libc::AF_INET };
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
    // SAFETY: socket(2) takes three integers.
    with_room(|| check(unsafe { libc::syscall(libc::SYS_socket, domain, kind, libc::IPPROTO_TCP) }))
}

/// A UDP socket, close-on-exec.
pub(crate) fn udp_socket(v6: bool) -> Result<Fd> {
    let domain = if v6 { libc::AF_INET6 } else { libc::AF_INET };
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
    // SAFETY: socket(2) takes three integers.
    with_room(|| check(unsafe { libc::syscall(libc::SYS_socket, domain, kind, libc::IPPROTO_UDP) }))
}

/// close(2).
pub(super) fn close(fd: c_int) {
    // SAFETY: close(2) takes an integer; only an owner calls this.
    let _ = check(unsafe { libc::syscall(libc::SYS_close, fd) });
}

/// bind(2) to a socket name.
pub(crate) fn bind(fd: c_int, name: &[u8]) -> Result<()> {
    // SAFETY: address and length describe `name`, which the kernel reads.
    check(unsafe { libc::syscall(libc::SYS_bind, fd, name.as_ptr(), name.len()) }).map(|_| ())
}

/// connect(2) to a socket name.
pub(crate) fn connect(fd: c_int, name: &[u8]) -> Result<()> {
    // SAFETY: address and length describe `name`, which the kernel reads.
    check(unsafe { libc::syscall(libc::SYS_connect, fd, name.as_ptr(), name.len()) }).map(|_| ())
}

/// connect(2) of a stream.
pub(crate) fn connect_stream(
    _config: &crate::config::Config,
    fd: c_int,
    name: &crate::rawaddr::UnixName,
) -> Result<()> {
    connect(fd, name.bytes())
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
    check(unsafe { libc::syscall(call, fd, name.pointer(), &raw mut length) })?;
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
    check(unsafe { libc::syscall(libc::SYS_getsockopt, fd, level, name, value, core::ptr::from_mut(length)) })
        .map(|_| ())
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
    check(unsafe { libc::syscall(libc::SYS_setsockopt, fd, level, name, value, length) }).map(|_| ())
}

/// fcntl(2) with an integer argument.
pub(crate) fn control(fd: c_int, command: c_int, argument: usize) -> Result<c_int> {
    // SAFETY: the commands used here take an integer, or a pointer that the caller made.
    check(unsafe { libc::syscall(libc::SYS_fcntl, fd, command, argument) })
}

/// dup3(2): `from` takes the number `to`. The kernel refuses a number beyond the limit, which the program may have
/// lowered after it got the number.
pub(crate) fn replace(from: c_int, to: c_int, close_on_exec: bool) -> Result<()> {
    let flags = if close_on_exec { libc::O_CLOEXEC } else { 0 };
    // SAFETY: dup3(2) takes three integers.
    let put = || check(unsafe { libc::syscall(libc::SYS_dup3, from, to, flags) }).map(|_| ());
    match put() {
        Err(libc::EBADF) => above_limit(|_| u64::try_from(to).unwrap_or(0).saturating_add(1), put),
        result => result,
    }
}

/// access(2) with `F_OK`.
pub(crate) fn access(path: &CStr) -> Result<()> {
    // SAFETY: `path` ends in NUL.
    check(unsafe { libc::syscall(libc::SYS_faccessat, libc::AT_FDCWD, path.as_ptr(), libc::F_OK) })
        .map(|_| ())
}

/// unlink(2).
pub(crate) fn unlink(path: &CStr) -> Result<()> {
    // SAFETY: `path` ends in NUL.
    check(unsafe { libc::syscall(libc::SYS_unlinkat, libc::AT_FDCWD, path.as_ptr(), 0) }).map(|_| ())
}

/// open(2), close-on-exec.
pub(crate) fn open(path: &CStr, flags: c_int, mode: c_int) -> Result<Fd> {
    let (here, flags) = (libc::AT_FDCWD, flags | libc::O_CLOEXEC);
    // SAFETY: `path` ends in NUL.
    with_room(|| check(unsafe { libc::syscall(libc::SYS_openat, here, path.as_ptr(), flags, mode) }))
}

/// Makes a folder.
pub(crate) fn make_folder(path: &CStr, mode: libc::mode_t) -> Result<()> {
    // SAFETY: `path` ends in NUL.
    check(unsafe { libc::syscall(libc::SYS_mkdirat, libc::AT_FDCWD, path.as_ptr(), mode) }).map(|_| ())
}

/// chmod(2). Only the owner may.
pub(crate) fn change_mode(path: &CStr, mode: libc::mode_t) -> Result<()> {
    // SAFETY: `path` ends in NUL.
    check(unsafe { libc::syscall(libc::SYS_fchmodat, libc::AT_FDCWD, path.as_ptr(), mode) }).map(|_| ())
}

/// read(2).
pub(crate) fn read(fd: c_int, buffer: &mut [u8]) -> Result<usize> {
    // SAFETY: the kernel writes at most the buffer's length.
    let count = check(unsafe { libc::syscall(libc::SYS_read, fd, buffer.as_mut_ptr(), buffer.len()) })?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// pread(2).
pub(crate) fn read_at(fd: c_int, offset: u64, buffer: &mut [u8]) -> Result<usize> {
    let (start, length) = (buffer.as_mut_ptr(), buffer.len());
    // SAFETY: the kernel writes at most the buffer's length.
    let count = check(unsafe { libc::syscall(libc::SYS_pread64, fd, start, length, offset) })?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// Whether executing a file changes the user or the group, or gains capabilities (execve(2)): then the loader
/// ignores libraries that are named by a path (ld.so(8), secure-execution mode).
pub(crate) fn gains_rights(fd: c_int) -> bool {
    let mut status = core::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: fstat(2) fills the structure.
    if check(unsafe { libc::syscall(libc::SYS_fstat, fd, status.as_mut_ptr()) }).is_err() {
        return false;
    }
    // SAFETY: fstat(2) succeeded, so the structure is filled in.
    let status = unsafe { status.assume_init() };
    // SAFETY: geteuid(2) takes no arguments.
    let user = u32::try_from(unsafe { libc::syscall(libc::SYS_geteuid) }).unwrap_or(0);
    // SAFETY: getegid(2) takes no arguments.
    let group = u32::try_from(unsafe { libc::syscall(libc::SYS_getegid) }).unwrap_or(0);
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
    // SAFETY: the name ends in NUL; without room only the size is told.
    check(unsafe {
        libc::syscall(libc::SYS_fgetxattr, fd, c"security.capability".as_ptr(), nowhere, 0_usize)
    })
    .is_ok_and(|size| size > 0)
}

/// Whether no exec of this process gains rights any more (prctl(2), `PR_SET_NO_NEW_PRIVS`).
pub(crate) fn no_new_rights() -> bool {
    // SAFETY: this prctl(2) takes integers alone.
    check(unsafe { libc::syscall(libc::SYS_prctl, libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) }) == Ok(1)
}

/// getdents64(2).
pub(crate) fn directory_entries(fd: c_int, buffer: &mut [u8]) -> Result<usize> {
    // SAFETY: the kernel writes at most the buffer's length.
    let count = check(unsafe { libc::syscall(libc::SYS_getdents64, fd, buffer.as_mut_ptr(), buffer.len()) })?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// flock(2).
pub(crate) fn lock(fd: c_int, operation: c_int) -> Result<()> {
    // SAFETY: flock(2) takes two integers.
    check(unsafe { libc::syscall(libc::SYS_flock, fd, operation) }).map(|_| ())
}

/// The inode number of an open file: it identifies a socket for as long as it lives.
pub(crate) fn inode(fd: c_int) -> Option<u64> {
    let mut status = core::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: fstat(2) fills the structure.
    check(unsafe { libc::syscall(libc::SYS_fstat, fd, status.as_mut_ptr()) }).ok()?;
    // SAFETY: fstat(2) succeeded, so the structure is filled in.
    Some(unsafe { status.assume_init() }.st_ino)
}

/// Sends a datagram to a socket name without waiting and without SIGPIPE.
pub(crate) fn send_to(fd: c_int, data: &[u8], name: &[u8]) -> Result<()> {
    // SAFETY: pointers and lengths describe `data` and `name`, which the kernel reads.
    check(unsafe {
        libc::syscall(
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

/// The process id, asked each time: a cached one is wrong after fork.
pub(crate) fn process_id() -> u32 {
    // SAFETY: getpid(2) takes no arguments.
    u32::try_from(unsafe { libc::syscall(libc::SYS_getpid) }).unwrap_or(0)
}

/// CLOCK_REALTIME in nanoseconds.
pub(crate) fn now_ns() -> u64 {
    clock_ns(libc::CLOCK_REALTIME)
}

/// CLOCK_MONOTONIC in nanoseconds.
pub(crate) fn monotonic_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC)
}

/// Milliseconds of a monotonic clock that costs next to nothing and is up to 10 ms late (clock_gettime(2)).
pub(crate) fn coarse_ms() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC_COARSE) / 1_000_000
}

fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: clock_gettime(2) fills the structure; through the vDSO it is no system call.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.wrapping_mul(1_000_000_000).wrapping_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// Sleeps for some microseconds; only while another process holds the run dir's lock.
pub(crate) fn pause_us(microseconds: u32) {
    let time = libc::timespec { tv_sec: 0, tv_nsec: i64::from(microseconds) * 1000 };
    // SAFETY: nanosleep(2) reads the structure.
    let _ = check(unsafe {
        libc::syscall(libc::SYS_nanosleep, &raw const time, core::ptr::null_mut::<libc::timespec>())
    });
}

/// Maps the first page of a file for reading, shared.
pub(crate) fn map_page(fd: c_int) -> Option<*const u8> {
    // SAFETY: a fresh mapping at an address of the kernel's choice touches no memory of the program.
    let page = unsafe {
        libc::syscall(
            libc::SYS_mmap,
            core::ptr::null_mut::<c_void>(),
            4096_usize,
            libc::PROT_READ,
            libc::MAP_SHARED,
            fd,
            0_usize,
        )
    };
    let address = usize::try_from(page).ok()?;
    Some(core::ptr::with_exposed_provenance(address))
}

/// Maps memory of the process's own, zeroed.
pub(super) fn map_memory(length: usize) -> Option<usize> {
    let (nowhere, nothing) = (core::ptr::null_mut::<c_void>(), -1);
    let rights = libc::PROT_READ | libc::PROT_WRITE;
    let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a fresh mapping at an address of the kernel's choice touches no memory of the program.
    let address = unsafe { libc::syscall(libc::SYS_mmap, nowhere, length, rights, kind, nothing, 0_usize) };
    usize::try_from(address).ok()
}

/// Gives mapped memory back.
///
/// # Safety
/// The mapping is the caller's, and nothing points into it any more.
pub(super) unsafe fn unmap_memory(address: usize, length: usize) {
    // SAFETY: as the caller vouches.
    let _ = check(unsafe { libc::syscall(libc::SYS_munmap, address, length) });
}

/// Size of an open file in bytes.
pub(crate) fn size(fd: c_int) -> Option<i64> {
    let mut status = core::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: fstat(2) fills the structure.
    check(unsafe { libc::syscall(libc::SYS_fstat, fd, status.as_mut_ptr()) }).ok()?;
    // SAFETY: fstat(2) succeeded, so the structure is filled in.
    Some(unsafe { status.assume_init() }.st_size)
}

/// epoll_ctl(2); for `EPOLL_CTL_DEL` the event is ignored.
pub(crate) fn epoll_control(
    epoll: c_int,
    operation: c_int,
    fd: c_int,
    mut event: libc::epoll_event,
) -> Result<()> {
    // SAFETY: the kernel reads the event.
    check(unsafe { libc::syscall(libc::SYS_epoll_ctl, epoll, operation, fd, &raw mut event) }).map(|_| ())
}

/// Whether a socket is a TCP one. (MPTCP is TCP to a program.)
pub(crate) fn is_tcp(fd: c_int) -> bool {
    matches!(
        super::option(fd, libc::SOL_SOCKET, libc::SO_PROTOCOL),
        Ok(libc::IPPROTO_TCP | libc::IPPROTO_MPTCP)
    )
}

/// The name of the calling thread (`comm`, prctl(2) `PR_GET_NAME`).
pub(crate) fn program_name(buffer: &mut [u8; 32]) -> &str {
    // SAFETY: the kernel writes at most 16 bytes, NUL included.
    let result = check(unsafe { libc::syscall(libc::SYS_prctl, libc::PR_GET_NAME, buffer.as_mut_ptr()) });
    if result.is_err() {
        return "";
    }
    CStr::from_bytes_until_nul(buffer).ok().and_then(|name| name.to_str().ok()).unwrap_or("")
}

/// Makes a new socket file known beyond what bind(2) does: nothing, inotify reports the creation.
pub(crate) fn announce(_name: &crate::rawaddr::UnixName) {}

/// What poll(2) says of a descriptor at this moment.
pub(crate) fn events_now(fd: c_int, events: libc::c_short) -> Result<libc::c_short> {
    let mut entry = libc::pollfd { fd, events, revents: 0 };
    let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let no_mask = core::ptr::null::<c_void>();
    // SAFETY: one entry, which the kernel reads and writes, and the time; no signal mask.
    check(unsafe {
        libc::syscall(libc::SYS_ppoll, &raw mut entry, 1_usize, &raw const at_once, no_mask, 8_usize)
    })
    .map(|_| entry.revents)
}

/// Length of a control message with its header (cmsg(3)).
pub(crate) fn control_length(header: &libc::cmsghdr) -> usize {
    header.cmsg_len
}

/// The user who called listen(2) at the other end of a Unix socket (unix(7), `SO_PEERCRED`).
pub(crate) fn peer_user(fd: c_int) -> Result<u32> {
    let mut credentials = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut length = super::socklen(size_of::<libc::ucred>());
    let value = (&raw mut credentials).cast::<c_void>();
    get_option(fd, libc::SOL_SOCKET, libc::SO_PEERCRED, value, &mut length)?;
    Ok(credentials.uid)
}

/// Sends one message on a connected socket, without SIGPIPE.
pub(crate) fn send(fd: c_int, data: &[u8]) -> Result<()> {
    // SAFETY: pointer and length describe `data`; there is no address.
    check(unsafe {
        libc::syscall(
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

/// Sends on a connected socket what there is room for at once, without SIGPIPE.
pub(crate) fn send_now(fd: c_int, data: &[u8]) -> Result<()> {
    // SAFETY: pointer and length describe `data`; there is no address.
    check(unsafe {
        libc::syscall(
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

/// Receives one message and the descriptors that came with it, two at the most (unix(7)), close-on-exec.
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
    let count = check(unsafe {
        libc::syscall(libc::SYS_recvmsg, fd, &raw mut message, flags | libc::MSG_CMSG_CLOEXEC)
    })?;
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

/// Waits until there is something to read, or the end; whether there is. A signal does not cut it short.
pub(crate) fn wait_readable(fd: c_int, milliseconds: u32) -> bool {
    let mut entry = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // The system call leaves in it what is left of the time (ppoll(2)).
    let mut left = libc::timespec {
        tv_sec: i64::from(milliseconds / 1000),
        tv_nsec: i64::from(milliseconds % 1000) * 1_000_000,
    };
    loop {
        let no_mask = core::ptr::null::<c_void>();
        // SAFETY: one entry and the time, which the kernel reads and writes; no signal mask.
        let ready = check(unsafe {
            libc::syscall(libc::SYS_ppoll, &raw mut entry, 1_usize, &raw mut left, no_mask, 8_usize)
        });
        match ready {
            Err(libc::EINTR) => {}
            result => return result.is_ok_and(|count| count > 0),
        }
    }
}

/// Whether this process is that user's, by its real or its effective user.
pub(crate) fn is_own_user(user: u32) -> bool {
    [libc::SYS_getuid, libc::SYS_geteuid].into_iter().any(|call| {
        // SAFETY: both take no arguments.
        u32::try_from(unsafe { libc::syscall(call) }) == Ok(user)
    })
}

/// Whether a TCP socket is in state `TCP_CLOSE`: neither connected nor connecting nor listening (tcp(7),
/// `TCP_INFO`).
pub(crate) fn is_closed(fd: c_int) -> bool {
    // `struct tcp_info` starts with the state; 7 is TCP_CLOSE (linux/tcp_states.h).
    matches!(super::option(fd, libc::IPPROTO_TCP, libc::TCP_INFO), Ok(word) if word & 0xff == 7)
}

/// Whether an epoll instance watches the file that is open as `fd` under that number (kcmp(2),
/// `KCMP_EPOLL_TFD`). EBADF or EINVAL: there is no such instance. EPERM, ENOSYS: it cannot be asked.
///
/// The question must have no effect. Adding the socket to see whether it is there already has one: a socket
/// that is not connected is hung up, and a thread that waits on the instance is told so at once.
pub(crate) fn epoll_watches(epoll: c_int, fd: c_int) -> Result<bool> {
    const KCMP_EPOLL_TFD: c_int = 7;
    // struct kcmp_epoll_slot (linux/kcmp.h): instance, number, which one of several with that number.
    let slot = [epoll.cast_unsigned(), fd.cast_unsigned(), 0];
    let own = process_id();
    // SAFETY: the kernel reads the slot.
    match check(unsafe { libc::syscall(libc::SYS_kcmp, own, own, KCMP_EPOLL_TFD, fd, slot.as_ptr()) }) {
        Ok(order) => Ok(order == 0),
        Err(libc::ENOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}
