//! What the registry is told.
use super::hand::HandRoute;
use super::key::Key;
use agentfs_wire::companion::Companion;
use agentfs_wire::speaks::{FolderPorts, Speaks};

/// One thing that happened or was seen.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A file of the run dir was looked at.
    Seen {
        /// Its name.
        file: String,
        /// What was there.
        state: FileState,
    },
    /// A process said by a notice that it belongs to an instance and, where `file` is set, that it
    /// bound that listener.
    Told {
        /// The instance.
        key: Key,
        /// The process, as the kernel names it.
        pid: u32,
        /// The listener's file.
        file: Option<String>,
    },
    /// A process that was to be watched is there.
    ProcessLives {
        /// The process.
        pid: u32,
    },
    /// A process is gone, or never was the one that a companion meant.
    ProcessExited {
        /// The process.
        pid: u32,
    },
    /// `/proc` was searched for processes of instances that seem dead.
    Surveyed {
        /// The instances that were searched for.
        asked: Vec<Key>,
        /// What was found.
        living: Vec<(Key, u32)>,
    },
    /// It was found out who holds a listener that was there before this collector.
    Held {
        /// What was found.
        held: Held,
    },
    /// The process that started a command says that it has ended.
    Ended {
        /// The instance.
        key: Key,
        /// That process; `None`: all commands of the instance.
        wrap_pid: Option<u32>,
    },
    /// Somebody asked for a route.
    RouteAdded {
        /// The route, checked.
        route: HandRoute,
    },
    /// Somebody is about to stop instances: the router sends them nothing until they end or the time is over.
    Drained {
        /// Which.
        keys: Vec<Key>,
        /// Unix milliseconds. Instances that are still running then are routed again.
        until_ms: u64,
    },
    /// An answer of a listener shows what it speaks.
    Spoke {
        /// The listener's file.
        file: String,
        /// What was seen.
        speaks: Speaks,
    },
    /// What earlier collectors learned of the ports of folders. The first event.
    Recalled {
        /// By app and folder.
        folders: Vec<FolderPorts>,
    },
    /// Time has passed.
    Tick,
    /// Somebody removed a route.
    RouteRemoved {
        /// Its host name.
        host: String,
    },
}

/// What is known of a listener that nobody reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    /// Its file.
    pub(crate) file: String,
    /// The process that holds it, if it was found.
    pub(crate) pid: Option<u32>,
    /// Unix milliseconds when it was bound.
    pub(crate) since_ms: u64,
}

/// What a file of the run dir turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FileState {
    /// Nothing has that name.
    Gone,
    /// A socket that a process holds.
    Socket {
        /// Number of the file: another number is another socket.
        inode: u64,
        /// Whether it listens already.
        accepting: bool,
    },
    /// A socket that no process holds any more.
    Stale,
    /// A symbolic link.
    Link {
        /// The file of the run dir that it names, where it names one.
        file: Option<String>,
        /// Its target, as one of the other states.
        end: Box<Self>,
    },
    /// A companion file.
    Companion {
        /// Its content.
        companion: Box<Companion>,
        /// Unix time in milliseconds when it was written.
        written_ms: u64,
    },
    /// The mark of a `SO_REUSEPORT` group.
    Mark,
    /// Something that only has the name of one of our files: a folder, somebody else's socket, a
    /// companion that cannot be read. The text says what.
    Foreign(String),
}
