//! Connections that the collector hands over (see `agentfs_wire::handoff`): what accept returns is the client's own
//! TCP connection.
use crate::names::Listener;
use crate::options;
use crate::rawaddr::{Given, read_name};
use crate::sys::{self, Fd};
use agentfs_wire::handoff::HELLO;
use core::net::IpAddr;
use libc::c_int;

/// Whether the process at the other end may hand over connections. It must have our own user, or be root, whose
/// collector serves processes that changed their user.
pub(super) fn is_trusted(carrier: c_int) -> bool {
    sys::peer_user(carrier).is_ok_and(|user| user == 0 || sys::is_own_user(user))
}

/// Replaces `carrier` by the connection that comes over it, under the same number. `None`: the collector took the
/// connection back, or did not send it within `wait_ms`. Then `carrier` is closed.
pub(super) fn take(listening: c_int, listener: Listener, carrier: Fd, wait_ms: u32) -> Option<c_int> {
    let (connection, token) = receive(carrier.number(), wait_ms)?;
    let mut byte = [0_u8; 1];
    // The token is read last: from then on the connection is ours, whatever happens.
    if !fits(connection.number(), listener) || sys::read(token.number(), &mut byte) != Ok(1) {
        return None;
    }
    options::inherit_as_tcp(listening, connection.number());
    Some(settle(connection, carrier))
}

fn receive(carrier: c_int, wait_ms: u32) -> Option<(Fd, Fd)> {
    let mut byte = [0_u8; 1];
    let mut received = sys::receive_with_descriptors(carrier, &mut byte, libc::MSG_DONTWAIT);
    if received == Err(libc::EAGAIN) {
        // The collector is between connect and send, or waits for our greeting.
        let greeted = sys::send_now(carrier, HELLO).is_ok();
        if !greeted || !sys::wait_readable(carrier, wait_ms) {
            return None;
        }
        received = sys::receive_with_descriptors(carrier, &mut byte, libc::MSG_DONTWAIT);
    }
    match received {
        Ok((1.., [Some(connection), Some(token)])) => Some((connection, token)),
        // There are no descriptors left, or it is not the collector.
        Ok(_) | Err(_) => None,
    }
}

/// Whether a descriptor is a connection that the listener could have accepted.
fn fits(connection: c_int, listener: Listener) -> bool {
    let Ok(name) = sys::own_name(connection) else { return false };
    match read_name(name.bytes()) {
        Given::Inet(endpoint) => {
            (listener.v6_socket || matches!(endpoint.ip, IpAddr::V4(_))) && sys::is_tcp(connection)
        }
        Given::Unspecified | Given::Other => false,
    }
}

/// Gives `connection` the number and the flags of `carrier`.
fn settle(connection: Fd, carrier: Fd) -> c_int {
    let (new, old) = (connection.number(), carrier.number());
    let nonblocking = sys::status_flags(old).unwrap_or(0) & libc::O_NONBLOCK;
    let flags = sys::status_flags(new).unwrap_or(0) & !libc::O_NONBLOCK | nonblocking;
    let _ = sys::control(new, libc::F_SETFL, usize::try_from(flags).unwrap_or(0));
    let descriptor_flags = sys::control(old, libc::F_GETFD, 0).unwrap_or(0);
    if sys::replace(&connection, old, descriptor_flags & libc::FD_CLOEXEC != 0).is_ok() {
        return carrier.give();
    }
    // The program gets the other number instead.
    let _ = sys::control(new, libc::F_SETFD, usize::try_from(descriptor_flags).unwrap_or(0));
    connection.give()
}
