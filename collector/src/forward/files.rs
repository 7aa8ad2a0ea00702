//! Where an instance listens, by the names in the run dir, and the TCP sockets that forward to it.
use crate::limits::COMPANION_BYTES;
use agentfs_wire::address::Scope;
use agentfs_wire::companion::Companion;
use agentfs_wire::limits::REUSEPORT_WORKERS;
use agentfs_wire::name::{Kind, SocketName, app_name, instance_name};
use std::collections::BTreeSet;
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::{TcpListener, TcpSocket};

/// The files of an instance in the run dir.
#[derive(Clone, Debug)]
pub(super) struct InstanceFiles {
    pub(super) run: PathBuf,
    pub(super) app: String,
    pub(super) instance: String,
}

// === impl InstanceFiles ===

impl InstanceFiles {
    /// Whether the run dir has any file of the instance.
    pub(super) fn exists(&self) -> bool {
        let files = agentfs_home::list(&self.run).unwrap_or_default();
        files.iter().filter_map(|file| SocketName::parse(file).ok()).any(|name| self.owns(&name))
    }

    /// When the instance was started (Unix milliseconds), as its companion says; `None` for one made by hand.
    pub(super) fn started_ms(&self) -> Option<u64> {
        let (app, instance) = (app_name(&self.app)?, instance_name(&self.instance)?);
        let path = self.run.join(SocketName { app, instance, kind: Kind::Companion }.format().as_str());
        let mut text = Vec::new();
        std::fs::File::open(path).ok()?.take(COMPANION_BYTES).read_to_end(&mut text).ok()?;
        serde_json::from_slice::<Companion>(&text).ok().map(|companion| companion.started_ms)
    }

    fn owns(&self, name: &SocketName) -> bool {
        (name.app.as_str(), name.instance.as_str()) == (&*self.app, &*self.instance)
    }

    /// Ports that the instance has listeners on.
    pub(super) fn ports(&self) -> BTreeSet<u16> {
        let files = agentfs_home::list(&self.run).unwrap_or_default();
        files
            .iter()
            .filter_map(|file| SocketName::parse(file).ok())
            .filter(|name| self.owns(name))
            .filter_map(|name| match name.kind {
                Kind::Listener { port, .. } => Some(port),
                _ => None,
            })
            .collect()
    }

    /// Files that may be listeners for a client of `ip` on `port`, best first. The members of a `SO_REUSEPORT` group
    /// take turns.
    pub(super) fn candidates(&self, port: u16, ip: IpAddr) -> Vec<PathBuf> {
        static TURN: AtomicUsize = AtomicUsize::new(0);
        // A listener on 127.0.0.1 is used whatever address we listen on.
        let lo = Scope::V4(Ipv4Addr::LOCALHOST);
        let scopes = match ip {
            IpAddr::V4(_) => [lo, Scope::AnyV4, Scope::AnyDual, Scope::LoopbackV6, Scope::AnyV6],
            IpAddr::V6(_) => [Scope::LoopbackV6, Scope::AnyV6, Scope::AnyDual, lo, Scope::AnyV4],
        };
        let alone = scopes.iter().filter_map(|scope| self.file(port, *scope, None));
        let mut found: Vec<PathBuf> = alone.collect();
        for scope in scopes {
            // Members take the numbers from the first on, and may leave gaps.
            let mut members: Vec<PathBuf> =
                (0..REUSEPORT_WORKERS).filter_map(|worker| self.file(port, scope, Some(worker))).collect();
            if !members.is_empty() {
                let first = TURN.fetch_add(1, Ordering::Relaxed) % members.len();
                members.rotate_left(first);
                found.append(&mut members);
            }
        }
        found
    }

    /// Whether the instance's listener on `port` is an IPv6 socket for both families. It accepts IPv6
    /// sockets, so connections that are handed to it must be IPv6 too.
    pub(super) fn takes_both(&self, port: u16) -> bool {
        let dual = (0..REUSEPORT_WORKERS).map(Some).chain([None]);
        [Scope::V4(Ipv4Addr::LOCALHOST), Scope::AnyV4]
            .iter()
            .all(|scope| self.file(port, *scope, None).is_none())
            && dual.into_iter().any(|worker| self.file(port, Scope::AnyDual, worker).is_some())
    }

    fn file(&self, port: u16, scope: Scope, worker: Option<u8>) -> Option<PathBuf> {
        let (app, instance) = (app_name(&self.app)?, instance_name(&self.instance)?);
        let kind = Kind::Listener { port, scope, worker };
        let path = self.run.join(SocketName { app, instance, kind }.format().as_str());
        path.exists().then_some(path)
    }
}

/// Connections that may wait to be accepted; the kernel cuts it to `somaxconn`.
const BACKLOG: u32 = 4096;

/// Listens. `dual`: on an IPv4 address with an IPv6 socket, if the system allows that.
pub(super) fn bind_in(address: SocketAddr, dual: bool) -> io::Result<TcpListener> {
    if dual && let SocketAddr::V4(v4) = address {
        let mapped = SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0);
        match bind_to(TcpSocket::new_v6(), mapped.into()) {
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {}
            result => return result,
        }
    }
    bind_to(if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }, address)
}

fn bind_to(socket: io::Result<TcpSocket>, address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
