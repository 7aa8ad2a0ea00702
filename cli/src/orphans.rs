//! Processes that commands left behind in an instance when they ended, and that hold its ports.
use crate::{liveness, members};
use agentfs_home::holders;
use agentfs_wire::companion::Companion;
use agentfs_wire::name::{Kind, SocketName};
use agentfs_wire::paths::Paths;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// Ancestors of a process that are looked at. A longer line is not followed.
const ANCESTORS: usize = 64;

/// A process that nobody started that still runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Orphan {
    /// The process.
    pub(crate) pid: u32,
    /// Its command line.
    pub(crate) command: String,
    /// The ports that it holds.
    pub(crate) ports: BTreeSet<u16>,
}

/// The processes that hold ports of an instance and do not descend from a command that is running. Of several that
/// hold a port together, only the one that started the others. Empty on systems without `/proc`.
pub(crate) fn of(paths: &Paths, companion: &Companion) -> Vec<Orphan> {
    let started = companion.started();
    let running: BTreeSet<u32> = started
        .iter()
        .filter(|one| liveness::is_started(one))
        .flat_map(|one| [one.wrap_pid, one.child_pid])
        .filter(|pid| *pid != 0)
        .collect();
    let mut orphans: BTreeMap<u32, BTreeSet<u16>> = BTreeMap::new();
    let ports: BTreeMap<String, u16> = liveness::files_of(paths, &companion.app, &companion.instance)
        .iter()
        .filter_map(|file| {
            let name = SocketName::parse(file.file_name()?.to_str()?).ok()?;
            let Kind::Listener { port, .. } = name.kind else { return None };
            Some((file.to_string_lossy().into_owned(), port))
        })
        .collect();
    for (file, holders) in holders::of_sockets(&ports.keys().cloned().collect()) {
        let Some(port) = ports.get(&file).copied() else { continue };
        for pid in &holders {
            let above = ancestors(*pid);
            let is_child_of = |others: &BTreeSet<u32>| above.iter().any(|above| others.contains(above));
            if !running.contains(pid) && !is_child_of(&running) && !is_child_of(&holders) {
                orphans.entry(*pid).or_default().insert(port);
            }
        }
    }
    orphans.into_iter().map(|(pid, ports)| Orphan { pid, command: command(pid), ports }).collect()
}

/// The one of `commands` that started `pid`: itself or its nearest ancestor.
pub(crate) fn starter(pid: u32, commands: &[u32]) -> Option<u32> {
    [pid].into_iter().chain(ancestors(pid)).find(|above| commands.contains(above))
}

/// The parent of a process, its parent, and so on.
fn ancestors(pid: u32) -> Vec<u32> {
    let above = std::iter::successors(Some(pid), |pid| parent(*pid).filter(|parent| *parent > 1));
    above.skip(1).take(ANCESTORS).collect()
}

fn parent(pid: u32) -> Option<u32> {
    // proc_pid_stat(5): the name is in brackets and may hold anything; state and parent follow it.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn command(pid: u32) -> String {
    match members::command(pid).as_str() {
        "" => "?".to_owned(),
        text => text.chars().take(members::COMMAND_CHARACTERS).collect(),
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_child_was_started_by_us_and_not_we_by_it() {
        let mut child =
            std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let own = std::process::id();
        assert_eq!(starter(child.id(), &[own]), Some(own));
        assert_eq!(starter(child.id(), &[own, child.id()]), Some(child.id()), "the nearest");
        assert_eq!((starter(own, &[own]), starter(own, &[child.id()])), (Some(own), None));
        // Not the child's: a process that is just being executed has none for a moment.
        assert!(command(own).contains("agentfs"), "{}", command(own));
        drop(child.stdin.take());
        child.wait().unwrap();
    }

    #[test]
    fn whoever_holds_a_port_without_a_running_command_is_an_orphan() {
        let home = tempfile::tempdir_in("/tmp").unwrap();
        let paths = Paths::new(home.path(), 0);
        fs::create_dir(&paths.run).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(paths.run.join("a-b.5432.sock")).unwrap();
        let own = std::process::id();
        let companion = |pid| Companion {
            app: "a".to_owned(),
            instance: "b".to_owned(),
            wrap_pid: pid,
            started_ms: crate::duration::now_ms(),
            ..Companion::default()
        };
        let found = of(&paths, &companion(u32::MAX));
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].pid, &found[0].ports), (own, &BTreeSet::from([5432])));
        assert_eq!(of(&paths, &companion(own)), []);
    }
}
