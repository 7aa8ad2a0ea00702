//! Whether a program can load this library on macOS, by the processors that both are for. The loader ends a
//! program that is told to load a library without a slice for it: one for Intel under Rosetta, say, where this
//! library was built for Apple silicon alone. Called before a program is started; reads the beginning of two files.
use crate::config::Config;
use crate::sys;
use agentfs_wire::slices::{HEAD_BYTES, Slices};
use core::ffi::CStr;

/// Whether the program at `path` can load the library. A script can: its interpreter is started in its place.
pub(crate) fn can_load(config: &Config, path: &CStr) -> bool {
    let Some(program) = slices(path) else { return true };
    let Some(library) = slices(config.library()) else { return true };
    program.load(cfg!(target_arch = "aarch64"), library)
}

fn slices(path: &CStr) -> Option<Slices> {
    let fd = sys::open(path, libc::O_RDONLY | libc::O_NONBLOCK, 0).ok()?;
    let mut head = [0_u8; HEAD_BYTES];
    let length = sys::read(fd.number(), &mut head).unwrap_or(0);
    Slices::read(head.get(..length)?)
}
