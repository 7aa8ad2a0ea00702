//! Which certificate a handshake gets: by the name that the client asks for (SNI).
use super::TlsError;
use super::authority::Authority;
use crate::limits::{CERTIFICATE_FRESH_MS, CERTIFICATES};
use rcgen::KeyPair;
use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SigningKey};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

/// Makes and keeps certificates.
#[derive(Debug)]
pub(super) struct Resolver {
    authority: Authority,
    own: Option<Arc<CertifiedKey>>,
    /// One key for all that we make: it never leaves this process.
    key: KeyPair,
    signing: Arc<dyn SigningKey>,
    made: RwLock<HashMap<Box<str>, Made>>,
    /// Is called with the reason if a certificate cannot be made.
    warn: fn(&str),
}

#[derive(Clone, Debug)]
struct Made {
    certified: Arc<CertifiedKey>,
    when_ms: u64,
}

// === impl Resolver ===

impl Resolver {
    pub(super) fn new(
        authority: Authority,
        own: Option<CertifiedKey>,
        provider: &CryptoProvider,
        warn: fn(&str),
    ) -> Result<Self, TlsError> {
        let key = KeyPair::generate()?;
        let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let signing = provider.key_provider.load_private_key(der).map_err(TlsError::Unusable)?;
        Ok(Self { authority, own: own.map(Arc::new), key, signing, made: RwLock::default(), warn })
    }

    /// The certificate for `name`; `None` for a name that is none of this machine's.
    fn find(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        if let Some(own) = &self.own
            && covers(own, &name)
        {
            return Some(Arc::clone(own));
        }
        if !Authority::signs_for(&name) {
            return None;
        }
        let now = crate::clock::now_ms();
        let is_fresh = |made: &&Made| now.saturating_sub(made.when_ms) < CERTIFICATE_FRESH_MS;
        let kept = self.made.read().unwrap_or_else(PoisonError::into_inner).get(name.as_str()).cloned();
        if let Some(made) = kept.as_ref().filter(is_fresh) {
            return Some(Arc::clone(&made.certified));
        }
        let certificate = self.authority.sign(&name, &self.key);
        let certificate = certificate.inspect_err(|error| (self.warn)(&format!("{name}: {error}"))).ok()?;
        let chain = vec![certificate, CertificateDer::from(self.authority.certificate_der().to_vec())];
        let certified = Arc::new(CertifiedKey::new(chain, Arc::clone(&self.signing)));
        let mut made = self.made.write().unwrap_or_else(PoisonError::into_inner);
        if made.len() >= CERTIFICATES {
            made.clear();
        }
        made.insert(name.into_boxed_str(), Made { certified: Arc::clone(&certified), when_ms: now });
        Some(certified)
    }
}

fn covers(own: &CertifiedKey, name: &str) -> bool {
    let (Ok(end), Ok(name)) = (own.end_entity_cert(), ServerName::try_from(name)) else { return false };
    ParsedCertificate::try_from(end).is_ok_and(|parsed| verify_server_name(&parsed, &name).is_ok())
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // Who comes by an address names nobody.
        self.find(hello.server_name().unwrap_or("localhost"))
    }
}
