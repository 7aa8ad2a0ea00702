//! Which host names lead elsewhere than the hub was told: found from the instances that changed, so that a change
//! costs what changed and not what there is.
use super::event::Key;
use super::hand::RouteTarget;
use super::names::{Route, app_host, instance_host};
use super::state::Registry;
use std::collections::{BTreeMap, BTreeSet};

/// What changed since the hub was told.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Instances of which something changed that a name depends on.
    keys: BTreeSet<Key>,
    /// Names that changed whatever the instances say.
    hosts: BTreeSet<String>,
    /// By app: whom its name meant when the hub was told.
    leaders: BTreeMap<String, BTreeSet<Key>>,
    /// By app: the routes by hand that lead to it or to an instance of it.
    hand: BTreeMap<String, BTreeSet<String>>,
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

// === impl Registry ===

impl Registry {
    /// Something of an instance changed that a name depends on.
    pub(super) fn mark(&mut self, key: &Key) {
        self.routes_changed = true;
        self.changes.key(key);
    }

    /// The names of an instance's ports, which nothing is known of any more.
    pub(super) fn mark_ports(&mut self, key: &Key, ports: &BTreeSet<u16>) {
        self.changes.hosts.extend(ports.iter().flat_map(|port| port_hosts(key, *port)));
    }

    /// The names that may lead elsewhere than at the last call, and where they lead by now.
    pub(crate) fn take_changes(&mut self) -> Vec<(String, Option<Route>)> {
        let keys = std::mem::take(&mut self.changes.keys);
        let mut hosts = std::mem::take(&mut self.changes.hosts);
        let mut apps = BTreeSet::new();
        for key in &keys {
            apps.insert(key.app.as_str());
            hosts.insert(instance_host(key));
            if let Some(instance) = self.instances.get_mut(key) {
                let ports = instance.ports();
                hosts.extend(instance.named.union(&ports).flat_map(|port| port_hosts(key, *port)));
                instance.named = ports;
            }
        }
        for app in apps {
            hosts.insert(app_host(app));
            hosts.extend(self.changes.hand.get(app).into_iter().flatten().cloned());
            let leaders = self.claims.leaders(app);
            let known = self.changes.leaders.get(app);
            if known.map_or(0, BTreeSet::len) == leaders.len()
                && leaders.iter().all(|key| known.is_some_and(|known| known.contains(*key)))
            {
                continue;
            }
            let leaders: BTreeSet<Key> = leaders.into_iter().cloned().collect();
            let none = BTreeSet::new();
            for key in known.unwrap_or(&none).symmetric_difference(&leaders) {
                let ports = self.instances.get(key).map(|instance| &instance.named);
                hosts.extend(ports.into_iter().flatten().map(|port| format!("{port}.{}", app_host(app))));
            }
            if leaders.is_empty() {
                self.changes.leaders.remove(app);
            } else {
                self.changes.leaders.insert(app.to_owned(), leaders);
            }
        }
        hosts
            .into_iter()
            .map(|host| {
                let route = self.route_of(&host);
                (host, route)
            })
            .collect()
    }
}

/// The names that a port of an instance may have.
fn port_hosts(key: &Key, port: u16) -> [String; 2] {
    [format!("{port}.{}", instance_host(key)), format!("{port}.{}", app_host(&key.app))]
}
