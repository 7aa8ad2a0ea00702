//! Name lookups: `*.localhost` means loopback (RFC 6761 6.3), which neither glibc nor macOS does by itself.
#![expect(unsafe_code, reason = "carries out hooked calls")]

use crate::config;
use crate::real;
use core::ffi::CStr;
use libc::{addrinfo, c_char, c_int, hostent};

/// The name to look up instead of `name`.
///
/// # Safety
/// `name` is NULL or a C string.
unsafe fn instead(name: *const c_char) -> *const c_char {
    if name.is_null() || config::get().is_none() {
        return name;
    }
    // SAFETY: the caller vouches for the string, which libc itself reads in this process.
    let text = unsafe { CStr::from_ptr(name) }.to_bytes();
    if is_below_localhost(text) { c"localhost".as_ptr() } else { name }
}

fn is_below_localhost(name: &[u8]) -> bool {
    const SUFFIX: &[u8] = b".localhost";
    let name = name.strip_suffix(b".").unwrap_or(name);
    let Some(start) = name.len().checked_sub(SUFFIX.len()) else { return false };
    start > 0 && name.get(start..).is_some_and(|end| end.eq_ignore_ascii_case(SUFFIX))
}

/// getaddrinfo(3).
///
/// # Safety
/// As getaddrinfo(3).
pub(crate) unsafe fn getaddrinfo(
    node: *const c_char,
    service: *const c_char,
    hints: *const addrinfo,
    result: *mut *mut addrinfo,
) -> c_int {
    // SAFETY: hints that are not NULL are read by libc itself in this process.
    let numeric = !hints.is_null() && unsafe { (*hints).ai_flags } & libc::AI_NUMERICHOST != 0;
    // SAFETY: the program's own string.
    let node = if numeric { node } else { unsafe { instead(node) } };
    // SAFETY: the program's own arguments, or a static name.
    unsafe { real::getaddrinfo(node, service, hints, result) }
}

/// gethostbyname(3).
///
/// # Safety
/// As gethostbyname(3).
pub(crate) unsafe fn gethostbyname(name: *const c_char) -> *mut hostent {
    // SAFETY: the program's own string.
    let name = unsafe { instead(name) };
    // SAFETY: the program's own string, or a static one.
    unsafe { real::gethostbyname(name) }
}

/// gethostbyname2(3).
///
/// # Safety
/// As gethostbyname2(3).
pub(crate) unsafe fn gethostbyname2(name: *const c_char, family: c_int) -> *mut hostent {
    // SAFETY: the program's own string.
    let name = unsafe { instead(name) };
    // SAFETY: the program's own string, or a static one.
    unsafe { real::gethostbyname2(name, family) }
}

/// gethostbyname_r(3).
///
/// # Safety
/// As gethostbyname_r(3).
#[cfg(target_os = "linux")]
pub(crate) unsafe fn gethostbyname_r(
    name: *const c_char,
    result: *mut hostent,
    buffer: *mut c_char,
    size: libc::size_t,
    found: *mut *mut hostent,
    error: *mut c_int,
) -> c_int {
    // SAFETY: the program's own string.
    let name = unsafe { instead(name) };
    // SAFETY: the program's own arguments.
    unsafe { crate::real::gnu::gethostbyname_r(name, result, buffer, size, found, error) }
}

/// gethostbyname2_r(3).
///
/// # Safety
/// As gethostbyname2_r(3).
#[cfg(target_os = "linux")]
pub(crate) unsafe fn gethostbyname2_r(
    name: *const c_char,
    family: c_int,
    result: *mut hostent,
    buffer: *mut c_char,
    size: libc::size_t,
    found: *mut *mut hostent,
    error: *mut c_int,
) -> c_int {
    // SAFETY: the program's own string.
    let name = unsafe { instead(name) };
    // SAFETY: the program's own arguments.
    unsafe { crate::real::gnu::gethostbyname2_r(name, family, result, buffer, size, found, error) }
}

#[cfg(test)]
mod tests {
    use super::is_below_localhost;

    #[test]
    fn only_names_below_localhost_are_changed() {
        for name in ["shop.localhost", "a.b.LocalHost", "x.localhost."] {
            assert!(is_below_localhost(name.as_bytes()), "{name}");
        }
        for name in ["localhost", ".localhost", "localhost.evil.com", "notlocalhost", ""] {
            assert!(!is_below_localhost(name.as_bytes()), "{name}");
        }
    }
}
