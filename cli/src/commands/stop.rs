//! `agentfs stop`: asks processes of instances to end, waits, and kills those that do not.
//!
//! ```text
//! out of the router's table, requests in progress end (half of the time at the most)
//! SIGTERM to `wrap` (which passes it on), or to the known processes where there is no wrap
//!   └─ gone: done     └─ wrap gone, others left: SIGTERM to them     └─ time over: SIGKILL to all
//! ```
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

/// Pause between two looks who is left.
const LOOK_PAUSE: Duration = Duration::from_millis(10);

/// How long killed processes may take to be gone.
const KILL_TIME: Duration = Duration::from_secs(2);

/// Runs the command.
///
/// # Errors
/// No such instance, or one that cannot be ended.
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

/// Takes the instances out of the router's table and waits until requests in progress have ended, for half
/// of `time` at the most; how long it took.
fn drain(
    client: &mut Client,
    wanted: &BTreeSet<Key>,
    time: Duration,
    printer: &Printer,
) -> Result<Duration, Failure> {
    let begin = Instant::now();
    // Where we are killed meanwhile, they come back into the table.
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

/// Looks again and again who is left, and gives each one to `act`, until nobody is or the time is over.
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
    // `wrap` passes the signal on; those that it left behind are asked when it is gone.
    let pids = instance.wrap_pid.map_or_else(|| processes(instance), |pid| vec![pid]);
    for pid in pids {
        if told.insert(pid) {
            send(pid, Signal::SIGTERM, printer);
        }
    }
}

/// The processes of an instance; where none is known, those that hold its listeners.
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
