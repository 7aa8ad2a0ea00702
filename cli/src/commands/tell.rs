//! `agentfs tell` (hidden): reports on standard error where a wrapped program listens, because `wrap` itself has become
//! that program. For `exec` it reports only what the program could not do. It is a separate process and not the program's
//! child, so the program never sees it.
//!
//! ```text
//! wrap ── runs ──► sh ── starts ──► tell      waits until it is told what about
//!  │               └─ ends at once   │
//!  ├─ joins or makes an instance ───►│        asks for all events since the start of the program
//!  └─ becomes the program            └─ ends with the program, at once
//! ```
//! If the collector is killed, it waits for the next one and goes on there (`revive`).
//!
//! While it runs it holds the program's standard error, and nothing else of the program's: whoever reads that to its
//! end would wait for us. So one thread writes, which may have to wait for a reader, and the other waits for the end of
//! the program and then for nothing.
use crate::args::TellArguments;
use crate::autostart;
use crate::client::{Client, Events, Next};
use crate::exit::Exit;
use crate::follow::{Begin, Followed, Tell, View, subscribe};
use crate::hint::Failure;
use crate::ours::Ours;
use crate::printer::Printer;
use crate::settings::Settings;
use crate::{descriptors, display, duration, host_port, instance, liveness, revive};
use agentfs_system::process;
use agentfs_wire::control::{SettleParams, Settled, Snapshot, method};
use agentfs_wire::event::{Call, Event, Listener, What};
use agentfs_wire::url::UrlStyle;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// Listeners, and what happens with ports of the host.
    Everything,
    /// What a program of `exec` could not do.
    Warnings,
}

/// What there is to report about. The process is told on its standard input, because it is started before we know: its
/// start takes as long as the rest of `wrap`, and so runs beside that.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Subject {
    pub(crate) app: String,
    pub(crate) instance: String,
    /// Unix milliseconds since when no event is missed: when the program was started.
    pub(crate) started_ms: u64,
    /// The router's port, as far as it is known. Else the collector is asked.
    pub(crate) http_port: Option<u16>,
    /// The router's port for TLS, if TLS is on.
    pub(crate) https_port: Option<u16>,
}

/// The shell that starts the reporting process.
#[derive(Debug)]
pub(crate) struct Starting {
    shell: Child,
}

/// Begins to start a process that reports until our own process, which becomes the program, has ended. It ends at once if it
/// is not told what about ([`Starting::finish`]).
///
/// # Errors
/// Why it could not be started.
pub(crate) fn begin(settings: &Settings, what: Told) -> Result<Starting, Failure> {
    let own = autostart::own_command(settings).map_err(|error| cannot_report(&error))?;
    // The shell ends at once, so that the program has no child that it did not start. It gives no standard input to what
    // runs in its background, except by another number.
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "{ \"$0\" \"$@\" <&3 3<&- & } 3<&0"]).arg(own.get_program()).env_clear();
    shell.envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.args(["tell", "--pid", &std::process::id().to_string()]);
    if what == Told::Warnings {
        shell.arg("--warnings");
    }
    shell.stdin(Stdio::piped()).stdout(Stdio::null()).current_dir("/");
    Ok(Starting { shell: shell.spawn().map_err(|error| cannot_report(&error))? })
}

// === impl Subject ===

impl Subject {
    /// The subject of an instance, whose program was started at `started_ms` (Unix milliseconds).
    pub(crate) fn of((app, instance): (&str, &str), started_ms: u64, urls: Option<UrlStyle>) -> Self {
        Self {
            app: app.to_owned(),
            instance: instance.to_owned(),
            started_ms,
            http_port: urls.map(|urls| urls.http_port),
            https_port: urls.and_then(|urls| urls.https_port),
        }
    }

    /// Reads it from standard input. `None`: there is nothing to report.
    fn read() -> Option<Self> {
        serde_json::from_reader(io::stdin().lock()).ok()
    }
}

// === impl Starting ===

impl Starting {
    /// Says what to report about, if there is anything, and waits until the shell has ended.
    ///
    /// # Errors
    /// The process is not there any more, or what wait(2) says.
    pub(crate) fn finish(mut self, subject: Option<&Subject>) -> Result<(), Failure> {
        let told = match (self.shell.stdin.take(), subject) {
            (Some(input), Some(subject)) => serde_json::to_writer(input, subject).map_err(io::Error::from),
            _ => Ok(()),
        };
        let waited = match self.shell.wait() {
            // Who ignores SIGCHLD gets no status (wait(2)).
            Err(error) if error.raw_os_error() != Some(Errno::ECHILD as i32) => Err(error),
            _ => Ok(()),
        };
        told.and(waited).map_err(|error| cannot_report(&error))
    }
}

