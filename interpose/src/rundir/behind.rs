//! What is behind a path of the run dir. A datagram socket finds it out (`rundir.rs` says how).
#[cfg(target_os = "linux")]
use super::access::file_of;
use super::access::look;
use crate::config::Config;
use crate::rawaddr::UnixName;
use crate::sys::{self, Fd};
#[cfg(target_os = "linux")]
use agentfs_wire::broker::Ask;

/// What is behind a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behind {
    /// A bound stream socket.
    Socket,
    /// A file whose socket was closed.
    Stale,
    /// No file.
    Nothing,
    /// Something else, or nobody knows.
    Unknown,
}

/// Finds out what is behind paths. It opens its socket on first use.
pub(crate) struct Prober(Option<Fd>);

// === impl Prober ===

impl Prober {
    /// A prober without a socket.
    pub(crate) fn new() -> Self {
        Self(None)
    }

    /// Finds out what is behind `name`. Mostly nothing is there; then this costs one access(2).
    pub(crate) fn ask(&mut self, config: &Config, name: &UnixName) -> Behind {
        match look(config, name) {
            Ok(()) => self.probe(config, name),
            Err(libc::EACCES) => by_broker(config, name),
            Err(_) => Behind::Nothing,
        }
    }

    /// The same for a name that exists, or existed a moment ago.
    pub(super) fn probe(&mut self, config: &Config, name: &UnixName) -> Behind {
        let fd = match &self.0 {
            Some(fd) => fd,
            None => match sys::unix_socket(libc::SOCK_DGRAM) {
                Ok(fd) => self.0.insert(fd),
                Err(_) => return Behind::Unknown,
            },
        };
        match sys::connect(fd.number(), name.bytes()) {
            Err(libc::EPROTOTYPE) => Behind::Socket,
            Err(libc::ECONNREFUSED) => Behind::Stale,
            Err(libc::ENOENT) => Behind::Nothing,
            Err(libc::EACCES) => by_broker(config, name),
            _ => Behind::Unknown,
        }
    }
}

/// The same for a run dir that this process cannot enter.
#[cfg(target_os = "linux")]
fn by_broker(config: &Config, name: &UnixName) -> Behind {
    let answer = file_of(config, name).and_then(|(file, _)| crate::broker::ask(config, Ask::Probe { file }));
    match answer {
        Ok(_) => Behind::Socket,
        Err(libc::ECONNREFUSED) => Behind::Stale,
        // Without a broker nobody knows, and nothing can be bound: the bind will fail with its own errno.
        Err(libc::ENOENT | libc::EACCES) => Behind::Nothing,
        Err(_) => Behind::Unknown,
    }
}

/// There is no broker on macOS.
#[cfg(not(target_os = "linux"))]
fn by_broker(_config: &Config, _name: &UnixName) -> Behind {
    Behind::Unknown
}
