//! Limits of TLS. `docs/limits.md` lists them.

/// Bytes of the largest certificate or key that a user gives. A larger file is refused.
pub(crate) const PEM_BYTES: u64 = 1024 * 1024;

/// Names whose certificates are kept in memory. At the limit all are dropped, and made again when needed.
pub(crate) const CERTIFICATES: usize = 4096;

/// Milliseconds after which a certificate is replaced, long before it expires.
pub(crate) const CERTIFICATE_FRESH_MS: u64 = 30 * 24 * 60 * 60 * 1000;
