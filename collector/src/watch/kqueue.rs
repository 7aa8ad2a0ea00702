//! A second watcher on macOS: FSEvents does not report new sockets, but kqueue(2) reports that the folder
//! itself was written to. Only type-checked; not run on a Mac yet.
use nix::errno::Errno;
use nix::sys::event::{EvFlags, EventFilter, FilterFlag, KEvent, Kqueue};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often the thread checks whether it should end.
const WAIT: Duration = Duration::from_millis(500);

/// A thread that waits for the folder to change. Asked to end when dropped.
#[derive(Debug)]
pub(super) struct FolderWatcher {
    end: Arc<AtomicBool>,
}

// === impl FolderWatcher ===

impl FolderWatcher {
    /// Watches `run` and calls `changed` whenever it changes.
    pub(super) fn start(run: &Path, changed: impl Fn() + Send + 'static) -> io::Result<Self> {
        let mut folder = File::open(run)?;
        let run = run.to_owned();
        let queue = Kqueue::new()?;
        let end = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&end);
        std::thread::Builder::new().name("agentfs-folder".to_owned()).spawn(move || {
            while !ended.load(Ordering::Acquire) {
                match wait(&queue, &folder) {
                    Ok(true) => changed(),
                    Ok(false) | Err(Errno::EINTR) => {
                        // The folder may have been replaced meanwhile. Open it again only then: changes
                        // between two descriptors are not reported.
                        if let Some(other) = replacement(&run, &folder) {
                            folder = other;
                            changed();
                        }
                    }
                    Err(_) => break,
                }
            }
        })?;
        Ok(Self { end })
    }
}

impl Drop for FolderWatcher {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Release);
    }
}

/// The folder at `run`, if it is not `folder`.
fn replacement(run: &Path, folder: &File) -> Option<File> {
    let current = File::open(run).ok()?;
    let identity = |file: &File| file.metadata().map(|found| (found.dev(), found.ino())).ok();
    (identity(&current)? != identity(folder)?).then_some(current)
}

fn wait(queue: &Kqueue, folder: &File) -> nix::Result<bool> {
    let ident = usize::try_from(folder.as_raw_fd()).map_err(|_| Errno::EBADF)?;
    let flags = EvFlags::EV_ADD | EvFlags::EV_CLEAR;
    let wanted = FilterFlag::NOTE_WRITE | FilterFlag::NOTE_DELETE | FilterFlag::NOTE_RENAME;
    let change = KEvent::new(ident, EventFilter::EVFILT_VNODE, flags, wanted, 0, 0);
    let mut events = [change];
    let timeout = nix::libc::timespec {
        tv_sec: i64::try_from(WAIT.as_secs()).unwrap_or(1),
        tv_nsec: i64::from(WAIT.subsec_nanos()),
    };
    Ok(queue.kevent(&[change], &mut events, Some(timeout))? > 0)
}
