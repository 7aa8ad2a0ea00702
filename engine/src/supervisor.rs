//! The supervisor: answers the calls that the filters of one instance ask about, and passes on the connections of its fronts.
//! It has one thread and waits in one place, for events. It lives until no program with a filter is left, whatever happens
//! to the collector.
//!
//! ```text
//! program ── bind, connect, listen ──► filter ──► supervisor ── sockets ◄── port space (helper process)
//! router, library ── front in the run dir ──────► supervisor ── passes on ─► listener in the port space
//! program ── connect in the port space ─► bridge ► supervisor ── passes on ─► listener of the library
//! ```
//!
//! - [`calls`]: what becomes of a call
//! - [`entrance`]: programs that start
//! - [`passing`]: connections that are passed on
mod calls;
mod entrance;
mod passing;

use crate::carry::Usual;
use crate::fronts::{Fronts, Place};
use crate::limits::{EVENTS, LOOK, RELAY_BYTES};
use crate::notices::{News, Notices};
use crate::port_space::PortSpace;
use crate::protocol::Member;
use crate::registration::EpollInstances;
use crate::relay::{Relay, Side};
use crate::sys::seccomp::Notification;
use crate::sys::{fork, seccomp};
use crate::watched::Watched;
use agentfs_wire::name::{Kind, SocketName, app_name, instance_name};
use agentfs_wire::notice::{Call, Outcome, Why};
use agentfs_wire::paths::Paths;
use agentfs_wire::peer;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::ForkResult;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Instant;

/// Whose supervisor it is.
#[derive(Clone, Debug)]
pub struct Places {
    /// The home.
    pub paths: Paths,
    /// The app.
    pub app: String,
    /// The instance.
    pub instance: String,
}

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Source {
    /// Programs that start.
    Entrance,
    /// One of them.
    Entering(u64),
    /// A filter.
    Filter(u64),
    /// A front.
    Front(Place),
    /// A bridge.
    Bridge(Bridge),
    /// One side of a connection.
    Relay(u64, Side),
    /// The end of a process that has listeners.
    Process(u64),
    /// The end of the helper.
    Helper,
}

/// An address of the port space where the supervisor listens for a listener of the library.
type Bridge = (IpAddr, u16);

/// A filter, which one program or many may have.
#[derive(Debug)]
struct Filter {
    notifications: OwnedFd,
    member: Rc<Member>,
}

/// A connection, and what is waited for at its sides.
#[derive(Debug)]
struct Passed {
    relay: Relay,
    waits: [Option<(u64, EpollFlags)>; 2],
    /// A side that hung up and is not waited for.
    silent: Option<Side>,
    place: Option<Place>,
}

/// The supervisor of one instance.
#[derive(Debug)]
struct Supervisor {
    places: Places,
    /// Number of the instance's client names.
    space_number: u64,
    epoll: Epoll,
    sources: HashMap<u64, Source>,
    last: u64,
    entrance: OwnedFd,
    entering: HashMap<u64, OwnedFd>,
    filters: HashMap<u64, Filter>,
    /// The port space, or why there is none.
    space: Result<PortSpace, i32>,
    usual: Usual,
    fronts: Fronts,
    front_tokens: HashMap<Place, u64>,
    bridges: HashMap<Bridge, (OwnedFd, u64)>,
    relays: HashMap<u64, Passed>,
    /// Processes that have listeners: number, descriptor.
    processes: HashMap<u64, (u32, OwnedFd)>,
    /// When nothing was reported and we looked.
    looked: Instant,
    /// Sockets of programs that are bound in the port space.
    watched: Watched,
    notices: Notices,
    epolls: EpollInstances,
    /// The collector's notice socket: its number and its time, by which a new collector is known.
    collector: Option<(u64, i64, i64)>,
    /// Calls that wait for the run dir's lock: the filter, the call, and how often it was tried.
    waiting: Vec<(u64, Notification, u32)>,
    /// Whether a program of another instance may call.
    has_foreigners: bool,
    /// Whether the helper was killed.
    is_crippled: bool,
    /// Whether a program was ever served, or asked to be.
    has_begun: bool,
    buffer: Vec<u8>,
}

/// Serves the instance's programs until none is left. `entrance` is a listening `SOCK_SEQPACKET` socket. The caller has one
/// thread.
///
/// # Errors
/// What the system says.
pub fn supervise(places: &Places, entrance: OwnedFd) -> io::Result<()> {
    let _ = nix::sys::prctl::set_name(c"agentfs-engine");
    // `agentfs stop` ends the programs, and with them us. What a terminal sends is not for us.
    let signals = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGPIPE];
    let _ = signals.into_iter().collect::<SigSet>().thread_block();
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
    // The sockets of the run dir are the user's alone.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let mut notices = Notices::new(&places.paths, &places.app, &places.instance);
    let (space, entrance) = match PortSpace::make(vec![entrance], || tell_of_end(&mut notices)) {
        (Ok(space), entrance) => (Ok(space), entrance),
        (Err(error), entrance) => (Err(error.raw_os_error().unwrap_or(libc::EPERM)), entrance),
    };
    let entrance = entrance.into_iter().next().ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))?;
    let mut supervisor = Supervisor::new(places, entrance, space)?;
    supervisor.run()
}

