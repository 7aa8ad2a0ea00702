//! The socket at the other end of a connection within this machine, and its user. Linux only; on other systems nothing is
//! known.
//!
//! One lookup needs a socket, a request and an answer. So it is only for our own pages and for half-closed
//! connections, not for every request.
use agentfs_system::tcp::Ends;
use tokio::net::TcpStream;

/// The ends of a stream; `None` if it is no longer connected.
pub(crate) fn ends(stream: &TcpStream) -> Option<Ends> {
    Some(Ends { peer: stream.peer_addr().ok()?, here: stream.local_addr().ok()? })
}
