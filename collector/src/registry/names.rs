//! Which host names lead where. Pure. Each name is computed from the instances: a cached name could go stale. `changes`
//! says which names to compute again.
//!
//! | name | means |
//! |---|---|
//! | `{app}.localhost` | the main checkout's instance, else the oldest that serves, with its replicas |
//! | `{instance}.{app}.localhost` | that instance |
//! | `{port}.{app}.localhost`, `{port}.{instance}.{app}.localhost` | another listener of the same |
//! | routes by hand | what they say; they win over all others |
use super::hand::{HandRoute, RouteTarget};
use super::instance::{Dead, Instance};
use super::key::Key;
use super::route::{End, LastSeen, Route, Target, app_host, instance_host};
use super::state::Registry;
use agentfs_wire::control::Policy;
use std::sync::Arc;

// === impl Registry ===

impl Registry {
    /// The shortest host name that means this instance alone.
    pub(crate) fn host_of(&self, key: &Key) -> String {
        let app = app_host(&key.app);
        if self.claims.is_alone(key) && !self.hand.contains_key(&app) { app } else { instance_host(key) }
    }

    /// Where a host name leads. If several can claim it, the first of these wins: a route added by hand; an instance's
    /// own name; an app's name; a port; an instance that does not listen yet; an ended instance, the newest first.
    pub(crate) fn route_of(&self, host: &str) -> Option<Route> {
        if let Some(hand) = self.hand.get(host) {
            return Some(self.hand_route(hand));
        }
        let mut labels = host.strip_suffix(".localhost")?.rsplit('.');
        let app = labels.next()?;
        match (labels.next(), labels.next(), labels.next()) {
            (None, ..) => self.app_route(host, app),
            (Some(label), None, _) => self.second_route(host, app, label),
            (Some(instance), Some(port), None) => {
                let key = Key { app: app.to_owned(), instance: instance.to_owned() };
                let port = parse_port(port)?;
                let instance = self.instances.get(&key)?;
                instance.ports().contains(&port).then(|| self.route(host.to_owned(), &[&key], Some(port)))
            }
            _ => None,
        }
    }

    fn hand_route(&self, hand: &HandRoute) -> Route {
        let (ends, dead) = self.hand_ends(&hand.target);
        Route {
            host: hand.host.clone(),
            wildcard: hand.wildcard,
            ends,
            policy: hand.policy,
            handoff: hand.handoff,
            rewrite_host: hand.rewrite_host,
            dead,
            starting: None,
            title: format!("{} (by hand)", hand.given),
        }
    }

    /// `{app}.localhost`
    fn app_route(&self, host: &str, app: &str) -> Option<Route> {
        let leaders = self.leaders(app);
        if !leaders.is_empty() {
            return Some(self.route(host.to_owned(), &leaders, None));
        }
        let starting = self.claims.starting(app).map(|key| self.route(host.to_owned(), &[key], None));
        starting.or_else(|| self.gone_route(host, |key| key.app == app))
    }

    /// `{instance}.{app}.localhost` or `{port}.{app}.localhost`
    fn second_route(&self, host: &str, app: &str, label: &str) -> Option<Route> {
        let key = Key { app: app.to_owned(), instance: label.to_owned() };
        let instance = self.instances.get(&key);
        if instance.is_some_and(|instance| instance.served || !instance.listeners.is_empty()) {
            return Some(self.route(host.to_owned(), &[&key], None));
        }
        if let Some(port) = parse_port(label) {
            let mut leaders = self.leaders(app);
            leaders.retain(|key| self.instances.get(*key).is_some_and(|leader| leader.has_port(port)));
            if !leaders.is_empty() {
                return Some(self.route(host.to_owned(), &leaders, Some(port)));
            }
        }
        if instance.is_some_and(Instance::is_starting) {
            return Some(self.route(host.to_owned(), &[&key], None));
        }
        self.gone_route(host, |dead| *dead == key)
    }

    fn gone_route(&self, host: &str, means: impl Fn(&Key) -> bool) -> Option<Route> {
        let dead = self.dead.iter().rev().find(|dead| means(&dead.key))?;
        Some(Route {
            host: host.to_owned(),
            wildcard: false,
            ends: Vec::new(),
            policy: Policy::default(),
            handoff: false,
            rewrite_host: false,
            dead: Some(dead.last_seen()),
            starting: None,
            title: format!("{} (ended)", dead.key),
        })
    }

    fn route(&self, host: String, keys: &[&Key], port: Option<u16>) -> Route {
        let mut ends = Vec::new();
        for key in keys {
            let Some(instance) = self.instances.get(*key).filter(|instance| !instance.draining) else {
                continue;
            };
            let listeners = match port {
                Some(port) => instance.on_port(port),
                None => instance.main_group(),
            };
            ends.extend(listeners.into_iter().filter_map(|(_, listener)| listener.end.clone()));
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

    fn hand_ends(&self, target: &RouteTarget) -> (Vec<Arc<End>>, Option<LastSeen>) {
        let foreign = |target| {
            let end = End { target, app: String::new(), instance: String::new(), port: 0, generation: 0 };
            (vec![Arc::new(end)], None)
        };
        match target {
            RouteTarget::Socket(path) => foreign(Target::Unix(path.clone())),
            RouteTarget::Tcp(address) => foreign(Target::Tcp(*address)),
            RouteTarget::Instance(key) => self.named_ends(&[key]),
            RouteTarget::App(app) => self.named_ends(&self.leaders(app)),
        }
    }

    fn named_ends(&self, keys: &[&Key]) -> (Vec<Arc<End>>, Option<LastSeen>) {
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

/// A label as a port, if it is one: digits without leading zeros.
fn parse_port(label: &str) -> Option<u16> {
    let plain = label.bytes().all(|byte| byte.is_ascii_digit()) && !label.starts_with('0');
    label.parse().ok().filter(|_| plain)
}
