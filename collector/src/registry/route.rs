//! A host name and the places that it leads to.
use agentfs_wire::control::Policy;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// One host name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// Host name, lower case, without port and trailing dot.
    pub(crate) host: String,
    /// Whether its sub-domains fall back to it.
    pub(crate) wildcard: bool,
    /// Where requests go, the best claim first.
    pub(crate) ends: Vec<Arc<End>>,
    /// How to choose between them.
    pub(crate) policy: Policy,
    /// Whether client connections are handed over.
    pub(crate) handoff: bool,
    /// Whether the app is asked for `localhost`.
    pub(crate) rewrite_host: bool,
    /// What was there, where nothing answers.
    pub(crate) dead: Option<LastSeen>,
    /// Unix milliseconds when it was started, where nothing has answered since.
    pub(crate) starting: Option<u64>,
    /// Whether the app's name means nothing that is running, though forks of the app are.
    pub(crate) forks_only: bool,
    /// Whether the name means one of several ports, and nobody knows which has the pages.
    pub(crate) undecided: bool,
    /// The port that alone may have the name, because a person said so.
    pub(crate) declared: Option<u16>,
    /// The process that listens, for the name of a port.
    pub(crate) owner: Option<u32>,
    /// What a list of names shows beside it.
    pub(crate) title: String,
}

// === impl Route ===

impl Route {
    /// A route that leads nowhere.
    pub(super) fn nowhere(host: String, title: String) -> Self {
        Self {
            host,
            wildcard: false,
            ends: Vec::new(),
            policy: Policy::default(),
            handoff: false,
            rewrite_host: false,
            dead: None,
            starting: None,
            forks_only: false,
            undecided: false,
            declared: None,
            owner: None,
            title,
        }
    }
}

/// A place that answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    /// Its address.
    pub(crate) target: Target,
    /// App, empty for a route by hand to a foreign place.
    pub(crate) app: String,
    /// Instance, empty likewise.
    pub(crate) instance: String,
    /// Port that the program believes to listen on; 0 where unknown.
    pub(crate) port: u16,
    /// Another number is another listener, though all else be the same; 0 for a foreign place.
    pub(crate) generation: u64,
}

/// An address that the router can connect to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Target {
    /// A Unix socket.
    Unix(PathBuf),
    /// A port on loopback.
    Tcp(SocketAddr),
}

/// What was last seen of a name that nothing answers for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LastSeen {
    /// Path of the socket.
    pub(crate) socket: String,
    /// The command that started it, empty where unknown.
    pub(crate) command: Vec<String>,
    /// Where it was started, empty where unknown.
    pub(crate) directory: String,
    /// Unix milliseconds when it was last seen.
    pub(crate) when_ms: u64,
}
