//! Starts the collector if none is running: detached from the command that needs it, with its output in a
//! log.
use crate::client::{Client, REPLY_TIME};
use crate::environment;
use crate::hint::{Failure, io_hint};
use crate::printer::Printer;
use crate::program::own_binary;
use crate::settings::Settings;
use agentfs_wire::control::{DaemonInfo, method};
use agentfs_wire::limits::LOG_BYTES;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a new collector may take until it answers.
const READY_TIME: Duration = Duration::from_secs(10);

/// Pause before a collector is started again because another one has the lock.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// How long a program's start waits for a collector that is there and does not answer. One that answers may be busy with
/// the run dir, where each change takes as long as the disk does: 0.3 s were seen on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// Pause between two checks whether it answers.
const LOOK_PAUSE: Duration = Duration::from_millis(2);

/// Bytes from the end of the log that are searched for the reason of a failed start.
const TAIL_BYTES: u64 = 600;

/// A connection to the collector, or the process that is starting one.
#[derive(Debug)]
pub(crate) enum Started {
    /// A collector answers.
    Running(Client),
    /// `agentfs daemon start` runs.
    Starting(std::process::Child),
    /// It could not even be tried.
    Failed(Failure),
}

/// Connects to the collector. If none is running, starts `agentfs daemon start`, which exits as soon as the
/// collector answers: so the collector is not a child of the program.
pub(crate) fn begin(settings: &Settings) -> Started {
    match answering(settings, PATIENCE) {
        Ok(client) => return Started::Running(client),
        Err(error) if is_absent(&error) => {}
        Err(error) => {
            return Started::Failed(Failure::of(format_args!(
                "cannot connect to {}: {error}",
                settings.paths.control.display()
            )));
        }
    }
    let starter = own_command(settings).and_then(|mut command| {
        command.args(["daemon", "start", "--quiet"]).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(Stdio::piped()).spawn()
    });
    match starter {
        Ok(child) => Started::Starting(child),
        Err(error) => Started::Failed(Failure::of(format_args!("cannot start the collector: {error}"))),
    }
}

// === impl Started ===

impl Started {
    /// Waits until the collector answers. Programs also run without one, so its absence is only a warning.
    pub(crate) fn finish(self, settings: &Settings, printer: &Printer) -> Option<Client> {
        let failure = match self {
            Self::Running(client) => return Some(client),
            Self::Failed(failure) => failure,
            Self::Starting(child) => match child.wait_with_output() {
                Err(error) => Failure::of(format_args!("cannot wait for the collector to start: {error}")),
                Ok(output) => match Client::connect_within(&settings.paths, PATIENCE) {
                    Ok(client) => return Some(client),
                    Err(_) => Failure::of(first_line(&output.stderr)),
                },
            },
        };
        printer.warn(&format!("no collector is running, so the program has no URL: {}", failure.message));
        None
    }
}

/// Connects to the collector, and starts it if none is running.
///
/// # Errors
/// Why there is none.
pub(crate) fn ensure(settings: &Settings) -> Result<Client, Failure> {
    agentfs_home::prepare(&settings.paths)?;
    if let Ok(client) = answering(settings, REPLY_TIME) {
        return Ok(client);
    }
    start(settings)?;
    Client::require(&settings.paths)
}

/// Connects and waits for an answer: a collector that was killed a moment ago may still accept, because the
/// kernel closes its sockets last.
fn answering(settings: &Settings, time: Duration) -> io::Result<Client> {
    let mut client = Client::connect_within(&settings.paths, time)?;
    client.ping()?;
    Ok(client)
}

/// Connects to the collector. If none is running, starts one only if the run dir is not empty. `None`:
/// nothing is running.
///
/// # Errors
/// Why there is none.
pub(crate) fn where_needed(settings: &Settings) -> Result<Option<Client>, Failure> {
    match answering(settings, REPLY_TIME) {
        Ok(client) => Ok(Some(client)),
        Err(error) if is_absent(&error) => {
            let empty = match std::fs::read_dir(&settings.paths.run) {
                Ok(mut files) => files.next().is_none(),
                Err(_) => true,
            };
            if empty { Ok(None) } else { ensure(settings).map(Some) }
        }
        Err(_) => Client::require(&settings.paths).map(Some),
    }
}

/// Starts a collector that was killed, by `agentfs daemon start`, so that it is not a child of ours. Whether one answers.
pub(crate) fn revive(settings: &Settings) -> bool {
    let status = own_command(settings).and_then(|mut command| {
        command.args(["daemon", "start", "--quiet"]).current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()
    });
    status.is_ok_and(|status| status.success()) || answer(settings).is_some()
}

