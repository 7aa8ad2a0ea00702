//! The arguments of a program that loses the variables when it starts, as System Integrity Protection makes it: they are
//! written so that the variables are set again behind it. [`agentfs_wire::carry`] says how. On Linux only tests have such
//! programs.
//!
//! This may run in a signal handler or after fork(2). Nothing is allocated: what is written is in a mapping of its own.
#![expect(unsafe_code, reason = "reads the program's own strings and makes an array of them")]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "one contract covers a call and what it is wrapped in"
)]
#![cfg_attr(all(test, target_os = "linux"), expect(dead_code, reason = "no hook calls it under test"))]

use super::super::started::{Search, Started};
use super::carried::Carried;
use crate::config;
use crate::environment::{self, Strings, entries, value_of};
use crate::sys::{self, Errno, Memory};
use agentfs_wire::carry::{Command, Files, Found, Piece};
use core::ffi::CStr;
use libc::c_char;

/// Bytes that macOS has for arguments and environment (`ARG_MAX`), some of them for what the kernel adds. A program for
/// which they would not be enough is started unchanged.
const ARGUMENT_BYTES: usize = 1024 * 1024 - 8192;

/// Bytes of a pointer.
const POINTER_BYTES: usize = size_of::<*const c_char>();

/// Finds programs as one with this environment does.
pub(super) struct Lookup {
    /// NULL or an array of C strings that ends in NULL.
    pub(super) environment: Strings,
}

/// A program's path and its arguments.
struct Written {
    memory: Memory,
    /// Where the path is.
    path: usize,
}

/// Calls `call` with what is started instead of `it`.
///
/// # Safety
/// The strings and arrays are as execve(2) wants them.
pub(super) unsafe fn with_arguments<T>(
    it: Started,
    environment: Strings,
    search: Search,
    call: impl FnOnce(Started) -> T,
) -> T {
    // SAFETY: the caller vouches for all of them.
    let Some(written) = (unsafe { written(&it, environment, search) }) else { return call(it) };
    let mut instead = it;
    instead.program = written.path();
    instead.arguments = written.memory.bytes().as_ptr().cast::<*const c_char>();
    instead.changed = true;
    call(instead)
}

/// Writes what is started instead of `it`; `None`: nothing is.
///
/// # Safety
/// As [`with_arguments`].
#[inline(never)]
unsafe fn written(it: &Started, environment: Strings, search: Search) -> Option<Written> {
    let config = config::get()?;
    #[cfg(target_os = "linux")]
    stand_ins()?;
    if it.program.is_null() || it.arguments.is_null() {
        return None;
    }
    let _errno = Errno::keep();
    let mut program = Found::new();
    // SAFETY: the caller vouches for the strings.
    if !unsafe { find(it, search, &mut program) } {
        return None;
    }
    let files = Lookup { environment };
    // A quick look: most programs are neither.
    if !files.protects(program.path()) && !program.head().starts_with(b"#!") {
        return None;
    }
    // SAFETY: the caller vouches for the array.
    let carried = unsafe { Carried::of(config, environment) }?;
    let mut count = 0;
    // SAFETY: the array ends in NULL, which was not reached yet.
    while !unsafe { *it.arguments.add(count) }.is_null() {
        count += 1;
    }
    let argument = |index: usize| {
        // SAFETY: there are `count` C strings.
        (index < count).then(|| unsafe { CStr::from_ptr(*it.arguments.add(index)) }.to_bytes())
    };
    let variables = |each: &mut dyn FnMut(&[u8], &[u8])| carried.all(each);
    let command = Command {
        program: &program,
        argument: &argument,
        variables: &variables,
        files: &files,
        lost: &|_| {},
    };
    let (mut strings, mut bytes) = (0_usize, 0_usize);
    let changes = command.carry(&mut |piece| match piece {
        Piece::Bytes(part) => bytes += part.len(),
        Piece::End => strings += 1,
    });
    // The path is not an argument; NULL ends the array.
    let (pointers, bytes) = (strings * POINTER_BYTES, bytes + strings);
    // SAFETY: the caller vouches for the array.
    let others: usize =
        unsafe { entries(environment) }.map(|entry| entry.count_bytes() + 1 + POINTER_BYTES).sum();
    if !changes || pointers + bytes + others > ARGUMENT_BYTES {
        return None;
    }
    let mut memory = Memory::of(pointers + bytes)?;
    let base = memory.bytes().as_ptr().expose_provenance();
    let (mut array, mut texts) = memory.bytes_mut().split_at_mut_checked(pointers)?;
    let mut start = pointers;
    let mut end = start;
    let mut is_path = true;
    command.carry(&mut |piece| match piece {
        Piece::Bytes(part) => {
            texts = put(core::mem::take(&mut texts), part);
            end += part.len();
        }
        Piece::End => {
            // Mapped memory is zeroed, so the NUL is there.
            texts = core::mem::take(&mut texts).get_mut(1..).unwrap_or(&mut []);
            if !is_path {
                array = put(core::mem::take(&mut array), &(base + start).to_ne_bytes());
            }
            is_path = false;
            end += 1;
            start = end;
        }
    });
    Some(Written { memory, path: pointers })
}

