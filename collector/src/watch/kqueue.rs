//! A second watcher on macOS: FSEvents does not report new sockets, but kqueue(2) reports that the folder
//! itself was written to. Only type-checked; not run on a Mac yet.
use nix::errno::Errno;
use nix::sys::event::{EvFlags, EventFilter, FilterFlag, KEvent, Kqueue};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;

/// Number of the event that ends the thread. Descriptors have another filter, so it cannot clash.
const END: usize = 0;

/// A thread that waits for the folder to change. Asked to end when dropped.
#[derive(Debug)]
pub(super) struct FolderWatcher {
    queue: Arc<Kqueue>,
}

// === impl FolderWatcher ===

impl FolderWatcher {
    /// Watches the folder that is at `run` now, and calls `changed` whenever its names change. The argument says
    /// whether the folder itself was moved or removed: then another watcher is needed for its successor.
    pub(super) fn start(run: &Path, changed: impl Fn(bool) + Send + 'static) -> io::Result<Self> {
        let folder = File::open(run)?;
        let queue = Arc::new(Kqueue::new()?);
        let waited = Arc::clone(&queue);
        register(&queue, &folder)?;
        std::thread::Builder::new().name("agentfs-folder".to_owned()).spawn(move || {
            // Its descriptor is what the queue watches.
            let _folder = folder;
            loop {
                match wait(&waited) {
                    Ok(Some(event)) if event.filter() == Ok(EventFilter::EVFILT_USER) => break,
                    Ok(Some(event)) => {
                        let gone = FilterFlag::NOTE_DELETE | FilterFlag::NOTE_RENAME;
                        changed(event.fflags().intersects(gone));
                    }
                    Ok(None) | Err(Errno::EINTR) => {}
                    Err(_) => break,
                }
            }
        })?;
        Ok(Self { queue })
    }
}

impl Drop for FolderWatcher {
    fn drop(&mut self) {
        // If the queue takes no event, the thread has already ended.
        let _ = change(&self.queue, end_event(EvFlags::empty(), FilterFlag::NOTE_TRIGGER));
    }
}

fn register(queue: &Kqueue, folder: &File) -> nix::Result<()> {
    let ident = usize::try_from(folder.as_raw_fd()).map_err(|_| Errno::EBADF)?;
    let flags = EvFlags::EV_ADD | EvFlags::EV_CLEAR;
    let wanted = FilterFlag::NOTE_WRITE | FilterFlag::NOTE_DELETE | FilterFlag::NOTE_RENAME;
    change(queue, KEvent::new(ident, EventFilter::EVFILT_VNODE, flags, wanted, 0, 0))?;
    change(queue, end_event(flags, FilterFlag::empty()))
}

fn end_event(flags: EvFlags, what: FilterFlag) -> KEvent {
    KEvent::new(END, EventFilter::EVFILT_USER, flags, what, 0, 0)
}

fn change(queue: &Kqueue, change: KEvent) -> nix::Result<()> {
    let at_once = nix::libc::timespec { tv_sec: 0, tv_nsec: 0 };
    queue.kevent(&[change], &mut [], Some(at_once)).map(drop)
}

/// Waits for the next event, without a time limit.
fn wait(queue: &Kqueue) -> nix::Result<Option<KEvent>> {
    let mut events = [end_event(EvFlags::empty(), FilterFlag::empty())];
    let count = queue.kevent(&[], &mut events, None)?;
    Ok(events.into_iter().take(count).next())
}
