//! How many connections to listeners there may be: a third of the descriptors, so that requests, which over HTTP/2 are
//! more than clients, never take the last one of the process.
use crate::limits::{CONNECT_TIME, LISTENERS_OF_DESCRIPTORS, SCARCE};
use nix::sys::resource::{Resource, getrlimit};
use std::io;
use std::sync::LazyLock;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Those of the process: descriptors are the process's as well.
static SEATS: LazyLock<Seats> = LazyLock::new(Seats::of_descriptors);

#[derive(Debug)]
struct Seats {
    free: Semaphore,
    all: usize,
}

/// The right to one connection, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Seat(
    #[expect(dead_code, reason = "it is given back when it is dropped")] SemaphorePermit<'static>,
);

// === impl Seats ===

impl Seats {
    fn of_descriptors() -> Self {
        let share =
            getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft / LISTENERS_OF_DESCRIPTORS);
        let all = usize::try_from(share).unwrap_or(usize::MAX).clamp(1, Semaphore::MAX_PERMITS);
        Self { free: Semaphore::new(all), all }
    }
}

// === impl Seat ===

impl Seat {
    /// A seat, which others may have to leave first.
    ///
    /// # Errors
    /// [`io::ErrorKind::QuotaExceeded`] where nobody does in time.
    pub(crate) async fn take() -> io::Result<Self> {
        if let Ok(permit) = SEATS.free.try_acquire() {
            return Ok(Self(permit));
        }
        match tokio::time::timeout(CONNECT_TIME, SEATS.free.acquire()).await {
            Ok(Ok(permit)) => Ok(Self(permit)),
            Ok(Err(_)) | Err(_) => Err(io::ErrorKind::QuotaExceeded.into()),
        }
    }

    /// Whether so few are left that no connection should be kept idle.
    pub(crate) fn are_scarce() -> bool {
        SEATS.free.available_permits() < SEATS.all / SCARCE
    }
}