/// Copies bytes to the beginning of a place; what is left of it.
fn put<'p>(place: &'p mut [u8], bytes: &[u8]) -> &'p mut [u8] {
    for (to, from) in place.iter_mut().zip(bytes) {
        *to = *from;
    }
    place.get_mut(bytes.len()..).unwrap_or(&mut [])
}

/// Where the program is, and its first bytes.
///
/// # Safety
/// As [`with_arguments`].
unsafe fn find(it: &Started, search: Search, program: &mut Found) -> bool {
    #[cfg(target_os = "macos")]
    let path = if it.changed || it.found.is_null() { it.program } else { it.found };
    #[cfg(target_os = "linux")]
    let path = it.program;
    // SAFETY: the caller vouches for the string.
    let path = unsafe { CStr::from_ptr(path) }.to_bytes();
    if !path.contains(&b'/') && matches!(search, Search::Path) {
        return Lookup { environment: environment::own() }.find(path, program);
    }
    program.set_path(&[path]) && look(program)
}

/// Reads the first bytes of a program. `false`: it may not be executed.
fn look(program: &mut Found) -> bool {
    if !sys::is_program(program.path_c()) {
        return false;
    }
    // A FIFO without a writer must not hold us up.
    if let Ok(fd) = sys::open(program.path_c(), libc::O_RDONLY | libc::O_NONBLOCK, 0) {
        program.set_head(|room| sys::read(fd.number(), room).unwrap_or(0));
    }
    true
}

/// The folder of the programs that count as protected.
#[cfg(target_os = "linux")]
fn stand_ins() -> Option<&'static [u8]> {
    let mut kept = config::get()?.kept().map(CStr::to_bytes);
    kept.find_map(|entry| value_of(entry, agentfs_wire::env::STAND_INS))
}

// === impl Written ===

impl Written {
    fn path(&self) -> *const c_char {
        self.memory.bytes().get(self.path..).unwrap_or(&[0]).as_ptr().cast::<c_char>()
    }
}

// === impl Lookup ===

impl Files for Lookup {
    #[cfg(target_os = "macos")]
    fn protects(&self, path: &[u8]) -> bool {
        agentfs_wire::script::is_system(path)
    }

    #[cfg(target_os = "linux")]
    fn protects(&self, path: &[u8]) -> bool {
        stand_ins().and_then(|folder| path.strip_prefix(folder)).is_some_and(|rest| rest.starts_with(b"/"))
    }

    fn find(&self, name: &[u8], found: &mut Found) -> bool {
        if name.contains(&b'/') {
            return found.set_path(&[name]) && look(found);
        }
        // SAFETY: whoever made this vouches for the environment.
        let path = unsafe { entries(self.environment) }.find_map(|entry| value_of(entry.to_bytes(), "PATH"));
        path.is_some_and(|folders| {
            folders.split(|byte| *byte == b':').any(|folder| {
                // An empty one is the working directory.
                let folder = if folder.is_empty() { b".".as_slice() } else { folder };
                found.set_path(&[folder, b"/", name]) && look(found)
            })
        })
    }

    fn is_file(&self, path: &[u8]) -> bool {
        let mut file = Found::new();
        file.set_path(&[path]) && sys::open(file.path_c(), libc::O_RDONLY | libc::O_NONBLOCK, 0).is_ok()
    }
}
