//! Requests of the router as events, for those who follow them.
use crate::clock::now_ms;
use crate::journal::Journal;
use agentfs_router::RequestRecord;
use agentfs_wire::event::{Request, RequestEnd, What, Who};
use std::sync::atomic::{AtomicU64, Ordering};

/// Passes `records` on, and how many before them did not fit.
pub(super) fn pass(journal: &Journal, missed: &AtomicU64, records: impl Iterator<Item = RequestRecord>) {
    let gap = match missed.swap(0, Ordering::Relaxed) {
        0 => None,
        missed => Some(What::RequestsMissed { missed }),
    };
    journal.pass(now_ms(), gap.into_iter().chain(records.map(event)));
}

fn event(record: RequestRecord) -> What {
    What::Request(Box::new(Request {
        of: record.by.map(|(app, instance)| Who { app, instance }),
        method: record.method,
        host: record.host,
        path: record.path,
        end: match record.status {
            None => RequestEnd::HandedOver,
            Some(0) => RequestEnd::ClientLeft,
            Some(status) => RequestEnd::Answered(status),
        },
        duration_us: u64::try_from(record.duration.as_micros()).unwrap_or(u64::MAX),
        bytes: record.bytes,
    }))
}
