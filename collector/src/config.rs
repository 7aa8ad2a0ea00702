//! The collector's configuration. The command line tool reads the environment and fills it in; nothing here
//! does.
use agentfs_tls::TlsConfig;
use agentfs_wire::level::Level;
use agentfs_wire::paths::Paths;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZero;

/// The settings of one collector.
#[derive(Debug)]
pub struct Config {
    /// Where everything is. The home must be absolute and canonical.
    pub paths: Paths,
    /// Address on which the router listens instead of the default ones (`AGENTFS_ROUTER`); port 0
    /// takes any free port.
    pub router_address: Option<SocketAddr>,
    /// Sockets for the router that launchd opened. If there are some and no address is set, they are used
    /// instead of the default ones.
    pub router_sockets: Vec<TcpListener>,
    /// How to serve TLS. Absent: as [`agentfs_tls::enabled`] says; so TLS is off until it is turned on once.
    pub tls: Option<TlsConfig>,
    /// Address on which the router speaks TLS instead of the default ones (`AGENTFS_ROUTER_TLS`). Used only
    /// if TLS is on.
    pub tls_address: Option<SocketAddr>,
    /// Address on which questions about names under `localhost` are answered (`AGENTFS_DNS`). Absent: on none.
    pub dns_address: Option<SocketAddr>,
    /// Number of worker threads (`AGENTFS_ROUTER_THREADS`). Absent: one or two, depending on the number of
    /// cores.
    pub router_threads: Option<NonZero<usize>>,
    /// The process that starts this collector again if it is killed; for `daemon.info`.
    pub guardian: Option<u32>,
    /// Version to report in `daemon.info`.
    pub version: &'static str,
    /// The least important lines that are logged (`AGENTFS_LOG`).
    pub log: Level,
}

/// Report of a collector that has stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Number of the last journal event.
    pub events: u64,
    /// Number of parts that did not stop in time.
    pub still_open: usize,
    /// Whether it stopped because it was asked to, or because its home is gone; else a signal stopped it.
    pub asked: bool,
}

// === impl Config ===

impl Config {
    /// The usual settings for `paths`.
    pub fn new(paths: Paths, version: &'static str) -> Self {
        Self {
            paths,
            router_address: None,
            router_sockets: Vec::new(),
            tls: None,
            tls_address: None,
            dns_address: None,
            router_threads: None,
            guardian: None,
            version,
            log: Level::Info,
        }
    }
}
