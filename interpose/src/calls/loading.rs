//! dlopen(3): a library that is loaded with `RTLD_DEEPBIND` finds its functions in its own dependencies first, and so
//! in libc, not in this library. PHP loads every extension like that. The hook removes the flag.
//!
//! A program may open libc by its name and look up functions in it (Python's `ctypes.CDLL('libc.so.6')`, JNA, LuaJIT).
//! It gets this library instead: hooked functions are found in it, and all others in libc, because it depends on libc.
//!
//! dlvsym(3) does not find a function of a library that has no versions, as this one, and goes on to libc's. A hooked
//! function is looked up without the version instead, as by dlsym(3).
//!
//! The hooks end with a jump, so that libc sees the return address of the program. From it libc finds the `RUNPATH` to
//! search, the name space to load into, and what is next for `RTLD_NEXT`.
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

/// Makes a list of the symbols.
macro_rules! symbols {
    ($( $symbol:literal fn $name:ident ( $($argument:ident : $type:ty),* $(,)? ) -> $result:ty, $failure:expr; )*) => {
        &[ $($symbol),* ]
    };
}

/// The hooked functions of both systems, and those of glibc.
const HOOKED: [&[&str]; 2] = [functions!(symbols), gnu_functions!(symbols)];

/// The arguments of one dlvsym(3), in the order in which they are put on the stack.
#[repr(C)]
struct Lookup {
    handle: *mut c_void,
    name: *const c_char,
    version: *const c_char,
}

/// Returns the address of the function to go on with: dlsym(3), which has the same first arguments, or dlvsym(3).
///
/// # Safety
/// `lookup` are the arguments of dlvsym(3).
unsafe extern "C" fn onward_versioned(lookup: *const Lookup) -> usize {
    // SAFETY: the caller vouches for the arguments, which are on its stack and nobody else's.
    let name = unsafe { (*lookup).name };
    // SAFETY: dlvsym(3) is given a C string, which libc itself reads in this process.
    let ours = config::get().is_some() && !name.is_null() && is_hooked(unsafe { CStr::from_ptr(name) });
    let next = sys::next_symbol(if ours { "dlsym\0" } else { "dlvsym\0" });
    if next.is_null() { (nowhere as extern "C" fn() -> usize) as usize } else { next.expose_provenance() }
}

fn is_hooked(name: &CStr) -> bool {
    HOOKED.into_iter().flatten().any(|hooked| hooked.as_bytes() == name.to_bytes())
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

#[cfg(all(not(test), target_arch = "x86_64"))]
#[unsafe(export_name = "dlvsym")]
#[unsafe(naked)]
unsafe extern "C" fn dlvsym() {
    // Three pushes bring the stack from 8 to 0 modulo 16, as a call needs it.
    core::arch::naked_asm!(
        "push rdx",
        "push rsi",
        "push rdi",
        "mov rdi, rsp",
        "call {onward}",
        "pop rdi",
        "pop rsi",
        "pop rdx",
        "jmp rax",
        onward = sym onward_versioned,
    )
}

#[cfg(all(not(test), target_arch = "aarch64"))]
#[unsafe(export_name = "dlvsym")]
#[unsafe(naked)]
unsafe extern "C" fn dlvsym() {
    core::arch::naked_asm!(
        "stp x0, x1, [sp, #-32]!",
        "stp x2, x30, [sp, #16]",
        "mov x0, sp",
        "bl {onward}",
        "mov x16, x0",
        "ldp x2, x30, [sp, #16]",
        "ldp x0, x1, [sp], #32",
        "br x16",
        onward = sym onward_versioned,
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
    fn outside_of_an_instance_a_version_is_looked_up() {
        let lookup = Lookup {
            handle: core::ptr::null_mut(),
            name: c"bind".as_ptr(),
            version: c"GLIBC_2.2.5".as_ptr(),
        };
        assert!(lookup.handle.is_null() && !lookup.version.is_null());
        // SAFETY: the arguments are those of a call.
        let onward = unsafe { onward_versioned(&raw const lookup) };
        assert_eq!(onward, sys::next_symbol("dlvsym\0").expose_provenance());
        assert!(is_hooked(c"bind") && is_hooked(c"accept4") && !is_hooked(c"bin") && !is_hooked(c"getpid"));
    }

    #[test]
    fn libc_is_known_by_its_name() {
        assert!(is_libc(b"libc.so.6") && is_libc(b"/lib/x86_64-linux-gnu/libc.so.6"));
        assert!(!is_libc(b"libc.so") && !is_libc(b"mylibc.so.6") && !is_libc(b"libc.so.6/x"));
    }
}
