//! Which host names lead elsewhere than the hub was told: found from the instances that changed, so that a change
//! costs what changed and not what there is.
use super::hand::RouteTarget;
use super::key::Key;
use std::collections::{BTreeMap, BTreeSet};

/// What changed since the hub was told.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Instances of which something changed that a name depends on.
    pub(super) keys: BTreeSet<Key>,
    /// Names that changed whatever the instances say.
    pub(super) hosts: BTreeSet<String>,
    /// By app: whom its name meant when the hub was told.
    pub(super) leaders: BTreeMap<String, BTreeSet<Key>>,
    /// By app: the routes by hand that lead to it or to an instance of it.
    pub(super) hand: BTreeMap<String, BTreeSet<String>>,
}

// === impl Changes ===

impl Changes {
    /// Something of an instance changed.
    pub(super) fn key(&mut self, key: &Key) {
        if !self.keys.contains(key) {
            self.keys.insert(key.clone());
        }
    }

    /// A route by hand was made or taken away.
    pub(super) fn hand(&mut self, host: &str, target: &RouteTarget, made: bool) {
        self.hosts.insert(host.to_owned());
        let (RouteTarget::App(app) | RouteTarget::Instance(Key { app, .. })) = target else { return };
        let hosts = self.hand.entry(app.clone()).or_default();
        if made {
            hosts.insert(host.to_owned());
        } else {
            hosts.remove(host);
            if hosts.is_empty() {
                self.hand.remove(app);
            }
        }
    }
}
