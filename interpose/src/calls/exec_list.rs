//! execl, execlp, execle: the call itself lists the arguments, and a NULL ends the list. libc calls execve
//! internally, where no hook sees it. So these hooks collect the list and go on like execv, execvp and execve.
//!
//! Rust cannot define a function with a C variable argument list. On x86-64 the first five listed arguments
//! are in registers and the others on the stack (System V ABI, 3.2.3). A few instructions store the registers
//! and pass both places on.
#![expect(unsafe_code, reason = "carries out hooked calls")]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "one contract covers a call and what it is wrapped in"
)]

use crate::environment::{self, Strings};
use crate::sys;
use libc::{c_char, c_int};

/// Listed arguments that are in registers.
const IN_REGISTERS: usize = 5;
/// Arguments on a small stack frame, and on a large one. More arguments fail with E2BIG.
const SMALL: usize = 64;
const LARGE: usize = 1024;

/// The listed arguments of one call.
#[derive(Clone, Copy)]
struct List {
    registers: Strings,
    stack: Strings,
}

// === impl List ===

impl List {
    /// The argument at `index`.
    ///
    /// # Safety
    /// No argument before `index` is the last one of the call.
    unsafe fn at(self, index: usize) -> *const c_char {
        match index.checked_sub(IN_REGISTERS) {
            // SAFETY: the five registers are stored in order.
            None => unsafe { *self.registers.add(index) },
            // SAFETY: the caller vouches for the argument, which is on the stack in order.
            Some(rest) => unsafe { *self.stack.add(rest) },
        }
    }

    /// Calls `call` with the arguments as an array, and with what follows their NULL.
    ///
    /// # Safety
    /// The list ends in NULL.
    unsafe fn gathered(self, call: impl FnOnce(Strings, usize) -> c_int) -> c_int {
        let mut count = 0;
        // SAFETY: the NULL was not reached yet.
        while !unsafe { self.at(count) }.is_null() {
            count += 1;
        }
        if count < SMALL {
            // SAFETY: the list has `count` arguments.
            unsafe { self.array::<SMALL>(count, call) }
        } else if count < LARGE {
            // SAFETY: as above.
            unsafe { self.array::<LARGE>(count, call) }
        } else {
            sys::fail(libc::E2BIG)
        }
    }

    /// # Safety
    /// The list has `count` arguments and a NULL.
    #[inline(never)]
    unsafe fn array<const N: usize>(self, count: usize, call: impl FnOnce(Strings, usize) -> c_int) -> c_int {
        let mut arguments = [core::ptr::null::<c_char>(); N];
        for (index, slot) in arguments.iter_mut().enumerate().take(count) {
            // SAFETY: `index` is below `count`.
            *slot = unsafe { self.at(index) };
        }
        call(arguments.as_ptr(), count)
    }
}

unsafe extern "C" fn list(program: *const c_char, registers: Strings, stack: Strings) -> c_int {
    // SAFETY: execl(3): the list ends in NULL; the strings are the program's own.
    unsafe { List { registers, stack }.gathered(|arguments, _| super::execv(program, arguments)) }
}

unsafe extern "C" fn list_by_path(program: *const c_char, registers: Strings, stack: Strings) -> c_int {
    // SAFETY: execlp(3): the list ends in NULL; the strings are the program's own.
    unsafe {
        List { registers, stack }
            .gathered(|arguments, _| super::execvpe(program, arguments, environment::own()))
    }
}

unsafe extern "C" fn list_with_environment(
    program: *const c_char,
    registers: Strings,
    stack: Strings,
) -> c_int {
    let all = List { registers, stack };
    // SAFETY: execle(3): the list ends in NULL, and the environment follows it.
    unsafe {
        all.gathered(|arguments, count| {
            super::execve(program, arguments, all.at(count + 1).cast::<*const c_char>())
        })
    }
}

/// Defines a hook that stores its register arguments and calls `$target(program, registers, stack)`.
macro_rules! listed {
    ($symbol:literal, $name:ident, $target:ident) => {
        #[cfg(not(test))]
        #[unsafe(export_name = $symbol)]
        #[unsafe(naked)]
        unsafe extern "C" fn $name() -> c_int {
            // Five pushes bring the stack from 8 to 0 modulo 16, as a call needs it. They are found in
            // order below the return address, behind which the arguments on the stack are.
            core::arch::naked_asm!(
                "push r9",
                "push r8",
                "push rcx",
                "push rdx",
                "push rsi",
                "mov rsi, rsp",
                "lea rdx, [rsp + 48]",
                "call {target}",
                "add rsp, 40",
                "ret",
                target = sym $target,
            )
        }
    };
}

listed!("execl", execl, list);
listed!("execlp", execlp, list_by_path);
listed!("execle", execle, list_with_environment);
