//! Ends instances: asks their processes, waits, kills those that do not end, and returns when every process and every
//! name of them is gone.
//!
//! 1. Each instance leaves the routes; requests in progress get at most half of the time to end.
//! 2. SIGTERM goes to the processes that `wrap` became, one for each command (with `trace -- COMMAND`, to the `agentfs`
//!    that passes it on), or, if they are gone or unknown, to every process that belongs to the instance (`members`).
//! 3. When the time is over, all of them get SIGKILL, and a message names each.
//! 4. What is still there, a process or a file of the run dir, is named in the failure.
use crate::client::Client;
use crate::hint::Failure;
use crate::liveness;
use crate::members::{Key, Members, described};
use crate::printer::Printer;
use crate::settings::Settings;
use agentfs_home::RunLock;
use agentfs_system::holders;
use agentfs_wire::control::{DrainAllParams, Draining, InstanceInfo, InstanceName, Snapshot, method};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Least pause between two checks which instances are left.
const LOOK_PAUSE: Duration = Duration::from_millis(10);

/// A pause is at least this many times as long as the check before it, so that checks of a thousand instances
/// do not keep the collector from noticing that they end.
const LOOK_SHARE: u32 = 4;

/// How long an instance may take to end by itself, unless it is said.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

/// How long killed processes may take to be gone, and the files of their instances with them, which takes as long as the
/// disk does: 0.3 s for one change were seen on a busy machine.
const KILL_TIME: Duration = Duration::from_secs(10);

/// Instances that are being ended.
#[derive(Debug)]
struct Ending<'a> {
    settings: &'a Settings,
    printer: &'a Printer,
    /// Which life of each name is meant: when it was started, and the process that `wrap` became.
    lives: BTreeMap<Key, (u64, Option<u32>)>,
    members: Members,
    /// Processes that got SIGTERM.
    told: BTreeSet<u32>,
    /// Processes that got SIGKILL, as they are described.
    killed: BTreeMap<u32, String>,
    /// Processes that may not be signalled, with the reason.
    refused: BTreeMap<u32, Errno>,
}

/// Ends `instances` within `time`, and a little longer for what has to be killed.
///
/// # Errors
/// Something of them cannot be ended; the message names it.
pub(crate) fn end(
    client: &mut Client,
    instances: &[&InstanceInfo],
    time: Duration,
    settings: &Settings,
    printer: &Printer,
) -> Result<(), Failure> {
    let mut ending = Ending {
        settings,
        printer,
        lives: instances.iter().map(|info| (key(info), (info.started_ms, info.wrap_pid))).collect(),
        members: Members::of(&settings.paths, instances),
        told: BTreeSet::new(),
        killed: BTreeMap::new(),
        refused: BTreeMap::new(),
    };
    // Before anybody ends: what a process leaves behind is known by its parent.
    let _ = ending.look(client)?;
    let left = time.saturating_sub(ending.drain(client, time)?);
    if !ending.wait(client, left, Ending::ask)? {
        let gone = ending.wait(client, KILL_TIME, Ending::kill)?;
        for what in ending.killed.values() {
            printer.note(&format!("killed {what}: it did not end within {} s", time.as_secs()));
        }
        if !gone {
            return Err(ending.failure());
        }
    }
    ending.names_gone()
}

// === impl Ending ===

