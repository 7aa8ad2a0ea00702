//! What it means that a Unix listener refuses a connection. If its queue is full, Linux says EAGAIN (unix(7)). XNU says
//! ECONNREFUSED (`unp_connect` in bsd/kern/uipc_usrreq.c, by `sonewconn`), which is also what it says of a socket that
//! nobody has. A datagram socket tells them apart: to one that somebody has it is of the wrong type (EPROTOTYPE).
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::Path;

/// How a kernel says that a queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// In its own words.
    Tells,
    /// As if nobody listened.
    Refuses,
    /// The first kind, which answers as the second: for tests.
    Pretends,
}

// === impl Kernel ===

impl Kernel {
    /// This system's.
    pub const THIS: Self = if cfg!(target_os = "macos") { Self::Refuses } else { Self::Tells };

    /// The error of a connection to the listener at `path`: `WouldBlock` if its queue is full, on every system. A socket
    /// that is bound and does not listen yet looks the same on macOS.
    pub fn explain(self, error: io::Error, path: &Path) -> io::Error {
        let error = match self {
            Self::Pretends if error.kind() == io::ErrorKind::WouldBlock => Errno::ECONNREFUSED.into(),
            _ => error,
        };
        let is_full =
            self != Self::Tells && error.kind() == io::ErrorKind::ConnectionRefused && is_held(path);
        if is_full { io::ErrorKind::WouldBlock.into() } else { error }
    }
}

/// Whether somebody has the stream socket at `path`. It does not notice.
fn is_held(path: &Path) -> bool {
    let Ok(address) = UnixAddr::new(path) else { return false };
    let Ok(prober) = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::empty(), None) else {
        return false;
    };
    connect(prober.as_raw_fd(), &address) == Err(Errno::EPROTOTYPE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixDatagram, UnixListener};

    /// Kind of error before and after, for a path.
    fn explained(kernel: Kernel, errno: Errno, path: &Path) -> io::ErrorKind {
        kernel.explain(errno.into(), path).kind()
    }

    #[test]
    fn a_full_queue_is_told_from_a_listener_that_is_gone() {
        let folder = tempfile::tempdir_in("/tmp").unwrap();
        let path = folder.path().join("app.sock");
        let (full, refused, missing) =
            (io::ErrorKind::WouldBlock, io::ErrorKind::ConnectionRefused, io::ErrorKind::NotFound);
        assert_eq!(explained(Kernel::Refuses, Errno::ENOENT, &path), missing);
        assert_eq!(explained(Kernel::Refuses, Errno::ECONNREFUSED, &path), refused);
        let listener = UnixListener::bind(&path).unwrap();
        for (kernel, errno, expected) in [
            (Kernel::Tells, Errno::EAGAIN, full),
            (Kernel::Tells, Errno::ECONNREFUSED, refused),
            (Kernel::Refuses, Errno::ECONNREFUSED, full),
            (Kernel::Refuses, Errno::EACCES, io::ErrorKind::PermissionDenied),
            (Kernel::Pretends, Errno::EAGAIN, full),
        ] {
            assert_eq!(explained(kernel, errno, &path), expected, "{kernel:?} {errno}");
        }
        // It was not disturbed.
        listener.set_nonblocking(true).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), full);
        drop(listener);
        for (kernel, errno) in [(Kernel::Refuses, Errno::ECONNREFUSED), (Kernel::Pretends, Errno::EAGAIN)] {
            assert_eq!(explained(kernel, errno, &path), refused, "{kernel:?}");
        }
        let datagrams = folder.path().join("datagrams");
        let _socket = UnixDatagram::bind(&datagrams).unwrap();
        assert_eq!(explained(Kernel::Refuses, Errno::ECONNREFUSED, &datagrams), refused);
    }
}
