//! One instance, as the registry remembers it.
use super::claims::Claim;
use super::key::Key;
use super::route::End;
use agentfs_wire::address::{Endpoint, Scope};
use agentfs_wire::companion::Companion;
use agentfs_wire::name::{Kind, SocketName};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An instance: every process, listener and file of one own localhost.
#[derive(Debug)]
pub(crate) struct Instance {
    /// Who it is, where a companion says or said so.
    pub(crate) companion: Option<Companion>,
    /// Whether the companion file is there.
    pub(crate) companion_present: bool,
    /// Unix milliseconds when it started, or was first seen.
    pub(crate) started_ms: u64,
    /// Place in the order of first sight; decides between equal start times.
    pub(crate) order: u64,
    /// Sockets that processes hold, by file name.
    pub(crate) listeners: BTreeMap<String, Listener>,
    /// Processes that bound a file which was not seen yet.
    pub(crate) told: BTreeMap<String, u32>,
    /// The listener that went last, and the process that had it: a program that opens one port over and over says so
    /// once in a while only.
    pub(crate) last_owner: Option<(String, u32)>,
    /// The listener file that the main link names, where there is a main link.
    pub(crate) link: Option<String>,
    /// Group marks, by file name.
    pub(crate) marks: BTreeSet<String>,
    /// Processes that live as far as we know.
    pub(crate) pids: BTreeSet<u32>,
    /// Whether the journal was told of it.
    pub(crate) announced: bool,
    /// Whether a listener of it ever accepted: only then has it a claim to the app's name.
    pub(crate) served: bool,
    /// Processes of commands that have ended, as was said: they no longer count.
    pub(crate) ended: BTreeSet<u32>,
    /// Whether a survey decides about it.
    pub(crate) surveyed: bool,
    /// Whether the router sends it nothing, since somebody is about to end it.
    pub(crate) draining: bool,
    /// Its claim to the app's name, as `Claims` has it.
    pub(super) claim: Option<Claim>,
    /// Its ports, as the hub was told.
    pub(super) named: BTreeSet<u16>,
    /// Socket and time of the listener that was up last.
    pub(crate) last_up: Option<(String, u64)>,
}

/// A socket that a process holds.
#[derive(Clone, Debug)]
pub(crate) struct Listener {
    /// Its parsed file name.
    pub(crate) name: SocketName,
    /// Number of the file.
    pub(crate) inode: u64,
    /// Whether it listens.
    pub(crate) accepting: bool,
    /// Process that bound it, where it said so.
    pub(crate) pid: Option<u32>,
    /// Unix milliseconds since when it listens, or was first seen bound.
    pub(crate) since_ms: u64,
    /// Place in the order in which listeners came up.
    pub(crate) order: u64,
    /// Where names lead while it listens.
    pub(crate) end: Option<Arc<End>>,
    /// How often it was looked at again, waiting for it to listen.
    pub(crate) looks: usize,
}

// === impl Instance ===

impl Instance {
    pub(crate) fn new(now: u64, order: u64) -> Self {
        Self {
            companion: None,
            companion_present: false,
            started_ms: now,
            order,
            listeners: BTreeMap::new(),
            told: BTreeMap::new(),
            last_owner: None,
            link: None,
            marks: BTreeSet::new(),
            pids: BTreeSet::new(),
            announced: false,
            served: false,
            ended: BTreeSet::new(),
            surveyed: false,
            draining: false,
            claim: None,
            named: BTreeSet::new(),
            last_up: None,
        }
    }

    /// Whether a process or a listener of it is known to live.
    pub(crate) fn is_alive(&self) -> bool {
        !self.pids.is_empty() || !self.listeners.is_empty()
    }

    /// Whether it was started and nothing of it has listened yet.
    pub(crate) fn is_starting(&self) -> bool {
        self.companion.is_some() && !self.served
    }

    /// The folder. Instances with the same folder are replicas.
    pub(crate) fn folder(&self) -> Option<&Path> {
        let companion = self.companion.as_ref()?;
        Some(companion.folder())
    }

    /// Whether it runs in the main checkout.
    pub(crate) fn is_main_checkout(&self) -> bool {
        self.companion.as_ref().is_some_and(|companion| !companion.fork && companion.checkout.is_some())
    }

    /// Its claim to the app's name.
    pub(super) fn to_claim(&self) -> Claim {
        let alive = self.is_alive();
        Claim {
            rank: (!alive, !self.is_main_checkout(), self.started_ms, self.order),
            served: self.served,
            starting: self.is_starting(),
            bound: !self.listeners.is_empty(),
            folder: self.folder().filter(|_| alive).map(Arc::from),
        }
    }

    /// Listeners that accept, in the order in which they came up.
    pub(crate) fn accepting(&self) -> Vec<(&str, &Listener)> {
        let mut accepting: Vec<_> = self
            .listeners
            .iter()
            .filter(|(_, listener)| listener.accepting)
            .map(|(file, listener)| (file.as_str(), listener))
            .collect();
        accepting.sort_by_key(|(_, listener)| listener.order);
        accepting
    }

