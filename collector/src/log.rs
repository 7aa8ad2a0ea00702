//! Lines for a person on standard error: a time, a level, a text. Owns the level filter and the size limit of
//! the log file, which is standard error of a collector in the background. Data for programs goes into the journal.
mod file;

pub(crate) use agentfs_wire::level::Level;
use agentfs_wire::limits::LOG_LINE_CHARACTERS;
use agentfs_wire::paths::Paths;
use agentfs_wire::text::visible;
use std::fmt;
use std::io::Write;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};

/// The current level, as a number. A process runs only one collector, so it may be global.
static LEVEL: AtomicU8 = AtomicU8::new(Level::Info as u8);

/// The file that is standard error, if we limit its size. Locked while a line is written.
static FILE: Mutex<Option<file::LogFile>> = Mutex::new(None);

/// Sets the level for the rest of the process.
pub(crate) fn set(level: Level) {
    LEVEL.store(level as u8, Ordering::Relaxed);
}

/// Keeps the log of `paths` within its size limit if standard error is that file. A terminal, or a file that
/// somebody else gave us, is not limited.
pub(crate) fn limit(paths: &Paths) {
    *FILE.lock().unwrap_or_else(PoisonError::into_inner) = file::LogFile::of_stderr(paths);
}

/// Writes one line, if its level is wanted. A standard error that cannot be written to is ignored:
/// there is nowhere left to complain.
pub(crate) fn line(level: Level, text: fmt::Arguments<'_>) {
    if level as u8 <= LEVEL.load(Ordering::Relaxed) {
        let time = crate::clock::format_utc(crate::clock::now_ms());
        let mut text = text.to_string();
        if let Some((end, _)) = text.char_indices().nth(LOG_LINE_CHARACTERS) {
            text.truncate(end);
            text.push('…');
        }
        let line = format!("{time} {:5} {}\n", level.name(), visible(&text));
        let mut file = FILE.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = std::io::stderr().write_all(line.as_bytes());
        if let Some(file) = &mut *file {
            file.written(line.len());
        }
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
