//! `agentfs tell` (hidden): reports on standard error where a wrapped program listens, because `wrap` itself has become
//! that program. It is a separate process and not the program's child, so the program never sees it.
//!
//! ```text
//! wrap ── runs ──► sh ── starts ──► tell      asks for all events since the start of the program
//!  │               └─ ends at once      │
//!  └─ becomes the program               └─ ends with the program, at once
//! ```
//! While it runs it holds the program's standard error, and nothing else of the program's: whoever reads that to its
//! end would wait for us. So one thread writes, which may have to wait for a reader, and the other waits for the end of
//! the program and then for nothing.
use crate::args::TellArguments;
use crate::autostart;
use crate::client::{Client, Next};
use crate::exit::Exit;
use crate::follow::{Followed, Tell, View, subscribe};
use crate::hint::Failure;
use crate::ours::Ours;
use crate::printer::Printer;
use crate::settings::Settings;
use crate::{descriptors, display, host_port, instance, liveness};
use agentfs_system::process;
use agentfs_wire::companion::Companion;
use agentfs_wire::control::{SettleParams, Settled, Snapshot, method};
use agentfs_wire::event::What;
use agentfs_wire::url::UrlStyle;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::json;
use std::collections::BTreeSet;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Attempts to subscribe before we give up with a message.
const SUBSCRIBE_TRIES: u32 = 20;

/// Pause between two attempts.
const SUBSCRIBE_PAUSE: Duration = Duration::from_millis(250);

/// Looks for the process of a listener before it counts as unknown.
const OWNER_TRIES: u32 = 20;

/// Pause between two looks.
const OWNER_PAUSE: Duration = Duration::from_millis(10);

/// Milliseconds that the collector may take, and then the last events, once the program has ended.
const LAST_EVENTS: u8 = 250;

/// Milliseconds that the lines which have arrived may take once the program has ended.
const LAST_LINES: u8 = 50;

/// Milliseconds between two looks whether the program has ended, where the system does not tell.
const LOOK_MS: u8 = 50;

/// Starts a process that reports on the instance until our own process, which becomes the program, has ended. It misses
/// no event since `started_ms`. It asks the collector how URLs are written if we do not know.
///
/// # Errors
/// Why it could not be started.
pub(crate) fn start(
    settings: &Settings,
    companion: &Companion,
    urls: Option<UrlStyle>,
    started_ms: u64,
) -> Result<(), Failure> {
    let run = || -> io::Result<()> {
        let own = autostart::own_command(settings)?;
        // The shell ends at once, so that the program has no child that it did not start.
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", "\"$0\" \"$@\" &"]).arg(own.get_program()).env_clear();
        shell.envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))));
        shell.arg("tell").args(["--app", &companion.app, "--instance", &companion.instance]);
        shell.args(["--pid", &std::process::id().to_string(), "--started-ms", &started_ms.to_string()]);
        if let Some(urls) = urls {
            shell.args(["--http-port", &urls.http_port.to_string()]);
        }
        if let Some(port) = urls.and_then(|urls| urls.https_port) {
            shell.args(["--https-port", &port.to_string()]);
        }
        match shell.stdin(Stdio::null()).stdout(Stdio::null()).current_dir("/").status() {
            // Who ignores SIGCHLD gets no status (wait(2)).
            Err(error) if error.raw_os_error() != Some(Errno::ECHILD as i32) => Err(error),
            _ => Ok(()),
        }
    };
    run().map_err(|error| Failure::of(format_args!("cannot report where the program listens: {error}")))
}

