//! Which processes hold a socket: a listener of the run dir, or a TCP port of the host. Reads `/proc` (proc(5)), which
//! takes milliseconds, and sees only processes that we may look into: our own, and as root all. macOS: lsof(8) for
//! TCP ports.
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
#[cfg(target_os = "linux")]
use std::net::{Ipv4Addr, Ipv6Addr};

/// A TCP socket of the host that listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostListener {
    /// Where it listens.
    pub address: SocketAddr,
    /// The user of the socket, if the system says.
    pub uid: Option<u32>,
    /// The processes that hold it, among those that we may look into.
    pub pids: BTreeSet<u32>,
}

/// For each of these listeners, by path, the processes that hold it. Paths of which nobody is found are left out.
#[cfg(target_os = "linux")]
pub fn of_sockets(sockets: &BTreeSet<String>) -> BTreeMap<String, BTreeSet<u32>> {
    let table = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let paths = inodes(&table, sockets);
    let mut held: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
    for (pid, inode) in holders(|inode| paths.contains_key(&inode)) {
        if let Some(path) = paths.get(&inode) {
            held.entry(path.clone()).or_default().insert(pid);
        }
    }
    held
}

/// For each of these listeners the processes that hold it: on this system only processes that reported themselves are
/// known.
#[cfg(not(target_os = "linux"))]
pub fn of_sockets(_sockets: &BTreeSet<String>) -> BTreeMap<String, BTreeSet<u32>> {
    BTreeMap::new()
}

/// The sockets of the host that listen on `port`, with their processes.
#[cfg(target_os = "linux")]
pub fn of_port(port: u16) -> Vec<HostListener> {
    let mut found: BTreeMap<u64, HostListener> = BTreeMap::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let text = std::fs::read_to_string(table).unwrap_or_default();
        let lines = text.lines().filter_map(tcp_listener);
        found.extend(lines.filter(|(_, listener)| listener.address.port() == port));
    }
    for (pid, inode) in holders(|inode| found.contains_key(&inode)) {
        if let Some(listener) = found.get_mut(&inode) {
            listener.pids.insert(pid);
        }
    }
    found.into_values().collect()
}

/// The sockets of the host that listen on `port`, with their processes, as lsof(8) lists them.
#[cfg(not(target_os = "linux"))]
pub fn of_port(port: u16) -> Vec<HostListener> {
    let list = std::process::Command::new("/usr/sbin/lsof")
        .args(["-nP", &format!("-iTCP:{port}"), "-sTCP:LISTEN", "-Fpn"])
        .output();
    let text = list.map(|output| output.stdout).unwrap_or_default();
    listed(&String::from_utf8_lossy(&text))
}

/// Reads the output of `lsof -Fpn`: lines `pPID`, each followed by the `nADDRESS` of its sockets.
#[cfg(any(not(target_os = "linux"), test))]
fn listed(text: &str) -> Vec<HostListener> {
    let mut found: Vec<HostListener> = Vec::new();
    let mut pid = None;
    for line in text.lines() {
        if let Some(number) = line.strip_prefix('p') {
            pid = number.parse::<u32>().ok();
        } else if let (Some(name), Some(pid)) = (line.strip_prefix('n'), pid) {
            let Ok(address) = name.replacen('*', "0.0.0.0", 1).parse::<SocketAddr>() else { continue };
            match found.iter_mut().find(|listener| listener.address == address) {
                Some(listener) => drop(listener.pids.insert(pid)),
                None => found.push(HostListener { address, uid: None, pids: BTreeSet::from([pid]) }),
            }
        }
    }
    found
}

// === impl HostListener ===

impl HostListener {
    /// Whether a client that connects to `ip` may get this socket.
    pub fn serves(&self, ip: IpAddr) -> bool {
        let own = self.address.ip().to_canonical();
        // A wildcard IPv6 socket usually takes IPv4 too.
        own == ip.to_canonical() || (own.is_unspecified() && (own.is_ipv6() || ip.is_ipv4()))
    }
}

/// The descriptors of all processes that are sockets with a wanted inode number: process and number.
#[cfg(target_os = "linux")]
fn holders(wanted: impl Fn(u64) -> bool) -> Vec<(u32, u64)> {
    let mut holders = Vec::new();
    let Ok(processes) = std::fs::read_dir("/proc") else { return holders };
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // Processes of other users, and processes that ended meanwhile, cannot be read.
        let Ok(descriptors) = std::fs::read_dir(process.path().join("fd")) else { continue };
        let targets = descriptors.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
        let inodes = targets.filter_map(|target| {
            target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse::<u64>().ok()
        });
        holders.extend(inodes.filter(|inode| wanted(*inode)).map(|inode| (pid, inode)));
    }
    holders
}

