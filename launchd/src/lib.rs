//! The sockets that launchd(8) opened for this process, by launch_activate_socket(3). macOS lets nobody but
//! root bind a loopback address below port 1024; launchd does it for us.
//!
//! A package of its own because the call hands out memory and descriptors by pointer, which takes unsafe code
//! (all of it in `call`), and that stays out of the collector and the command. Knows nothing of agentfs; called
//! by the command, which gives the sockets to the collector. Elsewhere than on macOS there are never any.

#[cfg(any(target_os = "macos", test))]
mod call;

#[cfg(target_os = "macos")]
use call::activate;
use std::ffi::CStr;
use std::io;
use std::os::fd::OwnedFd;

/// Sockets of the job's `Sockets` entry `name`, each with close-on-exec. None where launchd did not start this
/// process, or has no such entry for it, or has given them out before.
///
/// # Errors
/// What else launchd says.
pub fn sockets(name: &CStr) -> io::Result<Vec<OwnedFd>> {
    match activate(name) {
        Ok(sockets) => Ok(sockets),
        // Not a job of launchd; no such entry; given out before (launch_activate_socket(3)).
        Err(libc::ESRCH | libc::ENOENT | libc::EALREADY) => Ok(Vec::new()),
        Err(errno) => Err(io::Error::from_raw_os_error(errno)),
    }
}

#[cfg(not(target_os = "macos"))]
fn activate(_name: &CStr) -> Result<Vec<OwnedFd>, libc::c_int> {
    Err(libc::ESRCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_launchd_did_not_start_has_none() {
        assert!(sockets(c"http").unwrap().is_empty());
    }
}
