//! The HTTP router: host name → listener of an instance.
//!
//! Owns client connections, connections to applications, and the pages that it answers with itself. Never
//! reads the run dir, decides about names or removes sockets: the hub gives it a [`Table`] and gets reports
//! of refused connects. HTTP/1 is our own code, for three reasons: it must refuse framing that two readers
//! could understand differently, an idle connection must hold no buffer, and the usual request must cost two
//! reads and two writes.
//!
//! ```text
//! listen ─► connection ─► client (head) ─► request (checked, rewritten) ─► table (who)
//!                │                                                           │
//!                └─► exchange: request body ─► upstream (pool)  ◄────────────┘
//!                         client ◄─ answer ─┘     └─ 101 ─► upgrade
//! ```
//! For HTTP/2 with clients, the crate h2 does the framing. `http2` writes each request as an HTTP/1 head, so
//! that the same rules apply, and reads the application's answer with the same code. Requests that HTTP/1
//! cannot carry (gRPC), and requests to a listener that speaks only HTTP/2, go to the application in HTTP/2,
//! with hyper (`multiplex`).
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
