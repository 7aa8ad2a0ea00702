//! Looks that wait for their time.
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;
use tokio::time::Instant;

/// Files to look at later, the earliest first. Bounded by what the registry asks for: a few for each
/// socket that is bound and does not listen.
#[derive(Debug, Default)]
pub(super) struct Looks {
    waiting: BinaryHeap<Reverse<(Instant, String)>>,
}

// === impl Looks ===

impl Looks {
    /// Remembers to look at a file in a while.
    pub(super) fn add(&mut self, file: String, after_ms: u32) {
        let at = Instant::now() + Duration::from_millis(after_ms.into());
        self.waiting.push(Reverse((at, file)));
    }

    /// When the next look is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.waiting.peek().map(|Reverse((at, _))| *at)
    }

    /// The files whose time has come.
    pub(super) fn due(&mut self) -> Vec<String> {
        let now = Instant::now();
        let mut files = Vec::new();
        while self.next().is_some_and(|at| at <= now) {
            files.extend(self.waiting.pop().map(|Reverse((_, file))| file));
        }
        files
    }
}
