//! The file of the page.
use crate::config::Config;
use crate::rawaddr::UnixName;
use crate::sys::{self, Fd};

/// The file, open.
pub(super) fn open(config: &Config) -> Option<Fd> {
    let path = UnixName::path(&[config.base(), b"/trace.page"]);
    sys::open(path.c_path(), libc::O_RDONLY | libc::O_NOFOLLOW, 0).ok()
}
