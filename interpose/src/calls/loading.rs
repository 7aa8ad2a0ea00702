//! dlopen(3): a library that is loaded with `RTLD_DEEPBIND` finds its functions in its own dependencies first, and so
//! in libc, not in this library. PHP loads every extension like that. The hook removes the flag.
//!
//! A program may open libc by its name and look up functions in it (Python's `ctypes.CDLL('libc.so.6')`, JNA, LuaJIT).
//! It gets this library instead: hooked functions are found in it, and all others in libc, because it depends on libc.
//!
//! The hook ends with a jump, so that libc sees the return address of the program. From it libc finds the `RUNPATH` to
//! search and the name space to load into.
#![expect(unsafe_code, reason = "goes on to libc's function by a jump")]

use crate::config;
use crate::sys;
use core::ffi::CStr;
use libc::{c_char, c_void};

/// `RTLD_DEEPBIND` of glibc's dlfcn.h. musl has no flag with this value.
const DEEPBIND: usize = 8;

/// The arguments of one call, in the order in which they are put on the stack.
#[repr(C)]
struct Arguments {
    file: *const c_char,
    flags: usize,
}

/// Corrects the arguments. Returns the address of the function to go on with.
///
/// # Safety
/// `arguments` are those of dlopen(3).
unsafe extern "C" fn onward(arguments: *mut Arguments) -> usize {
    use core::sync::atomic::{AtomicPtr, Ordering};
    static NEXT: AtomicPtr<c_void> = AtomicPtr::new(core::ptr::null_mut());
    let mut next = NEXT.load(Ordering::Relaxed);
    if next.is_null() {
        next = sys::next_symbol("dlopen\0");
        NEXT.store(next, Ordering::Relaxed);
    }
    if let Some(config) = config::get() {
        // SAFETY: the caller vouches for the arguments, which are on its stack and nobody else's.
        let arguments = unsafe { &mut *arguments };
        arguments.flags &= !DEEPBIND;
        // SAFETY: dlopen(3) is given NULL or a C string, which libc itself reads in this process.
        if !arguments.file.is_null() && is_libc(unsafe { CStr::from_ptr(arguments.file) }.to_bytes()) {
            arguments.file = config.library().as_ptr();
        }
    }
    if next.is_null() { (nowhere as extern "C" fn() -> usize) as usize } else { next.expose_provenance() }
}

/// Whether a library is glibc itself.
fn is_libc(file: &[u8]) -> bool {
    file.rsplit(|byte| *byte == b'/').next() == Some(b"libc.so.6")
}

/// Stands for a dlopen that libc does not have: it loads nothing.
extern "C" fn nowhere() -> usize {
    0
}

#[cfg(all(not(test), target_arch = "x86_64"))]
#[unsafe(export_name = "dlopen")]
#[unsafe(naked)]
unsafe extern "C" fn dlopen() {
    // Two pushes and eight bytes bring the stack from 8 to 0 modulo 16, as a call needs it.
    core::arch::naked_asm!(
        "push rsi",
        "push rdi",
        "sub rsp, 8",
        "lea rdi, [rsp + 8]",
        "call {onward}",
        "add rsp, 8",
        "pop rdi",
        "pop rsi",
        "jmp rax",
        onward = sym onward,
    )
}

#[cfg(all(not(test), target_arch = "aarch64"))]
#[unsafe(export_name = "dlopen")]
#[unsafe(naked)]
unsafe extern "C" fn dlopen() {
    core::arch::naked_asm!(
        "stp x0, x1, [sp, #-32]!",
        "str x30, [sp, #16]",
        "mov x0, sp",
        "bl {onward}",
        "mov x16, x0",
        "ldr x30, [sp, #16]",
        "ldp x0, x1, [sp], #32",
        "br x16",
        onward = sym onward,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outside_of_an_instance_the_arguments_pass() {
        let mut arguments = Arguments { file: c"libc.so.6".as_ptr(), flags: DEEPBIND | 2 };
        let before = arguments.file;
        // SAFETY: the arguments are those of a call.
        assert_ne!(unsafe { onward(&raw mut arguments) }, 0);
        assert_eq!((arguments.file, arguments.flags), (before, 10));
        assert_eq!(nowhere(), 0);
    }

    #[test]
    fn libc_is_known_by_its_name() {
        assert!(is_libc(b"libc.so.6") && is_libc(b"/lib/x86_64-linux-gnu/libc.so.6"));
        assert!(!is_libc(b"libc.so") && !is_libc(b"mylibc.so.6") && !is_libc(b"libc.so.6/x"));
    }
}
