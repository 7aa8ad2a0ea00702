//! Files and folders.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;

#[cfg(target_os = "linux")]
use linux as system;
#[cfg(target_os = "macos")]
use macos as system;

#[cfg(target_os = "linux")]
pub(crate) use linux::{directory_entries, gains_rights, mask_changed, may_execute, read_at};
#[cfg(any(target_os = "macos", feature = "stand-ins", test))]
pub(crate) use system::is_program;
pub(crate) use system::{access, announce, change_mode, inode, lock, make_folder, open, read, unlink};

/// Whether `path` (NUL-terminated) is there.
pub(crate) fn exists(path: &core::ffi::CStr) -> bool {
    access(path).is_ok()
}
