//! Where to look for trust stores and for the tools that change them.
use crate::settings::Settings;
use agentfs_wire::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Where to look for stores and for the tools that change them.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// The folder used as `/` to find the system's stores.
    pub(super) root: PathBuf,
    /// The user's own folder.
    pub(super) user_home: Option<PathBuf>,
    /// `XDG_DATA_HOME`
    pub(super) data_home: Option<PathBuf>,
    /// `XDG_CONFIG_HOME`
    pub(super) config_home: Option<PathBuf>,
    /// `JAVA_HOME`
    pub(super) java_home: Option<PathBuf>,
    /// `NODE_EXTRA_CA_CERTS`
    pub(super) node_certificates: Option<PathBuf>,
    /// `PATH`
    pub(super) search_path: Option<OsString>,
}

// === impl Places ===

impl Places {
    /// The places of whoever calls us.
    pub(crate) fn of(settings: &Settings) -> Self {
        let folder = |name: &str| settings.variable(name).map(PathBuf::from);
        Self {
            root: folder(env::TRUST_ROOT).unwrap_or_else(|| PathBuf::from("/")),
            user_home: settings.user_home.clone(),
            data_home: folder("XDG_DATA_HOME"),
            config_home: folder("XDG_CONFIG_HOME"),
            java_home: folder("JAVA_HOME"),
            node_certificates: folder("NODE_EXTRA_CA_CERTS"),
            search_path: settings.search_path.clone(),
        }
    }

    /// Folders below the user's own, `~/FIRST`, `~/SECOND`…
    pub(super) fn below_home<'a>(&'a self, paths: &'a [&str]) -> impl Iterator<Item = PathBuf> + 'a {
        self.user_home.iter().flat_map(move |home| paths.iter().map(move |path| home.join(path)))
    }

    /// A program that is in `PATH`.
    pub(super) fn program(&self, name: &str) -> Option<PathBuf> {
        crate::program::find(name.as_ref(), self.search_path.as_deref()).ok()
    }
}

/// The folders in a folder, by name; none if it cannot be read.
pub(super) fn folders_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}
