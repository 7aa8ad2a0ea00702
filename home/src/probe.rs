//! Asks the kernel whether a process holds a socket, without disturbing the listener.
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

/// Asks the kernel whether a process holds a socket.
#[derive(Debug, Default)]
pub struct Prober {
    socket: Option<OwnedFd>,
}

/// What the kernel says about a socket file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A process holds it.
    Live,
    /// No process holds it: it refuses connections.
    Stale,
    /// The file does not exist.
    Gone,
    /// It is not a stream socket, or the kernel does not say.
    Unknown(Errno),
}

// === impl Probe ===

impl Probe {
    /// Whether a process holds it, as a listener or as a datagram socket.
    pub fn is_held(self) -> bool {
        matches!(self, Self::Live | Self::Unknown(Errno::EPROTOTYPE))
    }
}

// === impl Prober ===

impl Prober {
    /// Probes by connecting a datagram socket: the kernel finds the socket and reports that it has another
    /// type. The listener does not notice.
    pub fn probe(&mut self, path: &Path) -> Probe {
        let socket = match self.socket.take().map_or_else(open, Ok) {
            Ok(socket) => self.socket.insert(socket),
            Err(errno) => return Probe::Unknown(errno),
        };
        let address = match UnixAddr::new(path) {
            Ok(address) => address,
            Err(errno) => return Probe::Unknown(errno),
        };
        match connect(socket.as_raw_fd(), &address) {
            Err(Errno::EPROTOTYPE) => Probe::Live,
            Err(Errno::ECONNREFUSED) => Probe::Stale,
            Err(Errno::ENOENT) => Probe::Gone,
            Err(errno) => Probe::Unknown(errno),
            Ok(()) => {
                // A datagram socket is bound there; disconnect from it.
                self.socket = None;
                Probe::Unknown(Errno::EPROTOTYPE)
            }
        }
    }
}

#[cfg(target_os = "linux")]
fn open() -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket(AddressFamily::Unix, SockType::Datagram, flags, None)
}

#[cfg(not(target_os = "linux"))]
fn open() -> nix::Result<OwnedFd> {
    use nix::fcntl::{FcntlArg, FdFlag, fcntl};
    let socket = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::empty(), None)?;
    fcntl(&socket, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixDatagram, UnixListener};

    #[test]
    fn a_probe_tells_live_from_stale_without_being_heard() {
        let folder = tempfile::tempdir_in("/tmp").unwrap();
        let path = folder.path().join("a-b.80.sock");
        let mut prober = Prober::default();
        assert_eq!(prober.probe(&path), Probe::Gone);
        let listener = UnixListener::bind(&path).unwrap();
        assert_eq!(prober.probe(&path), Probe::Live);
        listener.set_nonblocking(true).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        drop(listener);
        assert_eq!(prober.probe(&path), Probe::Stale);
        let _datagram = UnixDatagram::bind(folder.path().join("a-b.sock")).unwrap();
        assert!(prober.probe(&folder.path().join("a-b.sock")).is_held());
        let file = folder.path().join("plain");
        std::fs::write(&file, "").unwrap();
        assert_eq!(
            prober.probe(&file),
            Probe::Stale,
            "ECONNREFUSED for a plain file: callers look at its type"
        );
    }
}
