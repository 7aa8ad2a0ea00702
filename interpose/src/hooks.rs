//! Every hook, from the lists in `functions`. A hook passes its arguments to the function of the same name in `calls`.
//!
//! ELF: an exported symbol of that name. Mach-O: a tuple in `__DATA,__interpose`.
#![expect(unsafe_code, reason = "hooks have the C signatures of libc")]

use crate::environment::Strings;
#[cfg(all(target_vendor = "apple", not(test)))]
use crate::real::originals;
use libc::{c_char, c_int, c_void, msghdr, size_t, sockaddr, socklen_t, ssize_t};

type Actions = *const libc::posix_spawn_file_actions_t;
type Attributes = *const libc::posix_spawnattr_t;
type Info = libc::addrinfo;

/// Exports a hook for each declaration.
macro_rules! hook {
    ($( $symbol:literal fn $name:ident ( $($argument:ident : $type:ty),* $(,)? ) -> $result:ty, $failure:expr; )*) => {
        /// The hooks themselves, one expression each.
        mod exports {
            use super::*;
            $(
                #[cfg_attr(all(not(test), not(target_vendor = "apple")), unsafe(export_name = $symbol))]
                #[cfg_attr(test, expect(dead_code, reason = "a test binary must not be interposed"))]
                pub(super) unsafe extern "C" fn $name($($argument: $type),*) -> $result {
                    // SAFETY: the program's own arguments, handed on under the contract of the call.
                    unsafe { crate::calls::$name($($argument),*) }
                }
            )*
        }

        #[cfg(all(target_vendor = "apple", not(test)))]
        mod tuples {
            use super::*;
            $(
                mod $name {
                    use super::*;
                    /// dyld's interposing tuple: replacement and replacee (mach-o/loader.h, S_INTERPOSING).
                    #[repr(C)]
                    struct Tuple {
                        new: unsafe extern "C" fn($($type),*) -> $result,
                        old: unsafe extern "C" fn($($type),*) -> $result,
                    }
                    #[used]
                    #[unsafe(link_section = "__DATA,__interpose")]
                    static TUPLE: Tuple =
                        Tuple { new: super::super::exports::$name, old: super::super::originals::$name };
                }
            )*
        }
    };
}

functions!(hook);

/// Functions that only glibc has.
#[cfg(target_os = "linux")]
mod gnu {
    use super::{Strings, c_char, c_int, c_void, size_t, sockaddr, socklen_t, ssize_t};
    use libc::mmsghdr;

    gnu_functions!(hook);
}

#[cfg(target_os = "macos")]
mod macos;
