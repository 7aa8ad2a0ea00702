//! Environments as C has them: arrays of `NAME=VALUE` strings that end in NULL, the process's own and those that it
//! gives to programs. Only read here; nothing that belongs to the program is ever written to.
#![expect(unsafe_code, reason = "reads arrays of C strings")]

use core::ffi::CStr;
use libc::c_char;

/// The variable that loads libraries first.
#[cfg(target_os = "linux")]
pub(crate) const PRELOAD: &str = agentfs_wire::env::LD_PRELOAD;
/// The variable that loads libraries first.
#[cfg(target_os = "macos")]
pub(crate) const PRELOAD: &str = agentfs_wire::env::DYLD_INSERT_LIBRARIES;

/// An array of C strings that ends in NULL.
pub(crate) type Strings = *const *const c_char;

/// The process's environment as it stands.
pub(crate) fn own() -> Strings {
    #[cfg(target_os = "linux")]
    {
        unsafe extern "C" {
            static environ: *const *const c_char;
        }
        // SAFETY: libc defines it (environ(7)); reading a pointer races only with a program that
        // replaces its whole environment in another thread, which no libc supports either.
        unsafe { environ }
    }
    #[cfg(target_os = "macos")]
    {
        // SAFETY: takes no arguments; dylibs may not name `environ` itself (environ(7)).
        let pointer = unsafe { libc::_NSGetEnviron() };
        // SAFETY: points to the environment for the life of the process.
        unsafe { (*pointer).cast::<*const c_char>() }
    }
}

/// The entries of an environment.
///
/// # Safety
/// `environment` is NULL or an array of C strings that ends in NULL, and lives as long as what comes of it.
pub(crate) unsafe fn entries<'a>(environment: Strings) -> impl Iterator<Item = &'a CStr> {
    let mut next = environment;
    core::iter::from_fn(move || {
        if next.is_null() {
            return None;
        }
        // SAFETY: the caller vouches for an array that ends in NULL, which was not reached yet.
        let entry = unsafe { *next };
        if entry.is_null() {
            return None;
        }
        // SAFETY: as above: the NULL is still ahead.
        next = unsafe { next.add(1) };
        // SAFETY: the caller vouches for C strings.
        Some(unsafe { CStr::from_ptr(entry) })
    })
}

/// Name and value of an entry: they are divided by the first `=`. `None` where there is none.
pub(crate) fn parts(entry: &[u8]) -> Option<(&[u8], &[u8])> {
    let equals = entry.iter().position(|byte| *byte == b'=')?;
    Some((entry.get(..equals)?, entry.get(equals + 1..)?))
}

/// The value of an entry that has this name.
pub(crate) fn value_of<'a>(entry: &'a [u8], name: &str) -> Option<&'a [u8]> {
    parts(entry).filter(|(own, _)| *own == name.as_bytes()).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_equals_sign_ends_the_name() {
        assert_eq!(parts(b"A=b=c"), Some((b"A".as_slice(), b"b=c".as_slice())));
        assert_eq!(parts(b"A="), Some((b"A".as_slice(), b"".as_slice())));
        assert_eq!(parts(b"=A"), Some((b"".as_slice(), b"A".as_slice())));
        assert_eq!(parts(b"A"), None);
    }

    #[test]
    fn a_value_belongs_to_the_whole_name() {
        assert_eq!(value_of(b"PATH=/bin", "PATH"), Some(b"/bin".as_slice()));
        assert_eq!(value_of(b"PATHS=/bin", "PATH"), None);
        assert_eq!(value_of(b"PATH", "PATH"), None);
    }

    #[test]
    fn entries_end_at_the_null() {
        // SAFETY: NULL is an environment without entries.
        assert_eq!(unsafe { entries(core::ptr::null()) }.count(), 0);
        let array = [c"A=1".as_ptr(), c"B=2".as_ptr(), core::ptr::null(), c"C=3".as_ptr()];
        // SAFETY: the array holds C strings and a NULL.
        let found: Vec<_> = unsafe { entries(array.as_ptr()) }.collect();
        assert_eq!(found, [c"A=1", c"B=2"]);
    }
}
