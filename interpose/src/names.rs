//! What a Unix socket name means to us: a listener of the run dir, or the client end of a connection.
use crate::config::Config;
use crate::rawaddr::{UnixName, unix_text};
use crate::sys;
use agentfs_wire::address::{Endpoint, Scope};
use agentfs_wire::name::{FileName, Kind, SocketName};
use agentfs_wire::peer::Peer;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use libc::c_int;

/// A rewritten listener, read from its name in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listener {
    /// The port that the program bound.
    pub(crate) port: u16,
    /// The address that the program bound.
    pub(crate) scope: Scope,
    /// Whether the program's socket is an IPv6 one.
    pub(crate) v6_socket: bool,
    /// Whether it is a member of a `SO_REUSEPORT` group.
    pub(crate) shared: bool,
}

/// What a Unix socket name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// A rewritten listener, or a connection that it accepted.
    Listener(Listener),
    /// The client end of a connection.
    Peer(Peer),
    /// A Unix socket without a name.
    Unnamed,
    /// A Unix socket of the program's own.
    Foreign,
    /// Not a Unix socket.
    NotUnix,
}

// === impl Listener ===

impl Listener {
    /// The address as the program bound it.
    pub(crate) fn endpoint(self) -> Endpoint {
        self.present(Endpoint { ip: self.scope.ip(), port: self.port })
    }

    /// An address as this listener's socket shows it: mapped where the socket is an IPv6 one.
    pub(crate) fn present(self, endpoint: Endpoint) -> Endpoint {
        if self.v6_socket { endpoint.mapped() } else { endpoint }
    }

    /// The address that is shown for a client if its own name does not say which one it used.
    pub(crate) fn loopback(self) -> IpAddr {
        match self.scope {
            Scope::V4(ip) => IpAddr::V4(ip),
            Scope::AnyV4 | Scope::AnyDual => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Scope::AnyV6 | Scope::LoopbackV6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
        }
    }
}

/// Reads a name from the kernel.
pub(crate) fn meaning(config: &Config, name: &[u8]) -> Meaning {
    if sys::family_of(name) != libc::AF_UNIX {
        return Meaning::NotUnix;
    }
    let text = unix_text(name);
    if text.is_empty() {
        return Meaning::Unnamed;
    }
    if let Some(peer) = crate::client_names::read(config, text) {
        return Meaning::Peer(peer);
    }
    let Some((file, mapped)) = file_of(config.run(), text) else { return Meaning::Foreign };
    match SocketName::parse(file).map(|name| name.kind) {
        Ok(Kind::Listener { port, scope, worker }) => Meaning::Listener(Listener {
            port,
            scope,
            v6_socket: mapped || scope.is_v6(),
            shared: worker.is_some(),
        }),
        _ => Meaning::Foreign,
    }
}

/// The file name of a path in the run dir, and whether the path has a double slash before it.
pub(crate) fn file_of<'a>(run: &[u8], path: &'a [u8]) -> Option<(&'a str, bool)> {
    let rest = path.strip_prefix(run)?.strip_prefix(b"/")?;
    let (file, mapped) = match rest.strip_prefix(b"/") {
        Some(file) => (file, true),
        None => (rest, false),
    };
    Some((core::str::from_utf8(file).ok()?, mapped))
}

/// The socket name of a file in the run dir.
pub(crate) fn path_of(config: &Config, file: &[u8], mapped: bool) -> UnixName {
    UnixName::path(&[config.run(), if mapped { b"//" } else { b"/" }, file])
}

/// The file name of one of this instance's sockets.
pub(crate) fn own_file(config: &Config, kind: Kind) -> FileName {
    SocketName { app: config.app, instance: config.instance, kind }.format()
}

/// The file of a rewritten socket that is bound, as the kernel has it.
pub(crate) fn file_of_socket(config: &Config, fd: c_int) -> Option<FileName> {
    let name = sys::own_name(fd).ok()?;
    let (file, _) = file_of(config.run(), unix_text(name.bytes()))?;
    FileName::of(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spelling_tells_the_family() {
        assert_eq!(file_of(b"/h/run", b"/h/run/a-b.80.l.sock"), Some(("a-b.80.l.sock", false)));
        assert_eq!(file_of(b"/h/run", b"/h/run//a-b.80.l.sock"), Some(("a-b.80.l.sock", true)));
        assert_eq!(file_of(b"/h/run", b"/h/runs/a-b.80.l.sock"), None);
        assert_eq!(file_of(b"/h/run", b"/tmp/x"), None);
    }
}
