//! The hooks that only macOS has.
//!
//! Rust cannot define a function with a C variable argument list, and arm64 macOS passes such arguments on
//! the stack even while registers are free (Apple's AArch64 ABI, "Variadic functions"). A few instructions
//! move them to where a function with fixed arguments expects them.
use super::{Strings, c_char, c_int, c_void, msghdr, size_t, sockaddr, socklen_t, ssize_t};
#[cfg(not(test))]
use crate::real::macos::originals;
use libc::{iovec, sa_endpoints_t, sae_associd_t, sae_connid_t};

mac_functions!(hook);

#[cfg(not(test))]
mod variadic {
    use super::{c_char, c_int};
    use crate::calls;
    use core::arch::naked_asm;

    /// Calls `$target(first, second, third)`, the third argument being a variadic one.
    macro_rules! third_argument {
        ($name:ident, $target:path) => {
            #[unsafe(naked)]
            unsafe extern "C" fn $name() -> c_int {
                #[cfg(target_arch = "aarch64")]
                naked_asm!("ldr x2, [sp]", "b {target}", target = sym $target);
                #[cfg(target_arch = "x86_64")]
                naked_asm!("jmp {target}", target = sym $target);
            }
        };
    }

    /// Calls `$target(program, arguments)`, where `arguments` is the array of all listed arguments.
    /// - arm64: the first is in a register, the others are an array on the stack. The first is stored in the word
    ///   before them.
    /// - x86-64: five are in registers. They are pushed where the return address was, next to the others.
    macro_rules! listed {
        ($name:ident, $target:path) => {
            #[unsafe(naked)]
            unsafe extern "C" fn $name() -> c_int {
                #[cfg(target_arch = "aarch64")]
                naked_asm!(
                    "stp x29, x30, [sp, #-32]!",
                    "mov x29, sp",
                    "str x1, [sp, #24]",
                    "add x1, sp, #24",
                    "bl {target}",
                    "ldp x29, x30, [sp], #32",
                    "ret",
                    target = sym $target,
                );
                #[cfg(target_arch = "x86_64")]
                naked_asm!(
                    "pop rax",
                    "push r9",
                    "push r8",
                    "push rcx",
                    "push rdx",
                    "push rsi",
                    "mov rsi, rsp",
                    "push rax",
                    "call {target}",
                    "pop rcx",
                    "add rsp, 40",
                    "jmp rcx",
                    target = sym $target,
                );
            }
        };
    }

    third_argument!(fcntl, calls::fcntl);
    third_argument!(fcntl_nocancel, calls::fcntl_nocancel);
    listed!(execl, calls::execl);
    listed!(execlp, calls::execlp);
    listed!(execle, calls::execle);

    type Control = unsafe extern "C" fn(c_int, c_int, ...) -> c_int;
    type List = unsafe extern "C" fn(*const c_char, *const c_char, ...) -> c_int;

    /// A tuple as in `hook!`; Rust cannot write the arguments of the replacement.
    macro_rules! tuples {
        ($( $name:ident: $type:ty = $original:path; )*) => {
            $(
                const _: () = {
                    #[repr(C)]
                    struct Tuple {
                        new: unsafe extern "C" fn() -> c_int,
                        old: $type,
                    }
                    #[used]
                    #[unsafe(link_section = "__DATA,__interpose")]
                    static TUPLE: Tuple = Tuple { new: $name, old: $original };
                };
            )*
        };
    }

    tuples! {
        fcntl: Control = crate::real::macos::variadic::fcntl;
        fcntl_nocancel: Control = crate::real::macos::variadic::fcntl_nocancel;
        execl: List = crate::real::macos::variadic::execl;
        execlp: List = crate::real::macos::variadic::execlp;
        execle: List = crate::real::macos::variadic::execle;
    }
}
