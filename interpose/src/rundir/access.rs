//! Looking into the run dir, and restoring it if somebody changed its mode or removed it.
use crate::config::Config;
#[cfg(target_os = "linux")]
use crate::names;
use crate::rawaddr::UnixName;
use crate::sys;

/// Permission bits of the run dir: only its owner can enter.
const PRIVATE: libc::mode_t = 0o700;

/// access(2). If somebody closed the run dir, it is opened again.
pub(crate) fn look(config: &Config, name: &UnixName) -> sys::Result<()> {
    match sys::access(name.c_path()) {
        Err(libc::EACCES) if reopen(config) => sys::access(name.c_path()),
        result => result,
    }
}

/// Opens the run dir to its owner again. `false` if this process changed its user, so that it is not the owner.
pub(super) fn reopen(config: &Config) -> bool {
    sys::change_mode(UnixName::path(&[config.run()]).c_path(), PRIVATE).is_ok()
}

/// Makes the run dir again after somebody removed it.
pub(super) fn remake(config: &Config) -> bool {
    sys::make_folder(UnixName::path(&[config.run()]).c_path(), PRIVATE).is_ok()
}

/// The file name in a path that was made from one, and whether the path has a double slash before it.
#[cfg(target_os = "linux")]
pub(super) fn file_of<'a>(config: &Config, name: &'a UnixName) -> sys::Result<(&'a str, bool)> {
    names::file_of(config.run(), crate::rawaddr::unix_text(name.bytes())).ok_or(libc::EACCES)
}
