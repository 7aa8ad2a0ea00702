//! A certificate and key of the user's own.
use super::TlsError;
use crate::limits::PEM_BYTES;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, RootCertStore};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

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

    /// Refuses a certificate that is not valid at this moment. Who signed it is the user's business.
    fn check_time(
        &self,
        certificate: &CertificateDer<'_>,
        provider: &CryptoProvider,
    ) -> Result<(), TlsError> {
        let parsed = ParsedCertificate::try_from(certificate).map_err(TlsError::Unusable)?;
        let now = UnixTime::since_unix_epoch(Duration::from_millis(crate::clock::now_ms()));
        // Its time is looked at first; that nobody of none vouches for it is no surprise.
        let algorithms = provider.signature_verification_algorithms.all;
        let verified =
            verify_server_cert_signed_by_trust_anchor(&parsed, &RootCertStore::empty(), &[], now, algorithms);
        use CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
        let (why, hint) = match verified {
            Err(rustls::Error::InvalidCertificate(Expired | ExpiredContext { .. })) => {
                ("has expired", "renew it")
            }
            Err(rustls::Error::InvalidCertificate(NotValidYet | NotValidYetContext { .. })) => {
                ("is not valid yet", "check this machine's clock")
            }
            _ => return Ok(()),
        };
        Err(TlsError::Time { path: self.certificate.clone(), why, hint })
    }

    pub(super) fn load(&self, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
        let hint = "a PEM file begins with -----BEGIN";
        let content = |path: &PathBuf, what| TlsError::Content { path: path.clone(), what, hint };
        let text = read(&self.certificate)
            .map_err(|source| TlsError::file("read the certificate", &self.certificate, source))?;
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&text)
            .collect::<Result<_, _>>()
            .map_err(|_| content(&self.certificate, "valid certificate"))?;
        if chain.is_empty() {
            return Err(content(&self.certificate, "certificate"));
        }
        let text = read(&self.key).map_err(|source| TlsError::file("read the key", &self.key, source))?;
        let key = PrivateKeyDer::from_pem_slice(&text)
            .map_err(|_| content(&self.key, "private key without a passphrase"))?;
        if let Some(first) = chain.first() {
            self.check_time(first, provider)?;
        }
        CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                TlsError::Mismatch { certificate: self.certificate.clone(), key: self.key.clone() }
            }
            other => TlsError::Unusable(other),
        })
    }
}

/// The content of a file, if it is one and of the size of certificates and keys: a pipe or a device would never end.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    // Without waiting for whoever writes into a pipe.
    let file = File::options().read(true).custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits()).open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !kind.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut text = Vec::new();
    if file.take(PEM_BYTES + 1).read_to_end(&mut text)? as u64 > PEM_BYTES {
        return Err(io::Error::other(format!("it is larger than {PEM_BYTES} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_is_no_file_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe.pem");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let large = folder.path().join("large.pem");
        File::create(&large).unwrap().set_len(PEM_BYTES + 1).unwrap();
        for (path, why) in [
            (pipe.as_path(), "not a regular file"),
            (Path::new("/dev/zero"), "not a regular file"),
            (&large, "larger than"),
            (folder.path(), "directory"),
        ] {
            let pair = OwnPair { certificate: path.to_owned(), key: path.to_owned() };
            let error = pair.check().unwrap_err().to_string();
            assert!(error.contains(why) && error.contains(path.to_str().unwrap()), "{error}");
        }
    }

    #[test]
    fn a_certificate_out_of_its_time_is_named() {
        let folder = tempfile::tempdir().unwrap();
        for (from, to, word) in
            [(2001, 2002, "has expired"), (2999, 3000, "is not valid yet"), (2001, 3000, "")]
        {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut params = rcgen::CertificateParams::new(vec!["a.localhost".to_owned()]).unwrap();
            params.not_before = rcgen::date_time_ymd(from, 1, 1);
            params.not_after = rcgen::date_time_ymd(to, 1, 1);
            let (certificate, file) = (folder.path().join("a.pem"), folder.path().join("a.key"));
            fs::write(&certificate, params.self_signed(&key).unwrap().pem()).unwrap();
            fs::write(&file, key.serialize_pem()).unwrap();
            let checked = OwnPair { certificate, key: file }.check();
            if word.is_empty() {
                checked.unwrap();
            } else {
                let error = checked.unwrap_err().to_string();
                assert!(error.contains("a.pem") && error.contains(word), "{error}");
            }
        }
    }

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
            (&empty, &one.key, "empty does not contain a certificate"),
            (&one.certificate, &empty, "empty does not contain a private key"),
            (&one.key, &one.key, "does not contain a certificate"),
            (&folder.path().join("gone"), &one.key, "cannot read the certificate"),
            (&one.certificate, &folder.path().join("gone"), "cannot read the key"),
        ] {
            let pair = OwnPair { certificate: certificate.clone(), key: key.clone() };
            let error = pair.check().unwrap_err().to_string();
            assert!(error.contains(word), "{word}: {error}");
        }
    }
}
