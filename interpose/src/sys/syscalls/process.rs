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
pub(crate) use linux::no_new_rights;
pub(crate) use system::{
    coarse_ms, is_own_user, map_page, monotonic_ns, now_ns, pause_us, process_id, program_name,
};
pub(in crate::sys) use system::{SignalMask, block_signals, map_memory, restore_signals, unmap_memory};
