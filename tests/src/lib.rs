//! The harness of the end-to-end tests.
//!
//! Owns: finding the built programs ([`artifact`]), a private `AGENTFS_HOME` with its own collector and
//! router port ([`home`]), commands with a deadline whose failure explains itself ([`run`]), HTTP as a
//! browser speaks it ([`http`]), the control socket ([`control`]). Never links the collector, the command
//! line or the interposer: it starts the one real binary, as a user does. Used by `e2e/` only.
pub mod artifact;
pub mod control;
pub mod home;
pub mod http;
pub mod processes;
mod report;
pub mod run;
pub mod skip;
pub mod wait;

pub use home::Home;
pub use run::{Output, Process, Run};
