//! accept(2), accept4(2): the connection's peer is an inet address.
#![expect(unsafe_code, reason = "carries out hooked calls")]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "one contract covers a call and what it is wrapped in"
)]

use crate::config::{self, Config};
use crate::facts;
use crate::hooks::real;
use crate::names::{self, Meaning};
use crate::notify::{self, News};
use crate::options;
use crate::rawaddr::{self, Encoded};
use crate::sys::{self, Errno, RawName};
use agentfs_wire::notice::{Call, Outcome, Why};
use libc::{c_int, sockaddr, socklen_t};

/// accept(2).
///
/// # Safety
/// As accept(2).
pub(crate) unsafe fn accept(fd: c_int, address: *mut sockaddr, length: *mut socklen_t) -> c_int {
    // SAFETY: each pointer is the program's own, or local to the call.
    unsafe { accept_with(fd, address, length, |address, length| real::accept(fd, address, length)) }
}

/// accept4(2).
///
/// # Safety
/// As accept4(2).
#[cfg(target_os = "linux")]
pub(crate) unsafe fn accept4(
    fd: c_int,
    address: *mut sockaddr,
    length: *mut socklen_t,
    flags: c_int,
) -> c_int {
    // SAFETY: each pointer is the program's own, or local to the call.
    unsafe {
        accept_with(fd, address, length, |address, length| {
            crate::hooks::gnu::real::accept4(fd, address, length, flags)
        })
    }
}

/// # Safety
/// `address` and `length` are as accept(2) wants them; `call` is the real call.
pub(super) unsafe fn accept_with(
    fd: c_int,
    address: *mut sockaddr,
    length: *mut socklen_t,
    call: impl FnOnce(*mut sockaddr, *mut socklen_t) -> c_int,
) -> c_int {
    let Some(config) = config::get() else { return call(address, length) };
    // SAFETY: the program's own length pointer, where it can be one.
    if !address.is_null() && !unsafe { rawaddr::has_room(length) } {
        return call(address, length);
    }
    // With NULL for the address, the length is not looked at (accept(2)).
    let length = if address.is_null() { core::ptr::null_mut() } else { length };
    let mut peer = RawName::new();
    let mut peer_length = RawName::room();
    let accepted = call(peer.pointer(), &raw mut peer_length);
    if accepted < 0 {
        return accepted;
    }
    crate::hints::forget(accepted);
    let _errno = Errno::keep();
    peer.set_length(peer_length);
    let meaning = names::meaning(config, peer.bytes());
    let ours = match meaning {
        Meaning::NotUnix => None,
        _ => match sys::own_name(accepted).map(|own| names::meaning(config, own.bytes())) {
            Ok(Meaning::Listener(listener)) => Some(listener),
            _ => None,
        },
    };
    let Some(listener) = ours else {
        // SAFETY: the program's own pointers.
        unsafe { rawaddr::give(peer.bytes(), address, length) };
        return accepted;
    };
    options::inherit(fd, accepted);
    let wanted = !address.is_null() || notify::tracing(config);
    if wanted {
        let endpoint = facts::peer_endpoint(config, accepted, listener, peer.bytes());
        // SAFETY: the program's own pointers.
        unsafe { rawaddr::give(Encoded::of(endpoint).bytes(), address, length) };
        traced(config, accepted, listener.endpoint(), endpoint);
    }
    accepted
}

fn traced(
    config: &Config,
    fd: c_int,
    address: agentfs_wire::address::Endpoint,
    peer: agentfs_wire::address::Endpoint,
) {
    notify::trace(
        config,
        News {
            call: Call::Accept,
            outcome: Outcome::Rewritten,
            why: Why::Rewritten,
            errno: 0,
            fd,
            address: Some(address),
            peer: Some(peer),
            file: "",
        },
    );
}
