//! The page that wrapped processes map to see whether somebody traces. Byte 0 is 1 while at least
//! one subscription asks for calls.
use nix::fcntl::OFlag;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of the page.
const PAGE_BYTES: u64 = 4096;

/// The page, shared by the subscriptions.
#[derive(Clone, Debug)]
pub struct TracePage {
    inner: Arc<Mutex<Inner>>,
}

/// A request for calls. Ends when dropped.
#[derive(Debug)]
pub struct Wish {
    page: TracePage,
}

#[derive(Debug)]
struct Inner {
    /// The file, which is never replaced: processes keep it mapped.
    file: File,
    /// Number of current requests.
    wishes: usize,
    /// Is called if the page cannot be written.
    complain: fn(&io::Error),
}

// === impl TracePage ===

impl TracePage {
    /// Opens the page, creates it if it is missing, and clears what a killed collector left. `complain` is
    /// called if the page cannot be written later.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(path: &Path, complain: fn(&io::Error)) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        // The target of a link is not ours to write to.
        let file = options.custom_flags(OFlag::O_NOFOLLOW.bits()).open(path)?;
        if file.metadata()?.len() < PAGE_BYTES {
            file.set_len(PAGE_BYTES)?;
        }
        file.write_all_at(&[0], 0)?;
        Ok(Self { inner: Arc::new(Mutex::new(Inner { file, wishes: 0, complain })) })
    }

    /// Asks every wrapped process for its calls, until the result is dropped.
    #[must_use]
    pub fn wish(&self) -> Wish {
        self.change(|wishes| wishes + 1);
        Wish { page: self.clone() }
    }

    fn change(&self, update: impl FnOnce(usize) -> usize) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.wishes = update(inner.wishes);
        if let Err(error) = inner.file.write_all_at(&[u8::from(inner.wishes > 0)], 0) {
            (inner.complain)(&error);
        }
    }
}

// === impl Wish ===

impl Drop for Wish {
    fn drop(&mut self) {
        self.page.change(|wishes| wishes.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_says_whether_somebody_traces() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace.page");
        std::fs::write(&path, [1; 10]).unwrap();
        let page = TracePage::open(&path, |error| panic!("{error}")).unwrap();
        let first = || std::fs::read(&path).unwrap()[0];
        assert_eq!((first(), std::fs::metadata(&path).unwrap().len()), (0, PAGE_BYTES));
        let (a, b) = (page.wish(), page.wish());
        assert_eq!(first(), 1);
        drop(a);
        assert_eq!(first(), 1);
        drop(b);
        assert_eq!(first(), 0);
    }
}
