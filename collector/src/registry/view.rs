//! What clients are told of the registry, in the vocabulary of the control socket.
use super::instance::{Instance, Listener};
use super::key::Key;
use super::route::Target;
use super::state::Registry;
use agentfs_wire::companion::{Companion, Started};
use agentfs_wire::control::{CommandInfo, InstanceInfo, ListenerInfo, RouteInfo, Snapshot};
use agentfs_wire::name::SocketName;
use agentfs_wire::url::UrlStyle;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Tells how many requests the router sent to a target, and how many a second of late.
pub(crate) type Usage<'a> = &'a dyn Fn(&Target) -> (u64, f64);

// === impl Registry ===

impl Registry {
    /// Everything, as of journal number `sequence`.
    pub(crate) fn snapshot(&self, sequence: u64, urls: UrlStyle, usage: Usage<'_>) -> Snapshot {
        let shown = self.instances.iter().filter(|(_, instance)| instance.is_alive());
        // Instances of one app follow one another.
        let mut named: (&str, Vec<&Key>) = ("", Vec::new());
        let instances = shown.map(|(key, instance)| {
            if named.0 != key.app {
                named = (&key.app, self.named(&key.app));
            }
            let has_app_name = Some(named.1.contains(&key));
            InstanceInfo { has_app_name, ..self.instance_info(key, instance, urls, usage) }
        });
        let instances = instances.collect();
        Snapshot { sequence, instances, routes: self.route_infos(urls) }
    }

    /// Routes made by hand.
    pub(crate) fn route_infos(&self, urls: UrlStyle) -> Vec<RouteInfo> {
        self.hand.values().map(|route| route.info(urls.url(&route.host))).collect()
    }

    /// Whether a route by hand has this host.
    pub(crate) fn has_hand_route(&self, host: &str) -> bool {
        self.hand.contains_key(host)
    }

    /// Whether something of an instance listens on a port, and the process, if it is known. `None`: nothing does.
    pub(crate) fn holder_of(&self, key: &Key, port: u16) -> Option<Option<u32>> {
        let instance = self.instances.get(key)?;
        // Bound is in use, even before it listens.
        let mut listeners = instance.listeners.values().filter(|listener| listener.port() == port);
        listeners.next().map(|listener| listener.pid)
    }

    /// Every instance of which anything is known.
    pub(crate) fn keys(&self) -> impl Iterator<Item = Key> {
        self.instances.keys().cloned()
    }

    /// What a host name leads to, if it leads anywhere alive.
    pub(crate) fn owner_of(&self, host: &str) -> Option<String> {
        let route = self.route_of(host)?;
        let by_hand = self.has_hand_route(host);
        (by_hand || !route.ends.is_empty()).then_some(route.title)
    }

    /// The folders of the living instances that have one.
    pub(crate) fn folders(&self) -> impl Iterator<Item = (Key, PathBuf)> {
        let alive = self.instances.iter().filter(|(_, instance)| instance.companion.is_some());
        alive.filter_map(|(key, instance)| Some((key.clone(), instance.folder()?.to_owned())))
    }

    /// The running instances of an app.
    pub(crate) fn forks(&self, app: &str) -> Vec<String> {
        self.living(app).map(Key::to_string).collect()
    }

    /// The instance of an app, if only one is running.
    pub(crate) fn only_fork(&self, app: &str) -> Option<Key> {
        let mut living = self.living(app);
        let first = living.next().cloned();
        first.filter(|_| living.next().is_none())
    }

    fn living(&self, app: &str) -> impl Iterator<Item = &Key> {
        let first = Key { app: app.to_owned(), instance: String::new() };
        let of_app = self.instances.range(first..).take_while(move |(key, _)| key.app == app);
        of_app.filter(|(_, instance)| instance.is_alive()).map(|(key, _)| key)
    }

    /// Number of routes made by hand.
    pub(crate) fn hand_routes(&self) -> usize {
        self.hand.len()
    }

    /// Whether anything of an instance is known.
    pub(crate) fn knows(&self, key: &Key) -> bool {
        self.instances.contains_key(key)
    }

