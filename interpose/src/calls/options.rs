//! getsockopt(2), setsockopt(2): a rewritten socket has those options of TCP that can matter.
//!
//! The real call comes first. Its answer may show that the socket is a Unix one (a domain, a protocol, an option
//! that Unix sockets lack). Only then the socket is looked at, so that no other socket pays for it.
#![expect(unsafe_code, reason = "carries out hooked calls")]

use super::tcp_info::Info;
use crate::config::{self, Config};
use crate::facts::{self, Fact};
use crate::hints;
use crate::known::{self, Known};
use crate::options::{self, Key};
use crate::rawaddr::{Encoded, is_nowhere};
use crate::real;
use crate::room;
use crate::sys::{self, Errno};
use agentfs_wire::address::Scope;
use libc::{c_int, c_void, socklen_t};

/// getsockopt(2).
///
/// # Safety
/// As getsockopt(2).
pub(crate) unsafe fn getsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    length: *mut socklen_t,
) -> c_int {
    let before = sys::errno();
    let overwritten = sys::ANSWERS_ANY_LEVEL && is_protocol(level) && !is_nowhere(length);
    // SAFETY: before the kernel, for a length outside the first page: the kernel writes another one there.
    let room = overwritten.then(|| unsafe { length.read_unaligned() });
    // SAFETY: the program's own arguments.
    let result = unsafe { real::getsockopt(fd, level, name, value, length) };
    let Some(config) = config::get() else { return result };
    // SAFETY: where the call has succeeded, the kernel has written the length, and as many bytes of the value.
    let size = unsafe { size_of_buffer(level, name, value, length, result) };
    if !gives_away(level, name, result)
        || size.is_some_and(|size| hints::is_datagram(fd) || !room::may_be_ours(name, size))
    {
        return result;
    }
    if level == libc::SOL_SOCKET && result != 0 && sys::errno() == libc::EFAULT && !sys::is_of_peer(name) {
        // The kernel has checked both pointers, and one is bad.
        return result;
    }
    if is_nowhere(value) || is_nowhere(length) {
        if result != 0 && is_rewritten(config, fd) {
            sys::set_errno(libc::EFAULT);
        }
        return result;
    }
    let errno = Errno::keep();
    let fact = facts::of(config, fd);
    let Some(v6) = fact.rewritten() else { return result };
    if level == libc::SOL_SOCKET && sys::is_of_peer(name) {
        // SAFETY: where the kernel has answered, it has written the length.
        let written = if result == 0 { unsafe { length.read_unaligned() } } else { 0 };
        // SAFETY: and that many bytes.
        if let Some(answer) = unsafe { number(value, written) } {
            sys::take_back(name, answer);
        }
        drop(errno);
        return sys::fail(libc::ENODATA);
    }
    // If the kernel has answered, the length is the size of its answer, cut to the room for it. Ours has the same size.
    // SAFETY: it has written the length then. Otherwise before the kernel, for a length outside the first page: it has
    // said that there is no such option before it looked.
    let room = room.unwrap_or_else(|| unsafe { length.read_unaligned() });
    if level == libc::SOL_SOCKET && name == sys::PEER_NAME_OPTION {
        drop(errno);
        let Some(peer) = super::names::peer_of(config, fd) else { return sys::fail(libc::ENOTCONN) };
        let peer = Encoded::of(peer);
        // The kernel gives as much as is asked for, and no more than there is.
        let Some(asked) = usize::try_from(room).ok().and_then(|room| peer.bytes().get(..room)) else {
            return sys::fail(libc::EINVAL);
        };
        sys::set_errno(before);
        // SAFETY: before the kernel, for a value outside the first page that the program has said to have as many bytes.
        unsafe { core::ptr::copy_nonoverlapping(asked.as_ptr(), value.cast::<u8>(), asked.len()) };
        return 0;
    }
    let answer = if level == libc::SOL_SOCKET {
        socket_option(fd, name, v6, fact, size)
    } else {
        protocol_option(fd, fact, level, name)
    };
    drop(errno);
    match answer {
        None if level == libc::SOL_SOCKET => result,
        None => sys::fail(libc::ENOPROTOOPT),
        Some(_) if room.cast_signed() < 0 => sys::fail(libc::EINVAL),
        Some(answer) => {
            sys::set_errno(before);
            // SAFETY: of `SOL_SOCKET`, the kernel has written as much there. Of TCP and IP, before the kernel, for a
            // value outside the first page that the program has said to have `room` bytes.
            unsafe { answer.give(value, length, room) };
            0
        }
    }
}

