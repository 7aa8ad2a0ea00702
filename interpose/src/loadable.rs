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
    // `DYLD_INSERT_LIBRARIES=/…`
    let library = config.preload();
    let Some(equals) = library.to_bytes().iter().position(|byte| *byte == b'=') else { return true };
    let library =
        library.to_bytes_with_nul().get(equals + 1..).and_then(|it| CStr::from_bytes_until_nul(it).ok());
    let Some(library) = library.and_then(slices) else { return true };
    program.load(cfg!(target_arch = "aarch64"), library)
}

fn slices(path: &CStr) -> Option<Slices> {
    let fd = sys::open(path, libc::O_RDONLY | libc::O_NONBLOCK, 0).ok()?;
    let mut head = [0_u8; HEAD_BYTES];
    let length = sys::read(fd, &mut head).unwrap_or(0);
    sys::close(fd);
    Slices::read(head.get(..length)?)
}
