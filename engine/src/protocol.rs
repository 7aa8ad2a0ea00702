//! What a program that starts and its supervisor say to one another: one message of a `SOCK_SEQPACKET` socket each way, as
//! JSON, with the descriptor of the filter's notifications beside it.
use agentfs_wire::companion::Rules;
use serde::{Deserialize, Serialize};

/// Which instance a program belongs to, and by which rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The app.
    pub app: String,
    /// The instance.
    pub instance: String,
    /// Its rules.
    pub rules: Rules,
    /// The process that `wrap` or `exec` became (`AGENTFS_COMMAND`): notices of refused connects name it.
    pub command: String,
}

/// Where the ports of an instance are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sockets {
    /// In a network name space of its own.
    PortSpace,
    /// On the host's loopback, where other numbers stand in for the instance's.
    StandIns {
        /// errno of the name space that the system does not give us.
        errno: i32,
    },
}

/// A question to a supervisor.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ask {
    /// Whether it has a port space.
    Hello,
    /// Serve the filter whose descriptor comes with this message.
    Serve {
        /// Whose filter it is.
        member: Member,
        /// Number of the network in which the program starts (`SO_NETNS_COOKIE`).
        network: u64,
    },
    /// A program of another instance runs under a filter of this supervisor: look at each caller's environment.
    Foreign,
}

/// Its answer: nothing, or why not.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// errno of what failed.
    pub(crate) errno: Option<i32>,
    /// Where the ports of the instance are, if it has some.
    #[serde(default)]
    pub(crate) sockets: Option<Sockets>,
    /// Whether the supervisor makes the sockets of its programs.
    #[serde(default)]
    pub(crate) makes_sockets: bool,
    /// The supervisor's process, so that a program can let it read its memory.
    #[serde(default)]
    pub(crate) pid: i32,
    /// errno if it may not read the memory of who asks.
    #[serde(default)]
    pub(crate) unreadable: Option<i32>,
}
