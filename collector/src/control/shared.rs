//! Data that every control connection needs.
use super::Command;
use crate::forward::Forwards;
use crate::journal::Journal;
use agentfs_home::TracePage;
use agentfs_wire::control::DaemonInfo;
use tokio::sync::{mpsc, watch};

/// Data that every connection needs.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Who we are: hub --changes--> connections
    pub(crate) info_rx: watch::Receiver<DaemonInfo>,
    /// The journal of events.
    pub(crate) journal: Journal,
    /// Raw TCP into instances.
    pub(crate) forwards: Forwards,
    /// Who wants calls.
    pub(crate) page: TracePage,
    /// connections --commands--> hub
    pub(crate) command_tx: mpsc::Sender<Command>,
}