/// Runs the command.
///
/// # Errors
/// The collector does not answer.
pub(crate) fn run(
    arguments: &TellArguments,
    settings: &Settings,
    printer: &Printer,
) -> Result<Exit, Failure> {
    descriptors::close_inherited();
    // Signals from the terminal are for the program's job, not for us. Fails only if we lead a process group.
    let _ = nix::unistd::setsid();
    let end = process::end_of(arguments.pid).ok();
    let pid = (arguments.pid, arguments.started_ms);
    let (done_tx, done_rx) = UnixStream::pair().map_err(|error| Failure::of(&error))?;
    let (stop, progress) = (Arc::new(OnceLock::new()), Arc::new(Progress::default()));
    let mut teller = Teller {
        arguments: arguments.clone(),
        settings: settings.clone(),
        printer: *printer,
        stop: Arc::clone(&stop),
        progress: Arc::clone(&progress),
    };
    // Nobody waits for this thread for ever: perhaps nobody reads what it has to say.
    std::thread::Builder::new()
        .name("tell".to_owned())
        .spawn(move || {
            teller.run();
            drop(done_tx);
        })
        .map_err(|error| Failure::of(format_args!("cannot start a thread: {error}")))?;
    // A program whose port is in use may have ended before we started.
    let has_ended = !liveness::is_running(pid.0, pid.1);
    if has_ended || wait_for_one(end.as_ref(), &done_rx, pid) == Ended::Program {
        let last = last_event(settings, arguments);
        progress.last.store(last, Ordering::SeqCst);
        if progress.seen.load(Ordering::SeqCst) < last {
            wait_within(&done_rx, LAST_EVENTS);
        }
        if let Some(events) = stop.get() {
            // What has arrived is still told, then the events are over.
            let _ = events.shutdown(Shutdown::Read);
            wait_within(&done_rx, LAST_LINES);
        }
    }
    Ok(Exit::Success)
}

/// Number of the last event that is about what the instance did so far. The collector may be searching for who has a port
/// that the program could not bind. 0 if it does not answer in time.
fn last_event(settings: &Settings, arguments: &TellArguments) -> u64 {
    let TellArguments { app, instance, started_ms: since_ms, .. } = arguments.clone();
    let params = SettleParams { app, instance, since_ms };
    let ask = |mut client: Client| client.call(method::CALLS_SETTLED, params).ok();
    let client = Client::connect_within(&settings.paths, Duration::from_millis(LAST_EVENTS.into())).ok();
    client.and_then(ask).map_or(0, |Settled { sequence }| sequence)
}

/// The thread that tells.
#[derive(Debug)]
struct Teller {
    arguments: TellArguments,
    settings: Settings,
    printer: Printer,
    /// Gets the connection, so that the wait for events can be ended.
    stop: Arc<OnceLock<UnixStream>>,
    progress: Arc<Progress>,
}

/// How far the thread that tells has come.
#[derive(Debug, Default)]
struct Progress {
    /// Number of the last event that was told.
    seen: AtomicU64,
    /// Number of the event after which it ends; 0: it is not known yet.
    last: AtomicU64,
}

// === impl Teller ===

impl Teller {
    /// Tells until there are no events any more.
    fn run(&mut self) {
        let TellArguments { app, instance, pid, started_ms, http_port, https_port } = self.arguments.clone();
        let known = http_port.map(|http_port| UrlStyle { http_port, https_port });
        let begun = patiently(|| {
            let ask = || autostart::answer(&self.settings).map(|info| info.urls());
            let urls = known.or_else(ask).ok_or_else(|| Failure::of("the collector does not answer"))?;
            let followed = Followed { app: &app, instance: &instance, urls };
            let events = subscribe(&self.settings, Tell::Listeners, followed, Some(started_ms))?;
            Ok((events, View::new(&self.settings, self.printer, Tell::Listeners, followed)))
        });
        let (mut events, view) = match begun {
            Ok(begun) => begun,
            Err(error) => {
                return self
                    .printer
                    .warn(&format!("cannot report where the program listens: {}", error.message));
            }
        };
        if let Ok(stop) = events.stopper() {
            let _ = self.stop.set(stop);
        }
        let paths = self.settings.paths.clone();
        let mut ours = Ours::new(paths, app.clone(), instance.clone(), pid);
        // Each port of the host once, whichever process of the instance asks for it.
        let mut told = BTreeSet::new();
        // Each port that is in use once: a program may try it again and again.
        let mut taken = BTreeSet::new();
        while let Ok(Next::Event(event)) = events.next(None) {
            match &event.what {
                What::ListenerUp(listener) | What::ListenerRenamed(listener) => {
                    let owner = listener.pid.or_else(|| self.owner(&listener.socket));
                    if is_ours(owner, &mut ours, pid, started_ms) {
                        view.say(&event);
                    }
                }
                What::Call(call) => {
                    if let Some(line) = display::taken_line(call)
                        // It may have ended because of that.
                        && call.pid.is_none_or(|pid| ours.has(pid))
                        && taken.insert(line.clone())
                    {
                        self.printer.warn(&line);
                    }
                    if let Some(line) = display::engine_line(call)
                        && taken.insert(line.clone())
                    {
                        self.printer.warn(&line);
                    }
                    let news = host_port::news(call);
                    match news.filter(|news| told.insert((news.port, news.is_refused))) {
                        Some(news) if news.is_refused => self.printer.warn(&news.text),
                        Some(news) => self.printer.say(&news.text),
                        None => {}
                    }
                }
                _ => {}
            }
            self.progress.seen.store(event.sequence, Ordering::SeqCst);
            let last = self.progress.last.load(Ordering::SeqCst);
            if last != 0 && event.sequence >= last {
                return;
            }
        }
    }

