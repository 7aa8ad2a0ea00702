//! The ports that the router had last, where any free one was asked for (port 0). The next collector takes the same ones,
//! so that the URLs go on that running programs were given.
use crate::log;
use agentfs_home::stored;
use agentfs_wire::paths::Paths;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// The file `router.json`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Former {
    /// Port of HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) http: Option<u16>,
    /// Port of TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) https: Option<u16>,
}

/// Whether any free port was asked for.
pub(super) fn is_any(asked: Option<SocketAddr>) -> bool {
    asked.is_some_and(|asked| asked.port() == 0)
}

// === impl Former ===

impl Former {
    /// Reads the file. A damaged one is moved aside; then a free port is as good.
    pub(super) fn load(paths: &Paths) -> Self {
        let (former, trouble) = stored::load(&paths.router);
        if let Some(trouble) = trouble {
            log::warning!("{trouble}; the router takes any free port");
        }
        former
    }

    /// Writes the file if something changed.
    pub(super) fn store(self, paths: &Paths) {
        if self == Self::load(paths) {
            return;
        }
        if let Err(error) = stored::save(&paths.router, &self) {
            log::warning!(
                "cannot write {}: {error}; the router's port changes with the collector",
                paths.router.display()
            );
        }
    }
}
