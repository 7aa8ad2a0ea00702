//! The face of an instance: the listener that its bare host name means. The first of these:
//!
//! 1. the port that `main` in agentfs.toml or `wrap --main` says, and no other;
//! 2. the socket that the program made itself, `APP-INSTANCE.sock`;
//! 3. ports on which a browser got a page;
//! 4. other ports: those on which web servers usually listen, in the order of [`WEB`], then the lowest;
//! 5. ports on which a browser got something else than a page;
//! 6. ports on which other protocols usually listen, and ephemeral ports, if nothing was seen to answer HTTP there.
//!
//! The order in which listeners start does not matter. A listener that was seen to speak another protocol is never the
//! face.
use super::instance::{Instance, Listener, rank};
use agentfs_wire::limits::EPHEMERAL_FIRST;
use agentfs_wire::name::Kind;
use agentfs_wire::speaks::Speaks;
use std::collections::BTreeSet;

/// Ports of web servers that serve pages, first those of front ends: nginx and others, Vite, Angular, Astro, Node,
/// Tomcat, Django, Flask.
pub(super) const WEB: [u16; 8] = [80, 5173, 4200, 4321, 3000, 8080, 8000, 5000];

/// How likely a listener is the face; the least wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Own,
    Pages,
    Candidate,
    NoPages,
    Unlikely,
}

// === impl Instance ===

impl Instance {
    /// The face: the listener that the instance's bare host name means.
    pub(crate) fn main(&self) -> Option<(&str, &Listener)> {
        let declared = self.declared_port();
        let candidates = self.listeners.iter().filter(|(_, listener)| listener.accepting);
        let wanted = candidates.filter(|(_, listener)| declared.is_none_or(|port| listener.port() == port));
        let ranked = wanted.filter_map(|(file, listener)| {
            let class = self.class(listener)?;
            let port = listener.port();
            let usual = WEB.iter().position(|web| *web == port).unwrap_or(WEB.len());
            let order = (class, usual, port, listener.scope().map_or(0, rank), file.as_str());
            Some((order, (file.as_str(), listener)))
        });
        let ((class, ..), main) = ranked.min_by_key(|(order, _)| *order)?;
        // The face with the pages is away: it does not lend its name to another port.
        (class <= Class::Pages || !self.misses_pages()).then_some(main)
    }

    /// What the faces of copies have in common: the port, or that it is another one with each start.
    pub(super) fn face_kind(&self) -> Option<u16> {
        self.companion.as_ref()?;
        let port = self.main()?.1.port();
        Some(if port < EPHEMERAL_FIRST { port } else { 0 })
    }

    /// Whether the last face had pages and does not listen at this moment.
    fn misses_pages(&self) -> bool {
        self.last_face.is_some_and(|port| {
            self.speaks.get(&port) == Some(&Speaks::Pages)
                && !self.has_port(port)
                && self.declared_port().is_none()
        })
    }

    /// The port that the instance's host name means, if `wrap --main` or agentfs.toml says so.
    pub(crate) fn declared_port(&self) -> Option<u16> {
        self.companion.as_ref()?.main
    }

    /// Whether nobody knows which of several ports has the pages.
    pub(crate) fn is_undecided(&self) -> bool {
        if self.declared_port().is_some() {
            return false;
        }
        let mut candidates = BTreeSet::new();
        for listener in self.listeners.values().filter(|listener| listener.accepting) {
            match self.class(listener) {
                Some(Class::Own | Class::Pages) => return false,
                Some(Class::Candidate) => {
                    candidates.insert(listener.port());
                }
                _ => {}
            }
        }
        candidates.len() > 1
    }

    /// `None`: never the face.
    fn class(&self, listener: &Listener) -> Option<Class> {
        if listener.name.kind == Kind::Main {
            return Some(Class::Own);
        }
        let port = listener.port();
        let declared = self.declared_port() == Some(port);
        match self.speaks.get(&port) {
            Some(Speaks::Other) if !declared => None,
            Some(Speaks::Pages) => Some(Class::Pages),
            Some(Speaks::NoPages) => Some(Class::NoPages),
            Some(Speaks::Http | Speaks::Other) => Some(Class::Candidate),
            None if is_unlikely(port) => Some(Class::Unlikely),
            None => Some(Class::Candidate),
        }
    }
}

/// Whether a port is not taken for one with pages until an answer shows that it speaks HTTP.
pub(super) fn is_unlikely(port: u16) -> bool {
    port >= EPHEMERAL_FIRST || speaks_no_http(port)
}

/// Whether a port is one on which, by default, something other than HTTP for people is spoken. A guess: it counts only
/// until an answer shows what is spoken there.
fn speaks_no_http(port: u16) -> bool {
    // Debuggers: Node's inspector and what counts up from it, Chromium's DevTools, debugpy, JDWP.
    let debugger = matches!(port, 9229..=9239 | 9222 | 5678 | 5005);
    // SSH, SMTP, IMAP, LDAP, rsync, git; Erlang's mapper.
    let service =
        matches!(port, 22 | 2222 | 25 | 465 | 587 | 143 | 993 | 389 | 636 | 873 | 9418 | 4369 | 25672);
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
