//! The log file of a collector that runs in the background. The command that started the collector opened the file
//! as our standard output and standard error. When it has [`LOG_BYTES`], it is renamed to `collector.log.1`, and a
//! new file is created.
use agentfs_home::is_ours;
use agentfs_wire::limits::LOG_BYTES;
use agentfs_wire::paths::Paths;
use nix::fcntl::OFlag;
use nix::unistd::{dup2_stderr, dup2_stdout};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

/// The log file and its length.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    old_path: PathBuf,
    length: u64,
    /// Whether standard output is the file as well.
    with_stdout: bool,
}

/// The file behind a descriptor.
fn behind(descriptor: BorrowedFd<'_>) -> io::Result<File> {
    Ok(File::from(descriptor.try_clone_to_owned()?))
}

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

// === impl LogFile ===

impl LogFile {
    /// The log of `paths`, if standard error is that file.
    pub(super) fn of_stderr(paths: &Paths) -> Option<Self> {
        Self::of(io::stderr().as_fd(), io::stdout().as_fd(), paths)
    }

    fn of(descriptor: BorrowedFd<'_>, stdout: BorrowedFd<'_>, paths: &Paths) -> Option<Self> {
        let ours = behind(descriptor).and_then(|file| file.metadata()).ok()?;
        let named = fs::symlink_metadata(&paths.log).ok()?;
        let length = ours.len();
        let stdout = behind(stdout).and_then(|file| file.metadata());
        let with_stdout = stdout.is_ok_and(|stdout| is_same(&stdout, &ours));
        (named.is_file() && is_ours(&named) && is_same(&ours, &named)).then(|| Self {
            path: paths.log.clone(),
            old_path: paths.old_log.clone(),
            length,
            with_stdout,
        })
    }

    /// `bytes` more bytes were written.
    pub(super) fn written(&mut self, bytes: usize) {
        self.length = self.length.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        if self.length < LOG_BYTES {
            return;
        }
        let renewed = self.renew().and_then(|file| {
            dup2_stderr(&file)?;
            if self.with_stdout {
                dup2_stdout(&file)?;
            }
            Ok(())
        });
        if renewed.is_err() {
            // The limit applies even if no new file can be made, for example on a full disk: the old lines are lost.
            let _ = behind(io::stderr().as_fd()).and_then(|file| file.set_len(0));
        }
        self.length = 0;
    }

    /// Renames the full file and creates a new one.
    fn renew(&self) -> io::Result<File> {
        fs::rename(&self.path, &self.old_path)?;
        let mut options = OpenOptions::new();
        options.create_new(true).append(true).mode(0o600).custom_flags(OFlag::O_NOFOLLOW.bits());
        options.open(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn only_the_home_s_own_log_is_limited() {
        let home = tempfile::tempdir().unwrap();
        let paths = Paths::new(home.path(), 0);
        let other = File::create(home.path().join("other")).unwrap();
        assert!(LogFile::of(other.as_fd(), other.as_fd(), &paths).is_none(), "it is not the log");
        std::os::unix::fs::symlink("other", &paths.log).unwrap();
        assert!(LogFile::of(other.as_fd(), other.as_fd(), &paths).is_none(), "a link is not followed");
        fs::remove_file(&paths.log).unwrap();
        fs::write(&paths.log, "before\n").unwrap();
        assert!(LogFile::of(other.as_fd(), other.as_fd(), &paths).is_none());
        let log = File::options().append(true).open(&paths.log).unwrap();
        let found = LogFile::of(log.as_fd(), other.as_fd(), &paths).unwrap();
        assert_eq!((found.length, found.with_stdout), (7, false));
        assert!(LogFile::of(log.as_fd(), log.as_fd(), &paths).unwrap().with_stdout);
    }

    #[test]
    fn a_full_log_is_put_aside_once() {
        let home = tempfile::tempdir().unwrap();
        let paths = Paths::new(home.path(), 0);
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        for text in ["first", "second", "third"] {
            fs::write(&paths.log, text).unwrap();
            let log = LogFile {
                path: paths.log.clone(),
                old_path: paths.old_log.clone(),
                length: 0,
                with_stdout: false,
            };
            let fresh = log.renew().unwrap();
            assert_eq!((read(&paths.old_log).as_str(), fresh.metadata().unwrap().len()), (text, 0));
            assert_eq!(fresh.metadata().unwrap().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 2);
    }
}