    /// The listener that the instance's bare name means: the socket that is called so, else the one
    /// that the main link names, else the one that came up first. A port of a debugger, a database and the
    /// like is meant only where there is nothing else: it often comes up before the one that speaks HTTP.
    pub(crate) fn main(&self) -> Option<(&str, &Listener)> {
        let mut accepting = self.accepting();
        if accepting.iter().any(|(_, listener)| !speaks_no_http(listener.port())) {
            accepting.retain(|(_, listener)| !speaks_no_http(listener.port()));
        }
        let linked = |file: &str| self.link.as_deref() == Some(file);
        accepting
            .iter()
            .find(|(_, listener)| listener.name.kind == Kind::Main)
            .or_else(|| accepting.iter().find(|(file, _)| linked(file)))
            .or_else(|| accepting.first())
            .copied()
    }

    /// The listeners that a connection to `port` may reach: the members of one group, or the one whose
    /// address TCP would prefer for `localhost`.
    pub(crate) fn on_port(&self, port: u16) -> Vec<(&str, &Listener)> {
        let on_port: Vec<_> =
            self.accepting().into_iter().filter(|(_, listener)| listener.port() == port).collect();
        let best =
            on_port.iter().filter_map(|(_, listener)| listener.scope()).min_by_key(|scope| rank(*scope));
        on_port.into_iter().filter(|(_, listener)| listener.scope() == best).collect()
    }

    /// Its ports with accepting listeners.
    pub(crate) fn ports(&self) -> BTreeSet<u16> {
        let accepting = self.listeners.values().filter(|listener| listener.accepting);
        accepting.map(Listener::port).filter(|port| *port != 0).collect()
    }

    /// Whether a listener of it accepts on `port`.
    pub(crate) fn has_port(&self, port: u16) -> bool {
        self.listeners.values().any(|listener| listener.accepting && listener.port() == port)
    }

    /// The main listener and, where it is a member of a group, the others.
    pub(crate) fn main_group(&self) -> Vec<(&str, &Listener)> {
        match self.main() {
            Some((_, listener)) if listener.port() != 0 => {
                let (scope, port) = (listener.scope(), listener.port());
                let mut group = self.accepting();
                group.retain(|(_, other)| other.port() == port && other.scope() == scope);
                group
            }
            Some(main) => vec![main],
            None => Vec::new(),
        }
    }
}

/// Whether a port is one on which, by default, something other than HTTP for people is spoken.
fn speaks_no_http(port: u16) -> bool {
    // Debuggers: Node's inspector and what counts up from it, Chromium's DevTools, debugpy, JDWP.
    let debugger = matches!(port, 9229..=9239 | 9222 | 5678 | 5005);
    // SSH, SMTP, IMAP, LDAP, rsync, git; Erlang's mapper; FastCGI.
    let service =
        matches!(port, 22 | 2222 | 25 | 465 | 587 | 143 | 993 | 389 | 636 | 873 | 9418 | 4369 | 25672 | 9000);
    // Databases, caches and queues.
    let store = matches!(
        port,
        1433 | 1521
            | 3306
            | 33060
            | 5432
            | 6379
            | 26379
            | 11211
            | 27017
            | 9042
            | 9092
            | 5671
            | 5672
            | 1883
            | 2181
    );
    debugger || service || store
}

/// How early `localhost` would reach a listener: the more particular address first, IPv4 first.
fn rank(scope: Scope) -> u8 {
    match scope {
        Scope::V4(Ipv4Addr::LOCALHOST) => 0,
        Scope::AnyV4 => 1,
        Scope::AnyDual => 2,
        Scope::LoopbackV6 => 3,
        Scope::AnyV6 => 4,
        Scope::V4(_) => 5,
    }
}

// === impl Listener ===

impl Listener {
    /// The port, 0 for a socket made by hand.
    pub(crate) fn port(&self) -> u16 {
        match self.name.kind {
            Kind::Listener { port, .. } => port,
            _ => 0,
        }
    }

    /// The address as a scope, `None` for a socket made by hand.
    pub(crate) fn scope(&self) -> Option<Scope> {
        match self.name.kind {
            Kind::Listener { scope, .. } => Some(scope),
            _ => None,
        }
    }

    /// The address as the program bound it, empty for a socket made by hand.
    pub(crate) fn address(&self) -> String {
        match self.scope() {
            Some(scope) => Endpoint { ip: scope.ip(), port: self.port() }.to_string(),
            None => String::new(),
        }
    }
}

/// An instance that ended, remembered so that its names can say what was there.
#[derive(Clone, Debug)]
pub(crate) struct Dead {
    /// Which it was.
    pub(crate) key: Key,
    /// What started it.
    pub(crate) command: Vec<String>,
    /// Where.
    pub(crate) directory: Option<PathBuf>,
    /// Path of its last listener.
    pub(crate) socket: String,
    /// Unix milliseconds when it was last alive.
    pub(crate) when_ms: u64,
}
