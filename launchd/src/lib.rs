//! The sockets that launchd(8) opened for this process, by launch_activate_socket(3). On macOS only root may
//! bind a loopback address below port 1024; launchd does it for us.
//!
//! A separate package, because the call returns memory and descriptors by pointer. That needs unsafe code
//! (all of it in `call`), which the collector and the command do not have. Does not know agentfs. Called by
//! the command, which gives the sockets to the collector. On systems other than macOS there are never any.

#[cfg(any(target_os = "macos", test))]
mod call;

#[cfg(target_os = "macos")]
use call::activate;
use std::ffi::CStr;
use std::io;
use std::os::fd::OwnedFd;

/// Sockets of the job's `Sockets` entry `name`, each with close-on-exec. None if launchd did not start this
/// process, has no such entry for it, or has already returned them.
///
/// # Errors
/// Any other error of launchd.
pub fn sockets(name: &CStr) -> io::Result<Vec<OwnedFd>> {
    match activate(name) {
        Ok(sockets) => Ok(sockets),
        // Not a job of launchd; no such entry; already returned (launch_activate_socket(3)).
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
