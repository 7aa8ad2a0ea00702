//! Runs one child process so that it seems to be us: it gets our signals, and we stop and end as it does. Or several of
//! them beside one another ([`Crew`]), for `restart`: each gets our signals.
//!
//! ```text
//! main thread   spawn ── waitpid(WUNTRACED) ── child stopped: stop ourselves ── child ended: give its end
//! signal thread sigwait ── forward what was sent to us alone ── …
//! ```
//! A child stays in our process group, so what the terminal sends (Ctrl-C, Ctrl-Z, a new size) reaches
//! it directly and is not sent twice. No handler is installed and no disposition is changed: we block signals
//! and wait for them, and the child gets the mask that we were started with.
use crate::exit::Exit;
use nix::errno::Errno;
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, raise};
use nix::unistd::{Pid, execve};
use rustix::process::{WaitId, WaitIdOptions, WaitOptions, waitid, waitpid};
use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Signals that are forwarded or mirrored. The others keep their effect on us.
const SIGNALS: [Signal; 13] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGWINCH,
    Signal::SIGCONT,
    Signal::SIGTSTP,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
    Signal::SIGVTALRM,
];

/// Signals that were ignored when we were started, bit n-1 for signal n. Rust's runtime ignores SIGPIPE
/// before `main`, so this is read earlier. Empty if the system cannot tell (macOS).
static IGNORED: AtomicU64 = AtomicU64::new(0);

/// Standard streams that were closed when we were started, bit n for descriptor n. Rust's runtime opens `/dev/null` for
/// them before `main`. Empty if the system cannot tell (macOS).
static CLOSED: AtomicU8 = AtomicU8::new(0);

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It exited.
    Exited(u8),
    /// A signal ended it: its number, which may be one that has no name (real-time signals).
    Signalled(i32),
}

/// Signals that are held back until this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    handled: SigSet,
    /// The mask that we were started with, and that the child gets.
    given: SigSet,
}

/// Children that run beside one another.
#[derive(Debug, Default)]
pub(crate) struct Crew {
    living: Living,
    /// The mask that the children get, once there is one.
    mask: Option<SigSet>,
}

/// The children that our signals go to.
#[derive(Clone, Debug, Default)]
struct Living {
    pids: Arc<Mutex<Vec<Pid>>>,
    /// Whether a signal came that usually ends a program.
    asked_to_end: Arc<AtomicBool>,
}

/// A child that runs.
#[derive(Debug)]
pub(crate) struct Child {
    pid: Pid,
    living: Living,
}

/// Reads the dispositions while they are still the ones that we were started with (proc_pid_status(5)).
#[cfg(target_os = "linux")]
#[ctor::ctor(unsafe)]
fn remember_ignored() {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return };
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    IGNORED.store(mask, Ordering::Relaxed);
}

/// Reads which standard streams we were given.
#[cfg(target_os = "linux")]
#[ctor::ctor(unsafe)]
fn remember_closed() {
    let is_closed = |stream: &u8| {
        let error = std::fs::symlink_metadata(format!("/proc/self/fd/{stream}")).err();
        error.is_some_and(|error| error.kind() == io::ErrorKind::NotFound)
    };
    if std::fs::symlink_metadata("/proc/self/fd").is_ok() {
        let closed = (0..3).filter(is_closed).fold(0, |closed, stream| closed | 1 << stream);
        CLOSED.store(closed, Ordering::Relaxed);
    }
}

/// The standard streams that a program is not to have, because we were not given them.
fn closed_streams() -> impl Iterator<Item = i32> {
    let closed = CLOSED.load(Ordering::Relaxed);
    (0..3).filter(move |stream| closed & 1 << stream != 0)
}

/// Closes the standard streams that we were not given.
fn close_streams() -> io::Result<()> {
    for stream in closed_streams() {
        nix::unistd::close(stream)?;
    }
    Ok(())
}

/// Whether the system keeps a child's status for us. It does not if we were started with SIGCHLD ignored
/// (wait(2)); then only [`replace`] preserves the program's status.
pub(crate) fn can_wait() -> bool {
    !was_ignored(Signal::SIGCHLD)
}

/// The same for a program that the seccomp engine serves: a library that is loaded into us does not see it.
pub(crate) fn replace_past_library(
    path: &Path,
    arguments: &[OsString],
    environment: &[(OsString, OsString)],
) -> io::Error {
    #[cfg(target_os = "linux")]
    {
        if let Err(error) = restore_pipe_signal().and_then(|()| close_streams()) {
            return error;
        }
        agentfs_engine::become_program(path, arguments, environment)
    }
    #[cfg(not(target_os = "linux"))]
    replace(path, arguments, environment)
}

