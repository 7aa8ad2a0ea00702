//! Connections to applications: made, kept, shared. Never decides which application is asked.
pub(crate) mod bridge;
pub(crate) mod multiplex;
pub(crate) mod pool;
pub(crate) mod seats;
