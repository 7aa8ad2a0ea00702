//! Keeps what is derived from instances up to date: claims to names, members by process, names that changed.
use super::instance::Instance;
use super::key::Key;
use super::route::Route;
use super::state::Registry;
use agentfs_wire::host::{app_host, instance_host};
use std::collections::BTreeSet;

// === impl Registry ===

impl Registry {
    /// The instances that `{app}.localhost` means: `main`, its copies, sockets made by hand.
    pub(crate) fn leaders(&self, app: &str) -> Vec<&Key> {
        self.claims.leaders(app)
    }

    /// Brings an instance's claim up to date after anything of it changed.
    pub(super) fn reclaim(&mut self, key: &Key) {
        let Some(instance) = self.instances.get_mut(key) else { return };
        let claim = instance.to_claim();
        if instance.claim.as_ref() == Some(&claim) {
            return;
        }
        let old = instance.claim.replace(claim.clone());
        self.claims.change(key, old.as_ref(), Some(&claim));
        // Without service there is no claim. A start or a bind changes no route, so it is reported with the next change.
        if claim.served {
            self.mark(key);
        } else {
            self.changes.key(key);
        }
    }

    /// Removes the claim of an instance that ended.
    pub(super) fn unclaim(&mut self, key: &Key, instance: &Instance) {
        self.claims.change(key, instance.claim.as_ref(), None);
    }

    /// Adds a process to an instance. Returns whether it is new there.
    pub(super) fn join(&mut self, key: &Key, pid: u32) -> bool {
        let Some(instance) = self.instances.get_mut(key) else { return false };
        let joined = instance.pids.insert(pid);
        if joined {
            self.members.entry(pid).or_default().insert(key.clone());
        }
        joined
    }

    /// Removes a process from an instance. Returns whether it was there.
    pub(super) fn leave(&mut self, key: &Key, pid: u32) -> bool {
        let left = self.instances.get_mut(key).is_some_and(|instance| instance.pids.remove(&pid));
        if left {
            self.forget_member(key, pid);
        }
        left
    }

    pub(super) fn forget_member(&mut self, key: &Key, pid: u32) {
        if let Some(keys) = self.members.get_mut(&pid) {
            keys.remove(key);
            if keys.is_empty() {
                self.members.remove(&pid);
            }
        }
    }

    /// The instances that a process belongs to: several if `wrap` was called inside an instance.
    pub(super) fn keys_of(&self, pid: u32) -> Vec<Key> {
        self.members.get(&pid).into_iter().flatten().cloned().collect()
    }

    /// An instance has a change that can concern a name.
    pub(super) fn mark(&mut self, key: &Key) {
        self.routes_changed = true;
        self.changes.key(key);
    }

    /// The names of the ports of an instance that is gone.
    pub(super) fn mark_ports(&mut self, key: &Key, ports: &BTreeSet<u16>) {
        self.changes.hosts.extend(ports.iter().flat_map(|port| port_hosts(key, *port)));
    }

    /// The names that may have changed since the last call, and where they lead.
    pub(crate) fn take_changes(&mut self) -> Vec<(String, Option<Route>)> {
        let keys = std::mem::take(&mut self.changes.keys);
        let mut hosts = std::mem::take(&mut self.changes.hosts);
        let mut apps = BTreeSet::new();
        for key in &keys {
            apps.insert(key.app.as_str());
            hosts.insert(instance_host(&key.app, &key.instance));
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
    [format!("{port}.{}", instance_host(&key.app, &key.instance)), format!("{port}.{}", app_host(&key.app))]
}
