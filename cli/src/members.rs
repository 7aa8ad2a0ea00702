//! Finds every process of instances that are about to be stopped, also those that the collector does not know:
//! a daemon with a session of its own, a program that wrote a title over its environment, a static program, one that
//! became another user.
//!
//! A process is a member if the collector names it, if its environment names the instance, if it has one of the
//! instance's listeners open, if its parent is a member, or if a member leads its session. Once a member, it stays
//! one: its parent may end first. Nobody is a member who is older than the instance, or whose own environment names
//! another instance.
use agentfs_wire::control::InstanceInfo;
use agentfs_wire::text::visible;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// An instance, by app and name.
pub(crate) type Key = (String, String);

/// Milliseconds that a process may seem older than it is: the kernel counts in ticks, and the clock may be set.
const AGE_SLACK_MS: u64 = 2_000;

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
    pub(crate) start: u64,
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
    /// Its start, as in [`Process::start`].
    start: u64,
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
    living: BTreeMap<u32, Member>,
    /// Sessions that a member leads or led.
    sessions: BTreeMap<u32, Key>,
}

// === impl Members ===

impl Members {
    /// The members of `instances`. Nothing is looked for yet.
    pub(crate) fn of(run: PathBuf, instances: &[&InstanceInfo]) -> Self {
        let wanted = instances.iter().map(|info| {
            let key = (info.app.clone(), info.instance.clone());
            (key, Wanted { started_ms: info.started_ms, known: BTreeSet::new() })
        });
        Self { run, wanted: wanted.collect(), living: BTreeMap::new(), sessions: BTreeMap::new() }
    }

    /// Adds processes that the collector or a socket names.
    pub(crate) fn know(&mut self, key: &Key, pids: impl IntoIterator<Item = u32>) {
        if let Some(wanted) = self.wanted.get_mut(key) {
            wanted.known.extend(pids);
        }
    }

    /// Looks again: who has ended is dropped, who is new is added. Without `/proc`, those that are known.
    pub(crate) fn look(&mut self) {
        let table = system::table(&self.run);
        self.take(&table);
    }

    /// The living members of one instance, or of all.
    pub(crate) fn living(&self, key: Option<&Key>) -> Vec<u32> {
        let of_key = |member: &Member| key.is_none_or(|key| member.key == *key);
        self.living.iter().filter(|(_, member)| of_key(member)).map(|(pid, _)| *pid).collect()
    }

    fn take(&mut self, table: &BTreeMap<u32, Process>) {
        self.living.retain(|pid, member| table.get(pid).is_some_and(|process| process.start == member.start));
        // While a session has a process, no other gets its number.
        self.sessions.retain(|session, _| table.values().any(|process| process.session == *session));
        for (pid, process) in table {
            let by_name = self.wanted.iter().find(|(key, wanted)| {
                wanted.known.contains(pid)
                    || process.claims.as_ref() == Some(key) && is_young(process, wanted)
            });
            let key = by_name.map(|(key, _)| key.clone());
            if let Some(key) = key {
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
        self.living.entry(pid).or_insert(Member { key, start: process.start });
    }
}

/// Whether a process may have been started by the instance.
fn is_young(process: &Process, wanted: &Wanted) -> bool {
    process.born_ms.is_none_or(|born| born.saturating_add(AGE_SLACK_MS) >= wanted.started_ms)
}

/// The parent of each process.
pub(crate) fn parents(run: &Path) -> BTreeMap<u32, u32> {
    system::table(run).into_iter().map(|(pid, process)| (pid, process.parent)).collect()
}

/// A process for people: `pid 812 (node api.js)`.
pub(crate) fn described(pid: u32) -> String {
    let command = system::command(pid);
    let text: String = visible(command.trim()).to_string().chars().take(COMMAND_CHARACTERS).collect();
    if text.is_empty() { format!("pid {pid}") } else { format!("pid {pid} ({text})") }
}

/// The command line of a process, its words divided by blanks; empty if it cannot be read.
pub(crate) fn command(pid: u32) -> String {
    system::command(pid).trim().to_owned()
}

/// The working directory of a process, if we may know it.
pub(crate) fn folder(pid: u32) -> Option<PathBuf> {
    system::folder(pid)
}

/// The instance that the environment of a process names.
pub(crate) fn instance_of(pid: u32, run: &Path) -> Option<Key> {
    system::instance_of(pid, run)
}

#[cfg(target_os = "linux")]
mod system {
    use super::{Key, Process};
    use crate::duration::now_ms;
    use agentfs_wire::environ::membership;
    use nix::time::{ClockId, clock_gettime};
    use nix::unistd::{SysconfVar, geteuid, sysconf};
    use std::collections::BTreeMap;
    use std::fs;
    use std::os::unix::fs::MetadataExt as _;
    use std::path::{Path, PathBuf};

    /// Every process that is not only waiting to be reaped (proc(5)).
    pub(super) fn table(run: &Path) -> BTreeMap<u32, Process> {
        let Ok(entries) = fs::read_dir("/proc") else { return BTreeMap::new() };
        let clock = Clock::read();
        let processes = entries.flatten().filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            let mut process = parse(&stat)?;
            process.born_ms = clock.as_ref().and_then(|clock| clock.born_ms(process.start));
            // Every user can set his own environment, so that of another user's process proves nothing.
            let own = entry.metadata().is_ok_and(|metadata| metadata.uid() == geteuid().as_raw());
            if own {
                process.claims = instance_of(pid, run);
            }
            Some((pid, process))
        });
        processes.collect()
    }

