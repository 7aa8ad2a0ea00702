//! Finds every process of instances that are about to be stopped, also those that the collector does not know:
//! a daemon with a session of its own, a program that wrote a title over its environment, a static program, one that
//! became another user.
//!
//! A process is a member if the collector names it, if its environment names the instance, if it has one of the
//! instance's listeners open, if its parent is a member, or if a member leads its session. A member stays a
//! member when its parent ends. A process is not a member if it is older than the instance, or if its environment names
//! another instance.
use crate::instance::companion_in;
use agentfs_system::process::{self, Clock, Stat};
use agentfs_wire::control::InstanceInfo;
use agentfs_wire::environ::{Membership, membership};
use agentfs_wire::paths::Paths;
use agentfs_wire::secret::Secret;
use agentfs_wire::text::visible;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// An instance, by app and name.
pub(crate) type Key = (String, String);

/// Milliseconds that a process may seem older than it is: the kernel counts in ticks, and the clock may be set.
const AGE_SLACK_MS: u64 = 2_000;

/// Bytes of a command line that are read.
const COMMAND_BYTES: u64 = 128 * 1024;

/// Characters of a command line in a message.
pub(crate) const COMMAND_CHARACTERS: usize = 80;

/// A process, as the system shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Process {
    /// Its parent.
    pub(crate) parent: u32,
    /// The process that leads its session, or did.
    pub(crate) session: u32,
    /// Its start in clock ticks since boot: with the number, this is the process and not a later one.
    pub(crate) start_ticks: u64,
    /// Unix milliseconds of its start; nothing if the system does not say.
    pub(crate) born_ms: Option<u64>,
    /// The instance of this home that its environment names.
    pub(crate) claims: Option<Key>,
}

/// A process that belongs to an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// Which instance.
    pub(crate) key: Key,
    /// Its start, as in [`Process::start_ticks`].
    start_ticks: u64,
}

/// An instance whose processes are wanted.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// Unix milliseconds when it was started.
    pub(crate) started_ms: u64,
    /// Processes that are members for another reason than those that this module looks for.
    pub(crate) known: BTreeSet<u32>,
}

/// The living members of some instances.
#[derive(Debug)]
pub(crate) struct Members {
    /// The run dir that their environments name.
    run: PathBuf,
    wanted: BTreeMap<Key, Wanted>,
    /// Secrets of the instances that have one.
    secrets: BTreeMap<Key, Secret>,
    living: BTreeMap<u32, Member>,
    /// Sessions that a member leads or led.
    sessions: BTreeMap<u32, Key>,
}

// === impl Members ===

impl Members {
    /// The members of `instances`. Nothing is looked for yet.
    pub(crate) fn of(paths: &Paths, instances: &[&InstanceInfo]) -> Self {
        // Read now: the companion is gone before the last process may be.
        let secret = |info: &&InstanceInfo| {
            let secret = companion_in(paths, &info.app, &info.instance)?.secret?;
            Some(((info.app.clone(), info.instance.clone()), secret))
        };
        let secrets = instances.iter().filter_map(secret).collect();
        let wanted = instances.iter().map(|info| {
            let key = (info.app.clone(), info.instance.clone());
            (key, Wanted { started_ms: info.started_ms, known: BTreeSet::new() })
        });
        let (run, wanted) = (paths.run.clone(), wanted.collect());
        Self { run, wanted, secrets, living: BTreeMap::new(), sessions: BTreeMap::new() }
    }

    /// Adds processes that the collector or a socket names.
    pub(crate) fn know(&mut self, key: &Key, pids: impl IntoIterator<Item = u32>) {
        if let Some(wanted) = self.wanted.get_mut(key) {
            wanted.known.extend(pids);
        }
    }

    /// Looks again: who has ended is dropped, who is new is added. Without `/proc`, those that are known.
    pub(crate) fn look(&mut self) {
        self.take(&table(&self.run, &self.secrets));
    }

    /// The living members of one instance, or of all.
    pub(crate) fn living(&self, key: Option<&Key>) -> Vec<u32> {
        let of_key = |member: &Member| key.is_none_or(|key| member.key == *key);
        self.living.iter().filter(|(_, member)| of_key(member)).map(|(pid, _)| *pid).collect()
    }

    fn take(&mut self, table: &BTreeMap<u32, Process>) {
        self.living.retain(|pid, member| {
            table.get(pid).is_some_and(|process| process.start_ticks == member.start_ticks)
        });
        // While a session has a process, no other gets its number.
        self.sessions.retain(|session, _| table.values().any(|process| process.session == *session));
        let known: BTreeMap<u32, Key> = self
            .wanted
            .iter()
            .flat_map(|(key, wanted)| wanted.known.iter().map(|pid| (*pid, key.clone())))
            .collect();
        for (pid, process) in table {
            let claimed = || {
                let (key, wanted) = self.wanted.get_key_value(process.claims.as_ref()?)?;
                is_young(process, wanted).then(|| key.clone())
            };
            if let Some(key) = known.get(pid).cloned().or_else(claimed) {
                self.add(*pid, process, key);
            }
        }
        // Parents first, however deep: until nobody is added any more.
        loop {
            let kin: Vec<_> = table
                .iter()
                .filter(|(pid, process)| !self.living.contains_key(pid) && process.claims.is_none())
                .filter_map(|(pid, process)| {
                    let by_parent = self.living.get(&process.parent).map(|member| &member.key);
                    let key = by_parent.or_else(|| self.sessions.get(&process.session))?;
                    is_young(process, self.wanted.get(key)?).then(|| (*pid, process, key.clone()))
                })
                .collect();
            if kin.is_empty() {
                break;
            }
            for (pid, process, key) in kin {
                self.add(pid, process, key);
            }
        }
        // A number that is known is that process only at this moment.
        self.wanted.values_mut().for_each(|wanted| wanted.known.clear());
        // The one who asks is not asked to end.
        self.living.remove(&std::process::id());
    }

