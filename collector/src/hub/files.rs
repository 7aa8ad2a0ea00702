//! The files of one home, as the hub handles them: the run dir, second names, the watcher, files that wait for a check.
//! What a check finds becomes an event for the registry. Nothing here decides.
use super::recheck::RecheckQueue;
use crate::limits::{KEEP_DELAY, RECHECK_FLOOD, RETRY, RUN_LOCK_RETRY_MS, STALE_REST_MS};
use crate::registry::{Event, FileState, Key, Registry};
use crate::watch::{Attention, Hints, Looker, Patrol, Watcher};
use agentfs_home::{Keep, Price, Restored, RunDir, list, numbers};
use agentfs_wire::name::SocketName;
use agentfs_wire::paths::Paths;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::MetadataExt;
use tokio::time::Instant;

/// The run dir, what is known of it, and the parts that report its changes.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) paths: Paths,
    pub(super) run: RunDir,
    /// Second names of the files in the run dir.
    pub(super) keep: Keep,
    /// Files that get a second name at `keep_at`.
    fresh: BTreeSet<String>,
    /// When they get it; nothing if no file waits.
    pub(super) keep_at: Option<Instant>,
    /// Files to check later.
    pub(super) rechecks: RecheckQueue,
    /// Whether to list the folder when fewer files wait.
    postponed: bool,
    /// What it costs to read which sockets listen.
    price: Price,
    /// What the last check of each file found.
    known: BTreeMap<String, Known>,
    /// The watcher; nothing if the system refuses one. Then only the patrol sees changes.
    pub(super) watcher: Option<Watcher>,
    /// Checks what the watcher cannot report; nothing if there is no thread for it.
    pub(super) patrol: Option<Patrol>,
    /// The sending end of both. It knows whether hints were lost.
    pub(super) hints: Hints,
    /// Inode number of the run dir: another number is another folder.
    pub(super) run_inode: u64,
    /// Inode number of the lock file. Without that file a second collector could start.
    pub(super) lock_inode: u64,
}

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    /// Its inode number.
    inode: u64,
    /// Whether it is what its name says.
    sound: bool,
}

/// Result of a check of our own folder.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Folder {
    /// Nothing was wrong.
    Sound,
    /// Something was repaired; the text says what.
    Mended(String),
}

// === impl Files ===

impl Files {
    /// The files of a home. Nothing is checked yet.
    pub(super) fn new(paths: Paths, hints: Hints, run_inode: u64, lock_inode: u64) -> Self {
        Self {
            run: RunDir::new(paths.run.clone(), paths.run_lock.clone()),
            keep: Keep::open(paths.run.clone(), paths.keep.clone(), paths.run_lock.clone()),
            fresh: BTreeSet::new(),
            keep_at: None,
            rechecks: RecheckQueue::default(),
            postponed: false,
            price: Price::default(),
            known: BTreeMap::new(),
            watcher: None,
            patrol: None,
            hints,
            run_inode,
            lock_inode,
            paths,
        }
    }

    /// Checks files and returns what is there, and the warnings to give. The flag beside a file says that a notice
    /// reported its `listen`.
    pub(super) fn look(
        &mut self,
        registry: &Registry,
        files: impl IntoIterator<Item = (String, bool)>,
    ) -> (Vec<Event>, Vec<String>) {
        let known = |file: &str, inode| registry.is_accepting(file, inode);
        // Separate from the rest of `self`, which each check changes.
        let (run, mut price) = (self.run.path().to_owned(), std::mem::take(&mut self.price));
        let mut looker = Looker::new(&run, &mut price, &known);
        let (mut events, mut warnings) = (Vec::new(), Vec::new());
        for (file, told) in files {
            let (mut state, mut inode) = looker.look(&file, told);
            if state == FileState::Gone {
                match self.keep.restore(&file, registry.has_living(&file)) {
                    Restored::Yes => (state, inode) = looker.look(&file, told),
                    Restored::Busy => self.rechecks.add(file.clone(), RUN_LOCK_RETRY_MS),
                    Restored::No => {}
                }
            }
            if state != FileState::Gone && self.keep.wants(&file, inode) {
                self.fresh.insert(file.clone());
                self.keep_at.get_or_insert_with(|| Instant::now() + KEEP_DELAY);
            }
            if let FileState::Foreign(what) = &state {
                warnings.push(format!("{} {what}; it is ignored", run.join(&file).display()));
            }
            self.note(&file, &state, inode);
            events.push(Event::Seen { file, state });
        }
        self.price = price;
        (events, warnings)
    }

    fn note(&mut self, file: &str, state: &FileState, inode: u64) {
        let attention = attention(file, state);
        if *state == FileState::Gone {
            self.known.remove(file);
        } else {
            let sound = attention != Attention::Look;
            match self.known.get_mut(file) {
                Some(known) => *known = Known { inode, sound },
                None => {
                    self.known.insert(file.to_owned(), Known { inode, sound });
                }
            }
        }
        if let Some(patrol) = &self.patrol {
            patrol.note(file, attention);
        }
    }

