//! Copies of sockets, where the system does not let us have a program's own (pidfd_getfd(2), which Docker's default profile
//! refuses). The supervisor then makes every TCP socket, gives it to the program and keeps a copy, by the number that the
//! kernel gave the socket, until the program listens or connects: a copy that stays longer would keep the socket open.
use crate::facts;
use crate::limits::COPIES;
use crate::process::Caller;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// The copies.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    is_needed: bool,
    /// The process that asked for each socket, and the copy.
    all: HashMap<u64, (u32, OwnedFd)>,
    /// Sockets of which there was a copy, and whether they are IPv6 ones. At the limit all are forgotten.
    known: HashMap<u64, bool>,
}

// === impl Copies ===

impl Copies {
    /// None yet. Asks whether they are needed.
    pub(crate) fn new() -> Self {
        let own = Caller(std::process::id()).descriptor(0);
        let is_refused = |error: io::Error| matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOSYS));
        Self { is_needed: own.err().is_some_and(is_refused), ..Self::default() }
    }

    /// Whether the supervisor makes the sockets.
    pub(crate) fn is_needed(&self) -> bool {
        self.is_needed
    }

    /// Whether there is room for one more.
    pub(crate) fn has_room(&mut self) -> bool {
        if self.all.len() >= COPIES {
            self.prune();
        }
        self.all.len() < COPIES
    }

    /// Keeps a copy of a socket that the program has.
    pub(crate) fn keep(&mut self, caller: Caller, socket: &OwnedFd) {
        if self.is_needed
            && let Ok(number) = rustix::fs::fstat(socket).map(|status| status.st_ino)
            && let Ok(copy) = socket.as_fd().try_clone_to_owned()
        {
            self.all.insert(number, (caller.leader(), copy));
        }
    }

    /// Whether a socket of which there was a copy is an IPv6 one.
    pub(crate) fn was_v6(&self, number: u64) -> Option<bool> {
        self.known.get(&number).copied()
    }

    /// The socket under a number of a program.
    ///
    /// # Errors
    /// `EBADF` if the program has none there, `EPERM` if we have no copy; else what the system says.
    pub(crate) fn descriptor(&self, caller: Caller, number: i32) -> io::Result<OwnedFd> {
        if !self.is_needed {
            return caller.descriptor(number);
        }
        let socket = caller.socket(number).ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))?;
        match self.all.get(&socket) {
            Some((_, copy)) => copy.try_clone(),
            None => Err(io::Error::from_raw_os_error(libc::EPERM)),
        }
    }

    /// A socket is the program's alone from here on.
    pub(crate) fn forget(&mut self, socket: &OwnedFd) {
        if let Ok(status) = rustix::fs::fstat(socket)
            && self.all.remove(&status.st_ino).is_some()
            && let Some(tcp) = facts::of(socket)
        {
            if self.known.len() >= COPIES {
                self.known.clear();
            }
            self.known.insert(status.st_ino, tcp.v6);
        }
    }

    /// Whether there are any.
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Closes the copies of sockets that their programs have closed.
    pub(crate) fn prune(&mut self) {
        let processes: BTreeSet<u32> = self.all.values().map(|(process, _)| *process).collect();
        let open: BTreeSet<u64> =
            processes.into_iter().flat_map(|process| Caller(process).sockets()).collect();
        self.all.retain(|number, _| open.contains(number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::fd::AsRawFd;

    #[test]
    fn a_copy_lives_no_longer_than_the_socket() {
        let own = Caller(std::process::id());
        let mut copies = Copies { is_needed: true, ..Copies::default() };
        let socket = OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap());
        let number = socket.as_raw_fd();
        assert_eq!(copies.descriptor(own, number).unwrap_err().raw_os_error(), Some(libc::EPERM));
        assert_eq!(copies.descriptor(own, -1).unwrap_err().raw_os_error(), Some(libc::EBADF));
        copies.keep(own, &socket);
        copies.prune();
        let copy = copies.descriptor(own, number).unwrap();
        assert_eq!(rustix::fs::fstat(&copy).unwrap().st_ino, rustix::fs::fstat(&socket).unwrap().st_ino);
        copies.forget(&socket);
        let of = own.socket(number).unwrap();
        assert_eq!((copies.is_empty(), copies.was_v6(of), copies.was_v6(0)), (true, Some(false), None));
        // Of a process that has ended nothing is left.
        copies.all.insert(1, (u32::MAX, copy));
        copies.prune();
        assert!(copies.is_empty());
    }

    #[test]
    fn without_need_there_are_none() {
        let mut copies = Copies::default();
        let socket = OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap());
        copies.keep(Caller(std::process::id()), &socket);
        assert!(copies.is_empty() && copies.has_room());
        assert!(copies.descriptor(Caller(std::process::id()), socket.as_raw_fd()).is_ok());
    }
}
