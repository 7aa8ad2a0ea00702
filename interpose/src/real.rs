//! The functions that the program would call without us, from the lists in `functions`.
//!
//! - ELF: `dlsym(RTLD_NEXT)` finds the next definition of a symbol on first use, and an atomic pointer keeps it. `Once`
//!   cannot be used: a child that is forked in the middle of it would wait for ever.
//! - Mach-O: the original is called directly. dyld does not interpose calls of this library, but it does interpose what
//!   `dlsym` returns.
#![expect(unsafe_code, reason = "calls functions of libc by their C signatures")]

use crate::environment::Strings;
use libc::{c_char, c_int, c_void, msghdr, size_t, sockaddr, socklen_t, ssize_t};

type Actions = *const libc::posix_spawn_file_actions_t;
type Attributes = *const libc::posix_spawnattr_t;
type Info = libc::addrinfo;

/// Defines the next function of each declaration.
macro_rules! next {
    ($( $symbol:literal fn $name:ident ( $($argument:ident : $type:ty),* $(,)? ) -> $result:ty, $failure:expr; )*) => {
        $(
            #[cfg(not(target_vendor = "apple"))]
            pub(crate) unsafe fn $name($($argument: $type),*) -> $result {
                use core::sync::atomic::{AtomicPtr, Ordering};
                static NEXT: AtomicPtr<libc::c_void> = AtomicPtr::new(core::ptr::null_mut());
                let mut next = NEXT.load(Ordering::Relaxed);
                if next.is_null() {
                    next = crate::sys::next_symbol(concat!($symbol, "\0"));
                    if next.is_null() {
                        crate::sys::set_errno(libc::ENOSYS);
                        return $failure;
                    }
                    NEXT.store(next, Ordering::Relaxed);
                }
                // SAFETY: `next` is the address of the libc function of this name, whose C
                // signature is the one declared here.
                let next: unsafe extern "C" fn($($type),*) -> $result = unsafe { core::mem::transmute(next) };
                // SAFETY: the caller passes on what the program passed.
                unsafe { next($($argument),*) }
            }

            #[cfg(target_vendor = "apple")]
            pub(crate) unsafe fn $name($($argument: $type),*) -> $result {
                // SAFETY: the caller passes on what the program passed.
                unsafe { originals::$name($($argument),*) }
            }
        )*

        /// The symbols themselves, for calls and for dyld's tuples.
        #[cfg(target_vendor = "apple")]
        pub(crate) mod originals {
            use super::*;
            unsafe extern "C" {
                $(
                    #[link_name = $symbol]
                    pub(crate) fn $name($($argument: $type),*) -> $result;
                )*
            }
        }
    };
}

functions!(next);

/// Functions that only glibc has.
#[cfg(target_os = "linux")]
pub(crate) mod gnu {
    use super::{Strings, c_char, c_int, c_void, size_t, sockaddr, socklen_t, ssize_t};
    use libc::mmsghdr;

    gnu_functions!(next);
}

#[cfg(target_os = "macos")]
pub(crate) mod macos;
