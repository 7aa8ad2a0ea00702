//! The numbered log of everything that happens. Owns the sequence: numbers are given in one place, so a
//! snapshot and the events after its number have no gap. Never blocks a writer: a subscriber that is too slow
//! misses events and is told how many.

mod entry;
mod ring;
mod subscribe;

pub(crate) use subscribe::{Filter, Subscription};

use agentfs_wire::event::What;
use agentfs_wire::limits::{JOURNAL_EVENTS, SUBSCRIBER_EVENTS};
use ring::Ring;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};
use subscribe::Subscriber;

/// A handle to the one journal.
#[derive(Clone, Debug)]
pub(crate) struct Journal {
    inner: Arc<Mutex<Inner>>,
    /// Subscribers that want requests.
    wanted: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Inner {
    ring: Ring,
    subscribers: Vec<Subscriber>,
}

// === impl Journal ===

impl Journal {
    /// An empty journal.
    pub(crate) fn new() -> Self {
        Self::with_capacity(JOURNAL_EVENTS)
    }

    fn with_capacity(events: usize) -> Self {
        let inner = Inner { ring: Ring::new(events), subscribers: Vec::new() };
        Self { inner: Arc::new(Mutex::new(inner)), wanted: Arc::default() }
    }

    /// Numbers an event, keeps it and passes it to the subscribers. `now` is Unix milliseconds.
    pub(crate) fn publish(&self, now: u64, what: What) {
        let mut inner = self.lock();
        let Some(entry) = inner.ring.push(now, what) else { return };
        inner.subscribers.retain_mut(|subscriber| subscriber.offer(&entry));
    }

    /// Passes requests on to the subscribers that want them. They are not kept: one busy page would push
    /// everything else out of the journal.
    pub(crate) fn pass(&self, now: u64, requests: impl Iterator<Item = What>) {
        let mut inner = self.lock();
        for what in requests {
            let Some(entry) = inner.ring.pass(now, what) else { continue };
            inner.subscribers.retain_mut(|subscriber| subscriber.offer(&entry));
        }
    }

    /// How many subscribers want requests.
    pub(crate) fn requests_wanted(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.wanted)
    }

    /// Number of the last event, 0 before the first.
    pub(crate) fn sequence(&self) -> u64 {
        self.lock().ring.sequence()
    }

    /// Number of the last kept event that a filter asks for, 0 if there is none.
    pub(crate) fn last(&self, filter: &Filter) -> u64 {
        self.lock().ring.last(filter)
    }

    /// Subscribers at the moment.
    pub(crate) fn subscribers(&self) -> usize {
        let mut inner = self.lock();
        inner.subscribers.retain(Subscriber::is_there);
        inner.subscribers.len()
    }

