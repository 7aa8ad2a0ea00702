//! Removing files, or giving them to another socket, under the run dir's lock.
use super::behind::{Behind, Prober};
use super::lock::Lock;
use crate::config::Config;
use crate::names;
#[cfg(target_os = "linux")]
use crate::rawaddr::UnixName;
use crate::sys::{self, Blocked};
#[cfg(target_os = "linux")]
use libc::c_int;

/// Gives the file of a socket of this process to another socket.
#[cfg(target_os = "linux")]
pub(crate) fn rebind(config: &Config, socket: c_int, name: &UnixName) -> sys::Result<()> {
    /// Times that somebody who ignores the lock may restore the old file in between.
    const TRIES: u32 = 8;
    let _blocked = Blocked::all();
    let lock = Lock::take(config)?;
    let mut result = Err(libc::EADDRINUSE);
    for _ in 0..TRIES {
        result = match sys::unlink(name.c_path()) {
            Ok(()) | Err(libc::ENOENT) => sys::bind(socket, name.bytes()),
            refused => refused,
        };
        if result != Err(libc::EADDRINUSE) {
            break;
        }
    }
    drop(lock);
    if result.is_ok() {
        sys::announce(name);
    }
    result
}

/// Removes the file of a socket that is still bound to it and will be closed.
pub(crate) fn release(config: &Config, file: &[u8]) {
    let name = names::path_of(config, file, false);
    let _blocked = Blocked::all();
    if let Ok(lock) = Lock::take(config) {
        let _ = sys::unlink(name.c_path());
        drop(lock);
    }
}

/// Removes the file of a socket that was replaced, unless another process still has the socket.
pub(crate) fn release_stale(config: &Config, file: &[u8]) {
    let name = names::path_of(config, file, false);
    let _blocked = Blocked::all();
    if let Ok(lock) = Lock::take(config) {
        if Prober::new().ask(config, &name) == Behind::Stale {
            let _ = sys::unlink(name.c_path());
        }
        drop(lock);
    }
}
