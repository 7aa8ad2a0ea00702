//! What is behind a path of the run dir: the question that a datagram socket answers (`rundir.rs` says how).
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
    /// A socket file that nobody holds.
    Stale,
    /// No file.
    Nothing,
    /// Something else, or it cannot be told.
    Unknown,
}

/// Asks what is behind paths; opens its socket only when it is needed.
pub(crate) struct Prober(Option<Fd>);

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

/// macOS keeps a process that changed its user out.
#[cfg(not(target_os = "linux"))]
fn by_broker(_config: &Config, _name: &UnixName) -> Behind {
    Behind::Unknown
}
