//! What a child gets: the program that is started, and an environment that keeps it in its instance.
#![expect(unsafe_code, reason = "hands on the program's own strings")]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "one contract covers a call and what it is wrapped in"
)]

use super::super::started::{Search, Started, start};
#[cfg(any(target_os = "macos", feature = "stand-ins"))]
use super::arguments::with_arguments;
use super::array::{self, Own};
use super::plan::{Plan, Reach, examine};
use super::texts::Texts;
use super::variables::Ours;
use crate::config::{self, Config};
use crate::environment::{Strings, entries};
use crate::notify::{self, News};
use crate::program::{self as target_program, Program};
use crate::sys::{self, Errno};
use agentfs_wire::notice::{Call, Outcome, Why};
use core::ffi::CStr;
use libc::c_char;
#[cfg(target_os = "linux")]
use libc::c_int;

/// Entries of a new environment. There are four sizes of stack frame, because threads may have little stack. A larger
/// environment is passed on unchanged, and the child may leave the instance.
const SMALL: usize = 128;
const MIDDLE: usize = 512;
const LARGE: usize = 1024;
const HUGE: usize = 4096;

/// The program of an exec.
#[derive(Clone, Copy)]
pub(super) enum Target {
    /// A path, or a name that is searched along `PATH`.
    Named(*const c_char),
    /// An open file.
    #[cfg(target_os = "linux")]
    Open(c_int),
    /// A file that is not looked at.
    #[cfg(target_os = "linux")]
    Unknown,
}

/// Calls `call` with what is started for `program`, and with the environment that it is to have.
///
/// # Safety
/// The strings and arrays are as execve(2) wants them.
pub(super) unsafe fn with_child<T>(
    program: *const c_char,
    arguments: Strings,
    environment: Strings,
    search: Search,
    call: impl FnOnce(Started, Strings) -> T,
) -> T {
    // SAFETY: the caller vouches for all of them; what is started has a C string for a program.
    unsafe {
        start(program, arguments, environment, search, |it| {
            with_arguments(it, environment, search, |it| {
                with_launcher(it, environment, search, |it, target| {
                    with_environment(target, environment, |completed| call(it, completed))
                })
            })
        })
    }
}

/// Calls `call` with the engine's launcher, if the program needs it, and else with the program.
///
/// # Safety
/// As [`with_child`].
#[cfg(target_os = "linux")]
unsafe fn with_launcher<T>(
    it: Started,
    environment: Strings,
    search: Search,
    call: impl FnOnce(Started, Target) -> T,
) -> T {
    let searches = matches!(search, Search::Path);
    // SAFETY: the caller vouches for all of them.
    unsafe {
        super::launch::through_engine(it, environment, searches, |started| {
            // The engine itself tells of a program that it starts.
            let is_launcher = started.program != it.program;
            let target = if is_launcher { Target::Unknown } else { Target::Named(started.program) };
            call(started, target)
        })
    }
}

/// There is no engine.
#[cfg(not(target_os = "linux"))]
unsafe fn with_launcher<T>(it: Started, _: Strings, _: Search, call: impl FnOnce(Started, Target) -> T) -> T {
    call(it, Target::Named(it.program))
}

/// On Linux no program loses the variables when it starts.
#[cfg(not(any(target_os = "macos", feature = "stand-ins")))]
unsafe fn with_arguments<T>(it: Started, _: Strings, _: Search, call: impl FnOnce(Started) -> T) -> T {
    call(it)
}

/// Calls `call` with the environment that the program is to have.
///
/// # Safety
/// The target is a C string or NULL; `environment` is NULL or an array of C strings that ends in NULL. Both are read
/// before the kernel reads them: an exec with wrong ones ends the program where the kernel would say EFAULT.
pub(super) unsafe fn with_environment<T>(
    target: Target,
    environment: Strings,
    call: impl FnOnce(Strings) -> T,
) -> T {
    let Some(config) = config::get() else { return call(environment) };
    // Also in the child of a vfork(2), which has its parent's memory.
    crate::hints::spawns();
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

/// Looks at the program and its environment, and sends a notice about the exec. `None` if nothing changes.
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
    let plan = examine(Ours::of(config), reach, unsafe { entries(environment) }.map(CStr::to_bytes));
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
    let texts = Texts::of(plan, Ours::of(config), unsafe { entries(environment) }.map(CStr::to_bytes));
    let own = Own { preload: config.preload(), kept: config.kept(), secret: config.kept_secret() };
    // SAFETY: as above.
    unsafe { array::write(plan, environment, &texts, own, &mut array) };
    call(array.as_ptr())
}

/// Whether this process does not see the library's file, because it has another root (chroot(2), a sandbox such as
/// bubblewrap). The loader would print an error to the program's stderr.
pub(super) fn is_out_of_sight(config: &Config) -> bool {
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
            // libc searches a bare name along PATH. It is not searched twice.
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

/// Sends a notice about an exec. `why` is the reason if the library will be loaded. An exec that must fail is left out.
fn traced(config: &Config, target: Target, found: Program, why: Why) {
    #[cfg(target_os = "linux")]
    let Target::Named(program) = target else { return };
    #[cfg(target_os = "macos")]
    let Target::Named(program) = target;
    if program.is_null() || found == Program::Missing || !notify::tracing(config) {
        return;
    }
    let _errno = Errno::keep();
    // SAFETY: not NULL, so the C string that `look` has read.
    let file = unsafe { CStr::from_ptr(program) }.to_str().unwrap_or("");
    let why = if let Program::Beyond(reason) = found { reason } else { why };
    // A notice has room for the end of a long path.
    let start = file.len().saturating_sub(128);
    let news = News { file: file.get(start..).unwrap_or(""), ..News::of(Call::Exec, Outcome::Passed, why) };
    notify::tell(config, news);
}
