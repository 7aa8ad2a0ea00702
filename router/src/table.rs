//! Host name → upstreams. The lookup is pure: no sockets, no clock.
//!
//! The hub builds a [`Table`] whenever something changes and stores it in the [`TableHandle`]; connections
//! load it for each request. The [`Upstream`]s in it outlive it.
use crate::message::host::host_name;
use crate::upstream::listener::Upstream;
use crate::upstream::target::Target;
use agentfs_wire::control::Policy;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::task::{Context, Poll, Waker};

/// What is known of a listener that is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastSeen {
    /// Its socket.
    pub socket: String,
    /// The command that started it.
    pub command: String,
    /// The folder that it was started in.
    pub directory: String,
    /// When it was last seen: milliseconds since 1970, 0 when not known.
    pub when_ms: u64,
}

/// What one host name leads to.
#[derive(Debug)]
pub struct Entry {
    /// The name, without a port.
    pub host: String,
    /// Whether names below it lead here too.
    pub wildcard: bool,
    /// Live listeners, balanced, the best claim first.
    pub upstreams: Vec<Arc<Upstream>>,
    /// How to choose between them.
    pub policy: Policy,
    /// Where connections are handed into the application: how many were. Keep the `Arc` across tables.
    pub handoff: Option<Arc<HandedOver>>,
    /// Whether the application is to take itself for `localhost`: for one that refuses other names.
    pub rewrite_host: bool,
    /// The last listener, when none lives.
    pub dead: Option<LastSeen>,
    /// Unix milliseconds when it was started, where nothing has listened since.
    pub starting: Option<u64>,
    /// Whether it is an app of which only forks run: the name leads to none of them, but names them.
    pub forks_only: bool,
    /// Whether nobody knows yet which of several ports has the pages: a browser gets all of them to choose from.
    pub undecided: bool,
    /// The port that alone may have the name.
    pub declared: Option<u16>,
    /// The command that listens, for the name of a port.
    pub command: Option<String>,
    /// A word for people: what it is.
    pub title: String,
}

// === impl Entry ===

impl Entry {
    /// A name that leads nowhere.
    pub fn new(host: String) -> Self {
        Self {
            host,
            wildcard: false,
            upstreams: Vec::new(),
            policy: Policy::default(),
            handoff: None,
            rewrite_host: false,
            dead: None,
            starting: None,
            forks_only: false,
            undecided: false,
            declared: None,
            command: None,
            title: String::new(),
        }
    }
}

/// Connections on a name whose application may have them itself.
#[derive(Debug, Default)]
pub struct HandedOver {
    /// Those that it has.
    pub taken: AtomicU64,
    /// Those that it did not take; their requests went through the router.
    pub passed: AtomicU64,
}

/// An entry in use.
#[derive(Debug)]
pub struct Route {
    /// The entry.
    pub entry: Entry,
    /// What the application is to take itself for, where that is another name than the client's.
    pub(crate) local: Option<Box<str>>,
    /// Counts picks, for the round robin.
    next: AtomicUsize,
}

/// All names at one moment.
#[derive(Debug)]
pub struct Table {
    routes: HashMap<Arc<str>, Arc<Route>>,
    wildcards: bool,
    http_port: u16,
    https_port: Option<u16>,
}

/// The table in force, shared.
#[derive(Clone, Debug)]
pub struct TableHandle(Arc<InForce>);

#[derive(Debug)]
struct InForce {
    table: RwLock<Arc<Table>>,
    /// Whether connections are handed over on any of its names. Beside the lock, because every connection asks.
    hands_over: AtomicBool,
    /// Who waits for another table.
    waiting: Mutex<Vec<Waker>>,
}

/// What a `Host` stands for.
#[derive(Debug)]
pub enum Lookup {
    /// A name in the table, live or not.
    Found(Arc<Route>),
    /// `agentfs.localhost`: the index and the control pages.
    Control,
    /// `localhost`: the index.
    Index,
    /// A name below `.localhost` that nothing has.
    Unknown,
    /// An IP literal or a name of some other domain: never ours.
    Foreign,
    /// Not a host at all.
    Invalid,
}

// === impl Route ===

impl Route {
    fn new(entry: Entry) -> Self {
        let local = entry.rewrite_host.then(|| {
            // All replicas of a program listen on the same port, as a rule.
            let port = entry.upstreams.first().map_or(0, |upstream| match upstream.socket {
                Target::Tcp(address) => address.port(),
                Target::Unix(_) => upstream.port,
            });
            match port {
                0 | 80 => "localhost".into(),
                port => format!("localhost:{port}").into_boxed_str(),
            }
        });
        Self { entry, local, next: AtomicUsize::new(0) }
    }

    /// The upstreams in the order to try: as the policy says over those that answer, then those that
    /// refused last time (one of them may be back before anybody said so).
    pub fn candidates(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.candidates_after(None)
    }

    /// As [`Self::candidates`]; `picked`, where it answers, is the pick that was made before.
    pub(crate) fn candidates_after(
        &self,
        picked: Option<&Arc<Upstream>>,
    ) -> impl Iterator<Item = &Arc<Upstream>> {
        let part =
            |answers: bool| self.entry.upstreams.iter().filter(move |upstream| upstream.answers() == answers);
        let count = part(true).count();
        let turn = || self.next.fetch_add(1, Ordering::Relaxed) % count;
        let again = picked.and_then(|picked| part(true).position(|upstream| Arc::ptr_eq(upstream, picked)));
        let first = match self.entry.policy {
            _ if count < 2 => 0,
            _ if let Some(again) = again => again,
            Policy::First => 0,
            Policy::RoundRobin => turn(),
            Policy::LeastConnections => {
                let turn = turn();
                let load = |(index, upstream): &(usize, &Arc<Upstream>)| {
                    (upstream.active(), (index + count - turn) % count)
                };
                part(true).enumerate().min_by_key(load).map_or(0, |(index, _)| index)
            }
        };
        // Looked at beforehand, so that one that refuses in this turn is not asked a second time.
        let refused: Vec<_> = part(false).collect();
        part(true).cycle().skip(first).take(count).chain(refused)
    }
}

