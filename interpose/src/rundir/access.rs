//! Looking at the run dir, and getting back in where somebody closed or removed it.
use crate::config::Config;
#[cfg(target_os = "linux")]
use crate::names;
use crate::rawaddr::UnixName;
use crate::sys;

/// Permission bits of the run dir: nobody else looks in.
const PRIVATE: libc::mode_t = 0o700;

/// Whether `name` is there: access(2), in a run dir that is opened again where somebody closed it.
pub(crate) fn look(config: &Config, name: &UnixName) -> sys::Result<()> {
    match sys::access(name.c_path()) {
        Err(libc::EACCES) if reopen(config) => sys::access(name.c_path()),
        result => result,
    }
}

/// Opens the run dir to its owner again. `false` where it is not ours: this process changed its user.
pub(super) fn reopen(config: &Config) -> bool {
    sys::change_mode(UnixName::path(&[config.run()]).c_path(), PRIVATE).is_ok()
}

/// Makes the run dir again after somebody removed it.
pub(super) fn remake(config: &Config) -> bool {
    sys::make_folder(UnixName::path(&[config.run()]).c_path(), PRIVATE).is_ok()
}

/// The file name of a path that was made from one, and whether the path is spelt with a doubled slash.
#[cfg(target_os = "linux")]
pub(super) fn file_of<'a>(config: &Config, name: &'a UnixName) -> sys::Result<(&'a str, bool)> {
    names::file_of(config.run(), crate::rawaddr::unix_text(name.bytes())).ok_or(libc::EACCES)
}