/// Tells that programs are no longer served.
fn tell_of_end(notices: &mut Notices) {
    let news = News::of(Call::Bind, Outcome::Refused, Why::EngineEnded);
    notices.tell(std::process::id(), "agentfs-engine", News { errno: libc::ENOSYS, ..news });
}

/// Leaves the process that started us, and its session. `false` in the process that ends now. The caller has one thread.
///
/// # Errors
/// What the system says.
pub fn detach() -> io::Result<bool> {
    if let ForkResult::Parent { .. } = fork::fork()? {
        return Ok(false);
    }
    let _ = nix::unistd::setsid();
    Ok(true)
}

// === impl Supervisor ===

impl Supervisor {
    fn new(places: &Places, entrance: OwnedFd, mut space: Result<PortSpace, i32>) -> io::Result<Self> {
        let names = app_name(&places.app).zip(instance_name(&places.instance));
        let (app, instance) = names.ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
        let name = SocketName { app, instance, kind: Kind::Main };
        let usual = match &mut space {
            Ok(space) => {
                let v4 = space.socket(false)?;
                Usual::of(&v4, space.socket(true).ok())
            }
            Err(_) => Usual::default(),
        };
        let mut supervisor = Self {
            space_number: peer::space(places.paths.run.as_os_str().as_bytes(), &places.app, &places.instance),
            places: places.clone(),
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            sources: HashMap::new(),
            last: 0,
            entrance,
            entering: HashMap::new(),
            filters: HashMap::new(),
            space,
            usual,
            fronts: Fronts::new(&places.paths.run, &places.paths.run_lock, name),
            front_tokens: HashMap::new(),
            bridges: HashMap::new(),
            relays: HashMap::new(),
            processes: HashMap::new(),
            looked: Instant::now(),
            watched: Watched::new()?,
            notices: Notices::new(&places.paths, &places.app, &places.instance),
            epolls: EpollInstances::default(),
            collector: None,
            waiting: Vec::new(),
            has_foreigners: false,
            is_crippled: false,
            has_begun: false,
            buffer: vec![0; RELAY_BYTES],
        };
        supervisor.collector = supervisor.collector_now();
        rustix::io::ioctl_fionbio(&supervisor.entrance, true)?;
        let entrance = supervisor.entrance.try_clone()?;
        supervisor.wait_for(&entrance, Source::Entrance, EpollFlags::EPOLLIN)?;
        if let Ok(space) = &supervisor.space {
            let helper = space.helper().try_clone_to_owned()?;
            supervisor.wait_for(&helper, Source::Helper, EpollFlags::empty())?;
        }
        Ok(supervisor)
    }

