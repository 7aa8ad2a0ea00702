//! The state machine itself: events in, effects out.
use super::changes::Changes;
use super::claims::Claims;
use super::effect::Effect;
use super::event::{Event, FileState, Held};
use super::hand::HandRoute;
use super::instance::{Dead, Instance, Listener};
use super::key::Key;
use super::route::{End, Target};
use crate::limits::{LOOK_AGAIN_MS, REMEMBERED_DEAD};
use agentfs_wire::companion::Companion;
use agentfs_wire::event::{self, What, Who};
use agentfs_wire::name::{Kind, SocketName};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

/// Everything that lives in one run dir.
#[derive(Debug)]
pub(crate) struct Registry {
    /// The run dir; only to write whole paths for people and programs.
    pub(super) run: PathBuf,
    /// Instances of which anything is left, by app and name.
    pub(super) instances: BTreeMap<Key, Instance>,
    /// Routes made by hand, by host.
    pub(super) hand: BTreeMap<String, HandRoute>,
    /// Instances that ended, oldest first.
    pub(super) dead: VecDeque<Dead>,
    /// Which instances the apps' names mean.
    pub(super) claims: Claims,
    /// The instances of each process.
    pub(super) members: BTreeMap<u32, BTreeSet<Key>>,
    /// Drained instances, by the time (Unix milliseconds) when they are routed again.
    draining: BTreeSet<(u64, Key)>,
    /// What changed since the hub was told.
    pub(super) changes: Changes,
    /// Counts instances and listeners in the order of first sight.
    order: u64,
    /// What the event in hand leads to.
    effects: Vec<Effect>,
    /// Whether the targets of names changed since the last `Routes`.
    pub(super) routes_changed: bool,
}

// === impl Registry ===

impl Registry {
    /// An empty registry for a run dir.
    pub(crate) fn new(run: PathBuf) -> Self {
        Self {
            run,
            instances: BTreeMap::new(),
            hand: BTreeMap::new(),
            dead: VecDeque::new(),
            claims: Claims::default(),
            members: BTreeMap::new(),
            draining: BTreeSet::new(),
            changes: Changes::default(),
            order: 0,
            effects: Vec::new(),
            routes_changed: false,
        }
    }

    /// Takes one event in and says what to do about it, in order. `now` is Unix milliseconds.
    pub(crate) fn apply(&mut self, now: u64, event: Event) -> Vec<Effect> {
        match event {
            Event::Seen { file, state } => self.seen(now, file, state),
            Event::Told { key, pid, file } => self.told(now, key, pid, file),
            Event::ProcessLives { pid } => {
                for key in self.keys_of(pid) {
                    self.announce(&key);
                }
            }
            Event::ProcessExited { pid } => self.process_exited(pid),
            Event::Surveyed { asked, living } => self.surveyed(now, &asked, living),
            Event::Held { held } => self.held(held),
            Event::Ended { key } => self.ended(&key),
            Event::RouteAdded { route } => {
                self.publish(What::RouteAdded { host: route.host.clone(), target: route.given.clone() });
                self.remove_hand(&route.host);
                self.changes.hand(&route.host, &route.target, true);
                self.hand.insert(route.host.clone(), route);
                self.routes_changed = true;
            }
            Event::Drained { keys, until_ms } => self.drain(keys, until_ms),
            Event::Tick => self.end_drains(now),
            Event::RouteRemoved { host } => {
                if self.remove_hand(&host) {
                    self.publish(What::RouteRemoved { host });
                    self.routes_changed = true;
                }
            }
        }
        if std::mem::take(&mut self.routes_changed) {
            self.effects.push(Effect::Routes);
        }
        std::mem::take(&mut self.effects)
    }

    /// Unix milliseconds when the next drained instance is routed again.
    pub(crate) fn next_drain_end(&self) -> Option<u64> {
        self.draining.first().map(|(until_ms, _)| *until_ms)
    }

    fn drain(&mut self, keys: Vec<Key>, until_ms: u64) {
        for key in keys {
            let Some(instance) = self.instances.get_mut(&key) else { continue };
            if std::mem::replace(&mut instance.draining, true) {
                self.draining.retain(|(_, other)| *other != key);
            } else {
                self.mark(&key);
            }
            self.draining.insert((until_ms, key));
        }
    }

