//! ps(1), lsof(8) and kqueue(2) (compiled, but not run on a Mac yet).
use super::{Clock, Stat};
use nix::errno::Errno;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Command;

const FIELDS: &str = "pid=,ppid=,state=";

pub(super) fn stat(pid: u32) -> Option<Stat> {
    let text = printed("/bin/ps", &["-o", FIELDS, "-p", &pid.to_string()])?;
    text.lines().find_map(parse).map(|(_, stat)| stat)
}

pub(super) fn all() -> Vec<(u32, Stat)> {
    let text = printed("/bin/ps", &["-axo", FIELDS]).unwrap_or_default();
    text.lines().filter_map(parse).collect()
}

pub(super) fn numbers() -> Vec<u32> {
    Vec::new()
}

pub(super) fn environment(_pid: u32) -> Option<Vec<u8>> {
    None
}

pub(super) fn is_ours(_pid: u32) -> bool {
    false
}

/// A process that exists, unless it has ended: kqueue(2) refuses to wait for one (ESRCH), though kill(2) still finds it.
pub(super) fn running(pid: u32) -> Option<Option<Stat>> {
    (end_of(pid).err() != Some(Errno::ESRCH)).then_some(None)
}

/// A session is shown as an address, and the start only to the second.
fn parse(line: &str) -> Option<(u32, Stat)> {
    let mut words = line.split_ascii_whitespace();
    let (pid, parent) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let state = words.next()?.chars().next()?;
    Some((pid, Stat { state, parent, session: 0, start_ticks: 0 }))
}

/// ps divides the words by blanks, as those inside them.
pub(super) fn command(pid: u32, bytes: u64) -> Option<Vec<String>> {
    let mut text = printed("/bin/ps", &["-o", "command=", "-p", &pid.to_string()])?;
    let end = text.floor_char_boundary(usize::try_from(bytes).unwrap_or(usize::MAX));
    text.truncate(end);
    let words: Vec<String> = text.split_ascii_whitespace().map(str::to_owned).collect();
    (!words.is_empty()).then_some(words)
}

pub(super) fn name(pid: u32) -> Option<String> {
    let path = printed("/bin/ps", &["-o", "comm=", "-p", &pid.to_string()])?;
    path.trim().rsplit('/').next().filter(|name| !name.is_empty()).map(str::to_owned)
}

pub(super) fn folder(pid: u32) -> Option<PathBuf> {
    let text = printed("/usr/sbin/lsof", &["-a", "-d", "cwd", "-Fn", "-p", &pid.to_string()])?;
    text.lines().find_map(|line| line.strip_prefix('n')).map(PathBuf::from)
}

pub(super) fn clock() -> Option<Clock> {
    None
}

fn printed(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `NOTE_EXIT` of a queue of its own.
pub(super) fn end_of(pid: u32) -> Result<OwnedFd, Errno> {
    use nix::sys::event::{EvFlags, EventFilter, FilterFlag, KEvent, Kqueue};
    let ident = usize::try_from(pid).map_err(|_| Errno::ESRCH)?;
    let queue = Kqueue::new()?;
    let flags = EvFlags::EV_ADD | EvFlags::EV_ONESHOT;
    let change = KEvent::new(ident, EventFilter::EVFILT_PROC, flags, FilterFlag::NOTE_EXIT, 0, 0);
    let at_once = nix::libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // If there is no room for events, the call itself returns the error of the change (kqueue(2)).
    queue.kevent(&[change], &mut [], Some(at_once))?;
    Ok(OwnedFd::from(queue))
}
