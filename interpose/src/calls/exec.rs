//! exec and spawn: a child stays in its instance, also when the program passes an environment of its own
//! (Node, Turborepo, `env -i`). What is missing is put back: the preload, behind any other, and the
//! `AGENTFS_…` variables. An environment that names another instance, or asks for none, is left alone.
//!
//! May run in the child of vfork(2) or in a signal handler: everything is on the stack, nothing is
//! allocated, nothing of the parent's memory is changed.
#![expect(unsafe_code, reason = "carries out hooked calls")]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "one contract covers a call and what it is wrapped in"
)]

use super::sanitizer;
use super::started::{Search, start};
use crate::config::{self, Config};
use crate::hooks::real;
use crate::notify::{self, News};
use crate::program::{self as target_program, Program};
use crate::sys::{self, Errno};
use crate::target;
use agentfs_wire::env;
use agentfs_wire::notice::{Call, Outcome, Why};
use core::ffi::CStr;
use libc::{c_char, c_int, pid_t, posix_spawn_file_actions_t, posix_spawnattr_t};

/// Entries of an environment that is built on a small frame, and on a large one. A larger one is passed on
/// as it is, and the child may leave the instance.
const SMALL: usize = 256;
const LARGE: usize = 4096;
/// Bytes of a `LD_PRELOAD=…` that has both a program's libraries and ours.
const PRELOAD_BYTES: usize = 1024;

type Strings = *const *const c_char;

/// What an environment lacks.
#[derive(Clone, Copy)]
struct Lacks {
    /// Where the program's own `LD_PRELOAD=…` is, if it has one without us.
    preload_at: Option<usize>,
    preload: bool,
    variables: bool,
    /// Whether it names the instance but lacks its secret, because the program passes on only chosen variables.
    secret: bool,
    length: usize,
}

/// Looks through an environment; `None` where nothing has to be put back.
///
/// # Safety
/// `environment` is NULL or an array of C strings that ends in NULL.
unsafe fn examine(config: &Config, environment: Strings) -> Option<Lacks> {
    let library = config.preload().to_bytes();
    let library = library.iter().position(|byte| *byte == b'=').and_then(|at| library.get(at + 1..))?;
    let mut lacks = Lacks { preload_at: None, preload: true, variables: true, secret: false, length: 0 };
    let (mut has_secret, mut is_run) = (false, false);
    if environment.is_null() {
        return Some(lacks);
    }
    loop {
        // SAFETY: the array ends in NULL, which was not reached yet.
        let entry = unsafe { *environment.add(lacks.length) };
        if entry.is_null() {
            break;
        }
        // SAFETY: each entry is a C string.
        let entry = unsafe { CStr::from_ptr(entry) }.to_bytes();
        match value_of(entry) {
            Some(Variable::Preload(value)) => {
                lacks.preload = !value.split(|byte| matches!(byte, b':' | b' ')).any(|one| one == library);
                lacks.preload_at = lacks.preload.then_some(lacks.length);
            }
            Some(Variable::Instance(value)) => {
                if value != config.instance.as_bytes() {
                    return None;
                }
                lacks.variables = false;
            }
            Some(Variable::Run(value)) => is_run = value == config.run(),
            Some(Variable::Secret) => has_secret = true,
            Some(Variable::NoInterpose(b"1")) => return None,
            _ => {}
        }
        lacks.length += 1;
    }
    lacks.secret = !lacks.variables && is_run && !has_secret && config.secret.is_some();
    (lacks.preload || lacks.variables || lacks.secret).then_some(lacks)
}

