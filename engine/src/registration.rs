//! Other descriptors of a socket that was replaced, and its places in epoll instances: a program may have copied a socket, or
//! registered it, before it binds or connects it.
use crate::facts;
use crate::process::Caller;
use crate::sys::{fork, kcmp};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::unistd::ForkResult;
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// What else a process has of a socket.
#[derive(Debug, Default)]
pub(crate) struct Others {
    /// Its other descriptors.
    pub(crate) copies: Vec<i32>,
    /// Where it is registered: the epoll instance, the number under which, the events and the program's data.
    places: Vec<(OwnedFd, i32, u32, u64)>,
}

/// What a descriptor of an epoll instance is called in /proc.
const EPOLL: &str = "anon_inode:[eventpoll]";

/// Threads whose epoll instances are remembered. At the limit all are forgotten.
const REMEMBERED: usize = 1024;

/// The epoll instances of threads, so that not every connect looks through all descriptors. The filter reports new ones.
/// One that a program gets in another way (a copy, `SCM_RIGHTS`) after its first connect is not seen.
#[derive(Debug, Default)]
pub(crate) struct EpollInstances(HashMap<(u32, u64), Vec<i32>>);

// === impl EpollInstances ===

impl EpollInstances {
    /// A program makes one.
    pub(crate) fn forget(&mut self) {
        self.0.clear();
    }

    fn of(&mut self, caller: Caller) -> Vec<i32> {
        let look = || {
            let all = caller.descriptors().into_iter();
            all.filter(|(_, what)| what == EPOLL).map(|(number, _)| number).collect::<Vec<_>>()
        };
        let Some(identity) = caller.identity() else { return look() };
        if self.0.len() >= REMEMBERED {
            self.0.clear();
        }
        self.0.entry((caller.0, identity)).or_insert_with(look).clone()
    }
}

// === impl Others ===

impl Others {
    /// Looks for all of them. `number` is the descriptor that the call named, `socket` the socket.
    pub(crate) fn all(caller: Caller, number: i32, socket: impl AsFd) -> Self {
        let mut others = Self::default();
        let name = facts::inode(socket).map(|inode| format!("socket:[{inode}]"));
        let all = caller.descriptors();
        let same = all.iter().filter(|(other, what)| *other != number && Some(what) == name.as_ref());
        others.copies = same.map(|(other, _)| *other).collect();
        for (place, _) in all.iter().filter(|(_, what)| what == EPOLL) {
            others.find_in(caller, number, *place);
        }
        others
    }

    /// Looks only for places in epoll instances, since programs seldom copy a socket before they connect it.
    pub(crate) fn places(caller: Caller, number: i32, known: &mut EpollInstances) -> Self {
        let mut others = Self::default();
        for place in known.of(caller) {
            if kcmp::may_watch(caller.0, place, number) {
                others.find_in(caller, number, place);
            }
        }
        others
    }

    /// Looks at the list of one epoll instance.
    fn find_in(&mut self, caller: Caller, number: i32, place: i32) {
        let text = std::fs::read_to_string(format!("/proc/{}/fdinfo/{place}", caller.0)).unwrap_or_default();
        for (target, events, data) in text.lines().filter_map(entry) {
            if (target == number || self.copies.contains(&target))
                && let Ok(epoll) = caller.descriptor(place)
            {
                self.places.push((epoll, target, events, data));
            }
        }
    }

    /// Registers the new socket where the old one was. epoll(7) knows a socket together with the number under which it was
    /// added, so a table of descriptors of our own gets the program's numbers for a moment.
    pub(crate) fn register(self, old: &OwnedFd, socket: &OwnedFd) -> io::Result<()> {
        if self.places.is_empty() {
            return Ok(());
        }
        let in_thread = std::thread::scope(|scope| {
            let register = || unshare(CloneFlags::CLONE_FILES).map(|()| self.register_here(old, socket));
            scope.spawn(register).join()
        });
        match in_thread {
            Ok(Ok(result)) => result,
            // Docker's default profile forbids unshare(2) altogether. A process costs more, and is allowed.
            Ok(Err(_)) => self.register_in_process(old, socket),
            Err(_) => Err(io::Error::from_raw_os_error(libc::EIO)),
        }
    }

