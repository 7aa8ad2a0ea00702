//! The call itself, and its results.
#![expect(unsafe_code, reason = "the C interface gives descriptors in memory that the caller frees")]

use libc::c_int;
use std::os::fd::{FromRawFd, OwnedFd};

/// Returns the descriptors, or the error number.
#[cfg(target_os = "macos")]
pub(super) fn activate(name: &std::ffi::CStr) -> Result<Vec<OwnedFd>, c_int> {
    use libc::{c_char, size_t};
    // launch.h, in libSystem since macOS 10.10.
    unsafe extern "C" {
        fn launch_activate_socket(
            name: *const c_char,
            descriptors: *mut *mut c_int,
            count: *mut size_t,
        ) -> c_int;
    }
    let mut descriptors = std::ptr::null_mut();
    let mut count = 0;
    // SAFETY: `name` ends with a NUL; both results are ours to write to and live beyond the call.
    let errno = unsafe { launch_activate_socket(name.as_ptr(), &raw mut descriptors, &raw mut count) };
    if errno != 0 {
        return Err(errno);
    }
    // SAFETY: on success these are `count` open descriptors that nobody else has, in memory of malloc(3).
    Ok(unsafe { adopt(descriptors, count) })
}

/// Owns `count` descriptors and frees the memory that they came in.
///
/// # Safety
/// `descriptors` is null, or from malloc(3) with `count` open descriptors that nobody else owns, and is not
/// used afterwards.
unsafe fn adopt(descriptors: *mut c_int, count: usize) -> Vec<OwnedFd> {
    if descriptors.is_null() {
        return Vec::new();
    }
    // SAFETY: the caller's word for `count` of them, read before they are freed.
    let list = unsafe { std::slice::from_raw_parts(descriptors, count) };
    let owned = list
        .iter()
        .map(|descriptor| {
            // SAFETY: sets a flag of a descriptor that is open by the caller's word.
            unsafe { libc::fcntl(*descriptor, libc::F_SETFD, libc::FD_CLOEXEC) };
            // SAFETY: open, and nobody else's, by the caller's word.
            unsafe { OwnedFd::from_raw_fd(*descriptor) }
        })
        .collect();
    // SAFETY: from malloc(3) by the caller's word; `list` is not used any more.
    unsafe { libc::free(descriptors.cast()) };
    owned
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::IntoRawFd;

    /// What launchd would return, in memory from malloc.
    fn handed_out(listeners: Vec<TcpListener>) -> (*mut c_int, usize) {
        let count = listeners.len();
        // SAFETY: room for `count` descriptors, freed by `adopt`.
        let memory: *mut c_int = unsafe { libc::calloc(count, size_of::<c_int>()) }.cast();
        assert!(!memory.is_null());
        for (index, listener) in listeners.into_iter().enumerate() {
            // SAFETY: `index` is below `count`.
            let place = unsafe { memory.add(index) };
            // SAFETY: within the memory, aligned for it by calloc.
            unsafe { place.write(listener.into_raw_fd()) };
        }
        (memory, count)
    }

    #[test]
    fn descriptors_that_were_handed_out_are_owned() {
        let listeners: Vec<_> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
        let (memory, count) = handed_out(listeners);
        // SAFETY: made just now, for this.
        let adopted = unsafe { adopt(memory, count) };
        for (socket, address) in adopted.into_iter().zip(&addresses) {
            let listener = TcpListener::from(socket);
            assert_eq!(listener.local_addr().unwrap(), *address);
            TcpStream::connect(address).unwrap();
            drop(listener);
            assert!(TcpStream::connect(address).is_err(), "closed with its owner");
        }
        // SAFETY: null is allowed.
        assert!(unsafe { adopt(std::ptr::null_mut(), 0) }.is_empty());
    }
}
