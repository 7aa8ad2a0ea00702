//! accept(2), accept4(2): the connection's peer is an inet address.
#![expect(unsafe_code, reason = "carries out hooked calls")]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "one contract covers a call and what it is wrapped in"
)]

use super::handoff;
use crate::config::{self, Config};
use crate::facts;
use crate::names::{self, Listener, Meaning};
use crate::notify::{self, News};
use crate::options;
use crate::rawaddr::{self, Encoded, Given};
use crate::real;
use crate::room;
use crate::sys::{self, Errno, Fd, RawName};
use agentfs_wire::address::Endpoint;
use agentfs_wire::limits::HANDOFF_WAIT_MS;
use agentfs_wire::notice::{Call, Outcome, Why};
use agentfs_wire::peer::Peer;
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
            crate::real::gnu::accept4(fd, address, length, flags)
        })
    }
}

/// # Safety
/// `address` and `length` are as accept(2) wants them; `call` is the real call.
pub(super) unsafe fn accept_with(
    fd: c_int,
    address: *mut sockaddr,
    length: *mut socklen_t,
    call: impl Fn(*mut sockaddr, *mut socklen_t) -> c_int,
) -> c_int {
    let Some(config) = config::get() else { return call(address, length) };
    // SAFETY: before the kernel, which is given a length of ours below; `has_room` reads nothing in the first page.
    if !address.is_null() && !unsafe { rawaddr::has_room(length) } {
        return call(address, length);
    }
    // If the address is NULL, the length is ignored (accept(2)).
    let length = if address.is_null() { core::ptr::null_mut() } else { length };
    let mut wait_ms = HANDOFF_WAIT_MS;
    loop {
        // SAFETY: the caller vouches for both pointers, and the length was looked at above.
        if let Some(accepted) = unsafe { accept_next(config, fd, address, length, wait_ms, &call) } {
            return accepted;
        }
        // If the collector could not send one, it will not send the next.
        wait_ms = 0;
    }
}

/// Accepts one connection. `None`: the collector announced a connection and did not hand it over. The caller accepts
/// again; the collector copies the bytes over another connection.
///
/// # Safety
/// As [`accept_with`].
unsafe fn accept_next(
    config: &Config,
    fd: c_int,
    address: *mut sockaddr,
    length: *mut socklen_t,
    wait_ms: u32,
    call: impl Fn(*mut sockaddr, *mut socklen_t) -> c_int,
) -> Option<c_int> {
    let mut peer = RawName::new();
    let mut peer_length = RawName::room();
    let generation = crate::hints::generation();
    let accepted = call(peer.pointer(), &raw mut peer_length);
    if accepted < 0 {
        return Some(accepted);
    }
    crate::hints::forget(accepted);
    let _errno = Errno::keep();
    peer.set_length(peer_length);
    let meaning = names::meaning(config, peer.bytes());
    let own = match meaning {
        Meaning::NotUnix => Ok(Meaning::NotUnix),
        _ => sys::own_name(accepted).map(|own| names::meaning(config, own.bytes())),
    };
    let Ok(Meaning::Listener(listener)) = own else {
        match meaning {
            // A filter of the program (seccomp(2)) forbids to ask. The client's name says enough.
            Meaning::Peer(Peer::Client { v6_socket, local, .. }) if own.is_err() => {
                let name = Encoded::of(if v6_socket { local.mapped() } else { local });
                // SAFETY: before the kernel, which wrote to a name of ours; the caller vouches for both pointers.
                unsafe { rawaddr::give(name.bytes(), address, length) };
            }
            // SAFETY: as above.
            _ => unsafe { rawaddr::give(peer.bytes(), address, length) },
        }
        return Some(accepted);
    };
    if let Meaning::Peer(Peer::Forwarded { client, handed_over: true }) = meaning
        && handoff::is_trusted(accepted)
    {
        let connection = handoff::take(fd, listener, Fd::owned(accepted), wait_ms)?;
        // SAFETY: the caller vouches for both pointers.
        unsafe { name_handed(config, listener, connection, client, address, length) };
        return Some(connection);
    }
    crate::hints::made(accepted, generation);
    if !options::inherit(fd, accepted) {
        room::give(accepted);
    }
    let wanted = !address.is_null() || notify::tracing(config);
    if wanted {
        let endpoint = facts::peer_endpoint(config, accepted, listener, peer.bytes());
        // SAFETY: before the kernel, which wrote to a name of ours; the caller vouches for both pointers.
        unsafe { rawaddr::give(Encoded::of(endpoint).bytes(), address, length) };
        traced(config, accepted, listener.endpoint(), endpoint);
    }
    Some(accepted)
}

/// Writes the client's address of a connection that was handed over, as the kernel knows it.
///
/// # Safety
/// As [`rawaddr::give`].
unsafe fn name_handed(
    config: &Config,
    listener: Listener,
    connection: c_int,
    client: Endpoint,
    address: *mut sockaddr,
    length: *mut socklen_t,
) {
    let name = match sys::peer_name(connection).map(|name| rawaddr::read_name(name.bytes())) {
        Ok(Given::Inet(peer)) => listener.present(peer),
        // The client has closed, and the kernel no longer knows it. accept(2) would have known it.
        _ => listener.present(client.canonical()),
    };
    // SAFETY: as the caller vouches.
    unsafe { rawaddr::give(Encoded::of(name).bytes(), address, length) };
    traced(config, connection, listener.endpoint(), name);
}

fn traced(config: &Config, fd: c_int, address: Endpoint, peer: Endpoint) {
    notify::trace(
        config,
        News {
            fd,
            address: Some(address),
            peer: Some(peer),
            ..News::of(Call::Accept, Outcome::Rewritten, Why::Rewritten)
        },
    );
}