    fn end_drains(&mut self, now: u64) {
        while self.draining.first().is_some_and(|(until_ms, _)| *until_ms <= now) {
            let Some((_, key)) = self.draining.pop_first() else { break };
            if let Some(instance) = self.instances.get_mut(&key) {
                instance.draining = false;
                self.mark(&key);
            }
        }
    }

    fn remove_hand(&mut self, host: &str) -> bool {
        let removed = self.hand.remove(host);
        if let Some(route) = &removed {
            self.changes.hand(host, &route.target, false);
        }
        removed.is_some()
    }

    fn seen(&mut self, now: u64, file: String, state: FileState) {
        let Ok(name) = SocketName::parse(&file) else { return };
        let key = Key::of(&name);
        if !self.instances.contains_key(&key) {
            match &state {
                FileState::Gone | FileState::Foreign(_) => return,
                FileState::Stale => return self.effects.push(Effect::RemoveStale { file }),
                // A link made by somebody else to a dead socket: no listener until that comes back.
                FileState::Link { end, .. }
                    if !matches!(**end, FileState::Socket { .. }) && !is_main_link(&key, &state) =>
                {
                    return;
                }
                _ => self.open(now, &key),
            }
        }
        match (name.kind, state) {
            (Kind::Companion, FileState::Companion { companion, written_ms }) => {
                self.companion_seen(&key, *companion, written_ms);
            }
            (Kind::Companion, _) => self.with(&key, |instance| instance.companion_present = false),
            (Kind::Group { .. }, FileState::Mark) => {
                self.with(&key, |instance| {
                    instance.marks.insert(file);
                });
            }
            (Kind::Group { .. }, _) => {
                self.with(&key, |instance| {
                    instance.marks.remove(&file);
                });
            }
            (Kind::Main, state) if is_main_link(&key, &state) => {
                self.listener_gone(&key, &file, now);
                if let FileState::Link { file: target, .. } = state {
                    self.set_link(&key, target);
                }
            }
            (_, state) => {
                if name.kind == Kind::Main {
                    self.set_link(&key, None);
                }
                self.socket_seen(now, &key, file, name, state);
            }
        }
        self.settle(&key);
    }

    fn socket_seen(&mut self, now: u64, key: &Key, file: String, name: SocketName, state: FileState) {
        match state {
            FileState::Socket { inode, accepting } => {
                self.listener_seen(now, key, file, name, inode, accepting)
            }
            FileState::Link { end, .. } => match *end {
                // The link is its maker's: what it leads to may come back.
                FileState::Socket { inode, accepting } => {
                    self.listener_seen(now, key, file, name, inode, accepting);
                }
                _ => self.listener_gone(key, &file, now),
            },
            FileState::Stale => {
                self.listener_gone(key, &file, now);
                self.effects.push(Effect::RemoveStale { file });
            }
            FileState::Gone | FileState::Companion { .. } | FileState::Mark | FileState::Foreign(_) => {
                self.listener_gone(key, &file, now);
            }
        }
    }

    fn listener_seen(
        &mut self,
        now: u64,
        key: &Key,
        file: String,
        name: SocketName,
        inode: u64,
        accepting: bool,
    ) {
        if self.listener(key, &file).is_some_and(|known| known.inode != inode) {
            self.listener_gone(key, &file, now);
        }
        self.order += 1;
        let order = self.order;
        let Some(instance) = self.instances.get_mut(key) else { return };
        let told = instance.told.remove(&file);
        let listener = instance.listeners.entry(file.clone()).or_insert_with(|| Listener {
            name,
            inode,
            accepting: false,
            pid: None,
            since_ms: now,
            order,
            end: None,
            looks: 0,
        });
        let before = instance.last_owner.as_ref().filter(|(gone, _)| *gone == file).map(|(_, pid)| *pid);
        listener.pid = told.or(listener.pid).or(before);
        if accepting && !listener.accepting {
            listener.accepting = true;
            listener.since_ms = now;
            listener.order = order;
            listener.end = Some(Arc::new(End {
                target: Target::Unix(self.run.join(&file)),
                app: key.app.clone(),
                instance: key.instance.clone(),
                port: listener.port(),
                generation: order,
            }));
            instance.served = true;
            instance.last_up = Some((file.clone(), now));
            self.mark(key);
            self.reclaim(key);
            self.announce(key);
            self.publish_listener(What::ListenerUp, key, &file);
        } else if !listener.accepting
            && let Some(after_ms) = LOOK_AGAIN_MS.get(listener.looks).copied()
        {
            listener.looks += 1;
            self.effects.push(Effect::Look { file, after_ms });
        }
        self.reclaim(key);
    }

