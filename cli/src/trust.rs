//! Trust stores: where programs look for the certificates that they trust.
//!
//! Owns how each kind of store is found, read and changed, with the store's own tool. Never creates the local
//! CA and never decides whether TLS is on: `commands/trust.rs` does. One file per kind of store; each has a
//! `find` that uses only [`Places`], so that a test can use its own folders.
mod java;
mod keychain;
mod node;
mod nss;
mod system;
mod tool;

pub(crate) use node::advice as node;

use crate::settings::Settings;
use agentfs_collector::tls::Authority;
use agentfs_wire::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Where to look for stores and for the tools that change them.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// The folder used as `/` to find the system's stores.
    root: PathBuf,
    /// The user's own folder.
    user_home: Option<PathBuf>,
    /// `XDG_DATA_HOME`
    data_home: Option<PathBuf>,
    /// `XDG_CONFIG_HOME`
    config_home: Option<PathBuf>,
    /// `JAVA_HOME`
    java_home: Option<PathBuf>,
    /// `NODE_EXTRA_CA_CERTS`
    node_certificates: Option<PathBuf>,
    /// `PATH`
    search_path: Option<OsString>,
}

/// Why a store cannot be read or changed, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// What is wrong.
    pub(crate) why: String,
    /// What to do: a command, mostly.
    pub(crate) remedy: String,
}

/// A store that was found.
pub(crate) trait Store {
    /// Whose store it is.
    fn kind(&self) -> &'static str;

    /// The file or folder.
    fn place(&self) -> &Path;

    /// Whether the certificate is in it.
    ///
    /// # Errors
    /// The store cannot be read.
    fn holds(&self, authority: &Authority) -> Result<bool, Trouble>;

    /// Puts the certificate in.
    ///
    /// # Errors
    /// The store cannot be written; it is unchanged.
    fn put(&self, authority: &Authority) -> Result<(), Trouble>;

    /// Takes the certificate out.
    ///
    /// # Errors
    /// The store cannot be written.
    fn take(&self, authority: &Authority) -> Result<(), Trouble>;
}

/// Every store that can be found.
pub(crate) fn find(places: &Places) -> Vec<Box<dyn Store>> {
    let mut stores: Vec<Box<dyn Store>> = Vec::new();
    if let Some(system) = system::find(places) {
        stores.push(Box::new(system));
    }
    if let Some(keychain) = keychain::find(places) {
        stores.push(Box::new(keychain));
    }
    for database in nss::find(places) {
        stores.push(Box::new(database));
    }
    for keystore in java::find(places) {
        stores.push(Box::new(keystore));
    }
    stores
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
    fn below_home<'a>(&'a self, paths: &'a [&str]) -> impl Iterator<Item = PathBuf> + 'a {
        self.user_home.iter().flat_map(move |home| paths.iter().map(move |path| home.join(path)))
    }

    /// A program that is in `PATH`.
    fn program(&self, name: &str) -> Option<PathBuf> {
        crate::program::find(name.as_ref(), self.search_path.as_deref()).ok()
    }
}

/// The folders in a folder, by name; none if it cannot be read.
fn folders_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}