    /// The process of a listener that the event does not name: the collector may see a socket before it is told whose it
    /// is. That matters only where the instance has other commands as well.
    fn owner(&self, socket: &str) -> Option<u32> {
        let TellArguments { app, instance, .. } = &self.arguments;
        let companion = instance::companion_in(&self.settings.paths, app, instance)?;
        if companion.started().len() < 2 {
            return None;
        }
        for _ in 0..OWNER_TRIES {
            let mut client = Client::connect(&self.settings.paths).ok()?;
            let snapshot: Snapshot = client.call(method::LIST, json!({})).ok()?;
            let mut listeners = snapshot.instances.iter().flat_map(|instance| &instance.listeners);
            let pid = listeners.find(|listener| listener.socket == socket)?.pid;
            if pid.is_some() {
                return pid;
            }
            std::thread::park_timeout(OWNER_PAUSE);
        }
        None
    }
}

/// Tries again for a while: where hundreds of programs start at once, the collector may be busy. It keeps the events.
fn patiently<T>(attempt: impl Fn() -> Result<T, Failure>) -> Result<T, Failure> {
    for _ in 1..SUBSCRIBE_TRIES {
        if let Ok(done) = attempt() {
            return Ok(done);
        }
        std::thread::park_timeout(SUBSCRIBE_PAUSE);
    }
    attempt()
}

/// Whether our command opened the listener of the process `owner`, and not another one of the instance, or of a later
/// instance with that name.
fn is_ours(owner: Option<u32>, ours: &mut Ours, own: u32, started_ms: u64) -> bool {
    let runs = liveness::is_running(own, started_ms);
    match owner {
        None => runs,
        Some(pid) if pid == own => true,
        Some(pid) => runs && ours.has(pid),
    }
}

/// What has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Program,
    Events,
}

/// Waits until the program has ended, or the thread that tells.
fn wait_for_one(end: Option<&OwnedFd>, done: &UnixStream, (pid, started_ms): (u32, u64)) -> Ended {
    loop {
        let mut wanted = vec![PollFd::new(done.as_fd(), PollFlags::POLLIN)];
        wanted.extend(end.map(|end| PollFd::new(end.as_fd(), PollFlags::POLLIN)));
        // If the system cannot tell us the end, we look.
        let limit = if end.is_some() { PollTimeout::NONE } else { LOOK_MS.into() };
        let _ = poll(&mut wanted, limit);
        let is_ready = |at: usize| wanted.get(at).is_some_and(|one| one.any().unwrap_or(false));
        if is_ready(1) || (end.is_none() && !liveness::is_running(pid, started_ms)) {
            return Ended::Program;
        }
        if is_ready(0) {
            return Ended::Events;
        }
    }
}

/// Waits until the thread that tells has ended, for at most `time`.
fn wait_within(done: &UnixStream, time: u8) {
    let _ = poll(&mut [PollFd::new(done.as_fd(), PollFlags::POLLIN)], PollTimeout::from(time));
}
