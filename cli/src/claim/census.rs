//! What is running of one app, and which of it belongs to a folder. Reads the run dir; asks the kernel about processes
//! and listeners only where it matters.
use crate::choice::{Holder, State};
use crate::liveness;
use crate::place::Place;
use agentfs_home::Prober;
use agentfs_wire::companion::{Companion, Started};
use agentfs_wire::name::{Kind, SocketName};
use agentfs_wire::paths::Paths;
use std::collections::BTreeMap;
use std::fs;

/// The instances of one app.
#[derive(Debug)]
pub(crate) struct Census<'a> {
    paths: &'a Paths,
    place: &'a Place,
    app: &'a str,
    /// The command line that asks.
    command: &'a [String],
    /// Companions by instance; `None` for an instance of which only other files are there, or whose companion cannot
    /// be read.
    found: BTreeMap<String, Option<Companion>>,
}

// === impl Census ===

impl<'a> Census<'a> {
    /// Reads the companions of `app`. For a decision that lasts, the caller holds the run lock.
    pub(crate) fn new(paths: &'a Paths, place: &'a Place, app: &'a str, command: &'a [String]) -> Self {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(&paths.run).into_iter().flatten().flatten() {
            let file = entry.file_name();
            let Some(Ok(name)) = file.to_str().map(SocketName::parse) else { continue };
            if name.app.as_str() != app {
                continue;
            }
            let companion: &mut Option<Companion> =
                found.entry(name.instance.as_str().to_owned()).or_default();
            if name.kind == Kind::Companion {
                *companion =
                    fs::read(entry.path()).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
            }
        }
        Self { paths, place, app, command, found }
    }

    /// The companion of an instance, dead or alive.
    pub(crate) fn companion(&self, instance: &str) -> Option<Companion> {
        self.found.get(instance)?.clone()
    }

    /// The running instances of the folder, oldest first, with their stems.
    pub(crate) fn own(&self) -> Vec<(String, Option<String>)> {
        let mut own: Vec<(&String, &Companion)> = self
            .found
            .iter()
            .filter_map(|(name, companion)| Some((name, companion.as_ref()?)))
            .filter(|(_, companion)| self.place.owns(companion) && self.lives(companion))
            .collect();
        own.sort_by_key(|(_, companion)| companion.started_ms);
        own.into_iter().map(|(name, companion)| (name.clone(), companion.stem.clone())).collect()
    }

    /// What is known about a name.
    pub(crate) fn state(&self, instance: &str) -> State {
        match self.found.get(instance) {
            None => State::Free,
            Some(None) if is_listening(self.paths, self.app, instance) => State::Taken(Holder::default()),
            Some(None) => State::Free,
            Some(Some(companion)) if self.place.owns(companion) => {
                if self.lives(companion) {
                    State::Own { runs: self.runs(companion), closed: companion.closed }
                } else {
                    State::Free
                }
            }
            // What nobody listens for may still run unseen. Only another folder's has to be kept apart.
            Some(Some(companion))
                if self.lives(companion) || liveness::is_inhabited(self.paths, companion) =>
            {
                State::Taken(holder(companion))
            }
            Some(Some(_)) => State::Free,
        }
    }

    fn lives(&self, companion: &Companion) -> bool {
        liveness::has_process(companion) || is_listening(self.paths, &companion.app, &companion.instance)
    }

    /// Whether the command line runs in the instance, in the same folder. A `wrap` that becomes another `wrap` does not
    /// count.
    fn runs(&self, companion: &Companion) -> bool {
        let own = std::process::id();
        companion.started().iter().any(|one| {
            let same = one.command == self.command && one.directory == self.place.directory;
            same && one.wrap_pid != own && liveness::is_started(one)
        })
    }
}

/// Who has the name of a running instance.
fn holder(companion: &Companion) -> Holder {
    let started = companion.started();
    let running = started.iter().find(|one| liveness::is_started(one));
    let shown: Option<&Started> = running.or(started.first());
    Holder {
        folder: Some(companion.folder().to_owned()),
        pid: running.map(|one| if one.child_pid == 0 { one.wrap_pid } else { one.child_pid }),
        command: shown.map(|one| one.command.join(" ")).unwrap_or_default(),
    }
}

/// Whether something of an instance listens.
pub(super) fn is_listening(paths: &Paths, app: &str, instance: &str) -> bool {
    let mut prober = Prober::default();
    liveness::files_of(paths, app, instance).iter().any(|path| prober.probe(path).is_held())
}
