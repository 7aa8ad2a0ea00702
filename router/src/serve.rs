//! Clients: accepted, told apart by what they speak, answered.
pub(crate) mod client;
pub(crate) mod connection;
pub(crate) mod exchange;
pub(crate) mod forward;
pub(crate) mod handover;
mod handshake;
pub(crate) mod http1;
pub(crate) mod http2;
pub(crate) mod listen;
pub(crate) mod places;
pub(crate) mod reader;
pub(crate) mod shared;
pub(crate) mod upgrade;
