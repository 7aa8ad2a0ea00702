//! Limits of what is on disk. `docs/limits.md` lists them.
use std::time::Duration;

/// Attempts to get the lock of a collector that is dying, [`COLLECTOR_LOCK_PAUSE_MS`] apart. Then the error names
/// that collector.
pub(crate) const COLLECTOR_LOCK_TRIES: u32 = 100;

/// Milliseconds between two attempts to get the lock of a collector that is dying.
pub(crate) const COLLECTOR_LOCK_PAUSE_MS: u8 = 20;

/// Longest wait for the run lock; then the caller fails. It is held for microseconds, but for as long as the disk
/// takes for one change of the folder: 0.3 s were seen on a busy machine.
pub(crate) const RUN_LOCK_WAIT: Duration = Duration::from_secs(10);

/// Milliseconds between two attempts to get the run lock.
pub(crate) const RUN_LOCK_PAUSE_MS: u8 = 2;

/// Bytes of the largest file of routes, of forwards, or of what ports speak, that is read. A larger one is treated as
/// damaged.
pub(crate) const STORED_BYTES: u64 = 16 * 1024 * 1024;

/// Bytes of the page of barred ports that are read by the collector when it starts, and by `agentfs who`.
pub(crate) const BARRED_PAGE_BYTES: u64 = 64 * 1024 * 1024;

/// Time below which the list of the machine's Unix sockets is read whenever a socket may have begun to listen.
pub(crate) const ACCEPTING_CHEAP: Duration = Duration::from_micros(200);

/// A list that takes longer is read only for sockets that were seen before, and this many times as long passes
/// between two readings.
pub(crate) const ACCEPTING_SHARE: u32 = 16;
