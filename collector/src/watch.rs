//! Sees what is in the run dir. Owns the file-system watcher and the patrol (only hints), the look at one file (the
//! truth) and the list of listening sockets. Knows nothing of the registry; called by `hub`.

mod accepting;
mod hints;
#[cfg(target_os = "macos")]
mod kqueue;
mod look;
mod patrol;

pub(crate) use accepting::Price;
pub(crate) use hints::{Hint, Hints, Watcher};
pub(crate) use look::{Looker, Probe, Prober, list, numbers};
pub(crate) use patrol::{Attention, Patrol, Post};
