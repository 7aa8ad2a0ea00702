//! Which program is really started. On macOS the system's own programs do not load the library (System Integrity
//! Protection). So another one is started instead, by the rules of [`agentfs_wire::script`]:
//! - for a script with `env` in its first line, the interpreter that `env` would find,
//! - for a shell of the system, another shell,
//! - for any program of the system, the copy that `agentfs mac-tools` made of it.
//!
//! If there is none of these, and on Linux, the program is started that was asked for.
//!
//! This may run in the child of vfork(2) or in a signal handler: everything is on the stack, nothing is allocated.
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;

use crate::environment::Strings;
use libc::c_char;
#[cfg(target_os = "linux")]
pub(super) use linux::start;
#[cfg(target_os = "macos")]
pub(super) use macos::start;

/// Where a bare name is searched.
#[derive(Clone, Copy)]
pub(super) enum Search {
    /// Nowhere: it is a path.
    Nowhere,
    /// Along the process's own `PATH`.
    Path,
    /// Along a list of folders.
    #[cfg(target_os = "macos")]
    Folders(*const c_char),
}

/// What is started.
#[derive(Clone, Copy)]
pub(super) struct Started {
    /// The file. If it is `changed`, a path.
    pub(super) program: *const c_char,
    /// Where it was found, or NULL.
    #[cfg(target_os = "macos")]
    pub(super) found: *const c_char,
    /// Its arguments.
    pub(super) arguments: Strings,
    /// Whether it is another program than the one that was asked for.
    pub(super) changed: bool,
}