    /// The fields of `/proc/PID/stat`. The second is a name in parentheses that may hold anything.
    pub(super) fn parse(stat: &str) -> Option<Process> {
        let (_, after) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = after.split_ascii_whitespace().collect();
        if matches!(*fields.first()?, "Z" | "X") {
            return None;
        }
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        let pid = |index: usize| u32::try_from(number(index)?).ok();
        Some(Process { parent: pid(1)?, session: pid(3)?, start: number(19)?, ..Process::default() })
    }

    pub(super) fn instance_of(pid: u32, run: &Path) -> Option<Key> {
        let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
        membership(&environment, run).map(|member| (member.app.to_owned(), member.instance.to_owned()))
    }

    pub(super) fn folder(pid: u32) -> Option<PathBuf> {
        fs::read_link(format!("/proc/{pid}/cwd")).ok()
    }

    pub(super) fn command(pid: u32) -> String {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&words).replace('\0', " ")
    }

    /// What makes Unix time of ticks since boot.
    struct Clock {
        now_ms: u64,
        up_ms: u64,
        ticks_per_second: u64,
    }

    impl Clock {
        fn read() -> Option<Self> {
            let ticks = u64::try_from(sysconf(SysconfVar::CLK_TCK).ok()??).ok().filter(|ticks| *ticks > 0)?;
            let up = clock_gettime(ClockId::CLOCK_BOOTTIME).ok()?;
            let up_ms =
                u64::try_from(up.tv_sec()).ok()? * 1_000 + u64::try_from(up.tv_nsec()).ok()? / 1_000_000;
            Some(Self { now_ms: now_ms(), up_ms, ticks_per_second: ticks })
        }

        fn born_ms(&self, start: u64) -> Option<u64> {
            let age_ms = self.up_ms.checked_sub(start.checked_mul(1_000)? / self.ticks_per_second)?;
            self.now_ms.checked_sub(age_ms)
        }
    }
}

/// Only those that are known: they are asked with kill(2).
#[cfg(not(target_os = "linux"))]
mod system {
    use super::{Key, Process};
    use std::collections::BTreeMap;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    /// Every process, as ps(1) shows it. It does not show environments.
    pub(super) fn table(_run: &Path) -> BTreeMap<u32, Process> {
        let output = Command::new("/bin/ps").args(["-axo", "pid=,ppid=,sess=,state="]).output();
        let text = output.map(|output| output.stdout).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().filter_map(parse).collect()
    }

    fn parse(line: &str) -> Option<(u32, Process)> {
        let mut words = line.split_ascii_whitespace();
        let (pid, parent) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let (_, state) = (words.next()?, words.next()?);
        (!state.starts_with('Z')).then(|| (pid, Process { parent, ..Process::default() }))
    }

    pub(super) fn instance_of(_pid: u32, _run: &Path) -> Option<Key> {
        None
    }

    /// As lsof(8) shows it.
    pub(super) fn folder(pid: u32) -> Option<PathBuf> {
        let output =
            Command::new("/usr/sbin/lsof").args(["-a", "-d", "cwd", "-Fn", "-p", &pid.to_string()]).output();
        let text = String::from_utf8(output.ok()?.stdout).ok()?;
        text.lines().find_map(|line| line.strip_prefix('n')).map(PathBuf::from)
    }

    pub(super) fn command(pid: u32) -> String {
        let output = Command::new("/bin/ps").args(["-o", "command=", "-p", &pid.to_string()]).output();
        String::from_utf8_lossy(&output.map(|output| output.stdout).unwrap_or_default()).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(parent: u32, session: u32, born_ms: u64) -> Process {
        Process { parent, session, start: born_ms, born_ms: Some(born_ms), claims: None }
    }

    fn key(instance: &str) -> Key {
        ("shop".to_owned(), instance.to_owned())
    }

    fn members() -> Members {
        let wanted = Wanted { started_ms: 50_000, known: BTreeSet::from([100]) };
        Members {
            run: PathBuf::new(),
            wanted: BTreeMap::from([(key("blue"), wanted)]),
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

    #[cfg(target_os = "linux")]
    #[test]
    fn a_hostile_name_does_not_shift_the_fields() {
        let fields = (9..=21).map(|n| n.to_string()).collect::<Vec<_>>().join(" ");
        let stat = format!("7 (a) b) S 5 6 4 {fields} 0 0 4242 0");
        let read = system::parse(&stat).unwrap();
        assert_eq!((read.parent, read.session), (5, 4));
        assert!(system::parse("7 (sh) Z 1 1 1 0").is_none());
    }
}
