//! Functions that only macOS has: the `$NOCANCEL` twins that system libraries and runtimes (.NET) call,
//! connectx(2) of Network.framework, execvP(3), and the variadic functions.
//!
//! Rust cannot define a function with a C variable argument list, and arm64 macOS passes such arguments on
//! the stack even while registers are free (Apple's AArch64 ABI, "Variadic functions"). A few instructions
//! move them to where a function with fixed arguments expects them.
#![expect(clippy::too_many_arguments, reason = "connectx(2) has eight")]
use super::{Strings, c_char, c_int, c_void, msghdr, size_t, sockaddr, socklen_t, ssize_t};
use libc::{iovec, sa_endpoints_t, sae_associd_t, sae_connid_t};

interpose! {
    "connect$NOCANCEL" fn connect_nocancel(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int, -1;
    "accept$NOCANCEL" fn accept_nocancel(fd: c_int, address: *mut sockaddr, length: *mut socklen_t) -> c_int, -1;
    "sendto$NOCANCEL" fn sendto_nocancel(fd: c_int, data: *const c_void, size: size_t, flags: c_int, address: *const sockaddr, length: socklen_t) -> ssize_t, -1;
    "sendmsg$NOCANCEL" fn sendmsg_nocancel(fd: c_int, message: *const msghdr, flags: c_int) -> ssize_t, -1;
    "recvfrom$NOCANCEL" fn recvfrom_nocancel(fd: c_int, data: *mut c_void, size: size_t, flags: c_int, address: *mut sockaddr, length: *mut socklen_t) -> ssize_t, -1;
    "recvmsg$NOCANCEL" fn recvmsg_nocancel(fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t, -1;
    "connectx" fn connectx(fd: c_int, endpoints: *const sa_endpoints_t, association: sae_associd_t, flags: libc::c_uint, data: *const iovec, count: libc::c_uint, sent: *mut size_t, connection: *mut sae_connid_t) -> c_int, -1;
    "execvP" fn exec_search(program: *const c_char, path: *const c_char, arguments: Strings) -> c_int, -1;
}

// Declared as they are, so that a call passes arguments as C would.
unsafe extern "C" {
    #[link_name = "fcntl"]
    fn original_fcntl(fd: c_int, command: c_int, ...) -> c_int;
    #[link_name = "fcntl$NOCANCEL"]
    fn original_fcntl_nocancel(fd: c_int, command: c_int, ...) -> c_int;
    #[cfg(not(test))]
    #[link_name = "execl"]
    fn original_execl(program: *const c_char, first: *const c_char, ...) -> c_int;
    #[cfg(not(test))]
    #[link_name = "execlp"]
    fn original_execlp(program: *const c_char, first: *const c_char, ...) -> c_int;
    #[cfg(not(test))]
    #[link_name = "execle"]
    fn original_execle(program: *const c_char, first: *const c_char, ...) -> c_int;
}

/// The next `fcntl`.
///
/// # Safety
/// As fcntl(2).
pub(crate) unsafe fn real_fcntl(fd: c_int, command: c_int, argument: usize) -> c_int {
    // SAFETY: the program's own arguments.
    unsafe { original_fcntl(fd, command, argument) }
}

/// The next `fcntl$NOCANCEL`.
///
/// # Safety
/// As fcntl(2).
pub(crate) unsafe fn real_fcntl_nocancel(fd: c_int, command: c_int, argument: usize) -> c_int {
    // SAFETY: the program's own arguments.
    unsafe { original_fcntl_nocancel(fd, command, argument) }
}

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

    /// Calls `$target(program, arguments)`, `arguments` being the array of all listed ones. On arm64 the first of
    /// them is in a register and the rest, an array already, on the stack: it goes into the word before
    /// them. On x86-64 five are in registers; pushed over the return address they join the rest.
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

    /// A tuple as in `interpose!`; the replacement has no arguments that Rust could spell.
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
        fcntl: Control = super::original_fcntl;
        fcntl_nocancel: Control = super::original_fcntl_nocancel;
        execl: List = super::original_execl;
        execlp: List = super::original_execlp;
        execle: List = super::original_execle;
    }
}
