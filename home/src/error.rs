//! Why a home cannot be used.
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why a home cannot be used.
#[derive(Debug, Error)]
pub enum Error {
    /// Another collector serves this home.
    #[error("another collector{} serves {}", .pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default(), .home.display())]
    AlreadyRunning {
        /// Its process, if the lock file has it.
        pid: Option<u32>,
        /// The home in question.
        home: PathBuf,
    },
    /// A folder cannot be used.
    #[error("cannot use the folder {}: {reason}", .path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        reason: FolderReason,
    },
    /// A file or folder cannot be made or opened.
    #[error("cannot {action} {}: {source}", .path.display())]
    File {
        /// What we tried, `create` for instance.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// What is wrong with a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FolderReason {
    /// It is a file or something else.
    #[error("it is not a folder; remove it or set AGENTFS_HOME to another place")]
    NotAFolder,
    /// It belongs to another user.
    #[error("it belongs to user {owner}, not to you; set AGENTFS_HOME to a folder of your own")]
    Foreign {
        /// Its owner.
        owner: u32,
    },
    /// It is a link that agentfs did not make.
    #[error("it is a link that agentfs did not make; remove it or set AGENTFS_HOME to another place")]
    ForeignLink,
    /// Others may write to it.
    #[error("other users may write to it (mode {mode:o}); run `chmod go-w` on it or set AGENTFS_HOME")]
    Writable {
        /// Its permission bits.
        mode: u32,
    },
}