    /// In a process of its own. Its descriptors are gone when this returns.
    fn register_in_process(&self, old: &OwnedFd, socket: &OwnedFd) -> io::Result<()> {
        match fork::fork()? {
            ForkResult::Child => {
                let _ = self.register_here(old, socket);
                std::process::exit(0)
            }
            ForkResult::Parent { child } => {
                // Who ignores SIGCHLD gets no status (wait(2)), and waits all the same.
                while nix::sys::wait::waitpid(child, None) == Err(Errno::EINTR) {}
                Ok(())
            }
        }
    }

    /// In a table of descriptors of its own.
    fn register_here(&self, old: &OwnedFd, socket: &OwnedFd) -> io::Result<()> {
        // This table lives a moment longer than the thread: the old socket must not be in it.
        let _ = nix::unistd::close(old.as_raw_fd());
        let floor = self.places.iter().map(|place| place.1).max().unwrap_or(0).saturating_add(1);
        for (epoll, number, events, data) in &self.places {
            let above = |fd: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(fd, floor);
            let (epoll, socket) = (Epoll(above(epoll)?), above(socket)?);
            let placed = put(&socket, *number)?;
            let events = EpollFlags::from_bits_retain(events.cast_signed());
            let _ = epoll.add(&placed, EpollEvent::new(events, *data));
            // The number may be one that other parts of this table use: it is not closed here.
            std::mem::forget(placed);
        }
        Ok(())
    }
}

/// Puts a descriptor under a number of this thread's own table.
#[expect(unsafe_code, reason = "a number becomes a descriptor")]
fn put(socket: &OwnedFd, number: i32) -> io::Result<OwnedFd> {
    use std::os::fd::FromRawFd;
    // SAFETY: dup2(2) takes two integers; this thread shares its table with nobody.
    let result = unsafe { libc::dup2(socket.as_raw_fd(), number) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: dup2(2) has just opened it in this table.
    Ok(unsafe { OwnedFd::from_raw_fd(result) })
}

/// A line of an epoll instance's list: `tfd: 5 events: 19 data: 1f …`.
fn entry(line: &str) -> Option<(i32, u32, u64)> {
    let mut words = line.split_ascii_whitespace();
    (words.next()? == "tfd:").then_some(())?;
    let target = words.next()?.parse().ok()?;
    let events = u32::from_str_radix(words.nth(1)?, 16).ok()?;
    let data = u64::from_str_radix(words.nth(1)?, 16).ok()?;
    Some((target, events, data))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read() {
        let line = "tfd:        5 events:       19 data:               1f  pos:0 ino:6e sdev:a";
        assert_eq!(entry(line), Some((5, 0x19, 0x1f)));
        assert_eq!(entry("pos:	0"), None);
        assert_eq!(entry("tfd: x"), None);
    }

    #[test]
    fn a_socket_takes_the_place_of_another() {
        use nix::sys::epoll::EpollCreateFlags;
        let (old, new) = (
            std::net::TcpListener::bind("127.0.0.1:0").unwrap(),
            std::net::TcpListener::bind("127.0.0.1:0").unwrap(),
        );
        let epoll = Epoll::new(EpollCreateFlags::empty()).unwrap();
        epoll.add(&old, EpollEvent::new(EpollFlags::EPOLLIN, 77)).unwrap();
        let number = old.as_raw_fd();
        // A search that is kept has copies of the epoll instances, which the next one would find.
        let mut known = EpollInstances::default();
        for (fd, count) in [(number, 1), (new.as_raw_fd(), 0)] {
            let own = Others::places(Caller(std::process::id()), fd, &mut known);
            assert_eq!(own.places.len(), count);
        }
        let others = Others::all(Caller(std::process::id()), number, &old);
        assert_eq!(others.places.len(), 1);
        others.register(&old.try_clone().unwrap().into(), &new.try_clone().unwrap().into()).unwrap();
        drop(old);
        let _client = std::net::TcpStream::connect(new.local_addr().unwrap()).unwrap();
        let mut events = [EpollEvent::empty()];
        assert_eq!(epoll.wait(&mut events, 5000_u16).unwrap(), 1);
        assert_eq!(events[0].data(), 77);
    }
}