/// What was answered to `SO_SNDBUF` or `SO_RCVBUF`.
///
/// # Safety
/// Where `result` is 0, the kernel has written `length` and that many bytes of `value`.
unsafe fn size_of_buffer(
    level: c_int,
    name: c_int,
    value: *const c_void,
    length: *const socklen_t,
    result: c_int,
) -> Option<c_int> {
    if level != libc::SOL_SOCKET || !matches!(name, libc::SO_SNDBUF | libc::SO_RCVBUF) || result != 0 {
        return None;
    }
    // SAFETY: as the caller vouches.
    let written = unsafe { length.read_unaligned() };
    // SAFETY: as the caller vouches.
    unsafe { number(value, written) }
}

fn is_protocol(level: c_int) -> bool {
    matches!(level, libc::IPPROTO_TCP | libc::IPPROTO_IP | libc::IPPROTO_IPV6)
}

/// Whether the kernel's answer may show that a socket is a Unix one.
fn gives_away(level: c_int, name: c_int, result: c_int) -> bool {
    if level == libc::SOL_SOCKET {
        return sys::is_telling(name);
    }
    if is_protocol(level) && sys::ANSWERS_ANY_LEVEL {
        return true;
    }
    is_protocol(level)
        && result != 0
        && matches!(sys::errno(), libc::EOPNOTSUPP | libc::ENOPROTOOPT | libc::EINVAL)
}

/// An answer that we give.
enum Answer {
    Number(c_int),
    /// `TCP_INFO` of this connection or listener.
    Info(c_int, Fact),
    Text(&'static [u8]),
    /// A name of 16 bytes.
    Words([c_int; 4]),
}

// === impl Answer ===

impl Answer {
    /// # Safety
    /// `value` has `room` bytes, and `length` can be written.
    unsafe fn give(self, value: *mut c_void, length: *mut socklen_t, room: socklen_t) {
        let number;
        let name;
        let info;
        let bytes: &[u8] = match self {
            Self::Number(answer) => {
                number = answer.to_ne_bytes();
                &number
            }
            Self::Info(fd, fact) => {
                info = Info::of(fd, fact);
                info.bytes()
            }
            Self::Text(text) => text,
            Self::Words(ref words) => {
                name = options::bytes_of(words);
                &name
            }
        };
        let count = usize::try_from(room).unwrap_or(0).min(bytes.len());
        // SAFETY: the caller vouches for `room` >= `count` bytes.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), value.cast::<u8>(), count) };
        // SAFETY: the caller vouches for `length`.
        unsafe { length.write_unaligned(sys::socklen(count)) };
    }
}

fn socket_option(fd: c_int, name: c_int, v6: bool, fact: Fact, size: Option<c_int>) -> Option<Answer> {
    if matches!(name, libc::SO_SNDBUF | libc::SO_RCVBUF) {
        return room::answer(fd, fact, name, size?).map(Answer::Number);
    }
    if name == libc::SO_REUSEPORT {
        let set = sys::inode(fd).and_then(|inode| options::get(inode, Key::Option(libc::SOL_SOCKET, name)));
        let shared = match set {
            Some(value) => value != 0,
            None => matches!(fact, Fact::Listener(listener) if listener.shared),
        };
        return Some(Answer::Number(c_int::from(shared)));
    }
    if let Some(nobody) = sys::peer_answer(name) {
        return Some(Answer::Text(nobody));
    }
    sys::inet_answer(name, v6).map(Answer::Number)
}

fn protocol_option(fd: c_int, fact: Fact, level: c_int, name: c_int) -> Option<Answer> {
    if level == libc::IPPROTO_IPV6 && fact.rewritten() != Some(true) {
        return None;
    }
    if level == libc::IPPROTO_TCP {
        if name == sys::INFO_OPTION {
            return Some(Answer::Info(fd, fact));
        }
        if name == sys::TEXT_OPTION {
            return Some(Answer::Words(options::text(sys::inode(fd)?).unwrap_or_else(options::usual_text)));
        }
    }
    let known = known::find(level, name)?;
    if level == libc::IPPROTO_IPV6
        && name == libc::IPV6_V6ONLY
        && let Fact::Listener(listener) = fact
        && listener.scope == Scope::AnyV6
    {
        return Some(Answer::Number(1));
    }
    let value = sys::inode(fd)
        .and_then(|inode| options::get(inode, Key::Option(level, name)))
        .unwrap_or(known.default);
    Some(Answer::Number(value))
}

/// setsockopt(2).
///
/// # Safety
/// As setsockopt(2).
pub(crate) unsafe fn setsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *const c_void,
    length: socklen_t,
) -> c_int {
    let before = sys::errno();
    // SAFETY: the program's own arguments.
    let result = unsafe { real::setsockopt(fd, level, name, value, length) };
    if result == 0 {
        // SAFETY: the call has succeeded, so the kernel has read as much of the value.
        hints::option_set(fd, level, name, unsafe { number(value, length) });
    }
    let Some(config) = config::get() else { return result };
    if level == libc::SOL_SOCKET {
        if result == 0 && known::is_handed_on(name) {
            let _errno = Errno::keep();
            if let Fact::Listener(_) = facts::of(config, fd) {
                options::note_set(fd, name);
            }
        }
        // Since Linux 6.12 a Unix socket refuses it. After bind the socket joins no group, but the value reads back.
        let lacking = result != 0 && sys::errno() == libc::EOPNOTSUPP;
        if name != libc::SO_REUSEPORT || !(result == 0 || lacking) || !is_rewritten(config, fd) {
            return result;
        }
        // SAFETY: the kernel reads the value before it looks for the option, and would have said EFAULT.
        if let (Some(value), Some(inode)) = (unsafe { number(value, length) }, sys::inode(fd)) {
            options::set(inode, Key::Option(level, name), c_int::from(value != 0));
        }
        sys::set_errno(before);
        return 0;
    }
    if !gives_away(level, name, result) {
        return result;
    }
    let errno = Errno::keep();
    let fact = facts::of(config, fd);
    let Some(v6) = fact.rewritten() else { return result };
    // SAFETY: before the kernel, which has refused the level without a look at the value; the program has said that it
    // has `length` bytes.
    let outcome = unsafe { keep(fd, v6, level, name, value, length) };
    drop(errno);
    match outcome {
        Ok(()) => {
            sys::set_errno(before);
            0
        }
        Err(reason) => sys::fail(reason),
    }
}

