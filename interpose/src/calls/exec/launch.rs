//! Programs that do not load the library are started by the engine's launcher: `agentfs engine-run -- FILE ARGUMENTS…`. It
//! installs a filter and becomes the program. Its arguments are the program's own, their first one included.
use super::variables::{Variable, variable};
use crate::calls::started::Started;
use crate::config;
use crate::environment::{Strings, entries};
use crate::program::{self, Path};
use crate::sys::{self, Errno};
use core::ffi::CStr;
use libc::c_char;

/// Arguments on a small stack frame, and on a large one. A program with more is started without the engine.
const SMALL: usize = 64;
const LARGE: usize = 2048;

/// Words that come before the program's own arguments: the launcher, what it is to do, a mark, the program's file.
const BEFORE: usize = 4;

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
    let Some((launcher, count)) = (unsafe { launcher(it, environment, searches, &mut path) }) else {
        return call(it);
    };
    // SAFETY: there are `count` arguments, and both texts end in NUL.
    unsafe {
        if count + BEFORE < SMALL {
            framed::<SMALL, T>(it, launcher, &path, count, call)
        } else if count + BEFORE < LARGE {
            framed::<LARGE, T>(it, launcher, &path, count, call)
        } else {
            call(it)
        }
    }
}

/// The launcher, if the program is one for it, and the number of the program's arguments. `path` becomes the path of the
/// program.
///
/// # Safety
/// As [`through_engine`].
unsafe fn launcher(
    it: Started,
    environment: Strings,
    searches: bool,
    path: &mut Path,
) -> Option<(&'static CStr, usize)> {
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
    (count > 0).then_some((launcher, count))
}

/// Calls `call` with the launcher and an array of at most `N` arguments.
///
/// # Safety
/// `it` has `count` arguments; `path` ends in NUL.
#[inline(never)]
unsafe fn framed<const N: usize, T>(
    it: Started,
    launcher: &CStr,
    path: &Path,
    count: usize,
    call: impl FnOnce(Started) -> T,
) -> T {
    let mut arguments = [core::ptr::null::<c_char>(); N];
    let before = [launcher.as_ptr(), c"engine-run".as_ptr(), c"--".as_ptr(), path.as_bytes().as_ptr().cast()];
    for (to, from) in arguments.iter_mut().zip(before) {
        *to = from;
    }
    for (index, to) in arguments.iter_mut().skip(BEFORE).take(count).enumerate() {
        // SAFETY: `index` is below `count`.
        *to = unsafe { *it.arguments.add(index) };
    }
    call(Started { program: launcher.as_ptr(), arguments: arguments.as_ptr(), changed: true })
}
