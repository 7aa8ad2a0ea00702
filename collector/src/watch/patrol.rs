//! Checks regularly what no watcher reports: whether a process still holds a socket, whether a link out of the run dir
//! has a target again, whether hints were lost, whether our own files are there. Owns one thread, so a quiet collector
//! wakes once for all of it. What it finds becomes a hint. It does not read files that did not change:
//!
//! | change | who reports it |
//! |---|---|
//! | a name of the run dir came, went, or is another file | the watcher; also the folder's modification time, here |
//! | a companion was written | the watcher |
//! | a process ended | its descriptor |
//! | a socket was closed by a process that goes on, or by an unknown one | nobody: it is probed here |
//! | the target of a link out of the run dir changed | nobody: the hub checks it in each round |
use super::hints::{Hint, Hints};
use crate::host::Sockets;
use crate::limits::{PATROL, PATROL_RACY, PATROL_REST};
use agentfs_home::{Probe, Prober};
use agentfs_wire::paths::Paths;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::SystemTime;

/// Rounds in a row with nothing to probe before the patrol rests. While a program holds a socket of a removed folder,
/// the system does not report that the folder is gone: the socket keeps it, and inotify(7) waits for its last user. The
/// folder may be removed just after its last file, so two rounds check it.
const IDLE_ROUNDS: u32 = 2;

/// The thread. Ends when dropped.
#[derive(Debug)]
pub(crate) struct Patrol {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    beat: Mutex<Beat>,
    /// Notified when the beat is no longer empty, and at the end.
    changed: Condvar,
}

/// What to check in each round.
#[derive(Clone, Debug, Default)]
struct Beat {
    /// Sockets that listen.
    sockets: Arc<BTreeSet<String>>,
    /// Files that can change without a hint.
    doubtful: Arc<BTreeSet<String>>,
    /// Whether an instance lives, which may ask for a port of the host.
    host: bool,
    /// Whether there was anything to check since the last round: it may be gone by now, and so may the folder.
    stirred: bool,
    /// Whether to end.
    ended: bool,
}

/// What the patrol of one home needs.
pub(crate) struct Post {
    /// Places of the files.
    pub(crate) paths: Paths,
    /// Whether no watcher runs: then every round checks everything.
    pub(crate) alone: bool,
    /// Number of requests that the router has answered.
    pub(crate) answered: Box<dyn Fn() -> u64 + Send>,
    /// Restores the pages that programs read if somebody removed them or cut them short.
    pub(crate) keep_pages: Box<dyn Fn() + Send>,
}

/// Properties of the run dir that show changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Folder {
    inode: u64,
    mode: u32,
    changed: Option<SystemTime>,
}

// === impl Patrol ===

impl Patrol {
    /// Starts the thread. The first round comes when there is something to check.
    ///
    /// # Errors
    /// The system refuses another thread.
    pub(crate) fn start(post: Post, hints: Hints) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let mut rounds = Rounds {
            run: post.paths.run.clone(),
            folder: folder(&post.paths.run),
            post,
            hints,
            prober: Prober::default(),
            answered: 0,
            listeners: Sockets::new(),
            idle: IDLE_ROUNDS,
        };
        let seen = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("agentfs-patrol".to_owned()).spawn(move || {
            while let Some(beat) = seen.wait(rounds.may_rest()) {
                rounds.go(&beat);
            }
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Sets what each round does with a file.
    pub(crate) fn note(&self, file: &str, attention: Attention) {
        self.shared.note(file, attention);
    }
}

impl Patrol {
    /// Sets whether each round looks for changes of the host's listeners.
    pub(crate) fn watch_host(&self, wanted: bool) {
        let mut beat = self.shared.lock();
        let was_empty = beat.is_empty();
        beat.host = wanted;
        if was_empty && wanted {
            self.shared.changed.notify_one();
        }
    }
}

impl Drop for Patrol {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // It ends within one round, which takes milliseconds. A panic in it is ignored: we are stopping.
            let _ = thread.join();
        }
    }
}

/// What a file of the run dir needs while no hint tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attention {
    /// A probe: nobody reports when a socket is closed.
    Probe,
    /// A check: it can change without a hint.
    Look,
    /// Nothing: hints report all its changes.
    Nothing,
}

