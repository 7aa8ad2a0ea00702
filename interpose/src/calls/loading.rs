//! dlopen(3): a library that is loaded with `RTLD_DEEPBIND` looks for its functions in what it depends on, libc among
//! them, before it looks at what was loaded first, and so never meets a hook. PHP loads every extension like that. The
//! flag is taken out.
//!
//! The call goes on by a jump, so that libc sees the caller's return address: by that it finds the `RUNPATH` to search
//! and the name space to load into.
#![cfg_attr(not(test), expect(unsafe_code, reason = "goes on to libc's function by a jump"))]

use crate::config;
use crate::sys;
use libc::{c_int, c_void};

/// `RTLD_DEEPBIND` of glibc's dlfcn.h. musl has no such flag, and none of this value.
const DEEPBIND: c_int = 8;

/// Where the call goes on, and with which flags; returned in two registers.
#[repr(C)]
struct Onward {
    next: usize,
    flags: usize,
}

extern "C" fn onward(flags: c_int) -> Onward {
    use core::sync::atomic::{AtomicPtr, Ordering};
    static NEXT: AtomicPtr<c_void> = AtomicPtr::new(core::ptr::null_mut());
    let mut next = NEXT.load(Ordering::Relaxed);
    if next.is_null() {
        next = sys::next_symbol("dlopen\0");
        NEXT.store(next, Ordering::Relaxed);
    }
    let next = if next.is_null() {
        (nowhere as extern "C" fn() -> usize) as usize
    } else {
        next.expose_provenance()
    };
    let flags = if config::get().is_some() { flags & !DEEPBIND } else { flags };
    Onward { next, flags: usize::try_from(flags.cast_unsigned()).unwrap_or(0) }
}

/// A program without dlopen does not call it; should it, nothing can be loaded.
extern "C" fn nowhere() -> usize {
    0
}

#[cfg(all(not(test), target_arch = "x86_64"))]
#[unsafe(export_name = "dlopen")]
#[unsafe(naked)]
unsafe extern "C" fn dlopen() {
    // Two pushes and eight bytes bring the stack from 8 to 0 modulo 16, as a call needs it.
    core::arch::naked_asm!(
        "push rdi",
        "push rsi",
        "sub rsp, 8",
        "mov edi, esi",
        "call {onward}",
        "add rsp, 8",
        "pop rsi",
        "pop rdi",
        "mov esi, edx",
        "jmp rax",
        onward = sym onward,
    )
}

#[cfg(all(not(test), target_arch = "aarch64"))]
#[unsafe(export_name = "dlopen")]
#[unsafe(naked)]
unsafe extern "C" fn dlopen() {
    core::arch::naked_asm!(
        "stp x0, x30, [sp, #-16]!",
        "mov w0, w1",
        "bl {onward}",
        "mov x16, x0",
        "ldp x0, x30, [sp], #16",
        "br x16",
        onward = sym onward,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_pass_outside_of_an_instance() {
        let onward = onward(DEEPBIND | libc::RTLD_NOW);
        assert_ne!(onward.next, 0);
        assert_eq!(onward.flags, 10);
        assert_eq!(nowhere(), 0);
    }
}
