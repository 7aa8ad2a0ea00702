//! How important a line of the log is.
use std::str::FromStr;

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

// === impl Level ===

impl Level {
    /// Its name.
    pub fn name(self) -> &'static str {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_read_as_documented() {
        assert_eq!("warn".parse(), Ok(Level::Warn));
        for level in [Level::Error, Level::Warn, Level::Info, Level::Debug] {
            assert_eq!(level.name().parse(), Ok(level));
        }
        let error = "loud".parse::<Level>().unwrap_err().to_string();
        assert!(error.contains("`loud`"), "{error}");
        assert!(Level::Error < Level::Debug);
    }
}
