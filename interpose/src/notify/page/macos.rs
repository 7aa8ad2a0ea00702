//! The file is opened and read. Memory of a file that was cut short raises SIGBUS here, whoever reads it.
use super::file::open;
use crate::config::Config;
use crate::sys;

/// Milliseconds for which an answer is kept.
const KEPT_MS: u64 = 10;

/// The clock has no ticks of its own.
pub(super) fn tick(now_ms: u64) -> u64 {
    now_ms / KEPT_MS
}

/// Asks the file.
pub(super) fn look(config: &Config, _now: u64) -> bool {
    let mut byte = [0];
    open(config).is_some_and(|file| sys::read(file.number(), &mut byte) == Ok(1)) && byte == [1]
}
