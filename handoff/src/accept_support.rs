//! What is known of listeners: whether their accepts go through the library. Kept for each socket file; a program
//! that is started again makes another file and is asked anew.
use crate::limits::{HANDOFF_LISTENERS, HANDOFF_RETRY};
use std::collections::HashMap;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

/// What became of a connection that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Given {
    /// The program has it.
    Taken,
    /// The program gave up waiting for it before it arrived, or ended.
    Missed,
    /// The program did not come for it.
    Left,
}

/// Every listener that was offered a connection.
#[derive(Debug, Default)]
pub(super) struct AcceptSupport {
    listeners: Mutex<HashMap<PathBuf, (u64, Arc<Listener>)>>,
}

#[derive(Debug)]
struct Listener {
    /// Held while the program is asked for a greeting.
    state: Arc<tokio::sync::Mutex<State>>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    known: Known,
    /// Offers in a row that came to nothing.
    failures: usize,
    /// When it may be asked again, after a failure.
    again: Option<Instant>,
}

/// What is known of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// It was not heard of, or not lately.
    Nothing,
    /// It greeted: its accepts go through the library.
    Greets,
}

/// A listener that may be offered a connection; nobody else asks it meanwhile.
#[derive(Debug)]
pub(super) struct Turn {
    listener: Arc<Listener>,
    state: OwnedMutexGuard<State>,
}

/// A listener that is being offered a connection, as others may be.
#[derive(Debug)]
pub(super) struct Offered {
    listener: Arc<Listener>,
}

// === impl AcceptSupport ===

impl AcceptSupport {
    /// The listener at `path`, in turn. `None` where it is better left alone.
    ///
    /// # Errors
    /// What stat(2) says.
    pub(super) async fn of(&self, path: &Path) -> io::Result<Option<Turn>> {
        let inode = tokio::fs::metadata(path).await?.ino();
        let listener = self.entry(path, inode);
        let state = Arc::clone(&listener.state).lock_owned().await;
        Ok(match state.again {
            Some(again) if Instant::now() < again => None,
            _ if state.failures > HANDOFF_RETRY.len() => None,
            _ => Some(Turn { listener, state }),
        })
    }

    fn entry(&self, path: &Path, inode: u64) -> Arc<Listener> {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, listener)) = listeners.get(path)
            && *known == inode
        {
            return Arc::clone(listener);
        }
        if listeners.len() >= HANDOFF_LISTENERS {
            listeners.clear();
        }
        let state = State { known: Known::Nothing, failures: 0, again: None };
        let listener = Arc::new(Listener { state: Arc::new(tokio::sync::Mutex::new(state)) });
        listeners.insert(path.to_owned(), (inode, Arc::clone(&listener)));
        listener
    }
}

// === impl State ===

impl State {
    fn fail(&mut self) {
        self.known = Known::Nothing;
        self.again = HANDOFF_RETRY.get(self.failures).map(|pause| Instant::now() + *pause);
        self.failures += 1;
    }
}

// === impl Turn ===

impl Turn {
    /// What is known of it.
    pub(super) fn known(&self) -> Known {
        self.state.known
    }

    /// The library greeted.
    pub(super) fn greeted(&mut self) {
        self.state.known = Known::Greets;
    }

    /// Nobody greeted: the program is busy, or its accepts go past the library.
    pub(super) fn silent(&mut self) {
        self.state.fail();
    }

    /// Lets others have their turn.
    pub(super) fn release(self) -> Offered {
        Offered { listener: self.listener }
    }
}

// === impl Offered ===

impl Offered {
    /// Notes what became of the offer.
    pub(super) fn note(self, given: Given) {
        // Whoever holds it is finding out for itself.
        if let Ok(mut state) = self.listener.state.try_lock() {
            match given {
                Given::Taken => (state.failures, state.again) = (0, None),
                // It greets again before it is sent the next one.
                Given::Missed => state.known = Known::Nothing,
                Given::Left => state.fail(),
            }
        }
    }
}
