//! Names of instances.
use agentfs_wire::name::SocketName;
use std::fmt;

/// Names one instance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    /// App, a DNS label.
    pub(crate) app: String,
    /// Instance, a DNS label.
    pub(crate) instance: String,
}

// === impl Key ===

impl Key {
    /// The instance that a file belongs to.
    pub(crate) fn of(name: &SocketName) -> Self {
        Self { app: name.app.as_str().to_owned(), instance: name.instance.as_str().to_owned() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.app, self.instance)
    }
}
