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
//! HTTP/2 with clients is h2's framing: `http2` writes each request as an HTTP/1 head, so that the same rules see
//! it, and reads the application's answer with the same code. What HTTP/1 cannot carry (gRPC), or what a
//! listener speaks alone, goes on in HTTP/2 (`multiplex`).
mod error;
mod io;
mod limits;
mod message;
mod observe;
mod pages;
mod serve;
mod table;
mod upstream;

pub use error::Error;
pub use observe::access::{RequestLog, RequestRecord};
pub use observe::metrics::{Counter, RouterMetrics};
pub use serve::listen::{Doors, SecureDoors, run};
pub use table::{Entry, HandedOver, LastSeen, Lookup, Route, Table, TableHandle, Target, Upstream};

/// What the hub should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouterEvent {
    /// Nobody listens at this socket any more.
    UpstreamRefused {
        /// Its path.
        socket: std::path::PathBuf,
    },
    /// The sockets that TLS was to be spoken on cannot be used. The port for HTTP understands TLS as well.
    SecureListenersFailed {
        /// What the system said.
        reason: String,
    },
}
