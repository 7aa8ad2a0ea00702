//! Connects to the listener of an instance that TCP would reach, on behalf of a client elsewhere. The connection's
//! own end is named after the client (see `agentfs_wire::peer`), so that the app sees its true address.
use agentfs_wire::address::Scope;
use agentfs_wire::limits::REUSEPORT_WORKERS;
use agentfs_wire::name::{Kind, SocketName, app_name, instance_name};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;

/// Tries while a listener's backlog is full, [`PAUSE`] apart. Then the connection is refused.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(10);

/// Connects to the listener on `port` that a client of `ip` reaches.
///
/// # Errors
/// `NotFound` where there is none; else what the last one answered.
pub(super) async fn dial(
    run: &Path,
    app: &str,
    instance: &str,
    port: u16,
    ip: IpAddr,
    client: SocketAddr,
) -> io::Result<UnixStream> {
    let mut outcome = Err(io::ErrorKind::NotFound.into());
    for path in candidates(run, app, instance, port, ip) {
        for _ in 0..TRIES {
            outcome = connect(&path, client);
            match &outcome {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => tokio::time::sleep(PAUSE).await,
                _ => break,
            }
        }
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

/// Files that may be listeners for the port, best first; members of a `SO_REUSEPORT` group last.
fn candidates(run: &Path, app: &str, instance: &str, port: u16, ip: IpAddr) -> Vec<PathBuf> {
    let (Some(app), Some(instance)) = (app_name(app), instance_name(instance)) else { return Vec::new() };
    // A listener on 127.0.0.1 is meant whatever the address is that we listen on.
    let lo = Scope::V4(Ipv4Addr::LOCALHOST);
    let scopes = match ip {
        IpAddr::V4(_) => [lo, Scope::AnyV4, Scope::AnyDual, Scope::LoopbackV6, Scope::AnyV6],
        IpAddr::V6(_) => [Scope::LoopbackV6, Scope::AnyV6, Scope::AnyDual, lo, Scope::AnyV4],
    };
    let workers = std::iter::once(None).chain((0..REUSEPORT_WORKERS).map(Some));
    workers
        .flat_map(|worker| scopes.map(|scope| Kind::Listener { port, scope, worker }))
        .map(|kind| run.join(SocketName { app, instance, kind }.format().as_str()))
        .filter(|path| path.exists())
        .collect()
}

#[cfg(target_os = "linux")]
fn connect(path: &Path, client: SocketAddr) -> io::Result<UnixStream> {
    use agentfs_wire::address::Endpoint;
    use agentfs_wire::peer::Peer;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, connect, socket};
    use std::os::fd::AsRawFd;
    use std::sync::atomic::{AtomicU64, Ordering};
    static SEQUENCE: AtomicU64 = AtomicU64::new(0);
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    let client = Endpoint { ip: client.ip(), port: client.port() };
    let name =
        Peer::format_forwarded(client, false, std::process::id(), SEQUENCE.fetch_add(1, Ordering::Relaxed));
    bind(socket.as_raw_fd(), &UnixAddr::new_abstract(name.as_bytes().get(1..).unwrap_or(&[]))?)?;
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    UnixStream::from_std(socket.into())
}

/// Without abstract names the app sees an invented loopback client.
#[cfg(not(target_os = "linux"))]
fn connect(path: &Path, _client: SocketAddr) -> io::Result<UnixStream> {
    let stream = std::os::unix::net::UnixStream::connect(path)?;
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}
