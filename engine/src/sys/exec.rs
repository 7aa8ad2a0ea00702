//! execve(2) by the instruction itself. Our own process may have the library loaded, whose hooks of execve and of syscall would
//! start us again.
#![expect(unsafe_code, reason = "raw system calls")]

use std::ffi::{CString, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The program that this process becomes does not get the descriptor.
pub(crate) fn close_at_exec(number: i32) {
    // SAFETY: fcntl(2) takes three integers here.
    let _ = unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
}

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
    Err(unsafe { call(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) })
}

/// The instruction. Why it failed.
///
/// # Safety
/// As execve(2).
unsafe fn call(
    path: *const libc::c_char,
    arguments: *const *const libc::c_char,
    environment: *const *const libc::c_char,
) -> io::Error {
    let result: libc::c_long;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: syscall(2) has the registers; the caller vouches for the arguments.
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") libc::SYS_execve => result,
            in("rdi") path,
            in("rsi") arguments,
            in("rdx") environment,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        core::arch::asm!(
            "svc 0",
            in("x8") libc::SYS_execve,
            inlateout("x0") path => result,
            in("x1") arguments,
            in("x2") environment,
        );
    }
    #[cfg(target_arch = "riscv64")]
    // SAFETY: as above.
    unsafe {
        core::arch::asm!(
            "ecall",
            in("a7") libc::SYS_execve,
            inlateout("a0") path => result,
            in("a1") arguments,
            in("a2") environment,
        );
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
    {
        // The engine knows no such machine, so the library is not asked to start us.
        // SAFETY: the caller vouches for the arguments.
        let _ = unsafe { libc::execve(path, arguments, environment) };
        result = -libc::c_long::from(io::Error::last_os_error().raw_os_error().unwrap_or(libc::ENOSYS));
    }
    io::Error::from_raw_os_error(i32::try_from(-result).unwrap_or(libc::ENOSYS))
}
