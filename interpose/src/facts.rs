//! What the kernel says about a descriptor. There is no table: the kernel is asked for the name each time.
use crate::config::Config;
use crate::names::{self, Listener, Meaning};
use crate::rawaddr::{Given, read_name};
use crate::sys;
use agentfs_wire::address::Endpoint;
use agentfs_wire::peer::Peer;
use core::net::IpAddr;

/// What a descriptor is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fact {
    /// A TCP socket of the network.
    Tcp {
        /// Whether it is an IPv6 socket.
        v6: bool,
        /// Its name; port 0 where it is not bound.
        name: Endpoint,
    },
    /// A rewritten socket that has a listener's name: bound, listening, or accepted.
    Listener(Listener),
    /// A rewritten socket that is the client end of a connection.
    Client {
        /// Whether the program's socket is an IPv6 one.
        v6_socket: bool,
        /// Its own address, canonical.
        local: Endpoint,
        /// The address that it connected to, canonical.
        remote: Endpoint,
    },
    /// Nothing of ours.
    Other,
}

/// Asks the kernel.
pub(crate) fn of(config: &Config, fd: i32) -> Fact {
    let Ok(name) = sys::own_name(fd) else { return Fact::Other };
    match names::meaning(config, name.bytes()) {
        Meaning::Listener(listener) => Fact::Listener(listener),
        Meaning::Peer(Peer::Client { v6_socket, local, remote }) => Fact::Client { v6_socket, local, remote },
        Meaning::NotUnix => match read_name(name.bytes()) {
            Given::Inet(endpoint) if crate::hints::is_tcp(fd) || sys::is_tcp(fd) => {
                Fact::Tcp { v6: matches!(endpoint.ip, IpAddr::V6(_)), name: endpoint }
            }
            _ => Fact::Other,
        },
        Meaning::Peer(_) | Meaning::Unnamed | Meaning::Foreign => Fact::Other,
    }
}

// === impl Fact ===

impl Fact {
    /// Whether the descriptor is a rewritten socket; if so, whether the program's is an IPv6 one.
    pub(crate) fn rewritten(self) -> Option<bool> {
        match self {
            Self::Listener(listener) => Some(listener.v6_socket),
            Self::Client { v6_socket, .. } => Some(v6_socket),
            Self::Tcp { .. } | Self::Other => None,
        }
    }
}

/// The inet endpoint that stands for the peer named `name` of the accepted socket `fd`.
pub(crate) fn peer_endpoint(config: &Config, fd: i32, listener: Listener, name: &[u8]) -> Endpoint {
    match names::meaning(config, name) {
        Meaning::Peer(Peer::Client { local, .. }) => listener.present(local),
        Meaning::Peer(Peer::Forwarded { client, .. }) => {
            let matching = matches!(client.canonical().ip, IpAddr::V4(_)) || listener.v6_socket;
            if matching { listener.present(client.canonical()) } else { invented_peer(fd, listener) }
        }
        Meaning::Listener(client) => {
            listener.present(Endpoint { ip: listener.loopback(), port: client.port })
        }
        Meaning::Unnamed | Meaning::Foreign | Meaning::NotUnix => invented_peer(fd, listener),
    }
}

/// A peer for a client without a name that we can read: loopback, and a port made from the socket's inode, so
/// that it stays the same as long as the connection lives.
fn invented_peer(fd: i32, listener: Listener) -> Endpoint {
    use agentfs_wire::limits::{EPHEMERAL_COUNT, EPHEMERAL_FIRST};
    let inode = sys::inode(fd).unwrap_or(0);
    let offset = u16::try_from(inode % u64::from(EPHEMERAL_COUNT)).unwrap_or(0);
    listener.present(Endpoint { ip: listener.loopback(), port: EPHEMERAL_FIRST + offset })
}

/// The local address of an accepted connection: the one that its client connected to.
pub(crate) fn accepted_name(config: &Config, listener: Listener, peer: &[u8]) -> Endpoint {
    let ip = match names::meaning(config, peer) {
        Meaning::Peer(Peer::Client { remote, .. }) => remote.ip,
        _ => listener.loopback(),
    };
    listener.present(Endpoint { ip, port: listener.port })
}
