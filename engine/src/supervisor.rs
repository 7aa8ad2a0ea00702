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
//! - [`names`]: names of sockets, where they are not true
//! - [`connecting`]: one of them
//! - [`entrance`]: programs that start
//! - [`passing`]: connections that are passed on
mod calls;
mod connecting;
mod entrance;
mod names;
mod passing;

use crate::carry::Usual;
use crate::copies::Copies;
use crate::fronts::{Fronts, Place};
use crate::limits::{ANSWER, EVENTS, LINGER, LOOK, RELAY_BYTES};
use crate::notices::{News, Notices};
use crate::port_space::PortSpace;
use crate::ports::Ports;
use crate::process::Caller;
use crate::protocol::{Member, Sockets};
use crate::registration::EpollInstances;
use crate::relay::{Relay, Side};
use crate::stand_ins::StandIns;
use crate::sys::seccomp::Notification;
use crate::sys::{fork, memory, seccomp};
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
use std::time::{Duration, Instant};

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

/// The number of the entrance's events.
const ENTRANCE: u64 = 0;

/// An address of the port space where the supervisor listens for a listener of the library.
type Bridge = (IpAddr, u16);

/// A filter, which one program or many may have.
#[derive(Debug)]
struct Filter {
    notifications: Rc<OwnedFd>,
    member: Rc<Member>,
    /// The network in which its first program started.
    network: u64,
}

/// A call that is being answered.
struct Asked {
    filter: Rc<OwnedFd>,
    member: Rc<Member>,
    /// The network in which the program started.
    network: u64,
    id: u64,
    caller: Caller,
    /// The descriptor that the call names.
    number: i32,
}

/// A connection, and what is waited for at its sides.
#[derive(Debug)]
struct Passed {
    relay: Relay,
    waits: [Option<(u64, EpollFlags)>; 2],
    /// A side that hung up and is not waited for.
    silent: Option<Side>,
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
    /// The instance's ports, or why there are none.
    ports: Result<Ports, i32>,
    /// Why there is no port space.
    without_space: i32,
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
    copies: Copies,
    /// The collector's notice socket: its number and its time, by which a new collector is known.
    collector: Option<(u64, i64, i64)>,
    /// Calls that wait for the run dir's lock: the filter, the call, and how often it was tried.
    waiting: Vec<(u64, Notification, u32)>,
    /// Fronts and bridges that wait until there is room for a connection.
    resting: Vec<Source>,
    /// Whether a program of another instance may call.
    has_foreigners: bool,
    /// Whether the helper was killed.
    is_crippled: bool,
    /// Whether a program was given a socket.
    is_used: bool,
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
    let (space, entrance) = PortSpace::make(vec![entrance], || tell_of_end(&mut notices));
    let errno = |error: &io::Error| error.raw_os_error().unwrap_or(libc::EPERM);
    let without_space = space.as_ref().err().map_or(0, errno);
    // If there are no stand-ins either, a name space is what can be allowed.
    let stand_ins = |_| StandIns::new().map(Ports::StandIns).map_err(|_| without_space);
    let ports = space.map(Ports::Space).or_else(stand_ins);
    let entrance = entrance.into_iter().next().ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))?;
    let mut supervisor = Supervisor::new(places, entrance, (ports, without_space))?;
    memory::let_go_of_code();
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
    fn new(
        places: &Places,
        entrance: OwnedFd,
        (mut ports, without_space): (Result<Ports, i32>, i32),
    ) -> io::Result<Self> {
        let names = app_name(&places.app).zip(instance_name(&places.instance));
        let (app, instance) = names.ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
        let name = SocketName { app, instance, kind: Kind::Main };
        let usual = match &mut ports {
            Ok(ports) => {
                let v4 = ports.socket(false)?;
                Usual::of(&v4, ports.socket(true).ok())
            }
            Err(_) => Usual::default(),
        };
        let mut supervisor = Self {
            space_number: peer::space(places.paths.run.as_os_str().as_bytes(), &places.app, &places.instance),
            places: places.clone(),
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            sources: HashMap::new(),
            last: ENTRANCE,
            entrance,
            entering: HashMap::new(),
            filters: HashMap::new(),
            ports,
            without_space,
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
            copies: Copies::new(),
            collector: None,
            waiting: Vec::new(),
            resting: Vec::new(),
            has_foreigners: false,
            is_crippled: false,
            is_used: false,
            has_begun: false,
            buffer: vec![0; RELAY_BYTES],
        };
        supervisor.collector = supervisor.collector_now();
        rustix::io::ioctl_fionbio(&supervisor.entrance, true)?;
        let event = EpollEvent::new(EpollFlags::EPOLLIN, ENTRANCE);
        supervisor.epoll.add(&supervisor.entrance, event)?;
        supervisor.sources.insert(ENTRANCE, Source::Entrance);
        if let Some(helper) = supervisor.ports.as_ref().ok().and_then(Ports::helper) {
            let helper = helper.try_clone_to_owned()?;
            supervisor.wait_for(&helper, Source::Helper, EpollFlags::empty())?;
        }
        Ok(supervisor)
    }

    /// Until no program is left.
    fn run(&mut self) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); EVENTS];
        loop {
            let looks = !self.fronts.is_empty()
                || !self.bridges.is_empty()
                || !self.copies.is_empty()
                || !self.resting.is_empty();
            let is_idle = self.filters.is_empty() && self.entering.is_empty();
            let limit = if is_idle {
                // Who started us asks at once.
                let time = match (self.has_begun, self.is_used) {
                    (false, _) => ANSWER,
                    (true, false) => LINGER,
                    // The next program finds no port of an earlier one in TIME_WAIT.
                    (true, true) => Duration::ZERO,
                };
                i32::try_from(time.as_millis()).unwrap_or(0)
            } else if !self.waiting.is_empty() {
                1
            } else if looks {
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
            if looks && self.looked.elapsed() >= LOOK {
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
        self.wake();
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
        // Under its own number: there may be no other descriptor left.
        self.last += 1;
        self.epoll.add(&front.socket, EpollEvent::new(EpollFlags::EPOLLIN, self.last))?;
        self.sources.insert(self.last, Source::Front(place));
        if let Some(before) = self.front_tokens.insert(place, self.last) {
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
        if !self.copies.is_empty() {
            self.copies.prune();
        }
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
    fn add_filter(&mut self, notifications: OwnedFd, member: Member, network: u64) -> io::Result<()> {
        seccomp::prepare(&notifications);
        let which = self.last + 1;
        self.wait_for(&notifications, Source::Filter(which), EpollFlags::EPOLLIN)?;
        let filter = Filter { notifications: Rc::new(notifications), member: Rc::new(member), network };
        self.filters.insert(which, filter);
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
        if let Ok(ports) = &self.ports {
            ports.end();
        }
        Ok(true)
    }

    /// Where the ports are.
    fn sockets(&self) -> Option<Sockets> {
        self.ports.as_ref().ok().map(|ports| match ports {
            Ports::Space(_) => Sockets::PortSpace,
            Ports::StandIns(_) => Sockets::StandIns { errno: self.without_space },
        })
    }
}

/// The socket by which programs enter, and the lock for making it.
pub(crate) fn entry_files(places: &Places) -> (PathBuf, PathBuf) {
    let folder = places.paths.base.join("engine");
    // As in the run dir, a dash inside an instance must not look like the one that divides.
    let stem = format!("{}-{}", places.app, places.instance.replace('-', "_"));
    (folder.join(format!("{stem}.sock")), folder.join(format!("{stem}.lock")))
}
