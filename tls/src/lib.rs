//! TLS for the router: a local certificate authority, certificates made for each name as it is asked
//! for, or a pair of the user's own.
//!
//! Owns `home/tls` (0700): the authority's certificate and key, and the file `enabled`, without which
//! TLS is off. Never touches a trust store: `agentfs trust` does that with the certificate's path. The
//! router gets a ready [`rustls::ServerConfig`] and knows nothing of all this. Used by the collector, which
//! serves, and by the command line, which switches on and off.
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

/// What TLS is to be served with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsConfig {
    /// A pair for the names that its certificate covers; the local authority signs for the others.
    pub own: Option<OwnPair>,
}

/// Everything that a TLS handshake needs. Makes the authority where there is none. `warn` is called where a
/// certificate cannot be made later.
///
/// # Errors
/// [`TlsError`] where a certificate or key cannot be read, used or made.
pub fn server_config(home: &Path, config: &TlsConfig, warn: fn(&str)) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = provider();
    let own = config.own.as_ref().map(|pair| pair.load(&provider)).transpose()?;
    let authority = ensure_ca(home)?;
    if authority.is_too_wide() {
        warn(&format!(
            "{} may sign for more than `localhost` names; run `agentfs trust` to replace it",
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