impl Ending<'_> {
    /// What is left of the instances as the collector knows them. Looks at their processes, too.
    fn look(&mut self, client: &mut Client) -> Result<Vec<InstanceInfo>, Failure> {
        let mut left = client.call::<Snapshot>(method::LIST, json!({}))?.instances;
        let own = std::process::id();
        left.retain(|info| {
            let same_life = self.lives.get(&key(info)).is_some_and(|(started_ms, wrap_pid)| {
                // Somebody may have taken the name again.
                info.started_ms <= *started_ms || info.wrap_pid.is_none_or(|pid| Some(pid) == *wrap_pid)
            });
            // This command may belong to the instance itself; it ends as the last.
            let only_us = info.listeners.is_empty() && info.pids == [own];
            same_life && !only_us
        });
        for info in &left {
            let key = key(info);
            self.members.know(&key, info.pids.iter().copied().chain(wraps(info)));
            if info.pids.is_empty() {
                let sockets = info.listeners.iter().map(|listener| listener.socket.clone()).collect();
                self.members.know(&key, holders::of_sockets(&sockets).into_values().flatten());
            }
        }
        self.members.look();
        Ok(left)
    }

    /// Takes the instances out of the routes and waits until requests in progress have ended, for at most half of
    /// `time`. Returns how long it took.
    fn drain(&self, client: &mut Client, time: Duration) -> Result<Duration, Failure> {
        let begin = Instant::now();
        // If we are killed meanwhile, they are routed again after this time.
        let hold_ms = u64::try_from((time + KILL_TIME).as_millis()).unwrap_or(u64::MAX);
        let name = |(app, instance): &Key| InstanceName { app: app.clone(), instance: instance.clone() };
        let params = DrainAllParams { instances: self.lives.keys().map(name).collect(), hold_ms };
        let mut said = false;
        loop {
            let asked = Instant::now();
            // An error means that the collector is an older one: nothing to wait for.
            let draining = client.call::<Draining>(method::INSTANCES_DRAIN, &params);
            let requests = draining.map_or(0, |draining| draining.requests);
            if requests == 0 || begin.elapsed() >= time / 2 {
                if requests > 0 {
                    self.printer.warn(&format!("requests are still in progress: {requests}"));
                }
                return Ok(begin.elapsed());
            }
            if !std::mem::replace(&mut said, true) {
                self.printer.talk(&format!("waiting for requests in progress: {requests}"));
            }
            pause(asked);
        }
    }

    /// Calls `act` with the instances that are left, again and again, until no process of them is left or the time
    /// is over.
    fn wait(
        &mut self,
        client: &mut Client,
        time: Duration,
        act: fn(&mut Self, &[InstanceInfo]),
    ) -> Result<bool, Failure> {
        let deadline = Instant::now() + time;
        loop {
            let asked = Instant::now();
            let left = self.look(client)?;
            if left.is_empty() && self.members.living(None).is_empty() {
                return Ok(true);
            }
            act(self, &left);
            if Instant::now() > deadline {
                return Ok(false);
            }
            pause(asked);
        }
    }

    /// Asks each process once. First only the processes that `wrap` became, so that a master can end its workers.
    /// Processes that they leave behind are asked when they are gone.
    fn ask(&mut self, left: &[InstanceInfo]) {
        let mut wrapped: BTreeMap<Key, Vec<u32>> = left.iter().map(|info| (key(info), wraps(info))).collect();
        for key in self.lives.keys().cloned().collect::<Vec<_>>() {
            let asked = match wrapped.remove(&key) {
                Some(wraps) if !wraps.is_empty() => wraps,
                _ => self.members.living(Some(&key)),
            };
            for pid in asked {
                if self.told.insert(pid) {
                    self.send(pid, Signal::SIGTERM);
                }
            }
        }
    }

    /// Kills whoever is left.
    fn kill(&mut self, _left: &[InstanceInfo]) {
        for pid in self.members.living(None) {
            let what = described(pid);
            if !self.killed.contains_key(&pid) && self.send(pid, Signal::SIGKILL) {
                self.killed.insert(pid, what);
            }
        }
    }

    /// Sends a signal; whether that was allowed.
    fn send(&mut self, pid: u32, signal: Signal) -> bool {
        let Some(number) = i32::try_from(pid).ok().filter(|number| *number > 1) else { return false };
        match kill(Pid::from_raw(number), signal) {
            Ok(()) => true,
            Err(Errno::ESRCH) => false,
            Err(errno) => {
                self.refused.insert(pid, errno);
                false
            }
        }
    }

    /// Names what could not be ended.
    fn failure(&self) -> Failure {
        let lives: Vec<String> = self.lives.keys().map(|key| format!("{}/{}", key.0, key.1)).collect();
        let left = self.members.living(None);
        if left.is_empty() {
            return Failure::of(format_args!("cannot stop {}", lives.join(", ")))
                .hint("processes that agentfs does not know or may not look into hold its sockets");
        }
        let described = left.iter().map(|pid| match self.refused.get(pid) {
            Some(errno) => format!("{}: {}", described(*pid), errno.desc().to_lowercase()),
            None => described(*pid),
        });
        let list = described.collect::<Vec<_>>().join(", ");
        let pids = left.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
        let failure = Failure::of(format_args!("cannot stop {}: still running: {list}", lives.join(", ")));
        if self.refused.is_empty() {
            failure.hint("they did not end after SIGKILL; the system may be waiting for a disk or a debugger")
        } else {
            failure.hint(format_args!("run `kill {pids}` as their own user or as root"))
        }
    }

    /// Waits until no file of the instances is left in the run dir: then their names are free.
    fn names_gone(&self) -> Result<(), Failure> {
        let deadline = Instant::now() + KILL_TIME;
        loop {
            let asked = Instant::now();
            let left: Vec<PathBuf> =
                self.lives.iter().flat_map(|(key, life)| self.files(key, *life)).collect();
            if left.is_empty() || self.belongs() {
                return Ok(());
            }
            if Instant::now() > deadline {
                let names: Vec<String> = left.iter().map(|path| path.display().to_string()).collect();
                return Err(Failure::of(format_args!("files are left: {}", names.join(", ")))
                    .hint("run `agentfs prune`, which removes them or says why they stay"));
            }
            // The collector does it; a busy one, or none, must not keep the name.
            if asked + KILL_TIME / 2 > deadline
                && let Ok(Some(lock)) = RunLock::try_take(&self.settings.paths.run_lock)
            {
                for (app, instance) in self.lives.keys() {
                    let _ = liveness::sweep(&self.settings.paths, app, instance, &lock);
                }
            }
            pause(asked);
        }
    }

    /// Files in the run dir of that life of an instance; none if somebody has taken the name again.
    fn files(&self, (app, instance): &Key, (started_ms, wrap_pid): (u64, Option<u32>)) -> Vec<PathBuf> {
        let mut files = liveness::files_of(&self.settings.paths, app, instance);
        match crate::instance::companion(self.settings, app, instance) {
            Some(companion) if companion.started_ms > started_ms && Some(companion.wrap_pid) != wrap_pid => {
                return Vec::new();
            }
            Some(_) => files.extend(crate::instance::companion_file(&self.settings.paths, app, instance)),
            None => {}
        }
        files
    }

    /// Whether this command itself belongs to one of the instances: then that ends after us.
    fn belongs(&self) -> bool {
        let own = crate::place::own(self.settings);
        own.is_some_and(|own| self.lives.contains_key(&own))
    }
}

/// The processes that `wrap` became.
fn wraps(instance: &InstanceInfo) -> Vec<u32> {
    // An older collector does not list the commands.
    let listed = instance.commands.iter().map(|one| one.wrap_pid);
    listed.chain(instance.wrap_pid.filter(|_| instance.commands.is_empty())).collect()
}

fn key(instance: &InstanceInfo) -> Key {
    (instance.app.clone(), instance.instance.clone())
}

/// Leaves the collector alone for a while after a check that began at `asked`.
fn pause(asked: Instant) {
    std::thread::park_timeout(LOOK_PAUSE.max(asked.elapsed() * LOOK_SHARE));
}
