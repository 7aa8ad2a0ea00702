//! Which host names lead where. Pure, and computed anew from the instances each time: a name that
//! were kept could be forgotten.
//!
//! | name | means |
//! |---|---|
//! | `{app}.localhost` | the main checkout's instance, else the oldest that serves, with its replicas |
//! | `{instance}.{app}.localhost` | that instance |
//! | `{port}.{app}.localhost`, `{port}.{instance}.{app}.localhost` | another listener of the same |
//! | routes by hand | what they say; they win over all others |
use super::event::Key;
use super::hand::RouteTarget;
use super::instance::{Dead, Instance, Listener};
use super::state::Registry;
use agentfs_wire::control::Policy;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

/// One host name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// Host name, lower case, without port and trailing dot.
    pub(crate) host: String,
    /// Whether its sub-domains fall back to it.
    pub(crate) wildcard: bool,
    /// Where requests go, the best claim first.
    pub(crate) ends: Vec<End>,
    /// How to choose between them.
    pub(crate) policy: Policy,
    /// Whether client connections are handed over.
    pub(crate) handoff: bool,
    /// Whether the app is asked for `localhost`.
    pub(crate) rewrite_host: bool,
    /// What was there, where nothing answers.
    pub(crate) dead: Option<LastSeen>,
    /// Unix milliseconds when it was started, where nothing has answered since.
    pub(crate) starting: Option<u64>,
    /// What a list of names shows beside it.
    pub(crate) title: String,
}

/// A place that answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    /// Its address.
    pub(crate) target: Target,
    /// App, empty for a route by hand to a foreign place.
    pub(crate) app: String,
    /// Instance, empty likewise.
    pub(crate) instance: String,
    /// Port that the program believes to listen on; 0 where unknown.
    pub(crate) port: u16,
    /// Another number is another listener, though all else be the same; 0 for a foreign place.
    pub(crate) generation: u64,
}

/// An address that the router can connect to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Target {
    /// A Unix socket.
    Unix(PathBuf),
    /// A port on loopback.
    Tcp(SocketAddr),
}

/// What was last seen of a name that nothing answers for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LastSeen {
    /// Path of the socket.
    pub(crate) socket: String,
    /// The command that started it, empty where unknown.
    pub(crate) command: Vec<String>,
    /// Where it was started, empty where unknown.
    pub(crate) directory: String,
    /// Unix milliseconds when it was last seen.
    pub(crate) when_ms: u64,
}

/// `{app}.localhost`
pub(crate) fn app_host(app: &str) -> String {
    format!("{app}.localhost")
}

/// `{instance}.{app}.localhost`
pub(crate) fn instance_host(key: &Key) -> String {
    format!("{}.{}.localhost", key.instance, key.app)
}

/// Sorts instances into the order of their claims to the app's name. One that is about to end comes
/// last: it can only tell what was there.
fn claim(instance: &Instance) -> (bool, bool, u64, u64) {
    (!instance.is_alive(), !instance.is_main_checkout(), instance.started_ms, instance.order)
}

// === impl Registry ===

impl Registry {
    /// The instances that `{app}.localhost` means, best claim first: the leader, and its replicas.
    /// Whoever never served has no claim; whoever did keeps it while it restarts its listener, so that
    /// a name does not slip to another fork for a moment.
    pub(crate) fn leaders<'a>(&'a self, app: &'a str) -> Vec<&'a Key> {
        let mut claims: Vec<(&Key, &Instance)> =
            self.instances_of(app).filter(|(_, instance)| instance.served).collect();
        claims.sort_by_key(|(_, instance)| claim(instance));
        let Some((leader, first)) = claims.first().copied() else { return Vec::new() };
        claims
            .into_iter()
            .filter(|(key, instance)| *key == leader || first.is_replica(instance))
            .map(|(key, _)| key)
            .collect()
    }

    /// The shortest host name that means this instance alone.
    pub(crate) fn host_of(&self, key: &Key) -> String {
        let leaders = self.leaders(&key.app);
        let alone = match leaders.as_slice() {
            [only] => *only == key,
            // Nobody serves yet: the best claim among those that live.
            [] => {
                let first = self
                    .instances_of(&key.app)
                    .filter(|(_, instance)| instance.is_alive())
                    .min_by_key(|(_, instance)| claim(instance));
                first.is_some_and(|(first, _)| first == key)
            }
            _ => false,
        };
        let app = app_host(&key.app);
        if alone && !self.hand.contains_key(&app) { app } else { instance_host(key) }
    }

