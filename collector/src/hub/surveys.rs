//! Searches of `/proc`, one at a time and off the loop, for whoever seems dead; and `prune`, which waits for one.
use crate::answer::Answer;
use crate::limits::SURVEY_DELAY;
use crate::processes::survey;
use crate::registry::Key;
use std::path::Path;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The instances that a survey was about, and the processes that it found.
pub(super) type Survey = (Vec<Key>, Vec<(Key, u32)>);

/// The survey under way, if any, and those to come.
#[derive(Debug, Default)]
pub(super) struct Surveys {
    running: JoinSet<Survey>,
    /// Instances that wait for the next survey.
    wanted: Vec<Key>,
    /// When it begins.
    pub(super) at: Option<Instant>,
    /// A prune that waits for a survey.
    pub(super) pruning: Option<Pruning>,
}

/// A prune under way.
#[derive(Debug, Default)]
pub(super) struct Pruning {
    /// Files removed since it began.
    pub(super) removed: Vec<String>,
    /// hub --answer--> everybody who asked since
    pub(super) answer_txs: Vec<oneshot::Sender<Answer>>,
    /// Whether the survey under way, or the last, began after it.
    pub(super) surveyed: bool,
}

// === impl Surveys ===

impl Surveys {
    /// Wants an instance to be searched for.
    pub(super) fn want(&mut self, key: Key) {
        self.wanted.push(key);
        self.at.get_or_insert_with(|| Instant::now() + SURVEY_DELAY);
    }

    /// Wants instances to be searched for at once.
    pub(super) fn want_now(&mut self, keys: impl Iterator<Item = Key>) {
        self.wanted.extend(keys);
        self.at = Some(Instant::now());
    }

    /// Begins, unless a survey is under way: then the next begins after it.
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
        self.running.spawn_blocking(move || {
            let living = survey(&run, &asked);
            (asked, living)
        });
    }

    /// Waits for the survey under way.
    pub(super) async fn next(&mut self) -> Option<Survey> {
        self.running.join_next().await?.ok()
    }

    /// Whether a prune has all that it waits for. To be asked after each survey, and after the prune began.
    pub(super) fn has_pruned(&mut self) -> bool {
        if self.at.is_none() && !self.wanted.is_empty() {
            self.at = Some(Instant::now() + SURVEY_DELAY);
        }
        let Some(pruning) = &self.pruning else { return false };
        self.running.is_empty() && (pruning.surveyed || self.wanted.is_empty())
    }
}
