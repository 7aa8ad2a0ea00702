//! Whether somebody traces: the collector says so in the first byte of a file, `trace.page`. Every call that may be
//! traced asks, so the answer is kept for one tick of the coarse clock (1 to 10 ms).
//!
//! Somebody may remove the file or cut it short. Nothing here reads it in a way that raises SIGBUS, and a page that the
//! collector has restored is found again.
mod file;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;

use crate::config::Config;
use crate::sys::{self, Errno};
use core::sync::atomic::{AtomicU64, Ordering};
#[cfg(target_os = "linux")]
use linux as system;
#[cfg(target_os = "macos")]
use macos as system;

/// The last answer, and when it was found: the tick, then one bit.
static ANSWER: AtomicU64 = AtomicU64::new(0);

/// Whether somebody traces.
pub(super) fn tracing(config: &Config) -> bool {
    let now = system::tick(sys::coarse_ms());
    let answer = ANSWER.load(Ordering::Relaxed);
    if answer >> 1 == now {
        return answer & 1 == 1;
    }
    let _errno = Errno::keep();
    let traces = system::look(config, now);
    ANSWER.store(now << 1 | u64::from(traces), Ordering::Relaxed);
    traces
}
