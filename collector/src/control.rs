//! The control socket: newline-delimited JSON, answered in order. Owns connections and their limits;
//! what needs the registry is asked of `hub` by a [`Command`].

mod connection;
mod line;
mod server;
mod shared;

pub(crate) use server::Server;
pub(crate) use shared::Shared;

use crate::answer::Answer;
use agentfs_wire::control::{DrainParams, EndedParams, RouteParams};
use tokio::sync::oneshot;

/// A request that only the hub can answer. It is carried out even if its client has gone meanwhile.
#[derive(Debug)]
pub(crate) struct Command {
    /// What is asked.
    pub(crate) ask: Ask,
    /// hub --answer--> connection
    pub(crate) answer_tx: oneshot::Sender<Answer>,
}

/// What a command asks for.
#[derive(Debug)]
pub(crate) enum Ask {
    /// Everything that lives.
    List,
    /// A new route.
    RouteAdd(RouteParams),
    /// A route less.
    RouteRemove(String),
    /// The routes made by hand.
    RouteList,
    /// Remove what is dead.
    Prune,
    /// An instance's program has ended.
    InstanceEnded(EndedParams),
    /// An instance is about to end.
    Drain(DrainParams),
    /// The counters.
    Metrics,
    /// TLS as the home says by now.
    TlsReload,
    /// End.
    Stop,
}