enum Variable<'a> {
    Preload(&'a [u8]),
    Instance(&'a [u8]),
    Run(&'a [u8]),
    Secret,
    NoInterpose(&'a [u8]),
}

fn value_of(entry: &[u8]) -> Option<Variable<'_>> {
    let after = |name: &str| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=");
    if let Some(value) = after(target::PRELOAD) {
        return Some(Variable::Preload(value));
    }
    if let Some(value) = after(env::INSTANCE) {
        return Some(Variable::Instance(value));
    }
    if let Some(value) = after(env::RUN) {
        return Some(Variable::Run(value));
    }
    if after(env::SECRET).is_some() {
        return Some(Variable::Secret);
    }
    after(env::NO_INTERPOSE).map(Variable::NoInterpose)
}

/// The program of an exec.
#[derive(Clone, Copy)]
pub(super) enum Target {
    /// A path, or a name that is searched for along `PATH`.
    Named(*const c_char),
    /// An open file.
    #[cfg(target_os = "linux")]
    Open(c_int),
    /// The system's shell.
    Shell,
}

/// Calls `call` with the environment that the program is to have.
///
/// # Safety
/// The target is a C string or NULL; `environment` is NULL or an array of C strings that ends in NULL.
unsafe fn with_environment<T>(target: Target, environment: Strings, call: impl FnOnce(Strings) -> T) -> T {
    let Some(config) = config::get() else { return call(environment) };
    // SAFETY: the caller vouches for the target.
    let found = unsafe { look(config, target) };
    if found == Program::Beyond(Why::OtherMachine) {
        traced(config, target, found, Why::OtherMachine);
        // SAFETY: the caller vouches for the array.
        return unsafe { without_library(config, environment, call) };
    }
    if found != Program::Missing && is_out_of_sight(config) {
        traced(config, target, Program::Beyond(Why::OutOfSight), Why::OutOfSight);
        // SAFETY: the caller vouches for the array.
        return unsafe { without_library(config, environment, call) };
    }
    if found == Program::Sanitized {
        // SAFETY: the caller vouches for the array.
        return unsafe {
            sanitizer::with_options(environment, |environment| {
                with_instance(config, target, found, environment, call)
            })
        };
    }
    // SAFETY: as this function.
    unsafe { with_instance(config, target, found, environment, call) }
}

/// Calls `call` with `environment`, completed where it lacks ours.
///
/// # Safety
/// As [`with_environment`].
unsafe fn with_instance<T>(
    config: &Config,
    target: Target,
    found: Program,
    environment: Strings,
    call: impl FnOnce(Strings) -> T,
) -> T {
    // SAFETY: the caller vouches for the array.
    let Some(lacks) = (unsafe { examine(config, environment) }) else {
        traced(config, target, found, Why::Rewritten);
        return call(environment);
    };
    traced(config, target, found, Why::EnvironmentRestored);
    let needed = lacks.length + config.kept().count() + 2;
    if needed <= SMALL {
        // SAFETY: as this function.
        unsafe { completed::<SMALL, T>(config, lacks, environment, call) }
    } else if needed <= LARGE {
        // SAFETY: as this function.
        unsafe { completed::<LARGE, T>(config, lacks, environment, call) }
    } else {
        call(environment)
    }
}

/// Whether the library's file cannot be seen from here: in another root (chroot(2), a sandbox such as bubblewrap) the
/// loader would complain of it on the program's stderr.
fn is_out_of_sight(config: &Config) -> bool {
    let _errno = Errno::keep();
    let preload = config.preload().to_bytes_with_nul();
    let file = preload.iter().position(|byte| *byte == b'=').and_then(|at| preload.get(at + 1..));
    file.and_then(|file| CStr::from_bytes_with_nul(file).ok()).is_some_and(|file| !sys::exists(file))
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
        Target::Named(_) | Target::Shell => Program::Reachable,
    }
}

/// Calls `call` with `environment` less our library, which the program's loader could only complain of. The
/// other variables stay: a child of the program may be within reach again.
///
/// # Safety
/// As [`with_environment`].
#[inline(never)]
unsafe fn without_library<T>(config: &Config, environment: Strings, call: impl FnOnce(Strings) -> T) -> T {
    let mut entries = [core::ptr::null::<c_char>(); SMALL * 2];
    let mut others = [0_u8; PRELOAD_BYTES];
    if environment.is_null() {
        return call(environment);
    }
    let room = entries.len() - 1;
    let mut count = 0;
    let mut index = 0_usize;
    loop {
        // SAFETY: the array ends in NULL, which was not reached yet.
        let mut entry = unsafe { *environment.wrapping_add(index) };
        if entry.is_null() {
            break;
        }
        // SAFETY: each entry is a C string.
        if let Some(Variable::Preload(value)) = value_of(unsafe { CStr::from_ptr(entry) }.to_bytes()) {
            entry = if others_of(&mut others, value, config) {
                others.as_ptr().cast::<c_char>()
            } else {
                core::ptr::null()
            };
        }
        if count == room {
            return call(environment);
        }
        if !entry.is_null()
            && let Some(slot) = entries.get_mut(count)
        {
            *slot = entry;
            count += 1;
        }
        index += 1;
    }
    call(entries.as_ptr())
}

/// Writes a `LD_PRELOAD=…` of the libraries in `value` that are not ours; `false` where there are none.
fn others_of(others: &mut [u8; PRELOAD_BYTES], value: &[u8], config: &Config) -> bool {
    let library = config.preload().to_bytes();
    let name = library.iter().position(|byte| *byte == b'=').map_or(0, |at| at + 1);
    let own = library.get(name..).unwrap_or(&[]);
    let mut length = 0;
    let mut push = |bytes: &[u8]| {
        for byte in bytes {
            if let Some(slot) = others.get_mut(length) {
                *slot = *byte;
                length += 1;
            }
        }
    };
    push(library.get(..name).unwrap_or(&[]));
    let mut any = false;
    for one in value.split(|byte| matches!(byte, b':' | b' ')).filter(|one| !one.is_empty() && *one != own) {
        if any {
            push(b":");
        }
        push(one);
        any = true;
    }
    any && length < PRELOAD_BYTES
}

/// # Safety
/// As [`with_environment`]; `environment` has `lacks.length` entries.
#[inline(never)]
unsafe fn completed<const N: usize, T>(
    config: &Config,
    lacks: Lacks,
    environment: Strings,
    call: impl FnOnce(Strings) -> T,
) -> T {
    let mut entries = [core::ptr::null::<c_char>(); N];
    let mut merged = [0_u8; PRELOAD_BYTES];
    let mut count = 0;
    let mut add = |entry: *const c_char| {
        if let Some(slot) = entries.get_mut(count) {
            *slot = entry;
            count += 1;
        }
    };
    for index in 0..lacks.length {
        // SAFETY: the caller vouches for `lacks.length` entries.
        let entry = unsafe { *environment.add(index) };
        if lacks.preload_at == Some(index) {
            // SAFETY: each entry is a C string.
            let own = unsafe { CStr::from_ptr(entry) }.to_bytes();
            add(if merge(&mut merged, own, config) { merged.as_ptr().cast::<c_char>() } else { entry });
        } else {
            add(entry);
        }
    }
    if lacks.preload && lacks.preload_at.is_none() {
        add(config.preload().as_ptr());
    }
    if lacks.variables {
        for string in config.kept() {
            add(string.as_ptr());
        }
    } else if lacks.secret
        && let Some(secret) = config.kept_secret()
    {
        add(secret.as_ptr());
    }
    call(entries.as_ptr())
}

/// Writes the program's `LD_PRELOAD=…` and our library behind it; `false` where it does not fit.
fn merge(merged: &mut [u8; PRELOAD_BYTES], own: &[u8], config: &Config) -> bool {
    let library = config.preload().to_bytes();
    let Some(library) = library.iter().position(|byte| *byte == b'=').and_then(|at| library.get(at + 1..))
    else {
        return false;
    };
    let separator: &[u8] = if own.ends_with(b"=") { b"" } else { b":" };
    if own.len() + separator.len() + library.len() >= PRELOAD_BYTES {
        return false;
    }
    let bytes = own.iter().chain(separator).chain(library);
    for (to, from) in merged.iter_mut().zip(bytes) {
        *to = *from;
    }
    true
}

/// Tells of an exec; `why` where the program is within reach. One that cannot succeed is not told.
fn traced(config: &Config, target: Target, found: Program, why: Why) {
    let Target::Named(program) = target else { return };
    if program.is_null() || found == Program::Missing || !notify::tracing(config) {
        return;
    }
    let _errno = Errno::keep();
    // SAFETY: the program's own C string.
    let file = unsafe { CStr::from_ptr(program) }.to_str().unwrap_or("");
    // Of a long path, a notice has room only for the end.
    let start = file.len().saturating_sub(128);
    let news = News {
        call: Call::Exec,
        outcome: Outcome::Passed,
        why: if let Program::Beyond(reason) = found { reason } else { why },
        errno: 0,
        fd: -1,
        address: None,
        peer: None,
        file: file.get(start..).unwrap_or(""),
    };
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
    let own = target::environment();
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
pub(crate) unsafe fn execvp(program: *const c_char, arguments: Strings) -> c_int {
    // SAFETY: the program's own strings.
    unsafe {
        searched(program, arguments, Search::Path, || {
            with_own_environment(Target::Named(program), || real::execvp(program, arguments))
        })
    }
}

/// Starts `program`, which was looked for, or calls `plain` where it is started as it is.
///
/// # Safety
/// As execvp(3).
pub(super) unsafe fn searched(
    program: *const c_char,
    arguments: Strings,
    search: Search,
    plain: impl FnOnce() -> c_int,
) -> c_int {
    let own = target::environment();
    // SAFETY: the program's own strings.
    unsafe {
        start(program, arguments, own, search, |it| {
            if !it.changed {
                return plain();
            }
            with_environment(Target::Named(it.program), own, |completed| {
                real::execve(it.program, it.arguments, completed)
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
            crate::hooks::gnu::real::execvpe(program, arguments, environment)
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
            crate::hooks::gnu::real::fexecve(fd, arguments, environment)
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

/// system(3): the shell gets the process's environment, which the program may have cleared.
///
/// # Safety
/// As system(3).
pub(crate) unsafe fn system(command: *const c_char) -> c_int {
    // SAFETY: the program's own string.
    unsafe { with_own_environment(Target::Shell, || real::system(command)) }
}

/// popen(3), likewise.
///
/// # Safety
/// As popen(3).
pub(crate) unsafe fn popen(command: *const c_char, mode: *const c_char) -> *mut libc::FILE {
    // SAFETY: the program's own strings.
    unsafe { with_own_environment(Target::Shell, || real::popen(command, mode)) }
}

/// Calls `call` while the process's environment has what it lacks. Only a program that has cleared its
/// environment sees it change, and only while the call lasts.
///
/// # Safety
/// As [`with_environment`], and as reading the environment.
pub(super) unsafe fn with_own_environment<T>(target: Target, call: impl FnOnce() -> T) -> T {
    let own = target::environment();
    // SAFETY: the process's environment ends in NULL.
    unsafe {
        with_environment(target, own, |completed| {
            if completed == own {
                return call();
            }
            target::set_environment(completed);
            let result = call();
            target::set_environment(own);
            result
        })
    }
}
