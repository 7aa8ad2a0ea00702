//! exec and spawn: a child stays in its instance, also when the program passes an environment of its own
//! (Node, Turborepo, `env -i`). What is missing is put back: the preload, behind any other, and the
//! `AGENTFS_…` variables. An environment that names another instance, or asks for none, is left alone.
//!
//! May run in the child of vfork(2) or in a signal handler: everything is on the stack, nothing is
//! allocated, nothing of the parent's memory is changed, least of all its `environ`.
#![expect(unsafe_code, reason = "carries out hooked calls")]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "one contract covers a call and what it is wrapped in"
)]

mod plan;
mod shell;

use super::started::{Search, start};
use crate::config::{self, Config};
use crate::environment::{self, Strings, entries};
use crate::notify::{self, News};
use crate::program::{self as target_program, Program};
use crate::real;
use crate::sys::{self, Errno};
use agentfs_wire::notice::{Call, Outcome, Why};
use core::ffi::CStr;
use libc::{c_char, c_int, pid_t, posix_spawn_file_actions_t, posix_spawnattr_t};
use plan::{Ours, Plan, Reach, Texts, examine};
pub(crate) use shell::{popen, system};

/// Entries of an environment that is built, by the size of the frame: threads may have little stack. A larger
/// environment is passed on as it is, and the child may leave the instance.
const SMALL: usize = 128;
const MIDDLE: usize = 512;
const LARGE: usize = 1024;
const HUGE: usize = 4096;

/// The program of an exec.
#[derive(Clone, Copy)]
enum Target {
    /// A path, or a name that is searched for along `PATH`.
    Named(*const c_char),
    /// An open file.
    #[cfg(target_os = "linux")]
    Open(c_int),
    /// A file that is not looked at.
    #[cfg(target_os = "linux")]
    Unknown,
}

fn ours(config: &Config) -> Ours<'_> {
    Ours {
        library: config.library().to_bytes(),
        instance: config.instance.as_bytes(),
        run: config.run(),
        has_secret: config.secret.is_some(),
    }
}

/// Calls `call` with the environment that the program is to have.
///
/// # Safety
/// The target is a C string or NULL; `environment` is NULL or an array of C strings that ends in NULL.
unsafe fn with_environment<T>(target: Target, environment: Strings, call: impl FnOnce(Strings) -> T) -> T {
    let Some(config) = config::get() else { return call(environment) };
    // SAFETY: the caller vouches for target and array.
    let Some(plan) = (unsafe { plan(config, target, environment) }) else { return call(environment) };
    let needed = plan.needed(config.kept().count());
    // SAFETY: in each case the plan was made of this array.
    unsafe {
        if needed <= SMALL {
            framed::<SMALL, T>(config, plan, environment, call)
        } else if needed <= MIDDLE {
            framed::<MIDDLE, T>(config, plan, environment, call)
        } else if needed <= LARGE {
            framed::<LARGE, T>(config, plan, environment, call)
        } else if needed <= HUGE {
            framed::<HUGE, T>(config, plan, environment, call)
        } else {
            call(environment)
        }
    }
}

/// Looks at the program and its environment, and tells of the exec. `None` where nothing is to be changed.
///
/// # Safety
/// As [`with_environment`].
unsafe fn plan(config: &Config, target: Target, environment: Strings) -> Option<Plan> {
    // SAFETY: the caller vouches for the target.
    let found = unsafe { look(config, target) };
    let (reach, found) = match found {
        Program::Beyond(Why::OtherMachine) => (Reach::None, found),
        found if found != Program::Missing && is_out_of_sight(config) => {
            (Reach::None, Program::Beyond(Why::OutOfSight))
        }
        Program::Sanitized => (Reach::Sanitized, found),
        _ => (Reach::Full, found),
    };
    // SAFETY: the caller vouches for the array.
    let plan = examine(ours(config), reach, unsafe { entries(environment) }.map(CStr::to_bytes));
    let why = if plan.restores() { Why::EnvironmentRestored } else { Why::Rewritten };
    traced(config, target, found, why);
    (!plan.changes_nothing()).then_some(plan)
}

/// Calls `call` with an array of at most `N` entries.
///
/// # Safety
/// `plan` was made of `environment`.
#[inline(never)]
unsafe fn framed<const N: usize, T>(
    config: &Config,
    plan: Plan,
    environment: Strings,
    call: impl FnOnce(Strings) -> T,
) -> T {
    let mut array = [core::ptr::null::<c_char>(); N];
    // SAFETY: the caller vouches for the array.
    let texts = Texts::of(plan, ours(config), unsafe { entries(environment) }.map(CStr::to_bytes));
    // SAFETY: as above.
    unsafe {
        plan.write(environment, &texts, config.preload(), config.kept(), config.kept_secret(), &mut array)
    };
    call(array.as_ptr())
}

