//! Hints of the file system that something in the run dir changed. A hint may be late, doubled or
//! missing; it only says where to look.
use crate::limits::{HINT_BURST, HINT_PAUSE_MS, HINT_QUEUE, HINT_QUIET, HINT_WORK};
use agentfs_wire::name::SocketName;
use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Where to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hint {
    /// At this file.
    File(String),
    /// At the names in the folder: some came, or went, or mean other files.
    Folder,
    /// At everything.
    Everything,
    /// At the router: it answers requests.
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
    /// Set when hints were lost because they were not taken fast enough.
    overflow: Arc<AtomicBool>,
}

/// Decides when to let changes gather. The first ones are passed on at once.
#[derive(Debug)]
struct Pace {
    /// When the last change came.
    last: Instant,
    /// Changes since it was quiet.
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
    /// What the system says, a limit on watches for instance.
    pub(crate) fn start(run: &Path, hints: Hints) -> notify::Result<Self> {
        let for_events = hints.clone();
        let mut pace = Pace::new(Instant::now());
        let mut inner = notify::recommended_watcher(move |event| {
            for_events.take(event);
            if pace.is_too_fast(Instant::now()) {
                // On the watcher's own thread. The kernel merges and queues meanwhile, and wakes nobody.
                let _ = nix::poll::poll(&mut [], nix::poll::PollTimeout::from(HINT_PAUSE_MS));
                pace.rested(Instant::now());
            }
        })?;
        inner.watch(run, RecursiveMode::NonRecursive)?;
        Ok(Self {
            inner,
            run: run.to_owned(),
            #[cfg(target_os = "macos")]
            folder: super::kqueue::FolderWatcher::start(run, hints.clone()).ok(),
            #[cfg(target_os = "macos")]
            hints,
        })
    }

    /// Watches a file of ours as well, which should never change. Whether that can be done.
    pub(crate) fn guard(&mut self, file: &Path) -> bool {
        self.inner.watch(file, RecursiveMode::NonRecursive).is_ok()
    }

    /// Watches the run dir anew, after it was made again.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn renew(&mut self) -> notify::Result<()> {
        // The old watch is gone with the old folder, or it is not; both are right.
        let _ = self.inner.unwatch(&self.run);
        #[cfg(target_os = "macos")]
        {
            self.folder = super::kqueue::FolderWatcher::start(&self.run, self.hints.clone()).ok();
        }
        self.inner.watch(&self.run, RecursiveMode::NonRecursive)
    }
}

// === impl Hints ===

impl Hints {
    /// Both ends of the queue.
    pub(crate) fn pair() -> (Self, mpsc::Receiver<Hint>) {
        let (hint_tx, hint_rx) = mpsc::channel(HINT_QUEUE);
        (Self { hint_tx, overflow: Arc::default() }, hint_rx)
    }

    /// Whether hints were lost and nobody has looked at everything since.
    pub(crate) fn lost(&self) -> bool {
        self.overflow.load(Ordering::Acquire)
    }

    /// Hints are lost, or not followed.
    pub(crate) fn lose(&self) {
        self.overflow.store(true, Ordering::Release);
    }

    /// Somebody is about to look at everything: whether hints were lost before.
    pub(crate) fn found(&self) -> bool {
        self.overflow.swap(false, Ordering::AcqRel)
    }

    fn take(&self, event: notify::Result<notify::Event>) {
        let Ok(event) = event else { return self.send(Hint::Everything) };
        if event.need_rescan() {
            return self.send(Hint::Everything);
        }
        match event.kind {
            // Our own looks open files: to answer them would never end.
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => {}
            EventKind::Access(_) => return,
            _ => {}
        }
        for path in &event.paths {
            let file = path.file_name().and_then(|file| file.to_str());
            match file {
                Some(file) if SocketName::parse(file).is_ok() => self.send(Hint::File(file.to_owned())),
                // The folder itself: removed, moved or closed to us.
                _ if file == Some("run") => self.send(Hint::Everything),
                // A file that is guarded.
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