/// The inodes of listening sockets with these paths (proc_net_unix: number, count, protocol, flags, type, state,
/// inode, path; the flag is `__SO_ACCEPTCON`). A path may contain a double slash.
#[cfg(target_os = "linux")]
fn inodes(table: &str, sockets: &BTreeSet<String>) -> BTreeMap<u64, String> {
    let listening = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let flags = words.nth(3)?;
        let inode = words.nth(2)?.parse().ok()?;
        let (_, path) = line.split_once(&format!(" {inode} "))?;
        let path = path.replace("//", "/");
        (flags == "00010000" && sockets.contains(&path)).then_some((inode, path))
    };
    table.lines().filter_map(listening).collect()
}

/// A line of `/proc/net/tcp` or `tcp6` that is a listening socket (proc_net_tcp: number, local address, remote
/// address, state, …, user, timeout, inode).
#[cfg(target_os = "linux")]
fn tcp_listener(line: &str) -> Option<(u64, HostListener)> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    if *fields.get(3)? != "0A" {
        return None;
    }
    let (ip, port) = fields.get(1)?.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    // Words of 32 bits in the order of the machine, as the kernel prints them.
    let words =
        (0..ip.len() / 8).map(|index| u32::from_str_radix(ip.get(index * 8..index * 8 + 8)?, 16).ok());
    let words: Vec<[u8; 4]> = words.map(|word| word.map(u32::to_ne_bytes)).collect::<Option<_>>()?;
    let ip = match words.as_slice() {
        [v4] => IpAddr::from(Ipv4Addr::from(*v4)),
        v6 => {
            let bytes: [u8; 16] = v6.concat().try_into().ok()?;
            IpAddr::from(Ipv6Addr::from(bytes))
        }
    };
    let (uid, inode) = (fields.get(7)?.parse().ok(), fields.get(9)?.parse().ok()?);
    Some((inode, HostListener { address: SocketAddr::new(ip, port), uid, pids: BTreeSet::new() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn only_listening_sockets_of_these_paths_count() {
        let table = "Num       RefCount Protocol Flags    Type St Inode Path\n\
            ffff: 00000002 00000000 00010000 0001 01 17 /h/run//a-b.80.l.sock\n\
            ffff: 00000003 00000000 00000000 0001 03 18 /h/run/a-b.80.l.sock\n\
            ffff: 00000002 00000000 00010000 0001 01 19 /h/run/a-c.80.sock\n";
        let sockets = BTreeSet::from(["/h/run/a-b.80.l.sock".to_owned()]);
        assert_eq!(inodes(table, &sockets), BTreeMap::from([(17, "/h/run/a-b.80.l.sock".to_owned())]));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_listener_is_found_with_its_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x y.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let path = path.to_string_lossy().into_owned();
        let held = of_sockets(&BTreeSet::from([path.clone()]));
        assert_eq!(held, BTreeMap::from([(path, BTreeSet::from([std::process::id()]))]));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_port_is_found_with_its_process() {
        for address in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
            let Ok(listener) = std::net::TcpListener::bind(address) else { continue };
            let address = listener.local_addr().unwrap();
            let found = of_port(address.port());
            let own = found.iter().find(|found| found.address == address).unwrap();
            assert!(own.pids.contains(&std::process::id()), "{own:?}");
            assert!(own.serves(address.ip()) && own.uid == Some(nix::unistd::getuid().as_raw()));
        }
        let v4 =
            "0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1";
        let (inode, read) = tcp_listener(v4).unwrap();
        assert_eq!((inode, read.address, read.uid), (4711, "127.0.0.1:8080".parse().unwrap(), Some(1000)));
        assert!(tcp_listener(&v4.replace(" 0A ", " 01 ")).is_none() && tcp_listener("sl local").is_none());
    }

    #[test]
    fn the_output_of_lsof_is_read() {
        let found = listed("p17\nf5\nn127.0.0.1:3000\np18\nf5\nn127.0.0.1:3000\nf6\nn*:3000\nnx\n");
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].pids, BTreeSet::from([17, 18]));
        assert_eq!(found[1].address.to_string(), "0.0.0.0:3000");
    }
}
