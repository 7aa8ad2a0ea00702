//! Answers of macOS.
use crate::sys::errno::Result;
use libc::c_int;

/// What connect(2) says to an inet address on a Unix socket (XNU, unp_connect).
pub(crate) const WRONG_FAMILY: c_int = libc::EAFNOSUPPORT;

/// Whether getsockopt(2) on a Unix socket looks at the name only and answers at every level. XNU does
/// (uipc_ctloutput): it would answer `TCP_NODELAY` with the peer's credentials, and `TCP_MAXSEG` with its process id.
pub(crate) const ANSWERS_ANY_LEVEL: bool = true;

/// The value for setsockopt that gives a buffer which reads back as `size`.
pub(crate) fn buffer_request(size: c_int) -> c_int {
    size
}

/// Whether a `SOL_SOCKET` option's answer tells a Unix socket from a TCP one.
pub(crate) fn is_telling(name: c_int) -> bool {
    matches!(name, libc::SO_REUSEPORT | libc::SO_SNDBUF | libc::SO_RCVBUF)
}

/// Only Linux has an option that answers as getpeername(2) does.
pub(crate) const PEER_NAME_OPTION: c_int = -1;

/// Only Linux has such options.
pub(crate) fn is_of_peer(_name: c_int) -> bool {
    false
}

/// As above.
pub(crate) fn take_back(_name: c_int, _answer: c_int) {}

/// Only Linux has `SO_PEERCRED`.
pub(crate) fn peer_answer(_name: c_int) -> Option<&'static [u8]> {
    None
}

/// What a TCP socket answers to such an option.
pub(crate) fn inet_answer(_name: c_int, _v6: bool) -> Option<c_int> {
    None
}

/// The TCP option whose answer starts with the state.
pub(crate) const INFO_OPTION: c_int = libc::TCP_CONNECTION_INFO;

/// macOS has no TCP option that is a text.
pub(crate) const TEXT_OPTION: c_int = -1;

/// As above.
pub(crate) fn text_of(_fd: c_int, _level: c_int, _name: c_int) -> [c_int; 4] {
    [0; 4]
}

/// The values of all options are kept as they are.
pub(crate) fn is_common(_level: c_int, _name: c_int) -> bool {
    true
}

/// A value as the kernel reads it back: `TCP_NODELAY` as its flag (tcp(4)).
pub(crate) fn as_read_back(_level: c_int, _name: c_int, value: c_int) -> Result<c_int> {
    Ok(value)
}
