//! Binding a socket to one file, which may be there already, alive or stale.
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

/// Milliseconds for which a stale file stands for the looks that were made before it was bound ([`retake_quickly`]).
const VOUCHED_MS: u64 = 20;

/// The name that this process took last and when it looked for rivals: the upper half of the name's fingerprint, then
/// milliseconds. A program that binds that name again has mostly closed it, so that its file is stale: then neither the
/// attempt to bind nor the first question is worth its while.
static LAST_TAKEN: AtomicU64 = AtomicU64::new(0);

/// The part of [`LAST_TAKEN`] that stands for the name.
const NAME: u64 = !0xffff_ffff;

pub(super) fn remember(name: &UnixName, looked: u64) {
    LAST_TAKEN.store(fingerprint(name.bytes()) & NAME | looked & !NAME, Ordering::Relaxed);
}

/// How long ago this process looked for rivals of the name that it took last, if that is this one; milliseconds.
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

/// Takes the name that this process took a moment ago, without looking for rivals: where its file is there and stale,
/// none can be alive. `None` where that cannot be told, and all the looks are due.
///
/// Why the file is proof. Let F be the stale file at this name, found so under the lock.
/// - Whoever bound F looked for rivals then ([`hold`]), or took the place of a stale file, under the lock, by these
///   lines; so a rival that lives was bound after those looks, which are [`VOUCHED_MS`] old at the most.
/// - Every rival looks at this name after it has bound its own ([`has_rival`]; each scope that is let in here is a rival
///   of its rivals, and a member of a `SO_REUSEPORT` group looks as well). Had it found F alive it would have left; had
///   it found F stale it would have removed it; then there is nothing here, and all the looks are made. If it has not
///   looked yet, it will find the new socket, and leave.
/// - What is left is a rival that looked at this name while nothing was there, between the unlink and the bind of
///   [`retake`]; or one that could get no lock. What looks would end at the next bind ends here after [`VOUCHED_MS`].
///
/// Nobody but the holder of the lock unlinks, so F is not somebody else's by the time it goes.
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
        // Whatever is wrong shows again after the looks.
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
        // Otherwise something is wrong with the lock, or this process changed its user meanwhile.
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

/// What to do where no file is in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Absent {
    /// Bind.
    Bind,
    /// Leave it.
    Leave,
}

/// Binds `socket` to a file that is probably stale, clearing it if it is; whether it is bound.
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
        // Where it cannot be told, bind still refuses what is there.
        Behind::Nothing | Behind::Unknown => sys::bind(socket, name.bytes()),
    };
    drop(lock);
    result.map(|()| true)
}

/// Has a socket bound in a run dir that this process may not enter, and puts it in the place of `socket`.
#[cfg(target_os = "linux")]
fn take_by_broker(config: &Config, socket: c_int, name: &UnixName) -> sys::Result<()> {
    let (file, mapped) = file_of(config, name)?;
    let bound = crate::broker::ask(config, Ask::Bind { file, mapped })?.ok_or(libc::EACCES)?;
    sys::replace(&bound, socket, true)
}

/// macOS keeps a process that changed its user out.
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
