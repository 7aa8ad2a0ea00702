//! Why a collector does not start. After the start nothing is fatal: errors become warnings.
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why a collector does not start.
#[derive(Debug, Error)]
pub enum Error {
    /// The home cannot be used, or another collector uses it.
    #[error(transparent)]
    Home(#[from] agentfs_home::Error),
    /// One of our sockets cannot be bound.
    #[error("cannot listen on {}: {source}", .path.display())]
    Listen {
        /// Path of the socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The runtime or its signal handlers cannot be set up.
    #[error("cannot set up the runtime: {source}")]
    Runtime {
        /// What the system says.
        source: io::Error,
    },
}
