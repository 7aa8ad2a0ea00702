//! exec and spawn: a child stays in its instance, even if the program passes an environment of its own
//! (Node, Turborepo, `env -i`). What is missing is added: our library, after all others that are preloaded, and the
//! `AGENTFS_…` variables. An environment that names another instance, or asks for none, is not changed.
//!
//! This may run in the child of vfork(2) or in a signal handler. So everything is on the stack, nothing is
//! allocated, and the parent's memory does not change, least of all its `environ`.
#![expect(unsafe_code, reason = "carries out hooked calls")]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "one contract covers a call and what it is wrapped in"
)]

#[cfg(any(target_os = "macos", feature = "stand-ins", test))]
mod arguments;
mod array;
mod carried;
mod child;
#[cfg(target_os = "linux")]
mod launch;
mod plan;
mod shell;
mod texts;
mod variables;

use super::started::Search;
#[cfg(target_os = "linux")]
use super::started::Started;
use crate::environment::{self, Strings};
use crate::real;
#[cfg(target_os = "macos")]
use crate::sys;
use child::with_child;
#[cfg(target_os = "linux")]
use child::{Target, with_environment};
#[cfg(target_os = "linux")]
use core::ffi::CStr;
use libc::{c_char, c_int, pid_t, posix_spawn_file_actions_t, posix_spawnattr_t};
#[cfg(target_os = "macos")]
pub(crate) use shell::popen_extsn;
pub(crate) use shell::{popen, system};

/// execve(2).
///
/// # Safety
/// As execve(2).
pub(crate) unsafe fn execve(program: *const c_char, arguments: Strings, environment: Strings) -> c_int {
    // SAFETY: the program's own strings.
    unsafe {
        with_child(program, arguments, environment, Search::Nowhere, |it, completed| {
            real::execve(it.program, it.arguments, completed)
        })
    }
}

/// execv(3): the environment is the process's own, which it may have cleared.
///
/// # Safety
/// As execv(3).
pub(crate) unsafe fn execv(program: *const c_char, arguments: Strings) -> c_int {
    let own = environment::own();
    // SAFETY: the program's own strings.
    unsafe {
        with_child(program, arguments, own, Search::Nowhere, |it, completed| {
            if completed == own {
                real::execv(it.program, it.arguments)
            } else {
                real::execve(it.program, it.arguments, completed)
            }
        })
    }
}

/// execvp(3), likewise.
///
/// # Safety
/// As execvp(3).
#[cfg(target_os = "linux")]
pub(crate) unsafe fn execvp(program: *const c_char, arguments: Strings) -> c_int {
    let own = environment::own();
    // SAFETY: the program's own strings.
    unsafe {
        with_child(program, arguments, own, Search::Path, |it, completed| {
            if it.changed {
                real::execve(it.program, it.arguments, completed)
            } else if completed == own {
                real::execvp(program, arguments)
            } else {
                crate::real::gnu::execvpe(it.program, it.arguments, completed)
            }
        })
    }
}

/// execvp(3), likewise.
///
/// # Safety
/// As execvp(3).
#[cfg(target_os = "macos")]
pub(crate) unsafe fn execvp(program: *const c_char, arguments: Strings) -> c_int {
    // SAFETY: the program's own strings.
    unsafe { searched(program, arguments, Search::Path, || real::execvp(program, arguments)) }
}

/// Starts `program`, after a search along `search`. If neither program nor environment changes, it calls `plain`.
///
/// # Safety
/// As execvp(3).
#[cfg(target_os = "macos")]
pub(super) unsafe fn searched(
    program: *const c_char,
    arguments: Strings,
    search: Search,
    plain: impl FnOnce() -> c_int,
) -> c_int {
    let own = environment::own();
    // SAFETY: the program's own strings.
    unsafe {
        with_child(program, arguments, own, search, |it, completed| {
            let path = if it.changed { it.program } else { it.found };
            if path.is_null() || (completed == own && !it.changed) {
                return plain();
            }
            let result = real::execve(path, it.arguments, completed);
            // execvp(3) runs a script without an interpreter line with the shell.
            if sys::errno() == libc::ENOEXEC && !it.changed { plain() } else { result }
        })
    }
}

