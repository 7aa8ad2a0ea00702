//! Changes the run dir: removes what is dead, makes the main link. Before each removal it checks that the
//! file is the one that was meant. Called by `hub` for the registry's effects.
use crate::lock::RunLock;
use crate::probe::{Probe, Prober};
use agentfs_wire::companion::Companion;
use agentfs_wire::name::SocketName;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{DirEntryExt, FileTypeExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The run dir of one home.
#[derive(Debug)]
pub struct RunDir {
    /// The folder.
    path: PathBuf,
    /// The lock under which sockets are removed.
    lock: PathBuf,
    prober: Prober,
}

/// Result of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was made.
    Done,
    /// The file is not the one that was meant; nothing was changed.
    Different,
    /// Somebody else holds the run lock; try again a little later.
    Busy,
}

/// The names in the run dir that have our format. Other files are ignored.
pub fn list(run: &Path) -> io::Result<Vec<String>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(run)? {
        if let Ok(name) = entry?.file_name().into_string()
            && SocketName::parse(&name).is_ok()
        {
            files.push(name);
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// The same names, each with the inode number of its file.
///
/// # Errors
/// What the system says.
pub fn numbers(run: &Path) -> io::Result<BTreeMap<String, u64>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(run)? {
        let entry = entry?;
        if let Ok(name) = entry.file_name().into_string()
            && SocketName::parse(&name).is_ok()
        {
            files.insert(name, entry.ino());
        }
    }
    Ok(files)
}

// === impl RunDir ===

impl RunDir {
    /// The run dir at `path`, whose sockets are removed under `lock`.
    pub fn new(path: PathBuf, lock: PathBuf) -> Self {
        Self { path, lock, prober: Prober::default() }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes a socket that nobody holds.
    ///
    /// # Errors
    /// What the system says.
    pub fn remove_stale(&mut self, file: &str) -> io::Result<Change> {
        let Some(lock) = RunLock::try_take(&self.lock)? else { return Ok(Change::Busy) };
        self.remove_under(&lock, file)
    }

    /// The same for callers that can wait: if somebody else changes the run dir, it waits for `limit` at most.
    ///
    /// # Errors
    /// `TimedOut` if somebody holds the lock all the time; else what the system says.
    pub fn remove_stale_within(&mut self, file: &str, limit: Duration) -> io::Result<Change> {
        let lock = RunLock::take_within(&self.lock, limit)?;
        self.remove_under(&lock, file)
    }

    fn remove_under(&mut self, _lock: &RunLock, file: &str) -> io::Result<Change> {
        let path = self.path.join(file);
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Change::Done),
            Err(error) => Err(error),
            Ok(metadata) if !metadata.file_type().is_socket() => Ok(Change::Different),
            Ok(_) if self.prober.probe(&path) != Probe::Stale => Ok(Change::Different),
            Ok(_) => removed(fs::remove_file(&path)),
        }
    }

    /// Makes a relative link if the name is free or is the link to `instead_of`.
    ///
    /// # Errors
    /// What the system says.
    pub fn link(&self, file: &str, target: &str, instead_of: Option<&str>) -> io::Result<Change> {
        let path = self.path.join(file);
        let Some(instead_of) = instead_of else {
            return match symlink(target, &path) {
                Ok(()) => Ok(Change::Done),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Change::Different),
                Err(error) => Err(error),
            };
        };
        let Some(lock) = RunLock::try_take(&self.lock)? else { return Ok(Change::Busy) };
        match fs::read_link(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.link(file, target, None),
            Ok(old) if old == Path::new(instead_of) || old == self.path.join(instead_of) => {}
            _ => return Ok(Change::Different),
        }
        // Not one of our names: so nobody uses the link before it is complete.
        let fresh = self.path.join(format!(".{file}.new"));
        removed(fs::remove_file(&fresh))?;
        symlink(target, &fresh)?;
        fs::rename(&fresh, &path)?;
        drop(lock);
        Ok(Change::Done)
    }

    /// Removes a link.
    ///
    /// # Errors
    /// What the system says.
    pub fn remove_link(&self, file: &str) -> io::Result<Change> {
        let path = self.path.join(file);
        match fs::read_link(&path) {
            Ok(_) => removed(fs::remove_file(&path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Change::Done),
            Err(_) => Ok(Change::Different),
        }
    }

    /// Removes the companion if it still says what is `meant`, not that of a later instance, or one that a command
    /// joined meanwhile. Holds the run lock, because `wrap` joins and replaces instances under it.
    ///
    /// # Errors
    /// What the system says.
    pub fn remove_companion(&self, file: &str, meant: &Companion) -> io::Result<Change> {
        let path = self.path.join(file);
        let Some(lock) = RunLock::try_take(&self.lock)? else { return Ok(Change::Busy) };
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Change::Done),
            Err(error) => return Err(error),
        };
        let change = match serde_json::from_slice::<Companion>(&text) {
            Ok(found) if found == *meant => removed(fs::remove_file(&path))?,
            _ => Change::Different,
        };
        drop(lock);
        Ok(change)
    }

    /// Removes a plain file.
    ///
    /// # Errors
    /// What the system says.
    pub fn remove_mark(&self, file: &str) -> io::Result<Change> {
        let path = self.path.join(file);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_file() => removed(fs::remove_file(&path)),
            Ok(_) => Ok(Change::Different),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Change::Done),
            Err(error) => Err(error),
        }
    }
}

