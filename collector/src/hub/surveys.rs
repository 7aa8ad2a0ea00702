//! Searches `/proc` for processes of instances that seem dead, one search at a time, outside the loop. Also keeps the
//! state of `prune`, which waits for a search.
use crate::answer::Answer;
use crate::limits::SURVEY_DELAY;
use crate::processes::{held, survey};
use crate::registry::{Held, Key};
use std::path::Path;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Result of a survey.
#[derive(Debug)]
pub(super) struct Survey {
    /// The instances that it searched for.
    pub(super) asked: Vec<Key>,
    /// The processes that it found.
    pub(super) living: Vec<(Key, u32)>,
    /// Who holds the listeners; only the first survey of a collector looks for that.
    pub(super) held: Vec<Held>,
}

/// The current survey, if any, and the wishes for the next.
#[derive(Debug, Default)]
pub(super) struct Surveys {
    running: JoinSet<Survey>,
    /// Instances that wait for the next survey.
    wanted: Vec<Key>,
    /// When it starts.
    pub(super) at: Option<Instant>,
    /// Whether the first survey has begun.
    begun: bool,
    /// A prune that waits for a survey.
    pub(super) pruning: Option<Pruning>,
}

/// A prune that is not finished.
#[derive(Debug, Default)]
pub(super) struct Pruning {
    /// Files removed since it began.
    pub(super) removed: Vec<String>,
    /// hub --answer--> everybody who asked since
    pub(super) answer_txs: Vec<oneshot::Sender<Answer>>,
    /// Whether a survey started after it.
    pub(super) surveyed: bool,
}

// === impl Surveys ===

impl Surveys {
    /// Adds an instance to the next survey.
    pub(super) fn want(&mut self, key: Key) {
        self.wanted.push(key);
        self.at.get_or_insert_with(|| Instant::now() + SURVEY_DELAY);
    }

    /// Adds instances to the next survey and starts it as soon as possible.
    pub(super) fn want_now(&mut self, keys: impl Iterator<Item = Key>) {
        self.wanted.extend(keys);
        self.at = Some(Instant::now());
    }

    /// Starts a survey, unless one is running: then the next starts after it.
    pub(super) fn begin(&mut self, run: &Path) {
        self.at = None;
        if !self.running.is_empty() || self.wanted.is_empty() {
            return;
        }
        if let Some(pruning) = &mut self.pruning {
            pruning.surveyed = true;
        }
        let asked = std::mem::take(&mut self.wanted);
        let run = run.to_owned();
        // Processes that listen report themselves, but not once more to the next collector.
        let first = !std::mem::replace(&mut self.begun, true);
        self.running.spawn_blocking(move || {
            let living = survey(&run, &asked);
            let held = if first { held(&run) } else { Vec::new() };
            Survey { asked, living, held }
        });
    }

    /// Waits for the current survey.
    pub(super) async fn next(&mut self) -> Option<Survey> {
        self.running.join_next().await?.ok()
    }

    /// Whether a prune can finish. Call it after each survey and after the prune started.
    pub(super) fn has_pruned(&mut self) -> bool {
        if self.at.is_none() && !self.wanted.is_empty() {
            self.at = Some(Instant::now() + SURVEY_DELAY);
        }
        let Some(pruning) = &self.pruning else { return false };
        self.running.is_empty() && (pruning.surveyed || self.wanted.is_empty())
    }
}
