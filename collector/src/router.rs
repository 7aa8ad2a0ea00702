//! The HTTP router: host name → listener of an instance.
//!
//! Owns client connections, connections to applications, and the pages that we answer with
//! ourselves. Never reads the run dir, decides about names or removes sockets: the hub hands it a
//! [`Table`] and hears of refused connects. HTTP/1 is in our own hands, for three reasons: framing
//! that two readers could read differently must be refused, an idle connection must hold no buffer,
//! and the usual request must cost two reads and two writes.
//!
//! ```text
//! listen ─► connection ─► client (head) ─► request (checked, rewritten) ─► table (who)
//!                │                                                           │
//!                └─► exchange: request body ─► upstream (pool)  ◄────────────┘
//!                         client ◄─ answer ─┘     └─ 101 ─► upgrade
//! ```
//! HTTP/2 is hyper's: `http2` writes each of its requests as an HTTP/1 head, so that the same rules see
//! it, and reads the application's answer with the same code. What HTTP/1 cannot carry (gRPC), or what a
//! listener speaks alone, goes on in HTTP/2 (`multiplex`).
mod access;
mod body;
mod bridge;
mod buffer;
mod client;
mod connection;
mod delegate;
mod error;
mod exchange;
mod handover;
mod head;
mod headers;
mod host;
mod http2;
mod limits;
mod listen;
mod metrics;
mod multiplex;
mod outgoing;
mod pages;
mod peer;
mod request;
mod response;
mod shared;
mod table;
mod tasks;
mod timer;
mod transport;
mod upgrade;
mod upstream;

pub use access::{RequestLog, RequestRecord};
pub use error::Error;
pub use listen::{Doors, SecureDoors, run};
pub use metrics::{Counter, RouterMetrics};
pub use table::{Entry, HandedOver, LastSeen, Lookup, Route, Table, TableHandle, Target, Upstream};

/// What the hub should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouterEvent {
    /// Nobody listens at this socket any more.
    UpstreamRefused {
        /// Its path.
        socket: std::path::PathBuf,
    },
}