    fn add(&mut self, pid: u32, process: &Process, key: Key) {
        if process.session == pid {
            self.sessions.insert(pid, key.clone());
        }
        self.living.entry(pid).or_insert(Member { key, start_ticks: process.start_ticks });
    }
}

/// Whether a process may have been started by the instance.
fn is_young(process: &Process, wanted: &Wanted) -> bool {
    process.born_ms.is_none_or(|born| born.saturating_add(AGE_SLACK_MS) >= wanted.started_ms)
}

/// The parent of each process.
pub(crate) fn parents() -> BTreeMap<u32, u32> {
    process::all().into_iter().map(|(pid, stat)| (pid, stat.parent)).collect()
}

/// A process for people: `pid 812 (node api.js)`.
pub(crate) fn described(pid: u32) -> String {
    let text: String = visible(&command(pid)).to_string().chars().take(COMMAND_CHARACTERS).collect();
    if text.is_empty() { format!("pid {pid}") } else { format!("pid {pid} ({text})") }
}

/// The command line of a process, its words divided by blanks; empty if it cannot be read.
pub(crate) fn command(pid: u32) -> String {
    process::command(pid, COMMAND_BYTES).unwrap_or_default().join(" ").trim().to_owned()
}

/// The instance that the environment of a process names. Nothing without `/proc`.
pub(crate) fn instance_of(pid: u32, run: &Path) -> Option<Key> {
    let environment = process::environment(pid)?;
    membership(&environment, run).map(|member| (member.app.to_owned(), member.instance.to_owned()))
}

/// Every process that is not only waiting to be reaped.
fn table(run: &Path, secrets: &BTreeMap<Key, Secret>) -> BTreeMap<u32, Process> {
    let clock = Clock::read();
    let running = process::all().into_iter().filter(|(_, stat)| !stat.has_ended());
    let processes = running.map(|(pid, stat)| {
        let born_ms = clock.and_then(|clock| clock.born_ms(&stat));
        let Stat { parent, session, start_ticks, .. } = stat;
        (pid, Process { parent, session, start_ticks, born_ms, claims: claim(pid, run, secrets) })
    });
    processes.collect()
}

/// The instance that a process says it belongs to. Every user can set his own environment, so that of another user's
/// process proves nothing without the instance's secret.
fn claim(pid: u32, run: &Path, secrets: &BTreeMap<Key, Secret>) -> Option<Key> {
    let environment = process::environment(pid)?;
    let Membership { app, instance, secret } = membership(&environment, run)?;
    let key = (app.to_owned(), instance.to_owned());
    let proves = || secret.zip(secrets.get(&key)).is_some_and(|(claimed, secret)| secret.is(claimed));
    (process::is_ours(pid) || proves()).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(parent: u32, session: u32, born_ms: u64) -> Process {
        Process { parent, session, start_ticks: born_ms, born_ms: Some(born_ms), claims: None }
    }

    fn key(instance: &str) -> Key {
        ("shop".to_owned(), instance.to_owned())
    }

    fn members() -> Members {
        let wanted = Wanted { started_ms: 50_000, known: BTreeSet::from([100]) };
        Members {
            run: PathBuf::new(),
            wanted: BTreeMap::from([(key("blue"), wanted)]),
            secrets: BTreeMap::new(),
            living: BTreeMap::new(),
            sessions: BTreeMap::new(),
        }
    }

    #[test]
    fn kin_count_and_strangers_do_not() {
        let mut claimed = process(1, 300, 60_000);
        claimed.claims = Some(key("blue"));
        let mut nested = process(100, 10, 60_000);
        nested.claims = Some(key("green"));
        let table = BTreeMap::from([
            (10, process(1, 10, 1_000)),
            (100, process(10, 10, 50_000)),
            (101, process(100, 10, 51_000)),
            (102, process(101, 102, 52_000)),
            // Its parent has ended, but a member leads its session.
            (103, process(1, 102, 53_000)),
            // A job of the shell that became the program.
            (104, process(100, 10, 20_000)),
            (105, process(10, 10, 60_000)),
            (200, nested),
            (201, process(200, 10, 60_000)),
            (300, claimed),
        ]);
        let mut members = members();
        members.take(&table);
        assert_eq!(members.living(None), [100, 101, 102, 103, 300]);
        assert_eq!(members.living(Some(&key("green"))), [0_u32; 0]);
    }

    #[test]
    fn a_member_stays_one_until_its_number_is_another_process() {
        let mut members = members();
        let other = (7, process(1, 7, 1_000));
        members.take(&BTreeMap::from([(100, process(1, 1, 50_000)), (101, process(100, 101, 51_000))]));
        members.take(&BTreeMap::from([(101, process(1, 101, 51_000)), other.clone()]));
        assert_eq!(members.living(None), [101]);
        // What its leader leaves behind.
        members.take(&BTreeMap::from([(102, process(1, 101, 52_000)), other.clone()]));
        assert_eq!(members.living(None), [102]);
        members.take(&BTreeMap::from([other]));
        members.take(&BTreeMap::from([(101, process(1, 1, 90_000)), (102, process(1, 101, 90_000))]));
        assert_eq!(members.living(None), [0_u32; 0]);
    }
}