fn cannot_report(error: &io::Error) -> Failure {
    Failure::of(format_args!("cannot report where the program listens: {error}"))
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
    let Some(subject) = Subject::read() else { return Ok(Exit::Success) };
    let pid = (arguments.pid, subject.started_ms);
    let (done_tx, done_rx) = UnixStream::pair().map_err(|error| Failure::of(&error))?;
    let progress = Arc::new(Progress::default());
    let mut teller = Teller {
        arguments: arguments.clone(),
        subject: subject.clone(),
        settings: settings.clone(),
        printer: *printer,
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
        let last = last_event(settings, subject);
        progress.last.store(last, Ordering::SeqCst);
        if progress.seen.load(Ordering::SeqCst) < last {
            wait_within(&done_rx, LAST_EVENTS);
        }
        progress.ended.store(true, Ordering::SeqCst);
        if let Some(events) = progress.stop().take() {
            // What has arrived is still told, then the events are over.
            let _ = events.shutdown(Shutdown::Read);
            wait_within(&done_rx, LAST_LINES);
        }
    }
    Ok(Exit::Success)
}

/// Number of the last event that is about what the instance did so far. The collector may be searching for who has a port
/// that the program could not bind. 0 if it does not answer in time.
fn last_event(settings: &Settings, subject: Subject) -> u64 {
    let Subject { app, instance, started_ms: since_ms, .. } = subject;
    let params = SettleParams { app, instance, since_ms };
    let ask = |mut client: Client| client.call(method::CALLS_SETTLED, params).ok();
    let client = Client::connect_within(&settings.paths, Duration::from_millis(LAST_EVENTS.into())).ok();
    client.and_then(ask).map_or(0, |Settled { sequence }| sequence)
}

/// The thread that tells.
#[derive(Debug)]
struct Teller {
    arguments: TellArguments,
    subject: Subject,
    settings: Settings,
    printer: Printer,
    progress: Arc<Progress>,
}

/// What was told, so that nothing is told twice: also by the next collector, which finds everything again.
#[derive(Debug, Default)]
struct Memory {
    /// Listeners that are up, by socket, with the line that tells of them.
    listeners: HashMap<String, String>,
    /// Each port of the host once, whichever process of the command asks for it.
    ports: BTreeSet<(u16, bool)>,
    /// Each port that is in use once: a program may try it again and again.
    taken: BTreeSet<String>,
}

/// Why the events are over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    /// All of the program were told.
    Told,
    /// The collector is gone.
    Lost,
}

/// How far the thread that tells has come.
#[derive(Debug, Default)]
struct Progress {
    /// Number of the last event that was told.
    seen: AtomicU64,
    /// Number of the event after which it ends; 0: it is not known yet.
    last: AtomicU64,
    /// Whether the program has ended.
    ended: AtomicBool,
    /// The connection, so that the wait for events can be ended.
    stop: Mutex<Option<UnixStream>>,
}

// === impl Progress ===

impl Progress {
    fn stop(&self) -> MutexGuard<'_, Option<UnixStream>> {
        self.stop.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }
}

// === impl Teller ===

impl Teller {
    /// Tells until there are no events any more. If the collector is lost, goes on with the next one.
    fn run(&mut self) {
        let pid = self.arguments.pid;
        let Subject { app, instance, started_ms, http_port, https_port } = self.subject.clone();
        let mut known = http_port.map(|http_port| UrlStyle { http_port, https_port });
        let mut ours = Ours::new(self.settings.paths.clone(), app.clone(), instance.clone(), pid);
        let mut memory = Memory::default();
        let mut begin = Begin::Since(started_ms);
        let mut info = None;
        let mut failures = 0;
        loop {
            let since_ms = duration::now_ms();
            let subscribed = || {
                let ask = || autostart::answer(&self.settings).map(|info| info.urls());
                let urls = known.or_else(ask).ok_or_else(|| Failure::of("the collector does not answer"))?;
                let followed = Followed { app: &app, instance: &instance, urls };
                let events = subscribe(&self.settings, Tell::Listeners, followed, begin)?;
                Ok((events, View::new(&self.settings, self.printer, Tell::Listeners, followed)))
            };
            let over = match subscribed() {
                Ok((mut events, view)) => {
                    failures = 0;
                    *self.progress.stop() = events.stopper().ok();
                    // Who starts it again if it is killed.
                    info = autostart::answer(&self.settings).or(info);
                    self.follow(&mut events, &view, &mut memory, &mut ours)
                }
                // Where hundreds of programs start at once, the collector may be busy. It keeps the events.
                Err(Failure { message, .. }) if failures >= SUBSCRIBE_TRIES => {
                    return self.printer.warn(&format!("cannot report where the program listens: {message}"));
                }
                Err(_) => {
                    failures += 1;
                    std::thread::park_timeout(SUBSCRIBE_PAUSE);
                    Over::Lost
                }
            };
            if over == Over::Told
                || self.progress.has_ended()
                || !revive::await_collector(&self.settings, info.as_ref(), (pid, started_ms))
                || self.progress.has_ended()
            {
                return;
            }
            if failures > 0 {
                // Perhaps by now it is another one. What was told is remembered.
                begin = Begin::Since(started_ms);
                continue;
            }
            // Its port may be another one.
            known = None;
            let is_new = autostart::answer(&self.settings).is_none_or(|info| info.started_ms >= since_ms);
            begin = if is_new {
                self.progress.seen.store(0, Ordering::SeqCst);
                Begin::Since(started_ms)
            } else {
                Begin::After(self.progress.seen.load(Ordering::SeqCst))
            };
        }
    }

