//! What every trust store can do.
use agentfs_tls::Authority;
use std::path::Path;

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
