//! Requests of the router as events, for those who follow them.
use crate::clock::now_ms;
use crate::journal::Journal;
use agentfs_router::RequestRecord;
use agentfs_wire::event::{Event, EventKind, HANDED_OVER};
use std::sync::atomic::{AtomicU64, Ordering};

/// Passes `records` on, and how many before them did not fit.
pub(super) fn pass(journal: &Journal, missed: &AtomicU64, records: impl Iterator<Item = RequestRecord>) {
    let gap = match missed.swap(0, Ordering::Relaxed) {
        0 => None,
        count => Some(Event { missed: Some(count), ..Event::new(EventKind::Request) }),
    };
    journal.pass(now_ms(), gap.into_iter().chain(records.map(event)));
}

fn event(record: RequestRecord) -> Event {
    let mut event = Event::new(EventKind::Request);
    if let Some((app, instance)) = record.by {
        event = event.of(&app, &instance);
    }
    event.method = Some(record.method);
    event.url = Some(record.host);
    event.path = Some(record.path);
    event.status = record.status;
    if record.status.is_none() {
        event.outcome = Some(HANDED_OVER.to_owned());
    }
    event.duration_us = Some(u64::try_from(record.duration.as_micros()).unwrap_or(u64::MAX));
    event.bytes = Some(record.bytes);
    event
}