// === impl Shared ===

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Beat> {
        self.beat.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, file: &str, attention: Attention) {
        let mut beat = self.lock();
        let was_empty = beat.is_empty();
        let (sockets, doubtful) = match attention {
            Attention::Probe => (true, false),
            Attention::Look => (false, true),
            Attention::Nothing => (false, false),
        };
        put(&mut beat.sockets, file, sockets);
        put(&mut beat.doubtful, file, doubtful);
        if was_empty && !beat.is_empty() {
            beat.stirred = true;
            self.changed.notify_one();
        }
    }

    /// Waits for the next round. Returns what to check; nothing at the end.
    fn wait(&self, may_rest: bool) -> Option<Beat> {
        let beat = self.lock();
        // This thread may get to run only when what was noted is gone again, on a busy machine.
        let rests = |beat: &mut Beat| !beat.ended && !beat.stirred && beat.is_empty() && may_rest;
        let (mut beat, _) =
            self.changed.wait_timeout_while(beat, PATROL_REST, rests).unwrap_or_else(PoisonError::into_inner);
        let stirred = std::mem::take(&mut beat.stirred);
        if beat.is_empty() && may_rest && !stirred {
            return (!beat.ended).then(|| beat.clone());
        }
        let (beat, _) = self
            .changed
            .wait_timeout_while(beat, PATROL, |beat| !beat.ended)
            .unwrap_or_else(PoisonError::into_inner);
        (!beat.ended).then(|| Beat { stirred, ..beat.clone() })
    }
}

// === impl Beat ===

impl Beat {
    fn is_empty(&self) -> bool {
        self.sockets.is_empty() && self.doubtful.is_empty() && !self.host
    }
}

/// What the thread remembers from round to round.
struct Rounds {
    post: Post,
    run: PathBuf,
    hints: Hints,
    prober: Prober,
    folder: Option<Folder>,
    answered: u64,
    /// The host's listeners in the last round.
    listeners: Sockets,
    /// Rounds in a row with nothing to probe, up to [`IDLE_ROUNDS`].
    idle: u32,
}

// === impl Rounds ===

impl Rounds {
    fn may_rest(&self) -> bool {
        !self.post.alone && self.idle >= IDLE_ROUNDS
    }

    fn go(&mut self, beat: &Beat) {
        // What came and went counts as there: the rounds that follow find out whether the folder went with it.
        let idle = beat.is_empty() && !beat.stirred;
        self.idle = if idle { (self.idle + 1).min(IDLE_ROUNDS) } else { 0 };
        let paths = &self.post.paths;
        let ours = paths.lock.exists() && paths.control.exists();
        if self.post.alone || !ours || self.hints.lost() {
            self.hints.send(Hint::Everything);
        }
        if ours {
            (self.post.keep_pages)();
        }
        self.look_at_folder();
        for file in beat.sockets.iter() {
            if self.prober.probe(&self.run.join(file)) != Probe::Live {
                self.hints.send(Hint::File(file.clone()));
            }
        }
        for file in beat.doubtful.iter() {
            self.hints.send(Hint::File(file.clone()));
        }
        if beat.host {
            let listeners = crate::host::sockets();
            if std::mem::replace(&mut self.listeners, listeners) != self.listeners {
                self.hints.send(Hint::Host);
            }
        }
        let answered = (self.post.answered)();
        if std::mem::replace(&mut self.answered, answered) != answered {
            self.hints.send(Hint::Busy);
        }
    }

    /// Reports whether names came or went since the last round, or the folder is another one or has another mode.
    fn look_at_folder(&mut self) {
        let now = folder(&self.run);
        let before = std::mem::replace(&mut self.folder, now);
        let whole = |folder: Option<Folder>| folder.map(|folder| (folder.inode, folder.mode));
        if whole(before) != whole(now) {
            return self.hints.send(Hint::Everything);
        }
        if before == now {
            return;
        }
        self.hints.send(Hint::Folder);
        // File systems keep coarse times: a second change right after the first may have the same time.
        let age = now.and_then(|folder| SystemTime::now().duration_since(folder.changed?).ok());
        if age.is_none_or(|age| age < PATROL_RACY)
            && let Some(folder) = &mut self.folder
        {
            folder.changed = None;
        }
    }
}

fn folder(run: &PathBuf) -> Option<Folder> {
    let metadata = fs::metadata(run).ok()?;
    Some(Folder { inode: metadata.ino(), mode: metadata.mode(), changed: metadata.modified().ok() })
}

