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
use agentfs_wire::control::{DrainParams, Draining, InstanceInfo, Snapshot, method};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Pause between two checks which instances are left.
const LOOK_PAUSE: Duration = Duration::from_millis(10);

/// How long killed processes may take to be gone.
const KILL_TIME: Duration = Duration::from_secs(2);

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
    let time = Duration::from_secs(arguments.timeout);
    let left = time.saturating_sub(drain(&mut client, &wanted, time, printer)?);
    let mut told = BTreeSet::new();
    let gone = wait(&mut client, &wanted, left, |instance| {
        ask(instance, &mut told, printer);
    })?;
    if !gone {
        printer.warn(&format!("still running after {} s: sending SIGKILL", arguments.timeout));
        let gone = wait(&mut client, &wanted, KILL_TIME, |instance| {
            for pid in processes(instance).into_iter().chain(instance.wrap_pid) {
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
    Ok(Exit::Success)
}

type Key = (String, String);

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
    let mut said = false;
    loop {
        let mut requests = 0;
        for (app, instance) in wanted {
            let params = DrainParams { app: app.clone(), instance: instance.clone(), hold_ms };
            // An error says that it has ended, or that the collector is an older one: nothing to wait for.
            let draining = client.call::<Draining>(method::INSTANCE_DRAIN, params);
            requests += draining.map_or(0, |draining| draining.requests);
        }
        if requests == 0 || begin.elapsed() >= time / 2 {
            if requests > 0 {
                printer.warn(&format!("requests are still in progress: {requests}"));
            }
            return Ok(begin.elapsed());
        }
        if !std::mem::replace(&mut said, true) {
            printer.talk(&format!("waiting for requests in progress: {requests}"));
        }
        std::thread::park_timeout(LOOK_PAUSE);
    }
}

/// Calls `act` for each instance that is left, again and again, until none is left or the time is over.
fn wait(
    client: &mut Client,
    wanted: &BTreeSet<Key>,
    time: Duration,
    mut act: impl FnMut(&InstanceInfo),
) -> Result<bool, Failure> {
    let deadline = Instant::now() + time;
    loop {
        let left: Vec<InstanceInfo> =
            list(client)?.into_iter().filter(|instance| wanted.contains(&key(instance))).collect();
        if left.is_empty() {
            return Ok(true);
        }
        left.iter().for_each(&mut act);
        if Instant::now() > deadline {
            return Ok(false);
        }
        std::thread::park_timeout(LOOK_PAUSE);
    }
}

/// Asks each process once.
fn ask(instance: &InstanceInfo, told: &mut BTreeSet<u32>, printer: &Printer) {
    // First only the process that `wrap` became, so that a master can end its workers. Processes that it
    // leaves behind are asked when it is gone.
    let pids = instance.wrap_pid.map_or_else(|| processes(instance), |pid| vec![pid]);
    for pid in pids {
        if told.insert(pid) {
            send(pid, Signal::SIGTERM, printer);
        }
    }
}

/// The processes of an instance; if none is known, those that hold its listeners.
fn processes(instance: &InstanceInfo) -> Vec<u32> {
    if !instance.pids.is_empty() {
        return instance.pids.clone();
    }
    let sockets = instance.listeners.iter().map(|listener| listener.socket.clone()).collect();
    holders::of(&sockets).into_iter().collect()
}

fn send(pid: u32, signal: Signal, printer: &Printer) {
    let Some(number) = i32::try_from(pid).ok().filter(|number| *number > 1) else { return };
    match kill(Pid::from_raw(number), signal) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(errno) => printer.warn(&format!("cannot signal process {pid}: {errno}")),
    }
}
