//! TCP, IP and IPv6 options of rewritten sockets. A Unix socket has none, so their values are kept here.
#[cfg(target_os = "linux")]
mod ended;
mod kept;
mod table;
mod text;
mod timeouts;

use crate::hints;
use crate::known::{self, HandedOn, Known};
use crate::room;
use crate::sys;
#[cfg(target_os = "linux")]
pub(crate) use ended::{is_ended_here, is_first_late, note_reset, note_shutdown, shut_down, was_reset};
pub(crate) use kept::{get, set};
use libc::c_int;
pub(crate) use table::Key;
pub(crate) use text::{bytes_of, keep_text, text, usual_text};
#[cfg(target_os = "linux")]
pub(crate) use timeouts::set_timeouts;
pub(crate) use timeouts::{milliseconds, send_timeout, set_send_timeout};

fn key_of(known: Known) -> Key {
    Key::Option(known.level, known.name)
}

/// What accepted sockets inherit from a listener, if it is known.
fn handed_on(inode: u64) -> Option<HandedOn> {
    get(inode, Key::HandedOn).map(HandedOn::from_bits)
}

fn set_handed_on(inode: u64, options: HandedOn) {
    set(inode, Key::HandedOn, options.bits());
}

/// Copies the options that a program has set on its TCP socket to the Unix socket that replaces it. Returns whether the
/// size of the send buffer was one of them.
pub(crate) fn carry(from: c_int, to: c_int, v6: bool) -> bool {
    let reuse_address = hints::reuse_address(from).unwrap_or_else(|| {
        sys::option(from, libc::SOL_SOCKET, libc::SO_REUSEADDR).is_ok_and(|value| value != 0)
    });
    if reuse_address {
        let _ = sys::set_option(to, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1);
    }
    if hints::reuse_port(from) == Some(true)
        && let Some(inode) = sys::inode(to)
    {
        set(inode, Key::Option(libc::SOL_SOCKET, libc::SO_REUSEPORT), 1);
    }
    if !hints::may_have_options(from) {
        return false;
    }
    let inode = sys::inode(to).unwrap_or(0);
    let mut handed_on = HandedOn::NOTHING;
    let mut sized = false;
    for name in HandedOn::all().filter(|name| is_set(from, *name)) {
        copy(from, to, name);
        handed_on = handed_on.with(name);
        sized |= name == libc::SO_SNDBUF;
    }
    for known in known::carried_options() {
        if known.level == libc::IPPROTO_IPV6 && !v6 {
            continue;
        }
        if let Ok(value) = sys::option(from, known.level, known.name)
            && value != known.default
        {
            set(inode, key_of(known), value);
            handed_on = handed_on.with_protocol();
        }
    }
    if hints::may_have_rare(from) {
        carry_rare(from, to, inode, v6, &mut handed_on);
    }
    #[cfg(target_os = "linux")]
    if let words = sys::text_of(from, libc::IPPROTO_TCP, libc::TCP_CONGESTION)
        && words != usual_text()
    {
        keep_text(inode, words);
        handed_on = handed_on.with_protocol();
    }
    set_handed_on(inode, handed_on);
    sized
}

/// Copies the options that few programs set. A new TCP socket says what the others are.
fn carry_rare(from: c_int, to: c_int, inode: u64, v6: bool, handed_on: &mut HandedOn) {
    for name in known::rare_socket_options() {
        let mut value = [0_u64; 2];
        if sys::get_option(from, libc::SOL_SOCKET, name, &mut value).is_ok() && value != [0, 0] {
            sys::copy_option(from, to, libc::SOL_SOCKET, name);
        }
    }
    let Ok(usual) = sys::tcp_socket(v6) else { return };
    for known in known::protocol_options().filter(|known| known::is_rare(known.level, known.name)) {
        if known.level == libc::IPPROTO_IPV6 && !v6 {
            continue;
        }
        let value = sys::option(from, known.level, known.name);
        if let Ok(number) = value
            && value != sys::option(usual.number(), known.level, known.name)
        {
            set(inode, key_of(known), number);
            *handed_on = handed_on.with_protocol();
        }
    }
}

/// Sets the options that are kept for a rewritten socket on a TCP socket.
pub(crate) fn carry_back(from: c_int, to: c_int, v6: bool) {
    let inode = sys::inode(from).unwrap_or(0);
    for name in handed_on(inode).unwrap_or(HandedOn::NOTHING).names() {
        copy(from, to, name);
    }
    for name in known::rare_socket_options() {
        sys::copy_option(from, to, libc::SOL_SOCKET, name);
    }
    sys::copy_option(from, to, libc::SOL_SOCKET, libc::SO_REUSEADDR);
    for known in known::protocol_options() {
        if known.level == libc::IPPROTO_IPV6 && !v6 {
            continue;
        }
        if let Some(value) = get(inode, key_of(known)) {
            let _ = sys::set_option(to, known.level, known.name, value);
        }
    }
}

