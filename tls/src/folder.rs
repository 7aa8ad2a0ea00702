//! Where the files are.
use std::path::{Path, PathBuf};

/// The folder of one home.
pub(crate) fn folder(home: &Path) -> PathBuf {
    home.join("tls")
}
