//! The two locks of a home: one ensures that only one collector runs, the other (the run lock) is held while
//! stale sockets are removed.
use crate::error::Error;
use crate::limits::{COLLECTOR_LOCK_PAUSE_MS, COLLECTOR_LOCK_TRIES, RUN_LOCK_PAUSE_MS, RUN_LOCK_WAIT};
use agentfs_system::process;
use agentfs_wire::paths::Paths;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

/// Proof that this process is the collector of its home. Released by the kernel with the process.
#[derive(Debug)]
pub struct CollectorLock {
    _file: Flock<File>,
}

/// Proof that nobody else removes sockets of the run dir. Released when dropped.
#[derive(Debug)]
pub struct RunLock {
    file: Flock<File>,
}

// === impl CollectorLock ===

impl CollectorLock {
    /// Becomes the collector of a home.
    ///
    /// # Errors
    /// [`Error::AlreadyRunning`] if there is one, [`Error::File`] if the file cannot be used.
    pub fn take(paths: &Paths) -> Result<Self, Error> {
        for _ in 0..COLLECTOR_LOCK_TRIES {
            match Self::try_take(paths) {
                // A collector that was killed holds the lock until its last thread is gone.
                Err(Error::AlreadyRunning { pid: Some(pid), .. }) if !process::lives(pid) => {
                    pause(COLLECTOR_LOCK_PAUSE_MS);
                }
                result => return result,
            }
        }
        Self::try_take(paths)
    }

    fn try_take(paths: &Paths) -> Result<Self, Error> {
        let error = |action, source| Error::File { action, path: paths.lock.clone(), source };
        let file = open(&paths.lock).map_err(|source| error("open", source))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut file) => {
                // The text is only for people and error messages; only the lock counts.
                file.set_len(0)
                    .and_then(|()| file.rewind())
                    .and_then(|()| writeln!(file, "{}", std::process::id()))
                    .map_err(|source| error("write", source))?;
                Ok(Self { _file: file })
            }
            Err((mut file, Errno::EWOULDBLOCK)) => {
                let mut text = String::new();
                let _ = (&mut file).take(32).read_to_string(&mut text);
                Err(Error::AlreadyRunning { pid: text.trim().parse().ok(), home: paths.home.clone() })
            }
            Err((_, errno)) => Err(error("lock", errno.into())),
        }
    }
}

/// Waits a moment. There is no event to wait for: the kernel reports a free lock only to a blocking call,
/// which has no time limit.
fn pause(ms: u8) {
    let _ = nix::poll::poll(&mut [], nix::poll::PollTimeout::from(ms));
}

// === impl RunLock ===

impl RunLock {
    /// Waits for the lock, for ten seconds at most.
    ///
    /// # Errors
    /// `TimedOut` if somebody holds it all the time; else what the system says.
    pub fn take(path: &Path) -> io::Result<Self> {
        Self::take_within(path, RUN_LOCK_WAIT)
    }

    pub(crate) fn take_within(path: &Path, limit: Duration) -> io::Result<Self> {
        let start = Instant::now();
        loop {
            if let Some(lock) = Self::try_take(path)? {
                return Ok(lock);
            }
            if start.elapsed() >= limit {
                let message = format!("another process holds {}", path.display());
                return Err(io::Error::new(io::ErrorKind::TimedOut, message));
            }
            pause(RUN_LOCK_PAUSE_MS);
        }
    }

    /// Takes the lock, or returns `None` if somebody else has it: try again a little later.
    ///
    /// # Errors
    /// What the system says if the file cannot be opened.
    pub fn try_take(path: &Path) -> io::Result<Option<Self>> {
        let file = open(path).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot open {}: {error}", path.display()))
        })?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Some(Self { file })),
            Err((_, Errno::EWOULDBLOCK | Errno::EINTR)) => Ok(None),
            Err((_, errno)) => Err(errno.into()),
        }
    }

    /// Whether the file at `path` is still the one that is locked. Whoever removes such a file holds its lock, and whoever
    /// waited for it has the lock of a file that nobody finds any more.
    pub fn is_at(&self, path: &Path) -> bool {
        let number = |file: io::Result<Metadata>| file.map(|file| (file.dev(), file.ino())).ok();
        let own = number(self.file.metadata());
        own.is_some() && own == number(fs::symlink_metadata(path))
    }
}

/// Opens a lock file, and creates it if it is missing. Does not follow a link: somebody else's file is not
/// our lock.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options.custom_flags(OFlag::O_NOFOLLOW.bits()).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_collector_learns_who_the_first_is() {
        let home = tempfile::tempdir_in("/tmp").unwrap();
        let paths = Paths::new(home.path(), 0);
        let first = CollectorLock::take(&paths).unwrap();
        let second = CollectorLock::take(&paths).unwrap_err();
        assert!(matches!(second, Error::AlreadyRunning { pid: Some(pid), .. } if pid == std::process::id()));
        assert!(second.to_string().contains(&std::process::id().to_string()), "{second}");
        drop(first);
        CollectorLock::take(&paths).unwrap();
    }

    #[test]
    fn the_run_lock_excludes() {
        let home = tempfile::tempdir_in("/tmp").unwrap();
        let path = home.path().join("run.lock");
        let first = RunLock::try_take(&path).unwrap();
        assert!(first.is_some() && RunLock::try_take(&path).unwrap().is_none());
        let late = RunLock::take_within(&path, Duration::from_millis(5)).unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
        assert!(late.to_string().contains("run.lock"), "{late}");
        drop(first);
        let last = RunLock::take(&path).unwrap();
        assert!(last.is_at(&path));
        fs::remove_file(&path).unwrap();
        assert!(!last.is_at(&path));
        let next = RunLock::take(&path).unwrap();
        assert!(next.is_at(&path) && !last.is_at(&path));
    }
}
