//! Functions of libSystem (see `syscalls`).
#![expect(unsafe_code, reason = "system calls")]

use super::super::check::check;
use core::ffi::CStr;

/// The process id.
pub(crate) fn process_id() -> u32 {
    // SAFETY: getpid(2) takes no arguments.
    u32::try_from(unsafe { libc::getpid() }).unwrap_or(0)
}

/// Whether `user` is the real or the effective user of this process.
pub(crate) fn is_own_user(user: u32) -> bool {
    // SAFETY: takes no arguments.
    let real = unsafe { libc::getuid() };
    // SAFETY: takes no arguments.
    let effective = unsafe { libc::geteuid() };
    user == real || user == effective
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

/// Sleeps for some microseconds. Only used while another process holds the run dir's lock.
pub(crate) fn pause_us(microseconds: u32) {
    let time = libc::timespec { tv_sec: 0, tv_nsec: i64::from(microseconds) * 1000 };
    // SAFETY: nanosleep(2) reads the structure.
    let _ = check(unsafe { libc::nanosleep(&raw const time, core::ptr::null_mut()) });
}

/// Maps private memory, zeroed.
pub(in crate::sys) fn map_memory(length: usize) -> Option<usize> {
    let rights = libc::PROT_READ | libc::PROT_WRITE;
    let kind = libc::MAP_PRIVATE | libc::MAP_ANON;
    // SAFETY: a fresh mapping at an address of the kernel's choice touches no memory of the program.
    let page = unsafe { libc::mmap(core::ptr::null_mut(), length, rights, kind, -1, 0) };
    (page != libc::MAP_FAILED).then(|| page.expose_provenance())
}

/// Unmaps memory.
///
/// # Safety
/// The mapping is the caller's, and nothing points into it any more.
pub(in crate::sys) unsafe fn unmap_memory(address: usize, length: usize) {
    // SAFETY: as the caller vouches.
    let _ = unsafe { libc::munmap(core::ptr::with_exposed_provenance_mut(address), length) };
}

/// A thread's blocked signals.
pub(in crate::sys) struct SignalMask(libc::sigset_t);

/// Blocks all signals of this thread (XNU keeps a mask for each). Returns what was blocked before.
pub(in crate::sys) fn block_signals() -> SignalMask {
    let (all, mut before): (libc::sigset_t, libc::sigset_t) = (!0, 0);
    // SAFETY: reads one set and fills the other.
    let _ = unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const all, &raw mut before) };
    SignalMask(before)
}

/// Restores what [`block_signals`] returned.
pub(in crate::sys) fn restore_signals(before: &SignalMask) {
    // SAFETY: reads the set.
    let _ = unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const before.0, core::ptr::null_mut()) };
}
