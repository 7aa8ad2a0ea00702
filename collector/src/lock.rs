//! The two locks of a home: the one that makes the collector single, and the run lock under which
//! stale sockets are removed.
use crate::error::Error;
use agentfs_wire::paths::Paths;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Proof that this process is the collector of its home. Released by the kernel with the process.
#[derive(Debug)]
pub(crate) struct CollectorLock {
    _file: Flock<File>,
}

/// Proof that nobody else removes sockets of the run dir. Released when dropped.
#[derive(Debug)]
pub(crate) struct RunLock {
    _file: Flock<File>,
}

// === impl CollectorLock ===

impl CollectorLock {
    /// Becomes the collector of a home.
    ///
    /// # Errors
    /// [`Error::AlreadyRunning`] where there is one, [`Error::File`] where the file cannot be used.
    pub(crate) fn take(paths: &Paths) -> Result<Self, Error> {
        let error = |action, source| Error::File { action, path: paths.lock.clone(), source };
        let file = open(&paths.lock).map_err(|source| error("open", source))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut file) => {
                // Only for people and error messages; the lock itself is what counts.
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

// === impl RunLock ===

impl RunLock {
    /// Takes the lock, or gives `None` where somebody else has it: try again a little later.
    ///
    /// # Errors
    /// What the system says where the file cannot be opened.
    pub(crate) fn try_take(path: &Path) -> io::Result<Option<Self>> {
        match Flock::lock(open(path)?, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Some(Self { _file: file })),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(errno.into()),
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
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
        drop(first);
        assert!(RunLock::try_take(&path).unwrap().is_some());
    }
}
