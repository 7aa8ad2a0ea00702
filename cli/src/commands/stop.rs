//! `agentfs stop`: asks the processes of instances to end, waits, and kills those that do not.
//!
//! 1. Each instance leaves the routes; requests in progress get at most half of the time to end.
//! 2. SIGTERM goes to the process that `wrap` became (with `trace -- COMMAND`, to the `agentfs` that passes it on),
//!    or, if that is gone or unknown, to the known processes.
//! 3. When the time is over, all of them get SIGKILL.
use crate::args::StopArguments;
use crate::autostart;
use crate::client::Client;
use crate::exit::Exit;
use crate::hint::Failure;
use crate::holders;
use crate::printer::Printer;
use crate::reference;
use crate::settings::Settings;
use agentfs_wire::control::{DrainAllParams, Draining, InstanceInfo, InstanceName, Snapshot, method};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Least pause between two checks which instances are left.
const LOOK_PAUSE: Duration = Duration::from_millis(10);

/// A pause is at least this many times as long as the request before it, so that requests about a thousand instances
/// do not keep the collector from noticing that they end.
const LOOK_SHARE: u32 = 4;

/// How long an instance may take to end by itself, unless it is said.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

/// How long killed processes may take to be gone, and the files of their instances with them, which takes as long as the
/// disk does: 0.3 s for one change were seen on a busy machine.
const KILL_TIME: Duration = Duration::from_secs(10);

/// Runs the command.
///
/// # Errors
/// An instance is not found or cannot be stopped.
pub(crate) fn run(
    arguments: &StopArguments,
    settings: &Settings,
    printer: &Printer,
) -> Result<Exit, Failure> {
    let Some(mut client) = autostart::where_needed(settings)? else {
        if let Some(name) = arguments.instances.first() {
            return Err(reference::nothing_runs(name));
        }
        printer.talk("nothing is running");
        return Ok(Exit::Success);
    };
    let all = list(&mut client)?;
    let mut wanted = BTreeSet::new();
    if arguments.all {
        wanted.extend(all.iter().map(key));
    }
    for name in &arguments.instances {
        wanted.extend(reference::matching(name, &all)?.into_iter().map(key));
    }
    if wanted.is_empty() {
        printer.talk("nothing is running");
        return Ok(Exit::Success);
    }
    end(&mut client, wanted, Duration::from_secs(arguments.timeout), printer)?;
    Ok(Exit::Success)
}

/// Ends instances and waits until they are gone; for at most `time` they may end by themselves.
///
/// # Errors
/// They cannot be stopped.
pub(crate) fn end(
    client: &mut Client,
    wanted: BTreeSet<Key>,
    time: Duration,
    printer: &Printer,
) -> Result<(), Failure> {
    let left = time.saturating_sub(drain(client, &wanted, time, printer)?);
    let mut told = BTreeSet::new();
    let gone = wait(client, &wanted, left, |left| ask(left, &mut told, printer))?;
    if !gone {
        printer.warn(&format!("still running after {} s: sending SIGKILL", time.as_secs()));
        let gone = wait(client, &wanted, KILL_TIME, |left| {
            let wraps = left.iter().flat_map(wraps);
            for pid in processes(&left.iter().collect::<Vec<_>>()).into_iter().chain(wraps) {
                send(pid, Signal::SIGKILL, printer);
            }
        })?;
        if !gone {
            let names: Vec<String> =
                wanted.iter().map(|(app, instance)| format!("{app}/{instance}")).collect();
            return Err(Failure::of(format_args!("cannot stop {}", names.join(", ")))
                .hint("processes that agentfs does not know or may not kill hold its sockets"));
        }
    }
    for (app, instance) in &wanted {
        printer.talk(&format!("{app}/{instance} has stopped"));
    }
    Ok(())
}

/// App and instance.
pub(crate) type Key = (String, String);

fn key(instance: &InstanceInfo) -> Key {
    (instance.app.clone(), instance.instance.clone())
}

fn list(client: &mut Client) -> Result<Vec<InstanceInfo>, Failure> {
    Ok(client.call::<Snapshot>(method::LIST, json!({}))?.instances)
}

