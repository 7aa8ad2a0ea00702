//! What is started on macOS instead of a program that does not load the library.
#![expect(unsafe_code, reason = "reads the program's own strings and makes an array of them")]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "one contract covers a call and what it is wrapped in"
)]

use super::{Search, Started};
use crate::config::{self, Config};
use crate::environment::{self, Strings, entries, value_of};
use crate::sys::{self, Errno};
use agentfs_wire::env;
use agentfs_wire::script::{self, Line, Start};
use core::ffi::CStr;
use libc::c_char;

/// Bytes of a path, `PATH_MAX` of sys/syslimits.h. Longer paths are not looked at.
const PATH_BYTES: usize = 1024;
/// Words of a script's first line. A script with more words is started unchanged.
const WORDS: usize = 32;
/// Arguments on a small stack frame, and on a large one. A script with more arguments is started unchanged.
const SMALL: usize = 64;
const LARGE: usize = 1024;

/// What is the same for every step.
#[derive(Clone, Copy)]
struct Context<'a> {
    config: &'a Config,
    /// The environment that the program is to have.
    environment: Strings,
}

/// The beginning of a file. When a word is found, a NUL is written after it.
struct Head {
    bytes: [u8; script::HEAD_BYTES + 1],
    length: usize,
    starts: [usize; WORDS],
    words: usize,
}

/// A path that ends in NUL.
struct Path {
    bytes: [u8; PATH_BYTES],
    length: usize,
}

/// Calls `call` with what is started for `program`.
///
/// # Safety
/// The strings and arrays are as execve(2) wants them.
pub(in crate::calls) unsafe fn start<T>(
    program: *const c_char,
    arguments: Strings,
    environment: Strings,
    search: Search,
    call: impl FnOnce(Started) -> T,
) -> T {
    let same = Started { program, found: core::ptr::null(), arguments, changed: false };
    let Some(config) = config::get() else { return call(same) };
    let context = Context { config, environment };
    if program.is_null() || arguments.is_null() || context.is_left_alone() {
        return call(same);
    }
    // SAFETY: the caller vouches for the string.
    let name = unsafe { CStr::from_ptr(program) };
    let is_path = name.to_bytes().contains(&b'/');
    let mut found = Path::new();
    let searched = match search {
        _ if is_path => true,
        Search::Nowhere => false,
        Search::Path => {
            let own = Context { config, environment: environment::own() };
            own.variable("PATH").is_some_and(|folders| found.find(folders, name.to_bytes()))
        }
        Search::Folders(folders) if folders.is_null() => false,
        Search::Folders(folders) => {
            // SAFETY: execvP(3) is given a C string.
            let folders = unsafe { CStr::from_ptr(folders) };
            found.find(folders.to_bytes(), name.to_bytes())
        }
    };
    if !searched {
        return call(same);
    }
    let path = if is_path { name } else { found.as_c() };
    let same = Started { found: path.as_ptr(), ..same };
    // SAFETY: the caller vouches for the array.
    unsafe { step(context, path, same, 0, call) }
}

/// One step from a script to its interpreter, and so on. `path` is where `started` was found.
///
/// # Safety
/// As [`start`].
#[inline(never)]
unsafe fn step<T, C: FnOnce(Started) -> T>(
    context: Context<'_>,
    path: &CStr,
    started: Started,
    depth: usize,
    call: C,
) -> T {
    let mut head = Head::read(path);
    let mut next = Path::new();
    let decided = {
        let _errno = Errno::keep();
        depth < script::SCRIPTS && context.decide(path, &mut head, &mut next)
    };
    if !decided {
        return call(started);
    }
    let next = next.as_c();
    if head.words == 0 {
        let started = Started { program: next.as_ptr(), changed: true, ..started };
        // SAFETY: the arguments are those that the caller vouches for.
        return unsafe { step(context, next, started, depth + 1, call) };
    }
    let mut count = 0;
    // SAFETY: the array ends in NULL, which was not reached yet.
    while !unsafe { *started.arguments.add(count) }.is_null() {
        count += 1;
    }
    // The script's path replaces its own name, and NULL ends the array.
    let needed = head.words + count.max(1) + 1;
    if needed <= SMALL {
        // SAFETY: as this function; there are `count` arguments.
        unsafe { through::<SMALL, T, C>(context, path, &head, next, started, count, depth, call) }
    } else if needed <= LARGE {
        // SAFETY: as above.
        unsafe { through::<LARGE, T, C>(context, path, &head, next, started, count, depth, call) }
    } else {
        call(started)
    }
}

/// Goes on with the interpreter at `next`, which gets the script at `path` as an argument.
///
/// # Safety
/// As [`start`]; `started` has `count` arguments.
#[expect(clippy::too_many_arguments, reason = "one step, split off for the size of its frame")]
#[inline(never)]
unsafe fn through<const N: usize, T, C: FnOnce(Started) -> T>(
    context: Context<'_>,
    path: &CStr,
    head: &Head,
    next: &CStr,
    started: Started,
    count: usize,
    depth: usize,
    call: C,
) -> T {
    let mut arguments = [core::ptr::null::<c_char>(); N];
    let mut length = 0;
    let mut add = |argument: *const c_char| {
        if let Some(slot) = arguments.get_mut(length) {
            *slot = argument;
            length += 1;
        }
    };
    for start in head.starts.iter().take(head.words) {
        add(head.bytes.get(*start..).unwrap_or(&[0]).as_ptr().cast::<c_char>());
    }
    add(path.as_ptr());
    for index in 1..count {
        // SAFETY: the caller vouches for `count` arguments.
        add(unsafe { *started.arguments.add(index) });
    }
    let started = Started { program: next.as_ptr(), arguments: arguments.as_ptr(), changed: true, ..started };
    // SAFETY: the array ends in NULL: it has room for one more than was added.
    unsafe { step(context, next, started, depth + 1, call) }
}

