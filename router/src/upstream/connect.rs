//! New connections to listeners, and what their errors say.
use crate::io::delegate::delegate_io;
use crate::limits::CONNECT_TIME;
use crate::upstream::target::Target;
use agentfs_handoff::Kernel;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream};

/// A connection that was made.
#[derive(Debug)]
pub(crate) enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// A client's address: small, because every connection has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClientAddress {
    /// An IPv4 address is a mapped one.
    ip: Ipv6Addr,
    port: u16,
}

// === impl ClientAddress ===

impl ClientAddress {
    /// Whether both are of one machine.
    pub(crate) fn is_beside(self, other: Self) -> bool {
        self.ip == other.ip
    }
}

impl From<SocketAddr> for ClientAddress {
    fn from(address: SocketAddr) -> Self {
        let ip = match address.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        Self { ip, port: address.port() }
    }
}

impl From<ClientAddress> for SocketAddr {
    fn from(client: ClientAddress) -> Self {
        Self::new(IpAddr::V6(client.ip).to_canonical(), client.port)
    }
}

/// Whether `error` says that nobody listens.
pub(crate) fn is_refusal(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound)
}

/// Whether `error` says that the other side closed its end and left something unread there: a Unix socket tells so
/// (unix(7)), and so does TCP (RFC 9293 3.6.1).
pub(crate) fn is_unread(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionReset
}

/// One try. Without a name for its end, which a full disk may refuse where names are files, the connection is as
/// good, and the program makes its client's address up.
async fn connect_unix(kernel: Kernel, path: &Path, client: Option<ClientAddress>) -> io::Result<Socket> {
    try_unix(path, client).await.map_err(|error| kernel.explain(error, path))
}

async fn try_unix(path: &Path, client: Option<ClientAddress>) -> io::Result<Socket> {
    if let Some(client) = client {
        if agentfs_handoff::is_front(path) {
            let stream = agentfs_handoff::dial_front(path, client.into()).await?;
            stream.set_nodelay(true)?;
            return Ok(Socket::Tcp(stream));
        }
        match agentfs_handoff::connect(path, client.into(), false) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock && !is_refusal(&error) => {}
            result => return result.map(Socket::Unix),
        }
    }
    UnixStream::connect(path).await.map(Socket::Unix)
}

// === impl Socket ===

impl Socket {
    /// A new connection, in the name of `client` where the listener is to be told one.
    pub(crate) async fn connect(target: &Target, client: Option<ClientAddress>) -> io::Result<Self> {
        Self::connect_on(Kernel::THIS, target, client).await
    }

    async fn connect_on(kernel: Kernel, target: &Target, client: Option<ClientAddress>) -> io::Result<Self> {
        let timeout = |_| io::Error::from(io::ErrorKind::TimedOut);
        match target {
            Target::Unix(path) => match connect_unix(kernel, path, client).await {
                // The backlog is full. TCP would wait by itself.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let patient = async {
                        loop {
                            tokio::time::sleep(Duration::from_millis(1)).await;
                            match connect_unix(kernel, path, client).await {
                                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                                other => return other,
                            }
                        }
                    };
                    tokio::time::timeout(CONNECT_TIME, patient).await.map_err(timeout)?
                }
                other => other,
            },
            Target::Tcp(address) => {
                let connect = TcpStream::connect(address);
                let stream = tokio::time::timeout(CONNECT_TIME, connect).await.map_err(timeout)??;
                stream.set_nodelay(true)?;
                Ok(Self::Tcp(stream))
            }
        }
    }
}

delegate_io!(Socket { Unix, Tcp });

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixListener;
    use std::task::Poll;

    fn connected(path: &Path) -> nix::Result<std::os::fd::OwnedFd> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let client = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        nix::sys::socket::connect(client.as_raw_fd(), &UnixAddr::new(path)?)?;
        Ok(client)
    }

    /// A listener with a backlog of 1.
    fn with_room_for_one(path: &Path) -> nix::Result<UnixListener> {
        let listener = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        bind(listener.as_raw_fd(), &UnixAddr::new(path)?)?;
        listen(&listener, Backlog::new(1)?)?;
        Ok(UnixListener::from(listener))
    }

    /// TCP queues where a Unix socket refuses: an application that is slow to accept is waited for.
    #[tokio::test]
    async fn a_full_backlog_is_waited_for() {
        let folder = tempfile::tempdir_in("/tmp").unwrap();
        let path = folder.path().join("app.sock");
        let listener = with_room_for_one(&path).unwrap();
        let mut queue = Vec::new();
        while let Ok(client) = connected(&path) {
            queue.push(client);
        }
        for client in [None, Some(ClientAddress { ip: Ipv6Addr::LOCALHOST, port: 7 })] {
            let target = Target::Unix(path.clone());
            let mut connecting = std::pin::pin!(Socket::connect(&target, client));
            let first = std::future::poll_fn(|context| Poll::Ready(connecting.as_mut().poll(context)));
            assert!(first.await.is_pending(), "it is full");
            let (_accepted, _) = listener.accept().unwrap();
            assert!(matches!(connecting.await, Ok(Socket::Unix(_))));
        }
    }

    /// A burst at an application that takes one connection at a time, on a kernel that says of a full queue what it says
    /// of a listener that is gone: all are waited for, and none once it is gone.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_burst_is_waited_for_where_a_full_queue_refuses() {
        let folder = tempfile::tempdir_in("/tmp").unwrap();
        let path = folder.path().join("app.sock");
        let listener = with_room_for_one(&path).unwrap();
        let mut burst = tokio::task::JoinSet::new();
        for port in 0..256 {
            let path = path.clone();
            burst.spawn(async move {
                let client = (port % 2 == 0).then_some(ClientAddress { ip: Ipv6Addr::LOCALHOST, port });
                Socket::connect_on(Kernel::Pretends, &Target::Unix(path), client).await
            });
        }
        let accepting = std::thread::spawn(move || {
            let taken: Vec<_> = (0..256).map(|_| listener.accept().unwrap()).collect();
            drop((taken, listener));
        });
        for result in burst.join_all().await {
            assert!(matches!(result, Ok(Socket::Unix(_))), "{result:?}");
        }
        accepting.join().unwrap();
        let gone = Socket::connect_on(Kernel::Pretends, &Target::Unix(path), None).await;
        assert!(is_refusal(&gone.unwrap_err()));
    }
}
