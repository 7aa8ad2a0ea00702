//! For a process that has changed its user and may no longer enter the run dir: the collector, which may, opens the
//! socket and passes it over (see `agentfs_wire::broker`). The one place where anything of ours waits for
//! the collector, for two seconds at most, and only where the call would fail without it.
use crate::config::Config;
use crate::options;
use crate::rawaddr::UnixName;
use crate::sys::{self, Fd};
use agentfs_wire::broker::{Answer, Ask, REQUEST_BYTES, Request, socket_name};
use agentfs_wire::limits::BROKER_WAIT_MS;
use agentfs_wire::secret::Secret;

/// Asks once. Returns the socket, or `None` if the question was only a probe. EACCES: nobody answers.
pub(crate) fn ask(config: &Config, ask: Ask<'_>) -> sys::Result<Option<Fd>> {
    let socket = sys::unix_socket(libc::SOCK_SEQPACKET)?;
    let connection = socket.number();
    let name = socket_name(config.base());
    options::set_timeouts(connection, options::milliseconds(BROKER_WAIT_MS));
    // ECONNREFUSED would be an answer about the file.
    sys::connect(connection, UnixName::abstract_name(name.as_bytes()).bytes()).map_err(|_| libc::EACCES)?;
    // Anybody can bind an abstract name. Only root's collector answers here; a socket from another user would give
    // that user the program's clients.
    if sys::peer_user(connection)? != 0 {
        return Err(libc::EACCES);
    }
    let mut message = [0_u8; REQUEST_BYTES];
    let secret = config.secret.as_ref().map_or("", Secret::reveal);
    let request = Request { app: config.app.as_str(), instance: config.instance.as_str(), secret, ask };
    let length = request.encode(&mut message).ok_or(libc::EACCES)?;
    sys::send(connection, message.get(..length).unwrap_or(&[]))?;
    let (length, [descriptor, _]) = sys::receive_with_descriptors(connection, &mut message, 0)?;
    match (Answer::decode(message.get(..length).unwrap_or(&[])), descriptor) {
        (Some(Answer { errno: 0 }), Some(socket)) => Ok(Some(socket)),
        (Some(Answer { errno: 0 }), None) if matches!(ask, Ask::Probe { .. }) => Ok(None),
        (Some(Answer { errno }), None) if errno > 0 => Err(errno),
        _ => Err(libc::EACCES),
    }
}
