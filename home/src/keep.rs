//! Second names of the files in the run dir, so that running programs stay reachable if somebody empties the
//! run dir. Each listener, companion and group mark gets a hard link in `keep/`, beside the run dir. A file
//! that was removed while its owner is running is linked back. It must be the same inode: the kernel finds a
//! socket by the file's inode, not by the path that was bound (net/unix/af_unix.c, `unix_find_bsd`). Owns the
//! folder `keep`; called by `hub` when a file is new or gone. Never decides who is alive:
//! the kernel does for sockets, the registry for the rest. Sockets that a program binds by itself get no
//! second name: it may remove its own files.
use crate::lock::RunLock;
use crate::probe::{Probe, Prober};
use agentfs_wire::name::{Kind, SocketName};
use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;

/// The second names of one run dir.
#[derive(Debug)]
pub struct Keep {
    /// The run dir.
    run: PathBuf,
    /// The folder of second names, on the same file system.
    folder: PathBuf,
    /// The lock under which names of the run dir are removed and bound again.
    lock: PathBuf,
    /// What it contains: file name → inode number.
    files: BTreeMap<String, u64>,
    prober: Prober,
}

/// What became of a file that is gone from the run dir.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restored {
    /// It is there again, or somebody else uses the name by now.
    Yes,
    /// It was never kept, or its owner has ended: it is forgotten.
    No,
    /// Somebody else holds the run lock, and may bind the name at this moment. Try again later.
    Busy,
}

// === impl Keep ===

impl Keep {
    /// Reads what an earlier collector kept.
    pub fn open(run: PathBuf, folder: PathBuf, lock: PathBuf) -> Self {
        let mut files = BTreeMap::new();
        // If the folder cannot be read, nothing is kept: then an emptied run dir stays empty.
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if let (Ok(name), Ok(metadata)) = (entry.file_name().into_string(), entry.metadata()) {
                files.insert(name, metadata.ino());
            }
        }
        Self { run, folder, lock, files, prober: Prober::default() }
    }

    /// Makes second names for new files in the run dir, restores files that were removed from it, forgets
    /// files whose owner ended. `lives` says whether the instance of a file is alive. Returns the files to try again
    /// later ([`Restored::Busy`]).
    pub fn reconcile(&mut self, there: &[String], lives: impl Fn(&str) -> bool) -> Vec<String> {
        let gone: Vec<String> =
            self.files.keys().filter(|file| there.binary_search(file).is_err()).cloned().collect();
        for file in there.iter().filter(|file| is_kept(file)) {
            self.add(file);
        }
        gone.into_iter().filter(|file| self.restore(file, lives(file)) == Restored::Busy).collect()
    }

    /// Gives a file of the run dir a second name, unless it has one. `false` if that fails, for instance on a full
    /// disk, and should be tried again.
    pub fn add(&mut self, file: &str) -> bool {
        let Ok(metadata) = fs::symlink_metadata(self.run.join(file)) else { return true };
        if !is_worth(&metadata) || self.files.get(file) == Some(&metadata.ino()) {
            return true;
        }
        self.forget(file);
        let linked = fs::hard_link(self.run.join(file), self.folder.join(file));
        if linked.is_ok() {
            self.files.insert(file.to_owned(), metadata.ino());
        }
        linked.is_ok()
    }

    /// Restores a file that is gone from the run dir if its owner is alive; otherwise forgets it. Takes the run lock:
    /// whoever holds it may have removed the name to bind it again at once.
    pub fn restore(&mut self, file: &str, lives: bool) -> Restored {
        if !self.files.contains_key(file) {
            return Restored::No;
        }
        let Ok(Some(_lock)) = RunLock::try_take(&self.lock) else { return Restored::Busy };
        let kept = self.folder.join(file);
        let wanted = match fs::symlink_metadata(&kept) {
            Ok(metadata) if metadata.file_type().is_socket() => self.prober.probe(&kept) == Probe::Live,
            Ok(_) => lives,
            Err(_) => false,
        };
        if !wanted {
            self.forget(file);
            return Restored::No;
        }
        match fs::hard_link(&kept, self.run.join(file)) {
            Ok(()) => Restored::Yes,
            // Somebody else uses the name by now.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Restored::Yes,
            Err(_) => Restored::No,
        }
    }

    /// Whether the file `inode` of the run dir has no second name and should have one.
    pub fn wants(&self, file: &str, inode: u64) -> bool {
        self.files.get(file) != Some(&inode) && is_kept(file)
    }

    fn forget(&mut self, file: &str) {
        if self.files.remove(file).is_some() {
            // If it cannot be removed, the next collector forgets it.
            let _ = fs::remove_file(self.folder.join(file));
        }
    }
}

