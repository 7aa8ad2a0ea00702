//! Names of sockets. A socket that stands in for one of the instance has a number that the program must not see.
use super::Supervisor;
use super::calls::Asked;
use crate::address;
use crate::facts;
use crate::ports::Ports;
use crate::stand_ins;
use crate::sys::seccomp::Answer;
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
        let Ok(socket) = asked.caller.descriptor(asked.number) else { return Answer::Continue };
        let name = match which {
            Which::Own => facts::name(&socket),
            Which::Peer => facts::peer(&socket),
        };
        let Ok(true_name) = name else { return Answer::Continue };
        let port = stand_ins.of_instance(true_name.port);
        // The socket at the other end is not ours to look at; no program but those of the instance listens there.
        let is_ours = match which {
            Which::Own => stand_ins::is_one(&socket),
            Which::Peer => true_name.canonical().ip.is_loopback(),
        };
        if port == true_name.port || !is_ours {
            return Answer::Continue;
        }
        // What cannot be written is left to the kernel, which says EFAULT or EINVAL.
        match write_name(asked, pointer, length, &address::write(Endpoint { port, ..true_name })) {
            Ok(()) => Answer::Done,
            Err(_) => Answer::Continue,
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
