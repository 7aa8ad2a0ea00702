//! Lines for a person on standard error: a time, a level, a text. Owns the level filter and nothing
//! else; what programs should read goes into the journal.
use std::fmt;
use std::io::Write;
use std::str::FromStr;
use std::sync::atomic::{AtomicU8, Ordering};

/// How important a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something in the collector does not work.
    Error,
    /// Something in the collector works with a limitation.
    Warn,
    /// What a person wants to know about a healthy collector.
    Info,
    /// Everything.
    Debug,
}

/// A text that is not a level.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a log level; use error, warn, info or debug")]
pub struct UnknownLevel(String);

/// The current level, as [`Level::number`]. A process runs only one collector, so it may be global.
static LEVEL: AtomicU8 = AtomicU8::new(2);

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

/// Writes one line, if its level is wanted. A standard error that cannot be written to is ignored:
/// there is nowhere left to complain.
pub(crate) fn line(level: Level, text: fmt::Arguments<'_>) {
    if level.number() <= LEVEL.load(Ordering::Relaxed) {
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
