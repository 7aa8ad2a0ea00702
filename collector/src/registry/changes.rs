//! What changed since the hub was told. Host names are computed again only for the instances that changed, so the cost
//! does not depend on the number of instances.
use super::hand::RouteTarget;
use super::key::Key;
use std::collections::{BTreeMap, BTreeSet};

/// What changed since the hub was told.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Instances with a change that can concern a name.
    pub(super) keys: BTreeSet<Key>,
    /// Names that changed for another reason.
    pub(super) hosts: BTreeSet<String>,
    /// By app: the instances that its name meant when the hub was told.
    pub(super) leaders: BTreeMap<String, BTreeSet<Key>>,
    /// By app: the routes added by hand that lead to it or to one of its instances.
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

    /// A route was added or removed by hand.
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
