//! The system calls that agentfs makes for itself. They never pass through a hook: Linux uses the raw
//! system call, macOS calls libSystem, which dyld leaves alone in the interposing image. Every function
//! returns `Err(errno)`; callers that must keep the program's errno use [`Errno`].
#![expect(unsafe_code, reason = "system calls")]

#[cfg(not(target_vendor = "apple"))]
use libc::c_char;
use libc::{c_int, c_void, sockaddr, socklen_t};

#[cfg(target_os = "linux")]
#[path = "sys/linux.rs"]
mod platform;
#[cfg(target_os = "macos")]
#[path = "sys/macos.rs"]
mod platform;

#[cfg(target_os = "linux")]
#[path = "sys/answers/linux.rs"]
mod answers;
#[cfg(target_os = "macos")]
#[path = "sys/answers/macos.rs"]
mod answers;

pub(crate) use crate::header::{family_of, socklen};
pub(crate) use answers::*;
pub(crate) use platform::*;

/// A result whose error is an errno.
pub(crate) type Result<T> = core::result::Result<T, c_int>;

/// A descriptor of ours: closed when it goes out of scope, unless it is given away.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fd(c_int);

// === impl Fd ===

impl Fd {
    /// Takes over a descriptor that nobody else closes.
    pub(crate) fn owned(number: c_int) -> Self {
        Self(number)
    }

    /// Its number.
    pub(crate) fn number(&self) -> c_int {
        self.0
    }

    /// Gives it to the program.
    pub(crate) fn give(self) -> c_int {
        let number = self.0;
        core::mem::forget(self);
        number
    }
}

impl Drop for Fd {
    fn drop(&mut self) {
        let _errno = Errno::keep();
        platform::close(self.0);
    }
}

/// Keeps the program's errno over calls of ours: restored on drop.
pub(crate) struct Errno(c_int);

// === impl Errno ===

impl Errno {
    /// Remembers the present errno.
    pub(crate) fn keep() -> Self {
        Self(errno())
    }
}

impl Drop for Errno {
    fn drop(&mut self) {
        set_errno(self.0);
    }
}

/// The calling thread's errno.
pub(crate) fn errno() -> c_int {
    // SAFETY: the location is valid for the life of the thread.
    unsafe { *errno_location() }
}

/// Sets the calling thread's errno.
pub(crate) fn set_errno(errno: c_int) {
    // SAFETY: the location is valid for the life of the thread.
    unsafe { *errno_location() = errno }
}

/// Fails a hooked call: sets errno and returns -1.
pub(crate) fn fail(errno: c_int) -> c_int {
    set_errno(errno);
    -1
}

/// The next definition of a symbol after this library, or null. `name` ends in NUL.
#[cfg(not(target_vendor = "apple"))]
pub(crate) fn next_symbol(name: &str) -> *mut c_void {
    let _errno = Errno::keep();
    // SAFETY: `name` ends in NUL, as every caller's literal does.
    unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr().cast::<c_char>()) }
}

/// Ends the process. Only the panic handler, which nothing reaches, calls it.
#[cfg(panic = "abort")]
#[cfg_attr(test, expect(dead_code, reason = "the panic handler of std is used under test"))]
pub(crate) fn abort() -> ! {
    // SAFETY: abort takes no arguments.
    unsafe { libc::abort() }
}

/// An int option of a socket.
pub(crate) fn option(fd: c_int, level: c_int, name: c_int) -> Result<c_int> {
    let mut value: c_int = 0;
    let mut length = socklen(size_of::<c_int>());
    get_option(fd, level, name, (&raw mut value).cast::<c_void>(), &mut length)?;
    Ok(value)
}

/// Sets an int option of a socket.
pub(crate) fn set_option(fd: c_int, level: c_int, name: c_int, value: c_int) -> Result<()> {
    set_option_raw(fd, level, name, (&raw const value).cast::<c_void>(), socklen(size_of::<c_int>()))
}

/// Whether a socket listens. Linux answers 1, macOS the option's own bit.
pub(crate) fn is_listening(fd: c_int) -> bool {
    option(fd, libc::SOL_SOCKET, libc::SO_ACCEPTCONN).is_ok_and(|value| value != 0)
}

/// Copies the value of one option from one socket to another, up to 16 bytes (timeval, linger, int).
pub(crate) fn copy_option(from: c_int, to: c_int, level: c_int, name: c_int) {
    let mut value = [0_u64; 2];
    let mut length = socklen(size_of_val(&value));
    let value = value.as_mut_ptr().cast::<c_void>();
    if get_option(from, level, name, value, &mut length).is_ok() {
        let _ = set_option_raw(to, level, name, value, length);
    }
}

/// A file's status flags (`O_NONBLOCK` …).
pub(crate) fn status_flags(fd: c_int) -> Result<c_int> {
    control(fd, libc::F_GETFL, 0)
}

/// Whether `path` (NUL-terminated) is there.
pub(crate) fn exists(path: &core::ffi::CStr) -> bool {
    access(path).is_ok()
}

/// Memory that is mapped for one call, zeroed: where it may be too much for a stack.
pub(crate) struct Memory {
    address: usize,
    length: usize,
}

// === impl Memory ===

impl Memory {
    /// Memory for this many bytes.
    pub(crate) fn of(length: usize) -> Option<Self> {
        platform::map_memory(length).map(|address| Self { address, length })
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        let start = core::ptr::with_exposed_provenance::<u8>(self.address);
        // SAFETY: the mapping has `length` initialised bytes, lives as long as `self` and is nobody else's.
        unsafe { core::slice::from_raw_parts(start, self.length) }
    }

    /// The bytes, to be written.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        let start = core::ptr::with_exposed_provenance_mut::<u8>(self.address);
        // SAFETY: as above, and borrowed exclusively.
        unsafe { core::slice::from_raw_parts_mut(start, self.length) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `of`; borrows of it end before `self` does.
        unsafe { platform::unmap_memory(self.address, self.length) };
    }
}

/// The name of a socket, own or peer, as the kernel gives it.
pub(crate) struct RawName {
    bytes: [u64; 16],
    length: usize,
}

// === impl RawName ===

impl RawName {
    /// An empty name to be filled in.
    pub(crate) fn new() -> Self {
        Self { bytes: [0; 16], length: 0 }
    }

    /// Where a system call may write up to [`RawName::room`] bytes.
    pub(crate) fn pointer(&mut self) -> *mut sockaddr {
        self.bytes.as_mut_ptr().cast::<sockaddr>()
    }

    /// Bytes that fit: more than any socket name of the kernel's.
    pub(crate) fn room() -> socklen_t {
        socklen(size_of::<[u64; 16]>())
    }

    /// Says how much a system call wrote.
    pub(crate) fn set_length(&mut self, length: socklen_t) {
        self.length = usize::try_from(length).unwrap_or(0).min(size_of::<[u64; 16]>());
    }

    /// The name's bytes, family first.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the array is initialised, `length` is at most its size, and bytes have no alignment.
        unsafe { core::slice::from_raw_parts(self.bytes.as_ptr().cast::<u8>(), self.length) }
    }
}
