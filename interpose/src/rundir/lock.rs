//! The lock under which files of the run dir are removed.
use crate::config::Config;
use crate::rawaddr::UnixName;
use crate::sys::{self, Fd};

/// Tries to get the run dir's lock. They are 1 ms apart, except the first few. A process holds the lock for four system
/// calls, which take as long as the disk takes (0.3 s was seen on a busy machine). After this many tries the process
/// that holds the lock was stopped, and the bind fails with EADDRINUSE.
const LOCK_TRIES: u32 = 5000;
/// The first tries, which are closer together: the lock is usually free within microseconds.
const QUICK_LOCK_TRIES: u32 = 20;

/// The run dir's lock: flock(2) on a file beside it. It is unlocked explicitly, unless this is the only thread: another
/// one may have forked, and the copy of the descriptor would keep the lock. Who takes it has blocked the thread's signals before
/// ([`Blocked`](crate::sys::Blocked)).
pub(super) struct Lock(Fd);

// === impl Lock ===

impl Lock {
    /// Takes the lock. EADDRINUSE: the process that holds it was stopped.
    pub(super) fn take(config: &Config) -> sys::Result<Self> {
        let path = UnixName::path(&[config.base(), b"/run.lock"]);
        let flags = libc::O_RDWR | libc::O_NOFOLLOW;
        // The file is mostly there, and is opened faster without `O_CREAT`.
        let fd = match sys::open(path.c_path(), flags, 0) {
            Err(libc::ENOENT) => sys::open(path.c_path(), flags | libc::O_CREAT, 0o600)?,
            result => result?,
        };
        for number in 0..LOCK_TRIES {
            match sys::lock(fd.number(), libc::LOCK_EX | libc::LOCK_NB) {
                Ok(()) => return Ok(Self(fd)),
                Err(libc::EWOULDBLOCK | libc::EINTR) => {
                    sys::pause_us(if number < QUICK_LOCK_TRIES { 50 } else { 1000 });
                }
                Err(_) => break,
            }
        }
        Err(libc::EADDRINUSE)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if !sys::is_only_thread() {
            let _ = sys::lock(self.0.number(), libc::LOCK_UN);
        }
    }
}
