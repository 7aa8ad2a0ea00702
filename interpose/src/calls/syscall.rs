//! syscall(2), the function of libc. A call by its number goes to the hook of its function, as if the program had called that.
//! All other numbers go on to libc at once.
//!
//! A ring of io_uring is refused with ENOSYS, as by a kernel without it: `bind`, `listen` and `connect` by a ring would reach
//! the host, and an accepted Unix peer would be seen as one. libuv, tokio and Bun go on without. Not seen is a program that
//! has the instruction itself, as liburing does.
//!
//! close(2) is left out: who closes by its number wants nothing else to happen (libuv: no cancellation point).
#![expect(unsafe_code, reason = "carries out hooked calls")]
#![expect(clippy::multiple_unsafe_ops_per_block, reason = "one contract covers all numbers")]

use crate::config;
use crate::notify::{self, News};
use crate::real::gnu as real;
use crate::sys;
use agentfs_wire::notice::{Call, Outcome, Why};
use core::ptr::{with_exposed_provenance as at, with_exposed_provenance_mut as at_mut};
use core::sync::atomic::{AtomicBool, Ordering};
use libc::{c_int, c_long};

/// The last number of those of sockets, which follow one another on each machine.
const LAST_OF_SOCKETS: c_long =
    if libc::SYS_getsockopt > libc::SYS_recvmsg { libc::SYS_getsockopt } else { libc::SYS_recvmsg };

/// syscall(2).
///
/// # Safety
/// As the system call of this number.
pub(crate) unsafe fn syscall(
    number: c_long,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
    f: usize,
) -> c_long {
    let is_of_sockets = (libc::SYS_socket..=LAST_OF_SOCKETS).contains(&number);
    #[cfg(target_arch = "x86_64")]
    let is_dup2 = number == libc::SYS_dup2;
    #[cfg(not(target_arch = "x86_64"))]
    let is_dup2 = false;
    let is_other = matches!(
        number,
        libc::SYS_accept4
            | libc::SYS_dup
            | libc::SYS_dup3
            | libc::SYS_execve
            | libc::SYS_execveat
            | libc::SYS_sendmmsg
            | libc::SYS_recvmmsg
            | libc::SYS_io_uring_setup
    );
    // Nothing but a jump for all others: nanoseconds, and no frame of ours below a raw clone(2).
    // SAFETY: the program's own arguments.
    unsafe {
        if is_of_sockets || is_other || is_dup2 {
            hooked(number, a, b, c, d, e, f)
        } else {
            real::syscall(number, a, b, c, d, e, f)
        }
    }
}

/// A call that may be one of a hook.
///
/// # Safety
/// As [`syscall`].
#[inline(never)]
unsafe fn hooked(number: c_long, a: usize, b: usize, c: usize, d: usize, e: usize, f: usize) -> c_long {
    // SAFETY: the program's own arguments, in the order and of the kinds that the kernel takes them for this number.
    let result: c_int = unsafe {
        match number {
            libc::SYS_socket => super::socket(int(a), int(b), int(c)),
            libc::SYS_bind => super::bind(int(a), at(b), half(c)),
            libc::SYS_listen => super::listen(int(a), int(b)),
            libc::SYS_accept => super::accept(int(a), at_mut(b), at_mut(c)),
            libc::SYS_accept4 => super::accept4(int(a), at_mut(b), at_mut(c), int(d)),
            libc::SYS_connect => super::connect(int(a), at(b), half(c)),
            libc::SYS_getsockname => super::getsockname(int(a), at_mut(b), at_mut(c)),
            libc::SYS_getpeername => super::getpeername(int(a), at_mut(b), at_mut(c)),
            libc::SYS_getsockopt => super::getsockopt(int(a), int(b), int(c), at_mut(d), at_mut(e)),
            libc::SYS_setsockopt => super::setsockopt(int(a), int(b), int(c), at(d), half(e)),
            libc::SYS_shutdown => super::shutdown(int(a), int(b)),
            libc::SYS_dup => super::dup(int(a)),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_dup2 => super::dup2(int(a), int(b)),
            libc::SYS_dup3 => super::dup3(int(a), int(b), int(c)),
            libc::SYS_execve => super::execve(at(a), at(b), at(c)),
            libc::SYS_execveat => super::execveat(int(a), at(b), at(c), at(d), int(e)),
            libc::SYS_sendmmsg => super::sendmmsg(int(a), at_mut(b), half(c), int(d)),
            libc::SYS_recvmmsg => super::recvmmsg(int(a), at_mut(b), half(c), int(d), at_mut(e)),
            libc::SYS_sendto => return long(super::sendto(int(a), at(b), c, int(d), at(e), half(f))),
            libc::SYS_sendmsg => return long(super::sendmsg(int(a), at(b), int(c))),
            libc::SYS_recvfrom => {
                return long(super::recvfrom(int(a), at_mut(b), c, int(d), at_mut(e), at_mut(f)));
            }
            libc::SYS_recvmsg => return long(super::recvmsg(int(a), at_mut(b), int(c))),
            libc::SYS_io_uring_setup if refuses_ring() => sys::fail(libc::ENOSYS),
            _ => return real::syscall(number, a, b, c, d, e, f),
        }
    };
    result.into()
}

/// Whether this process gets no ring; it is told once.
#[cold]
fn refuses_ring() -> bool {
    static TOLD: AtomicBool = AtomicBool::new(false);
    let Some(config) = config::get() else { return false };
    if !TOLD.swap(true, Ordering::Relaxed) {
        let news = News::of(Call::Ring, Outcome::Refused, Why::Ring);
        notify::tell(config, News { errno: libc::ENOSYS, ..news });
    }
    true
}

/// The part of a register that a 32-bit argument is in.
fn half(word: usize) -> u32 {
    u32::try_from(word & 0xffff_ffff).unwrap_or(0)
}

fn int(word: usize) -> c_int {
    half(word).cast_signed()
}

fn long(size: isize) -> c_long {
    c_long::try_from(size).unwrap_or(-1)
}
