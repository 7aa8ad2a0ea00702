//! The page that wrapped processes map to see whether somebody traces. Byte 0 is 1 while at least
//! one subscription asks for calls. If somebody removes the file or cuts it short, it is restored.
use nix::fcntl::OFlag;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of the page.
const PAGE_BYTES: u64 = 4096;
/// Byte 0 of a page that is no longer the file of its name: processes that have it mapped look for the new one.
const MOVED: u8 = 2;

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
    path: PathBuf,
    /// The file. Processes keep it mapped, so it is replaced only if somebody removed it.
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
        let file = open(path)?;
        let mut inner = Inner { path: path.to_owned(), file, wishes: 0, complain };
        inner.write()?;
        Ok(Self { inner: Arc::new(Mutex::new(inner)) })
    }

    /// Makes the page whole again if somebody removed the file or cut it short.
    pub fn restore(&self) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = inner.restore() {
            (inner.complain)(&error);
        }
    }

    /// Asks every wrapped process for its calls, until the result is dropped.
    #[must_use]
    pub fn wish(&self) -> Wish {
        self.restore();
        self.change(|wishes| wishes + 1);
        Wish { page: self.clone() }
    }

    fn change(&self, update: impl FnOnce(usize) -> usize) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.wishes = update(inner.wishes);
        if let Err(error) = inner.write() {
            (inner.complain)(&error);
        }
    }
}

/// Opens the file, and creates it if it is missing.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    // The target of a link is not ours to write to.
    options.custom_flags(OFlag::O_NOFOLLOW.bits()).open(path)
}

// === impl Inner ===

impl Inner {
    fn write(&mut self) -> io::Result<()> {
        if self.file.metadata()?.len() < PAGE_BYTES {
            self.file.set_len(PAGE_BYTES)?;
        }
        self.file.write_all_at(&[u8::from(self.wishes > 0)], 0)
    }

    fn restore(&mut self) -> io::Result<()> {
        let own = self.file.metadata()?;
        let found = std::fs::symlink_metadata(&self.path);
        if found.is_ok_and(|found| (found.dev(), found.ino()) == (own.dev(), own.ino())) {
            return if own.len() < PAGE_BYTES { self.write() } else { Ok(()) };
        }
        let old = std::mem::replace(&mut self.file, open(&self.path)?);
        self.write()?;
        // Last: who sees this finds the new page.
        old.set_len(PAGE_BYTES)?;
        old.write_all_at(&[MOVED], 0)
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

    #[test]
    fn a_page_that_was_cut_short_or_removed_is_restored() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace.page");
        let page = TracePage::open(&path, |error| panic!("{error}")).unwrap();
        let first = |file: &File| {
            let mut byte = [9];
            file.read_exact_at(&mut byte, 0).unwrap();
            byte[0]
        };
        let mapped = File::open(&path).unwrap();
        let _wish = page.wish();
        File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        page.restore();
        assert_eq!((first(&mapped), mapped.metadata().unwrap().len()), (1, PAGE_BYTES));
        std::fs::remove_file(&path).unwrap();
        page.restore();
        assert_eq!((first(&mapped), first(&File::open(&path).unwrap())), (MOVED, 1));
        // One that somebody else put there is used.
        std::fs::write(folder.path().join("other"), "").unwrap();
        std::fs::rename(folder.path().join("other"), &path).unwrap();
        page.restore();
        let found = File::open(&path).unwrap();
        assert_eq!((first(&found), found.metadata().unwrap().len()), (1, PAGE_BYTES));
        page.restore();
        assert_eq!(first(&found), 1);
        // A wish restores it at once.
        std::fs::remove_file(&path).unwrap();
        drop(page.wish());
        assert_eq!((first(&found), first(&File::open(&path).unwrap())), (MOVED, 1));
    }
}
