//! Who has the name of an app. Kept in order with each change of an instance, so that a question costs the answer
//! and not the instances that there are.
use super::key::Key;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// Place in the order of claims to an app's name; the least has it. One that is about to end comes last: it can
/// only tell what was there. Then the main checkout, then the oldest, then the one that was seen first.
pub(super) type Rank = (bool, bool, u64, u64);

/// What an instance has to say about its app's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(super) rank: Rank,
    /// Whoever never served has no claim; whoever did keeps it while it restarts its listener, so that a name does
    /// not slip to another fork for a moment.
    pub(super) served: bool,
    /// Whether it was started and nothing of it has listened yet.
    pub(super) starting: bool,
    /// Whether it has a listener, be it only bound.
    pub(super) bound: bool,
    /// The folder that makes replicas of living instances which share it.
    pub(super) folder: Option<Arc<Path>>,
}

/// The claims of all instances, by app.
#[derive(Debug, Default)]
pub(super) struct Claims {
    apps: BTreeMap<String, App>,
}

/// The claims to one name.
#[derive(Debug, Default)]
struct App {
    /// Those that have served, the best first.
    served: BTreeMap<Rank, (Key, Option<Arc<Path>>)>,
    /// Those of them that live, by folder.
    replicas: BTreeMap<Arc<Path>, BTreeMap<Rank, Key>>,
    /// Those that live and have not served.
    waiting: BTreeMap<Rank, Key>,
    /// Those that were started and have not served, by name.
    starting: BTreeSet<Key>,
}

// === impl Claim ===

impl Claim {
    fn lives(&self) -> bool {
        !self.rank.0
    }
}

// === impl Claims ===

impl Claims {
    /// The instances that an app's name means, best claim first: the leader, and its replicas.
    pub(super) fn leaders(&self, app: &str) -> Vec<&Key> {
        let Some(app) = self.apps.get(app) else { return Vec::new() };
        let Some((first, folder)) = app.served.values().next() else { return Vec::new() };
        match folder.as_ref().and_then(|folder| app.replicas.get(folder)) {
            Some(replicas) => replicas.values().collect(),
            None => vec![first],
        }
    }

    /// Whether an app's name means this instance alone, or would, where nobody serves yet.
    pub(super) fn is_alone(&self, key: &Key) -> bool {
        let Some(app) = self.apps.get(&key.app) else { return false };
        match app.served.values().next() {
            None => app.waiting.values().next() == Some(key),
            Some((first, folder)) => {
                let replicas = folder.as_ref().and_then(|folder| app.replicas.get(folder));
                first == key && replicas.is_none_or(|replicas| replicas.len() == 1)
            }
        }
    }

    /// The first by name of those that were started and have not served.
    pub(super) fn starting(&self, app: &str) -> Option<&Key> {
        self.apps.get(app)?.starting.first()
    }

    pub(super) fn change(&mut self, key: &Key, old: Option<&Claim>, new: Option<&Claim>) {
        let app = self.apps.entry(key.app.clone()).or_default();
        if let Some(old) = old {
            app.remove(key, old);
        }
        match new {
            Some(new) => app.add(key, new),
            None if app.is_empty() => {
                self.apps.remove(&key.app);
            }
            None => {}
        }
    }
}

// === impl App ===

impl App {
    fn add(&mut self, key: &Key, claim: &Claim) {
        if claim.served {
            self.served.insert(claim.rank, (key.clone(), claim.folder.clone()));
            if let Some(folder) = &claim.folder {
                self.replicas.entry(Arc::clone(folder)).or_default().insert(claim.rank, key.clone());
            }
        } else if claim.lives() {
            self.waiting.insert(claim.rank, key.clone());
        }
        if claim.starting {
            self.starting.insert(key.clone());
        }
    }

    fn remove(&mut self, key: &Key, claim: &Claim) {
        self.served.remove(&claim.rank);
        self.waiting.remove(&claim.rank);
        self.starting.remove(key);
        if let Some(folder) = &claim.folder
            && let Some(replicas) = self.replicas.get_mut(folder)
        {
            replicas.remove(&claim.rank);
            if replicas.is_empty() {
                self.replicas.remove(folder);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.served.is_empty() && self.waiting.is_empty() && self.starting.is_empty()
    }
}
