//! The per-user daemon.
