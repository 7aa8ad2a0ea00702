//! The collector's own counters as Prometheus text. The router adds its own.
use crate::journal::Journal;
use crate::notice::NoticeCounters;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What the collector counts in addition to the router. The hub writes the gauges; any part may render them.
#[derive(Debug)]
pub(crate) struct CollectorMetrics {
    /// Living instances.
    instances: AtomicUsize,
    /// Listeners that accept.
    listeners: AtomicUsize,
    /// Routes added by hand.
    hand_routes: AtomicUsize,
    /// Its events and subscribers are counted in the journal.
    journal: Journal,
    notices: Arc<NoticeCounters>,
}

// === impl CollectorMetrics ===

impl CollectorMetrics {
    /// Gauges at zero.
    pub(crate) fn new(journal: Journal, notices: Arc<NoticeCounters>) -> Self {
        let [instances, listeners, hand_routes] = std::array::from_fn(|_| AtomicUsize::new(0));
        Self { instances, listeners, hand_routes, journal, notices }
    }

    /// Sets the number of running instances, listeners that accept and routes added by hand.
    pub(crate) fn set(&self, instances: usize, listeners: usize, hand_routes: usize) {
        self.instances.store(instances, Ordering::Relaxed);
        self.listeners.store(listeners, Ordering::Relaxed);
        self.hand_routes.store(hand_routes, Ordering::Relaxed);
    }

    /// As Prometheus text.
    pub(crate) fn render(&self) -> String {
        let gauge = |gauge: &AtomicUsize| number(gauge.load(Ordering::Relaxed));
        let notices = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let mut text = String::new();
        for (name, kind, help, value) in [
            ("instances", "gauge", "Living instances.", gauge(&self.instances)),
            ("listeners", "gauge", "Listeners that accept.", gauge(&self.listeners)),
            ("hand_routes", "gauge", "Routes added by hand.", gauge(&self.hand_routes)),
            ("journal_events_total", "counter", "Events written to the journal.", self.journal.sequence()),
            ("journal_subscribers", "gauge", "Open subscriptions.", number(self.journal.subscribers())),
            ("notices_total", "counter", "Notices received.", notices(&self.notices.received)),
            (
                "notices_refused_total",
                "counter",
                "Datagrams that were not valid notices.",
                notices(&self.notices.refused),
            ),
            (
                "notices_overflown_total",
                "counter",
                "Notices lost in the collector.",
                notices(&self.notices.overflown),
            ),
            (
                "notices_dropped_total",
                "counter",
                "Notices lost by their senders.",
                notices(&self.notices.dropped),
            ),
        ] {
            let _ = writeln!(
                text,
                "# HELP agentfs_{name} {help}\n# TYPE agentfs_{name} {kind}\nagentfs_{name} {value}"
            );
        }
        text
    }
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_prometheus() {
        let metrics = CollectorMetrics::new(Journal::new(), Arc::default());
        metrics.set(2, 3, 0);
        let text = metrics.render();
        assert!(text.contains("\nagentfs_instances 2\n") && text.contains("# TYPE agentfs_listeners gauge"));
    }
}
