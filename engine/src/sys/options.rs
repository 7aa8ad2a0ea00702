//! Socket options as plain bytes: the engine copies options that it need not understand.
#![expect(unsafe_code, reason = "getsockopt and setsockopt with any option")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// `F_SETSIG` and `F_GETSIG` (linux/fcntl.h).
const F_SETSIG: i32 = 10;
const F_GETSIG: i32 = 11;

/// Bytes of the longest option that is copied: a name of `TCP_CONGESTION`, a `timeval`.
pub(crate) const OPTION_BYTES: usize = 16;

/// The value of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Value {
    bytes: [u8; OPTION_BYTES],
    length: usize,
}

// === impl Value ===

impl Value {
    /// A number.
    pub(crate) fn number(number: i32) -> Self {
        let mut bytes = [0; OPTION_BYTES];
        for (to, from) in bytes.iter_mut().zip(number.to_ne_bytes()) {
            *to = from;
        }
        Self { bytes, length: 4 }
    }

    /// A text, at most as long as a value.
    pub(crate) fn text(text: &[u8]) -> Self {
        let mut bytes = [0; OPTION_BYTES];
        for (to, from) in bytes.iter_mut().zip(text) {
            *to = *from;
        }
        Self { bytes, length: text.len().min(OPTION_BYTES) }
    }

    /// It as a text that ends with a zero byte.
    pub(crate) fn as_text(&self) -> &[u8] {
        let text = self.bytes.get(..self.length).unwrap_or_default();
        text.split(|byte| *byte == 0).next().unwrap_or_default()
    }

    /// Its first byte.
    pub(crate) fn first(&self) -> u8 {
        let [first, ..] = self.bytes;
        first
    }

    /// It as a number, if it has the length of one.
    pub(crate) fn as_number(&self) -> Option<i32> {
        let bytes = self.bytes.first_chunk()?;
        (self.length == 4).then(|| i32::from_ne_bytes(*bytes))
    }
}

/// Reads an option.
///
/// # Errors
/// What the system says.
pub(crate) fn get(socket: impl AsFd, level: i32, name: i32) -> io::Result<Value> {
    get_sized(socket, level, name, OPTION_BYTES)
}

/// The same with a length that the kernel insists on.
fn get_sized(socket: impl AsFd, level: i32, name: i32, size: usize) -> io::Result<Value> {
    let mut bytes = [0_u8; OPTION_BYTES];
    let mut length = libc::socklen_t::try_from(size.min(OPTION_BYTES)).unwrap_or(0);
    // SAFETY: `bytes` has room for `length` bytes, and both live until the call returns.
    let result = unsafe {
        libc::getsockopt(socket.as_fd().as_raw_fd(), level, name, bytes.as_mut_ptr().cast(), &raw mut length)
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let length = usize::try_from(length).unwrap_or(0).min(OPTION_BYTES);
    Ok(Value { bytes, length })
}

/// Reads an option that is a number.
///
/// # Errors
/// What the system says.
pub(crate) fn get_number(socket: impl AsFd, level: i32, name: i32) -> io::Result<i32> {
    get(socket, level, name)?.as_number().ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))
}

/// Sets an option.
///
/// # Errors
/// What the system says.
pub(crate) fn set(socket: impl AsFd, level: i32, name: i32, value: &Value) -> io::Result<()> {
    let length = libc::socklen_t::try_from(value.length).unwrap_or(0);
    // SAFETY: `value` has at least `length` bytes and lives until the call returns.
    let result = unsafe {
        libc::setsockopt(socket.as_fd().as_raw_fd(), level, name, value.bytes.as_ptr().cast(), length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The cookie of a socket's network name space (`SO_NETNS_COOKIE`, Linux 5.14).
///
/// # Errors
/// What the system says.
pub(crate) fn network(socket: impl AsFd) -> io::Result<u64> {
    const SO_NETNS_COOKIE: i32 = 71;
    let value = get_sized(socket, libc::SOL_SOCKET, SO_NETNS_COOKIE, size_of::<u64>())?;
    let bytes = value.bytes.first_chunk().ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
    Ok(u64::from_ne_bytes(*bytes))
}

/// Carries over who gets a signal when something happens to a socket, and which (fcntl(2), `F_SETOWN`, `F_SETSIG`).
pub(crate) fn carry_signal(from: impl AsFd, to: impl AsFd) {
    let (from, to) = (from.as_fd().as_raw_fd(), to.as_fd().as_raw_fd());
    for (get, set) in [(libc::F_GETOWN, libc::F_SETOWN), (F_GETSIG, F_SETSIG)] {
        // SAFETY: these commands take and return integers.
        let value = unsafe { libc::fcntl(from, get) };
        // A negative value is a process group, and -1 is none that a program could have.
        if value != 0 && value != -1 {
            // SAFETY: as above.
            let _ = unsafe { libc::fcntl(to, set, value) };
        }
    }
}

/// socket(2) with the program's own arguments.
///
/// # Errors
/// What the system says.
pub(crate) fn socket(domain: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    // SAFETY: socket(2) takes three integers.
    let number = unsafe { libc::socket(domain, kind, protocol) };
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just opened it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Binds a socket to an address as the program spelled it, valid or not.
///
/// # Errors
/// What the system says.
pub(crate) fn bind(socket: impl AsFd, address: &[u8]) -> io::Result<()> {
    let length = libc::socklen_t::try_from(address.len()).unwrap_or(0);
    // SAFETY: `address` has `length` bytes and lives until the call returns.
    let result = unsafe { libc::bind(socket.as_fd().as_raw_fd(), address.as_ptr().cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Connects a socket.
///
/// # Errors
/// What the system says; `EINPROGRESS` for a socket that does not wait.
pub(crate) fn connect(socket: impl AsFd, address: &[u8]) -> io::Result<()> {
    let length = libc::socklen_t::try_from(address.len()).unwrap_or(0);
    // SAFETY: `address` has `length` bytes and lives until the call returns.
    let result = unsafe { libc::connect(socket.as_fd().as_raw_fd(), address.as_ptr().cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// listen(2) with the program's own backlog, negative or not.
///
/// # Errors
/// What the system says.
pub(crate) fn listen(socket: impl AsFd, backlog: i32) -> io::Result<()> {
    // SAFETY: listen(2) takes two integers.
    let result = unsafe { libc::listen(socket.as_fd().as_raw_fd(), backlog) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