    fn listener_gone(&mut self, key: &Key, file: &str, now: u64) {
        if self.listener(key, file).is_some_and(|listener| listener.accepting) {
            self.publish_listener(What::ListenerDown, key, file);
            self.mark(key);
        }
        let Some(instance) = self.instances.get_mut(key) else { return };
        let Some(listener) = instance.listeners.remove(file) else { return };
        if listener.accepting {
            instance.last_up = Some((file.to_owned(), now));
        }
        if let Some(pid) = listener.pid {
            instance.last_owner = Some((file.to_owned(), pid));
        }
        self.reclaim(key);
    }

    fn companion_seen(&mut self, key: &Key, companion: Companion, written_ms: u64) {
        if (companion.app.as_str(), companion.instance.as_str()) != (&key.app, &key.instance) {
            return;
        }
        let Some(instance) = self.instances.get_mut(key) else { return };
        instance.companion_present = true;
        let same = instance.companion.as_ref().filter(|known| is_same(known, &companion));
        if same == Some(&companion) {
            return;
        }
        if same.is_none() {
            instance.ended = false;
            // Whoever took the name anew is not the one that was about to end.
            if std::mem::take(&mut instance.draining) {
                self.draining.retain(|(_, other)| other != key);
            }
        }
        let known: Vec<u32> = same.map(|known| vec![known.wrap_pid, known.child_pid]).unwrap_or_default();
        instance.started_ms = companion.started_ms;
        let named = [companion.wrap_pid, companion.child_pid];
        instance.companion = Some(companion);
        let ended = instance.ended;
        self.mark(key);
        for pid in named {
            if pid != 0 && !known.contains(&pid) && !ended {
                self.join(key, pid);
                self.effects.push(Effect::Watch { pid, born_before_ms: Some(written_ms) });
            }
        }
        self.reclaim(key);
    }

    fn told(&mut self, now: u64, key: Key, pid: u32, file: Option<String>) {
        if !self.instances.contains_key(&key) {
            self.open(now, &key);
        }
        if self.join(&key, pid) {
            self.effects.push(Effect::Watch { pid, born_before_ms: None });
        }
        let Some(instance) = self.instances.get_mut(&key) else { return };
        if let Some(file) = file.filter(|file| is_listener_of(&key, file)) {
            match instance.listeners.get_mut(&file) {
                Some(listener) => listener.pid = Some(pid),
                None => {
                    instance.told.insert(file, pid);
                }
            }
        }
        self.reclaim(&key);
        self.settle(&key);
    }

    fn held(&mut self, held: Held) {
        let Ok(name) = SocketName::parse(&held.file) else { return };
        let key = Key::of(&name);
        let Some(listener) =
            self.instances.get_mut(&key).and_then(|instance| instance.listeners.get_mut(&held.file))
        else {
            return;
        };
        listener.since_ms = listener.since_ms.min(held.since_ms);
        // A socket made by hand lives and ends by itself, whatever else its process does.
        let is_ours = matches!(name.kind, Kind::Listener { .. }) && listener.pid.is_none();
        let Some(pid) = held.pid.filter(|_| is_ours) else { return };
        listener.pid = Some(pid);
        if self.join(&key, pid) {
            self.effects.push(Effect::Watch { pid, born_before_ms: None });
        }
        self.reclaim(&key);
    }

