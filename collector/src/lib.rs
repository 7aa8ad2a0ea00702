//! The per-user daemon: it knows what is running in one AGENTFS_HOME, gives it host names, and routes to it.
//!
//! [`serve`] is the whole daemon. [`run`] is the same with the caller's own runtime and shutdown. What is
//! running is known from the run dir and the kernel, so a collector may be killed at any time, and the next
//! one knows the same. Routes added by hand (`routes_file`) and TLS (`tls`) are kept in files. `hub` explains
//! how the parts work together.

mod answer;
mod bars;
#[cfg(target_os = "linux")]
mod broker;
mod clock;
mod config;
mod control;
mod dns;
mod end;
mod error;
mod forward;
mod host;
mod hub;
mod journal;
mod limits;
mod log;
mod metrics;
mod notice;
mod processes;
mod registry;
mod secret;
mod warnings;
mod watch;

pub use config::{Config, Report};
pub use error::Error;

use std::future::Future;
use std::num::NonZero;
use tokio::signal::unix::{SignalKind, signal};

/// Runs a collector in this thread and a few more until SIGTERM, SIGINT or `daemon.stop`.
///
/// # Errors
/// [`Error`] if it cannot start.
pub fn serve(config: Config) -> Result<Report, Error> {
    let threads = config.router_threads.map_or_else(
        || std::thread::available_parallelism().map_or(1, NonZero::get).min(limits::WORKER_THREADS),
        NonZero::get,
    );
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .max_blocking_threads(limits::BLOCKING_THREADS)
        .thread_name("agentfs-worker")
        .enable_all()
        .build()
        .map_err(|source| Error::Runtime { source })?;
    runtime.block_on(async {
        let signals = |kind| signal(kind).map_err(|source| Error::Runtime { source });
        let mut terminate = signals(SignalKind::terminate())?;
        let mut interrupt = signals(SignalKind::interrupt())?;
        let ended = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        run(config, ended).await
    })
}

/// Runs a collector until `shutdown` completes or a client sends `daemon.stop`. Needs a tokio runtime
/// with I/O and time.
///
/// # Errors
/// [`Error`] if it cannot start. Later errors become warnings in the journal and the log.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<Report, Error> {
    hub::run(config, shutdown).await
}
