//! Sees what is in the run dir. Owns the file-system watcher (only hints) and the check of one file (the
//! facts). Does not know the registry; called by `hub`.

mod hints;
#[cfg(target_os = "macos")]
mod kqueue;
mod look;

pub(crate) use hints::{Hint, Watcher};
pub(crate) use look::Looker;
