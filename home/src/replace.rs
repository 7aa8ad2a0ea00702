//! Replaces a small file as a whole: a reader sees the old one or the new one.
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Whether the content must survive a loss of power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durable {
    /// It is written to the disk before the old file goes.
    Yes,
    /// It is made again anyway.
    No,
}

/// Writes `bytes` under another name beside `path` (mode 0600), then renames that file to `path`.
///
/// # Errors
/// What the system says; the old file is unchanged then.
pub fn replace(path: &Path, bytes: &[u8], durable: Durable) -> io::Result<()> {
    let mut fresh = OsString::from(path);
    fresh.push(".new");
    let written = write(fresh.as_ref(), bytes, durable).and_then(|()| fs::rename(&fresh, path));
    if written.is_err() {
        // On a full disk half a file would only take space. Otherwise the file stays.
        let _ = fs::remove_file(&fresh);
    }
    written
}

fn write(path: &Path, bytes: &[u8], durable: Durable) -> io::Result<()> {
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    if durable == Durable::Yes { file.sync_all() } else { Ok(()) }
}