/// Adds a file to a set or removes it. The set is copied only if a round uses it at that moment.
fn put(set: &mut Arc<BTreeSet<String>>, file: &str, wanted: bool) {
    if set.contains(file) == wanted {
        return;
    }
    let set = Arc::make_mut(set);
    if wanted {
        set.insert(file.to_owned());
    } else {
        set.remove(file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentfs_wire::paths::Paths;
    use std::os::unix::net::UnixListener;
    use tokio::sync::mpsc;

    struct Place {
        _home: tempfile::TempDir,
        rounds: Rounds,
        hint_rx: mpsc::Receiver<Hint>,
    }

    fn place() -> Place {
        let home = tempfile::tempdir_in("/tmp").unwrap();
        let paths = Paths::new(home.path(), 0);
        fs::create_dir(&paths.run).unwrap();
        fs::write(&paths.lock, "").unwrap();
        fs::write(&paths.control, "").unwrap();
        // As in a quiet home, its modification time is old enough.
        settle(&paths.run);
        let (hints, hint_rx) = Hints::pair();
        let page = paths.trace_page.clone();
        let keep_pages = Box::new(move || fs::write(&page, "").unwrap());
        let post = Post { paths: paths.clone(), alone: false, answered: Box::new(|| 0), keep_pages };
        let (run, folder) = (paths.run.clone(), folder(&paths.run));
        let rounds = Rounds {
            post,
            run,
            hints,
            prober: Prober::default(),
            folder,
            answered: 0,
            listeners: Sockets::new(),
            idle: 0,
        };
        Place { _home: home, rounds, hint_rx }
    }

    fn settle(run: &PathBuf) {
        let past = SystemTime::now() - PATROL_RACY * 2;
        fs::File::open(run).unwrap().set_modified(past).unwrap();
    }

    fn beat(sockets: &[&str], doubtful: &[&str]) -> Beat {
        let set = |files: &[&str]| Arc::new(files.iter().map(|file| (*file).to_owned()).collect());
        Beat { sockets: set(sockets), doubtful: set(doubtful), ..Beat::default() }
    }

    fn hints(place: &mut Place, beat: &Beat) -> Vec<Hint> {
        place.rounds.go(beat);
        std::iter::from_fn(|| place.hint_rx.try_recv().ok()).collect()
    }

    #[test]
    fn files_that_did_not_change_are_left_alone() {
        let mut place = place();
        let listeners: Vec<_> = (0..100)
            .map(|number| {
                let file = format!("a-f{number}.80.sock");
                (UnixListener::bind(place.rounds.run.join(&file)).unwrap(), file)
            })
            .collect();
        settle(&place.rounds.run);
        let files: Vec<&str> = listeners.iter().map(|(_, file)| file.as_str()).collect();
        let beat = beat(&files, &[]);
        assert_eq!(hints(&mut place, &beat), [Hint::Folder], "names came");
        for _ in 0..3 {
            assert_eq!(hints(&mut place, &beat), []);
        }
    }

    #[test]
    fn the_trace_page_is_kept_in_a_home_that_is_there() {
        let mut place = place();
        let (page, lock) = (place.rounds.post.paths.trace_page.clone(), place.rounds.post.paths.lock.clone());
        let beat = beat(&[], &[]);
        assert_eq!(hints(&mut place, &beat), []);
        assert!(page.exists());
        fs::remove_file(&page).unwrap();
        fs::remove_file(&lock).unwrap();
        let _ = hints(&mut place, &beat);
        assert!(!page.exists());
    }

    /// On a busy machine the thread gets to run only after that. The folder may have been removed with it, which the
    /// system does not report while the program holds its socket.
    #[test]
    fn what_came_and_went_before_the_thread_ran_is_followed_by_two_rounds() {
        let mut place = place();
        place.rounds.idle = IDLE_ROUNDS;
        let shared = Arc::<Shared>::default();
        shared.note("a-b.80.sock", Attention::Probe);
        shared.note("a-b.80.sock", Attention::Nothing);
        let (beat_tx, beat_rx) = std::sync::mpsc::channel();
        let waiting = Arc::clone(&shared);
        let thread = std::thread::spawn(move || beat_tx.send(waiting.wait(true)).unwrap());
        let beat = beat_rx.recv_timeout(std::time::Duration::from_secs(30)).expect("a round comes").unwrap();
        thread.join().unwrap();
        fs::remove_dir_all(&place.rounds.run).unwrap();
        assert_eq!(hints(&mut place, &beat), [Hint::Everything]);
        assert!(!place.rounds.may_rest());
        let quiet = Beat::default();
        for rests in [false, true] {
            let _ = hints(&mut place, &quiet);
            assert_eq!(place.rounds.may_rest(), rests);
        }
    }

    #[test]
    fn a_socket_that_was_closed_is_found() {
        let mut place = place();
        let listener = UnixListener::bind(place.rounds.run.join("a-b.80.sock")).unwrap();
        settle(&place.rounds.run);
        let beat = beat(&["a-b.80.sock"], &[]);
        assert_eq!(hints(&mut place, &beat), [Hint::Folder]);
        drop(listener);
        assert_eq!(hints(&mut place, &beat), [Hint::File("a-b.80.sock".to_owned())]);
    }

    #[test]
    fn a_name_that_came_without_a_word_is_found_even_within_a_tick_of_the_clock() {
        let mut place = place();
        let beat = beat(&[], &[]);
        fs::write(place.rounds.run.join("a-b.json"), "").unwrap();
        assert_eq!(hints(&mut place, &beat), [Hint::Folder]);
        let changed = fs::metadata(&place.rounds.run).unwrap().modified().unwrap();
        fs::write(place.rounds.run.join("a-c.json"), "").unwrap();
        fs::File::open(&place.rounds.run).unwrap().set_modified(changed).unwrap();
        assert_eq!(
            hints(&mut place, &beat),
            [Hint::Folder],
            "the same time says nothing when it is this young"
        );
    }

    #[test]
    fn lost_hints_a_lost_lock_and_a_closed_folder_are_told() {
        use std::os::unix::fs::PermissionsExt;
        let mut place = place();
        let beat = beat(&[], &["a-b.sock"]);
        let doubtful = || Hint::File("a-b.sock".to_owned());
        assert_eq!(hints(&mut place, &beat), [doubtful()]);
        place.rounds.hints.lose();
        assert_eq!(hints(&mut place, &beat), [Hint::Everything, doubtful()]);
        place.rounds.hints.found();
        fs::set_permissions(&place.rounds.run, fs::Permissions::from_mode(0o500)).unwrap();
        assert!(hints(&mut place, &beat).contains(&Hint::Everything));
        fs::remove_file(&place.rounds.post.paths.lock).unwrap();
        assert_eq!(hints(&mut place, &beat), [Hint::Everything, doubtful()]);
    }

    #[test]
    fn requests_are_told_while_they_come() {
        let mut place = place();
        let answered = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let count = Arc::clone(&answered);
        place.rounds.post.answered = Box::new(move || count.load(std::sync::atomic::Ordering::Relaxed));
        let beat = beat(&[], &[]);
        assert_eq!(hints(&mut place, &beat), []);
        answered.store(7, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(hints(&mut place, &beat), [Hint::Busy]);
        assert_eq!(hints(&mut place, &beat), []);
    }

    #[test]
    fn a_folder_that_is_removed_after_its_last_file_is_found_before_the_rest() {
        let mut place = place();
        let listener = UnixListener::bind(place.rounds.run.join("a-b.80.sock")).unwrap();
        place.rounds.go(&beat(&["a-b.80.sock"], &[]));
        fs::remove_file(place.rounds.run.join("a-b.80.sock")).unwrap();
        place.rounds.go(&beat(&[], &[]));
        assert!(!place.rounds.may_rest(), "the folder may be removed after this round");
        while place.hint_rx.try_recv().is_ok() {}
        fs::remove_dir(&place.rounds.run).unwrap();
        assert_eq!(hints(&mut place, &beat(&[], &[])), [Hint::Everything]);
        assert!(place.rounds.may_rest());
        drop(listener);
    }

    #[test]
    fn it_rests_without_anything_to_ask_and_ends_when_dropped() {
        let place = place();
        let Place { _home, rounds, .. } = place;
        let patrol = Patrol::start(rounds.post, rounds.hints).unwrap();
        patrol.note("a-b.80.sock", Attention::Probe);
        assert!(!patrol.shared.lock().is_empty());
        patrol.note("a-b.80.sock", Attention::Look);
        let counts = |beat: &Beat| (beat.sockets.len(), beat.doubtful.len());
        assert_eq!(counts(&patrol.shared.lock()), (0, 1));
        patrol.note("a-b.80.sock", Attention::Nothing);
        assert!(patrol.shared.lock().is_empty());
        drop(patrol);
    }
}
