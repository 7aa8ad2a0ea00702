//! How many connections to a listener are in use.
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Those of one listener.
#[derive(Debug, Default)]
pub(crate) struct Load {
    /// All.
    active: AtomicUsize,
    /// Those of them that carry an event stream or another protocol, so that nobody waits for their end.
    long_lived: AtomicUsize,
}

/// Counts a connection in use for as long as it lives.
#[derive(Debug)]
pub(crate) struct Active {
    load: Arc<Load>,
    long_lived: bool,
}

// === impl Load ===

impl Load {
    /// Connections in use.
    pub(crate) fn active(&self) -> usize {
        self.active.load(Ordering::Relaxed)
    }

    /// Requests in progress that will end by themselves.
    pub(crate) fn finite(&self) -> usize {
        self.active().saturating_sub(self.long_lived.load(Ordering::Relaxed))
    }
}

// === impl Active ===

impl Active {
    /// One more connection is in use.
    pub(crate) fn begin(load: &Arc<Load>) -> Self {
        load.active.fetch_add(1, Ordering::Relaxed);
        Self { load: Arc::clone(load), long_lived: false }
    }

    /// Notes that nobody need wait for its end.
    pub(crate) fn set_long_lived(&mut self) {
        if !std::mem::replace(&mut self.long_lived, true) {
            self.load.long_lived.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        if self.long_lived {
            self.load.long_lived.fetch_sub(1, Ordering::Relaxed);
        }
        self.load.active.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_counted_for_as_long_as_it_lives() {
        let load = Arc::new(Load::default());
        let counts = || (load.active(), load.finite());
        let (mut stream, request) = (Active::begin(&load), Active::begin(&load));
        let other = Active::begin(&load);
        assert_eq!(counts(), (3, 3));
        // Said twice, counted once.
        for _ in 0..2 {
            stream.set_long_lived();
            assert_eq!(counts(), (3, 2));
        }
        drop(request);
        assert_eq!(counts(), (2, 1));
        drop(stream);
        assert_eq!(counts(), (1, 1));
        drop(other);
        assert_eq!(counts(), (0, 0));
    }
}
