//! Files of the run dir: which names are taken, taking one, and clearing a stale one.
//!
//! A stream socket's file outlives its socket. Whether somebody lives behind it is asked with a *datagram*
//! socket: connecting that to the path fails with EPROTOTYPE while a stream socket is bound there, listening
//! or not yet, and with ECONNREFUSED when none is (net/unix/af_unix.c, unix_find_bsd; XNU unp_connect).
//! That is exact, and no program notices. Only holders of the run dir's lock unlink, after asking again,
//! so that nobody removes a name that somebody else has just taken.
use crate::config::Config;
use crate::names;
use crate::rawaddr::UnixName;
use crate::rewrite;
use crate::sys;
use agentfs_wire::address::Scope;
#[cfg(target_os = "linux")]
use agentfs_wire::broker::Ask;
use agentfs_wire::limits::{EPHEMERAL_COUNT, EPHEMERAL_FIRST, REUSEPORT_WORKERS};
use agentfs_wire::name::{FileName, Kind};
use core::sync::atomic::{AtomicU64, Ordering};
use libc::c_int;

mod behind;
mod lock;

pub(crate) use behind::{Behind, Prober};
use lock::Lock;

/// Permission bits of the run dir: nobody else looks in.
const PRIVATE: libc::mode_t = 0o700;
/// Random ports tried for a bind to port 0 before EADDRINUSE.
const PORT_TRIES: u32 = 256;
/// Tries of these that take the next port where a file is in the way, dead or alive: to ask which costs more than
/// another port. Where the next has one too, many have, and a stale one is taken over.
const FREE_PORT_TRIES: u32 = 1;
/// Milliseconds for which a stale file stands for the looks that were made before it was bound ([`retake_quickly`]).
const VOUCHED_MS: u64 = 20;

/// A place in the instance's port space.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// The port, 0 for any.
    pub(crate) port: u16,
    /// The address.
    pub(crate) scope: Scope,
    /// Whether the program's socket is an IPv6 one with an IPv4 address.
    pub(crate) mapped: bool,
    /// Whether the program set `SO_REUSEPORT`.
    pub(crate) shared: bool,
}

/// Binds `socket` to the file of `wanted`; the port on success.
pub(crate) fn take(config: &Config, socket: c_int, wanted: Wanted) -> sys::Result<(u16, FileName)> {
    let mut prober = Prober::new();
    if wanted.port != 0 {
        let file = take_port(config, socket, wanted, Stale::Clear, &mut prober)?;
        return Ok((wanted.port, file));
    }
    for number in 0..PORT_TRIES {
        let port = random_port();
        if !config.covers(port) {
            continue;
        }
        let stale = if number < FREE_PORT_TRIES { Stale::Keep } else { Stale::Clear };
        match take_port(config, socket, Wanted { port, ..wanted }, stale, &mut prober) {
            Ok(file) => return Ok((port, file)),
            Err(libc::EADDRINUSE) => unbound(socket)?,
            Err(errno) => return Err(errno),
        }
    }
    Err(libc::EADDRINUSE)
}

/// Puts a fresh socket in the place of one that was bound and gave its name up again.
fn unbound(socket: c_int) -> sys::Result<()> {
    if sys::own_name(socket).is_ok_and(|name| crate::rawaddr::unix_text(name.bytes()).is_empty()) {
        return Ok(());
    }
    let fresh = sys::unix_socket(libc::SOCK_STREAM)?;
    sys::replace(fresh.number(), socket, true)
}

/// What to do about a file that may be stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stale {
    /// Take its place.
    Clear,
    /// Leave it: another port will do.
    Keep,
}

