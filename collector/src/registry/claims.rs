//! Which instances an app's name means. Updated with each change of an instance, so a lookup does not go through all
//! instances.
use super::key::Key;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// Rank of a claim to an app's name; the lowest wins. Compares in this order: alive, main checkout, oldest, seen first.
/// An instance that is ending can only say what was there.
pub(super) type Rank = (bool, bool, u64, u64);

/// The claim of an instance to its app's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(super) rank: Rank,
    /// Whether it ever served; otherwise it has no claim. It keeps the claim while it restarts its listener, so that the
    /// name does not move to another fork for a moment.
    pub(super) served: bool,
    /// Whether it was started and nothing of it has listened yet.
    pub(super) starting: bool,
    /// Whether it has a listener, at least a bound one.
    pub(super) bound: bool,
    /// The folder, if it is alive. Instances with the same folder are replicas.
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
    /// Claims of instances that have served, the best first.
    served: BTreeMap<Rank, (Key, Option<Arc<Path>>)>,
    /// The living ones of them, by folder.
    replicas: BTreeMap<Arc<Path>, BTreeMap<Rank, Key>>,
    /// Living instances that have not served.
    waiting: BTreeMap<Rank, Key>,
    /// Instances that were started and have not served, by name.
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

    /// Whether an app's name means only this instance, or will mean it if nobody serves yet.
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

    /// The first by name of the instances that were started and have not served.
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
