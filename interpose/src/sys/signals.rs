//! Signals of the calling thread, blocked for a moment.
use super::syscalls::process::{SignalMask, block_signals, restore_signals};

/// All signals of this thread are blocked as long as this lives. So no handler of the program runs while something of
/// ours is locked or open: a handler that binds would wait for the lock that it interrupts, and one that leaves by
/// siglongjmp(3) would leave the lock taken, or the port. Nor is the thread cancelled meanwhile (pthread_cancel(3)).
pub(crate) struct Blocked(SignalMask);

// === impl Blocked ===

impl Blocked {
    /// Blocks them.
    pub(crate) fn all() -> Self {
        Self(block_signals())
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        restore_signals(&self.0);
    }
}

#[cfg(test)]
#[expect(unsafe_code, reason = "sends signals and asks for pending ones")]
mod tests {
    use super::*;

    fn is_pending(signal: libc::c_int) -> bool {
        // SAFETY: an array of integers.
        let mut set = unsafe { core::mem::MaybeUninit::<libc::sigset_t>::zeroed().assume_init() };
        // SAFETY: fills the set.
        assert_eq!(unsafe { libc::sigpending(&raw mut set) }, 0);
        // SAFETY: reads the set.
        unsafe { libc::sigismember(&raw const set, signal) == 1 }
    }

    #[test]
    fn a_signal_waits_until_they_are_let_in() {
        // SIGURG is ignored when it arrives, unless it is blocked.
        let send = || {
            // SAFETY: takes no arguments.
            let own = unsafe { libc::pthread_self() };
            // SAFETY: this thread is alive, and the handler does nothing.
            assert_eq!(unsafe { libc::pthread_kill(own, libc::SIGURG) }, 0);
        };
        // SAFETY: the handler does nothing. Without one an ignored signal would not become pending.
        unsafe { libc::signal(libc::SIGURG, nothing as extern "C" fn(libc::c_int) as libc::sighandler_t) };
        let outer = Blocked::all();
        drop(Blocked::all());
        send();
        assert!(is_pending(libc::SIGURG));
        drop(outer);
        assert!(!is_pending(libc::SIGURG));
    }

    extern "C" fn nothing(_signal: libc::c_int) {}
}
