//! What the router needs to speak TLS, where that is switched on.
use super::listen;
use crate::tls::{self, TlsConfig};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;

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

/// Makes ready what `config` asks for, or else the file in `home`. The address is `asked`, else port
/// 443, else 4443, else any.
///
/// # Errors
/// A text that says what cannot be used.
pub(super) fn open(
    home: &Path,
    config: Option<TlsConfig>,
    asked: Option<SocketAddr>,
) -> Result<Secured, String> {
    let config = match config {
        Some(config) => Some(config),
        None => tls::enabled(home).map_err(|error| error.to_string())?,
    };
    let Some(config) = config else { return Ok(Secured::default()) };
    let config = tls::server_config(home, &config).map_err(|error| error.to_string())?;
    let bound = listen::bind(asked, listen::HTTPS)?;
    Ok(Secured {
        config: Some(config),
        listeners: bound.listeners,
        port: Some(bound.port),
        note: bound.note,
        error: None,
    })
}