    /// All files that the registry knows or that are in the folder, and a warning to give.
    pub(super) fn all(&mut self, registry: &Registry) -> (BTreeSet<String>, Option<String>) {
        let mut files = registry.files();
        files.extend(self.known.keys().cloned());
        match list(self.run.path()) {
            Ok(there) => {
                for busy in self.keep.reconcile(&there, |file| registry.has_living(file)) {
                    self.rechecks.add(busy, RUN_LOCK_RETRY_MS);
                }
                files.extend(there);
                (files, None)
            }
            Err(error) => {
                // The patrol makes the hub try again.
                self.hints.lose();
                let run = self.run.path().display();
                (files, Some(format!("cannot list {run}: {error}")))
            }
        }
    }

    /// The names in the folder that came, went, or are other files than at their last check.
    pub(super) fn changed(&mut self) -> Vec<String> {
        // The waiting files are most of the folder: list it when fewer wait.
        self.postponed = self.rechecks.len() > RECHECK_FLOOD;
        if self.postponed {
            return Vec::new();
        }
        let Ok(there) = numbers(self.run.path()) else {
            // It was closed or removed, or there is no free descriptor: the patrol makes the hub try again.
            self.hints.lose();
            return Vec::new();
        };
        let gone = self.known.keys().filter(|file| !there.contains_key(*file)).cloned();
        let mut changed: Vec<String> = gone.collect();
        let is_known =
            |file: &String, inode: u64| self.known.get(file).is_some_and(|known| known.inode == inode);
        changed
            .extend(there.into_iter().filter(|(file, inode)| !is_known(file, *inode)).map(|(file, _)| file));
        changed
    }

    /// Files whose time for a check has come, and changed files of a folder that was too busy to list.
    pub(super) fn due(&mut self) -> Vec<String> {
        let mut due = self.rechecks.due();
        if self.postponed {
            due.extend(self.changed());
        }
        due
    }

    /// Files that are not what their names say, or may have changed without a hint.
    pub(super) fn unsound(&self) -> Vec<String> {
        let unsound = self.known.iter().filter(|(_, known)| !known.sound);
        unsound.map(|(file, _)| file.clone()).collect()
    }

    /// Gives new files their second names.
    pub(super) fn keep_names(&mut self) {
        self.keep_at = None;
        let keep = &mut self.keep;
        self.fresh.retain(|file| !keep.add(file));
        if !self.fresh.is_empty() {
            self.keep_at = Some(Instant::now() + RETRY);
        }
    }

    /// Postpones sockets that were already dead when their hint came: their program will probably make them again.
    pub(super) fn postpone_stale(&mut self, events: &mut Vec<Event>) {
        events.retain(|event| match event {
            Event::Seen { file, state: FileState::Stale } => {
                self.rechecks.add(file.clone(), STALE_REST_MS);
                false
            }
            _ => true,
        });
    }

    /// Whether our lock and control socket are still there. Without them nobody can reach us, and another collector
    /// may start.
    pub(super) fn are_ours(&self) -> bool {
        let lock = std::fs::metadata(&self.paths.lock);
        lock.is_ok_and(|lock| lock.ino() == self.lock_inode) && self.paths.control.exists()
    }

    /// Creates the run dir again if it was removed or replaced, and watches the new one. Sets its mode back if
    /// somebody changed it.
    pub(super) fn mend_run_dir(&mut self) -> Folder {
        let run = std::fs::metadata(self.run.path()).ok();
        let inode = run.as_ref().map(MetadataExt::ino);
        let closed = run.is_some_and(|run| run.mode() & 0o777 == agentfs_home::PRIVATE);
        if inode == Some(self.run_inode) && closed {
            return Folder::Sound;
        }
        if let Err(error) = agentfs_home::prepare(&self.paths) {
            return Folder::Mended(error.to_string());
        }
        if inode == Some(self.run_inode) {
            return Folder::Mended("the mode of the run dir was changed; it is set to 0700 again".to_owned());
        }
        self.run_inode = std::fs::metadata(self.run.path()).map_or(0, |run| run.ino());
        let renewed = self.watcher.as_mut().map_or(Ok(()), Watcher::renew);
        Folder::Mended(match renewed {
            Ok(()) => "the run dir was removed; it was created again".to_owned(),
            Err(error) => format!("cannot watch the new run dir: {error}"),
        })
    }

