//! How many clients may be connected at once, and which of them makes room for another.
//!
//! A client that rests (it has an open connection and no request) may be let go at any moment: HTTP allows it, and clients
//! ask again. So at the limit the one that has rested longest goes; where none rests, the new one is told to come later.
use crate::counters::RouterMetrics;
use crate::limits::{CLIENTS, CLIENTS_OF_DESCRIPTORS, LOOK_PAUSE, REFUSED_CLIENTS, REFUSED_OF_CLIENTS};
use nix::sys::resource::{Resource, getrlimit};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// Not resting.
const AWAKE: u64 = 0;

/// Chosen to make room.
const LET_GO: u64 = u64::MAX;

/// Clients that are remembered as the next to go when all were looked at.
const NEXT: usize = 64;

/// All places for clients.
#[derive(Debug)]
pub(super) struct Places {
    limit: u64,
    start: Instant,
    metrics: Arc<RouterMetrics>,
    taken: Vec<(Weak<State>, AbortHandle)>,
    /// Those that had rested longest when all were looked at, and since when; the longest last.
    next: Vec<(u64, Weak<State>, AbortHandle)>,
    /// When to look again, where nobody rested.
    look: Instant,
}

/// A client's place.
#[derive(Debug)]
pub(crate) struct Place(Arc<State>);

/// What is known of a client.
#[derive(Debug)]
pub(super) struct State {
    /// Since when it rests, in microseconds; or [`AWAKE`] or [`LET_GO`].
    resting: AtomicU64,
    start: Instant,
    /// Where it counts as open.
    metrics: Option<Arc<RouterMetrics>>,
}

// === impl Places ===

impl Places {
    /// Places for `limit` clients; without a limit, for as many as the descriptors allow.
    pub(super) fn new(limit: Option<usize>, metrics: Arc<RouterMetrics>) -> Self {
        let limit = limit.map_or_else(of_descriptors, |limit| u64::try_from(limit).unwrap_or(u64::MAX));
        let now = Instant::now();
        Self { limit, start: now, metrics, taken: Vec::new(), next: Vec::new(), look: now }
    }

    /// A place for one more client, which another may have to leave.
    pub(super) fn take(&mut self) -> Option<Place> {
        let open = self.metrics.open_connections.get();
        if open >= self.limit && !self.let_one_go() {
            return None;
        }
        if self.taken.len() as u64 > 2 * open + 64 {
            self.taken.retain(|(state, _)| state.strong_count() > 0);
        }
        self.metrics.open_connections.add(1);
        Some(Place::new(self.start, Some(Arc::clone(&self.metrics))))
    }

    /// How many clients may wait for their refusal at once: they take descriptors too, beyond the limit.
    pub(super) fn refusals(&self) -> usize {
        let share = usize::try_from(self.limit / REFUSED_OF_CLIENTS).unwrap_or(usize::MAX);
        share.clamp(1, REFUSED_CLIENTS)
    }

    /// Notes how to end the task of the client in `place`.
    pub(super) fn note(&mut self, place: Weak<State>, abort: AbortHandle) {
        self.taken.push((place, abort));
    }

    fn let_one_go(&mut self) -> bool {
        if self.next_goes() {
            return true;
        }
        let now = Instant::now();
        if now < self.look {
            return false;
        }
        self.taken.retain(|(state, _)| state.strong_count() > 0);
        let resting = self.taken.iter().filter_map(|(state, abort)| {
            let since = state.upgrade()?.resting.load(Ordering::Relaxed);
            (since != AWAKE && since != LET_GO).then(|| (since, Weak::clone(state), abort.clone()))
        });
        self.next = resting.collect();
        self.next.sort_unstable_by_key(|(since, ..)| std::cmp::Reverse(*since));
        let others = self.next.len().saturating_sub(NEXT);
        self.next.drain(..others);
        let found = self.next_goes();
        if !found {
            self.look = now + LOOK_PAUSE;
        }
        found
    }

    /// Ends the first of those to go that still rests.
    fn next_goes(&mut self) -> bool {
        while let Some((since, state, abort)) = self.next.pop() {
            if state.upgrade().is_some_and(|state| state.let_go(since)) {
                abort.abort();
                self.metrics.let_go.add(1);
                return true;
            }
        }
        false
    }
}

/// The share of our descriptors that is for clients.
fn of_descriptors() -> u64 {
    let most = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft / CLIENTS_OF_DESCRIPTORS);
    most.clamp(1, CLIENTS)
}

// === impl Place ===

impl Place {
    /// For a client that is only told to leave.
    pub(super) fn outside() -> Self {
        Self::new(Instant::now(), None)
    }

    fn new(start: Instant, metrics: Option<Arc<RouterMetrics>>) -> Self {
        Self(Arc::new(State { resting: AtomicU64::new(AWAKE), start, metrics }))
    }

    /// To know of it while it lives.
    pub(super) fn state(&self) -> Weak<State> {
        Arc::downgrade(&self.0)
    }

    /// Notes that the client has rested since `since`.
    pub(crate) fn rest(&self, since: Instant) {
        let since = since.saturating_duration_since(self.0.start).as_micros();
        let since = u64::try_from(since).map_or(LET_GO - 1, |since| since.clamp(AWAKE + 1, LET_GO - 1));
        // One that was let go stays so.
        let _ = self
            .0
            .resting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |state| (state != LET_GO).then_some(since));
    }

    /// Notes that the client has a request. Whether it is still ours: it may have been let go.
    #[must_use]
    pub(crate) fn wake(&self) -> bool {
        match self.0.resting.load(Ordering::Relaxed) {
            AWAKE => true,
            since => since != LET_GO && self.0.change(since, AWAKE),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(metrics) = &self.0.metrics {
            metrics.open_connections.subtract(1);
        }
    }
}

// === impl State ===

impl State {
    /// Lets the client go that has rested since `since`, if it still does.
    fn let_go(&self, since: u64) -> bool {
        self.change(since, LET_GO)
    }

    fn change(&self, from: u64, to: u64) -> bool {
        self.resting.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn task() -> AbortHandle {
        tokio::spawn(std::future::pending::<()>()).abort_handle()
    }

    #[tokio::test]
    async fn refusals_take_a_share_of_the_limit() {
        for (limit, refusals) in [(1, 1), (50, 6), (32_768, 64)] {
            assert_eq!(Places::new(Some(limit), Arc::default()).refusals(), refusals);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_rested_makes_room() {
        let metrics = Arc::new(RouterMetrics::default());
        let mut places = Places::new(Some(3), Arc::clone(&metrics));
        let mut tasks = Vec::new();
        let held: Vec<_> = (0..3)
            .map(|_| {
                let place = places.take().unwrap();
                tasks.push(task());
                places.note(place.state(), tasks.last().unwrap().clone());
                place
            })
            .collect();
        // Nobody rests.
        assert!(places.take().is_none());
        tokio::time::advance(LOOK_PAUSE).await;
        held[2].rest(Instant::now());
        tokio::time::advance(Duration::from_secs(1)).await;
        held[0].rest(Instant::now());
        let fourth = places.take().unwrap();
        assert!(!held[2].wake() && held[0].wake());
        // The one that was the next to go has a request by now.
        assert!(places.take().is_none());
        tokio::task::yield_now().await;
        assert_eq!(tasks.iter().map(AbortHandle::is_finished).collect::<Vec<_>>(), [false, false, true]);
        assert_eq!((metrics.let_go.get(), metrics.open_connections.get()), (1, 4));
        drop((held, fourth));
        assert_eq!(metrics.open_connections.get(), 0);
        assert!(places.take().is_some());
    }
}
