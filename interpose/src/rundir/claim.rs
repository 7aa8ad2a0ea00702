//! Binding a socket to one file, which may already exist, in use or stale.
#[cfg(target_os = "linux")]
use super::access::file_of;
use super::access::{remake, reopen};
use super::behind::{Behind, Prober};
use super::lock::Lock;
use crate::config::Config;
use crate::rawaddr::UnixName;
use crate::rewrite;
use crate::sys;
use agentfs_wire::address::Scope;
#[cfg(target_os = "linux")]
use agentfs_wire::broker::Ask;
use core::sync::atomic::{AtomicU64, Ordering};
use libc::c_int;

/// Milliseconds for which a stale file proves that there is no rival ([`retake_quickly`]).
const VOUCHED_MS: u64 = 20;

/// The name that this process took last, and when it looked for rivals: the upper half of the name's fingerprint, then
/// milliseconds. A program that binds this name again has usually closed its socket, and the file is stale. So it
/// starts with the lock, and saves one bind and one question that would tell nothing new.
static LAST_TAKEN: AtomicU64 = AtomicU64::new(0);

/// The part of [`LAST_TAKEN`] that stands for the name.
const NAME: u64 = !0xffff_ffff;

pub(super) fn remember(name: &UnixName, looked: u64) {
    LAST_TAKEN.store(fingerprint(name.bytes()) & NAME | looked & !NAME, Ordering::Relaxed);
}

/// Milliseconds since this process looked for rivals of this name, if it is the name that it took last.
fn last_taken(name: &UnixName) -> Option<u64> {
    let last = LAST_TAKEN.load(Ordering::Relaxed);
    (last & NAME == fingerprint(name.bytes()) & NAME).then(|| sys::coarse_ms().wrapping_sub(last) & !NAME)
}

/// What to do about a file that may be stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stale {
    /// Take its place.
    Clear,
    /// Leave it: another port will do.
    Keep,
}

/// Takes the name that this process took a moment ago without looking for rivals: if its file exists and is stale, no
/// rival is alive. `None` if that is not certain; then the caller looks for rivals.
///
/// Why the file is proof: let F be the stale file at this name, found under the lock.
/// 1. Who bound F looked for rivals at that time ([`hold`]), or replaced a stale file by this function. So a live rival
///    was bound later than that, and that is [`VOUCHED_MS`] ago at most.
/// 2. Every rival looks at this name after it has bound its own ([`has_rival`]). Each scope that gets here is a rival
///    of its rivals, and members of `SO_REUSEPORT` groups look as well.
///    - If the rival found F in use, it gave up.
///    - If it found F stale, it removed F. Then there is no file here, and the caller looks for rivals.
///    - If it has not looked yet, it will find the new socket, and give up.
/// 3. One exception: a rival that looked between the unlink and the bind of [`retake`], or could not get the lock. It
///    and the new socket may both live until somebody binds [`VOUCHED_MS`] later.
///
/// Only a process that holds the lock unlinks, so F is still the same file when it is removed.
///
/// [`hold`]: super::hold
/// [`has_rival`]: super::has_rival
pub(super) fn retake_quickly(
    config: &Config,
    socket: c_int,
    name: &UnixName,
    scope: Scope,
    prober: &mut Prober,
) -> Option<sys::Result<()>> {
    if last_taken(name)? >= VOUCHED_MS || !rewrite::is_seen_by_rivals(scope) {
        return None;
    }
    match retake(config, socket, name, Absent::Leave, prober) {
        Ok(true) => Some(Ok(())),
        Err(libc::EADDRINUSE) => Some(Err(libc::EADDRINUSE)),
        // The caller will meet the same error after it has looked for rivals.
        Ok(false) | Err(_) => None,
    }
}

/// Binds `socket` to one file.
pub(super) fn take_file(
    config: &Config,
    socket: c_int,
    name: &UnixName,
    stale: Stale,
    prober: &mut Prober,
) -> sys::Result<()> {
    if last_taken(name).is_some() {
        let result = retake(config, socket, name, Absent::Bind, prober);
        // Other errors are about the lock, or this process changed its user.
        if matches!(result, Ok(_) | Err(libc::EADDRINUSE)) {
            return result.map(|_| ());
        }
    }
    let bound = match sys::bind(socket, name.bytes()) {
        Err(libc::EACCES) if reopen(config) => sys::bind(socket, name.bytes()),
        Err(libc::ENOENT) if remake(config) => sys::bind(socket, name.bytes()),
        result => result,
    };
    match bound {
        Err(libc::EADDRINUSE) => {
            if stale == Stale::Keep || prober.probe(config, name) == Behind::Socket {
                return Err(libc::EADDRINUSE);
            }
            retake(config, socket, name, Absent::Bind, prober).map(|_| ())
        }
        Err(libc::EACCES) => take_by_broker(config, socket, name),
        result => result,
    }
}

/// What to do if there is no file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Absent {
    /// Bind.
    Bind,
    /// Do nothing.
    Leave,
}

/// Binds `socket` to a name whose file is probably stale, and removes the file if it is. Returns whether it is bound.
fn retake(
    config: &Config,
    socket: c_int,
    name: &UnixName,
    absent: Absent,
    prober: &mut Prober,
) -> sys::Result<bool> {
    let lock = Lock::take(config)?;
    let result = match prober.probe(config, name) {
        Behind::Stale => sys::unlink(name.c_path()).and_then(|()| sys::bind(socket, name.bytes())),
        Behind::Socket => Err(libc::EADDRINUSE),
        Behind::Nothing | Behind::Unknown if absent == Absent::Leave => {
            drop(lock);
            return Ok(false);
        }
        // If nobody knows, bind itself refuses a file that exists.
        Behind::Nothing | Behind::Unknown => sys::bind(socket, name.bytes()),
    };
    drop(lock);
    result.map(|()| true)
}

/// Has the broker bind a socket in a run dir that this process cannot enter, and replaces `socket` by it.
#[cfg(target_os = "linux")]
fn take_by_broker(config: &Config, socket: c_int, name: &UnixName) -> sys::Result<()> {
    let (file, mapped) = file_of(config, name)?;
    let bound = crate::broker::ask(config, Ask::Bind { file, mapped })?.ok_or(libc::EACCES)?;
    sys::replace(&bound, socket, true)
}

/// There is no broker on macOS.
#[cfg(not(target_os = "linux"))]
fn take_by_broker(_config: &Config, _socket: c_int, _name: &UnixName) -> sys::Result<()> {
    Err(libc::EACCES)
}

/// A number that stands for some bytes (FNV-1a).
pub(crate) fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