    /// Names in the run dir, ours or not.
    pub(super) fn names(&self) -> io::Result<Vec<String>> {
        let entries = std::fs::read_dir(self.run.path())?;
        Ok(entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
    }
}

/// What a file needs while no hint reports it.
fn attention(file: &str, state: &FileState) -> Attention {
    match state {
        FileState::Socket { accepting: true, .. } => Attention::Probe,
        FileState::Link { file: target, end } => match (&**end, target) {
            (FileState::Socket { .. }, Some(target)) if is_of_same_instance(file, target) => {
                Attention::Nothing
            }
            (FileState::Socket { accepting: true, .. }, _) => Attention::Probe,
            _ => Attention::Look,
        },
        // It may only seem foreign: without a free descriptor no file can be read or probed.
        FileState::Socket { .. } | FileState::Stale | FileState::Foreign(_) => Attention::Look,
        FileState::Gone | FileState::Companion { .. } | FileState::Mark => Attention::Nothing,
    }
}

fn is_of_same_instance(file: &str, target: &str) -> bool {
    let key = |file: &str| SocketName::parse(file).ok().map(|name| Key::of(&name));
    key(file).is_some_and(|of_file| key(target) == Some(of_file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::RECHECK_FLOOD;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    fn home() -> (tempfile::TempDir, Files) {
        let home = tempfile::tempdir_in("/tmp").unwrap();
        let paths = Paths::new(home.path(), nix::unistd::geteuid().as_raw());
        agentfs_home::prepare(&paths).unwrap();
        let (hints, _) = Hints::pair();
        (home, Files::new(paths, hints, 0, 0))
    }

    fn look(files: &mut Files, names: Vec<String>) -> Vec<Event> {
        let registry = Registry::new(files.paths.run.clone());
        files.look(&registry, names.into_iter().map(|file| (file, false))).0
    }

    #[test]
    fn only_names_that_came_went_or_mean_another_file_are_looked_at_again() {
        let (_home, mut files) = home();
        let path = files.paths.run.clone();
        let file = |number: usize| format!("a-f{number}.80.sock");
        let _held: Vec<_> =
            (0..50).map(|number| UnixListener::bind(path.join(file(number))).unwrap()).collect();
        fs::write(path.join("a-f0.json"), "{}").unwrap();
        let all = files.changed();
        assert_eq!(all.len(), 51, "nothing was looked at yet");
        look(&mut files, all);
        assert_eq!(files.changed(), Vec::<String>::new());
        assert_eq!(files.unsound(), ["a-f0.json"], "it is not a companion");
        fs::remove_file(path.join(file(7))).unwrap();
        symlink("a-f1.80.sock", path.join("a-f1.sock")).unwrap();
        fs::write(path.join("new"), "{}").unwrap();
        fs::rename(path.join("new"), path.join("a-f0.json")).unwrap();
        let mut changed = files.changed();
        changed.sort();
        assert_eq!(changed, ["a-f0.json", "a-f1.sock", "a-f7.80.sock"]);
        look(&mut files, changed);
        assert_eq!(files.changed(), Vec::<String>::new());
    }

    #[test]
    fn a_folder_that_cannot_be_listed_is_tried_again() {
        let (_home, mut files) = home();
        fs::remove_dir(&files.paths.run).unwrap();
        assert!(files.changed().is_empty() && files.hints.found());
        let registry = Registry::new(files.paths.run.clone());
        assert!(files.all(&registry).1.is_some() && files.hints.found());
    }

    #[tokio::test(start_paused = true)]
    async fn a_folder_in_a_flood_is_listed_later() {
        let (_home, mut files) = home();
        fs::write(files.paths.run.join("a-b.json"), "{}").unwrap();
        (0..=RECHECK_FLOOD).for_each(|number| files.rechecks.add(format!("f{number}"), 1));
        assert!(files.changed().is_empty() && files.due().is_empty());
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        let mut due = Vec::new();
        while let Some(next) = files.rechecks.next() {
            tokio::time::sleep_until(next).await;
            due.extend(files.due());
        }
        assert!(due.contains(&"a-b.json".to_owned()) && due.len() > RECHECK_FLOOD);
    }

    #[test]
    fn what_tells_nobody_is_asked_for() {
        let socket = |accepting| FileState::Socket { inode: 1, accepting };
        let link = |target: Option<&str>, end| FileState::Link {
            file: target.map(str::to_owned),
            end: Box::new(end),
        };
        for (state, expected) in [
            (socket(true), Attention::Probe),
            (socket(false), Attention::Look),
            (FileState::Stale, Attention::Look),
            (link(Some("a-b.80.sock"), socket(true)), Attention::Nothing),
            (link(Some("a-b.80.sock"), FileState::Gone), Attention::Look),
            (link(Some("a-c.80.sock"), socket(true)), Attention::Probe),
            (link(None, socket(true)), Attention::Probe),
            (link(None, FileState::Gone), Attention::Look),
            (FileState::Mark, Attention::Nothing),
            (FileState::Foreign("cannot be probed".to_owned()), Attention::Look),
            (FileState::Gone, Attention::Nothing),
        ] {
            assert_eq!(attention("a-b.sock", &state), expected, "{state:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_name_that_cannot_be_made_is_tried_again() {
        let (_home, mut files) = home();
        let file = "a-b.80.sock";
        let _held = UnixListener::bind(files.paths.run.join(file)).unwrap();
        look(&mut files, vec![file.to_owned()]);
        assert!(files.keep_at.is_some());
        fs::remove_dir(&files.paths.keep).unwrap();
        files.keep_names();
        assert!(files.keep_at.is_some_and(|at| at > Instant::now()));
        fs::create_dir(&files.paths.keep).unwrap();
        files.keep_names();
        assert!(files.keep_at.is_none() && files.paths.keep.join(file).exists());
    }
}
