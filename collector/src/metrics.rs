//! The collector's own counters as Prometheus text. The router adds its own.
use crate::notice::NoticeCounters;
use std::fmt::Write as _;
use std::sync::atomic::Ordering;

/// Numbers of one moment.
#[derive(Debug)]
pub(crate) struct Moment<'a> {
    /// Living instances.
    pub(crate) instances: usize,
    /// Listeners that accept.
    pub(crate) listeners: usize,
    /// Routes made by hand.
    pub(crate) routes: usize,
    /// Number of the last journal event.
    pub(crate) events: u64,
    /// Open subscriptions.
    pub(crate) subscribers: usize,
    /// Notices.
    pub(crate) notices: &'a NoticeCounters,
}

// === impl Moment ===

impl Moment<'_> {
    /// As Prometheus text.
    pub(crate) fn render(&self) -> String {
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let notices = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let mut text = String::new();
        for (name, kind, help, value) in [
            ("instances", "gauge", "Living instances.", number(self.instances)),
            ("listeners", "gauge", "Listeners that accept.", number(self.listeners)),
            ("hand_routes", "gauge", "Routes made by hand.", number(self.routes)),
            ("journal_events_total", "counter", "Events written to the journal.", self.events),
            ("journal_subscribers", "gauge", "Open subscriptions.", number(self.subscribers)),
            ("notices_total", "counter", "Notices received.", notices(&self.notices.received)),
            (
                "notices_refused_total",
                "counter",
                "Datagrams that were no notice of ours.",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_prometheus() {
        let notices = NoticeCounters::default();
        let moment =
            Moment { instances: 2, listeners: 3, routes: 0, events: 9, subscribers: 1, notices: &notices };
        let text = moment.render();
        assert!(text.contains("\nagentfs_instances 2\n") && text.contains("# TYPE agentfs_listeners gauge"));
    }
}