    fn process_exited(&mut self, pid: u32) {
        for key in self.keys_of(pid) {
            self.leave(&key, pid);
            let Some(instance) = self.instances.get_mut(&key) else { continue };
            instance.told.retain(|_, told| *told != pid);
            instance.last_owner.take_if(|(_, owner)| *owner == pid);
            for (file, listener) in &mut instance.listeners {
                if listener.pid == Some(pid) {
                    listener.pid = None;
                }
                // Whoever inherited the socket keeps it alive; the look tells.
                self.effects.push(Effect::Look { file: file.clone(), after_ms: 0 });
            }
            if instance.announced {
                self.publish(What::ProcessExited { of: who(&key), pid });
            }
            self.reclaim(&key);
            self.settle(&key);
        }
        self.effects.push(Effect::Forget { pid });
    }

    fn ended(&mut self, key: &Key) {
        let Some(instance) = self.instances.get_mut(key) else { return };
        instance.ended = true;
        let mut gone = Vec::new();
        if let Some(companion) = &instance.companion {
            gone.extend([companion.wrap_pid, companion.child_pid]);
        }
        for file in instance.listeners.keys() {
            self.effects.push(Effect::Look { file: file.clone(), after_ms: 0 });
        }
        gone.retain(|pid| self.leave(key, *pid));
        self.reclaim(key);
        for pid in gone {
            // `wrap` may itself be a process of an outer instance.
            if self.keys_of(pid).is_empty() {
                self.effects.push(Effect::Forget { pid });
            }
        }
        self.settle(key);
    }

    fn surveyed(&mut self, now: u64, asked: &[Key], living: Vec<(Key, u32)>) {
        for (key, pid) in living {
            if !self.instances.contains_key(&key) {
                continue;
            }
            if self.join(&key, pid) {
                self.effects.push(Effect::Watch { pid, born_before_ms: None });
            }
            self.reclaim(&key);
            self.announce(&key);
        }
        for key in asked {
            let Some(instance) = self.instances.get_mut(key) else { continue };
            if instance.surveyed {
                instance.surveyed = false;
                if !instance.is_alive() {
                    self.close(now, key);
                }
            }
        }
    }

    /// Brings an instance's link and its own end up to date after anything changed.
    fn settle(&mut self, key: &Key) {
        let Some(instance) = self.instances.get_mut(key) else { return };
        let main_file = main_file(key);
        if !instance.listeners.contains_key(&main_file) {
            let wanted = instance.main().map(|(file, _)| file.to_owned());
            let dangling = instance.link.as_ref().is_some_and(|link| !instance.listeners.contains_key(link));
            match (&instance.link, wanted) {
                (None, Some(target)) => self.relink(key, main_file, target, None),
                (Some(old), Some(target)) if dangling || *old != target => {
                    let old = Some(old.clone());
                    self.relink(key, main_file, target, old);
                }
                (Some(_), None) if dangling => {
                    self.set_link(key, None);
                    self.effects.push(Effect::RemoveLink { file: main_file });
                }
                _ => {}
            }
        }
        let Some(instance) = self.instances.get_mut(key) else { return };
        if instance.is_alive() || instance.surveyed {
            return;
        }
        instance.surveyed = true;
        self.effects.push(Effect::Survey { key: key.clone() });
    }

    fn relink(&mut self, key: &Key, file: String, target: String, instead_of: Option<String>) {
        self.set_link(key, Some(target.clone()));
        self.effects.push(Effect::Link { file, target, instead_of });
    }

