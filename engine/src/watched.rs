//! Whether sockets of programs are still open, without holding them open: an epoll instance that has a socket in its list
//! does not keep it, and drops it when its last descriptor anywhere is closed (epoll(7)). Its list is in /proc.
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Sockets that are watched.
#[derive(Debug)]
pub(crate) struct Watched {
    epoll: Epoll,
    last: u64,
}

// === impl Watched ===

impl Watched {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?, last: 0 })
    }

    /// Watches a socket. The caller closes its own descriptor of it afterwards.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn add(&mut self, socket: impl AsFd) -> io::Result<u64> {
        self.last += 1;
        let mut event = EpollEvent::new(EpollFlags::empty(), self.last);
        match self.epoll.add(&socket, event) {
            // Our descriptor has the same number as when it was added before.
            Err(Errno::EEXIST) => self.epoll.modify(&socket, &mut event)?,
            result => result?,
        }
        Ok(self.last)
    }

    /// Those that are still open somewhere.
    pub(crate) fn open(&self) -> BTreeSet<u64> {
        let path = format!("/proc/self/fdinfo/{}", self.epoll.0.as_raw_fd());
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().filter_map(number_of).collect()
    }
}

/// The number that a line of the list has: `tfd: 5 events: 0 data: 1f …`.
fn number_of(line: &str) -> Option<u64> {
    let (_, rest) = line.strip_prefix("tfd:")?.split_once("data:")?;
    u64::from_str_radix(rest.split_ascii_whitespace().next()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_socket_is_open_as_long_as_somebody_has_it() {
        let mut watched = Watched::new().unwrap();
        let (one, two) =
            (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let copy = one.try_clone().unwrap();
        let (first, second) = (watched.add(&one).unwrap(), watched.add(&two).unwrap());
        drop(one);
        assert_eq!(watched.open(), BTreeSet::from([first, second]));
        drop(copy);
        assert_eq!(watched.open(), BTreeSet::from([second]));
        drop(two);
        assert_eq!(watched.open(), BTreeSet::new());
    }
}
