//! Names of sockets. A socket that stands in for one of the instance has a number that the program must not see.
use super::{Asked, Supervisor};
use crate::address;
use crate::facts;
use crate::ports::Ports;
use crate::stand_ins;
use crate::sys::seccomp::Answer;
use crate::tcp_table;
use agentfs_wire::address::Endpoint;
use std::io;

/// Which end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// The socket's own.
    Own,
    /// The other one.
    Peer,
}

impl Supervisor {
    /// getsockname(2) and getpeername(2), whose arguments say where the address and its length are.
    pub(super) fn name_of(&self, asked: &Asked, (pointer, length): (u64, u64), which: Which) -> Answer {
        let Ok(Ports::StandIns(stand_ins)) = &self.ports else { return Answer::Continue };
        if stand_ins.is_empty() {
            return Answer::Continue;
        }
        let Some((true_name, is_ours)) = self.true_name(asked, which) else { return Answer::Continue };
        let port = stand_ins.of_instance(true_name.port);
        if port == true_name.port || !is_ours {
            return Answer::Continue;
        }
        // What cannot be written is left to the kernel, which says EFAULT or EINVAL.
        match write_name(asked, pointer, length, &address::write(Endpoint { port, ..true_name })) {
            Ok(()) => Answer::Done,
            Err(_) => Answer::Continue,
        }
    }

    /// What the kernel says, and whether the number may be a stand-in.
    fn true_name(&self, asked: &Asked, which: Which) -> Option<(Endpoint, bool)> {
        let on_loopback = |name: Endpoint| {
            let ip = name.canonical().ip;
            ip.is_loopback() || ip.is_unspecified()
        };
        match (self.socket_of(asked), which) {
            (Ok(socket), Which::Own) => Some((facts::name(&socket).ok()?, stand_ins::is_one(&socket))),
            // The socket at the other end is not ours to look at; nobody but the instance listens there.
            (Ok(socket), Which::Peer) => facts::peer(&socket).ok().map(|name| (name, on_loopback(name))),
            (Err(_), which) if self.copies.is_needed() => {
                let (own, peer) = tcp_table::names(asked.caller.socket(asked.number)?)?;
                let name = if which == Which::Own { own } else { peer };
                Some((name, name.port != 0 && on_loopback(name)))
            }
            (Err(_), _) => None,
        }
    }
}

/// Writes an address where the program wants it, as much as it has room for, and its whole length.
fn write_name(asked: &Asked, pointer: u64, length: u64, bytes: &[u8]) -> io::Result<()> {
    let mut room = [0; 4];
    if asked.caller.read(length, &mut room)? != room.len() {
        return Err(io::Error::from_raw_os_error(libc::EFAULT));
    }
    // A negative length is refused.
    let room = usize::try_from(i32::from_ne_bytes(room)).map_err(io::Error::other)?;
    let written = bytes.get(..room.min(bytes.len())).unwrap_or_default();
    if !written.is_empty() {
        asked.caller.write(pointer, written)?;
    }
    asked.caller.write(length, &u32::try_from(bytes.len()).unwrap_or(0).to_ne_bytes())
}
