//! system(3), popen(3): libc gives the shell the process's environment, from which the program may have removed our
//! variables. That environment must not change, not even for a moment, because other threads read it. Instead, the
//! command begins with an `export` of our variables, so that what the shell starts is in the instance.
#![expect(unsafe_code, reason = "carries out hooked calls")]

use super::child::{is_out_of_sight, ours};
use super::plan::{Preload, Reach, examine};
use super::texts::Texts;
use crate::config;
use crate::environment::{self, entries};
use crate::real;
use crate::sys::{self, Errno, Memory};
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
    crate::hints::spawns();
    // SAFETY: NULL or a C string, as the call asks for.
    let completed = unsafe { completed(command) };
    // SAFETY: the program's own strings, or one that lives to the end of this function: popen returns after the
    // shell was started.
    unsafe { real::popen(completed.as_ref().map_or(command, Completed::as_ptr), mode) }
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
    let own = || unsafe { entries(environment::own()) }.map(CStr::to_bytes);
    let plan = examine(ours(config), Reach::Full, own());
    if !plan.restores() || is_out_of_sight(config) {
        return None;
    }
    let texts = Texts::of(plan, ours(config), own());
    let added = texts.preload().or((plan.preload == Preload::Add).then(|| config.preload()));
    let kept = config.kept().filter(|_| plan.variables);
    let variables = || added.into_iter().chain(kept.clone()).map(CStr::to_bytes);
    let mut length = 0;
    write(variables(), command.to_bytes(), |bytes| length += bytes.len());
    let mut memory = sys::Memory::of(length + 1)?;
    let mut rest = memory.bytes_mut().iter_mut();
    write(variables(), command.to_bytes(), |bytes| {
        for (from, to) in bytes.iter().zip(rest.by_ref()) {
            *to = *from;
        }
    });
    Some(Completed(memory))
}

/// Writes `export NAME='VALUE' …; COMMAND`. The command stays on its first line.
fn write<'a>(variables: impl Iterator<Item = &'a [u8]>, command: &[u8], mut push: impl FnMut(&[u8])) {
    let mut before: &[u8] = b"export ";
    for (name, value) in variables.filter_map(environment::parts).filter(|(name, _)| is_told(name)) {
        push(before);
        push(name);
        push(b"='");
        for byte in value {
            push(if *byte == b'\'' { b"'\\''" } else { core::slice::from_ref(byte) });
        }
        push(b"'");
        before = b" ";
    }
    if before == b" " {
        push(b"; ");
    }
    push(command);
}

/// Whether the command may set a variable of this name. A shell must be able to set it. It must not be a secret: every
/// user can read command lines (proc(5), `cmdline`).
fn is_told(name: &[u8]) -> bool {
    !name.ends_with(b"SECRET")
        && name.first().is_some_and(|first| !first.is_ascii_digit())
        && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(variables: &[&str], command: &str) -> String {
        let mut text = Vec::new();
        let variables = variables.iter().map(|variable| variable.as_bytes());
        write(variables, command.as_bytes(), |bytes| text.extend_from_slice(bytes));
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn variables_are_quoted_before_the_command() {
        assert_eq!(written(&["A=1", "B=it's $x"], "run 'me'"), r"export A='1' B='it'\''s $x'; run 'me'");
        assert_eq!(written(&["A='"], "x"), r"export A=''\'''; x");
        assert_eq!(written(&[], "x"), "x");
    }

    #[test]
    fn a_secret_is_in_no_command_line() {
        assert_eq!(written(&["AGENTFS_SECRET=abc", "A=1"], "x"), "export A='1'; x");
    }

    #[test]
    fn names_that_a_shell_refuses_are_left_out() {
        assert_eq!(written(&["A-B=1", "1A=1", "=1", "none"], "x"), "x");
    }
}
