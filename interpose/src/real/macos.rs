//! Functions that only macOS has: the `$NOCANCEL` twins that system libraries and runtimes (.NET) call,
//! connectx(2) of Network.framework, execvP(3), and the variadic functions.
#![expect(clippy::too_many_arguments, reason = "connectx(2) has eight")]
use super::{Strings, c_char, c_int, c_void, msghdr, size_t, sockaddr, socklen_t, ssize_t};
use libc::{iovec, sa_endpoints_t, sae_associd_t, sae_connid_t};

mac_functions!(next);

/// The variadic functions. They are declared as variadic, so that calls pass arguments as C does.
pub(crate) mod variadic {
    #[cfg(not(test))]
    use super::c_char;
    use super::c_int;

    unsafe extern "C" {
        #[link_name = "fcntl"]
        pub(crate) fn fcntl(fd: c_int, command: c_int, ...) -> c_int;
        #[link_name = "fcntl$NOCANCEL"]
        pub(crate) fn fcntl_nocancel(fd: c_int, command: c_int, ...) -> c_int;
        #[cfg(not(test))]
        #[link_name = "execl"]
        pub(crate) fn execl(program: *const c_char, first: *const c_char, ...) -> c_int;
        #[cfg(not(test))]
        #[link_name = "execlp"]
        pub(crate) fn execlp(program: *const c_char, first: *const c_char, ...) -> c_int;
        #[cfg(not(test))]
        #[link_name = "execle"]
        pub(crate) fn execle(program: *const c_char, first: *const c_char, ...) -> c_int;
    }
}

/// The next `fcntl`.
///
/// # Safety
/// As fcntl(2).
pub(crate) unsafe fn fcntl(fd: c_int, command: c_int, argument: usize) -> c_int {
    // SAFETY: the program's own arguments.
    unsafe { variadic::fcntl(fd, command, argument) }
}

/// The next `fcntl$NOCANCEL`.
///
/// # Safety
/// As fcntl(2).
pub(crate) unsafe fn fcntl_nocancel(fd: c_int, command: c_int, argument: usize) -> c_int {
    // SAFETY: the program's own arguments.
    unsafe { variadic::fcntl_nocancel(fd, command, argument) }
}
