//! What a program starts when it starts another. On macOS the system's own programs lose the library (System
//! Integrity Protection), so a script is started by the interpreter that it asks `env` for, a shell of the system
//! by another shell, and any of them by the copy that `agentfs mac-tools` made of it, by the rules of
//! [`agentfs_wire::script`]. Where there is nothing to start instead, and on Linux, it is what was asked for.
//!
//! May run in the child of vfork(2) or in a signal handler: everything is on the stack, nothing is allocated.
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

/// Where a bare name is looked for.
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
    /// The file. A path where it is `changed`.
    pub(super) program: *const c_char,
    /// Where it was found, or NULL.
    #[cfg(target_os = "macos")]
    pub(super) found: *const c_char,
    /// Its arguments.
    pub(super) arguments: Strings,
    /// Whether it is another program than was asked for.
    pub(super) changed: bool,
}
