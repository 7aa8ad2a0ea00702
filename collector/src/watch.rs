//! Sees what is in the run dir. Owns the file-system watcher and the patrol (only hints) and the check of one
//! file (the facts). Does not know the registry; called by `hub`.

mod hints;
#[cfg(target_os = "macos")]
mod kqueue;
mod look;
mod patrol;

pub(crate) use hints::{Hint, Hints, Watcher};
pub(crate) use look::Looker;
pub(crate) use patrol::{Attention, Patrol, Post};
