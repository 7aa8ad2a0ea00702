//! The HTTP router: host name → listener of an instance.
//!
//! Owns client connections, connections to applications, and the pages that we answer with
//! ourselves. Never reads the run dir, decides about names or removes sockets: the hub hands it a
//! [`Table`] and hears of refused connects. HTTP/1 is in our own hands, for three reasons: framing
//! that two readers could read differently must be refused, an idle connection must hold no buffer,
//! and the usual request must cost two reads and two writes.
//!
//! ```text
//! listen ─► connection ─► client (head) ─► message (checked, rewritten) ─► table (who)
//!                │                                                            │
//!                └─► http1 ─┐                                                 │
//!             http2 streams ┴─► forward ─► upstream (pool, multiplex) ◄───────┘
//!                                  │ ▲          │
//!                      exchange ◄──┘ └─ retry   └─ 101 ─► upgrade
//! ```
//! A client of either protocol is a source of requests and a sink of answers, and `exchange` moves the bytes between it
//! and an application of HTTP/1. What HTTP/1 cannot carry (gRPC), or what a listener speaks alone, goes on in HTTP/2
//! (`multiplex`). No files import one another in a circle.
mod error;
mod event;
mod io;
mod limits;
mod message;
mod observe;
mod pages;
mod serve;
mod table;
mod upstream;

pub use error::Error;
pub use event::RouterEvent;
pub use observe::access::{RequestLog, RequestRecord};
pub use observe::counters::{Counter, RouterMetrics};
pub use serve::listen::{Listeners, SecureListeners, run};
pub use table::{Entry, HandedOver, LastSeen, Lookup, Route, Table, TableHandle};
pub use upstream::listener::Upstream;
pub use upstream::target::Target;
