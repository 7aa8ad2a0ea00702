//! The last events, each kept as the line that subscribers get, so it is formatted only once.
use super::subscribe::Filter;
use agentfs_wire::event::{Event, EventKind};
use std::collections::VecDeque;
use std::sync::Arc;

/// One event with its number, as text.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Its number.
    pub(super) sequence: u64,
    /// Unix milliseconds.
    pub(super) time_ms: u64,
    /// The app concerned.
    pub(super) app: Option<Box<str>>,
    /// The instance concerned.
    pub(super) instance: Option<Box<str>>,
    /// Whether it is about a request.
    pub(super) is_request: bool,
    /// The event as JSON, with a newline.
    pub(super) line: Box<str>,
}

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

    /// Numbers and keeps an event. `None` if it cannot be formatted; then no number is used.
    pub(super) fn push(&mut self, now: u64, event: Event) -> Option<Arc<Entry>> {
        let entry = entry(self.sequence + 1, now, event)?;
        self.sequence += 1;
        if self.entries.len() >= self.capacity {
            self.entries.pop_front();
        }
        self.entries.push_back(Arc::clone(&entry));
        Some(entry)
    }

    /// An event that is passed on, but neither numbered nor kept.
    pub(super) fn pass(&self, now: u64, event: Event) -> Option<Arc<Entry>> {
        entry(self.sequence, now, event)
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

fn entry(sequence: u64, now: u64, mut event: Event) -> Option<Arc<Entry>> {
    event.sequence = sequence;
    event.time_ms = now;
    let line = line(&event)?;
    Some(Arc::new(Entry {
        sequence,
        time_ms: now,
        is_request: event.kind == EventKind::Request,
        app: event.app.map(String::into_boxed_str),
        instance: event.instance.map(String::into_boxed_str),
        line,
    }))
}

/// An event as a line. Text and numbers can always be formatted, so `None` does not happen.
pub(super) fn line(event: &Event) -> Option<Box<str>> {
    let mut line = serde_json::to_string(event).ok()?;
    line.push('\n');
    Some(line.into_boxed_str())
}
