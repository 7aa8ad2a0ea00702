//! What is running of one app, and which of it belongs to a folder. Reads the run dir; asks the kernel about processes
//! and listeners only where it matters: with a thousand instances, others wait for the run lock meanwhile.
use crate::choice::{Holder, State};
use crate::liveness;
use crate::naming::number_of;
use crate::place::Place;
use agentfs_home::Prober;
use agentfs_wire::companion::{Companion, Started};
use agentfs_wire::name::{Kind, SocketName};
use agentfs_wire::paths::Paths;
use std::cell::{Cell, OnceCell};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Names that are looked into. Those after them count as taken: a copy may get a higher number than it need
/// have, and each of a thousand copies does not ask about all others.
const LOOKED_INTO: u32 = 32;

/// The instances of one app.
#[derive(Debug)]
pub(crate) struct Census<'a> {
    paths: &'a Paths,
    place: &'a Place,
    /// The command line that asks.
    command: &'a [String],
    /// By instance.
    found: BTreeMap<String, Found>,
    /// Names that were asked about and that something has.
    asked: Cell<u32>,
}

/// What the run dir has of one instance.
#[derive(Debug, Default)]
struct Found {
    /// The companion file.
    file: Option<PathBuf>,
    /// What is in it, once that was asked; empty if it cannot be read.
    bytes: OnceCell<Vec<u8>>,
    /// What it says, once that was asked; `None` if it cannot be understood.
    companion: OnceCell<Option<Companion>>,
    /// The other files.
    others: Vec<PathBuf>,
}

// === impl Census ===

impl<'a> Census<'a> {
    /// Lists the instances of `app`. For a decision that lasts, the caller holds the run lock.
    pub(crate) fn new(paths: &'a Paths, place: &'a Place, app: &str, command: &'a [String]) -> Self {
        let mut found: BTreeMap<String, Found> = BTreeMap::new();
        for entry in fs::read_dir(&paths.run).into_iter().flatten().flatten() {
            let file = entry.file_name();
            // Before it is parsed: most files may be another app's.
            let Some(text) = file.to_str().filter(|text| text.starts_with(app)) else { continue };
            let Ok(name) = SocketName::parse(text) else { continue };
            if name.app.as_str() != app {
                continue;
            }
            let of = found.entry(name.instance.as_str().to_owned()).or_default();
            match name.kind {
                Kind::Companion => of.file = Some(entry.path()),
                _ => of.others.push(entry.path()),
            }
        }
        Self { paths, place, command, found, asked: Cell::new(0) }
    }

    /// The companion of an instance, dead or alive.
    pub(crate) fn companion(&self, instance: &str) -> Option<Companion> {
        self.found.get(instance)?.companion().cloned()
    }

    /// The running instances of the folder, oldest first, with their stems.
    pub(crate) fn own(&self) -> Vec<(String, Option<String>)> {
        self.own_of(self.found.iter().collect())
    }

    /// The same without all copies of `stem` but the first: there may be a thousand, and their stem is the same.
    pub(crate) fn own_by_stem(&self, stem: &str) -> Vec<(String, Option<String>)> {
        let mut copies = Vec::new();
        let mut others = Vec::new();
        for (name, found) in &self.found {
            match number_of(name, stem) {
                Some(number) => copies.push((number, (name, found))),
                None => others.push((name, found)),
            }
        }
        copies.sort_unstable_by_key(|(number, _)| *number);
        let named = self.named();
        let first = copies.into_iter().map(|(_, one)| one).find(|one| self.is_own(*one, &named));
        self.own_of(others.into_iter().chain(first).collect())
    }

    fn own_of(&self, among: Vec<(&String, &Found)>) -> Vec<(String, Option<String>)> {
        let named = self.named();
        let own = among.into_iter().filter(|one| self.is_own(*one, &named));
        let mut own: Vec<(&String, &Companion)> =
            own.filter_map(|(name, found)| Some((name, found.companion()?))).collect();
        own.sort_by_key(|(name, companion)| (companion.started_ms, *name));
        own.into_iter().map(|(name, companion)| (name.clone(), companion.stem.clone())).collect()
    }

    /// What the companions of the folder's instances have in them.
    fn named(&self) -> Vec<Vec<u8>> {
        [Some(self.place.folder()), self.place.worktree()].into_iter().flatten().map(quoted).collect()
    }

    /// Whether the instance belongs to the folder and is running.
    fn is_own(&self, (_, found): (&String, &Found), named: &[Vec<u8>]) -> bool {
        found.mentions(named)
            && found.companion().is_some_and(|companion| self.place.owns(companion) && found.lives(companion))
    }

    /// What is known about a name.
    pub(crate) fn state(&self, instance: &str) -> State {
        let Some(found) = self.found.get(instance) else { return State::Free };
        if self.asked.replace(self.asked.get() + 1) >= LOOKED_INTO {
            return State::Taken(Holder::default());
        }
        let Some(companion) = found.companion() else {
            return if found.is_listening() { State::Taken(Holder::default()) } else { State::Free };
        };
        if self.place.owns(companion) {
            let runs = self.runs(companion);
            return match runs || found.lives(companion) {
                true => State::Own { runs, closed: companion.closed },
                false => State::Free,
            };
        }
        let lives = found.lives(companion);
        // What nobody listens for may still run unseen. Only another folder's has to be kept apart.
        if lives || liveness::is_inhabited(self.paths, companion) {
            State::Taken(Holder { is_removed: self.place.replaced(companion), ..holder(companion) })
        } else {
            State::Free
        }
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

// === impl Found ===

impl Found {
    fn companion(&self) -> Option<&Companion> {
        self.companion.get_or_init(|| serde_json::from_slice(self.bytes()).ok()).as_ref()
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get_or_init(|| self.file.as_ref().and_then(|file| fs::read(file).ok()).unwrap_or_default())
    }

    /// Whether the companion has one of these texts. Much sooner told than what it says.
    fn mentions(&self, texts: &[Vec<u8>]) -> bool {
        texts.iter().any(|text| self.bytes().windows(text.len()).any(|part| part == text))
    }

    fn lives(&self, companion: &Companion) -> bool {
        liveness::has_process(companion) || self.is_listening()
    }

    fn is_listening(&self) -> bool {
        let mut prober = Prober::default();
        self.others.iter().any(|path| prober.probe(path).is_held())
    }
}

/// A path as JSON has it.
fn quoted(path: &Path) -> Vec<u8> {
    serde_json::to_vec(path).unwrap_or_else(|_| path.as_os_str().as_bytes().to_owned())
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
        is_removed: false,
    }
}

/// Whether something of an instance listens.
pub(super) fn is_listening(paths: &Paths, app: &str, instance: &str) -> bool {
    let mut prober = Prober::default();
    liveness::files_of(paths, app, instance).iter().any(|path| prober.probe(path).is_held())
}
