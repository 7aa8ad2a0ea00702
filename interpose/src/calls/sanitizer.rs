//! Programs of AddressSanitizer (`-fsanitize=address`): its library ends a program into which another one was loaded
//! first, although ours does no harm there. The option that turns this check off is added to the program's own.
//!
//! May run in the child of vfork(2) or in a signal handler: everything is on the stack.
#![expect(unsafe_code, reason = "reads and makes arrays of C strings")]

use agentfs_wire::env;
use agentfs_wire::text::Text;
use core::ffi::CStr;
use libc::c_char;

/// Entries of an environment that is built. A larger one is passed on as it is.
const ENTRIES: usize = 2048;
/// Bytes of the options with ours. Longer ones are passed on as they are.
const OPTION_BYTES: usize = 1024;

type Strings = *const *const c_char;

/// Calls `call` with `environment` and the option.
///
/// # Safety
/// `environment` is NULL or an array of C strings that ends in NULL.
#[inline(never)]
pub(super) unsafe fn with_options<T>(environment: Strings, call: impl FnOnce(Strings) -> T) -> T {
    let mut entries = [core::ptr::null::<c_char>(); ENTRIES];
    let mut options = Text::<OPTION_BYTES>::new();
    let mut fits = options.push(env::ASAN_OPTIONS) && options.push("=");
    let mut count = 0;
    let mut index = 0;
    // SAFETY: the array ends in NULL, which was not reached yet.
    while !environment.is_null() && !unsafe { *environment.wrapping_add(index) }.is_null() {
        // SAFETY: as above.
        let entry = unsafe { *environment.wrapping_add(index) };
        index += 1;
        // SAFETY: each entry is a C string.
        let bytes = unsafe { CStr::from_ptr(entry) }.to_bytes();
        if let Some(own) = own_options(bytes) {
            fits &= core::str::from_utf8(own).is_ok_and(|own| options.push(own) && options.push(":"));
            continue;
        }
        // One place for the option, one for the end.
        let Some(slot) = entries.get_mut(count).filter(|_| count < ENTRIES - 2) else {
            return call(environment);
        };
        *slot = entry;
        count += 1;
    }
    if !(fits && options.push(env::ASAN_ANY_ORDER) && options.push("\0")) {
        return call(environment);
    }
    if let Some(slot) = entries.get_mut(count) {
        *slot = options.as_bytes().as_ptr().cast::<c_char>();
    }
    call(entries.as_ptr())
}

fn own_options(entry: &[u8]) -> Option<&[u8]> {
    entry.strip_prefix(env::ASAN_OPTIONS.as_bytes())?.strip_prefix(b"=")
}
