//! The process: who it is, its clocks, its memory.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;

#[cfg(target_os = "linux")]
use linux as system;
#[cfg(target_os = "macos")]
use macos as system;

#[cfg(target_os = "linux")]
pub(crate) use linux::{map_page, no_new_rights, unmap_page, word_is};
pub(in crate::sys) use system::{SignalMask, block_signals, map_memory, restore_signals, unmap_memory};
pub(crate) use system::{coarse_ms, is_own_user, monotonic_ns, now_ns, pause_us, process_id, program_name};
