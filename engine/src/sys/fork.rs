//! fork(2) of a process that has one thread.
#![expect(unsafe_code, reason = "fork")]

use nix::unistd::ForkResult;
use std::io;

/// Forks. The caller has one thread: a supervisor that has just started.
///
/// # Errors
/// What the system says.
pub(crate) fn fork() -> io::Result<ForkResult> {
    // SAFETY: with one thread there is no lock that another one could hold in the child.
    Ok(unsafe { nix::unistd::fork() }?)
}
