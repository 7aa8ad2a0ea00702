//! A certificate and key of the user's own.
use super::TlsError;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::PathBuf;

/// Two files in PEM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnPair {
    /// The certificate, then those that lead to its authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

// === impl OwnPair ===

impl OwnPair {
    /// Checks that both files can be read and belong together.
    ///
    /// # Errors
    /// [`TlsError`], which names the file in question.
    pub fn check(&self) -> Result<(), TlsError> {
        self.load(&super::provider()).map(drop)
    }

    pub(super) fn load(&self, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
        let hint = "a file in PEM begins with -----BEGIN";
        let content = |path: &PathBuf, what| TlsError::Content { path: path.clone(), what, hint };
        let text = fs::read(&self.certificate)
            .map_err(|source| TlsError::file("read the certificate", &self.certificate, source))?;
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&text)
            .collect::<Result<_, _>>()
            .map_err(|_| content(&self.certificate, "certificate that can be read"))?;
        if chain.is_empty() {
            return Err(content(&self.certificate, "certificate"));
        }
        let text = fs::read(&self.key).map_err(|source| TlsError::file("read the key", &self.key, source))?;
        let key = PrivateKeyDer::from_pem_slice(&text)
            .map_err(|_| content(&self.key, "private key without a passphrase"))?;
        CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                TlsError::Mismatch { certificate: self.certificate.clone(), key: self.key.clone() }
            }
            other => TlsError::Unusable(other),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let make = |name: &str| {
            let made = rcgen::generate_simple_self_signed(vec!["a.localhost".to_owned()]).unwrap();
            OwnPair {
                certificate: write(&format!("{name}.pem"), &made.cert.pem()),
                key: write(&format!("{name}.key"), &made.signing_key.serialize_pem()),
            }
        };
        let (one, two) = (make("one"), make("two"));
        one.check().unwrap();
        let empty = write("empty", "");
        for (certificate, key, word) in [
            (&one.certificate, &two.key, "does not belong"),
            (&empty, &one.key, "empty holds no certificate"),
            (&one.certificate, &empty, "empty holds no private key"),
            (&one.key, &one.key, "holds no certificate"),
            (&folder.path().join("gone"), &one.key, "cannot read the certificate"),
            (&one.certificate, &folder.path().join("gone"), "cannot read the key"),
        ] {
            let pair = OwnPair { certificate: certificate.clone(), key: key.clone() };
            let error = pair.check().unwrap_err().to_string();
            assert!(error.contains(word), "{word}: {error}");
        }
    }
}
