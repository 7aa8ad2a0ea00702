//! Programs that do not load the library are started by the engine's launcher: `agentfs engine-run -- FILE ARGUMENTS…`. It
//! installs a filter and becomes the program. Its arguments are the program's own, their first one included.
//!
//! A file that is open (fexecve(3), `/proc/self/fd/N`) and would be closed by the exec gets a second descriptor, which the
//! launcher closes as the first one would have been (`--closing`).
use super::variables::{Variable, variable};
use crate::calls::started::Started;
use crate::config;
use crate::environment::{Strings, entries};
use crate::program::{self, Path};
use crate::sys::{self, Errno, Fd, Memory};
use core::ffi::CStr;
use libc::{c_char, c_int};

/// Arguments on a small stack frame, and on a large one. More of them need memory of their own.
const SMALL: usize = 64;
const LARGE: usize = 2048;

/// Words that come before the program's own arguments: the launcher, what it is to do, what becomes of the descriptor, a mark,
/// the program's file.
const BEFORE: usize = 5;

/// What the launcher is told.
struct Launch {
    launcher: &'static CStr,
    /// How many arguments the program has.
    count: usize,
    /// The descriptor that was made for the launcher.
    own: Option<Fd>,
}

/// Calls `call` with what is started instead of `it`: the launcher, or `it`.
///
/// # Safety
/// The strings and arrays are as execve(2) wants them.
pub(super) unsafe fn through_engine<T>(
    it: Started,
    environment: Strings,
    searches: bool,
    call: impl FnOnce(Started) -> T,
) -> T {
    let mut path = Path::new();
    // SAFETY: the caller vouches for the strings and the arrays.
    let Some(launch) = (unsafe { launcher(it, environment, searches, &mut path) }) else {
        return call(it);
    };
    // SAFETY: there are `count` arguments, and both texts end in NUL.
    unsafe {
        if launch.count + BEFORE < SMALL {
            framed::<SMALL, T>(it, &launch, &path, call)
        } else if launch.count + BEFORE < LARGE {
            framed::<LARGE, T>(it, &launch, &path, call)
        } else {
            mapped(it, &launch, &path, call)
        }
    }
}

/// What is told the launcher, if the program is one for it. `path` becomes the path of the program.
///
/// # Safety
/// As [`through_engine`].
unsafe fn launcher(it: Started, environment: Strings, searches: bool, path: &mut Path) -> Option<Launch> {
    let config = config::get()?;
    let launcher = config.launcher()?;
    if it.program.is_null() || it.arguments.is_null() {
        return None;
    }
    let _errno = Errno::keep();
    // SAFETY: the caller vouches for the string.
    let name = unsafe { CStr::from_ptr(it.program) };
    if !program::needs_engine(name, searches, path) || !sys::may_execute(launcher) {
        return None;
    }
    // SAFETY: the caller vouches for the array.
    let mut variables = unsafe { entries(environment) }.filter_map(|entry| variable(entry.to_bytes()));
    // Who asks for another instance, or for none, is not ours to serve.
    let is_foreign = variables.any(|variable| match variable {
        Variable::Instance(value) => value != config.instance.as_bytes(),
        Variable::NoInterpose(value) => value == b"1",
        _ => false,
    });
    if is_foreign {
        return None;
    }
    let mut count = 0;
    // SAFETY: the array ends in NULL, which was not reached yet.
    while !unsafe { *it.arguments.add(count) }.is_null() {
        count += 1;
    }
    (count > 0).then(|| Launch { launcher, count, own: kept_open(path) })
}

/// A second descriptor of the file that a path names by its descriptor, if that one is closed by an exec. `path` becomes that
/// of the second one.
fn kept_open(path: &mut Path) -> Option<Fd> {
    let text = core::str::from_utf8(path.as_bytes()).ok()?.trim_end_matches('\0');
    let digits = text.strip_prefix("/proc/self/fd/").or_else(|| text.strip_prefix("/dev/fd/"))?;
    let number: c_int = digits.parse().ok()?;
    if sys::control(number, libc::F_GETFD, 0).ok()? & libc::FD_CLOEXEC == 0 {
        return None;
    }
    let own = Fd::owned(sys::control(number, libc::F_DUPFD, 3).ok()?);
    *path = of_descriptor(own.number());
    Some(own)
}

/// The path of the file that is open as `fd`, with its NUL.
pub(super) fn of_descriptor(fd: c_int) -> Path {
    let mut path = Path::new();
    path.push("/proc/self/fd/");
    path.push_number(u64::try_from(fd).unwrap_or(0));
    path.push("\0");
    path
}

/// The file at a path below an open folder.
pub(super) fn below(folder: c_int, name: &CStr) -> Option<Fd> {
    let _errno = Errno::keep();
    let mut path = Path::new();
    let is_whole = path.push("/proc/self/fd/")
        && path.push_number(u64::try_from(folder).ok()?)
        && path.push("/")
        && path.push(name.to_str().ok()?)
        && path.push("\0");
    let path = CStr::from_bytes_with_nul(path.as_bytes()).ok().filter(|_| is_whole)?;
    sys::open(path, libc::O_PATH | libc::O_CLOEXEC, 0).ok()
}

/// Calls `call` with the launcher and an array of at most `N` arguments.
///
/// # Safety
/// `it` has `launch.count` arguments; `path` ends in NUL.
#[inline(never)]
unsafe fn framed<const N: usize, T>(
    it: Started,
    launch: &Launch,
    path: &Path,
    call: impl FnOnce(Started) -> T,
) -> T {
    let mut arguments = [core::ptr::null::<c_char>(); N];
    // SAFETY: the caller vouches for the arguments.
    unsafe { write(it, launch, path, &mut arguments) };
    call(Started { program: launch.launcher.as_ptr(), arguments: arguments.as_ptr(), changed: true })
}

/// The same with an array in memory of its own. (The child of a vfork(2) leaves it to its parent.)
///
/// # Safety
/// As [`framed`].
unsafe fn mapped<T>(it: Started, launch: &Launch, path: &Path, call: impl FnOnce(Started) -> T) -> T {
    let places = launch.count + BEFORE + 1;
    let Some(mut memory) = Memory::of(places.saturating_mul(size_of::<*const c_char>())) else {
        return call(it);
    };
    let start = memory.bytes_mut().as_mut_ptr().cast::<*const c_char>();
    // SAFETY: the memory begins with a page, has room for all places, is zeroed, and nobody else's.
    let arguments = unsafe { core::slice::from_raw_parts_mut(start, places) };
    // SAFETY: the caller vouches for the arguments.
    unsafe { write(it, launch, path, arguments) };
    call(Started { program: launch.launcher.as_ptr(), arguments: start, changed: true })
}

/// Writes the launcher's arguments into an array that is zeroed and has a place more than are needed.
///
/// # Safety
/// As [`framed`].
unsafe fn write(it: Started, launch: &Launch, path: &Path, arguments: &mut [*const c_char]) {
    let mark = if launch.own.is_some() { c"--closing" } else { c"--keeping" };
    let file = path.as_bytes().as_ptr().cast();
    let before = [launch.launcher.as_ptr(), c"engine-run".as_ptr(), mark.as_ptr(), c"--".as_ptr(), file];
    for (to, from) in arguments.iter_mut().zip(before) {
        *to = from;
    }
    for (index, to) in arguments.iter_mut().skip(BEFORE).take(launch.count).enumerate() {
        // SAFETY: `index` is below `count`.
        *to = unsafe { *it.arguments.add(index) };
    }
}
