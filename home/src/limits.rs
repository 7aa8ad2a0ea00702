//! Limits of what is on disk. `docs/limits.md` lists them.

/// Tries for the lock of a collector that is dying, [`COLLECTOR_LOCK_PAUSE_MS`] apart. Then the collector that has it
/// is named in the error.
pub(crate) const COLLECTOR_LOCK_TRIES: u32 = 100;

/// Milliseconds between two tries for the lock of a collector that is dying.
pub(crate) const COLLECTOR_LOCK_PAUSE_MS: u8 = 20;

/// Tries for the run lock, [`RUN_LOCK_PAUSE_MS`] apart: it is held for microseconds. Then whoever wants it fails.
pub(crate) const RUN_LOCK_TRIES: u32 = 100;

/// Milliseconds between two tries for the run lock.
pub(crate) const RUN_LOCK_PAUSE_MS: u8 = 2;

/// Bytes of the largest routes file that is read. A larger one is treated as torn.
pub(crate) const ROUTES_BYTES: u64 = 16 * 1024 * 1024;
