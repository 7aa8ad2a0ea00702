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

/// Tries at the run dir's lock, 1 ms apart but for the first few. Its holders do four system calls; after this
/// long the lock is somebody's who was stopped in between, and the bind fails with EADDRINUSE.
const LOCK_TRIES: u32 = 2000;
/// Permission bits of the run dir: nobody else looks in.
const PRIVATE: libc::mode_t = 0o700;
/// The first tries, which follow one another faster: the holder is mostly done within microseconds.
const QUICK_LOCK_TRIES: u32 = 20;
/// Random ports tried for a bind to port 0 before EADDRINUSE.
const PORT_TRIES: u32 = 256;
/// Tries of these that take the next port where a file is in the way, dead or alive. To ask which costs more than
/// another port. The rest clears stale files.
const FREE_PORT_TRIES: u32 = 192;

/// What is behind a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behind {
    /// A bound stream socket.
    Socket,
    /// A socket file that nobody holds.
    Stale,
    /// No file.
    Nothing,
    /// Something else, or it cannot be told.
    Unknown,
}

/// Asks what is behind paths; opens its socket only when it is needed.
pub(crate) struct Prober(Option<c_int>);

// === impl Prober ===

impl Prober {
    /// A prober that has asked nothing.
    pub(crate) fn new() -> Self {
        Self(None)
    }

    /// Asks. Where nothing is, which is the rule, this takes one look at the file system.
    pub(crate) fn ask(&mut self, config: &Config, name: &UnixName) -> Behind {
        match look(config, name) {
            Ok(()) => self.probe(config, name),
            Err(libc::EACCES) => by_broker(config, name),
            Err(_) => Behind::Nothing,
        }
    }

