//! Who holds the listeners that were there before this collector: their processes did not report to it. The process is
//! the oldest that has the socket open, because workers inherit it; the time is that of the socket's file, which is made
//! by `bind`.
use crate::registry::Held;
use agentfs_home::holders::of_sockets;
use agentfs_home::list;
use agentfs_wire::name::{Kind, SocketName};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::UNIX_EPOCH;

/// What is known of the listeners of a run dir. Takes milliseconds: call it only where blocking is allowed.
pub(crate) fn held(run: &Path) -> Vec<Held> {
    let files = list(run).unwrap_or_default();
    let is_socket = |file: &String| {
        SocketName::parse(file).is_ok_and(|name| matches!(name.kind, Kind::Listener { .. } | Kind::Main))
    };
    let paths: BTreeMap<String, String> = files
        .into_iter()
        .filter(is_socket)
        .map(|file| (run.join(&file).to_string_lossy().into_owned(), file))
        .collect();
    let holders = of_sockets(&paths.keys().cloned().collect());
    let held = paths.into_iter().filter_map(|(path, file)| {
        let since = fs::symlink_metadata(&path).ok()?.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        let since_ms = u64::try_from(since.as_millis()).ok()?;
        Some(Held { pid: holders.get(&path).and_then(oldest), file, since_ms })
    });
    held.collect()
}

#[cfg(target_os = "linux")]
fn oldest(pids: &BTreeSet<u32>) -> Option<u32> {
    // Of two that the clock cannot tell apart, the one with the lower number.
    pids.iter().copied().min_by_key(|pid| (super::birth::born_ms(*pid).map(|born| born / 10), *pid))
}

#[cfg(not(target_os = "linux"))]
fn oldest(pids: &BTreeSet<u32>) -> Option<u32> {
    pids.first().copied()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_listener_that_was_there_has_its_process_and_its_time() {
        let run = tempfile::tempdir_in("/tmp").unwrap();
        let before = crate::clock::now_ms();
        let _listener = UnixListener::bind(run.path().join("shop-main.80.sock")).unwrap();
        fs::write(run.path().join("shop-main.json"), "{}").unwrap();
        let held = held(run.path());
        assert_eq!((held.len(), held[0].pid), (1, Some(std::process::id())));
        assert!(held[0].since_ms + 1_000 >= before && held[0].since_ms <= crate::clock::now_ms());
    }
}
