//! Which events of an instance are those of one of its commands: whose process, or whose descendant, they name.
use crate::{instance, orphans};
use agentfs_wire::event::What;
use agentfs_wire::paths::Paths;
use std::collections::HashMap;

/// Processes that are remembered. Beyond that, all are looked up again.
const REMEMBERED: usize = 4096;

/// One command of an instance.
#[derive(Debug)]
pub(crate) struct Ours {
    paths: Paths,
    app: String,
    instance: String,
    /// The process of `agentfs` that started it.
    wrap_pid: u32,
    /// The processes that were looked up, with the answer.
    known: HashMap<u32, bool>,
}

// === impl Ours ===

impl Ours {
    /// The command that `wrap_pid` started.
    pub(crate) fn new(paths: Paths, app: String, instance: String, wrap_pid: u32) -> Self {
        Self { paths, app, instance, wrap_pid, known: HashMap::new() }
    }

    /// Whether a process is one of the command's, as far as that can be told: a daemon has no ancestors any more, and
    /// then it may be every command's.
    pub(crate) fn has(&mut self, pid: u32) -> bool {
        if pid == self.wrap_pid {
            return true;
        }
        if let Some(known) = self.known.get(&pid) {
            return *known;
        }
        let companion = instance::companion_in(&self.paths, &self.app, &self.instance);
        let started = companion.map(|companion| companion.started()).unwrap_or_default();
        let mut commands: HashMap<u32, u32> = started
            .iter()
            .flat_map(|one| [(one.child_pid, one.wrap_pid), (one.wrap_pid, one.wrap_pid)])
            .filter(|(pid, _)| *pid != 0)
            .collect();
        commands.insert(self.wrap_pid, self.wrap_pid);
        let all: Vec<u32> = commands.keys().copied().collect();
        let starter = orphans::starter(pid, &all).and_then(|starter| commands.get(&starter));
        let ours = starter.is_none_or(|starter| *starter == self.wrap_pid);
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        self.known.insert(pid, ours);
        ours
    }

    /// Whether a process is certainly the command's: it is there to be asked.
    pub(crate) fn certainly_has(&self, pid: u32) -> bool {
        orphans::starter(pid, &[self.wrap_pid]).is_some()
    }

    /// Whether an event is the command's. Events that name no process are everybody's.
    pub(crate) fn is_told(&mut self, what: &What) -> bool {
        let pid = match what {
            What::ListenerUp(listener) | What::ListenerDown(listener) | What::ListenerRenamed(listener) => {
                listener.pid
            }
            What::Call(call) => call.pid,
            What::ProcessExited { pid, .. } => Some(*pid),
            _ => None,
        };
        pid.is_none_or(|pid| self.has(pid))
    }
}