/// Copies the options of a rewritten socket to another rewritten socket; see [`carry`].
pub(crate) fn carry_ours(from: c_int, to: c_int) -> bool {
    let sized = inherit(from, to);
    if let (Some(from), Some(to)) = (sys::inode(from), sys::inode(to)) {
        set_handed_on(to, handed_on(from).unwrap_or(HandedOn::NOTHING));
    }
    sized
}

/// Gives an accepted socket the options that it inherits from its listener; see [`carry`].
pub(crate) fn inherit(listener: c_int, accepted: c_int) -> bool {
    let inode = sys::inode(listener).unwrap_or(0);
    let (protocol, sized) = inherit_socket_options(inode, listener, accepted);
    if protocol && let Some(to) = sys::inode(accepted) {
        for (known, value) in kept(inode) {
            set(to, key_of(known), value);
        }
        if let Some(words) = text(inode) {
            keep_text(to, words);
        }
    }
    sized
}

/// The same for a TCP connection that was handed over: the kernel keeps its options.
pub(crate) fn inherit_as_tcp(listener: c_int, accepted: c_int) {
    let inode = sys::inode(listener).unwrap_or(0);
    if inherit_socket_options(inode, listener, accepted).0 {
        for (known, value) in kept(inode) {
            // Some do not apply to a connection, or to one of this family.
            let _ = sys::set_option(accepted, known.level, known.name, value);
        }
    }
}

/// Options of TCP and IP that the program has set on a rewritten socket.
fn kept(inode: u64) -> impl Iterator<Item = (Known, c_int)> {
    known::protocol_options().filter_map(move |known| Some((known, get(inode, key_of(known))?)))
}

/// Copies the options of `SOL_SOCKET`. Returns whether there are any of TCP or IP, and whether the size of the send
/// buffer was copied.
fn inherit_socket_options(inode: u64, listener: c_int, accepted: c_int) -> (bool, bool) {
    // The kernel is asked once about a listener that came over exec or from another process.
    let handed_on = handed_on(inode).unwrap_or_else(|| {
        let set = HandedOn::all().filter(|name| is_set(listener, *name));
        let handed_on = set.fold(HandedOn::NOTHING, HandedOn::with);
        set_handed_on(inode, handed_on);
        handed_on
    });
    let mut sized = false;
    for name in handed_on.names() {
        copy(listener, accepted, name);
        sized |= name == libc::SO_SNDBUF;
    }
    (handed_on.has_protocol(), sized)
}

/// Keeps the value of an option of TCP or IP that a program sets on a rewritten socket.
pub(crate) fn keep(inode: u64, known: Known, value: c_int) {
    set(inode, key_of(known), value);
    set_handed_on(inode, handed_on(inode).unwrap_or(HandedOn::NOTHING).with_protocol());
}

/// Remembers that accepted sockets inherit one more option.
pub(crate) fn note_set(fd: c_int, name: c_int) {
    let Some(inode) = sys::inode(fd) else { return };
    if let Some(before) = handed_on(inode) {
        set_handed_on(inode, before.with(name));
    }
}

fn is_set(fd: c_int, name: c_int) -> bool {
    if name == libc::SO_RCVBUF || name == libc::SO_SNDBUF {
        // The program may have set the size that sockets start with anyway.
        return hints::buffer_set(fd, name).unwrap_or_else(|| room::is_set(fd, name));
    }
    if name == libc::SO_RCVLOWAT {
        return sys::option(fd, libc::SOL_SOCKET, name).is_ok_and(|value| value > 1);
    }
    let mut value = [0_u64; 2];
    sys::get_option(fd, libc::SOL_SOCKET, name, &mut value).is_ok() && value != [0, 0]
}

fn copy(from: c_int, to: c_int, name: c_int) {
    if name != libc::SO_RCVBUF && name != libc::SO_SNDBUF {
        sys::copy_option(from, to, libc::SOL_SOCKET, name);
        return;
    }
    if let Ok(size) = sys::option(from, libc::SOL_SOCKET, name) {
        let _ = sys::set_option(to, libc::SOL_SOCKET, name, sys::buffer_request(size));
    }
}
