//! Which instances an app's name means: `main` with its copies, and sockets made by hand. Whether an instance is one of
//! them never depends on which other forks run. Updated with each change of an instance, so a lookup does not go through
//! all instances.
use super::key::Key;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// Order of sockets made by hand. Compares in this order: alive, oldest, seen first.
pub(super) type Rank = (bool, u64, u64);

/// What makes instances copies of one another. One thing that both have is enough.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Alike {
    /// The folder in which they were started, and the command line.
    Command(PathBuf, Vec<String>),
    /// The checkout that named them, each after the same `main`: a copy of one of its later commands too.
    Checkout(PathBuf),
}

/// Everything that makes an instance a copy.
pub(super) type Line = Vec<Alike>;

/// How an instance stands to its app's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is `main`, or named as a copy of it (its number).
    Copy(u32, Arc<Line>),
    /// Its sockets were made by hand: it has no companion.
    ByHand(Rank),
    /// It is a fork. The app's name never means it.
    Fork,
}

/// What the names of an app depend on, of one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(super) standing: Standing,
    /// Whether it ever served. It stays so while it restarts its listener.
    pub(super) served: bool,
    /// Whether it was started and nothing of it has listened yet.
    pub(super) starting: bool,
    /// Whether it has a listener, at least a bound one.
    pub(super) bound: bool,
    /// Whether a process or a listener of it is known.
    pub(super) alive: bool,
}

/// The claims of all instances, by app.
#[derive(Debug, Default)]
pub(super) struct Claims {
    apps: BTreeMap<String, App>,
}

/// The claims to one name.
#[derive(Debug, Default)]
struct App {
    /// How many instances are known.
    known: usize,
    /// How many of them serve or have served, and are alive.
    living: usize,
    /// `main` and its copies, by number.
    copies: BTreeMap<u32, Arc<Line>>,
    /// Those that have served, by what makes them copies of one another.
    served: BTreeMap<Alike, BTreeMap<u32, Key>>,
    /// Those that were started and have not served, likewise.
    starting: BTreeMap<Alike, BTreeMap<u32, Key>>,
    /// What `main` was when it was last there: its copies go on without it.
    line: Option<Arc<Line>>,
    /// Sockets made by hand that have served.
    by_hand: BTreeMap<Rank, Key>,
}

// === impl Standing ===

impl Standing {
    /// Whether the app's name can mean the instance.
    pub(super) fn is_named(&self) -> bool {
        !matches!(self, Self::Fork)
    }
}

// === impl Claims ===

impl Claims {
    /// The instances that an app's name means: `main` and its copies, then sockets made by hand.
    pub(super) fn leaders(&self, app: &str) -> Vec<&Key> {
        let Some(app) = self.apps.get(app) else { return Vec::new() };
        app.alike(&app.served).into_values().chain(app.by_hand.values()).collect()
    }

    /// `main`, or the first of its copies, if they were started and have not served.
    pub(super) fn starting(&self, app: &str) -> Option<&Key> {
        let app = self.apps.get(app)?;
        app.alike(&app.starting).into_values().next()
    }

    /// Whether a fork of the app serves or has served, and is alive.
    pub(super) fn has_living(&self, app: &str) -> bool {
        self.apps.get(app).is_some_and(|app| app.living > 0)
    }

    /// What makes an instance a copy of the app's `main`.
    #[cfg(test)]
    pub(super) fn line(&self, app: &str) -> Option<&Arc<Line>> {
        self.apps.get(app)?.line()
    }

    pub(super) fn change(&mut self, key: &Key, old: Option<&Claim>, new: Option<&Claim>) {
        let app = self.apps.entry(key.app.clone()).or_default();
        if let Some(old) = old {
            app.remove(old);
        }
        match new {
            Some(new) => app.add(key, new),
            None if app.known == 0 => {
                self.apps.remove(&key.app);
            }
            None => {}
        }
    }
}

// === impl App ===

impl App {
    /// What the copies that the name means have in common.
    fn line(&self) -> Option<&Arc<Line>> {
        let (number, first) = self.copies.first_key_value()?;
        // Another program of the checkout may be named as a copy (`--new`): it does not take the place of `main`.
        if *number == 1 { Some(first) } else { self.line.as_ref().or(Some(first)) }
    }

    /// Those of `all` that the name means, by number.
    fn alike<'a>(&'a self, all: &'a BTreeMap<Alike, BTreeMap<u32, Key>>) -> BTreeMap<u32, &'a Key> {
        let line = self.line().into_iter().flat_map(|line| line.iter());
        line.filter_map(|alike| all.get(alike)).flatten().map(|(number, key)| (*number, key)).collect()
    }

    fn add(&mut self, key: &Key, claim: &Claim) {
        self.known += 1;
        self.living += usize::from(claim.is_living());
        match &claim.standing {
            Standing::Copy(number, line) => {
                self.copies.insert(*number, Arc::clone(line));
                if *number == 1 {
                    self.line = Some(Arc::clone(line));
                }
                for alike in line.iter() {
                    if claim.served {
                        self.served.entry(alike.clone()).or_default().insert(*number, key.clone());
                    }
                    if claim.starting {
                        self.starting.entry(alike.clone()).or_default().insert(*number, key.clone());
                    }
                }
            }
            Standing::ByHand(rank) if claim.served => {
                self.by_hand.insert(*rank, key.clone());
            }
            Standing::ByHand(_) | Standing::Fork => {}
        }
    }

    fn remove(&mut self, claim: &Claim) {
        self.known -= 1;
        self.living -= usize::from(claim.is_living());
        match &claim.standing {
            Standing::Copy(number, line) => {
                self.copies.remove(number);
                for copies in [&mut self.served, &mut self.starting] {
                    for alike in line.iter() {
                        let Some(known) = copies.get_mut(alike) else { continue };
                        known.remove(number);
                        if known.is_empty() {
                            copies.remove(alike);
                        }
                    }
                }
            }
            Standing::ByHand(rank) => {
                self.by_hand.remove(rank);
            }
            Standing::Fork => {}
        }
    }
}

// === impl Claim ===

impl Claim {
    fn is_living(&self) -> bool {
        self.served && self.alive
    }
}
