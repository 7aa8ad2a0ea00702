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
    /// Everything.
    Everything,
}

/// The watcher of one run dir. Ends when dropped.
#[derive(Debug)]
pub(crate) struct Watcher {
    inner: RecommendedWatcher,
    run: PathBuf,
    #[cfg(target_os = "macos")]
    _folder: Option<super::kqueue::FolderWatcher>,
}

/// watcher --hints--> hub
#[derive(Clone, Debug)]
pub(super) struct Hints {
    hint_tx: mpsc::Sender<Hint>,
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
    /// Watches `run`. Also returns the hints, and a flag that is set when hints were lost because the hub was
    /// too slow.
    ///
    /// # Errors
    /// What the system says, for instance a limit on watches.
    pub(crate) fn start(run: &Path) -> notify::Result<(Self, mpsc::Receiver<Hint>, Arc<AtomicBool>)> {
        let (hint_tx, hint_rx) = mpsc::channel(HINT_QUEUE);
        let overflow = Arc::new(AtomicBool::new(false));
        let hints = Hints { hint_tx, overflow: Arc::clone(&overflow) };
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
        let watcher = Self {
            inner,
            run: run.to_owned(),
            #[cfg(target_os = "macos")]
            _folder: super::kqueue::FolderWatcher::start(run, move || hints.send(Hint::Everything)).ok(),
        };
        Ok((watcher, hint_rx, overflow))
    }

    /// Watches the run dir again, after it was created again.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn renew(&mut self) -> notify::Result<()> {
        // The old watch may or may not be gone with the old folder; both are fine.
        let _ = self.inner.unwatch(&self.run);
        self.inner.watch(&self.run, RecursiveMode::NonRecursive)
    }
}

// === impl Hints ===

impl Hints {
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
                _ => {}
            }
        }
    }

    /// Passes a hint on, or remembers that one was lost.
    pub(super) fn send(&self, hint: Hint) {
        if self.hint_tx.try_send(hint).is_err() {
            self.overflow.store(true, Ordering::Release);
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