/// Takes the instances out of the routes and waits until requests in progress have ended, for at most half of
/// `time`. Returns how long it took.
fn drain(
    client: &mut Client,
    wanted: &BTreeSet<Key>,
    time: Duration,
    printer: &Printer,
) -> Result<Duration, Failure> {
    let begin = Instant::now();
    // If we are killed meanwhile, they are routed again after this time.
    let hold_ms = u64::try_from((time + KILL_TIME).as_millis()).unwrap_or(u64::MAX);
    let name = |(app, instance): &Key| InstanceName { app: app.clone(), instance: instance.clone() };
    let params = DrainAllParams { instances: wanted.iter().map(name).collect(), hold_ms };
    let mut said = false;
    loop {
        let asked = Instant::now();
        // An error means that the collector is an older one: nothing to wait for.
        let draining = client.call::<Draining>(method::INSTANCES_DRAIN, &params);
        let requests = draining.map_or(0, |draining| draining.requests);
        if requests == 0 || begin.elapsed() >= time / 2 {
            if requests > 0 {
                printer.warn(&format!("requests are still in progress: {requests}"));
            }
            return Ok(begin.elapsed());
        }
        if !std::mem::replace(&mut said, true) {
            printer.talk(&format!("waiting for requests in progress: {requests}"));
        }
        pause(asked);
    }
}

/// Calls `act` with the instances that are left, again and again, until none is left or the time is over.
fn wait(
    client: &mut Client,
    wanted: &BTreeSet<Key>,
    time: Duration,
    mut act: impl FnMut(&[InstanceInfo]),
) -> Result<bool, Failure> {
    let deadline = Instant::now() + time;
    loop {
        let asked = Instant::now();
        let mut left = list(client)?;
        left.retain(|instance| wanted.contains(&key(instance)));
        if left.is_empty() {
            return Ok(true);
        }
        act(&left);
        if Instant::now() > deadline {
            return Ok(false);
        }
        pause(asked);
    }
}

/// Sends the collector nothing for a while after a request that was sent at `asked`.
fn pause(asked: Instant) {
    std::thread::park_timeout(LOOK_PAUSE.max(asked.elapsed() * LOOK_SHARE));
}

/// Asks each process once.
fn ask(left: &[InstanceInfo], told: &mut BTreeSet<u32>, printer: &Printer) {
    // First only the process that `wrap` became, so that a master can end its workers. Processes that it
    // leaves behind are asked when it is gone.
    let (wrapped, others): (Vec<_>, Vec<_>) = left.iter().partition(|instance| instance.wrap_pid.is_some());
    let wraps = wrapped.iter().flat_map(|instance| wraps(instance));
    for pid in wraps.chain(processes(&others)) {
        if told.insert(pid) {
            send(pid, Signal::SIGTERM, printer);
        }
    }
}

/// The processes that `wrap` became.
fn wraps(instance: &InstanceInfo) -> Vec<u32> {
    // An older collector does not list the commands.
    instance.commands.iter().map(|one| one.wrap_pid).chain(instance.wrap_pid).collect()
}

/// The processes of instances. For instances without known processes, those that hold their listeners.
fn processes(instances: &[&InstanceInfo]) -> Vec<u32> {
    let mut pids: Vec<u32> = instances.iter().flat_map(|instance| instance.pids.iter().copied()).collect();
    let unknown = instances.iter().filter(|instance| instance.pids.is_empty());
    let listeners = unknown.flat_map(|instance| &instance.listeners);
    let sockets: BTreeSet<String> = listeners.map(|listener| listener.socket.clone()).collect();
    if !sockets.is_empty() {
        pids.extend(holders::of(&sockets));
    }
    pids
}

fn send(pid: u32, signal: Signal, printer: &Printer) {
    let Some(number) = i32::try_from(pid).ok().filter(|number| *number > 1) else { return };
    match kill(Pid::from_raw(number), signal) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(errno) => printer.warn(&format!("cannot signal process {pid}: {errno}")),
    }
}
