//! Linux always starts the program that was asked for.
use super::{Search, Started};
use crate::environment::Strings;
use libc::c_char;

/// Calls `call` with what is started for `program`.
///
/// # Safety
/// None on Linux; it is unsafe because it is on macOS.
#[expect(unsafe_code, reason = "as on macOS, where it reads the strings")]
pub(in crate::calls) unsafe fn start<T>(
    program: *const c_char,
    arguments: Strings,
    _environment: Strings,
    _search: Search,
    call: impl FnOnce(Started) -> T,
) -> T {
    call(Started { program, arguments, changed: false })
}