    /// Subscribes: first the backlog that the filter asks for, then everything that follows, without gaps or
    /// duplicates.
    pub(crate) fn subscribe(&self, filter: Filter) -> Subscription {
        let mut inner = self.lock();
        let (backlog, missed) = inner.ring.since(&filter);
        let sequence = inner.ring.sequence();
        let (subscriber, subscription) =
            subscribe::pair(filter, backlog, missed, sequence, SUBSCRIBER_EVENTS, &self.wanted);
        inner.subscribers.push(subscriber);
        subscription
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentfs_wire::event::{Event, EventKind, Who};
    use subscribe::Item;

    fn event(app: &str) -> What {
        What::InstanceEnded { of: Who::new(app, "main") }
    }

    fn read(item: &Item) -> Event {
        serde_json::from_str(item.line()).unwrap()
    }

    #[tokio::test]
    async fn backlog_and_tail_meet_without_gap_or_double() {
        let journal = Journal::new();
        (0..5).for_each(|time| journal.publish(time, event("shop")));
        let mut all = journal.subscribe(Filter { after: Some(0), ..Filter::default() });
        let mut from_third = journal.subscribe(Filter { after: Some(2), ..Filter::default() });
        let mut since = journal.subscribe(Filter { since_ms: Some(3), ..Filter::default() });
        let mut tail = journal.subscribe(Filter::default());
        journal.publish(9, event("shop"));
        for (subscription, expected) in
            [(&mut all, 1..=6), (&mut from_third, 3..=6), (&mut since, 4..=6), (&mut tail, 6..=6)]
        {
            for number in expected {
                assert_eq!(read(&subscription.next().await.unwrap()).sequence, number);
            }
        }
    }

    #[test]
    fn the_last_event_of_an_app_is_known() {
        let journal = Journal::new();
        let since = |app: &str, since_ms| {
            journal.last(&Filter { app: Some(app.into()), since_ms: Some(since_ms), ..Filter::default() })
        };
        assert_eq!(since("shop", 0), 0);
        (1..=4)
            .zip(["shop", "blog", "shop", "blog"])
            .for_each(|(time, app)| journal.publish(time, event(app)));
        assert_eq!((since("shop", 0), since("blog", 0), since("other", 0)), (3, 4, 0));
        assert_eq!((since("shop", 3), since("shop", 4)), (3, 0));
    }

    #[tokio::test]
    async fn filters_choose_apps() {
        let journal = Journal::new();
        let mut shop = journal.subscribe(Filter { app: Some("shop".into()), ..Filter::default() });
        journal.publish(1, event("blog"));
        journal.publish(2, event("shop"));
        journal.publish(3, What::Warning { text: "of nobody".into() });
        journal.publish(4, event("shop"));
        let mut numbers = Vec::new();
        for _ in 0..2 {
            numbers.push(read(&shop.next().await.unwrap()).sequence);
        }
        assert_eq!(numbers, [2, 4]);
    }

    #[tokio::test]
    async fn a_slow_subscriber_is_told_what_it_missed() {
        let journal = Journal::new();
        let mut slow = journal.subscribe(Filter::default());
        let extra = 10;
        (0..SUBSCRIBER_EVENTS + extra).for_each(|_| journal.publish(1, event("shop")));
        for _ in 0..SUBSCRIBER_EVENTS {
            slow.next().await.unwrap();
        }
        journal.publish(2, event("shop"));
        let lagged = read(&slow.next().await.unwrap());
        assert_eq!(lagged.what, What::Lagged { missed: extra as u64 });
        let next = read(&slow.next().await.unwrap());
        assert_eq!(next.sequence, (SUBSCRIBER_EVENTS + extra) as u64 + 1);
    }

    #[tokio::test]
    async fn what_the_ring_forgot_is_told_as_missed() {
        let journal = Journal::with_capacity(4);
        (0..10).for_each(|time| journal.publish(time, event("shop")));
        let mut all = journal.subscribe(Filter { after: Some(0), ..Filter::default() });
        let lagged = read(&all.next().await.unwrap());
        assert_eq!(lagged.what, What::Lagged { missed: 6 });
        assert_eq!(read(&all.next().await.unwrap()).sequence, 7);
    }

    #[tokio::test]
    async fn requests_go_to_those_who_want_them_and_are_not_kept() {
        let journal = Journal::new();
        let wanted = journal.requests_wanted();
        let mut all = journal.subscribe(Filter::default());
        assert_eq!(wanted.load(std::sync::atomic::Ordering::Relaxed), 0);
        let mut requests = journal.subscribe(Filter { requests: true, ..Filter::default() });
        assert_eq!(wanted.load(std::sync::atomic::Ordering::Relaxed), 1);
        journal.publish(1, event("shop"));
        journal.pass(2, [What::RequestsMissed { missed: 1 }].into_iter());
        journal.publish(3, event("shop"));
        for kind in [EventKind::InstanceEnded, EventKind::Request, EventKind::InstanceEnded] {
            assert_eq!(read(&requests.next().await.unwrap()).kind(), kind);
        }
        for number in 1..=2 {
            assert_eq!(read(&all.next().await.unwrap()).sequence, number);
        }
        drop(requests);
        assert_eq!(wanted.load(std::sync::atomic::Ordering::Relaxed), 0);
    }

    #[test]
    fn a_subscriber_that_left_is_forgotten() {
        let journal = Journal::new();
        drop(journal.subscribe(Filter::default()));
        assert_eq!(journal.subscribers(), 0);
    }
}
