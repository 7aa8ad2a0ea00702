//! Limits of what is on disk. `docs/limits.md` lists them.

/// Attempts to get the lock of a collector that is dying, [`COLLECTOR_LOCK_PAUSE_MS`] apart. Then the error names
/// that collector.
pub(crate) const COLLECTOR_LOCK_TRIES: u32 = 100;

/// Milliseconds between two attempts to get the lock of a collector that is dying.
pub(crate) const COLLECTOR_LOCK_PAUSE_MS: u8 = 20;

/// Attempts to get the run lock, [`RUN_LOCK_PAUSE_MS`] apart. It is held for microseconds. Then the caller fails.
pub(crate) const RUN_LOCK_TRIES: u32 = 100;

/// Milliseconds between two attempts to get the run lock.
pub(crate) const RUN_LOCK_PAUSE_MS: u8 = 2;

/// Bytes of the largest routes file that is read. A larger one is treated as damaged.
pub(crate) const ROUTES_BYTES: u64 = 16 * 1024 * 1024;