/// Whether a file is one that only agentfs makes and removes.
fn is_kept(file: &str) -> bool {
    SocketName::parse(file).is_ok_and(|name| name.kind != Kind::Main)
}

/// Whether a file has the type that its name says.
fn is_worth(metadata: &Metadata) -> bool {
    metadata.file_type().is_socket() || metadata.is_file()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run_dir::list;
    use std::os::unix::net::{UnixListener, UnixStream};

    fn home() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let home = tempfile::tempdir_in("/tmp").unwrap();
        let (run, folder) = (home.path().join("run"), home.path().join("keep"));
        fs::create_dir(&run).unwrap();
        fs::create_dir(&folder).unwrap();
        (home, run, folder)
    }

    #[test]
    fn what_lives_comes_back_and_what_does_not_is_forgotten() {
        let (_home, run, folder) = home();
        let mut keep = Keep::open(run.clone(), folder.clone(), run.with_file_name("run.lock"));
        let _live = UnixListener::bind(run.join("a-b.80.sock")).unwrap();
        let own = UnixListener::bind(run.join("a-b.sock")).unwrap();
        let dead = UnixListener::bind(run.join("a-c.81.sock")).unwrap();
        fs::write(run.join("a-b.json"), "{}").unwrap();
        fs::write(run.join("a-c.json"), "{}").unwrap();
        keep.reconcile(&list(&run).unwrap(), |_| true);
        drop((own, dead));
        for file in list(&run).unwrap() {
            fs::remove_file(run.join(file)).unwrap();
        }
        // Another collector, which knows what lies in the folder.
        let mut keep = Keep::open(run.clone(), folder.clone(), run.with_file_name("run.lock"));
        keep.reconcile(&[], |file| file.starts_with("a-b"));
        assert_eq!(list(&run).unwrap(), ["a-b.80.sock", "a-b.json"]);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
        UnixStream::connect(run.join("a-b.80.sock")).unwrap();
    }

    #[test]
    fn a_name_is_left_to_who_holds_the_lock() {
        let (_home, run, folder) = home();
        let lock = run.with_file_name("run.lock");
        let mut keep = Keep::open(run.clone(), folder, lock.clone());
        let file = run.join("a-b.80.sock");
        let _old = UnixListener::bind(&file).unwrap();
        keep.reconcile(&list(&run).unwrap(), |_| true);
        let held = RunLock::try_take(&lock).unwrap().unwrap();
        fs::remove_file(&file).unwrap();
        assert_eq!(keep.restore("a-b.80.sock", true), Restored::Busy);
        assert_eq!(keep.reconcile(&[], |_| true), ["a-b.80.sock"]);
        assert!(!file.exists());
        let _new = UnixListener::bind(&file).unwrap();
        drop(held);
        fs::remove_file(&file).unwrap();
        assert_eq!(keep.restore("a-b.80.sock", true), Restored::Yes);
        assert!(file.exists());
    }

    #[test]
    fn a_name_with_a_new_owner_is_left_to_it() {
        let (_home, run, folder) = home();
        let mut keep = Keep::open(run.clone(), folder.clone(), run.with_file_name("run.lock"));
        let first = UnixListener::bind(run.join("a-b.80.sock")).unwrap();
        keep.reconcile(&list(&run).unwrap(), |_| true);
        fs::remove_file(run.join("a-b.80.sock")).unwrap();
        let second = UnixListener::bind(run.join("a-b.80.sock")).unwrap();
        assert_eq!(keep.restore("a-b.80.sock", true), Restored::Yes);
        drop(first);
        keep.reconcile(&list(&run).unwrap(), |_| true);
        fs::remove_file(run.join("a-b.80.sock")).unwrap();
        assert_eq!(keep.restore("a-b.80.sock", true), Restored::Yes);
        UnixStream::connect(run.join("a-b.80.sock")).unwrap();
        second.accept().unwrap();
        assert_eq!(keep.restore("a-b.99.sock", true), Restored::No);
    }
}
