//! All names at one moment, computed from the instances alone. The names that the registry reports change by change
//! must add up to these.
use super::claims::Alike;
use super::instance::Instance;
use super::key::Key;
use super::route::Route;
use super::state::Registry;
use agentfs_wire::host::{app_host, copy_number, instance_host, is_port_label};
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
        let of_app = || self.instances.iter().filter(|(key, _)| key.app == app);
        let line = |instance: &Instance| {
            let companion = instance.companion.as_ref()?;
            let named = companion.stem.as_deref() == Some("main") && !companion.closed;
            let checkout = named.then(|| Alike::Checkout(companion.folder().to_owned()));
            let command = Alike::Command(companion.directory.clone(), companion.command.clone());
            Some([command].into_iter().chain(checkout).collect::<Vec<_>>())
        };
        let share = |one: &[Alike], other: &[Alike]| one.iter().any(|alike| other.contains(alike));
        let main = of_app().find(|(key, _)| key.instance == "main").and_then(|(_, instance)| line(instance));
        // What `main` was while it was there is remembered.
        let wanted = main.or_else(|| self.claims.line(app).map(|line| (**line).clone()));
        let mut copies: Vec<_> = of_app()
            .filter_map(|(key, instance)| {
                let number = copy_number(&key.instance)?;
                let line = line(instance)?;
                let own = number == 1
                    || line.len() > 1
                    || instance.companion.as_ref().is_some_and(|companion| !companion.fork);
                (own && instance.served && share(&line, wanted.as_deref()?)).then_some((number, key))
            })
            .collect();
        copies.sort_unstable();
        let mut by_hand: Vec<_> = of_app()
            .filter(|(_, instance)| instance.companion.is_none() && instance.served)
            .map(|(key, instance)| ((!instance.is_alive(), instance.started_ms, instance.order), key))
            .collect();
        by_hand.sort_unstable();
        let copies = copies.into_iter().map(|(_, key)| key);
        copies.chain(by_hand.into_iter().map(|(_, key)| key)).collect()
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
            let named = !is_port_label(&key.instance);
            if named && (instance.served || !instance.listeners.is_empty() || instance.is_starting()) {
                add(instance_host(&key.app, &key.instance), key.to_string());
            }
            for port in instance.ports() {
                add(format!("{port}.{}", instance_host(&key.app, &key.instance)), key.to_string());
            }
        }
        let apps: BTreeSet<&str> = self.instances.keys().map(|key| key.app.as_str()).collect();
        for app in apps {
            let leaders = self.compared(app);
            assert_eq!(leaders, self.leaders(app), "the leaders of {app}");
            let own = app == "agentfs";
            let alive = leaders.iter().any(|key| self.instances[*key].is_alive());
            if let Some(first) = leaders.first().filter(|_| !own && alive) {
                add(app_host(app), first.to_string());
            }
            for (key, port) in leaders
                .iter()
                .flat_map(|key| self.instances[*key].ports().into_iter().map(move |port| (key, port)))
            {
                add(format!("{port}.{}", app_host(app)), key.to_string());
            }
            if let Some(key) = self.claims.starting(app).filter(|_| !own) {
                assert!(self.instances[key].is_starting() && copy_number(&key.instance).is_some());
                add(app_host(app), key.to_string());
            }
            let of_app = self.instances.iter().filter(|(key, _)| key.app == app);
            if !own && of_app.clone().any(|(_, instance)| instance.served && instance.is_alive()) {
                add(app_host(app), format!("{app} (main is not running)"));
            }
            if let Some(first) = leaders.first().filter(|_| !own) {
                add(app_host(app), first.to_string());
            }
        }
        for dead in self.dead.iter().rev() {
            let (app, instance) = (&dead.key.app, &dead.key.instance);
            if !is_port_label(instance) {
                add(instance_host(app, instance), format!("{} (ended)", dead.key));
            }
            if dead.named && app != "agentfs" {
                add(app_host(app), format!("{} (ended)", dead.key));
            }
        }
        owners
    }
}
