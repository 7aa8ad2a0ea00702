//! Lines for a person on standard error: a time, a level, a text. Owns the level filter and nothing
//! else; what programs should read goes into the journal.
pub(crate) use agentfs_wire::level::Level;
use std::fmt;
use std::io::Write;
use std::sync::atomic::{AtomicU8, Ordering};

/// The level in force, as a number. One collector runs in one process, so it may be global.
static LEVEL: AtomicU8 = AtomicU8::new(Level::Info as u8);

/// Sets the level for the rest of the process.
pub(crate) fn set(level: Level) {
    LEVEL.store(level as u8, Ordering::Relaxed);
}

/// Writes one line, if its level is wanted. A standard error that cannot be written to is ignored:
/// there is nowhere left to complain.
pub(crate) fn line(level: Level, text: fmt::Arguments<'_>) {
    if level as u8 <= LEVEL.load(Ordering::Relaxed) {
        let time = crate::clock::format_utc(crate::clock::now_ms());
        let line = format!("{time} {:5} {text}\n", level.name());
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}

macro_rules! error {
    ($($text:tt)*) => { $crate::log::line($crate::log::Level::Error, format_args!($($text)*)) };
}
macro_rules! warning {
    ($($text:tt)*) => { $crate::log::line($crate::log::Level::Warn, format_args!($($text)*)) };
}
macro_rules! info {
    ($($text:tt)*) => { $crate::log::line($crate::log::Level::Info, format_args!($($text)*)) };
}
macro_rules! debug {
    ($($text:tt)*) => { $crate::log::line($crate::log::Level::Debug, format_args!($($text)*)) };
}
pub(crate) use {debug, error, info, warning};
