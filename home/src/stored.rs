//! A small JSON file of the home. It is written completely under another name and then renamed, so the collector never
//! damages it. If it is damaged anyway, it is moved aside.
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Reads a file of at most `limit` bytes; `None` if it does not exist.
///
/// # Errors
/// What is wrong with it, and where it was moved to.
pub(crate) fn load<T: DeserializeOwned>(path: &Path, limit: u64) -> Result<Option<T>, String> {
    match read(path, limit) {
        Ok(stored) => Ok(Some(stored)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            let aside = path.with_extension("json.torn");
            let kept = match fs::rename(path, &aside) {
                Ok(()) => format!("it was moved to {}", aside.display()),
                Err(error) => format!("it could not be moved: {error}"),
            };
            Err(format!("cannot read {}: {error}; {kept}", path.display()))
        }
    }
}

/// Writes a file.
///
/// # Errors
/// What the system says; the old file is unchanged then.
pub(crate) fn save(path: &Path, content: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(content)?;
    text.push(b'\n');
    let fresh = path.with_extension("json.new");
    let written = write(&fresh, &text).and_then(|()| fs::rename(&fresh, path));
    if written.is_err() {
        // On a full disk half a file would only take space. Otherwise the file stays.
        let _ = fs::remove_file(&fresh);
    }
    written
}

fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text)?;
    file.sync_all()
}

fn read<T: DeserializeOwned>(path: &Path, limit: u64) -> io::Result<T> {
    let mut text = Vec::new();
    File::open(path)?.take(limit).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}
