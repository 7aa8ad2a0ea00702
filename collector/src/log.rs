//! Lines for a person on standard error: a time, a level, a text. Owns the level filter and the limit of the file that
//! standard error is in a collector that runs in the background; what programs should read goes into the journal.
mod file;

use agentfs_wire::limits::LOG_LINE_CHARACTERS;
use agentfs_wire::paths::Paths;
use agentfs_wire::text::visible;
use std::fmt;
use std::io::Write;
use std::str::FromStr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};

/// How important a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something of ours does not work.
    Error,
    /// Something of ours works with a limitation.
    Warn,
    /// What a person wants to know of a healthy collector.
    Info,
    /// Everything.
    Debug,
}

/// A text that is no level.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no log level; use error, warn, info or debug")]
pub struct UnknownLevel(String);

/// The level in force, as [`Level::number`]. One collector runs in one process, so it may be global.
static LEVEL: AtomicU8 = AtomicU8::new(2);

/// The file that standard error is, if it is ours to limit. Whoever writes a line holds it.
static FILE: Mutex<Option<file::LogFile>> = Mutex::new(None);

// === impl Level ===

impl Level {
    fn number(self) -> u8 {
        match self {
            Self::Error => 0,
            Self::Warn => 1,
            Self::Info => 2,
            Self::Debug => 3,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

impl FromStr for Level {
    type Err = UnknownLevel;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Error, Self::Warn, Self::Info, Self::Debug]
            .into_iter()
            .find(|level| level.name() == text)
            .ok_or_else(|| UnknownLevel(text.to_owned()))
    }
}

/// Sets the level for the rest of the process.
pub(crate) fn set(level: Level) {
    LEVEL.store(level.number(), Ordering::Relaxed);
}

/// Keeps the log of `paths` within its limit, where standard error is that file: not a terminal, and not what somebody
/// else gave us and looks after.
pub(crate) fn limit(paths: &Paths) {
    *FILE.lock().unwrap_or_else(PoisonError::into_inner) = file::LogFile::of_stderr(paths);
}

/// Writes one line, if its level is wanted. A standard error that cannot be written to is ignored:
/// there is nowhere left to complain.
pub(crate) fn line(level: Level, text: fmt::Arguments<'_>) {
    if level.number() <= LEVEL.load(Ordering::Relaxed) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_read_as_documented() {
        assert_eq!("warn".parse(), Ok(Level::Warn));
        assert!("loud".parse::<Level>().is_err());
        assert!(Level::Error < Level::Debug);
    }
}