    /// Tells the events of one collector.
    fn follow(&self, events: &mut Events, view: &View, memory: &mut Memory, ours: &mut Ours) -> Over {
        while let Ok(Next::Event(event)) = events.next(None) {
            match &event.what {
                What::ListenerUp(listener) | What::ListenerRenamed(listener) if !self.arguments.warnings => {
                    self.tell_listener(&event, listener, view, memory, ours);
                }
                What::ListenerDown(listener) => drop(memory.listeners.remove(&listener.socket)),
                What::Call(call) => self.tell_call(call, memory, ours),
                _ => {}
            }
            self.progress.seen.store(event.sequence, Ordering::SeqCst);
            let last = self.progress.last.load(Ordering::SeqCst);
            if last != 0 && event.sequence >= last {
                return Over::Told;
            }
        }
        Over::Lost
    }

    fn tell_listener(
        &self,
        event: &Event,
        listener: &Listener,
        view: &View,
        memory: &mut Memory,
        ours: &mut Ours,
    ) {
        let Some(line) = view.listener(event) else { return };
        // Seen before, by the last collector: it was told, or it is another command's.
        if memory.listeners.insert(listener.socket.clone(), line.clone()).as_ref() == Some(&line) {
            return;
        }
        let owner = listener.pid.or_else(|| self.owner(&listener.socket));
        if is_ours(owner, ours, self.arguments.pid, self.subject.started_ms) {
            self.printer.say(&line);
        }
    }

    fn tell_call(&self, call: &Call, memory: &mut Memory, ours: &mut Ours) {
        let warnings = self.arguments.warnings;
        if let Some(line) = display::taken_line(call)
            // It may have ended because of that. Then it is told by `wrap`, whose instance it is.
            && call.pid.map_or(!warnings, |pid| if warnings { ours.certainly_has(pid) } else { ours.has(pid) })
            && memory.taken.insert(line.clone())
        {
            self.printer.warn(&line);
        }
        if let Some(line) = display::engine_line(call)
            && memory.taken.insert(line.clone())
        {
            self.printer.warn(&line);
        }
        let Some(news) = host_port::news(call) else { return };
        let is_told = match call.command {
            Some(command) if command == self.arguments.pid => news.is_refused || !warnings,
            // What a program of `exec` is refused is told there; what it reaches is told by the commands of `wrap`.
            Some(command) => !warnings && !news.is_refused && !self.is_wraps(command),
            // An older library does not say which command it is of.
            None => !warnings,
        };
        if is_told && memory.ports.insert((news.port, news.is_refused)) {
            if news.is_refused { self.printer.warn(&news.text) } else { self.printer.say(&news.text) }
        }
    }

    /// Whether a command of the instance was started by `wrap`: it has an announcer of its own.
    fn is_wraps(&self, command: u32) -> bool {
        let Subject { app, instance, .. } = &self.subject;
        let companion = instance::companion_in(&self.settings.paths, app, instance);
        companion.is_some_and(|companion| companion.started().iter().any(|one| one.wrap_pid == command))
    }

    /// The process of a listener that the event does not name: the collector may see a socket before it is told whose it
    /// is. That matters only where the instance has other commands as well.
    fn owner(&self, socket: &str) -> Option<u32> {
        let Subject { app, instance, .. } = &self.subject;
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
