//! Connections to applications: made, kept, shared. Never decides which application is asked.
pub(crate) mod bridge;
pub(crate) mod connect;
pub(crate) mod listener;
pub(crate) mod load;
pub(crate) mod multiplex;
pub(crate) mod pool;
pub(crate) mod retry;
pub(crate) mod seats;
pub(crate) mod target;
