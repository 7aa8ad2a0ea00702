//! What the registry wants done.
use super::key::Key;
use agentfs_wire::companion::Companion;
use agentfs_wire::event::What;

/// One thing to do. The hub carries them out in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Write an event to the journal, which gives it number and time.
    Publish(Box<What>),
    /// Look at a file of the run dir, and tell by `Seen`.
    Look {
        /// The file.
        file: String,
        /// Milliseconds to wait before.
        after_ms: u32,
    },
    /// Watch a process: tell `ProcessLives` or `ProcessExited` at once, and `ProcessExited` when it ends.
    Watch {
        /// The process.
        pid: u32,
        /// A process that was born later (Unix milliseconds) only has its number.
        born_before_ms: Option<u64>,
    },
    /// Nobody asks for the process any more.
    Forget {
        /// The process.
        pid: u32,
    },
    /// Make the main link, or let the one that is there lead to another listener. Then look at it.
    Link {
        /// File name of the link.
        file: String,
        /// File name of the listener.
        target: String,
        /// What the link that is to be replaced leads to. `None`: nothing is to be replaced.
        instead_of: Option<String>,
    },
    /// Remove the main link, if it is a link.
    RemoveLink {
        /// File name of the link.
        file: String,
    },
    /// Remove a socket under the run lock, if it is still stale.
    RemoveStale {
        /// The file.
        file: String,
    },
    /// Remove the companion of an ended instance, if it is still the one that is meant: a command may have joined the
    /// instance, or taken its name.
    RemoveCompanion {
        /// The file.
        file: String,
        /// What it says, as far as we know.
        companion: Box<Companion>,
    },
    /// Remove a group mark, if it is a plain file.
    RemoveMark {
        /// The file.
        file: String,
    },
    /// Search for processes of an instance that seems dead, and tell by `Surveyed`.
    Survey {
        /// The instance.
        key: Key,
    },
    /// Something new is known of the ports of a folder: store it.
    StoreFaces,
    /// The targets of names changed: build the routing table again.
    Routes,
}
