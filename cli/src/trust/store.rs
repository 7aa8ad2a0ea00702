//! What every trust store can do.
use agentfs_tls::Authority;
use std::path::Path;

/// Why a store cannot be asked or changed, and what to do about it.
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
    /// Where the store cannot be asked.
    fn holds(&self, authority: &Authority) -> Result<bool, Trouble>;

    /// Puts the certificate in.
    ///
    /// # Errors
    /// Where the store cannot be written; it is as it was then.
    fn put(&self, authority: &Authority) -> Result<(), Trouble>;

    /// Takes the certificate out.
    ///
    /// # Errors
    /// Where the store cannot be written.
    fn take(&self, authority: &Authority) -> Result<(), Trouble>;
}
