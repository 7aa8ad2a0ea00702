//! Which host names lead where. Pure. Each name is computed from the instances: a cached name could go stale. `changes`
//! says which names to compute again.
//!
//! | name | means |
//! |---|---|
//! | `{app}.localhost` | the instance `main` with its copies, and sockets made by hand; never another fork |
//! | `{instance}.{app}.localhost` | that instance |
//! | `{port}.{app}.localhost`, `{port}.{instance}.{app}.localhost` | a port of the same |
//! | routes by hand | what they say; they win over all others |
use super::hand::{HandRoute, RouteTarget};
use super::instance::{Dead, Instance};
use super::key::Key;
use super::route::{End, LastSeen, Route, Target};
use super::state::Registry;
use agentfs_wire::host::{OWN_APP, app_host, is_port_label, listener_host, shown_host};
use std::sync::Arc;

// === impl Registry ===

impl Registry {
    /// The host name of an instance, as everything shows it.
    pub(crate) fn host_of(&self, key: &Key) -> String {
        shown_host(&key.app, &key.instance, !self.hand.contains_key(&app_host(&key.app)))
    }

    /// The host name of a listener, as everything shows it.
    pub(crate) fn listener_host_of(&self, key: &Key, file: &str) -> String {
        let host = self.host_of(key);
        let Some(instance) = self.instances.get(key) else { return host };
        let Some(listener) = instance.listeners.get(file) else { return host };
        let is_face = instance.main().is_some_and(|(_, face)| face.port() == listener.port());
        listener_host(&host, Some(listener.port()).filter(|port| *port != 0 && !is_face))
    }

    /// Where a host name leads. If several can claim it, the first of these wins: a route added by hand; an instance's
    /// own name; an app's name; a port; an instance that does not listen yet; an ended instance, the newest first. A label of
    /// digits is a port.
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
            wildcard: hand.wildcard,
            ends,
            policy: hand.policy,
            handoff: hand.handoff,
            rewrite_host: hand.rewrite_host,
            dead,
            ..Route::nowhere(hand.host.clone(), format!("{} (by hand)", hand.given))
        }
    }

    /// `{app}.localhost`
    fn app_route(&self, host: &str, app: &str) -> Option<Route> {
        if app == OWN_APP {
            return None;
        }
        let named = self.named(app);
        if !named.is_empty() {
            return Some(self.route(host.to_owned(), &named, None));
        }
        let leaders = self.leaders(app);
        let gone = match leaders.is_empty() {
            true => self.gone_route(host, |dead| dead.key.app == app && dead.named),
            // They have just ended.
            false => Some(self.route(host.to_owned(), &leaders, None)),
        };
        if self.claims.has_living(app) {
            let dead = gone.and_then(|route| route.dead);
            let title = format!("{app} (main is not running)");
            return Some(Route { forks_only: true, dead, ..Route::nowhere(host.to_owned(), title) });
        }
        gone
    }

    /// The instances that the name of an app means: those that serve, else the one that was started for it.
    pub(crate) fn named(&self, app: &str) -> Vec<&Key> {
        let leaders = self.leaders(app);
        let alive = |key: &&Key| self.instances.get(*key).is_some_and(Instance::is_alive);
        if leaders.iter().any(alive) {
            return leaders;
        }
        self.claims.starting(app).into_iter().collect()
    }

    /// `{instance}.{app}.localhost` or `{port}.{app}.localhost`
    fn second_route(&self, host: &str, app: &str, label: &str) -> Option<Route> {
        if is_port_label(label) {
            let port = parse_port(label)?;
            let mut leaders = self.leaders(app);
            leaders.retain(|key| self.instances.get(*key).is_some_and(|leader| leader.has_port(port)));
            return (!leaders.is_empty()).then(|| self.route(host.to_owned(), &leaders, Some(port)));
        }
        let key = Key { app: app.to_owned(), instance: label.to_owned() };
        let instance = self.instances.get(&key);
        let known =
            |instance: &Instance| instance.served || !instance.listeners.is_empty() || instance.is_starting();
        if instance.is_some_and(known) {
            return Some(self.route(host.to_owned(), &[&key], None));
        }
        self.gone_route(host, |dead| dead.key == key)
    }

    fn gone_route(&self, host: &str, means: impl Fn(&Dead) -> bool) -> Option<Route> {
        let dead = self.dead.iter().rev().find(|dead| means(dead))?;
        let title = format!("{} (ended)", dead.key);
        Some(Route { dead: Some(dead.last_seen()), ..Route::nowhere(host.to_owned(), title) })
    }

    fn route(&self, host: String, keys: &[&Key], port: Option<u16>) -> Route {
        let first = keys.first().copied();
        let mut route = Route::nowhere(host, first.map(Key::to_string).unwrap_or_default());
        let mut face = None;
        for key in keys {
            let Some(instance) = self.instances.get(*key).filter(|instance| !instance.draining) else {
                continue;
            };
            let listeners = match port {
                Some(port) => instance.on_port(port),
                None => instance.main_group(),
            };
            // A copy of another command of `main` has another face: it does not answer in place of this one.
            if let (None, Some(own)) = (port, listeners.first().and_then(|_| instance.face_kind()))
                && *face.get_or_insert(own) != own
            {
                continue;
            }
            route.owner = route.owner.or_else(|| listeners.iter().find_map(|(_, listener)| listener.pid));
            route.ends.extend(listeners.into_iter().filter_map(|(_, listener)| listener.end.clone()));
        }
        if port.is_none() {
            route.owner = None;
        }
        let Some(key) = first else { return route };
        let Some(instance) = self.instances.get(key) else {
            route.dead = self.last_seen(key);
            return route;
        };
        if port.is_none() {
            route.undecided = !route.ends.is_empty() && instance.is_undecided();
            route.declared = instance.declared_port();
        }
        if route.ends.is_empty() {
            route.dead = self.last_seen(key);
            route.starting = instance.awaits_face().then_some(instance.started_ms);
        }
        route
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
