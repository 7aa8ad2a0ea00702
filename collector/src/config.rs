//! What the collector is told at its start. Whoever reads the environment (the command line tool)
//! fills it in; nothing here does.
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
    /// Sockets for the router that somebody else opened (launchd). Where there are some and no address is
    /// asked for, they are used instead of the default ones.
    pub router_sockets: Vec<TcpListener>,
    /// With what to serve TLS; absent: as [`agentfs_tls::enabled`] says, so that it is off until it was
    /// switched on once.
    pub tls: Option<TlsConfig>,
    /// Address on which the router speaks TLS instead of the default ones (`AGENTFS_ROUTER_TLS`).
    /// Matters only where TLS is on.
    pub tls_address: Option<SocketAddr>,
    /// Threads to work in (`AGENTFS_ROUTER_THREADS`); absent: one or two, by the number of cores.
    pub router_threads: Option<NonZero<usize>>,
    /// Version to tell in `daemon.info`.
    pub version: &'static str,
    /// The least important lines that are logged (`AGENTFS_LOG`).
    pub log: Level,
}

/// What a collector did in its life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Number of the last journal event.
    pub events: u64,
    /// Number of parts that did not end in time.
    pub still_open: usize,
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
            router_threads: None,
            version,
            log: Level::Info,
        }
    }
}