/// SIGPIPE as it was before Rust's runtime ignored it.
fn restore_pipe_signal() -> io::Result<()> {
    if !was_ignored(Signal::SIGPIPE) {
        // execve(2) resets a signal that has a handler to its default.
        signal_hook::flag::register(Signal::SIGPIPE as i32, Arc::default())?;
    }
    Ok(())
}

/// Becomes a program, with the dispositions and the mask that we were started with. Returns only on failure.
pub(crate) fn replace(
    path: &Path,
    arguments: &[OsString],
    environment: &[(OsString, OsString)],
) -> io::Error {
    let become_it = || -> io::Result<Infallible> {
        restore_pipe_signal()?;
        let path_text = c_string(path.as_os_str().as_bytes())?;
        let (arguments, environment) = c_strings(arguments, environment)?;
        close_streams()?;
        match execve(&path_text, &arguments, &environment) {
            // A script without `#!`: a shell runs it, as with execvp(3).
            Err(Errno::ENOEXEC) => {
                let script = shell_arguments(path_text, arguments);
                execve(c"/bin/sh", &script, &environment).map_err(io::Error::from)
            }
            other => other.map_err(io::Error::from),
        }
    };
    match become_it() {
        Err(error) => error,
        Ok(never) => match never {},
    }
}

/// Holds signals back from this thread and from threads that it starts meanwhile, so that none of them takes
/// a signal that is meant for the program.
///
/// # Errors
/// What the system says.
pub(crate) fn hold() -> io::Result<Held> {
    let handled: SigSet = SIGNALS.into_iter().collect();
    let given = handled.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    Ok(Held { handled, given })
}

/// Starts a program and the thread that passes signals to it. From then on our signals go to the program.
///
/// # Errors
/// What the system says: ENOENT, EACCES…
pub(crate) fn spawn(
    path: &Path,
    arguments: &[OsString],
    environment: &[(OsString, OsString)],
) -> io::Result<Child> {
    Crew::default().spawn(path, arguments, environment)
}

// === impl Crew ===

impl Crew {
    /// Starts a program, and with the first one the thread that passes signals to all. From then on our signals go to
    /// them.
    ///
    /// # Errors
    /// What the system says: ENOENT, EACCES…
    pub(crate) fn spawn(
        &mut self,
        path: &Path,
        arguments: &[OsString],
        environment: &[(OsString, OsString)],
    ) -> io::Result<Child> {
        let living = self.living.clone();
        if let Some(mask) = &self.mask {
            living.add(start(path, arguments, environment, mask)?);
        } else {
            let held = hold()?;
            living.add(start(path, arguments, environment, &held.given)?);
            let (handled, told) = (held.handled, living.clone());
            std::thread::Builder::new().name("signals".to_owned()).spawn(move || forward(&handled, &told))?;
            self.mask = Some(held.given);
            // Held for ever.
            std::mem::forget(held);
        }
        let pid = living.lock().last().copied().ok_or(io::ErrorKind::NotFound)?;
        Ok(Child { pid, living })
    }

    /// Whether we got a signal that usually ends a program: then no further one should be started.
    pub(crate) fn is_asked_to_end(&self) -> bool {
        self.living.asked_to_end.load(Ordering::Acquire)
    }
}

// === impl Living ===

