//! The HTTP router: host name → listener of an instance.
//!
//! Owns client connections, connections to applications, and the pages that it answers with itself. Never
//! reads the run dir, decides about names or removes sockets: the hub gives it a [`Table`] and gets reports
//! of refused connects. HTTP/1 is our own code, for three reasons: it must refuse framing that two readers
//! could understand differently, an idle connection must hold no buffer, and the usual request must cost two
//! reads and two writes.
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
//! and an application of HTTP/1. For HTTP/2 with clients, the crate h2 does the framing. Requests that HTTP/1 cannot
//! carry (gRPC), and requests to a listener that speaks only HTTP/2, go to the application in HTTP/2, with hyper
//! (`multiplex`).
mod counters;
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

pub use counters::{Counter, RouterMetrics};
pub use error::Error;
pub use event::RouterEvent;
pub use observe::access::{RequestLog, RequestRecord};
pub use serve::listen::{Listeners, SecureListeners, run};
pub use table::{Entry, HandedOver, LastSeen, Lookup, Route, Table, TableHandle};
pub use upstream::listener::Upstream;
pub use upstream::target::Target;
