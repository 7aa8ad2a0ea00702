//! Who holds the host's TCP ports, and in which checkout it runs. A program without agentfs, a static one, one that was
//! excepted: all of them listen on the host, and a fork must not reach another fork's. Finds nothing where there is no
//! `/proc` (macOS).
use agentfs_system::{git, holders, process, tcp};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// A checkout: its folder, and the folder that all checkouts of its repository share.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Checkout {
    pub(crate) root: PathBuf,
    pub(crate) repository: PathBuf,
}

/// A process that listens on a port of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) pid: u32,
    /// Its name (`/proc/PID/comm`).
    pub(crate) program: String,
    /// The checkout around its working directory, if any.
    pub(crate) checkout: Option<Checkout>,
}

/// Listening sockets of the host that a loopback connect reaches: port → inode numbers.
pub(crate) type Sockets = BTreeMap<u16, BTreeSet<u64>>;

/// What is known of the sockets' owners, by inode. An inode is one socket for as long as it is listed.
#[derive(Debug, Default)]
pub(crate) struct Holders {
    by_inode: HashMap<u64, Option<Holder>>,
}

// === impl Holders ===

impl Holders {
    /// Finds the owners of new sockets, and forgets those that are gone. Reads the descriptors of every process that we
    /// may look into if a socket is new: call it only where blocking is allowed.
    pub(crate) fn update(&mut self, sockets: &Sockets) {
        let listed: BTreeSet<u64> = sockets.values().flatten().copied().collect();
        self.by_inode.retain(|inode, _| listed.contains(inode));
        let unknown: BTreeSet<u64> =
            listed.into_iter().filter(|inode| !self.by_inode.contains_key(inode)).collect();
        if unknown.is_empty() {
            return;
        }
        let mut found = owners(&unknown);
        self.by_inode.extend(unknown.into_iter().map(|inode| (inode, found.remove(&inode))));
    }

    /// Whether a program of the host runs in a checkout.
    pub(crate) fn have_checkouts(&self) -> bool {
        self.by_inode.values().flatten().any(|holder| holder.checkout.is_some())
    }

    /// The first known owner of a port.
    pub(crate) fn of(&self, sockets: &Sockets, port: u16) -> Option<&Holder> {
        sockets.get(&port)?.iter().find_map(|inode| self.by_inode.get(inode)?.as_ref())
    }

    /// Ports that a program of another checkout of the same repository holds, for each of `instances`.
    pub(crate) fn foreign<'a, K: Clone + 'a>(
        &self,
        sockets: &Sockets,
        instances: impl Iterator<Item = (&'a K, &'a Checkout)> + Clone,
    ) -> Vec<(u16, K)> {
        let mut foreign = Vec::new();
        for (port, inodes) in sockets {
            let places =
                inodes.iter().filter_map(|inode| self.by_inode.get(inode)?.as_ref()?.checkout.as_ref());
            for place in places {
                let others = instances
                    .clone()
                    .filter(|(_, own)| own.repository == place.repository && own.root != place.root);
                foreign.extend(others.map(|(key, _)| (*port, key.clone())));
            }
        }
        foreign
    }
}

/// The listening sockets of the host on loopback and wildcard addresses.
pub(crate) fn sockets() -> Sockets {
    let mut sockets = Sockets::new();
    for found in tcp::listening() {
        let ip = found.address.ip().to_canonical();
        if ip.is_loopback() || ip.is_unspecified() {
            sockets.entry(found.address.port()).or_default().insert(found.inode);
        }
    }
    sockets
}

/// The owners of sockets, of those processes that we may look into.
fn owners(wanted: &BTreeSet<u64>) -> HashMap<u64, Holder> {
    let mut found: HashMap<u64, Holder> = HashMap::new();
    let own = std::process::id();
    holders::each(|pid, inode| {
        // Our own listeners are the router's and those of forwards.
        if pid != own && wanted.contains(&inode) {
            found.entry(inode).or_insert_with(|| holder(pid));
        }
        if found.len() == wanted.len() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    found
}

fn holder(pid: u32) -> Holder {
    let program = process::name(pid).unwrap_or_default();
    Holder { pid, program, checkout: process::folder(pid).and_then(|folder| checkout(&folder)) }
}

/// The git checkout around a folder.
pub(crate) fn checkout(folder: &Path) -> Option<Checkout> {
    folder.ancestors().find_map(|root| {
        let found = git::at(root)?;
        let repository = found.common.unwrap_or(found.folder);
        Some(Checkout { root: root.canonicalize().ok()?, repository: repository.canonicalize().ok()? })
    })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn what_loopback_reaches_is_listed_and_our_own_is_nobodys() {
        let bound: Vec<_> = ["127.0.0.1:0", "127.9.8.7:0", "0.0.0.0:0", "[::1]:0", "[::]:0"]
            .iter()
            .filter_map(|address| TcpListener::bind(address).ok())
            .map(|listener| (listener.local_addr().unwrap().port(), listener))
            .collect();
        let sockets = sockets();
        assert!(bound.len() >= 3 && bound.iter().all(|(port, _)| sockets.contains_key(port)));
        let mut holders = Holders::default();
        holders.update(&sockets);
        assert_eq!(holders.of(&sockets, bound[0].0), None, "ours are forwards and the router");
    }
}