impl Living {
    fn add(&self, pid: Pid) {
        self.lock().push(pid);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Pid>> {
        self.pids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a signal, whoever it was sent to.
    fn note(&self, signal: Signal) {
        if matches!(signal, Signal::SIGHUP | Signal::SIGINT | Signal::SIGQUIT | Signal::SIGTERM) {
            self.asked_to_end.store(true, Ordering::Release);
        }
    }

    /// Passes a signal on. Fails only for a child that has ended, and then there is nothing to pass on.
    fn pass(&self, signal: Signal) {
        for pid in self.lock().iter() {
            // A shell continues the whole job, so the child already runs. If only we are continued, the child
            // should be too.
            if signal != Signal::SIGCONT || is_stopped(*pid) {
                let _ = kill(*pid, signal);
            }
        }
    }
}

// === impl Held ===

impl Drop for Held {
    fn drop(&mut self) {
        // Fails only for an invalid argument, and this one came from the system.
        let _ = self.given.thread_set_mask();
    }
}

// === impl Child ===

impl Child {
    /// The child's process.
    pub(crate) fn id(&self) -> u32 {
        u32::try_from(self.pid.as_raw()).unwrap_or(0)
    }

    /// Whether it has ended. Its end is not lost: [`wait`](Self::wait) tells it.
    pub(crate) fn has_ended(&self) -> bool {
        let Some(pid) = rustix::process::Pid::from_raw(self.pid.as_raw()) else { return true };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        // An error: the kernel kept no status.
        !matches!(waitid(WaitId::Pid(pid), options), Ok(None))
    }

    /// Waits for the end. While the child is stopped, so are we.
    ///
    /// # Errors
    /// The child no longer exists: SIGCHLD is ignored, so the kernel kept no status.
    pub(crate) fn wait(&self) -> io::Result<End> {
        let child = rustix::process::Pid::from_raw(self.pid.as_raw());
        // Its number may be another process's once it has been waited for.
        let gone = || self.living.lock().retain(|pid| *pid != self.pid);
        loop {
            let status = match waitpid(child, WaitOptions::UNTRACED) {
                Ok(Some((_, status))) => status,
                Ok(None) | Err(rustix::io::Errno::INTR) => continue,
                Err(errno) => {
                    gone();
                    return Err(errno.into());
                }
            };
            if let Some(code) = status.exit_status() {
                gone();
                return Ok(End::Exited(u8::try_from(code & 0xff).unwrap_or(u8::MAX)));
            }
            if let Some(signal) = status.terminating_signal() {
                gone();
                return Ok(End::Signalled(signal));
            }
            if let Some(Ok(signal)) = status.stopping_signal().map(Signal::try_from) {
                stop(signal);
            }
        }
    }
}

// === impl End ===

impl End {
    /// Ends this process as the child ended: with the same status, or by the same signal, so that our parent
    /// sees no difference. Returns the exit status if the signal does not end us.
    pub(crate) fn mirror(self) -> Exit {
        let signal = match self {
            Self::Exited(code) => return Exit::Program(code),
            Self::Signalled(signal) => signal,
        };
        // If a core dump was wanted, the child has written it; ours could only overwrite it.
        if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_CORE) {
            let _ = setrlimit(Resource::RLIMIT_CORE, 0, hard);
        }
        // Signals that it does not know (real-time signals) have their default effect on us anyway.
        if signal_hook::low_level::emulate_default_handler(signal).is_err() {
            let _ = signal_hook::low_level::raise(signal);
        }
        // Still running: the signal is ignored or blocked by inheritance. This is the status that shells use.
        Exit::Program(u8::try_from(128 + signal).unwrap_or(u8::MAX))
    }
}

fn start(
    path: &Path,
    arguments: &[OsString],
    environment: &[(OsString, OsString)],
    mask: &SigSet,
) -> io::Result<Pid> {
    let mut actions = PosixSpawnFileActions::init()?;
    for stream in closed_streams() {
        actions.add_close(stream)?;
    }
    let mut attributes = PosixSpawnAttr::init()?;
    attributes.set_sigmask(mask)?;
    let mut defaults = SigSet::empty();
    if !was_ignored(Signal::SIGPIPE) {
        defaults.add(Signal::SIGPIPE);
    }
    attributes.set_sigdefault(&defaults)?;
    attributes.set_flags(PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK | PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF)?;
    let (arguments, environment) = c_strings(arguments, environment)?;
    match posix_spawn(path, &actions, &attributes, &arguments, &environment) {
        Err(Errno::ENOEXEC) => {
            let script = shell_arguments(c_string(path.as_os_str().as_bytes())?, arguments);
            Ok(posix_spawn(c"/bin/sh", &actions, &attributes, &script, &environment)?)
        }
        other => Ok(other?),
    }
}

fn was_ignored(signal: Signal) -> bool {
    IGNORED.load(Ordering::Relaxed) & (1 << (signal as i32 - 1)) != 0
}

fn shell_arguments(path: CString, arguments: Vec<CString>) -> Vec<CString> {
    [c"/bin/sh".to_owned(), path].into_iter().chain(arguments.into_iter().skip(1)).collect()
}

fn c_strings(
    arguments: &[OsString],
    environment: &[(OsString, OsString)],
) -> io::Result<(Vec<CString>, Vec<CString>)> {
    let arguments = arguments.iter().map(|text| c_string(text.as_bytes())).collect::<io::Result<_>>()?;
    let environment = environment
        .iter()
        .map(|(key, value)| c_string([key.as_bytes(), b"=", value.as_bytes()].concat()))
        .collect::<io::Result<_>>()?;
    Ok((arguments, environment))
}

fn c_string(bytes: impl Into<Vec<u8>>) -> io::Result<CString> {
    CString::new(bytes).map_err(io::Error::other)
}

/// Stops this process as the child was stopped, and returns when we are continued.
fn stop(signal: Signal) {
    let only = SigSet::from(signal);
    // SIGSTOP cannot be blocked; the others are, and wait until they are let through, with the one that the
    // terminal may have sent us: the first stops us, and the signal that continues us drops the rest
    // (signal(7)). Raised after the unblocking, ours would stop us a second time.
    let _ = raise(signal);
    let _ = only.thread_unblock();
    let _ = only.thread_block();
}

/// Passes signals on, for ever.
#[cfg(target_os = "linux")]
fn forward(handled: &SigSet, children: &Living) {
    use nix::sys::signalfd::{SfdFlags, SignalFd};
    let Ok(source) = SignalFd::with_flags(handled, SfdFlags::SFD_CLOEXEC) else { return };
    loop {
        let info = match source.read_signal() {
            Ok(Some(info)) => info,
            Ok(None) | Err(Errno::EINTR) => continue,
            Err(_) => return,
        };
        let number = i32::try_from(info.ssi_signo).unwrap_or(0);
        let Ok(signal) = Signal::try_from(number) else { continue };
        // A positive code is the kernel's (sigaction(2)): the terminal's, which the child got as well.
        // A hang-up goes only to the session's leader, a timer only to its process.
        let ours_alone = matches!(signal, Signal::SIGHUP | Signal::SIGALRM | Signal::SIGVTALRM);
        children.note(signal);
        if info.ssi_code <= 0 || ours_alone {
            children.pass(signal);
        }
    }
}

/// Whether a process is stopped.
#[cfg(target_os = "linux")]
fn is_stopped(pid: Pid) -> bool {
    let stat = u32::try_from(pid.as_raw()).ok().and_then(agentfs_system::process::stat);
    stat.is_some_and(|stat| stat.is_stopped())
}

/// Not to be found out here: it may be.
#[cfg(not(target_os = "linux"))]
fn is_stopped(_pid: Pid) -> bool {
    true
}

/// Passes signals on, for ever. Here the terminal's signals look like others, so signals that a terminal can
/// send are not passed on.
#[cfg(not(target_os = "linux"))]
fn forward(handled: &SigSet, children: &Living) {
    while let Ok(signal) = handled.wait() {
        let from_terminal = matches!(
            signal,
            Signal::SIGINT
                | Signal::SIGQUIT
                | Signal::SIGTSTP
                | Signal::SIGTTIN
                | Signal::SIGTTOU
                | Signal::SIGWINCH
        );
        children.note(signal);
        if !from_terminal {
            children.pass(signal);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end_of(script: &str) -> End {
        let arguments = ["sh", "-c", script].map(OsString::from);
        let environment = [("SEEN".into(), "yes".into())];
        spawn(Path::new("/bin/sh"), &arguments, &environment).unwrap().wait().unwrap()
    }

    #[test]
    fn every_kind_of_end_is_told() {
        assert_eq!(end_of("exit 7"), End::Exited(7));
        assert_eq!(end_of("[ \"$SEEN\" = yes ]"), End::Exited(0));
        assert_eq!(end_of("kill -9 $$"), End::Signalled(9));
        #[cfg(target_os = "linux")]
        assert_eq!(end_of("kill -40 $$"), End::Signalled(40));
        assert_eq!(End::Exited(7).mirror(), Exit::Program(7));
    }

    #[test]
    fn several_run_beside_one_another_and_each_end_is_told() {
        let mut crew = Crew::default();
        let mut run = |script: &str| {
            let arguments = ["sh", "-c", script].map(OsString::from);
            crew.spawn(Path::new("/bin/sh"), &arguments, &[]).unwrap()
        };
        let children = [run("exit 3"), run("kill -9 $$"), run("exit 0")];
        while !children.iter().all(Child::has_ended) {
            std::thread::yield_now();
        }
        let ends: Vec<End> = children.iter().map(|child| child.wait().unwrap()).collect();
        assert_eq!(ends, [End::Exited(3), End::Signalled(9), End::Exited(0)]);
        assert!(crew.living.lock().is_empty() && !crew.is_asked_to_end());
        crew.living.note(Signal::SIGTERM);
        assert!(crew.is_asked_to_end());
    }

    #[test]
    fn a_program_that_cannot_be_started_is_an_error() {
        let error = spawn(Path::new("/nowhere"), &["x".into()], &[]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(spawn(Path::new("/bin/sh"), &["a\0b".into()], &[]).is_err());
    }
}
