//! `/proc` (proc(5)) and pidfd_open(2).
use super::{Clock, Stat};
use nix::errno::Errno;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{SysconfVar, geteuid, sysconf};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

/// Bytes that are asked for at once: most pages are shorter.
const PAGE_BYTES: usize = 4096;

pub(super) fn stat(pid: u32) -> Option<Stat> {
    // One whose name is not UTF-8 exists all the same; what counts comes after the name.
    parse(&String::from_utf8_lossy(&page(pid, "stat", u64::MAX)?))
}

pub(super) fn all() -> Vec<(u32, Stat)> {
    numbers().into_iter().filter_map(|pid| Some((pid, stat(pid)?))).collect()
}

pub(super) fn numbers() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

pub(super) fn environment(pid: u32) -> Option<Vec<u8>> {
    page(pid, "environ", u64::MAX)
}

pub(super) fn is_ours(pid: u32) -> bool {
    fs::metadata(format!("/proc/{pid}")).is_ok_and(|entry| entry.uid() == geteuid().as_raw())
}

/// A process that exists, unless it has ended. Its page may be hidden from us.
pub(super) fn running(pid: u32) -> Option<Option<Stat>> {
    match stat(pid) {
        Some(stat) if stat.has_ended() => None,
        stat => Some(stat),
    }
}

/// At most `bytes` bytes of a page of the process. Its size is not known before, and `std::fs::read` would begin with 32
/// bytes: seven times as many system calls, for each of a thousand processes.
fn page(pid: u32, name: &str, bytes: u64) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(PAGE_BYTES);
    File::open(format!("/proc/{pid}/{name}")).ok()?.take(bytes).read_to_end(&mut text).ok()?;
    Some(text)
}

/// The second field is a name in parentheses that may hold anything.
fn parse(stat: &str) -> Option<Stat> {
    let (_, after) = stat.rsplit_once(')')?;
    let mut fields = after.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let (parent, session) = (fields.next()?.parse().ok()?, fields.nth(1)?.parse().ok()?);
    // Fields 3, 4, 6 and 22.
    Some(Stat { state, parent, session, start_ticks: fields.nth(15)?.parse().ok()? })
}

pub(super) fn command(pid: u32, bytes: u64) -> Option<Vec<String>> {
    let text = page(pid, "cmdline", bytes)?;
    let text = String::from_utf8_lossy(&text);
    let words: Vec<String> = text.trim_end_matches('\0').split('\0').map(str::to_owned).collect();
    words.first().is_some_and(|program| !program.is_empty()).then_some(words)
}

pub(super) fn name(pid: u32) -> Option<String> {
    Some(String::from_utf8_lossy(&page(pid, "comm", u64::MAX)?).trim().to_owned())
}

pub(super) fn folder(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/cwd")).ok()
}

pub(super) fn clock() -> Option<Clock> {
    let ticks = u64::try_from(sysconf(SysconfVar::CLK_TCK).ok()??).ok().filter(|ticks| *ticks > 0)?;
    let ms = |clock| {
        let now = clock_gettime(clock).ok()?;
        Some(u64::try_from(now.tv_sec()).ok()? * 1_000 + u64::try_from(now.tv_nsec()).ok()? / 1_000_000)
    };
    Some(Clock {
        now_ms: ms(ClockId::CLOCK_REALTIME)?,
        up_ms: ms(ClockId::CLOCK_BOOTTIME)?,
        ticks_per_second: ticks,
    })
}

pub(super) fn end_of(pid: u32) -> Result<OwnedFd, Errno> {
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(Errno::ESRCH)?;
    // Without waiting: the descriptor may be read where nothing may block.
    pidfd_open(process, PidfdFlags::NONBLOCK).map_err(|errno| Errno::from_raw(errno.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_name_does_not_shift_the_fields() {
        let fields = (7..22).map(|number| number.to_string()).collect::<Vec<_>>().join(" ");
        let stat = parse(&format!("7 (a) b) S 5 6 4 {fields} 4242 0")).unwrap();
        assert_eq!(stat, Stat { state: 'S', parent: 5, session: 4, start_ticks: 4242 });
        assert!(parse(&format!("7 (sh) Z 1 1 1 {fields} 1")).unwrap().has_ended());
        for torn in ["", "7 (sh", "7 (sh) S", "7 (sh) S 5 6 4 7 8"] {
            assert_eq!(parse(torn), None, "{torn}");
        }
    }
}
