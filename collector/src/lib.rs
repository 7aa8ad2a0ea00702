//! The per-user daemon.

pub mod router;