/// execvpe(3).
///
/// # Safety
/// As execvpe(3).
#[cfg(target_os = "linux")]
pub(crate) unsafe fn execvpe(program: *const c_char, arguments: Strings, environment: Strings) -> c_int {
    // SAFETY: the program's own strings.
    unsafe {
        with_child(program, arguments, environment, Search::Path, |it, completed| {
            if it.changed {
                real::execve(it.program, it.arguments, completed)
            } else {
                crate::real::gnu::execvpe(program, arguments, completed)
            }
        })
    }
}

/// fexecve(3).
///
/// # Safety
/// As fexecve(3).
#[cfg(target_os = "linux")]
pub(crate) unsafe fn fexecve(fd: c_int, arguments: Strings, environment: Strings) -> c_int {
    // SAFETY: the program's own strings.
    unsafe {
        with_open(fd, arguments, environment, |completed| crate::real::gnu::fexecve(fd, arguments, completed))
    }
}

/// execveat(2).
///
/// # Safety
/// As execveat(2).
#[cfg(target_os = "linux")]
pub(crate) unsafe fn execveat(
    folder: c_int,
    program: *const c_char,
    arguments: Strings,
    environment: Strings,
    flags: c_int,
) -> c_int {
    let plain = |completed: Strings| {
        // SAFETY: the program's own strings.
        unsafe { crate::real::gnu::execveat(folder, program, arguments, completed, flags) }
    };
    // SAFETY: before the kernel, for a string that is not NULL: it has at least its end.
    let first = if program.is_null() { 0 } else { unsafe { *program } };
    let is_whole = u8::try_from(first) == Ok(b'/') || folder == libc::AT_FDCWD;
    // SAFETY: the program's own strings.
    unsafe {
        if first == 0 && flags & libc::AT_EMPTY_PATH != 0 && !program.is_null() {
            with_open(folder, arguments, environment, plain)
        } else if first == 0 || flags & libc::AT_SYMLINK_NOFOLLOW != 0 {
            with_environment(Target::Unknown, environment, plain)
        } else if is_whole {
            with_child(program, arguments, environment, Search::Nowhere, |it, completed| {
                if it.changed { real::execve(it.program, it.arguments, completed) } else { plain(completed) }
            })
        } else if let Some(file) = launch::below(folder, CStr::from_ptr(program)) {
            with_open(file.number(), arguments, environment, plain)
        } else {
            with_environment(Target::Unknown, environment, plain)
        }
    }
}

/// Starts the program that is open as `fd`: by `plain`, or by the engine's launcher.
///
/// # Safety
/// As fexecve(3).
#[cfg(target_os = "linux")]
unsafe fn with_open(
    fd: c_int,
    arguments: Strings,
    environment: Strings,
    plain: impl FnOnce(Strings) -> c_int,
) -> c_int {
    let path = launch::of_descriptor(fd);
    let it = Started { program: path.as_bytes().as_ptr().cast(), arguments, changed: false };
    // SAFETY: the program's own strings; the path ends in NUL.
    unsafe {
        launch::through_engine(it, environment, false, |it| {
            // The engine itself tells of a program that it starts.
            let target = if it.changed { Target::Unknown } else { Target::Open(fd) };
            with_environment(target, environment, |completed| {
                if it.changed { real::execve(it.program, it.arguments, completed) } else { plain(completed) }
            })
        })
    }
}

/// posix_spawn(3).
///
/// # Safety
/// As posix_spawn(3).
pub(crate) unsafe fn posix_spawn(
    pid: *mut pid_t,
    program: *const c_char,
    actions: *const posix_spawn_file_actions_t,
    attributes: *const posix_spawnattr_t,
    arguments: Strings,
    environment: Strings,
) -> c_int {
    // SAFETY: the program's own arguments.
    unsafe {
        with_child(program, arguments, environment, Search::Nowhere, |it, completed| {
            real::posix_spawn(pid, it.program, actions, attributes, it.arguments, completed)
        })
    }
}

/// posix_spawnp(3).
///
/// # Safety
/// As posix_spawnp(3).
pub(crate) unsafe fn posix_spawnp(
    pid: *mut pid_t,
    program: *const c_char,
    actions: *const posix_spawn_file_actions_t,
    attributes: *const posix_spawnattr_t,
    arguments: Strings,
    environment: Strings,
) -> c_int {
    // SAFETY: the program's own arguments.
    unsafe {
        with_child(program, arguments, environment, Search::Path, |it, completed| {
            if it.changed {
                real::posix_spawn(pid, it.program, actions, attributes, it.arguments, completed)
            } else {
                real::posix_spawnp(pid, program, actions, attributes, arguments, completed)
            }
        })
    }
}