    /// Every name and where it leads, each host once, by host.
    pub(crate) fn routes(&self) -> Vec<Route> {
        let mut routes = BTreeMap::new();
        let mut add = |route: Route| {
            routes.entry(route.host.clone()).or_insert(route);
        };
        // The order decides who gets a name that two could claim.
        for (host, hand) in &self.hand {
            let (ends, dead) = self.hand_ends(&hand.target);
            add(Route {
                host: host.clone(),
                wildcard: hand.wildcard,
                ends,
                policy: hand.policy,
                handoff: hand.handoff,
                rewrite_host: hand.rewrite_host,
                dead,
                starting: None,
                title: format!("{} (by hand)", hand.given),
            });
        }
        for (key, instance) in &self.instances {
            if instance.served || !instance.listeners.is_empty() {
                add(self.route(instance_host(key), &[key], None));
            }
        }
        for app in self.apps() {
            let leaders = self.leaders(app);
            if leaders.is_empty() {
                continue;
            }
            add(self.route(app_host(app), &leaders, None));
            let ports = leaders.iter().filter_map(|key| self.instances.get(*key)).flat_map(Instance::ports);
            for port in ports {
                add(self.route(format!("{port}.{}", app_host(app)), &leaders, Some(port)));
            }
        }
        for (key, instance) in &self.instances {
            for port in instance.ports() {
                add(self.route(format!("{port}.{}", instance_host(key)), &[key], Some(port)));
            }
        }
        // What was started and does not listen yet: its own name, and that of its app where nobody has it.
        for (key, _) in self.instances.iter().filter(|(_, instance)| instance.is_starting()) {
            let route = self.route(instance_host(key), &[key], None);
            add(Route { host: app_host(&key.app), ..route.clone() });
            add(route);
        }
        // The newest dead first: its app's name tells of it.
        for dead in self.dead.iter().rev() {
            let gone = |host: String| Route {
                host,
                wildcard: false,
                ends: Vec::new(),
                policy: Policy::default(),
                handoff: false,
                rewrite_host: false,
                dead: Some(dead.last_seen()),
                starting: None,
                title: format!("{} (ended)", dead.key),
            };
            add(gone(instance_host(&dead.key)));
            add(gone(app_host(&dead.key.app)));
        }
        routes.into_values().collect()
    }

    fn route(&self, host: String, keys: &[&Key], port: Option<u16>) -> Route {
        let mut ends = Vec::new();
        for key in keys {
            let Some(instance) = self.instances.get(*key).filter(|instance| !instance.is_draining()) else {
                continue;
            };
            let listeners = match port {
                Some(port) => instance.on_port(port),
                None => instance.main_group(),
            };
            ends.extend(listeners.into_iter().map(|(file, listener)| self.end(key, file, listener)));
        }
        let first = keys.first().copied();
        let dead = if ends.is_empty() { first.and_then(|key| self.last_seen(key)) } else { None };
        let starting = first
            .and_then(|key| self.instances.get(key))
            .filter(|instance| ends.is_empty() && instance.is_starting())
            .map(|instance| instance.started_ms);
        let title = first.map(Key::to_string).unwrap_or_default();
        Route {
            host,
            wildcard: false,
            ends,
            policy: Policy::default(),
            handoff: false,
            rewrite_host: false,
            dead,
            starting,
            title,
        }
    }

    fn end(&self, key: &Key, file: &str, listener: &Listener) -> End {
        End {
            target: Target::Unix(self.run.join(file)),
            app: key.app.clone(),
            instance: key.instance.clone(),
            port: listener.port(),
            generation: listener.order,
        }
    }

    fn hand_ends(&self, target: &RouteTarget) -> (Vec<End>, Option<LastSeen>) {
        let foreign = |target| {
            let end = End { target, app: String::new(), instance: String::new(), port: 0, generation: 0 };
            (vec![end], None)
        };
        match target {
            RouteTarget::Socket(path) => foreign(Target::Unix(path.clone())),
            RouteTarget::Tcp(address) => foreign(Target::Tcp(*address)),
            RouteTarget::Instance(key) => self.named_ends(&[key]),
            RouteTarget::App(app) => self.named_ends(&self.leaders(app)),
        }
    }

    fn named_ends(&self, keys: &[&Key]) -> (Vec<End>, Option<LastSeen>) {
        let route = self.route(String::new(), keys, None);
        let unknown =
            || LastSeen { socket: String::new(), command: Vec::new(), directory: String::new(), when_ms: 0 };
        let dead = if route.ends.is_empty() { Some(route.dead.unwrap_or_else(unknown)) } else { None };
        (route.ends, dead)
    }

    fn last_seen(&self, key: &Key) -> Option<LastSeen> {
        let Some(instance) = self.instances.get(key) else {
            return self.dead.iter().rev().find(|dead| dead.key == *key).map(Dead::last_seen);
        };
        let (file, when_ms) = instance.last_up.clone()?;
        let companion = instance.companion.as_ref();
        Some(LastSeen {
            socket: self.run.join(file).to_string_lossy().into_owned(),
            command: companion.map(|companion| companion.command.clone()).unwrap_or_default(),
            directory: companion
                .map(|companion| companion.directory.to_string_lossy().into_owned())
                .unwrap_or_default(),
            when_ms,
        })
    }
}

// === impl Dead ===

impl Dead {
    fn last_seen(&self) -> LastSeen {
        LastSeen {
            socket: self.socket.clone(),
            command: self.command.clone(),
            directory: self
                .directory
                .as_ref()
                .map(|path| path.to_string_lossy().into_owned())
                .unwrap_or_default(),
            when_ms: self.when_ms,
        }
    }
}