/// # Safety
/// `value` has `length` bytes.
unsafe fn number(value: *const c_void, length: socklen_t) -> Option<c_int> {
    if value.is_null() || usize::try_from(length).ok()? < size_of::<c_int>() {
        return None;
    }
    // SAFETY: the caller vouches for at least four bytes.
    Some(unsafe { value.cast::<c_int>().read_unaligned() })
}

fn is_rewritten(config: &Config, fd: c_int) -> bool {
    let _errno = Errno::keep();
    facts::of(config, fd).rewritten().is_some()
}

/// # Safety
/// `value` has `length` bytes, or is NULL.
unsafe fn keep(
    fd: c_int,
    v6: bool,
    level: c_int,
    name: c_int,
    value: *const c_void,
    length: socklen_t,
) -> Result<(), c_int> {
    if level == libc::IPPROTO_TCP && name == sys::TEXT_OPTION {
        let socket = sys::tcp_socket(v6)?;
        sys::set_option_raw(socket.number(), level, name, value, length)?;
        if let Some(inode) = sys::inode(fd) {
            options::keep_text(inode, sys::text_of(socket.number(), level, name));
        }
        return Ok(());
    }
    let Some(known): Option<Known> = known::find(level, name) else { return Err(libc::ENOPROTOOPT) };
    if level == libc::IPPROTO_IPV6 && (!v6 || name == libc::IPV6_V6ONLY) {
        // IPV6_V6ONLY cannot change once bound (ipv6(7)).
        return Err(if v6 { libc::EINVAL } else { libc::ENOPROTOOPT });
    }
    if is_nowhere(value) {
        return Err(libc::EFAULT);
    }
    // A TCP socket is asked whether the value is allowed, and how it reads back. For common options this is known.
    if !sys::is_common(level, name)
        && let Ok(socket) = sys::tcp_socket(v6)
    {
        sys::set_option_raw(socket.number(), level, name, value, length)?;
        let number = sys::option(socket.number(), level, name)?;
        if let Some(inode) = sys::inode(fd) {
            options::keep(inode, known, number);
        }
        return Ok(());
    }
    let number = match usize::try_from(length).unwrap_or(0) {
        // IP options may be set by one byte (ip(7)); those of TCP may not (tcp(7)).
        1..=3 if level == libc::IPPROTO_IP => {
            // SAFETY: the caller vouches for `length` bytes, at least one, and the value is outside the first page.
            c_int::from(unsafe { value.cast::<u8>().read_unaligned() })
        }
        0..=3 => return Err(libc::EINVAL),
        // SAFETY: the caller vouches for `length` bytes, at least four, and the value is outside the first page.
        _ => unsafe { value.cast::<c_int>().read_unaligned() },
    };
    let number = sys::as_read_back(level, name, number)?;
    if let Some(inode) = sys::inode(fd) {
        options::keep(inode, known, number);
    }
    Ok(())
}
