//! The control socket: newline-delimited JSON, answered in order. Owns connections and their limits. Sends a
//! [`Command`] to `hub` for what needs the registry.

mod connection;
mod line;
mod server;
mod shared;

pub(crate) use server::Server;
pub(crate) use shared::Shared;

use crate::answer::Answer;
use agentfs_wire::control::{
    DrainAllParams, DrainParams, EndedParams, InstanceName, RouteParams, SettleParams, Snapshot,
};
use tokio::sync::oneshot;

/// A request that only the hub can answer. It is carried out even if its client is gone by then.
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
    /// List everything that is running. The list is large, so the connection that asks writes it as JSON.
    List(oneshot::Sender<Snapshot>),
    /// Add a route.
    RouteAdd(RouteParams),
    /// Remove a route.
    RouteRemove(String),
    /// List the routes added by hand.
    RouteList,
    /// Remove what is dead.
    Prune,
    /// An instance's program has ended.
    InstanceEnded(EndedParams),
    /// An instance is about to end.
    Drain(DrainParams),
    /// Instances are about to end.
    DrainAll(DrainAllParams),
    /// The counters.
    Metrics,
    /// Look at the host's ports now, and answer when that is done.
    LookAtHost(InstanceName),
    /// Answer when everything that an instance's programs reported is in the journal.
    Settle(SettleParams),
    /// Read the TLS settings of the home again.
    TlsReload,
    /// Stop the collector.
    Stop,
}
