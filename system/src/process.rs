//! Processes, by number: `/proc` on Linux (proc(5)), ps(1) and lsof(8) on macOS.
use nix::errno::Errno;
use std::os::fd::OwnedFd;

#[cfg(target_os = "linux")]
#[path = "process/linux.rs"]
mod sys;
#[cfg(not(target_os = "linux"))]
#[path = "process/macos.rs"]
mod sys;

/// A process, as the system shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// One letter: `T` is stopped, `Z` and `X` have ended.
    pub state: char,
    /// Its parent.
    pub parent: u32,
    /// The process that leads its session, or did. 0 where the system does not say.
    pub session: u32,
    /// Its start in clock ticks since boot: with the number, this is the process and not a later one. 0 where the system
    /// does not say.
    pub start_ticks: u64,
}

/// The clocks of one moment, to make Unix time of a process's start.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    now_ms: u64,
    up_ms: u64,
    ticks_per_second: u64,
}

/// The process with that number, also one that has ended and that nobody has waited for.
pub fn stat(pid: u32) -> Option<Stat> {
    sys::stat(pid)
}

/// Every process. Takes milliseconds.
pub fn all() -> Vec<(u32, Stat)> {
    sys::all()
}

/// Whether the process exists and has not ended. A later process with the same number counts.
pub fn lives(pid: u32) -> bool {
    running(pid).is_some()
}

/// Whether the process exists, has not ended, and was not started after `limit_ms` (Unix milliseconds), as far as the
/// system says when it was.
pub fn lives_since(pid: u32, limit_ms: u64) -> bool {
    let born_ms = |stat| Clock::read()?.born_ms(&stat);
    running(pid).is_some_and(|stat| stat.and_then(born_ms).is_none_or(|born| born <= limit_ms))
}

/// What is known of a process that exists and has not ended.
fn running(pid: u32) -> Option<Option<Stat>> {
    use nix::sys::signal::kill;
    let number = i32::try_from(pid).ok().filter(|number| *number > 0)?;
    match kill(nix::unistd::Pid::from_raw(number), None) {
        Err(Errno::ESRCH) => None,
        _ => sys::running(pid),
    }
}

/// The number of every process, also of those that have ended. Empty where there is no `/proc`.
pub fn numbers() -> Vec<u32> {
    sys::numbers()
}

/// The environment of a process as it was when its program started: `NAME=VALUE`, each ended by a zero byte. `None` if
/// it belongs to another user, has ended, or the system does not show it.
pub fn environment(pid: u32) -> Option<Vec<u8>> {
    sys::environment(pid)
}

/// Whether the process runs as our own user. A process that changed its user but has not executed a program since still
/// belongs to the user before (proc(5)). `false` where the system does not say.
pub fn is_ours(pid: u32) -> bool {
    sys::is_ours(pid)
}

/// The command line of a process: the program and its arguments; `None` if it has ended or the system does not show it.
/// At most `bytes` bytes are read.
pub fn command(pid: u32, bytes: u64) -> Option<Vec<String>> {
    sys::command(pid, bytes)
}

/// The name of a process: that of its program's file, or what it calls itself.
pub fn name(pid: u32) -> Option<String> {
    sys::name(pid)
}

/// The working directory of a process, if we may know it.
pub fn folder(pid: u32) -> Option<std::path::PathBuf> {
    sys::folder(pid)
}

/// Unix milliseconds when a process was started; `None` where the system does not say.
pub fn born_ms(pid: u32) -> Option<u64> {
    Clock::read()?.born_ms(&stat(pid)?)
}

/// A descriptor that becomes readable when `pid` has ended.
///
/// # Errors
/// `ESRCH` if there is no such process; what else the system says where there cannot be one.
pub fn end_of(pid: u32) -> Result<OwnedFd, Errno> {
    sys::end_of(pid)
}

// === impl Stat ===

impl Stat {
    /// Whether it has ended: what is left waits for its parent.
    pub fn has_ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }

    /// Whether it is stopped by a signal.
    pub fn is_stopped(&self) -> bool {
        self.state == 'T'
    }
}

// === impl Clock ===

impl Clock {
    /// The clocks now; `None` where the system counts no ticks.
    pub fn read() -> Option<Self> {
        sys::clock()
    }

    /// Unix milliseconds of a process's start, as exact as a tick (10 ms) and as the clock was not set.
    pub fn born_ms(&self, stat: &Stat) -> Option<u64> {
        let age_ms = self.up_ms.checked_sub(stat.start_ticks.checked_mul(1_000)? / self.ticks_per_second)?;
        self.now_ms.checked_sub(age_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_are_found() {
        let own = std::process::id();
        let stat = stat(own).unwrap();
        assert!(!stat.has_ended() && !stat.is_stopped());
        assert_eq!(stat.parent, std::os::unix::process::parent_id());
        assert!(all().iter().any(|(pid, other)| *pid == own && other.parent == stat.parent));
        let words = command(own, 1 << 20).unwrap().join(" ");
        assert_eq!(words, std::env::args().collect::<Vec<_>>().join(" "));
        if cfg!(target_os = "linux") {
            assert!(numbers().contains(&own) && is_ours(own) && environment(own).is_some());
        }
        assert_eq!(folder(own).unwrap(), std::env::current_dir().unwrap().canonicalize().unwrap());
        assert!(lives(own) && lives_since(own, u64::MAX));
        assert_eq!(lives_since(own, 1_000), cfg!(not(target_os = "linux")), "we did not run in 1970");
        for nobody in [0, u32::MAX] {
            assert!(!lives(nobody) && !is_ours(nobody) && environment(nobody).is_none());
            assert!(super::stat(nobody).is_none() && command(nobody, 100).is_none());
            assert_eq!(end_of(nobody).err(), Some(Errno::ESRCH));
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn our_birth_is_in_the_past() {
        let born = born_ms(std::process::id()).unwrap();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        assert!(u128::from(born) <= now.as_millis() && born > 1_000_000_000_000, "{born}");
    }

    #[test]
    fn an_end_is_told() {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        use std::os::fd::AsFd as _;
        let mut child =
            std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let end = end_of(child.id()).unwrap();
        let mut waited = [PollFd::new(end.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut waited, PollTimeout::ZERO), Ok(0));
        drop(child.stdin.take());
        assert_eq!(poll(&mut waited, PollTimeout::from(20_000_u16)), Ok(1));
        assert!(!lives(child.id()), "nobody has waited for it yet");
        child.wait().unwrap();
    }
}
