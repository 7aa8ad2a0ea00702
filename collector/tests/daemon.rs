//! The whole collector in this process, over its real sockets, each test in a home of its own.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]
#[path = "daemon/bad_input.rs"]
mod bad_input;
#[path = "daemon/balance.rs"]
mod balance;
#[path = "daemon/discovery.rs"]
mod discovery;
#[path = "daemon/guards.rs"]
mod guards;
#[path = "daemon/harness.rs"]
mod harness;
#[path = "daemon/lifetime.rs"]
mod lifetime;
#[path = "daemon/requests.rs"]
mod requests;
#[path = "daemon/tls.rs"]
mod tls;
