//! Which ports of the host an instance must not reach. Looks at the host's listeners outside the loop, one look at a
//! time: when the patrol saw them change, when an instance starts, and when `wrap` asks before it starts a program.
use crate::answer::Answer;
use crate::bars::Bars;
use crate::host::{self, Checkout, Holders, Sockets};
use crate::registry::Key;
use agentfs_wire::event::What;
use agentfs_wire::name::{Kind, SocketName};
use agentfs_wire::notice::Why;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// What one look found.
#[derive(Debug, Default)]
pub(super) struct Found {
    sockets: Sockets,
    holders: Holders,
}

/// The host's ports, and who must not reach them.
#[derive(Debug)]
pub(super) struct Hosts {
    bars: Bars,
    /// The last look; nothing while one is under way.
    found: Found,
    /// Checkouts of the instances, by instance and folder; only while a program of the host runs in one.
    checkouts: BTreeMap<(Key, PathBuf), Option<Checkout>>,
    running: JoinSet<Found>,
    /// The lives of the instances.
    lives: BTreeMap<Key, (u32, u64)>,
    /// Whether the instances that were there before are known.
    begun: bool,
    /// Whether another look is due.
    wanted: bool,
    /// hub --answer--> those who wait for the next look
    waiting: Vec<oneshot::Sender<Answer>>,
    /// hub --answer--> those who wait for the one that is under way
    answered: Vec<oneshot::Sender<Answer>>,
}

// === impl Hosts ===

impl Hosts {
    /// Nothing is known yet.
    pub(super) fn new(bars: Bars) -> Self {
        let (waiting, answered) = (Vec::new(), Vec::new());
        Self {
            bars,
            found: Found::default(),
            checkouts: BTreeMap::new(),
            running: JoinSet::new(),
            lives: BTreeMap::new(),
            begun: false,
            wanted: true,
            waiting,
            answered,
        }
    }

    /// Asks for a look. Its answer comes after one that began later.
    pub(super) fn want(&mut self, answer_tx: Option<oneshot::Sender<Answer>>) {
        self.wanted = true;
        self.waiting.extend(answer_tx);
    }

    /// Starts a look if one is due and none is under way.
    pub(super) fn begin(&mut self) {
        if !self.wanted || !self.running.is_empty() {
            return;
        }
        self.wanted = false;
        self.answered = std::mem::take(&mut self.waiting);
        let mut holders = std::mem::take(&mut self.found).holders;
        self.running.spawn_blocking(move || {
            let sockets = host::sockets();
            holders.update(&sockets);
            Found { sockets, holders }
        });
    }

    /// Waits for the look that is under way.
    pub(super) async fn next(&mut self) -> Option<Found> {
        // If it failed, the next one begins anew.
        Some(self.running.join_next().await?.unwrap_or_default())
    }

    /// Takes what a look found. `instances`: the folders of the instances, if it matters where they are.
    pub(super) fn take<I: Iterator<Item = (Key, PathBuf)>>(
        &mut self,
        found: Found,
        instances: impl FnOnce() -> I,
    ) {
        let mut foreign = Vec::new();
        let mut known = std::mem::take(&mut self.checkouts);
        if found.holders.have_checkouts() {
            for place in instances() {
                let checkout = known.remove(&place).unwrap_or_else(|| host::checkout(&place.1));
                self.checkouts.insert(place, checkout);
            }
            let placed =
                self.checkouts.iter().filter_map(|((key, _), checkout)| Some((key, checkout.as_ref()?)));
            foreign = found.holders.foreign(&found.sockets, placed);
        }
        self.bars.set_others(foreign.into_iter());
        self.bars.write();
        self.found = found;
        for answer_tx in self.answered.drain(..) {
            // A client that is gone does not wait for it.
            let _ = answer_tx.send(Ok(json!({})));
        }
    }

    /// Who holds a port of the host, in words: the instance that agentfs holds it for, if a connect of `key` is refused
    /// because of that.
    pub(super) fn holder(&self, port: u16, why: Why, key: &Key) -> Option<String> {
        if why == Why::HeldForOther {
            return self.bars.holder(port, key).map(|of| of.to_string());
        }
        let holder = self.found.holders.of(&self.found.sockets, port)?;
        Some(format!("{} (pid {})", holder.program, holder.pid))
    }

    /// Sockets of living instances are about to be removed: their ports are no longer the instance's, and not yet anybody's.
    pub(super) fn removing<'a>(&self, files: impl Iterator<Item = &'a String>) {
        for name in files.filter_map(|file| SocketName::parse(file).ok()) {
            if let Kind::Listener { port, .. } = name.kind {
                self.bars.gone(&Key::of(&name), port);
            }
        }
        self.bars.write();
    }

    /// Notes the life of an instance. A command may take an ended instance's name before its end is noticed.
    pub(super) fn see(&mut self, key: &Key, life: Option<(u32, u64)>) {
        let Some(life) = life else { return };
        if self.lives.insert(key.clone(), life).is_some_and(|last| last != life) {
            self.bars.renewed(key);
            self.bars.write();
        }
    }

    /// What an event changes. `lives` says whether an instance does, `life_of` which of its lives it is.
    pub(super) fn hear(
        &mut self,
        event: &What,
        lives: impl Fn(&Key) -> bool,
        life_of: impl Fn(&Key) -> Option<(u32, u64)>,
    ) {
        match event {
            What::InstanceStarted { of, .. } => {
                self.wanted = true;
                let key = Key { app: of.app.clone(), instance: of.instance.clone() };
                // A new instance with an old name has had no port yet.
                if self.begun {
                    self.bars.renewed(&key);
                }
                let life = life_of(&key);
                self.see(&key, life);
            }
            What::InstanceEnded { of } => {
                let key = Key { app: of.app.clone(), instance: of.instance.clone() };
                self.bars.ended(&key);
                self.lives.remove(&key);
            }
            What::ListenerDown(listener) => {
                let key = Key { app: listener.of.app.clone(), instance: listener.of.instance.clone() };
                let address = listener.address.as_deref().filter(|_| lives(&key));
                if let Some(port) = address.and_then(|address| address.rsplit(':').next()?.parse().ok()) {
                    self.bars.gone(&key, port);
                }
            }
            _ => {}
        }
    }

    /// Writes what changed.
    pub(super) fn write(&self) {
        self.bars.write();
    }

    /// The instances that were there before are known: forgets the others.
    pub(super) fn retain(&mut self, living: impl Iterator<Item = Key>) {
        self.begun = true;
        self.bars.retain(living);
    }

    /// Leaves what holds without a collector.
    pub(super) fn close(&self) {
        self.bars.close();
    }
}