    /// Until no program is left.
    fn run(&mut self) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); EVENTS];
        loop {
            let has_listeners = !self.fronts.is_empty() || !self.bridges.is_empty();
            let is_idle = self.filters.is_empty() && self.entering.is_empty();
            let limit = if is_idle {
                // Who started us asks at once.
                if self.has_begun { 0 } else { i32::try_from(crate::limits::ANSWER.as_millis()).unwrap_or(0) }
            } else if !self.waiting.is_empty() {
                1
            } else if has_listeners {
                i32::try_from(LOOK.as_millis()).unwrap_or(0)
            } else {
                -1
            };
            let limit = nix::sys::epoll::EpollTimeout::try_from(limit).map_err(io::Error::other)?;
            let count = match self.epoll.wait(&mut events, limit) {
                Ok(count) => count,
                Err(nix::errno::Errno::EINTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            for event in events.iter().take(count) {
                // An event may be about something that an earlier one has ended.
                if let Some(source) = self.sources.get(&event.data()).copied() {
                    self.handle(event.data(), source, event.events());
                }
            }
            if self.is_crippled {
                tell_of_end(&mut self.notices);
                return Ok(());
            }
            if !self.waiting.is_empty() {
                self.try_again();
            }
            if count == 0 && is_idle && self.leave()? {
                return Ok(());
            }
            if has_listeners && self.looked.elapsed() >= LOOK {
                self.look();
                self.looked = Instant::now();
            }
        }
    }

    fn handle(&mut self, token: u64, source: Source, events: EpollFlags) {
        match source {
            Source::Entrance => self.let_in(),
            Source::Entering(which) => self.hear(which, token),
            Source::Filter(which) => {
                if events.intersects(EpollFlags::EPOLLIN) {
                    self.serve(which);
                } else {
                    // Nobody has the filter any more.
                    self.filters.remove(&which);
                    self.forget(token);
                    self.sweep();
                }
            }
            Source::Front(place) => self.accept_at_front(place),
            Source::Bridge(bridge) => self.accept_at_bridge(bridge),
            Source::Relay(which, side) => self.pass_on(which, side, events),
            Source::Process(which) => {
                self.processes.remove(&which);
                self.forget(token);
                self.sweep();
            }
            // Without it there are no further sockets. A program that took the host's ports instead would be worse.
            Source::Helper => self.is_crippled = true,
        }
    }

    /// Looks at what nothing reports: listeners that a living process closed, listeners of the library that ended, a new
    /// collector.
    fn look(&mut self) {
        self.sweep();
        let bridges: Vec<Bridge> = self.bridges.keys().copied().collect();
        for bridge in bridges {
            self.drop_dead_bridge(bridge);
        }
        for place in self.fronts.name_again() {
            if self.wait_at_front(place).is_ok() {
                self.tell_listener(place);
            }
        }
        let now = self.collector_now();
        if now.is_some() && now != self.collector {
            let all: Vec<Place> = self.fronts.iter().map(|(place, _)| place).collect();
            all.into_iter().for_each(|place| self.tell_listener(place));
        }
        self.collector = now;
    }

    /// Waits for connections to a front that listens.
    fn wait_at_front(&mut self, place: Place) -> io::Result<()> {
        let Some(front) = self.fronts.get_mut(place).filter(|front| front.listens) else { return Ok(()) };
        let socket = front.socket.try_clone()?;
        let token = self.wait_for(&socket, Source::Front(place), EpollFlags::EPOLLIN)?;
        if let Some(before) = self.front_tokens.insert(place, token) {
            self.forget(before);
        }
        Ok(())
    }

    /// Tells of a front that listens.
    fn tell_listener(&mut self, place: Place) {
        let Some(front) = self.fronts.get_mut(place).filter(|front| front.listens) else { return };
        let ((pid, program), file) = (front.owner.clone(), front.file().to_owned());
        let (port, scope) = place;
        let address = Some(agentfs_wire::address::Endpoint { ip: scope.ip(), port });
        let news = News::of(Call::Listen, Outcome::Rewritten, Why::Rewritten);
        self.notices.tell(pid, &program, News { address, file: &file, ..news });
    }

    fn collector_now(&self) -> Option<(u64, i64, i64)> {
        let metadata = std::fs::metadata(&self.places.paths.notice).ok()?;
        Some((metadata.ino(), metadata.ctime(), metadata.ctime_nsec()))
    }

    /// Drops the fronts whose listeners are closed.
    fn sweep(&mut self) {
        if self.fronts.is_empty() {
            return;
        }
        let open: BTreeSet<u64> = self.watched.open();
        for (place, _front) in self.fronts.sweep(&open) {
            if let Some(token) = self.front_tokens.remove(&place) {
                self.forget(token);
            }
        }
    }

    /// Waits for events of something. It is forgotten when it is closed, and by [`Self::forget`].
    fn wait_for(&mut self, what: impl AsFd, source: Source, events: EpollFlags) -> io::Result<u64> {
        self.last += 1;
        self.epoll.add(what, EpollEvent::new(events, self.last))?;
        self.sources.insert(self.last, source);
        Ok(self.last)
    }

    fn forget(&mut self, token: u64) {
        self.sources.remove(&token);
    }

    /// Prepares a filter's notifications.
    fn add_filter(&mut self, notifications: OwnedFd, member: Member) -> io::Result<()> {
        seccomp::prepare(&notifications);
        let which = self.last + 1;
        self.wait_for(&notifications, Source::Filter(which), EpollFlags::EPOLLIN)?;
        self.filters.insert(which, Filter { notifications, member: Rc::new(member) });
        self.has_begun = true;
        Ok(())
    }

    /// Ends, unless somebody wants to enter at this moment. Whoever wants to holds the lock.
    fn leave(&mut self) -> io::Result<bool> {
        let (socket, lock) = entry_files(&self.places);
        let taken = agentfs_home::RunLock::take(&lock)?;
        let before = self.entering.len();
        self.let_in();
        if self.entering.len() > before {
            return Ok(false);
        }
        self.sweep();
        let _ = std::fs::remove_file(socket);
        if taken.is_at(&lock) {
            let _ = std::fs::remove_file(lock);
        }
        if let Ok(space) = &self.space {
            space.end();
        }
        Ok(true)
    }
}

/// The socket by which programs enter, and the lock for making it.
pub(crate) fn entry_files(places: &Places) -> (PathBuf, PathBuf) {
    let folder = places.paths.base.join("engine");
    // As in the run dir, a dash inside an instance must not look like the one that divides.
    let stem = format!("{}-{}", places.app, places.instance.replace('-', "_"));
    (folder.join(format!("{stem}.sock")), folder.join(format!("{stem}.lock")))
}
