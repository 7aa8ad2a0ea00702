//! Why TLS cannot be served.
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why TLS cannot be served.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file or folder cannot be read or written.
    #[error("cannot {action} {}: {source}", .path.display())]
    File {
        /// What we tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{} does not contain a {what}; {hint}", .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// The key is not the certificate's.
    #[error("the key in {} does not belong to the certificate in {}; give the pair that was made together", .key.display(), .certificate.display())]
    Mismatch {
        /// File of the certificate.
        certificate: PathBuf,
        /// File of the key.
        key: PathBuf,
    },
    /// A certificate is used before or after its time.
    #[error("the certificate in {} {why}; {hint}", .path.display())]
    Time {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// The library refuses a certificate or key.
    #[error("cannot use this certificate or key: {0}")]
    Unusable(#[source] rustls::Error),
    /// The library cannot make a certificate.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
}

// === impl TlsError ===

impl TlsError {
    pub(super) fn file(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::File { action, path: path.into(), source }
    }
}