fn take_port(
    config: &Config,
    socket: c_int,
    wanted: Wanted,
    stale: Stale,
    prober: &mut Prober,
) -> sys::Result<FileName> {
    let Wanted { port, scope, mapped, shared } = wanted;
    let looked = sys::coarse_ms();
    if !shared {
        let file = names::own_file(config, Kind::Listener { port, scope, worker: None });
        let name = names::path_of(config, file.as_bytes(), mapped);
        if let Some(result) = retake_quickly(config, socket, &name, scope, prober) {
            return result.map(|()| file);
        }
        take_file(config, socket, &name, stale, prober)?;
        hold(config, wanted, &name, prober)?;
        remember(&name, looked);
        return Ok(file);
    }
    // Before the file, so that whoever binds without `SO_REUSEPORT` and looks thereafter knows of the group.
    if !sys::exists(group_mark(config, port).c_path()) {
        mark_group(config, port)?;
    }
    for worker in 0..REUSEPORT_WORKERS {
        let file = names::own_file(config, Kind::Listener { port, scope, worker: Some(worker) });
        let name = names::path_of(config, file.as_bytes(), mapped);
        match take_file(config, socket, &name, stale, prober) {
            Ok(()) => {
                hold(config, wanted, &name, prober)?;
                remember(&name, looked);
                return Ok(file);
            }
            Err(libc::EADDRINUSE) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(libc::EADDRINUSE)
}

/// Keeps a name that has just been bound, or gives it up where a rival lives. Everybody binds first and looks then, so
/// of two that come at one moment at least one sees the other. Whoever does looks again under the lock and leaves: of
/// two that see one another, the first one leaves, and the second one finds nobody.
fn hold(config: &Config, wanted: Wanted, name: &UnixName, prober: &mut Prober) -> sys::Result<()> {
    if !has_rival(config, wanted, Lockable::Free, prober) {
        return Ok(());
    }
    let lock = Lock::take(config);
    if lock.is_ok() && !has_rival(config, wanted, Lockable::Held, prober) {
        return Ok(());
    }
    let _ = sys::unlink(name.c_path());
    Err(libc::EADDRINUSE)
}

/// Whether a live socket stands in the way of one that is bound.
fn has_rival(config: &Config, wanted: Wanted, lock: Lockable, prober: &mut Prober) -> bool {
    let Wanted { port, scope, shared, .. } = wanted;
    if rewrite::rivals(scope).iter().any(|rival| !is_free(config, port, *rival, lock, prober)) {
        return true;
    }
    if shared {
        return !is_free(config, port, scope, lock, prober);
    }
    sys::exists(group_mark(config, port).c_path()) && group_conflicts(config, wanted, prober)
}

/// Whether the run dir's lock can be taken, or is held by the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lockable {
    Free,
    Held,
}

/// Whether no live socket holds the name of a rival. A stale file there is removed, whoever made it: what is left of a
/// name says that no rival came after it ([`retake_quickly`]).
fn is_free(config: &Config, port: u16, scope: Scope, lock: Lockable, prober: &mut Prober) -> bool {
    let file = names::own_file(config, Kind::Listener { port, scope, worker: None });
    let name = names::path_of(config, file.as_bytes(), false);
    match prober.ask(config, &name) {
        Behind::Nothing => true,
        Behind::Stale if lock == Lockable::Held => sys::unlink(name.c_path()).is_ok(),
        Behind::Stale => matches!(sweep(config, &name, prober), Behind::Stale | Behind::Nothing),
        Behind::Socket | Behind::Unknown => false,
    }
}

/// Removes a file that was found stale; what is behind it by then. Where there is no lock to be had the file stays, as
/// the collector will find it.
fn sweep(config: &Config, name: &UnixName, prober: &mut Prober) -> Behind {
    let Ok(lock) = Lock::take(config) else { return Behind::Stale };
    let behind = prober.probe(config, name);
    if behind == Behind::Stale {
        let _ = sys::unlink(name.c_path());
    }
    drop(lock);
    behind
}

/// Whether a live socket holds this name.
fn taken(config: &Config, port: u16, scope: Scope, worker: Option<u8>, prober: &mut Prober) -> bool {
    let file = names::own_file(config, Kind::Listener { port, scope, worker });
    let name = names::path_of(config, file.as_bytes(), false);
    matches!(prober.ask(config, &name), Behind::Socket | Behind::Unknown)
}

/// Whether a member of a `SO_REUSEPORT` group on this port stands in the way: any member of the same or a
/// rival scope for a bind without `SO_REUSEPORT`, none for one with it (TCP lets groups overlap).
fn group_conflicts(config: &Config, wanted: Wanted, prober: &mut Prober) -> bool {
    if wanted.shared {
        return false;
    }
    (0..REUSEPORT_WORKERS).any(|worker| {
        taken(config, wanted.port, wanted.scope, Some(worker), prober)
            || rewrite::rivals(wanted.scope)
                .iter()
                .any(|rival| taken(config, wanted.port, *rival, Some(worker), prober))
    })
}

/// The file that says that a port has `SO_REUSEPORT` members, whatever their scopes.
pub(crate) fn group_mark(config: &Config, port: u16) -> UnixName {
    let file = names::own_file(config, Kind::Group { port, scope: Scope::AnyV4 });
    names::path_of(config, file.as_bytes(), false)
}

fn mark_group(config: &Config, port: u16) -> sys::Result<()> {
    let mark = group_mark(config, port);
    let make = || sys::open(mark.c_path(), libc::O_CREAT | libc::O_WRONLY | libc::O_NOFOLLOW, 0o600);
    match make() {
        Err(libc::ENOENT) if remake(config) => make(),
        result => result,
    }
    .map(|_| ())
}

/// Whether `name` is there: access(2), in a run dir that is opened again where somebody closed it.
pub(crate) fn look(config: &Config, name: &UnixName) -> sys::Result<()> {
    match sys::access(name.c_path()) {
        Err(libc::EACCES) if reopen(config) => sys::access(name.c_path()),
        result => result,
    }
}

/// Opens the run dir to its owner again. `false` where it is not ours: this process changed its user.
fn reopen(config: &Config) -> bool {
    sys::change_mode(UnixName::path(&[config.run()]).c_path(), PRIVATE).is_ok()
}

/// Makes the run dir again after somebody removed it.
fn remake(config: &Config) -> bool {
    sys::make_folder(UnixName::path(&[config.run()]).c_path(), PRIVATE).is_ok()
}

/// The name that this process took last and when it looked for rivals: the upper half of the name's fingerprint, then
/// milliseconds. A program that binds that name again has mostly closed it, so that its file is stale: then neither the
/// attempt to bind nor the first question is worth its while.
static LAST_TAKEN: AtomicU64 = AtomicU64::new(0);
/// The part of [`LAST_TAKEN`] that stands for the name.
const NAME: u64 = !0xffff_ffff;

fn remember(name: &UnixName, looked: u64) {
    LAST_TAKEN.store(fingerprint(name.bytes()) & NAME | looked & !NAME, Ordering::Relaxed);
}

/// How long ago this process looked for rivals of the name that it took last, if that is this one; milliseconds.
fn last_taken(name: &UnixName) -> Option<u64> {
    let last = LAST_TAKEN.load(Ordering::Relaxed);
    (last & NAME == fingerprint(name.bytes()) & NAME).then(|| sys::coarse_ms().wrapping_sub(last) & !NAME)
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
fn retake_quickly(
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
fn take_file(
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

/// A number that stands for some bytes (FNV-1a).
pub(crate) fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The file name of a path that was made from one, and whether the path is spelt with a doubled slash.
#[cfg(target_os = "linux")]
fn file_of<'a>(config: &Config, name: &'a UnixName) -> sys::Result<(&'a str, bool)> {
    names::file_of(config.run(), crate::rawaddr::unix_text(name.bytes())).ok_or(libc::EACCES)
}

/// Has a socket bound in a run dir that this process may not enter, and puts it in the place of `socket`.
#[cfg(target_os = "linux")]
fn take_by_broker(config: &Config, socket: c_int, name: &UnixName) -> sys::Result<()> {
    let (file, mapped) = file_of(config, name)?;
    let bound = crate::broker::ask(config, Ask::Bind { file, mapped })?.ok_or(libc::EACCES)?;
    sys::replace(bound.number(), socket, true)
}

/// macOS keeps a process that changed its user out.
#[cfg(not(target_os = "linux"))]
fn take_by_broker(_config: &Config, _socket: c_int, _name: &UnixName) -> sys::Result<()> {
    Err(libc::EACCES)
}

/// Gives the file of a socket of this process to another socket.
#[cfg(target_os = "linux")]
pub(crate) fn rebind(config: &Config, socket: c_int, name: &UnixName) -> sys::Result<()> {
    /// Times that somebody who heeds no lock may put the old file back in between.
    const TRIES: u32 = 8;
    let lock = Lock::take(config)?;
    let mut result = Err(libc::EADDRINUSE);
    for _ in 0..TRIES {
        result = match sys::unlink(name.c_path()) {
            Ok(()) | Err(libc::ENOENT) => sys::bind(socket, name.bytes()),
            refused => refused,
        };
        if result != Err(libc::EADDRINUSE) {
            break;
        }
    }
    drop(lock);
    result
}

/// Removes the file of a socket that is bound to it and about to go.
pub(crate) fn release(config: &Config, file: &[u8]) {
    let name = names::path_of(config, file, false);
    if let Ok(lock) = Lock::take(config) {
        let _ = sys::unlink(name.c_path());
        drop(lock);
    }
}

/// Removes the file of a socket that has just been replaced, unless another process still holds the socket.
pub(crate) fn release_stale(config: &Config, file: &[u8]) {
    let name = names::path_of(config, file, false);
    if let Ok(lock) = Lock::take(config) {
        if Prober::new().ask(config, &name) == Behind::Stale {
            let _ = sys::unlink(name.c_path());
        }
        drop(lock);
    }
}

/// A port of the private ephemeral range. Each process walks it from a place of its own, so that processes
/// that bind at the same time seldom meet; the file decides.
pub(crate) fn random_port() -> u16 {
    static STATE: AtomicU64 = AtomicU64::new(0);
    let mut seed = STATE.fetch_add(1, Ordering::Relaxed);
    seed ^= u64::from(sys::process_id()) << 32;
    seed ^= sys::monotonic_ns() << 8;
    // splitmix64 (Steele, Lea, Flood 2014): every bit of the seed reaches every bit of the result.
    seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    seed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    seed = (seed ^ (seed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    seed ^= seed >> 31;
    EPHEMERAL_FIRST + u16::try_from(seed % u64::from(EPHEMERAL_COUNT)).unwrap_or(0)
}