/// Whether the library's file cannot be seen from here: in another root (chroot(2), a sandbox such as bubblewrap) the
/// loader would complain of it on the program's stderr.
fn is_out_of_sight(config: &Config) -> bool {
    let _errno = Errno::keep();
    !sys::exists(config.library())
}

/// # Safety
/// The target is a C string or NULL.
unsafe fn look(config: &Config, target: Target) -> Program {
    let _errno = Errno::keep();
    let closely = notify::tracing(config);
    match target {
        Target::Named(program) if !program.is_null() => {
            // SAFETY: the caller vouches for the string.
            let path = unsafe { CStr::from_ptr(program) };
            // A bare name that is searched for along PATH by libc is not looked for twice.
            #[cfg(target_os = "macos")]
            if path.to_bytes().contains(&b'/') && !crate::loadable::can_load(config, path) {
                return Program::Beyond(Why::OtherMachine);
            }
            target_program::look(path, closely)
        }
        #[cfg(target_os = "linux")]
        Target::Open(fd) => target_program::look_open(fd, closely),
        #[cfg(target_os = "linux")]
        Target::Unknown => Program::Reachable,
        Target::Named(_) => Program::Reachable,
    }
}

/// Tells of an exec; `why` where the program is within reach. One that cannot succeed is not told.
fn traced(config: &Config, target: Target, found: Program, why: Why) {
    #[cfg(target_os = "linux")]
    let Target::Named(program) = target else { return };
    #[cfg(target_os = "macos")]
    let Target::Named(program) = target;
    if program.is_null() || found == Program::Missing || !notify::tracing(config) {
        return;
    }
    let _errno = Errno::keep();
    // SAFETY: the program's own C string.
    let file = unsafe { CStr::from_ptr(program) }.to_str().unwrap_or("");
    let why = if let Program::Beyond(reason) = found { reason } else { why };
    // A notice has room for the end of a long path.
    let start = file.len().saturating_sub(128);
    let news = News { file: file.get(start..).unwrap_or(""), ..News::of(Call::Exec, Outcome::Passed, why) };
    notify::tell(config, news);
}

/// execve(2).
///
/// # Safety
/// As execve(2).
pub(crate) unsafe fn execve(program: *const c_char, arguments: Strings, environment: Strings) -> c_int {
    // SAFETY: the program's own strings.
    unsafe {
        start(program, arguments, environment, Search::Nowhere, |it| {
            with_environment(Target::Named(it.program), environment, |environment| {
                real::execve(it.program, it.arguments, environment)
            })
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
        start(program, arguments, own, Search::Nowhere, |it| {
            with_environment(Target::Named(it.program), own, |completed| {
                if completed == own {
                    real::execv(it.program, it.arguments)
                } else {
                    real::execve(it.program, it.arguments, completed)
                }
            })
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
        with_environment(Target::Named(program), own, |completed| {
            if completed == own {
                real::execvp(program, arguments)
            } else {
                crate::real::gnu::execvpe(program, arguments, completed)
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

/// Starts `program`, which was looked for, or calls `plain` where it is started as it is in the environment as it is.
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
        start(program, arguments, own, search, |it| {
            with_environment(Target::Named(it.program), own, |completed| {
                let path = if it.changed { it.program } else { it.found };
                if path.is_null() || (completed == own && !it.changed) {
                    return plain();
                }
                let result = real::execve(path, it.arguments, completed);
                // execvp(3) has the shell read a script without a first line that says by what.
                if sys::errno() == libc::ENOEXEC && !it.changed { plain() } else { result }
            })
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
        with_environment(Target::Named(program), environment, |environment| {
            crate::real::gnu::execvpe(program, arguments, environment)
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
        with_environment(Target::Open(fd), environment, |environment| {
            crate::real::gnu::fexecve(fd, arguments, environment)
        })
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
    // SAFETY: the program's own string; a NULL is the kernel's to refuse.
    let first = if program.is_null() { 0 } else { unsafe { *program } };
    let target = match u8::try_from(first) {
        Ok(b'/') => Target::Named(program),
        Ok(0) if flags & libc::AT_EMPTY_PATH != 0 => Target::Open(folder),
        _ if folder == libc::AT_FDCWD => Target::Named(program),
        // Below an open folder: what it is would have to be opened.
        _ => Target::Unknown,
    };
    // SAFETY: the program's own strings.
    unsafe {
        with_environment(target, environment, |environment| {
            crate::real::gnu::execveat(folder, program, arguments, environment, flags)
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
        start(program, arguments, environment, Search::Nowhere, |it| {
            with_environment(Target::Named(it.program), environment, |environment| {
                real::posix_spawn(pid, it.program, actions, attributes, it.arguments, environment)
            })
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
        start(program, arguments, environment, Search::Path, |it| {
            with_environment(Target::Named(it.program), environment, |environment| {
                if it.changed {
                    real::posix_spawn(pid, it.program, actions, attributes, it.arguments, environment)
                } else {
                    real::posix_spawnp(pid, program, actions, attributes, arguments, environment)
                }
            })
        })
    }
}
