//! Raw system calls (see `syscalls`).
#![expect(unsafe_code, reason = "system calls")]

use super::super::check::check;
use crate::sys::symbols::kernel;
use core::ffi::CStr;
use libc::{c_int, c_void};

/// Bytes that are mapped of a file.
const PAGE_BYTES: usize = 4096;

/// The process id, asked each time: a cached one is wrong after fork.
pub(crate) fn process_id() -> u32 {
    // SAFETY: getpid(2) takes no arguments.
    u32::try_from(unsafe { kernel()(libc::SYS_getpid) }).unwrap_or(0)
}

/// Whether `user` is the real or the effective user of this process.
pub(crate) fn is_own_user(user: u32) -> bool {
    [libc::SYS_getuid, libc::SYS_geteuid].into_iter().any(|call| {
        // SAFETY: both take no arguments.
        u32::try_from(unsafe { kernel()(call) }) == Ok(user)
    })
}

/// Whether an exec of this process can no longer gain rights (prctl(2), `PR_SET_NO_NEW_PRIVS`).
pub(crate) fn no_new_rights() -> bool {
    // SAFETY: this prctl(2) takes integers alone.
    check(unsafe { kernel()(libc::SYS_prctl, libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) }) == Ok(1)
}

/// The name of the calling thread (`comm`, prctl(2) `PR_GET_NAME`).
pub(crate) fn program_name(buffer: &mut [u8; 32]) -> &str {
    // SAFETY: the kernel writes at most 16 bytes, NUL included.
    let result = check(unsafe { kernel()(libc::SYS_prctl, libc::PR_GET_NAME, buffer.as_mut_ptr()) });
    if result.is_err() {
        return "";
    }
    CStr::from_bytes_until_nul(buffer).ok().and_then(|name| name.to_str().ok()).unwrap_or("")
}

/// CLOCK_REALTIME in nanoseconds.
pub(crate) fn now_ns() -> u64 {
    clock_ns(libc::CLOCK_REALTIME)
}

/// CLOCK_MONOTONIC in nanoseconds.
pub(crate) fn monotonic_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC)
}

/// Milliseconds of a monotonic clock that is very cheap and up to 10 ms late (clock_gettime(2)).
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

/// Sleeps for some microseconds. Only used while another process holds the run dir's lock.
pub(crate) fn pause_us(microseconds: u32) {
    let time = libc::timespec { tv_sec: 0, tv_nsec: i64::from(microseconds) * 1000 };
    // SAFETY: nanosleep(2) reads the structure.
    let _ = check(unsafe {
        kernel()(libc::SYS_nanosleep, &raw const time, core::ptr::null_mut::<libc::timespec>())
    });
}

/// Maps the first page of a file for reading, shared. Returns its address.
pub(crate) fn map_page(fd: c_int) -> Option<usize> {
    // SAFETY: a fresh mapping at an address of the kernel's choice touches no memory of the program.
    let page = unsafe {
        kernel()(
            libc::SYS_mmap,
            core::ptr::null_mut::<c_void>(),
            PAGE_BYTES,
            libc::PROT_READ,
            libc::MAP_SHARED,
            fd,
            0_usize,
        )
    };
    usize::try_from(page).ok()
}

/// Unmaps what [`map_page`] mapped; 0 stands for nothing.
pub(crate) fn unmap_page(address: usize) {
    if address != 0 {
        // SAFETY: nothing points into the mapping; [`word_is`] has the kernel check the address.
        unsafe { unmap_memory(address, PAGE_BYTES) };
    }
}

/// Whether the word at an address has this value. EFAULT if there is no memory: the kernel looks (futex(2)), and raises
/// no signal.
pub(crate) fn word_is(address: usize, value: u32) -> crate::sys::errno::Result<bool> {
    const OPERATION: c_int = libc::FUTEX_CMP_REQUEUE | libc::FUTEX_PRIVATE_FLAG;
    // If the word has the value, nobody is woken, and nobody is moved to the other word.
    let (wake, requeue, other) = (0, 0_usize, address.wrapping_add(size_of::<u32>()));
    // SAFETY: the kernel checks both addresses, and only reads.
    match check(unsafe { kernel()(libc::SYS_futex, address, OPERATION, wake, requeue, other, value) }) {
        Ok(_) => Ok(true),
        Err(libc::EAGAIN) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Maps private memory, zeroed.
pub(in crate::sys) fn map_memory(length: usize) -> Option<usize> {
    let (nowhere, nothing) = (core::ptr::null_mut::<c_void>(), -1);
    let rights = libc::PROT_READ | libc::PROT_WRITE;
    let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a fresh mapping at an address of the kernel's choice touches no memory of the program.
    let address = unsafe { kernel()(libc::SYS_mmap, nowhere, length, rights, kind, nothing, 0_usize) };
    usize::try_from(address).ok()
}

/// Unmaps memory.
///
/// # Safety
/// The mapping is the caller's, and nothing points into it any more.
pub(in crate::sys) unsafe fn unmap_memory(address: usize, length: usize) {
    // SAFETY: as the caller vouches.
    let _ = check(unsafe { kernel()(libc::SYS_munmap, address, length) });
}

/// A thread's blocked signals, as the kernel has them. libc's functions leave out two signals of its own, with one of
/// which it cancels threads.
pub(in crate::sys) struct SignalMask(u64);

/// Blocks all signals of this thread. Returns what was blocked before.
pub(in crate::sys) fn block_signals() -> SignalMask {
    let mut before = SignalMask(0);
    // If a filter of the program (seccomp(2)) refuses, nothing was blocked, and nothing is restored.
    if mask_signals(libc::SIG_SETMASK, Some(u64::MAX), Some(&mut before.0)).is_err() {
        return SignalMask(u64::MAX);
    }
    before
}

/// Restores what [`block_signals`] returned.
pub(in crate::sys) fn restore_signals(before: &SignalMask) {
    if before.0 != u64::MAX {
        let _ = mask_signals(libc::SIG_SETMASK, Some(before.0), None);
    }
}

/// rt_sigprocmask(2).
fn mask_signals(how: c_int, new: Option<u64>, old: Option<&mut u64>) -> crate::sys::errno::Result<()> {
    let new = new.as_ref().map_or(core::ptr::null(), core::ptr::from_ref);
    let old = old.map_or(core::ptr::null_mut(), core::ptr::from_mut);
    // SAFETY: the kernel reads and writes eight bytes each, where the pointer is not NULL.
    check(unsafe { kernel()(libc::SYS_rt_sigprocmask, how, new, old, size_of::<u64>()) }).map(|_| ())
}