    /// Asks for a name that is known to be there, or to have been there a moment ago.
    fn probe(&mut self, config: &Config, name: &UnixName) -> Behind {
        let fd = match self.0 {
            Some(fd) => fd,
            None => match sys::unix_socket(libc::SOCK_DGRAM) {
                Ok(fd) => *self.0.insert(fd),
                Err(_) => return Behind::Unknown,
            },
        };
        match sys::connect(fd, name.bytes()) {
            Err(libc::EPROTOTYPE) => Behind::Socket,
            Err(libc::ECONNREFUSED) => Behind::Stale,
            Err(libc::ENOENT) => Behind::Nothing,
            Err(libc::EACCES) => by_broker(config, name),
            _ => Behind::Unknown,
        }
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        if let Some(fd) = self.0 {
            sys::close(fd);
        }
    }
}

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
            Err(libc::EADDRINUSE) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(libc::EADDRINUSE)
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
    for rival in rewrite::rivals(scope) {
        if taken(config, port, *rival, None, prober) {
            return Err(libc::EADDRINUSE);
        }
    }
    let grouped = sys::exists(group_mark(config, port).c_path());
    if grouped && group_conflicts(config, wanted, prober) {
        return Err(libc::EADDRINUSE);
    }
    if !shared {
        let file = names::own_file(config, Kind::Listener { port, scope, worker: None });
        let name = names::path_of(config, file.as_bytes(), mapped);
        return take_file(config, socket, &name, stale, prober).map(|()| file);
    }
    if taken(config, port, scope, None, prober) {
        return Err(libc::EADDRINUSE);
    }
    if !grouped {
        mark_group(config, port)?;
    }
    for worker in 0..REUSEPORT_WORKERS {
        let file = names::own_file(config, Kind::Listener { port, scope, worker: Some(worker) });
        let name = names::path_of(config, file.as_bytes(), mapped);
        match take_file(config, socket, &name, stale, prober) {
            Ok(()) => return Ok(file),
            Err(libc::EADDRINUSE) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(libc::EADDRINUSE)
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
    let fd = match make() {
        Err(libc::ENOENT) if remake(config) => make(),
        result => result,
    }?;
    sys::close(fd);
    Ok(())
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

/// The name that this process took last, as a fingerprint. A program that binds it again has mostly closed it, so
/// that its file is stale: then neither the attempt to bind nor the first question is worth its while. Only the
/// order of the steps depends on it.
static LAST_TAKEN: AtomicU64 = AtomicU64::new(0);

/// Binds `socket` to one file.
fn take_file(
    config: &Config,
    socket: c_int,
    name: &UnixName,
    stale: Stale,
    prober: &mut Prober,
) -> sys::Result<()> {
    let fingerprint = fingerprint(name.bytes());
    if LAST_TAKEN.load(Ordering::Relaxed) == fingerprint {
        let result = retake(config, socket, name, prober);
        // Otherwise something is wrong with the lock, or this process changed its user meanwhile.
        if matches!(result, Ok(()) | Err(libc::EADDRINUSE)) {
            return result;
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
            retake(config, socket, name, prober)?;
        }
        Err(libc::EACCES) => return take_by_broker(config, socket, name),
        result => result?,
    }
    LAST_TAKEN.store(fingerprint, Ordering::Relaxed);
    Ok(())
}

/// Binds `socket` to a file that is probably stale, clearing it if it is.
fn retake(config: &Config, socket: c_int, name: &UnixName, prober: &mut Prober) -> sys::Result<()> {
    let lock = Lock::take(config)?;
    let result = match prober.probe(config, name) {
        Behind::Stale => sys::unlink(name.c_path()).and_then(|()| sys::bind(socket, name.bytes())),
        // Where it cannot be told, bind still refuses what is there.
        Behind::Nothing | Behind::Unknown => sys::bind(socket, name.bytes()),
        Behind::Socket => Err(libc::EADDRINUSE),
    };
    drop(lock);
    result
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

/// Asks what is behind a path of a run dir that this process may not enter.
#[cfg(target_os = "linux")]
fn by_broker(config: &Config, name: &UnixName) -> Behind {
    let answer = file_of(config, name).and_then(|(file, _)| crate::broker::ask(config, Ask::Probe { file }));
    match answer {
        Ok(_) => Behind::Socket,
        Err(libc::ECONNREFUSED) => Behind::Stale,
        // Without a broker nothing can be told, and nothing bound: the bind itself says so.
        Err(libc::ENOENT | libc::EACCES) => Behind::Nothing,
        Err(_) => Behind::Unknown,
    }
}

/// Has a socket bound in a run dir that this process may not enter, and puts it in the place of `socket`.
#[cfg(target_os = "linux")]
fn take_by_broker(config: &Config, socket: c_int, name: &UnixName) -> sys::Result<()> {
    let (file, mapped) = file_of(config, name)?;
    let bound = crate::broker::ask(config, Ask::Bind { file, mapped })?;
    let result = sys::replace(bound, socket, true);
    sys::close(bound);
    result
}

/// macOS keeps a process that changed its user out.
#[cfg(not(target_os = "linux"))]
fn by_broker(_config: &Config, _name: &UnixName) -> Behind {
    Behind::Unknown
}

/// macOS keeps a process that changed its user out.
#[cfg(not(target_os = "linux"))]
fn take_by_broker(_config: &Config, _socket: c_int, _name: &UnixName) -> sys::Result<()> {
    Err(libc::EACCES)
}

/// Gives the file of a socket of this process to another socket.
#[cfg(target_os = "linux")]
pub(crate) fn rebind(config: &Config, socket: c_int, name: &UnixName) -> sys::Result<()> {
    let lock = Lock::take(config)?;
    let result = sys::unlink(name.c_path()).and_then(|()| sys::bind(socket, name.bytes()));
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

/// The run dir's lock: flock(2) on a file beside it, given back explicitly, so that a descriptor that a
/// fork copied meanwhile does not hold it.
struct Lock(c_int);

// === impl Lock ===

impl Lock {
    fn take(config: &Config) -> sys::Result<Self> {
        let path = UnixName::path(&[config.base(), b"/run.lock"]);
        let flags = libc::O_CREAT | libc::O_RDWR | libc::O_NOFOLLOW;
        let fd = sys::open(path.c_path(), flags, 0o600)?;
        for number in 0..LOCK_TRIES {
            match sys::lock(fd, libc::LOCK_EX | libc::LOCK_NB) {
                Ok(()) => return Ok(Self(fd)),
                Err(libc::EWOULDBLOCK | libc::EINTR) => {
                    sys::pause_us(if number < QUICK_LOCK_TRIES { 50 } else { 1000 });
                }
                Err(_) => break,
            }
        }
        sys::close(fd);
        Err(libc::EADDRINUSE)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = sys::lock(self.0, libc::LOCK_UN);
        sys::close(self.0);
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
