//! All names at one moment, computed from the instances alone. The names that the registry reports change by change
//! must add up to these.
use super::instance::Instance;
use super::key::Key;
use super::route::{Route, app_host, instance_host};
use super::state::Registry;
use std::collections::{BTreeMap, BTreeSet};

// === impl Registry ===

impl Registry {
    /// Every name and where it leads, each host once, by host.
    pub(super) fn routes(&self) -> Vec<Route> {
        let lead = |(host, title): (String, String)| {
            let route = self.route_of(&host);
            let route = route.unwrap_or_else(|| panic!("{host} leads nowhere instead of to {title}"));
            assert_eq!((&route.host, &route.title), (&host, &title));
            route
        };
        self.owners().into_iter().map(lead).collect()
    }

    /// The instances that an app's name means, by comparing all of them.
    fn compared(&self, app: &str) -> Vec<&Key> {
        let rank = |instance: &Instance| {
            (!instance.is_alive(), !instance.is_main_checkout(), instance.started_ms, instance.order)
        };
        let mut claims: Vec<(&Key, &Instance)> =
            self.instances.iter().filter(|(key, instance)| key.app == app && instance.served).collect();
        claims.sort_by_key(|(_, instance)| rank(instance));
        let Some((leader, first)) = claims.first().copied() else { return Vec::new() };
        let is_replica = |instance: &Instance| {
            let alive = instance.is_alive() && first.is_alive();
            alive && first.folder().is_some() && first.folder() == instance.folder()
        };
        claims
            .into_iter()
            .filter(|(key, instance)| *key == leader || is_replica(instance))
            .map(|(key, _)| key)
            .collect()
    }

    /// Where each name leads by the title of its route, in the order of precedence.
    fn owners(&self) -> BTreeMap<String, String> {
        let mut owners = BTreeMap::new();
        let mut add = |host: String, title: String| {
            owners.entry(host).or_insert(title);
        };
        for (host, hand) in &self.hand {
            add(host.clone(), format!("{} (by hand)", hand.given));
        }
        for (key, instance) in &self.instances {
            if instance.served || !instance.listeners.is_empty() {
                add(instance_host(key), key.to_string());
            }
        }
        let apps: BTreeSet<&str> = self.instances.keys().map(|key| key.app.as_str()).collect();
        for app in apps {
            let leaders = self.compared(app);
            assert_eq!(leaders, self.leaders(app), "the leaders of {app}");
            let Some(first) = leaders.first() else { continue };
            add(app_host(app), first.to_string());
            for (key, port) in leaders
                .iter()
                .flat_map(|key| self.instances[*key].ports().into_iter().map(move |port| (key, port)))
            {
                add(format!("{port}.{}", app_host(app)), key.to_string());
            }
        }
        for (key, instance) in &self.instances {
            for port in instance.ports() {
                add(format!("{port}.{}", instance_host(key)), key.to_string());
            }
        }
        for (key, _) in self.instances.iter().filter(|(_, instance)| instance.is_starting()) {
            add(app_host(&key.app), key.to_string());
            add(instance_host(key), key.to_string());
        }
        for dead in self.dead.iter().rev() {
            add(instance_host(&dead.key), format!("{} (ended)", dead.key));
            add(app_host(&dead.key.app), format!("{} (ended)", dead.key));
        }
        owners
    }
}
