//! Who has a port that a program could not bind: `port 3000 is node api.js (pid 812) of taskboard/blue`. A listener of the
//! instance itself is known; who has a port of the host is searched for outside the loop.
use super::drive::Hub;
use super::search::{Holder, Searched, holder};
use crate::clock::now_ms;
use crate::limits::PORT_SEARCHES;
use crate::notice::VerifiedNotice;
use crate::processes::{described, survey};
use crate::registry::Key;
use agentfs_home::forwards;
use agentfs_wire::event::What;
use agentfs_wire::notice::Outcome;
use std::net::SocketAddr;

// === impl Hub ===

impl Hub {
    /// Publishes a bind that failed because its port is in use, with who has it.
    pub(super) fn publish_refused(&mut self, notice: &VerifiedNotice, what: What) {
        let What::Call(mut call) = what else { return };
        match notice.address.filter(|address| address.port != 0) {
            Some(address) if notice.outcome == Outcome::Refused => {
                call.file = self.own_listener(&notice.key, address.port);
            }
            Some(address) if self.searches.len() < PORT_SEARCHES => {
                let address = SocketAddr::new(address.ip, address.port);
                let (file, run) = (self.files.paths.forwards.clone(), self.files.paths.run.clone());
                let keys: Vec<Key> = self.registry.keys().collect();
                self.searches.spawn_blocking(move || {
                    let forwards = forwards::load(&file).0;
                    let found = holder(address, &forwards, || survey(&run, &keys));
                    Searched { call, port: address.port(), found }
                });
                return;
            }
            _ => {}
        }
        self.journal.publish(now_ms(), What::Call(call));
    }

    /// Publishes a call whose port was searched for.
    pub(super) fn searched(&mut self, Searched { mut call, port, found }: Searched) {
        call.file = match found {
            Some(Holder::Process(pid, key)) => {
                let of = key.map(|key| format!(" of {key}")).unwrap_or_default();
                Some(format!("port {port} is {}{of}", described(pid)))
            }
            Some(Holder::Forward(key, inside)) => {
                let there =
                    self.own_listener(&key, inside).unwrap_or_else(|| format!("port {inside} is of {key}"));
                let text = there.split_once(" is ").map_or(there.as_str(), |(_, holder)| holder);
                Some(format!("port {port} is {text}, through a forward of agentfs"))
            }
            None => None,
        };
        self.journal.publish(now_ms(), What::Call(call));
    }

    /// Who listens on a port of an instance.
    fn own_listener(&self, key: &Key, port: u16) -> Option<String> {
        let pid = self.registry.holder_of(key, port)?;
        let process = pid.map_or_else(|| "a process that did not report itself".to_owned(), described);
        Some(format!("port {port} is {process} of {key}"))
    }
}
