//! Files of the run dir: which names are taken, taking one, and removing a stale one.
//!
//! The file of a stream socket stays when its socket is closed. To find out whether a socket is still bound to it, a
//! *datagram* socket is connected to the path. That fails with EPROTOTYPE while a stream socket is bound there,
//! listening or not, and with ECONNREFUSED when none is (net/unix/af_unix.c, unix_find_bsd; XNU unp_connect). The
//! answer is exact, and the other program does not notice. Only a process that holds the run dir's lock unlinks a file,
//! and it asks again before. So nobody removes a name that somebody else has just taken.
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

/// Random ports that are tried for a bind to port 0 before EADDRINUSE.
const PORT_TRIES: u32 = 256;
/// The first tries for port 0, which go to the next port if a file exists, stale or not: another port costs less than
/// asking. If the next port has a file too, there are many files, and a stale one is replaced.
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

/// Binds `socket` to the file of `wanted`. Returns the port and the file. The caller has blocked signals.
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

/// Replaces a socket that was bound and then gave up its name: a socket cannot be bound twice.
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
    // The mark comes before the file: who binds without `SO_REUSEPORT` and looks after that sees the group.
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

/// Keeps a name that has just been bound, or gives it up if a live socket has a rival name.
/// 1. Everybody binds first and looks for rivals second. So of two sockets that bind at the same moment, at least one
///    sees the other.
/// 2. Who sees a rival looks again under the lock, and gives up if it is still there. So if both see each other, the
///    first one gives up, and the second one finds no rival.
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

/// Whether a live socket has a rival name of one that is bound.
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

/// Whether no live socket has the name of a rival. A stale file there is removed, whoever made it: [`retake_quickly`]
/// takes a stale file as proof that no rival came after it.
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

/// Removes a file that was found stale. Returns what is behind it when it is asked again. Without the lock the file
/// stays, and the collector removes it.
fn sweep(config: &Config, name: &UnixName, prober: &mut Prober) -> Behind {
    let Ok(lock) = Lock::take(config) else { return Behind::Stale };
    let behind = prober.probe(config, name);
    if behind == Behind::Stale {
        let _ = sys::unlink(name.c_path());
    }
    drop(lock);
    behind
}

/// Whether a live socket has this name.
fn taken(config: &Config, port: u16, scope: Scope, worker: Option<u8>, prober: &mut Prober) -> bool {
    let file = names::own_file(config, Kind::Listener { port, scope, worker });
    let name = names::path_of(config, file.as_bytes(), false);
    matches!(prober.ask(config, &name), Behind::Socket | Behind::Unknown)
}

/// Whether a bind conflicts with a member of a `SO_REUSEPORT` group on this port. Without `SO_REUSEPORT` it conflicts
/// with any member of the same or a rival scope; with it, with none (TCP lets groups overlap).
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

/// The file that says that a port has `SO_REUSEPORT` members of any scope.
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
