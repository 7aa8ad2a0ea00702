//! execve(2) as a system call. Our own process may have the library loaded, whose hook of execve would start us again.
#![expect(unsafe_code, reason = "a raw system call")]

use std::ffi::{CString, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Becomes the program. Returns only if that fails.
pub(crate) fn execve(path: &Path, arguments: &[OsString], environment: &[(OsString, OsString)]) -> io::Error {
    let first = match try_execve(path, arguments, environment) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    if first.raw_os_error() != Some(libc::ENOEXEC) {
        return first;
    }
    // A script without `#!`: a shell runs it, as with execvp(3).
    let mut words: Vec<OsString> = vec!["sh".into(), path.into()];
    words.extend(arguments.iter().skip(1).cloned());
    match try_execve(Path::new("/bin/sh"), &words, environment) {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

fn try_execve(
    path: &Path,
    arguments: &[OsString],
    environment: &[(OsString, OsString)],
) -> io::Result<std::convert::Infallible> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let arguments = arguments.iter().map(|text| CString::new(text.as_bytes()));
    let arguments: Vec<CString> = arguments.collect::<Result<_, _>>()?;
    let environment = environment
        .iter()
        .map(|(key, value)| CString::new([key.as_bytes(), b"=", value.as_bytes()].concat()));
    let environment: Vec<CString> = environment.collect::<Result<_, _>>()?;
    let pointers = |texts: &[CString]| -> Vec<*const libc::c_char> {
        texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (argv, envp) = (pointers(&arguments), pointers(&environment));
    // SAFETY: a C string, and two arrays of C strings that end in NULL; all of them live until the call returns.
    unsafe { libc::syscall(libc::SYS_execve, path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    Err(io::Error::last_os_error())
}
