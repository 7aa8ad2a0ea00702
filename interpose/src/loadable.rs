//! Whether a program on macOS can load this library: both must be built for the same processor. Otherwise the loader
//! ends the program, for example an Intel program under Rosetta if this library was built for Apple silicon alone.
//! Called before a program is started; reads the beginning of two files.
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
