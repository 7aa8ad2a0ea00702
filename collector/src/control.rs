//! The control socket: newline-delimited JSON, answered in order. Owns connections and their limits;
//! what needs the registry is asked of `hub` by a [`Command`].

mod connection;
mod line;
mod server;

pub(crate) use server::{Server, Shared};

use agentfs_wire::control::{
    ControlError, DrainAllParams, DrainParams, EndedParams, ErrorCode, RouteParams, Snapshot,
};
use serde_json::Value;
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
    /// Everything that lives. It is large, so it is written out by whoever asks.
    List(oneshot::Sender<Snapshot>),
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
    /// Instances are about to end.
    DrainAll(DrainAllParams),
    /// The counters.
    Metrics,
    /// TLS as the home says by now.
    TlsReload,
    /// End.
    Stop,
}

/// What the hub answers.
pub(crate) type Answer = Result<Value, ControlError>;

/// An error with its hint.
pub(crate) fn error(code: ErrorCode, message: impl Into<String>, hint: Option<&str>) -> ControlError {
    ControlError { code, message: message.into(), hint: hint.map(str::to_owned) }
}