/// Starts a collector as a child of this process and waits until it answers. If another collector is
/// starting, or a killed one is not quite gone, waits for that first.
///
/// # Errors
/// It exits, or does not answer in time. The message has the end of its log.
pub(crate) fn start(settings: &Settings) -> Result<DaemonInfo, Failure> {
    // If launchd holds our sockets, launchd must start the collector.
    if crate::launchctl::kickstart(settings)
        && let Some(info) = await_answer(settings)
    {
        return Ok(info);
    }
    let log = open_log(settings)?;
    let begin = log.metadata().map_or(0, |metadata| metadata.len());
    let mut child = launch(settings, &log)?;
    let deadline = Instant::now() + READY_TIME;
    loop {
        if let Some(info) = answer(settings) {
            return Ok(info);
        }
        match child.try_wait() {
            // Another collector has the lock and does not answer yet, or no longer answers.
            Ok(Some(status)) if status.success() => {
                std::thread::park_timeout(LOCK_PAUSE);
                child = launch(settings, &log)?;
            }
            Ok(Some(status)) => {
                let failure = Failure::of(format_args!(
                    "the collector exited at once ({status}): {}",
                    tail(settings, begin)
                ));
                return Err(failure.hint(format_args!("its log is {}", settings.paths.log.display())));
            }
            Ok(None) | Err(_) => {}
        }
        if Instant::now() > deadline {
            let seconds = READY_TIME.as_secs();
            let failure = Failure::of(format_args!("the collector did not answer within {seconds} s"));
            return Err(failure.hint(format_args!("its log is {}", settings.paths.log.display())));
        }
        std::thread::park_timeout(LOOK_PAUSE);
    }
}

/// Waits for the answer of a collector that something else starts.
pub(crate) fn await_answer(settings: &Settings) -> Option<DaemonInfo> {
    let deadline = Instant::now() + READY_TIME;
    loop {
        match answer(settings) {
            None if Instant::now() < deadline => std::thread::park_timeout(LOOK_PAUSE),
            answer => return answer,
        }
    }
}

/// Starts a guardian and its collector. The guardian exits with success if another collector is running.
fn launch(settings: &Settings, log: &File) -> Result<std::process::Child, Failure> {
    let start = || -> io::Result<std::process::Child> {
        let mut command = own_command(settings)?;
        command.args(["daemon", "run", "--detached"]).current_dir("/");
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log.try_clone()?);
        command.spawn()
    };
    start().map_err(|error| cannot_start(&error))
}

/// Starts a collector as a child of this process, which is its guardian. Its output goes to `log`, or where ours goes.
///
/// # Errors
/// It cannot be started.
pub(crate) fn launch_guarded(
    settings: &Settings,
    log: Option<&File>,
) -> Result<std::process::Child, Failure> {
    let start = || -> io::Result<std::process::Child> {
        let mut command = own_command(settings)?;
        command.args(["daemon", "run", "--guarded"]).stdin(Stdio::null());
        if let Some(log) = log {
            command.stdout(log.try_clone()?).stderr(log.try_clone()?);
        }
        command.spawn()
    };
    start().map_err(|error| cannot_start(&error))
}

/// What a running collector says of itself.
pub(crate) fn answer(settings: &Settings) -> Option<DaemonInfo> {
    Client::connect(&settings.paths).ok()?.call(method::DAEMON_INFO, serde_json::json!({})).ok()
}

/// Whether the error means that there is no collector.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, NotFound, UnexpectedEof};
    matches!(error.kind(), NotFound | ConnectionRefused | ConnectionReset | BrokenPipe | UnexpectedEof)
}

/// This binary, with a collector's environment.
///
/// # Errors
/// The path of the binary cannot be found.
pub(crate) fn own_command(settings: &Settings) -> io::Result<Command> {
    let mut command = Command::new(own_binary()?);
    command.env_clear();
    command.envs(environment::of_collector(&settings.environment, &settings.paths.home));
    Ok(command)
}

/// Opens the log of a collector in the background.
///
/// # Errors
/// What the system says.
pub(crate) fn open_log(settings: &Settings) -> Result<File, Failure> {
    let path = &settings.paths.log;
    let open = || -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.create(true).append(true).mode(0o600).custom_flags(nix::fcntl::OFlag::O_NOFOLLOW.bits());
        let log = options.open(path)?;
        if log.metadata()?.len() > LOG_BYTES {
            log.set_len(0)?;
        }
        Ok(log)
    };
    open().map_err(|error| {
        Failure::of(format_args!("cannot write {}: {error}", path.display())).hint(io_hint(&error))
    })
}

/// The end of the log from `begin` on: why the collector did not start.
fn tail(settings: &Settings, begin: u64) -> String {
    let read = || -> io::Result<String> {
        let mut log = File::open(&settings.paths.log)?;
        let length = log.metadata()?.len();
        log.seek(SeekFrom::Start(begin.max(length.saturating_sub(TAIL_BYTES))))?;
        let mut bytes = Vec::new();
        log.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let error = text.lines().rev().find_map(|line| line.split_once("error: ").map(|(_, error)| error));
    error.or_else(|| text.lines().last()).unwrap_or("it wrote nothing to its log").to_owned()
}

fn cannot_start(error: &io::Error) -> Failure {
    Failure::of(format_args!("cannot start the collector: {error}"))
}

fn first_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let line = text.lines().next().unwrap_or("it does not answer");
    line.split_once("error: ").map_or(line, |(_, error)| error).to_owned()
}