fn removed(result: io::Result<()>) -> io::Result<Change> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(Change::Done),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    fn run_dir() -> (tempfile::TempDir, RunDir) {
        let home = tempfile::tempdir().unwrap();
        let run = home.path().join("run");
        fs::create_dir(&run).unwrap();
        let lock = home.path().join("run.lock");
        (home, RunDir::new(run, lock))
    }

    #[test]
    fn only_stale_sockets_are_removed() {
        let (_home, mut run) = run_dir();
        let path = |file: &str| run.path.join(file);
        let (live, stale, plain) = (path("a-live.sock"), path("a-stale.sock"), path("a-plain.sock"));
        let _live = UnixListener::bind(&live).unwrap();
        drop(UnixListener::bind(&stale).unwrap());
        fs::write(&plain, "").unwrap();
        assert_eq!(run.remove_stale("a-live.sock").unwrap(), Change::Different);
        assert_eq!(run.remove_stale("a-plain.sock").unwrap(), Change::Different);
        let lock = RunLock::try_take(&run.lock).unwrap();
        assert_eq!(run.remove_stale("a-stale.sock").unwrap(), Change::Busy);
        drop(lock);
        assert_eq!(run.remove_stale("a-stale.sock").unwrap(), Change::Done);
        assert!(live.exists() && plain.exists() && !stale.exists());
    }

    #[test]
    fn only_links_are_replaced() {
        let (_home, run) = run_dir();
        let link = run.path.join("a-b.sock");
        assert_eq!(run.link("a-b.sock", "a-b.80.sock", None).unwrap(), Change::Done);
        assert_eq!(run.link("a-b.sock", "a-b.81.sock", None).unwrap(), Change::Different);
        assert_eq!(run.link("a-b.sock", "a-b.81.sock", Some("a-b.99.sock")).unwrap(), Change::Different);
        assert_eq!(run.link("a-b.sock", "a-b.81.sock", Some("a-b.80.sock")).unwrap(), Change::Done);
        assert_eq!(fs::read_link(&link).unwrap(), Path::new("a-b.81.sock"));
        fs::remove_file(&link).unwrap();
        let _socket = UnixListener::bind(&link).unwrap();
        assert_eq!(run.link("a-b.sock", "a-b.80.sock", Some("a-b.81.sock")).unwrap(), Change::Different);
        assert_eq!(run.remove_link("a-b.sock").unwrap(), Change::Different);
        assert!(link.exists());
    }

    #[test]
    fn a_later_companion_stays() {
        let (_home, run) = run_dir();
        let text = r#"{"app":"a","instance":"b","directory":"/","checkout":null,"fork":false,"branch":null,
            "command":[],"wrap_pid":7,"child_pid":8,"started_ms":9,"version":"1"}"#;
        fs::write(run.path.join("a-b.json"), text).unwrap();
        let companion: Companion = serde_json::from_str(text).unwrap();
        let earlier = Companion { started_ms: 8, ..companion.clone() };
        let joined = Companion { commands: companion.started(), ..companion.clone() };
        for other in [earlier, joined] {
            assert_eq!(run.remove_companion("a-b.json", &other).unwrap(), Change::Different);
        }
        assert_eq!(run.remove_companion("a-b.json", &companion).unwrap(), Change::Done);
        assert_eq!(run.remove_companion("a-b.json", &companion).unwrap(), Change::Done);
    }
}