    /// Living instances and listeners that accept.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let alive = self.instances.values().filter(|instance| instance.is_alive());
        alive.fold((0, 0), |(instances, listeners), instance| {
            let accepting = instance.listeners.values().filter(|listener| listener.accepting);
            (instances + 1, listeners + accepting.count())
        })
    }

    /// Whether `file` listens; nothing if the socket with this inode number is unknown.
    pub(crate) fn is_accepting(&self, file: &str, inode: u64) -> Option<bool> {
        let listener = self.listener_of(file).filter(|listener| listener.inode == inode)?;
        Some(listener.accepting)
    }

    /// Whether the instance that a file belongs to lives.
    pub(crate) fn has_living(&self, file: &str) -> bool {
        let key = SocketName::parse(file).map(|name| Key::of(&name));
        key.is_ok_and(|key| self.instances.get(&key).is_some_and(Instance::is_alive))
    }

    /// What tells the lives of instances with one name apart: the first command's process, and when it was started.
    pub(crate) fn life_of(&self, key: &Key) -> Option<(u32, u64)> {
        let companion = self.instances.get(key)?.companion.as_ref()?;
        Some((companion.wrap_pid, companion.started_ms))
    }

    /// Whether an instance lives.
    pub(crate) fn is_living(&self, key: &Key) -> bool {
        self.instances.get(key).is_some_and(Instance::is_alive)
    }

    /// Every file of the run dir that the registry believes to be there.
    pub(crate) fn files(&self) -> BTreeSet<String> {
        let mut files = BTreeSet::new();
        for (key, instance) in &self.instances {
            files.extend(instance.listeners.keys().cloned());
            files.extend(instance.marks.iter().cloned());
            if instance.link.is_some() {
                files.insert(super::key::main_file(key));
            }
            if instance.companion_present {
                files.insert(super::key::companion_file(key));
            }
        }
        files
    }

    fn listener_of(&self, file: &str) -> Option<&Listener> {
        let key = Key::of(&SocketName::parse(file).ok()?);
        self.instances.get(&key)?.listeners.get(file)
    }

    fn instance_info(
        &self,
        key: &Key,
        instance: &Instance,
        urls: UrlStyle,
        usage: Usage<'_>,
    ) -> InstanceInfo {
        let host = self.host_of(key);
        let main = instance.main().map(|(file, _)| file);
        let mut accepting = instance.accepting();
        accepting.sort_by_key(|(file, listener)| (Some(*file) != main, listener.order));
        let listeners = accepting
            .into_iter()
            .map(|(file, listener)| {
                let is_main = Some(file) == main;
                let path = self.run.join(file);
                let socket = path.to_string_lossy().into_owned();
                let url = urls.url(&self.listener_host_of(key, file));
                let (requests, requests_per_second) = usage(&Target::Unix(path));
                ListenerInfo {
                    address: listener.address(),
                    port: listener.port(),
                    socket,
                    url,
                    main: is_main,
                    pid: listener.pid,
                    since_ms: listener.since_ms,
                    requests,
                    requests_per_second,
                }
            })
            .collect();
        let companion = instance.companion.as_ref();
        let started = companion.map(Companion::started).unwrap_or_default();
        let running: Vec<&Started> =
            started.iter().filter(|one| instance.pids.contains(&one.wrap_pid)).collect();
        let shown = running.first().copied().or(started.first());
        // `wrap` becomes the program; where it stayed beside it, it is not one of the program's processes.
        let beside = |pid: u32| running.iter().any(|one| one.wrap_pid == pid && one.child_pid != pid);
        InstanceInfo {
            app: key.app.clone(),
            instance: key.instance.clone(),
            url: urls.url(&host),
            host,
            directory: shown.map(|one| one.directory.to_string_lossy().into_owned()),
            command: shown.map(|one| one.command.clone()).unwrap_or_default(),
            wrap_pid: running.first().map(|one| one.wrap_pid),
            commands: running.iter().map(|one| command_info(one)).collect(),
            pids: instance.pids.iter().copied().filter(|pid| !beside(*pid)).collect(),
            started_ms: instance.started_ms,
            listeners,
            has_app_name: None,
        }
    }
}

fn command_info(one: &Started) -> CommandInfo {
    CommandInfo {
        command: one.command.clone(),
        directory: one.directory.to_string_lossy().into_owned(),
        wrap_pid: one.wrap_pid,
        started_ms: one.started_ms,
    }
}
