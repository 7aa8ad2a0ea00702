//! How a hook is put in front of a libc function: one declaration, one mechanism per object format.
//!
//! ELF: an exported symbol of that name; the next definition comes from `dlsym(RTLD_NEXT)` on first use and
//! is kept in an atomic pointer (no `Once`: a child forked in the middle of it would wait for ever).
//! Mach-O: a tuple in `__DATA,__interpose`; the original is called directly, because dyld exempts the
//! interposing image and interposes even what `dlsym` returns.

/// Declares hooks: `"symbol" fn name(arguments) -> result, failure;` makes `crate::hooks::real::name` (the next
/// function) and exports a hook that calls `crate::calls::name` with the same arguments.
macro_rules! interpose {
    ($( $symbol:literal fn $name:ident ( $($argument:ident : $type:ty),* $(,)? ) -> $result:ty, $failure:expr; )*) => {
        /// The next definition of each function: what the program would have reached without us.
        pub(crate) mod real {
            use super::*;
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
                    unsafe { super::originals::$name($($argument),*) }
                }
            )*
        }

        #[cfg(target_vendor = "apple")]
        mod originals {
            use super::*;
            unsafe extern "C" {
                $(
                    #[link_name = $symbol]
                    pub(super) fn $name($($argument: $type),*) -> $result;
                )*
            }
        }

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
