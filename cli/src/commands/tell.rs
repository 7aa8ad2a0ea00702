//! `agentfs tell` (hidden): reports on standard error where a wrapped program listens, because `wrap` itself has become
//! that program. It is a separate process and not the program's child, so the program never sees it.
//!
//! ```text
//! wrap ── runs ──► tell ── starts ──► tell --detached    subscribes, says "ready"
//!  │                └─ ends once that is ready               │
//!  └─ becomes the program                                    └─ ends with the program, at once
//! ```
//! While it runs it holds the program's standard error, and nothing else of the program's: whoever reads that to its
//! end would wait for us. So one thread writes, which may have to wait for a reader, and the other waits for the end of
//! the program and then for nothing.
use crate::args::TellArguments;
use crate::autostart;
use crate::client::{Events, Next};
use crate::exit::Exit;
use crate::follow::{Followed, Tell, View, subscribe};
use crate::hint::Failure;
use crate::printer::Printer;
use crate::settings::Settings;
use crate::{descriptors, instance, liveness, orphans};
use agentfs_wire::companion::Companion;
use agentfs_wire::event::{Event, What};
use agentfs_wire::paths::Paths;
use agentfs_wire::url::UrlStyle;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Stdio;

/// Milliseconds that the lines which have arrived may take once the program has ended.
const LAST_LINES: u8 = 50;

/// Milliseconds between two looks whether the program has ended, where the system does not tell.
const LOOK_MS: u8 = 50;

/// Starts a process that reports on `followed` until the process `pid` has ended. Returns once it is
/// subscribed.
///
/// # Errors
/// Why it could not be started.
pub(crate) fn start(
    settings: &Settings,
    followed: Followed<'_>,
    pid: u32,
    started_ms: u64,
) -> Result<(), Failure> {
    let run = || -> io::Result<()> {
        let mut command = autostart::own_command(settings)?;
        command.arg("tell").args(["--app", followed.app, "--instance", followed.instance]);
        command.args(["--pid", &pid.to_string(), "--started-ms", &started_ms.to_string()]);
        command.args(["--http-port", &followed.urls.http_port.to_string()]);
        if let Some(port) = followed.urls.https_port {
            command.args(["--https-port", &port.to_string()]);
        }
        if followed.fork {
            command.arg("--fork");
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).current_dir("/").status().map(drop)
    };
    run().map_err(|error| Failure::of(format_args!("cannot report where the program listens: {error}")))
}

/// Runs the command.
///
/// # Errors
/// The collector does not answer, or the second process cannot be started.
pub(crate) fn run(
    arguments: &TellArguments,
    settings: &Settings,
    printer: &Printer,
) -> Result<Exit, Failure> {
    if !arguments.detached {
        return detach(settings)
            .map(|()| Exit::Success)
            .map_err(|error| Failure::of(format_args!("cannot report where the program listens: {error}")));
    }
    descriptors::close_inherited();
    // Signals from the terminal are for the program's job, not for us. Fails only if we lead a process group.
    let _ = nix::unistd::setsid();
    let followed = Followed {
        app: &arguments.app,
        instance: &arguments.instance,
        urls: UrlStyle { http_port: arguments.http_port, https_port: arguments.https_port },
        fork: arguments.fork,
    };
    let end = descriptors::end_of(arguments.pid).ok();
    let events = subscribe(settings, Tell::Listeners, followed)?;
    let stop = events.stopper().map_err(|error| Failure::of(format_args!("cannot follow: {error}")))?;
    printer.data("ready\n")?;
    let teller = Teller {
        view: View::new(settings, *printer, Tell::Listeners, followed),
        paths: settings.paths.clone(),
        app: arguments.app.clone(),
        instance: arguments.instance.clone(),
        pid: arguments.pid,
        started_ms: arguments.started_ms,
    };
    let (done_tx, done_rx) = UnixStream::pair().map_err(|error| Failure::of(&error))?;
    let pid = (arguments.pid, arguments.started_ms);
    std::thread::Builder::new()
        .name("tell".to_owned())
        .spawn(move || {
            teller.run(events);
            drop(done_tx);
        })
        .map_err(|error| Failure::of(format_args!("cannot start a thread: {error}")))?;
    if wait_for_one(end.as_ref(), &done_rx, pid) == Ended::Program {
        // What has arrived is still told, then the events are over.
        let _ = stop.shutdown(std::net::Shutdown::Read);
        wait_within(&done_rx, LAST_LINES);
    }
    Ok(Exit::Success)
}

/// Who tells.
#[derive(Debug)]
struct Teller {
    view: View,
    paths: Paths,
    app: String,
    instance: String,
    /// The process that `wrap` became.
    pid: u32,
    /// Unix milliseconds when it was started.
    started_ms: u64,
}

// === impl Teller ===

impl Teller {
    /// Tells until there are no events any more, or the reader has gone.
    fn run(&self, mut events: Events) {
        while let Ok(Next::Event(event)) = events.next(None) {
            if self.is_ours(&event) {
                self.view.say(&event);
            }
        }
    }

    /// Whether our command opened the listener, and not another one of the instance, or of a later instance with that
    /// name.
    fn is_ours(&self, event: &Event) -> bool {
        let What::ListenerUp(listener) = &event.what else { return false };
        let runs = liveness::is_running(self.pid, self.started_ms);
        let Some(pid) = listener.pid else { return runs };
        if pid == self.pid || !runs {
            return pid == self.pid;
        }
        let companion = instance::companion_in(&self.paths, &self.app, &self.instance);
        let commands: Vec<u32> =
            companion.iter().flat_map(Companion::processes).map(|(pid, _)| pid).chain([self.pid]).collect();
        // A daemon has no ancestors any more: then every command of the instance tells of it.
        orphans::starter(pid, &commands).is_none_or(|starter| starter == self.pid)
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

/// Starts this command again, detached, and waits until it is ready or has ended.
fn detach(settings: &Settings) -> io::Result<()> {
    let mut command = autostart::own_command(settings)?;
    command.args(std::env::args_os().skip(1)).arg("--detached");
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    if let Some(mut ready) = child.stdout.take() {
        let mut one = [0];
        // Nothing to read: it has ended, and has reported why.
        let _ = ready.read(&mut one)?;
    }
    Ok(())
}
