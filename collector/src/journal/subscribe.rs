//! One subscriber: its filter, its bounded queue, and the count of events that did not fit.
use super::entry::{Entry, line};
use agentfs_wire::event::{Event, EventKind, What, Who};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use tokio::sync::mpsc;

/// What a subscriber wants.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    /// Events after this number.
    pub(crate) after: Option<u64>,
    /// Events not older than this, Unix milliseconds.
    pub(crate) since_ms: Option<u64>,
    /// Only this app.
    pub(crate) app: Option<String>,
    /// Only this instance.
    pub(crate) instance: Option<String>,
    /// Also requests, which the journal passes on but does not keep.
    pub(crate) requests: bool,
}

/// What a subscriber gets.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    /// An event of the journal.
    Event(Arc<Entry>),
    /// A line for this subscriber only: it missed events.
    Lagged(Box<str>),
}

/// The reading end.
#[derive(Debug)]
pub(crate) struct Subscription {
    /// Number of the last event when it began.
    pub(crate) sequence: u64,
    backlog: VecDeque<Item>,
    /// journal --events--> subscription
    item_rx: mpsc::Receiver<Item>,
    missed: Arc<AtomicU64>,
    /// Counts this subscription among those that want requests.
    _wish: Option<Wish>,
}

/// Counts as one subscriber that wants requests, until it is dropped.
#[derive(Debug)]
struct Wish(Arc<AtomicUsize>);

/// The writing end, kept by the journal.
#[derive(Debug)]
pub(super) struct Subscriber {
    filter: Filter,
    item_tx: mpsc::Sender<Item>,
    /// Events that did not fit since the last `lagged` line.
    missed: Arc<AtomicU64>,
}

/// Both ends of a subscription with room for `capacity` items.
pub(super) fn pair(
    filter: Filter,
    backlog: Vec<Arc<Entry>>,
    missed: u64,
    sequence: u64,
    capacity: usize,
    wanted: &Arc<AtomicUsize>,
) -> (Subscriber, Subscription) {
    let (item_tx, item_rx) = mpsc::channel(capacity);
    let mut items = VecDeque::with_capacity(backlog.len() + 1);
    if missed > 0 {
        items.extend(lagged(missed));
    }
    items.extend(backlog.into_iter().map(Item::Event));
    let missed = Arc::new(AtomicU64::new(0));
    let wish = filter.requests.then(|| Wish::new(wanted));
    let subscriber = Subscriber { filter, item_tx, missed: Arc::clone(&missed) };
    (subscriber, Subscription { sequence, backlog: items, item_rx, missed, _wish: wish })
}

fn lagged(missed: u64) -> Option<Item> {
    let event = Event { sequence: 0, time_ms: crate::clock::now_ms(), what: What::Lagged { missed } };
    line(&event).map(Item::Lagged)
}

// === impl Wish ===

impl Wish {
    fn new(wanted: &Arc<AtomicUsize>) -> Self {
        wanted.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(wanted))
    }
}

impl Drop for Wish {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl Filter ===

impl Filter {
    pub(super) fn fits(&self, entry: &Entry) -> bool {
        let fits = |wanted: &Option<String>, part: fn(&Who) -> &String| {
            wanted.is_none() || wanted.as_ref() == entry.of.as_ref().map(part)
        };
        (self.requests || entry.kind != EventKind::Request)
            && fits(&self.app, |of| &of.app)
            && fits(&self.instance, |of| &of.instance)
    }
}

// === impl Item ===

impl Item {
    /// The kind of event.
    pub(crate) fn kind(&self) -> EventKind {
        match self {
            Self::Event(entry) => entry.kind,
            Self::Lagged(_) => EventKind::Lagged,
        }
    }

    /// The line to send, with its newline.
    pub(crate) fn line(&self) -> &str {
        match self {
            Self::Event(entry) => &entry.line,
            Self::Lagged(line) => line,
        }
    }
}

// === impl Subscriber ===

impl Subscriber {
    /// Passes an event on if it is wanted and fits. `false` when the subscriber has left.
    pub(super) fn offer(&mut self, entry: &Arc<Entry>) -> bool {
        if !self.filter.fits(entry) {
            return self.is_there();
        }
        if self.missed.load(Ordering::Acquire) > 0 {
            // There must be room for the line about the gap and for the event; otherwise the gap grows.
            if self.item_tx.capacity() < 2 {
                self.missed.fetch_add(1, Ordering::AcqRel);
                return self.is_there();
            }
            // The reader takes the count when the queue is empty. Whichever side is first reports it.
            let missed = self.missed.swap(0, Ordering::AcqRel);
            if let Some(item) = lagged(missed).filter(|_| missed > 0) {
                let _ = self.item_tx.try_send(item);
            }
        }
        match self.item_tx.try_send(Item::Event(Arc::clone(entry))) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.missed.fetch_add(1, Ordering::AcqRel);
                true
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }

    pub(super) fn is_there(&self) -> bool {
        !self.item_tx.is_closed()
    }
}

// === impl Subscription ===

impl Subscription {
    /// The next event; `None` when the collector ends. Safe to drop while waiting.
    pub(crate) async fn next(&mut self) -> Option<Item> {
        if let Some(item) = self.ready() {
            return Some(item);
        }
        self.item_rx.recv().await
    }

    /// An event that is there already.
    pub(crate) fn ready(&mut self) -> Option<Item> {
        if let Some(item) = self.backlog.pop_front() {
            return Some(item);
        }
        match self.item_rx.try_recv() {
            Ok(item) => Some(item),
            Err(_) => {
                let missed = self.missed.swap(0, Ordering::AcqRel);
                lagged(missed).filter(|_| missed > 0)
            }
        }
    }
}
