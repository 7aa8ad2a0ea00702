//! What the router needs to speak TLS, where that is switched on, at the start and later.
use super::listen;
use agentfs_router::SecureListeners;
use agentfs_tls::{self as tls, TlsConfig};
use agentfs_wire::control::DaemonInfo;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// All of it; nothing where TLS is off.
#[derive(Debug, Default)]
pub(super) struct Secured {
    /// How to speak it.
    pub(super) config: Option<Arc<rustls::ServerConfig>>,
    /// Sockets of the port for it. Without any, the port for HTTP understands it all the same.
    pub(super) listeners: Vec<TcpListener>,
    /// The port to put into URLs.
    pub(super) port: Option<u16>,
    /// What a person should know about the choice.
    pub(super) note: Option<String>,
    /// Why it is off though it was switched on.
    pub(super) error: Option<String>,
}

/// What turns TLS on and off while the collector runs.
#[derive(Debug)]
pub(super) struct Switch {
    /// What was asked for at the start, if anything: then the home is not looked at.
    pub(super) config: Option<TlsConfig>,
    /// Where to listen, if the user said so.
    pub(super) address: Option<SocketAddr>,
    /// hub --sockets and certificates--> router
    pub(super) listeners_tx: mpsc::Sender<SecureListeners>,
    /// hub --who we are--> control
    pub(super) info_tx: watch::Sender<DaemonInfo>,
}

/// Makes ready what `config` asks for, or else the file in `home`. The address is `asked`, else port
/// 443, else 4443, else any; where a port is `kept`, its sockets are there and no others are made.
///
/// # Errors
/// A text that says what cannot be used.
pub(super) fn open(
    home: &Path,
    config: Option<&TlsConfig>,
    asked: Option<SocketAddr>,
    kept: Option<u16>,
    former: Option<u16>,
) -> Result<Secured, String> {
    let config = match config {
        Some(config) => Some(config.clone()),
        None => tls::enabled(home).map_err(|error| error.to_string())?,
    };
    let Some(config) = config else { return Ok(Secured::default()) };
    let config = tls::server_config(home, &config, warn).map_err(|error| error.to_string())?;
    if kept.is_some() {
        return Ok(Secured { config: Some(config), port: kept, ..Secured::default() });
    }
    let bound = listen::bind(asked, listen::HTTPS, former)?;
    Ok(Secured {
        config: Some(config),
        listeners: bound.listeners,
        port: Some(bound.port),
        note: bound.note,
        error: None,
    })
}

/// Logs why a certificate cannot be made during a handshake.
fn warn(text: &str) {
    crate::log::warning!("{text}");
}
