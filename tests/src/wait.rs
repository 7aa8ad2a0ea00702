//! Waiting for something to become true: short polls, one generous deadline, never a fixed sleep.
use std::time::{Duration, Instant};

/// How long anything may take before a test fails. Generous: the suite runs in parallel on small and
/// busy machines, and no test asserts a time.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Between two polls.
const POLL: Duration = Duration::from_millis(10);

/// Polls `probe` until it gives something.
///
/// # Panics
/// After [`DEADLINE`], naming `what`.
pub fn until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(start.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        pause();
    }
}

/// One poll interval. For loops that look at something the kernel gives no event for.
pub(crate) fn pause() {
    // Nobody unparks this thread, so it waits; a spurious return only polls earlier.
    std::thread::park_timeout(POLL);
}
