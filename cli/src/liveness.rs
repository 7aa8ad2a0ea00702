//! Checks whether processes and listeners are alive, without disturbing them, and removes stale sockets.
use agentfs_home::{Probe, Prober, RunLock};
use agentfs_system::process;
use agentfs_wire::companion::{Companion, Started};
use agentfs_wire::env;
use agentfs_wire::name::{Kind, SocketName};
use agentfs_wire::paths::Paths;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// Milliseconds that a process may have started after its companion was written. A process that started later
/// only has the same number.
const START_SLACK_MS: u64 = 10_000;

/// Whether a process of an instance that was started at `started_ms` is still running.
pub(crate) fn is_running(pid: u32, started_ms: u64) -> bool {
    process::lives_since(pid, started_ms.saturating_add(START_SLACK_MS))
}

/// Whether any process that the companion names is still running.
pub(crate) fn has_process(companion: &Companion) -> bool {
    companion.processes().iter().any(|(pid, started_ms)| is_running(*pid, *started_ms))
}

/// Whether a command is still running.
pub(crate) fn is_started(one: &Started) -> bool {
    [one.wrap_pid, one.child_pid].iter().any(|pid| is_running(*pid, one.started_ms))
}

/// Whether any process has the environment of the instance. Takes milliseconds, and sees nothing without `/proc`.
pub(crate) fn is_inhabited(paths: &Paths, companion: &Companion) -> bool {
    let variable = |name: &str, value: &[u8]| [name.as_bytes(), b"=", value].concat();
    let wanted = [
        variable(env::RUN, paths.run.as_os_str().as_bytes()),
        variable(env::APP, companion.app.as_bytes()),
        variable(env::INSTANCE, companion.instance.as_bytes()),
    ];
    process::numbers().into_iter().filter_map(process::environment).any(|environment| {
        wanted.iter().all(|wanted| environment.split(|byte| *byte == 0).any(|found| found == &wanted[..]))
    })
}

/// The files of an instance in the run dir, without its companion.
pub(crate) fn files_of(paths: &Paths, app: &str, instance: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(&paths.run) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| {
        let file = entry.file_name();
        let name = SocketName::parse(file.to_str()?).ok()?;
        let own = name.app.as_str() == app && name.instance.as_str() == instance;
        (own && name.kind != Kind::Companion).then(|| entry.path())
    });
    names.collect()
}

/// Removes what an instance without processes left behind: stale sockets, group marks, dangling links. The
/// caller holds the run lock.
pub(crate) fn sweep(paths: &Paths, app: &str, instance: &str, _lock: &RunLock) -> io::Result<()> {
    let files = files_of(paths, app, instance);
    let (sockets, marks): (Vec<_>, Vec<_>) = files.into_iter().partition(|path| is_socket(path));
    let mut prober = Prober::default();
    for path in sockets.iter().filter(|path| prober.probe(path) == Probe::Stale) {
        ignore_missing(fs::remove_file(path))?;
    }
    for path in marks {
        // A dangling link (its listener was just removed), or a group's mark.
        let dangling = path.is_symlink() && !path.exists();
        let mark = path.extension().is_some_and(|suffix| suffix == "group");
        if dangling || mark {
            ignore_missing(fs::remove_file(&path))?;
        }
    }
    Ok(())
}

fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::duration::now_ms;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_number_alone_is_no_process() {
        let own = std::process::id();
        assert!(is_running(own, now_ms()));
        assert!(!is_running(0, now_ms()));
        assert!(!is_running(u32::MAX, now_ms()));
        #[cfg(target_os = "linux")]
        assert!(!is_running(own, 1_000), "we did not run in 1970");
    }

    #[test]
    fn a_sweep_leaves_the_living_and_what_is_not_ours() {
        let home = tempfile::tempdir_in("/tmp").unwrap();
        let paths = Paths::new(home.path(), 0);
        fs::create_dir(&paths.run).unwrap();
        let file = |name: &str| paths.run.join(name);
        let _live = UnixListener::bind(file("a-b.80.sock")).unwrap();
        drop(UnixListener::bind(file("a-b.81.sock")).unwrap());
        drop(UnixListener::bind(file("a-c.81.sock")).unwrap());
        std::os::unix::fs::symlink("a-b.81.sock", file("a-b.sock")).unwrap();
        fs::write(file("a-b.81.group"), "").unwrap();
        fs::write(file("a-b.82.sock"), "no socket").unwrap();
        sweep(&paths, "a", "b", &RunLock::take(&paths.run_lock).unwrap()).unwrap();
        let left = |name: &str| file(name).symlink_metadata().is_ok();
        assert!(left("a-b.80.sock") && left("a-c.81.sock") && left("a-b.82.sock"));
        assert!(!left("a-b.81.sock") && !left("a-b.sock") && !left("a-b.81.group"));
    }
}
