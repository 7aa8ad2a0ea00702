//! The companion file `{app}-{instance}.json`: what a name cannot say. Written once by whoever starts
//! the instance (created exclusively, so it is also the claim on the name), removed with the instance.
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Who an instance is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Companion {
    /// App name, a DNS label.
    pub app: String,
    /// Instance name, a DNS label.
    pub instance: String,
    /// Working directory of the command.
    pub directory: PathBuf,
    /// Folder of the checkout (git root), where there is one. Instances of one checkout are replicas.
    pub checkout: Option<PathBuf>,
    /// Whether the checkout is a linked worktree or a copy, that is, not the main checkout.
    pub fork: bool,
    /// Branch that was checked out, where known.
    pub branch: Option<String>,
    /// The command and its arguments.
    pub command: Vec<String>,
    /// Process id of `agentfs wrap`, which becomes the program.
    pub wrap_pid: u32,
    /// Process id of the wrapped program: `wrap_pid`, or a child of it (`agentfs trace -- COMMAND`), then 0
    /// until it was started.
    pub child_pid: u32,
    /// Unix time in milliseconds when the instance was started.
    pub started_ms: u64,
    /// Version of agentfs that wrote the file.
    pub version: String,
}
