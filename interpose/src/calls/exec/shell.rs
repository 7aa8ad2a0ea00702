//! system(3), popen(3): libc gives the shell the process's environment, from which the program may have removed our
//! variables. That environment must not change, not even for a moment, because other threads read it. Instead, the
//! command begins with an `export` of our variables, so that what the shell starts is in the instance.
#![expect(unsafe_code, reason = "carries out hooked calls")]

use super::carried::Carried;
use super::child::is_out_of_sight;
use crate::config;
use crate::environment;
use crate::real;
use crate::sys::{self, Errno, Memory};
use agentfs_wire::carry;
use core::ffi::CStr;
use libc::{c_char, c_int};

/// system(3).
///
/// # Safety
/// As system(3).
pub(crate) unsafe fn system(command: *const c_char) -> c_int {
    crate::hints::spawns();
    // SAFETY: NULL or a C string, as the call asks for.
    let completed = unsafe { completed(command) };
    // SAFETY: the program's own string, or one that lives to the end of this function.
    unsafe { real::system(completed.as_ref().map_or(command, Completed::as_ptr)) }
}

/// popen(3).
///
/// # Safety
/// As popen(3).
pub(crate) unsafe fn popen(command: *const c_char, mode: *const c_char) -> *mut libc::FILE {
    // SAFETY: the program's own strings.
    unsafe { with_completed(command, |command| real::popen(command, mode)) }
}

/// popen(3) as stdio.h of macOS names it, unless a program asks for POSIX alone.
///
/// # Safety
/// As popen(3).
#[cfg(target_os = "macos")]
pub(crate) unsafe fn popen_extsn(command: *const c_char, mode: *const c_char) -> *mut libc::FILE {
    // SAFETY: the program's own strings.
    unsafe { with_completed(command, |command| real::macos::popen_extsn(command, mode)) }
}

/// Calls popen(3) with the completed command, which lives until then: popen returns after the shell was started.
///
/// # Safety
/// `command` is NULL or a C string.
unsafe fn with_completed(
    command: *const c_char,
    call: impl FnOnce(*const c_char) -> *mut libc::FILE,
) -> *mut libc::FILE {
    crate::hints::spawns();
    // SAFETY: the caller vouches for the string.
    let completed = unsafe { completed(command) };
    call(completed.as_ref().map_or(command, Completed::as_ptr))
}

/// A command that begins with our variables.
struct Completed(Memory);

// === impl Completed ===

impl Completed {
    fn as_ptr(&self) -> *const c_char {
        self.0.bytes().as_ptr().cast::<c_char>()
    }
}

/// The command with the variables that the environment lacks, or `None` if it lacks nothing.
///
/// # Safety
/// `command` is NULL or a C string.
unsafe fn completed(command: *const c_char) -> Option<Completed> {
    let config = config::get()?;
    if command.is_null() {
        return None;
    }
    let _errno = Errno::keep();
    // SAFETY: not NULL, so the caller vouches for a C string, which libc hands to a shell.
    let command = unsafe { CStr::from_ptr(command) };
    // SAFETY: the process's environment is NULL or an array of C strings that ends in NULL (environ(7)). A program that
    // changes it in another thread meanwhile races with the call itself, which hands it on.
    let carried = unsafe { Carried::of(config, environment::own()) }?;
    if is_out_of_sight(config) {
        return None;
    }
    let mut length = 0;
    if !write(&carried, command.to_bytes(), &mut |bytes| length += bytes.len()) {
        return None;
    }
    let mut memory = sys::Memory::of(length + 1)?;
    let mut rest = memory.bytes_mut().iter_mut();
    write(&carried, command.to_bytes(), &mut |bytes| {
        for (from, to) in bytes.iter().zip(rest.by_ref()) {
            *to = *from;
        }
    });
    Some(Completed(memory))
}

/// Writes the command with the variables that the environment lacks before it, on its first line. `false`: nothing,
/// because it lacks none.
#[cfg(target_os = "linux")]
fn write(carried: &Carried<'_>, command: &[u8], push: carry::Push<'_>) -> bool {
    if !carried.is_lacking() {
        return false;
    }
    carry::export(push, &|each| carried.lacking(each));
    push(command);
    true
}

/// Writes the command with all variables set in it: the shell that libc starts is the system's, which loses them.
#[cfg(target_os = "macos")]
fn write(carried: &Carried<'_>, command: &[u8], push: carry::Push<'_>) -> bool {
    let files = super::arguments::Lookup { environment: environment::own() };
    carry::carry_text(command, &|each| carried.all(each), &files, push)
}
