//! `agentfs tell` (hidden): reports on the terminal where a wrapped program listens, because `wrap` itself
//! has become that program. It is a separate process and not the program's child, so the program never sees
//! it.
//!
//! ```text
//! wrap ── runs ──► tell ── starts ──► tell --detached    subscribes, says "ready"
//!  │                └─ ends once that is ready               │
//!  └─ becomes the program                                    └─ ends with the program
//! ```
use crate::args::TellArguments;
use crate::autostart;
use crate::exit::Exit;
use crate::follow::{Followed, Tell, View, subscribe, until_end};
use crate::hint::Failure;
use crate::printer::Printer;
use crate::settings::Settings;
use agentfs_wire::url::UrlStyle;
use std::io::{self, Read};
use std::process::Stdio;

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
    // Signals from the terminal are for the program's job, not for us. Fails only if we lead a process group.
    let _ = nix::unistd::setsid();
    let followed = Followed {
        app: &arguments.app,
        instance: &arguments.instance,
        urls: UrlStyle { http_port: arguments.http_port, https_port: arguments.https_port },
    };
    let events = subscribe(settings, Tell::Listeners, followed)?;
    printer.data("ready\n")?;
    let view = View::new(settings, *printer, Tell::Listeners, followed);
    until_end(events, &view, arguments.pid, arguments.started_ms);
    Ok(Exit::Success)
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
