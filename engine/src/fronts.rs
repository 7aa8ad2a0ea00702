//! Fronts: for each listener in the port space, the Unix socket in the run dir that stands for it. They follow the rules by
//! which the library takes names (`interpose/src/rundir.rs`): bind first, then look for rivals, and remove files only under
//! the run dir's lock. Between sockets of the port space the kernel itself decides; so a front may have several holders
//! (`SO_REUSEPORT`, or `SO_REUSEADDR` before either listens).
use crate::limits::BACKLOG;
use crate::sys::options;
use agentfs_home::{PRIVATE, Probe, Prober, RunLock};
use agentfs_wire::address::Scope;
use agentfs_wire::handoff::FRONT;
use agentfs_wire::limits::REUSEPORT_WORKERS;
use agentfs_wire::name::{Kind, SocketName};
use agentfs_wire::rewrite;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, socket};
use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A place in the instance's ports.
pub(crate) type Place = (u16, Scope);

/// One front.
#[derive(Debug)]
pub(crate) struct Front {
    /// The Unix socket.
    pub(crate) socket: OwnedFd,
    /// Whether it takes connections.
    pub(crate) listens: bool,
    /// Its file.
    pub(crate) path: PathBuf,
    /// The number of the file.
    inode: u64,
    /// The sockets of programs that it stands for.
    holders: BTreeSet<u64>,
    /// The process that called listen, and its name.
    pub(crate) owner: (u32, String),
}

/// All fronts of an instance.
#[derive(Debug)]
pub(crate) struct Fronts {
    run: PathBuf,
    lock: PathBuf,
    /// The instance, as part of every file's name.
    name: SocketName,
    all: HashMap<Place, Front>,
    prober: Prober,
}

// === impl Fronts ===

impl Fronts {
    /// None yet.
    pub(crate) fn new(run: &Path, lock: &Path, name: SocketName) -> Self {
        Self {
            run: run.to_owned(),
            lock: lock.to_owned(),
            name,
            all: HashMap::new(),
            prober: Prober::default(),
        }
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// A front.
    pub(crate) fn get_mut(&mut self, place: Place) -> Option<&mut Front> {
        self.all.get_mut(&place)
    }

    /// All fronts.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Place, &Front)> {
        self.all.iter().map(|(place, front)| (*place, front))
    }

    /// Whether anything of this supervisor is bound to a port.
    pub(crate) fn has_port(&self, port: u16) -> bool {
        self.all.keys().any(|(own, _)| *own == port)
    }

    /// Whether a socket of the port space is bound where a connect to `ip` and `port` arrives.
    pub(crate) fn reached_by(&self, ip: IpAddr, port: u16) -> bool {
        self.all.keys().any(|(own, scope)| *own == port && scope.reached_by(ip))
    }

    /// The file of a listener in another program of the instance that a connect to `ip` and `port` reaches.
    pub(crate) fn elsewhere(&mut self, ip: IpAddr, port: u16) -> Option<(PathBuf, Scope)> {
        for scope in rewrite::candidates(ip) {
            for worker in self.workers(port) {
                let path = self.path(port, scope, worker);
                if self.is_foreign(&path) {
                    return Some((path, scope));
                }
            }
        }
        None
    }

    /// Whether another program of the instance has a name that excludes this one.
    pub(crate) fn is_taken(&mut self, port: u16, scope: Scope) -> bool {
        self.has_rival(port, scope, None)
    }

    /// The same, apart from one file.
    fn has_rival(&mut self, port: u16, scope: Scope, own: Option<&Path>) -> bool {
        let rivals = rewrite::rivals(scope).iter().copied().chain([scope]);
        let workers = self.workers(port);
        for rival in rivals {
            for worker in &workers {
                let path = self.path(port, rival, *worker);
                if own != Some(&*path) && self.is_foreign(&path) {
                    return true;
                }
            }
        }
        false
    }

    /// Takes the name for a socket that is bound in the port space, or adds the socket to those of the front. Where the run dir
    /// takes no name (a full disk), the front has none: the instance's served programs reach the port, nobody else does.
    ///
    /// # Errors
    /// `EADDRINUSE` if another program of the instance has it; `WouldBlock` if somebody holds the lock of the run dir; else
    /// what the system says.
    pub(crate) fn take(&mut self, place: Place, holder: u64) -> io::Result<()> {
        if let Some(front) = self.all.get_mut(&place) {
            front.holders.insert(holder);
            return Ok(());
        }
        let made = self.named(place);
        let is_decided = |error: &io::Error| {
            error.raw_os_error() == Some(libc::EADDRINUSE) || error.kind() == io::ErrorKind::WouldBlock
        };
        let (socket, path, inode) = match made {
            Err(error) if !is_decided(&error) => (nameless()?, PathBuf::new(), 0),
            made => made?,
        };
        let holders = BTreeSet::from([holder]);
        let front = Front { socket, listens: false, path, inode, holders, owner: (0, String::new()) };
        self.all.insert(place, front);
        Ok(())
    }