// === impl Table ===

impl Table {
    /// A table of `entries`; of two with the same name the first counts. `http_port` is the port
    /// in links.
    pub fn new(entries: Vec<Entry>, http_port: u16) -> Self {
        let mut routes = HashMap::with_capacity(entries.len());
        for entry in entries {
            routes.entry(key(&entry.host)).or_insert_with(|| Arc::new(Route::new(entry)));
        }
        Self::of(routes, http_port, None)
    }

    /// This table with other entries for some names, or none. The rest is shared, with its turns.
    #[must_use]
    pub fn with(&self, changes: impl IntoIterator<Item = (String, Option<Entry>)>) -> Self {
        let mut routes = self.routes.clone();
        for (host, entry) in changes {
            match entry {
                Some(entry) => routes.insert(key(&host), Arc::new(Route::new(entry))),
                None => routes.remove(&key(&host)),
            };
        }
        Self::of(routes, self.http_port, self.https_port)
    }

    fn of(routes: HashMap<Arc<str>, Arc<Route>>, http_port: u16, https_port: Option<u16>) -> Self {
        let wildcards = routes.values().any(|route| route.entry.wildcard);
        Self { routes, wildcards, http_port, https_port }
    }

    /// The table with links that lead to the port for TLS, where there is one.
    #[must_use]
    pub fn with_https(self, https_port: Option<u16>) -> Self {
        Self { https_port, ..self }
    }

    /// The URL of a host name, without a path.
    pub fn url(&self, host: &str) -> String {
        match (self.https_port, self.http_port) {
            (Some(_), _) => self.secure_url(host),
            (None, 80) => format!("http://{host}"),
            (None, port) => format!("http://{host}:{port}"),
        }
    }

    /// Whether URLs lead to a port for TLS.
    pub(crate) fn has_https(&self) -> bool {
        self.https_port.is_some()
    }

    /// The same over TLS.
    pub(crate) fn secure_url(&self, host: &str) -> String {
        match self.https_port {
            None | Some(443) => format!("https://{host}"),
            Some(port) => format!("https://{host}:{port}"),
        }
    }

    fn hands_over(&self) -> bool {
        self.routes().any(|route| route.entry.handoff.is_some())
    }

    /// All routes, in no order.
    pub fn routes(&self) -> impl Iterator<Item = &Route> {
        self.routes.values().map(Arc::as_ref)
    }

    /// What a `Host` header's value (or an authority) leads to: exact name first, then the longest
    /// wildcard above it. A port and one trailing dot are ignored, case does not matter.
    pub fn lookup(&self, host: &str) -> Lookup {
        let Some(name) = host_name(host) else { return Lookup::Invalid };
        if name.starts_with('[') || name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
            return Lookup::Foreign;
        }
        let lowered;
        let name = if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            lowered = name.to_ascii_lowercase();
            &lowered
        } else {
            name
        };
        if let Some(route) = self.routes.get(name) {
            return Lookup::Found(Arc::clone(route));
        }
        match name {
            "agentfs.localhost" => return Lookup::Control,
            "localhost" => return Lookup::Index,
            _ => {}
        }
        let mut above = if self.wildcards { name.split_once('.') } else { None };
        while let Some((_, parent)) = above {
            match self.routes.get(parent) {
                Some(route) if route.entry.wildcard => return Lookup::Found(Arc::clone(route)),
                _ => above = parent.split_once('.'),
            }
        }
        if name.ends_with(".localhost") { Lookup::Unknown } else { Lookup::Foreign }
    }
}

/// A host name as tables have it.
fn key(host: &str) -> Arc<str> {
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase().into()
}

// === impl TableHandle ===

impl TableHandle {
    /// A handle to `table`.
    pub fn new(table: Table) -> Self {
        let hands_over = AtomicBool::new(table.hands_over());
        let table = RwLock::new(Arc::new(table));
        Self(Arc::new(InForce { table, hands_over, waiting: Mutex::default() }))
    }

    /// The table in force.
    pub fn load(&self) -> Arc<Table> {
        Arc::clone(&self.0.table.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether a connection may have to be handed over before anything of it is read.
    pub(crate) fn hands_over(&self) -> bool {
        self.0.hands_over.load(Ordering::Relaxed)
    }

    /// Puts `table` into force for all requests from here on.
    pub fn store(&self, table: Table) {
        self.0.hands_over.store(table.hands_over(), Ordering::Relaxed);
        *self.0.table.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(table);
        let waiting = std::mem::take(&mut *self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Ready with the table in force as soon as it is another than `seen`.
    pub(crate) fn poll_other(&self, seen: &Arc<Table>, context: &mut Context<'_>) -> Poll<Arc<Table>> {
        // The lock first: a table that comes after the look below finds the waker.
        let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let table = self.load();
        if !Arc::ptr_eq(&table, seen) {
            return Poll::Ready(table);
        }
        if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
            waiting.push(context.waker().clone());
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests;
