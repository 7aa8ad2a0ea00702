//! Files that wait to be checked again, each at its time.
use crate::limits::{RECHECK_LEAST, RECHECK_MOST, RECHECK_PAUSE, RECHECK_SHARE};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;
use tokio::time::Instant;

/// Files to look at later, the earliest first; each file waits once. Bounded by the files that there are, or were
/// a moment ago.
#[derive(Debug, Default)]
pub(super) struct RecheckQueue {
    waiting: BinaryHeap<Reverse<(Instant, String)>>,
    /// The time that counts for each file. Others in the heap were overtaken by an earlier one.
    times: HashMap<String, Instant>,
    /// Nothing is due before.
    resting_until: Option<Instant>,
}

// === impl RecheckQueue ===

impl RecheckQueue {
    /// Remembers to look at a file in a while, unless that happens earlier anyway.
    pub(super) fn add(&mut self, file: String, after_ms: u32) {
        let at = Instant::now() + Duration::from_millis(after_ms.into());
        if self.times.get(&file).is_some_and(|earlier| *earlier <= at) {
            return;
        }
        self.times.insert(file.clone(), at);
        self.waiting.push(Reverse((at, file)));
    }

    /// Files that wait.
    pub(super) fn len(&self) -> usize {
        self.times.len()
    }

    /// When the next look is due.
    pub(super) fn next(&self) -> Option<Instant> {
        let Reverse((at, _)) = self.waiting.peek()?;
        Some(self.resting_until.map_or(*at, |rest| rest.max(*at)))
    }

    /// The files whose time has come, or some of them where they are many.
    pub(super) fn due(&mut self) -> Vec<String> {
        let now = Instant::now();
        let most = (RECHECK_LEAST + self.len() / RECHECK_SHARE).min(RECHECK_MOST);
        let mut files = Vec::new();
        self.resting_until = None;
        while let Some(Reverse((at, _))) = self.waiting.peek()
            && *at <= now
        {
            if files.len() >= most {
                self.resting_until = Some(now + RECHECK_PAUSE);
                break;
            }
            let Some(Reverse((at, file))) = self.waiting.pop() else { break };
            if self.times.get(&file) == Some(&at) {
                self.times.remove(&file);
                files.push(file);
            }
        }
        files
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_file_waits_once_and_the_earliest_time_counts() {
        let mut rechecks = RecheckQueue::default();
        rechecks.add("a".to_owned(), 50);
        rechecks.add("a".to_owned(), 5);
        rechecks.add("a".to_owned(), 20);
        assert_eq!(rechecks.len(), 1);
        tokio::time::advance(Duration::from_millis(6)).await;
        assert_eq!(rechecks.due(), ["a"]);
        rechecks.add("b".to_owned(), 60);
        tokio::time::advance(Duration::from_millis(50)).await;
        assert!(rechecks.due().is_empty(), "the later times of a are forgotten, b is not due");
        assert!(rechecks.next().is_some_and(|next| next > Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn many_are_given_out_in_parts() {
        let mut rechecks = RecheckQueue::default();
        let count = RECHECK_MOST * 8;
        (0..count).for_each(|number| rechecks.add(format!("f{number}"), 1));
        tokio::time::advance(Duration::from_millis(2)).await;
        let mut seen = rechecks.due().len();
        assert!((RECHECK_LEAST..=RECHECK_MOST).contains(&seen));
        assert!(rechecks.next().is_some_and(|next| next > Instant::now()), "others get their turn");
        while let Some(next) = rechecks.next() {
            tokio::time::sleep_until(next).await;
            seen += rechecks.due().len();
        }
        assert_eq!((seen, rechecks.len()), (count, 0));
    }
}
