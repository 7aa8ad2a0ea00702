//! The last events, each kept as the line that subscribers get.
use super::entry::Entry;
use super::subscribe::Filter;
use agentfs_wire::event::What;
use std::collections::VecDeque;
use std::sync::Arc;

/// A bounded sequence of events without gaps.
#[derive(Debug)]
pub(super) struct Ring {
    entries: VecDeque<Arc<Entry>>,
    capacity: usize,
    sequence: u64,
}

// === impl Ring ===

impl Ring {
    pub(super) fn new(capacity: usize) -> Self {
        Self { entries: VecDeque::new(), capacity, sequence: 0 }
    }

    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Number of the last kept event that a filter asks for, 0 if there is none.
    pub(super) fn last(&self, filter: &Filter) -> u64 {
        let is_young = |entry: &&Arc<Entry>| filter.since_ms.is_none_or(|since| entry.time_ms >= since);
        let last = self.entries.iter().rev().take_while(is_young).find(|entry| filter.fits(entry));
        last.map_or(0, |entry| entry.sequence)
    }

    /// Numbers and keeps an event. `None` if it cannot be formatted; then no number is used.
    pub(super) fn push(&mut self, now: u64, what: What) -> Option<Arc<Entry>> {
        let entry = Entry::new(self.sequence + 1, now, what)?;
        self.sequence += 1;
        if self.entries.len() >= self.capacity {
            self.entries.pop_front();
        }
        self.entries.push_back(Arc::clone(&entry));
        Some(entry)
    }

    /// An event that is passed on, but neither numbered nor kept.
    pub(super) fn pass(&self, now: u64, what: What) -> Option<Arc<Entry>> {
        Entry::new(self.sequence, now, what)
    }

    /// The kept events that a filter asks for, and how many of those it asks for are gone.
    pub(super) fn since(&self, filter: &Filter) -> (Vec<Arc<Entry>>, u64) {
        // A number from an earlier collector means nothing here: then every event is new.
        let after = filter.after.map(|after| if after > self.sequence { 0 } else { after });
        let oldest = self.entries.front().map_or(self.sequence + 1, |entry| entry.sequence);
        let missed = after.map_or(0, |after| (oldest - 1).saturating_sub(after));
        let after = match (after, filter.since_ms) {
            (Some(after), _) => after,
            (None, Some(_)) => 0,
            (None, None) => self.sequence,
        };
        let wanted = |entry: &&Arc<Entry>| {
            entry.sequence > after
                && filter.since_ms.is_none_or(|since| entry.time_ms >= since)
                && filter.fits(entry)
        };
        (self.entries.iter().filter(wanted).map(Arc::clone).collect(), missed)
    }
}
