//! getsockname(2), getpeername(2): inet answers for rewritten sockets.
#![expect(unsafe_code, reason = "carries out hooked calls")]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "one contract covers a call and what it is wrapped in"
)]

use crate::config::{self, Config};
use crate::facts;
use crate::names::{self, Meaning};
use crate::rawaddr::{self, Encoded};
use crate::real;
use crate::sys::{self, Errno, RawName};
use agentfs_wire::address::Endpoint;
use agentfs_wire::peer::Peer;
use libc::{c_int, sockaddr, socklen_t};

/// getsockname(2).
///
/// # Safety
/// As getsockname(2).
pub(crate) unsafe fn getsockname(fd: c_int, address: *mut sockaddr, length: *mut socklen_t) -> c_int {
    // SAFETY: the program's own pointers, or local ones.
    unsafe { answer(fd, address, length, |address, length| real::getsockname(fd, address, length), own) }
}

/// getpeername(2).
///
/// # Safety
/// As getpeername(2).
pub(crate) unsafe fn getpeername(fd: c_int, address: *mut sockaddr, length: *mut socklen_t) -> c_int {
    // SAFETY: the program's own pointers, or local ones.
    unsafe { answer(fd, address, length, |address, length| real::getpeername(fd, address, length), peer) }
}

/// # Safety
/// `address` and `length` are as the call wants them; `call` is the real call.
unsafe fn answer(
    fd: c_int,
    address: *mut sockaddr,
    length: *mut socklen_t,
    call: impl Fn(*mut sockaddr, *mut socklen_t) -> c_int,
    translate: fn(&Config, c_int, &[u8]) -> Option<Endpoint>,
) -> c_int {
    let Some(config) = config::get() else { return call(address, length) };
    // What the kernel would refuse, it refuses.
    // SAFETY: before the kernel, which is given a length of ours below; `takes_name` reads nothing in the first page.
    if !unsafe { rawaddr::takes_name(address, length) } {
        return call(address, length);
    }
    let mut name = RawName::new();
    let mut name_length = RawName::room();
    let result = call(name.pointer(), &raw mut name_length);
    if result != 0 {
        return result;
    }
    name.set_length(name_length);
    if sys::family_of(name.bytes()) == libc::AF_UNIX {
        let _errno = Errno::keep();
        if let Some(endpoint) = translate(config, fd, name.bytes()) {
            // SAFETY: before the kernel, which wrote to a name of ours; the length was read above, and the caller
            // vouches for the address.
            unsafe { rawaddr::give(Encoded::of(endpoint).bytes(), address, length) };
            return 0;
        }
    }
    // SAFETY: as above.
    unsafe { rawaddr::give(name.bytes(), address, length) };
    0
}

fn own(config: &Config, fd: c_int, name: &[u8]) -> Option<Endpoint> {
    match names::meaning(config, name) {
        Meaning::Peer(Peer::Client { v6_socket, local, .. }) => {
            Some(if v6_socket { local.mapped() } else { local })
        }
        Meaning::Listener(listener) if !listener.scope.is_any() => Some(listener.endpoint()),
        // A connection to a wildcard listener has the address that its client connected to.
        Meaning::Listener(listener) => Some(match sys::peer_name(fd) {
            Ok(peer) => facts::accepted_name(config, listener, peer.bytes()),
            Err(_) => listener.endpoint(),
        }),
        _ => None,
    }
}

/// What getpeername(2) answers for a rewritten socket, if it is connected.
pub(super) fn peer_of(config: &Config, fd: c_int) -> Option<Endpoint> {
    peer(config, fd, sys::peer_name(fd).ok()?.bytes())
}

fn peer(config: &Config, fd: c_int, name: &[u8]) -> Option<Endpoint> {
    let own = sys::own_name(fd).ok()?;
    match names::meaning(config, own.bytes()) {
        Meaning::Peer(Peer::Client { v6_socket, remote, .. }) => {
            Some(if v6_socket { remote.mapped() } else { remote })
        }
        Meaning::Listener(listener) => Some(facts::peer_endpoint(config, fd, listener, name)),
        _ => None,
    }
}