    /// Names the fronts that have no name yet, if the run dir takes names again. Returns where.
    pub(crate) fn name_again(&mut self) -> Vec<Place> {
        let nameless = self.all.iter().filter(|(_, front)| front.file().is_empty());
        let nameless: Vec<Place> = nameless.map(|(place, _)| *place).collect();
        nameless
            .into_iter()
            .filter(|place| {
                let Ok((socket, path, inode)) = self.named(*place) else { return false };
                let Some(front) = self.all.get_mut(place) else { return false };
                (front.socket, front.path, front.inode) = (socket, path, inode);
                !front.listens || front.listen().is_ok()
            })
            .collect()
    }

    /// A socket that has the name of a place, its file, and the number of the file.
    fn named(&mut self, (port, scope): Place) -> io::Result<(OwnedFd, PathBuf, u64)> {
        let path = self.path(port, scope, None);
        let lock = RunLock::try_take(&self.lock)?.ok_or(io::ErrorKind::WouldBlock)?;
        let made = self.bind(&path).and_then(|socket| {
            if self.has_rival(port, scope, Some(&path)) {
                fs::remove_file(&path)?;
                return Err(io::Error::from_raw_os_error(libc::EADDRINUSE));
            }
            Ok(socket)
        });
        drop(lock);
        let socket = made?;
        fs::set_permissions(&path, fs::Permissions::from_mode(PRIVATE | FRONT))?;
        let inode = fs::symlink_metadata(&path).map_or(0, |metadata| metadata.ino());
        Ok((socket, path, inode))
    }

    /// Drops the fronts of which no socket is open any more. Returns them. While somebody holds the lock of the run dir, they
    /// stay.
    pub(crate) fn sweep(&mut self, open: &BTreeSet<u64>) -> Vec<(Place, Front)> {
        for front in self.all.values_mut() {
            front.holders.retain(|holder| open.contains(holder));
        }
        let gone: Vec<Place> =
            self.all.iter().filter(|(_, front)| front.holders.is_empty()).map(|(place, _)| *place).collect();
        if gone.is_empty() {
            return Vec::new();
        }
        // Where there is no lock at all, the files stay; they are stale once their sockets are closed.
        let lock = match RunLock::try_take(&self.lock) {
            Ok(None) => return Vec::new(),
            lock => lock,
        };
        let gone = gone.into_iter().filter_map(|place| {
            let front = self.all.remove(&place)?;
            let is_own = || fs::symlink_metadata(&front.path).is_ok_and(|file| file.ino() == front.inode);
            if lock.is_ok() && is_own() {
                let _ = fs::remove_file(&front.path);
            }
            Some((place, front))
        });
        gone.collect()
    }

    fn bind(&mut self, path: &Path) -> io::Result<OwnedFd> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        let address = UnixAddr::new(path)?;
        let bound = bind(socket.as_raw_fd(), &address);
        if bound != Err(nix::errno::Errno::EADDRINUSE) {
            bound?;
            return Ok(socket);
        }
        if self.prober.probe(path) != Probe::Stale {
            return Err(io::Error::from_raw_os_error(libc::EADDRINUSE));
        }
        fs::remove_file(path)?;
        bind(socket.as_raw_fd(), &address)?;
        Ok(socket)
    }

    /// Whether a socket of another program is bound there.
    fn is_foreign(&mut self, path: &Path) -> bool {
        path.exists()
            && !self.all.values().any(|front| front.path == path)
            && self.prober.probe(path) == Probe::Live
    }

    /// The members that a port may have: none, and where a group was made, those.
    fn workers(&self, port: u16) -> Vec<Option<u8>> {
        let mark = self.name.with(Kind::Group { port, scope: Scope::AnyV4 });
        let has_group = self.run.join(mark.format().as_str()).exists();
        let members = if has_group { REUSEPORT_WORKERS } else { 0 };
        std::iter::once(None).chain((0..members).map(Some)).collect()
    }

    fn path(&self, port: u16, scope: Scope, worker: Option<u8>) -> PathBuf {
        self.run.join(self.name.with(Kind::Listener { port, scope, worker }).format().as_str())
    }
}

