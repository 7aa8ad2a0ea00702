//! Limits of TLS. `docs/limits.md` lists them.

/// Bytes of the largest certificate or key of the user's own. A larger file is refused.
pub(crate) const PEM_BYTES: u64 = 1024 * 1024;

/// Names that certificates are kept for. At the limit all are forgotten and made again when asked for.
pub(crate) const CERTIFICATES: usize = 4096;

/// Milliseconds after which a certificate is made anew: long before its end.
pub(crate) const CERTIFICATE_FRESH_MS: u64 = 30 * 24 * 60 * 60 * 1000;
