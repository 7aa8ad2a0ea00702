//! The state machine itself: events in, effects out.
use super::changes::Changes;
use super::claims::Claims;
use super::effect::Effect;
use super::event::{Event, FileState};
use super::faces::Faces;
use super::hand::HandRoute;
use super::instance::{Dead, Instance, Listener};
use super::key::{Key, companion_file, main_file};
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
    /// What the ports of each app's folders speak.
    pub(super) faces: Faces,
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
    pub(super) effects: Vec<Effect>,
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
            faces: Faces::default(),
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
            Event::Ended { key, wrap_pid } => self.ended(&key, wrap_pid),
            Event::RouteAdded { route } => {
                self.publish(What::RouteAdded { host: route.host.clone(), target: route.given.clone() });
                self.remove_hand(&route.host);
                self.changes.hand(&route.host, &route.target, true);
                self.hand.insert(route.host.clone(), route);
                self.routes_changed = true;
            }
            Event::Spoke { file, speaks } => self.spoke(now, &file, speaks),
            Event::Recalled { folders } => self.faces = Faces::of(folders),
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
                FileState::Companion { .. } => self.open(now, &key),
                _ => self.open_unknown(now, &key),
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
            answered: false,
            told_as_face: false,
            looks: 0,
        });
        let before = instance.last_owner.as_ref().filter(|(gone, _)| *gone == file).map(|(_, pid)| *pid);
        let owner = told.or(listener.pid).or(before);
        let same_owner = std::mem::replace(&mut listener.pid, owner) == owner;
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
            let port = listener.port();
            instance.served = true;
            instance.shown |= instance.declared_port() == Some(port);
            instance.last_up = Some((file.clone(), now));
            self.mark(key);
            self.reclaim(key);
            self.announce(key);
            self.publish_listener(What::ListenerUp, key, &file);
            self.note_face(key, Some(&file));
        } else if !listener.accepting
            && let Some(after_ms) = LOOK_AGAIN_MS.get(listener.looks).copied()
        {
            listener.looks += 1;
            self.effects.push(Effect::Look { file, after_ms });
        }
        if !same_owner {
            self.mark(key);
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
        let same = instance.companion.clone().filter(|known| is_same(known, &companion));
        if same.as_ref() == Some(&companion) {
            return;
        }
        if same.is_none() {
            instance.ended.clear();
            // Whoever took the name anew is not the one that was about to end.
            if std::mem::take(&mut instance.draining) {
                self.draining.retain(|(_, other)| other != key);
            }
        }
        let known = same_processes(same.as_ref());
        let newest = companion.started().last().map(|one| one.wrap_pid);
        let named = companion.processes();
        instance.identify(key, companion);
        let ended = instance.ended.clone();
        self.recall(key);
        self.mark(key);
        for (pid, started_ms) in named {
            if !known.contains(&pid) && !ended.contains(&pid) {
                self.join(key, pid);
                // The file is written again for each command that joins, long after the first ones were born.
                let born_before_ms = if newest == Some(pid) { written_ms } else { started_ms };
                self.effects.push(Effect::Watch { pid, born_before_ms: Some(born_before_ms) });
            }
        }
        self.reclaim(key);
    }

    fn told(&mut self, now: u64, key: Key, pid: u32, file: Option<String>) {
        if !self.instances.contains_key(&key) {
            self.open_unknown(now, &key);
        }
        if self.join(&key, pid) {
            self.effects.push(Effect::Watch { pid, born_before_ms: None });
        }
        let Some(instance) = self.instances.get_mut(&key) else { return };
        if let Some(file) = file.filter(|file| is_listener_of(&key, file)) {
            match instance.listeners.get_mut(&file) {
                Some(listener) if listener.pid == Some(pid) => {}
                Some(listener) => {
                    listener.pid = Some(pid);
                    self.mark(&key);
                }
                None => {
                    instance.told.insert(file, pid);
                }
            }
        }
        self.reclaim(&key);
        self.settle(&key);
    }

    fn process_exited(&mut self, pid: u32) {
        for key in self.keys_of(pid) {
            self.leave(&key, pid);
            let Some(instance) = self.instances.get_mut(&key) else { continue };
            instance.told.retain(|_, told| *told != pid);
            instance.last_owner.take_if(|(_, owner)| *owner == pid);
            let mut owned = false;
            for (file, listener) in &mut instance.listeners {
                owned |= listener.pid.take_if(|owner| *owner == pid).is_some();
                // Whoever inherited the socket keeps it alive; the look tells.
                self.effects.push(Effect::Look { file: file.clone(), after_ms: 0 });
            }
            let announced = instance.announced;
            if owned {
                self.mark(&key);
            }
            if announced {
                self.publish(What::ProcessExited { of: who(&key), pid });
            }
            self.reclaim(&key);
            self.settle(&key);
        }
        self.effects.push(Effect::Forget { pid });
    }

    /// A command has ended, or all of them have.
    fn ended(&mut self, key: &Key, wrap_pid: Option<u32>) {
        let Some(instance) = self.instances.get_mut(key) else { return };
        let mut gone: Vec<u32> = Vec::new();
        for one in instance.companion.iter().flat_map(Companion::started) {
            if wrap_pid.is_none_or(|pid| pid == one.wrap_pid) {
                gone.extend([one.wrap_pid, one.child_pid].iter().filter(|pid| **pid != 0));
            }
        }
        instance.ended.extend(&gone);
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
    pub(super) fn settle(&mut self, key: &Key) {
        self.note_face(key, None);
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
        let named = instance.to_claim().standing.is_named();
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
            let companion = Box::new(companion.clone());
            self.effects.push(Effect::RemoveCompanion { file: companion_file(key), companion });
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
                named,
            });
        }
    }

    /// Opens an instance whose listener or process is known before its companion. Until that is seen, a fork looks like a
    /// socket made by hand.
    fn open_unknown(&mut self, now: u64, key: &Key) {
        self.effects.push(Effect::Look { file: companion_file(key), after_ms: 0 });
        self.open(now, key);
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

    pub(super) fn publish_listener(&mut self, what: fn(event::Listener) -> What, key: &Key, file: &str) {
        let Some(listener) = self.listener(key, file) else { return };
        self.publish(what(event::Listener {
            of: who(key),
            pid: listener.pid,
            address: Some(listener.address()).filter(|address| !address.is_empty()),
            socket: self.run.join(file).to_string_lossy().into_owned(),
            host: self.listener_host_of(key, file),
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

/// The processes that a companion names.
fn same_processes(companion: Option<&Companion>) -> BTreeSet<u32> {
    companion.iter().flat_map(|companion| companion.processes()).map(|(pid, _)| pid).collect()
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
