//! One event as subscribers get it: with its number, and as a line of text that is formatted only once.
use agentfs_wire::event::{Event, EventKind, What, Who};
use std::sync::Arc;

/// One event with its number, as text.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Its inode number.
    pub(super) sequence: u64,
    /// Unix milliseconds.
    pub(super) time_ms: u64,
    /// The instance concerned.
    pub(super) of: Option<Who>,
    /// The kind of event.
    pub(super) kind: EventKind,
    /// The event as JSON, with a newline.
    pub(super) line: Box<str>,
}

// === impl Entry ===

impl Entry {
    /// Numbers an event and formats it. `None` if it cannot be formatted.
    pub(super) fn new(sequence: u64, now: u64, what: What) -> Option<Arc<Self>> {
        let event = Event { sequence, time_ms: now, what };
        let line = line(&event)?;
        Some(Arc::new(Self {
            sequence,
            time_ms: now,
            of: event.what.of().cloned(),
            kind: event.kind(),
            line,
        }))
    }
}

/// An event as a line. Text and numbers can always be formatted, so `None` does not happen.
pub(super) fn line(event: &Event) -> Option<Box<str>> {
    let mut line = serde_json::to_string(event).ok()?;
    line.push('\n');
    Some(line.into_boxed_str())
}
