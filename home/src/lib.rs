//! What is on disk in one AGENTFS_HOME, apart from TLS.
//!
//! Owns: its folders and who may use them ([`prepare`]), the locks ([`CollectorLock`], [`RunLock`]), changes of the
//! run dir ([`RunDir`]), the second names of what lies there ([`Keep`]), the routes made by hand ([`routes`]), the
//! page that says whether somebody traces ([`TracePage`]), and the question whether a socket is held and listens
//! ([`Prober`], [`AcceptingSockets`]). Where everything is says [`agentfs_wire::paths::Paths`]. Decides nothing, waits
//! for nobody longer than its limits say, and logs nothing: who calls it does. Used by the collector, and by the
//! command line, which must have a run dir before there is any collector.
mod accepting;
mod error;
mod folders;
mod keep;
mod limits;
mod lock;
mod probe;
pub mod routes;
mod run_dir;
mod trace_page;

pub use accepting::AcceptingSockets;
pub use error::{Error, FolderReason};
pub use folders::{PRIVATE, is_ours, prepare};
pub use keep::Keep;
pub use lock::{CollectorLock, RunLock};
pub use probe::{Probe, Prober};
pub use run_dir::{Change, RunDir, list};
pub use trace_page::{TracePage, Wish};