/// A socket with a name that the kernel chooses and that nobody knows.
fn nameless() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    bind(socket.as_raw_fd(), &UnixAddr::new_unnamed())?;
    Ok(socket)
}

// === impl Front ===

impl Front {
    /// Begins to take connections.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn listen(&mut self) -> io::Result<()> {
        options::listen(&self.socket, BACKLOG)?;
        self.listens = true;
        Ok(())
    }

    /// The name of its file.
    pub(crate) fn file(&self) -> &str {
        self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentfs_wire::name::{app_name, instance_name};
    use std::net::Ipv4Addr;
    use std::os::unix::net::{UnixListener, UnixStream};

    fn fronts(home: &Path) -> Fronts {
        let name = SocketName {
            app: app_name("shop").unwrap(),
            instance: instance_name("one").unwrap(),
            kind: Kind::Main,
        };
        fs::create_dir(home.join("run")).unwrap();
        Fronts::new(&home.join("run"), &home.join("run.lock"), name)
    }

    const LOCALHOST: Scope = Scope::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn a_name_is_taken_and_given_back() {
        let home = tempfile::tempdir_in("/tmp").unwrap();
        let mut fronts = fronts(home.path());
        let path = home.path().join("run/shop-one.80.sock");
        // What a killed program left.
        drop(UnixListener::bind(&path).unwrap());
        fronts.take((80, Scope::AnyV4), 1).unwrap();
        fronts.take((80, Scope::AnyV4), 2).unwrap();
        assert!(
            fronts.reached_by(Ipv4Addr::LOCALHOST.into(), 80)
                && !fronts.reached_by(Ipv4Addr::LOCALHOST.into(), 81)
        );
        let front = fronts.get_mut((80, Scope::AnyV4)).unwrap();
        assert!(UnixStream::connect(&path).is_err(), "it does not listen yet");
        front.listen().unwrap();
        UnixStream::connect(&path).unwrap();
        assert!(fronts.sweep(&BTreeSet::from([2])).is_empty() && path.exists());
        assert_eq!(fronts.sweep(&BTreeSet::new()).len(), 1);
        assert!(!path.exists() && fronts.is_empty());
    }

    #[test]
    fn names_of_other_programs_exclude_ours() {
        let home = tempfile::tempdir_in("/tmp").unwrap();
        let mut fronts = fronts(home.path());
        let _other = UnixListener::bind(home.path().join("run/shop-one.80.sock")).unwrap();
        for scope in [Scope::AnyV4, LOCALHOST, Scope::AnyDual] {
            let error = fronts.take((80, scope), 1).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EADDRINUSE), "{scope:?}");
        }
        assert_eq!(fs::read_dir(home.path().join("run")).unwrap().count(), 1);
        fronts.take((80, Scope::AnyV6), 1).unwrap();
        let (path, scope) = fronts.elsewhere(Ipv4Addr::LOCALHOST.into(), 80).unwrap();
        assert_eq!((path.ends_with("shop-one.80.sock"), scope), (true, Scope::AnyV4));
        assert_eq!(fronts.elsewhere(std::net::Ipv6Addr::LOCALHOST.into(), 80), None);
    }

    #[test]
    fn a_run_dir_that_takes_no_names_keeps_nobody_from_listening() {
        let home = tempfile::tempdir_in("/tmp").unwrap();
        let mut fronts = fronts(home.path());
        fs::remove_dir(home.path().join("run")).unwrap();
        fronts.take((80, Scope::AnyV4), 1).unwrap();
        assert!(fronts.reached_by(Ipv4Addr::LOCALHOST.into(), 80));
        let front = fronts.get_mut((80, Scope::AnyV4)).unwrap();
        front.listen().unwrap();
        assert_eq!(front.file(), "");
        assert!(fronts.name_again().is_empty());
        fs::create_dir(home.path().join("run")).unwrap();
        assert_eq!(fronts.name_again(), [(80, Scope::AnyV4)]);
        UnixStream::connect(home.path().join("run/shop-one.80.sock")).unwrap();
        assert_eq!(fronts.sweep(&BTreeSet::new()).len(), 1);
    }

    #[test]
    fn members_of_a_group_count() {
        let home = tempfile::tempdir_in("/tmp").unwrap();
        let mut fronts = fronts(home.path());
        fs::write(home.path().join("run/shop-one.80.group"), "").unwrap();
        let _member = UnixListener::bind(home.path().join("run/shop-one.80.w3.sock")).unwrap();
        assert!(fronts.is_taken(80, Scope::AnyV4) && !fronts.is_taken(81, Scope::AnyV4));
        assert!(fronts.elsewhere(Ipv4Addr::LOCALHOST.into(), 80).is_some());
    }
}
