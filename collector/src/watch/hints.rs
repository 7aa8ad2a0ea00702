//! Hints from the file system that something in the run dir changed. A hint may be late, repeated or missing;
//! it only says what to check.
use crate::limits::{HINT_BURST, HINT_PAUSE_MS, HINT_QUEUE, HINT_QUIET, HINT_WORK};
use agentfs_wire::name::SocketName;
use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// What to check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hint {
    /// This file.
    File(String),
    /// The names in the folder: some came, went, or are other files.
    Folder,
    /// Everything.
    Everything,
    /// The host's listeners: they changed.
    Host,
    /// The router: it answers requests.
    Busy,
}

/// The watcher of one run dir. Ends when dropped.
#[derive(Debug)]
pub(crate) struct Watcher {
    inner: RecommendedWatcher,
    run: PathBuf,
    #[cfg(target_os = "macos")]
    hints: Hints,
    #[cfg(target_os = "macos")]
    folder: Option<super::kqueue::FolderWatcher>,
}

/// watcher, patrol --hints--> hub
#[derive(Clone, Debug)]
pub(crate) struct Hints {
    hint_tx: mpsc::Sender<Hint>,
    /// Set when hints were lost because the hub was too slow.
    overflow: Arc<AtomicBool>,
}

/// Decides when to pause so that changes collect. The first ones are passed on at once.
#[derive(Debug)]
struct Pace {
    /// When the last change came.
    last: Instant,
    /// Changes since the last quiet time.
    burst: u32,
    /// When we last began to read.
    reading_since: Instant,
}

// === impl Pace ===

impl Pace {
    fn new(now: Instant) -> Self {
        Self { last: now, burst: 0, reading_since: now }
    }

    /// Whether to pause after a change that came now.
    fn is_too_fast(&mut self, now: Instant) -> bool {
        if now - self.last > HINT_QUIET {
            *self = Self::new(now);
        }
        self.last = now;
        self.burst = self.burst.saturating_add(1);
        self.burst > HINT_BURST && now - self.reading_since >= HINT_WORK
    }

    /// The pause is over.
    fn rested(&mut self, now: Instant) {
        self.last = now;
        self.reading_since = now;
    }
}

// === impl Watcher ===

impl Watcher {
    /// Watches `run`.
    ///
    /// # Errors
    /// What the system says, for instance a limit on watches.
    pub(crate) fn start(run: &Path, hints: Hints) -> notify::Result<Self> {
        let for_events = hints.clone();
        let mut pace = Pace::new(Instant::now());
        let mut inner = notify::recommended_watcher(move |event| {
            for_events.take(event);
            if pace.is_too_fast(Instant::now()) {
                // This is the watcher's own thread. Meanwhile the kernel merges and queues changes without
                // waking anybody.
                let _ = nix::poll::poll(&mut [], nix::poll::PollTimeout::from(HINT_PAUSE_MS));
                pace.rested(Instant::now());
            }
        })?;
        inner.watch(run, RecursiveMode::NonRecursive)?;
        Ok(Self {
            inner,
            run: run.to_owned(),
            #[cfg(target_os = "macos")]
            folder: watch_folder(run, &hints),
            #[cfg(target_os = "macos")]
            hints,
        })
    }

    /// Watches one of our own files as well, which should never change. Returns whether that works.
    pub(crate) fn guard(&mut self, file: &Path) -> bool {
        self.inner.watch(file, RecursiveMode::NonRecursive).is_ok()
    }

    /// Watches the run dir again, after it was created again.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn renew(&mut self) -> notify::Result<()> {
        // The old watch may or may not be gone with the old folder; both are fine.
        let _ = self.inner.unwatch(&self.run);
        #[cfg(target_os = "macos")]
        {
            self.folder = watch_folder(&self.run, &self.hints);
        }
        self.inner.watch(&self.run, RecursiveMode::NonRecursive)
    }
}

#[cfg(target_os = "macos")]
fn watch_folder(run: &Path, hints: &Hints) -> Option<super::kqueue::FolderWatcher> {
    let hints = hints.clone();
    let changed = move |is_gone| hints.send(if is_gone { Hint::Everything } else { Hint::Folder });
    super::kqueue::FolderWatcher::start(run, changed).ok()
}

// === impl Hints ===

impl Hints {
    /// Both ends of the queue.
    pub(crate) fn pair() -> (Self, mpsc::Receiver<Hint>) {
        let (hint_tx, hint_rx) = mpsc::channel(HINT_QUEUE);
        (Self { hint_tx, overflow: Arc::default() }, hint_rx)
    }

    /// Whether hints were lost since the last check of everything.
    pub(crate) fn lost(&self) -> bool {
        self.overflow.load(Ordering::Acquire)
    }

    /// Marks that a hint was lost or could not be followed.
    pub(crate) fn lose(&self) {
        self.overflow.store(true, Ordering::Release);
    }

    /// Clears the mark before a check of everything. Returns whether hints were lost.
    pub(crate) fn found(&self) -> bool {
        self.overflow.swap(false, Ordering::AcqRel)
    }

    fn take(&self, event: notify::Result<notify::Event>) {
        let Ok(event) = event else { return self.send(Hint::Everything) };
        if event.need_rescan() {
            return self.send(Hint::Everything);
        }
        match event.kind {
            // Our own checks open files: reacting to that would never end.
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => {}
            EventKind::Access(_) => return,
            _ => {}
        }
        for path in &event.paths {
            let file = path.file_name().and_then(|file| file.to_str());
            match file {
                Some(file) if SocketName::parse(file).is_ok() => self.send(Hint::File(file.to_owned())),
                // The folder itself was removed, moved or closed to us.
                _ if file == Some("run") => self.send(Hint::Everything),
                // One of our own files that are watched as well.
                Some("collector.lock" | "collector.sock") => self.send(Hint::Everything),
                _ => {}
            }
        }
    }

    /// Passes a hint on, or remembers that one was lost.
    pub(super) fn send(&self, hint: Hint) {
        if self.hint_tx.try_send(hint).is_err() {
            self.lose();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_flood_is_slowed_down() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        let step = HINT_WORK / 8;
        for _ in 0..HINT_BURST {
            now += step;
            assert!(!pace.is_too_fast(now));
        }
        now += step;
        assert!(pace.is_too_fast(now), "the kernel collects");
        pace.rested(now);
        now += step;
        assert!(!pace.is_too_fast(now), "what it collected is read");
        now += HINT_WORK;
        assert!(pace.is_too_fast(now), "for a while");
        now += HINT_QUIET * 2;
        assert!(!pace.is_too_fast(now), "quiet in between");
        assert_eq!(pace.burst, 1);
    }
}
