//! What is on disk in one AGENTFS_HOME, apart from TLS.
//!
//! Owns its folders and their permissions ([`prepare`]), the locks ([`CollectorLock`], [`RunLock`]), changes of the
//! run dir ([`RunDir`]), the second names of its files ([`Keep`]), the routes added by hand ([`routes`]), the forwards
//! ([`forwards`]), other small files ([`stored`]), the page of barred ports ([`barred`]), the page that says whether somebody traces ([`TracePage`]), and the
//! checks whether a process holds a socket ([`Prober`]) and whether it listens on it ([`AcceptingSockets`]).
//! [`agentfs_wire::paths::Paths`] has the place of each file. Makes no
//! decisions, never waits longer than its limits say, and does not log: the caller does. Used by the collector, and
//! by the command line, which needs a run dir before any collector runs.
mod accepting;
pub mod barred;
mod error;
mod folders;
pub mod forwards;
mod keep;
mod limits;
mod lock;
mod probe;
mod replace;
pub mod routes;
mod run_dir;
pub mod stored;
mod trace_page;

pub use accepting::{AcceptingSockets, Price};
pub use error::{Error, FolderReason};
pub use folders::{PRIVATE, is_ours, prepare};
pub use keep::{Keep, Restored};
pub use lock::{CollectorLock, RunLock};
pub use probe::{Probe, Prober};
pub use replace::{Durable, replace};
pub use run_dir::{Change, RunDir, list, numbers};
pub use trace_page::{TracePage, Wish};