// === impl Context ===

impl Context<'_> {
    /// A variable of the program's environment.
    fn variable(&self, name: &str) -> Option<&[u8]> {
        // SAFETY: whoever made the context vouches for the environment.
        unsafe { entries(self.environment) }.find_map(|entry| value_of(entry.to_bytes(), name))
    }

    /// A variable that this process was started with, whatever its environment is by now.
    fn kept(&self, name: &str) -> Option<&[u8]> {
        self.config.kept().find_map(|string| value_of(string.to_bytes(), name))
    }

    fn is_left_alone(&self) -> bool {
        self.variable(env::NO_INTERPOSE) == Some(b"1")
    }

    /// Whether another program is to be started than the one at `path`: `next` is its path, and the words of
    /// `head` come before the script in its arguments, none where there is no script.
    fn decide(&self, path: &CStr, head: &mut Head, next: &mut Path) -> bool {
        let Head { bytes, length, starts, words } = head;
        let beginning = bytes.get(..*length).unwrap_or(&[]);
        let start = script::look(path.to_bytes(), beginning);
        // What may not be executed fails as it would.
        if start == Start::Plain || !sys::is_program(path) {
            return false;
        }
        let (first, rest) = match start {
            Start::Plain => return false,
            Start::System => return self.substitute(path.to_bytes(), next),
            Start::Script(Line { interpreter, words }) => {
                if !self.substitute(interpreter, next) {
                    return false;
                }
                (interpreter, words)
            }
            Start::Find { name, words } => {
                let found = if name.contains(&b'/') {
                    next.set(&[name]) && next.is_program()
                } else {
                    self.variable("PATH").is_some_and(|folders| next.find(folders, name))
                };
                if !found {
                    return false;
                }
                (name, words)
            }
        };
        let base = beginning.as_ptr().addr();
        let mut ends = [0; WORDS];
        for word in core::iter::once(first).chain(rest) {
            let at = word.as_ptr().addr().wrapping_sub(base);
            let (Some(slot), Some(end)) = (starts.get_mut(*words), ends.get_mut(*words)) else {
                return false;
            };
            *slot = at;
            *end = at + word.len();
            *words += 1;
        }
        // Behind each word stands a blank or the end of the line.
        for end in ends.iter().take(*words) {
            if let Some(byte) = bytes.get_mut(*end) {
                *byte = 0;
            }
        }
        true
    }

    /// Finds what may be started in the place of the system's program at `path`.
    fn substitute(&self, path: &[u8], next: &mut Path) -> bool {
        if let Some(home) = self.kept(env::HOME)
            && next.set(&[home, b"/mac-tools/at", path])
            && next.is_program()
        {
            return true;
        }
        let own = self.variable(env::SHELL).or_else(|| self.kept(env::SHELL));
        for found in script::candidates(path, [own, self.variable(env::NPM_SHELL)]) {
            let separator: &[u8] = if found.folder.is_empty() { b"" } else { b"/" };
            if next.set(&[found.folder, separator, found.name]) && next.is_program() {
                return true;
            }
        }
        false
    }
}

// === impl Head ===

impl Head {
    /// The beginning of the file at `path`; nothing where it cannot be read.
    fn read(path: &CStr) -> Self {
        let _errno = Errno::keep();
        let mut head = Self { bytes: [0; script::HEAD_BYTES + 1], length: 0, starts: [0; WORDS], words: 0 };
        // A FIFO without a writer must not hold us up.
        if let Ok(fd) = sys::open(path, libc::O_RDONLY | libc::O_NONBLOCK, 0) {
            let room = head.bytes.get_mut(..script::HEAD_BYTES).unwrap_or(&mut []);
            head.length = sys::read(fd.number(), room).unwrap_or(0);
        }
        head
    }
}

// === impl Path ===

impl Path {
    const fn new() -> Self {
        Self { bytes: [0; PATH_BYTES], length: 0 }
    }

    /// Takes the parts; `false` where they do not fit.
    fn set(&mut self, parts: &[&[u8]]) -> bool {
        self.length = 0;
        for part in parts {
            let Some(end) = self.length.checked_add(part.len()).filter(|end| *end < PATH_BYTES) else {
                return false;
            };
            let Some(room) = self.bytes.get_mut(self.length..end) else { return false };
            for (to, from) in room.iter_mut().zip(*part) {
                *to = *from;
            }
            self.length = end;
        }
        if let Some(byte) = self.bytes.get_mut(self.length) {
            *byte = 0;
        }
        true
    }

    /// Looks for a program in a list of folders as execvp(3) does; an empty one is the working directory.
    fn find(&mut self, folders: &[u8], name: &[u8]) -> bool {
        let _errno = Errno::keep();
        for folder in folders.split(|byte| *byte == b':') {
            let folder = if folder.is_empty() { b".".as_slice() } else { folder };
            if self.set(&[folder, b"/", name]) && self.is_program() {
                return true;
            }
        }
        false
    }

    fn is_program(&self) -> bool {
        sys::is_program(self.as_c())
    }

    fn as_c(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or(c"")
    }
}
