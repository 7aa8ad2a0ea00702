//! Keeps what is derived from instances up to date: claims to names, members by process, names that changed.
use super::instance::Instance;
use super::key::Key;
use super::route::{Route, app_host, instance_host};
use super::state::Registry;
use std::collections::BTreeSet;

// === impl Registry ===

impl Registry {
    /// The instances that `{app}.localhost` means, best claim first.
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
        // Whoever has not served has no claim. That it starts or binds is told with the next change: it leads nowhere.
        if claim.served {
            self.mark(key);
        } else {
            self.changes.key(key);
        }
    }

    /// Takes the claim of an instance that ended back.
    pub(super) fn unclaim(&mut self, key: &Key, instance: &Instance) {
        self.claims.change(key, instance.claim.as_ref(), None);
    }

    /// Counts a process among those of an instance; whether it was not.
    pub(super) fn join(&mut self, key: &Key, pid: u32) -> bool {
        let Some(instance) = self.instances.get_mut(key) else { return false };
        let joined = instance.pids.insert(pid);
        if joined {
            self.members.entry(pid).or_default().insert(key.clone());
        }
        joined
    }

    /// Counts a process no longer among those of an instance; whether it was.
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

    /// The instances that a process belongs to: more than one where `wrap` was called in an instance.
    pub(super) fn keys_of(&self, pid: u32) -> Vec<Key> {
        self.members.get(&pid).into_iter().flatten().cloned().collect()
    }

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
