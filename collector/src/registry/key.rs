//! Names of instances.
use agentfs_wire::name::{Kind, SocketName, app_name, instance_name};
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

/// File name of an instance's main socket or link.
pub(super) fn main_file(key: &Key) -> String {
    file_of(key, Kind::Main)
}

/// File name of an instance's companion.
pub(super) fn companion_file(key: &Key) -> String {
    file_of(key, Kind::Companion)
}

fn file_of(key: &Key, kind: Kind) -> String {
    match (app_name(&key.app), instance_name(&key.instance)) {
        (Some(app), Some(instance)) => SocketName { app, instance, kind }.to_string(),
        // A key is made of a parsed file name or of checked labels.
        _ => String::new(),
    }
}
