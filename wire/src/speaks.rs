//! What a port was seen to speak. The router learns it from answers, the collector keeps it for the folder.
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What a port speaks, as far as its answers show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Speaks {
    /// HTTP; whether it has pages for people is not known.
    Http,
    /// HTTP, but a browser that asked for its first page got something else, such as JSON.
    NoPages,
    /// HTTP, and a browser got a page.
    Pages,
    /// Another protocol.
    Other,
}

/// What is known of the ports of an app's folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderPorts {
    /// The app.
    pub app: String,
    /// The checkout, or the folder of the command.
    pub folder: PathBuf,
    /// Unix time in milliseconds when something was learned.
    pub learned_ms: u64,
    /// What its ports speak.
    pub ports: BTreeMap<u16, Speaks>,
}

// === impl Speaks ===

impl Speaks {
    /// What is known after `seen`, if `known` was known before.
    #[must_use]
    pub fn after(known: Option<Self>, seen: Self) -> Self {
        match (known, seen) {
            // An answer to a program says nothing about pages.
            (Some(known @ (Self::Pages | Self::NoPages)), Self::Http) => known,
            (_, seen) => seen,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_pages_outlives_answers_to_programs() {
        use Speaks::{Http, NoPages, Other, Pages};
        for (known, seen, then) in [
            (None, Http, Http),
            (Some(Pages), Http, Pages),
            (Some(NoPages), Http, NoPages),
            (Some(NoPages), Pages, Pages),
            (Some(Pages), NoPages, NoPages),
            (Some(Pages), Other, Other),
            (Some(Other), Http, Http),
        ] {
            assert_eq!(Speaks::after(known, seen), then, "{known:?} {seen:?}");
        }
    }
}
