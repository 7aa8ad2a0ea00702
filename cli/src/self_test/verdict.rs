//! The result of testing one promise.

/// Result for a promise that is not broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// It holds.
    Holds(String),
    /// It cannot be tested here, and need not be.
    NotTried(String),
}

/// Why a promise is broken, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Broken {
    pub(super) why: String,
    pub(super) hint: Option<String>,
}

// === impl Broken ===

impl From<String> for Broken {
    fn from(why: String) -> Self {
        Self { why, hint: None }
    }
}
