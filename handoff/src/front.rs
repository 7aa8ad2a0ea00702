//! Fronts of the seccomp engine: Unix sockets behind which a program listens on TCP in a network of its own. The supervisor
//! gives the collector a TCP connection to the program, so that no byte passes through a third process.
use agentfs_wire::handoff::FRONT;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use tokio::net::TcpStream;

/// Whether the socket at `path` is a front.
pub fn is_front(path: &Path) -> bool {
    cfg!(target_os = "linux")
        && std::fs::metadata(path).is_ok_and(|file| file.file_type().is_socket() && file.mode() & FRONT != 0)
}

/// A connection to the program behind the front at `path`, in the name of `client` as far as that is possible.
///
/// # Errors
/// `ConnectionRefused` if the program does not listen; else what the system says.
#[cfg(target_os = "linux")]
pub async fn dial_front(path: &Path, client: SocketAddr) -> io::Result<TcpStream> {
    use crate::limits::HANDOFF_CLAIM;
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    use std::io::IoSliceMut;
    use std::mem::MaybeUninit;
    use tokio::io::Interest;
    let carrier = crate::tagged::connect(path, client, true)?;
    let receive = || {
        let mut byte = [0];
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut room);
        recvmsg(&carrier, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        let mut rights = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(rights) => Some(rights),
            _ => None,
        });
        Ok(rights.next().and_then(|mut rights| rights.next()))
    };
    let received = tokio::time::timeout(HANDOFF_CLAIM, carrier.async_io(Interest::READABLE, receive));
    let socket = received.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let socket = socket.ok_or(io::ErrorKind::ConnectionRefused)?;
    TcpStream::from_std(socket.into())
}

/// There are none on this system.
///
/// # Errors
/// Always.
#[cfg(not(target_os = "linux"))]
pub async fn dial_front(_path: &Path, _client: SocketAddr) -> io::Result<TcpStream> {
    Err(io::ErrorKind::Unsupported.into())
}
