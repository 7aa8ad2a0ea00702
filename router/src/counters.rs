//! Counters of the router and of each listener. Never per path: their number is fixed.
use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper ends of the latency buckets, in microseconds: as fine as a developer can feel or a local
/// application can be.
pub(crate) const BUCKETS_US: [u64; 14] = [
    250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    10_000_000,
];

/// A number that only grows, or a gauge that is added to and taken from.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

/// What the router counts. Shared with the hub, which may show it elsewhere too.
#[derive(Debug, Default)]
pub struct RouterMetrics {
    /// Connections accepted.
    pub connections: Counter,
    /// Connections open now.
    pub open_connections: Counter,
    /// Idle connections closed to make room for others.
    pub let_go: Counter,
    /// Connections refused because there was no room.
    pub turned_away: Counter,
    /// Requests, by the first digit of the status answered (1 to 5).
    pub responses: [Counter; 6],
    /// Connections made to listeners.
    pub connects: Counter,
    /// Requests sent again on a fresh connection since a kept one had been closed.
    pub retries: Counter,
    /// Connects refused by a listener.
    pub refused: Counter,
    /// Connections that changed their protocol (WebSocket and the like).
    pub upgrades: Counter,
    /// TLS handshakes that failed.
    pub failed_handshakes: Counter,
    /// Requests refused because they were malformed or broke a limit.
    pub malformed: Counter,
    /// What others have to say on the same page.
    pub others: Others,
}

/// Renders the metrics of other parts, once somebody has set how.
#[derive(Default)]
pub struct Others(OnceLock<Box<dyn Fn() -> String + Send + Sync>>);

/// Counters of one listener.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    /// Answers, by the first digit of their status.
    pub(crate) responses: [AtomicU64; 6],
    /// Bytes of their bodies.
    pub(crate) bytes: AtomicU64,
    /// Answers by [`BUCKETS_US`], each in one bucket; the last are those beyond.
    pub(crate) buckets: [AtomicU64; BUCKETS_US.len() + 1],
    /// Sum of all times.
    pub(crate) time_us: AtomicU64,
}

// === impl Counter ===

impl Counter {
    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Takes `count` off a gauge.
    pub fn subtract(&self, count: u64) {
        self.0.fetch_sub(count, Ordering::Relaxed);
    }

    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

// === impl Others ===

impl Others {
    /// Sets what renders them; the first to come stays.
    pub fn set(&self, render: impl Fn() -> String + Send + Sync + 'static) {
        // A second one would be a mistake of the caller's without harm.
        let _ = self.0.set(Box::new(render));
    }

    /// What they have to say.
    pub(crate) fn render(&self) -> String {
        self.0.get().map_or_else(String::new, |render| render())
    }
}

impl fmt::Debug for Others {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Others").field(&self.0.get().is_some()).finish()
    }
}

// === impl Usage ===

impl Usage {
    /// Counts an answer.
    pub(crate) fn count(&self, status: u16, bytes: u64, time: Duration) {
        let add = |counter: &AtomicU64, count| counter.fetch_add(count, Ordering::Relaxed);
        if let Some(counter) = self.responses.get(usize::from(status / 100)) {
            add(counter, 1);
        }
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS_US.iter().position(|end| micros <= *end).unwrap_or(BUCKETS_US.len());
        add(&self.buckets[bucket], 1);
        add(&self.bytes, bytes);
        add(&self.time_us, micros);
    }
}

// === impl RouterMetrics ===

impl RouterMetrics {
    /// Counts one answer.
    pub(crate) fn answered(&self, status: u16) {
        if let Some(counter) = self.responses.get(usize::from(status / 100)) {
            counter.add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_has_its_bucket() {
        let usage = Usage::default();
        for micros in [0, 250, 251, 9_999_999, 10_000_001] {
            usage.count(204, 5, Duration::from_micros(micros));
        }
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let buckets: Vec<_> = usage.buckets.iter().map(count).collect();
        assert_eq!(buckets, [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!((count(&usage.responses[2]), count(&usage.bytes)), (5, 25));
    }
}
