//! One instance, as the registry remembers it.
use super::claims::{Alike, Claim, Line, Standing};
use super::key::Key;
use super::route::End;
use agentfs_wire::address::{Endpoint, Scope};
use agentfs_wire::companion::Companion;
use agentfs_wire::host::{MAIN, copy_number};
use agentfs_wire::name::{Kind, SocketName};
use agentfs_wire::speaks::Speaks;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An instance: every process, listener and file of one own localhost.
#[derive(Debug)]
pub(crate) struct Instance {
    /// Who it is, where a companion says or said so.
    pub(crate) companion: Option<Companion>,
    /// What makes it a copy of the app's `main`, and its number, if it is named so.
    pub(super) copy: Option<(u32, Arc<Line>)>,
    /// The port of the face that was there last.
    pub(crate) last_face: Option<u16>,
    /// What its ports speak, as far as it is known.
    pub(crate) speaks: BTreeMap<u16, Speaks>,
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
    /// Whether its face ever accepted, where that was declared.
    pub(crate) shown: bool,
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
    /// Whether it was seen to answer HTTP.
    pub(crate) answered: bool,
    /// Whether the journal was told of it as the face.
    pub(crate) told_as_face: bool,
    /// How often it was looked at again, waiting for it to listen.
    pub(crate) looks: usize,
}

// === impl Instance ===

impl Instance {
    pub(crate) fn new(now: u64, order: u64) -> Self {
        Self {
            companion: None,
            copy: None,
            last_face: None,
            speaks: BTreeMap::new(),
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
            shown: false,
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

    /// Whether it was started and its face has not listened yet.
    pub(crate) fn awaits_face(&self) -> bool {
        self.is_starting() || (self.declared_port().is_some() && !self.shown)
    }

    /// The folder that what ports speak is remembered for: the checkout, else the folder of the command.
    pub(crate) fn folder(&self) -> Option<&Path> {
        let companion = self.companion.as_ref()?;
        Some(companion.folder())
    }

    /// Its claim to the app's name.
    pub(super) fn to_claim(&self) -> Claim {
        let alive = self.is_alive();
        let standing = match (&self.companion, &self.copy) {
            (None, _) => Standing::ByHand((!alive, self.started_ms, self.order)),
            (Some(_), Some((number, line))) => Standing::Copy(*number, Arc::clone(line)),
            (Some(_), None) => Standing::Fork,
        };
        let bound = !self.listeners.is_empty();
        Claim { standing, served: self.served, starting: self.is_starting(), bound, alive }
    }

    /// Takes over what its companion says.
    pub(super) fn identify(&mut self, key: &Key, companion: Companion) {
        self.started_ms = companion.started_ms;
        let named = companion.stem.as_deref() == Some(MAIN) && !companion.closed;
        // A branch of a worktree may be named as a copy is.
        let number = copy_number(&key.instance).filter(|number| *number == 1 || named || !companion.fork);
        let mut line = vec![Alike::Command(companion.directory.clone(), companion.command.clone())];
        if named {
            line.push(Alike::Checkout(companion.folder().to_owned()));
        }
        self.copy = number.map(|number| (number, Arc::new(line)));
        self.companion = Some(companion);
        // Another command of the instance may have declared a port that listens already.
        self.shown |= self.declared_port().is_some_and(|port| self.has_port(port));
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

/// How early `localhost` would reach a listener: the more particular address first, IPv4 first.
pub(super) fn rank(scope: Scope) -> u8 {
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
    /// Whether the app's name meant it.
    pub(crate) named: bool,
}