    /// Ends an instance of which nothing is left running, and removes its files.
    fn close(&mut self, now: u64, key: &Key) {
        let Some(instance) = self.instances.remove(key) else { return };
        self.mark(key);
        self.mark_ports(key, &instance.named);
        self.unclaim(key, &instance);
        for pid in &instance.pids {
            self.forget_member(key, *pid);
        }
        if instance.draining {
            self.draining.retain(|(_, other)| other != key);
        }
        if instance.link.is_some() {
            self.effects.push(Effect::RemoveLink { file: main_file(key) });
        }
        for file in instance.marks {
            self.effects.push(Effect::RemoveMark { file });
        }
        if let Some(companion) = instance.companion.as_ref().filter(|_| instance.companion_present) {
            self.effects.push(Effect::RemoveCompanion {
                file: companion_file(key),
                wrap_pid: companion.wrap_pid,
                started_ms: companion.started_ms,
            });
        }
        if instance.announced {
            self.publish(What::InstanceEnded { of: who(key) });
        }
        if let Some((file, when_ms)) = instance.last_up {
            self.dead.retain(|dead| dead.key != *key);
            if self.dead.len() >= REMEMBERED_DEAD
                && let Some(forgotten) = self.dead.pop_front()
            {
                self.changes.key(&forgotten.key);
            }
            self.dead.push_back(Dead {
                key: key.clone(),
                command: instance
                    .companion
                    .as_ref()
                    .map(|companion| companion.command.clone())
                    .unwrap_or_default(),
                directory: instance.companion.map(|companion| companion.directory),
                socket: self.run.join(file).to_string_lossy().into_owned(),
                when_ms: when_ms.min(now),
            });
        }
    }

    fn open(&mut self, now: u64, key: &Key) {
        self.order += 1;
        self.instances.insert(key.clone(), Instance::new(now, self.order));
        self.changes.key(key);
    }

    fn announce(&mut self, key: &Key) {
        let Some(instance) = self.instances.get_mut(key) else { return };
        if instance.announced {
            return;
        }
        instance.announced = true;
        let (pid, command) = instance
            .companion
            .as_ref()
            .map(|companion| (companion.wrap_pid, companion.command.join(" ")))
            .unzip();
        self.publish(What::InstanceStarted { of: who(key), pid, command });
    }

    fn set_link(&mut self, key: &Key, link: Option<String>) {
        if let Some(instance) = self.instances.get_mut(key)
            && instance.link != link
        {
            instance.link = link;
            self.mark(key);
        }
    }

    fn with(&mut self, key: &Key, change: impl FnOnce(&mut Instance)) {
        if let Some(instance) = self.instances.get_mut(key) {
            change(instance);
        }
    }

    fn listener(&self, key: &Key, file: &str) -> Option<&Listener> {
        self.instances.get(key)?.listeners.get(file)
    }

    fn publish_listener(&mut self, what: fn(event::Listener) -> What, key: &Key, file: &str) {
        let Some(listener) = self.listener(key, file) else { return };
        self.publish(what(event::Listener {
            of: who(key),
            pid: listener.pid,
            address: Some(listener.address()).filter(|address| !address.is_empty()),
            socket: self.run.join(file).to_string_lossy().into_owned(),
            host: self.host_of(key),
        }));
    }

    fn publish(&mut self, what: What) {
        self.effects.push(Effect::Publish(Box::new(what)));
    }
}

fn who(key: &Key) -> Who {
    Who::new(&key.app, &key.instance)
}

/// Whether two companions are of one life of an instance.
fn is_same(one: &Companion, other: &Companion) -> bool {
    (one.wrap_pid, one.started_ms) == (other.wrap_pid, other.started_ms)
}

/// Whether a file name is that of a rewritten listener of this instance.
fn is_listener_of(key: &Key, file: &str) -> bool {
    SocketName::parse(file)
        .is_ok_and(|name| matches!(name.kind, Kind::Listener { .. }) && Key::of(&name) == *key)
}

/// Whether a state is a link that leads to a listener of the same instance: a second name, not a
/// second listener.
fn is_main_link(key: &Key, state: &FileState) -> bool {
    matches!(state, FileState::Link { file: Some(target), .. } if is_listener_of(key, target))
}

/// File name of an instance's main socket or link.
pub(super) fn main_file(key: &Key) -> String {
    file_of(key, Kind::Main)
}

/// File name of an instance's companion.
pub(super) fn companion_file(key: &Key) -> String {
    file_of(key, Kind::Companion)
}

fn file_of(key: &Key, kind: Kind) -> String {
    use agentfs_wire::name::{app_name, instance_name};
    match (app_name(&key.app), instance_name(&key.instance)) {
        (Some(app), Some(instance)) => SocketName { app, instance, kind }.to_string(),
        // A key is made of a parsed file name or of checked labels.
        _ => String::new(),
    }
}
