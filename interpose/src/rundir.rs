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
use agentfs_wire::limits::REUSEPORT_WORKERS;
use agentfs_wire::name::{FileName, Kind};
use libc::c_int;

mod access;
mod behind;
mod claim;
mod lock;
mod ports;
mod release;

pub(crate) use access::look;
use access::remake;
pub(crate) use behind::{Behind, Prober};
pub(crate) use claim::fingerprint;
use claim::{Stale, remember, retake_quickly, take_file};
use lock::Lock;
pub(crate) use ports::random_port;
#[cfg(target_os = "linux")]
pub(crate) use release::rebind;
pub(crate) use release::{release, release_stale};

/// Random ports tried for a bind to port 0 before EADDRINUSE.
const PORT_TRIES: u32 = 256;
/// Tries of these that take the next port where a file is in the way, dead or alive: to ask which costs more than
/// another port. Where the next has one too, many have, and a stale one is taken over.
const FREE_PORT_TRIES: u32 = 1;
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
    sys::replace(&fresh, socket, true)
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
