//! Connections whose own end is named after a client elsewhere (see `agentfs_wire::peer`), so that the program sees
//! the client's true address.
use crate::full::Kernel;
use agentfs_wire::address::Endpoint;
use agentfs_wire::peer::{Peer, PeerName};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, socket};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::UnixStream;

/// Tries while a listener's backlog is full, [`PAUSE`] apart. Then the connection is refused.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(10);

/// As [`connect`], patient with a listener whose backlog is full, as TCP is.
///
/// # Errors
/// What connect(2) says.
pub async fn dial(path: &Path, client: SocketAddr, handed_over: bool) -> io::Result<UnixStream> {
    let mut tries = 0;
    loop {
        match connect(path, client, handed_over) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && tries < TRIES => {
                tries += 1;
                tokio::time::sleep(PAUSE).await;
            }
            result => return result,
        }
    }
}

/// Connects to the listener at `path` in the name of `client`. `handed_over`: its TCP connection will follow.
///
/// # Errors
/// What connect(2) says; `WouldBlock` where the backlog is full.
pub fn connect(path: &Path, client: SocketAddr, handed_over: bool) -> io::Result<UnixStream> {
    static SEQUENCE: AtomicU64 = AtomicU64::new(0);
    let client = Endpoint { ip: client.ip(), port: client.port() }.canonical();
    let sequence = SEQUENCE.fetch_add(1, Ordering::Relaxed);
    let name = Peer::format_forwarded(client, handed_over, std::process::id(), sequence);
    let socket = named(path, &name).map_err(|error| Kernel::THIS.explain(error, path))?;
    UnixStream::from_std(socket.into())
}

#[cfg(target_os = "linux")]
fn named(path: &Path, name: &PeerName) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    bind(socket.as_raw_fd(), &UnixAddr::new_abstract(name.as_bytes().get(1..).unwrap_or(&[]))?)?;
    nix::sys::socket::connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(socket)
}

/// Without abstract names: a file beside the run dir that is gone once the connection stands.
#[cfg(not(target_os = "linux"))]
fn named(path: &Path, name: &PeerName) -> io::Result<OwnedFd> {
    let base = path.parent().and_then(Path::parent).ok_or(io::ErrorKind::NotFound)?;
    let file = base.join(agentfs_wire::peer::forwarded_file(name).as_str());
    let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::empty(), None)?;
    nix::fcntl::fcntl(&socket, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
    nix::fcntl::fcntl(&socket, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))?;
    bind(socket.as_raw_fd(), &UnixAddr::new(&file)?)?;
    let connected = nix::sys::socket::connect(socket.as_raw_fd(), &UnixAddr::new(path)?);
    std::fs::remove_file(&file)?;
    connected?;
    Ok(socket)
}
