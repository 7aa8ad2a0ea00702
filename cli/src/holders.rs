//! Finds the processes that hold a listener but are otherwise unknown: workers whose master was killed and
//! that have written a title over their environment.
use std::collections::{BTreeMap, BTreeSet};

/// The processes that have one of these sockets open, among those that we may look into.
pub(crate) fn of(sockets: &BTreeSet<String>) -> BTreeSet<u32> {
    by_socket(sockets).into_values().flatten().collect()
}

/// The same, for each socket.
#[cfg(target_os = "linux")]
pub(crate) fn by_socket(sockets: &BTreeSet<String>) -> BTreeMap<String, BTreeSet<u32>> {
    let table = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let wanted: BTreeMap<String, String> = inodes(&table, sockets)
        .into_iter()
        .map(|(inode, path)| (format!("socket:[{inode}]"), path))
        .collect();
    let mut holders: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
    let Ok(processes) = std::fs::read_dir("/proc") else { return holders };
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // Processes of other users, and processes that ended meanwhile, cannot be read.
        let Ok(descriptors) = std::fs::read_dir(process.path().join("fd")) else { continue };
        let targets = descriptors.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
        for path in targets.filter_map(|target| wanted.get(target.to_str()?)) {
            holders.entry(path.clone()).or_default().insert(pid);
        }
    }
    holders
}

/// macOS: only processes that reported themselves are known.
#[cfg(not(target_os = "linux"))]
pub(crate) fn by_socket(_sockets: &BTreeSet<String>) -> BTreeMap<String, BTreeSet<u32>> {
    BTreeMap::new()
}

/// The inodes of listening sockets with these paths, and the path of each (proc_net_unix: number, count, protocol,
/// flags, type, state, inode, path; the flag is `__SO_ACCEPTCON`). A path may contain a double slash.
#[cfg(target_os = "linux")]
fn inodes(table: &str, sockets: &BTreeSet<String>) -> BTreeMap<u64, String> {
    let listening = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let flags = words.nth(3)?;
        let inode = words.nth(2)?.parse().ok()?;
        let path = words.next()?.replace("//", "/");
        (flags == "00010000" && sockets.contains(&path)).then_some((inode, path))
    };
    table.lines().filter_map(listening).collect()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn only_listening_sockets_of_these_paths_count() {
        let table = "Num       RefCount Protocol Flags    Type St Inode Path\n\
            ffff: 00000002 00000000 00010000 0001 01 17 /h/run//a-b.80.l.sock\n\
            ffff: 00000003 00000000 00000000 0001 03 18 /h/run/a-b.80.l.sock\n\
            ffff: 00000002 00000000 00010000 0001 01 19 /h/run/a-c.80.sock\n";
        let sockets = BTreeSet::from(["/h/run/a-b.80.l.sock".to_owned()]);
        assert_eq!(inodes(table, &sockets), BTreeMap::from([(17, "/h/run/a-b.80.l.sock".to_owned())]));
    }

    #[test]
    fn a_listener_is_found_with_its_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let sockets = BTreeSet::from([path.to_string_lossy().into_owned()]);
        assert_eq!(of(&sockets), BTreeSet::from([std::process::id()]));
    }
}
