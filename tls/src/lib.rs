//! TLS for the router: a local certificate authority (CA) and a certificate for each requested name, or a
//! certificate and key of the user.
//!
//! Owns `home/tls` (0700): the CA's certificate and key, and the file `enabled`; without that file, TLS is off.
//! Never changes a trust store: `agentfs trust` does that with the certificate's path. The router gets a ready
//! [`rustls::ServerConfig`] and does not know how it was made. Used by the collector, which serves TLS, and by the
//! command line, which turns it on and off.
mod authority;
mod clock;
mod error;
mod folder;
mod limits;
mod pair;
mod provider;
mod resolver;
mod state;

pub use authority::{Authority, ensure_ca, find_ca, renew_ca};
pub use error::TlsError;
pub use pair::OwnPair;
pub use state::{disable, enable, enabled};

use folder::folder;
use provider::provider;
use resolver::Resolver;
use rustls::ServerConfig;
use std::path::Path;
use std::sync::Arc;

/// How TLS is served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsConfig {
    /// A pair for the names that its certificate covers; the local CA signs for the others.
    pub own: Option<OwnPair>,
}

/// Everything that a TLS handshake needs. Creates the CA if there is none. `warn` is called if a certificate
/// cannot be made later.
///
/// # Errors
/// [`TlsError`] if a certificate or key cannot be read, used or made.
pub fn server_config(home: &Path, config: &TlsConfig, warn: fn(&str)) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = provider();
    let own = config.own.as_ref().map(|pair| pair.load(&provider)).transpose()?;
    let authority = ensure_ca(home)?;
    if authority.is_too_wide() {
        warn(&format!(
            "{} can sign for more than `localhost` names; run `agentfs trust` to replace it",
            authority.certificate_path().display()
        ));
    }
    let resolver = Resolver::new(authority, own, &provider, warn)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Unusable)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
