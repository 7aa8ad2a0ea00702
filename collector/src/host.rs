//! Who holds the host's TCP ports, and in which checkout it runs. A program without agentfs, a static one, one that was
//! excepted: all of them listen on the host, and a fork must not reach another fork's. Reads `/proc`; finds nothing
//! where there is none (macOS).
#[cfg(target_os = "linux")]
mod diag;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::{BufRead as _, BufReader};
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
    #[cfg(target_os = "linux")]
    if let Ok(sockets) = asked() {
        return sockets;
    }
    listed()
}

/// They as the kernel says when it is asked.
#[cfg(target_os = "linux")]
fn asked() -> nix::Result<Sockets> {
    use nix::sys::socket::AddressFamily;
    let mut sockets = Sockets::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        for found in diag::listening(family)? {
            let ip = found.ip.to_canonical();
            if ip.is_loopback() || ip.is_unspecified() {
                sockets.entry(found.port).or_default().insert(found.inode);
            }
        }
    }
    Ok(sockets)
}

/// They as `/proc` lists them.
fn listed() -> Sockets {
    let mut sockets = Sockets::new();
    for (table, is_reached) in [("/proc/net/tcp", v4 as fn(&str) -> bool), ("/proc/net/tcp6", v6)] {
        let Ok(file) = fs::File::open(table) else { continue };
        let lines = BufReader::new(file).lines().skip(1).map_while(Result::ok);
        // Listening sockets come first (net/ipv4/tcp_ipv4.c, `tcp_seq_start`): the connections are not read.
        for (port, inode) in lines.map_while(|line| listener(&line, is_reached)).flatten() {
            sockets.entry(port).or_default().insert(inode);
        }
    }
    sockets
}

/// Port and inode of a line of `/proc/net/tcp` (proc_pid_net(5)): number, local and remote address, state (0A listens), …,
/// the inode as tenth. The inner nothing: an address that loopback does not reach. The outer: no listener.
fn listener(line: &str, is_reached: fn(&str) -> bool) -> Option<Option<(u16, u64)>> {
    let mut words = line.split_ascii_whitespace();
    let (address, port) = words.nth(1)?.split_once(':')?;
    if words.nth(1)? != "0A" {
        return None;
    }
    let inode = words.nth(5)?.parse().ok()?;
    let port = u16::from_str_radix(port, 16).ok()?;
    Some(is_reached(address).then_some((port, inode)))
}

/// 127/8 or 0.0.0.0. The kernel writes the four bytes as one number of this machine's byte order.
fn v4(address: &str) -> bool {
    u32::from_str_radix(address, 16).is_ok_and(|address| matches!(address.to_ne_bytes(), [127 | 0, ..]))
}

/// `::1`, `::`, or an IPv4-mapped address of those above.
fn v6(address: &str) -> bool {
    let Some((high, low)) = address.split_at_checked(24) else { return false };
    match high {
        "000000000000000000000000" => {
            u32::from_str_radix(low, 16).is_ok_and(|low| matches!(low.to_ne_bytes(), [0, 0, 0, 0 | 1]))
        }
        "0000000000000000FFFF0000" | "00000000000000000000FFFF" => v4(low),
        _ => false,
    }
}

/// The owners of sockets, of those processes that we may look into.
fn owners(wanted: &BTreeSet<u64>) -> HashMap<u64, Holder> {
    let mut found = HashMap::new();
    let Ok(processes) = fs::read_dir("/proc") else { return found };
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // Our own listeners are the router's and those of forwards.
        if pid == std::process::id() {
            continue;
        }
        // Processes of other users cannot be read, and some have ended meanwhile.
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else { continue };
        for descriptor in descriptors.flatten() {
            let Some(inode) = fs::read_link(descriptor.path()).ok().and_then(|target| inode(&target)) else {
                continue;
            };
            if wanted.contains(&inode) {
                found.entry(inode).or_insert_with(|| holder(pid, &process.path()));
            }
        }
        if found.len() == wanted.len() {
            break;
        }
    }
    found
}

fn inode(target: &Path) -> Option<u64> {
    target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

fn holder(pid: u32, process: &Path) -> Holder {
    let program = fs::read_to_string(process.join("comm")).unwrap_or_default().trim().to_owned();
    let checkout = fs::read_link(process.join("cwd")).ok().and_then(|folder| checkout(&folder));
    Holder { pid, program, checkout }
}

/// The git checkout around a folder.
pub(crate) fn checkout(folder: &Path) -> Option<Checkout> {
    folder.ancestors().find_map(|root| {
        let git = root.join(".git");
        let folder = if git.is_dir() {
            git
        } else {
            // A FIFO with that name would block us.
            if !git.is_file() {
                return None;
            }
            // gitrepository-layout(5): a linked worktree has a file, and its folder names the common one.
            let text = fs::read_to_string(&git).ok()?;
            let folder = root.join(text.trim().strip_prefix("gitdir:")?.trim());
            match fs::read_to_string(folder.join("commondir")) {
                Ok(common) => folder.join(common.trim()),
                Err(_) => folder,
            }
        };
        Some(Checkout { root: root.canonicalize().ok()?, repository: folder.canonicalize().ok()? })
    })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn both_ways_find_what_loopback_reaches() {
        let bound: Vec<_> = ["127.0.0.1:0", "127.9.8.7:0", "0.0.0.0:0", "[::1]:0", "[::]:0"]
            .iter()
            .filter_map(|address| TcpListener::bind(address).ok())
            .map(|listener| (listener.local_addr().unwrap().port(), listener))
            .collect();
        let (asked, listed) = (asked().unwrap(), listed());
        assert!(bound.len() >= 3);
        for (port, _) in &bound {
            assert!(asked.contains_key(port) && listed.get(port) == asked.get(port), "{port}");
        }
        let mut holders = Holders::default();
        holders.update(&asked);
        // Ours are forwards and the router: nobody's.
        assert_eq!(holders.of(&asked, bound[0].0), None);
    }

    #[test]
    fn addresses_of_the_table_are_read() {
        let line = |address: &str, state: &str| {
            format!("0: {address}:1F90 00000000:0000 {state} 0:0 0:0 0 0 0 77 1")
        };
        for (address, reached) in [("0100007F", true), ("00000000", true), ("0A00000A", false)] {
            assert_eq!(listener(&line(address, "0A"), v4), Some(reached.then_some((8080, 77))), "{address}");
        }
        for (address, reached) in [
            ("00000000000000000000000001000000", true),
            ("00000000000000000000000000000000", true),
            ("0000000000000000FFFF00000100007F", true),
            ("0000000000000000FFFF00000A00000A", false),
            ("000080FE000000000000000001000000", false),
        ] {
            assert_eq!(listener(&line(address, "0A"), v6), Some(reached.then_some((8080, 77))), "{address}");
        }
        assert_eq!(listener(&line("0100007F", "01"), v4), None, "a connection");
    }
}
