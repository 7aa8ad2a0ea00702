//! Connections to listeners: made, kept while idle, checked before they are used again.
//!
//! Each [`Upstream`] owns its pool: last in, first out, so that a quiet router keeps few connections
//! warm and the rest age and are closed by [`Health::sweep`].
//!
//! A listener of a wrapped program is told whom a connection is made for, since its accept can say it. Such a
//! connection is used again for clients of the same machine only, so that no request seems to come from another.
use super::bridge::Bridge;
use super::delegate::delegate_io;
use super::limits::{CONNECT_TIME, IDLE_UPSTREAM, IDLE_UPSTREAM_CONNECTIONS};
use super::metrics::RouterMetrics;
use super::multiplex::{Lane, Multiplex};
use super::table::{Target, Upstream};
use crate::handoff;
use nix::sys::socket::{MsgFlags, recv};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;

/// A connection to a listener.
#[derive(Debug)]
pub(crate) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
    /// To one that speaks HTTP/2, for one exchange.
    Bridge(Box<Bridge>),
}

/// A client's address: small, because every connection has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClientAddress {
    /// An IPv4 address is a mapped one.
    ip: Ipv6Addr,
    port: u16,
}

/// What is wanted of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// The client that it is for.
    pub(crate) client: ClientAddress,
    /// One that served no request before.
    pub(crate) fresh: bool,
    /// Ask the kernel whether a kept one is alive; else what the event loop knows is enough, since the request can
    /// be sent again.
    pub(crate) exact: bool,
    /// It may change its protocol, and is the client's alone then.
    pub(crate) upgrade: bool,
}

/// A connection about to be used.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) stream: Stream,
    /// Whether it served a request before: the listener may be closing it at this moment.
    pub(crate) reused: bool,
    pub(crate) active: Active,
    /// The client that the listener was told, where it is told one.
    client: Option<ClientAddress>,
}

/// Counts a connection in use for as long as it lives.
#[derive(Debug)]
pub(crate) struct Active {
    upstream: Arc<Upstream>,
    endless: bool,
}

/// Pool and health of one listener.
#[derive(Debug, Default)]
pub(crate) struct Health {
    refused: AtomicBool,
    idle: Mutex<Vec<Idle>>,
    /// Connections in use.
    active: AtomicUsize,
    /// Those of them that carry an event stream or another protocol, so that nobody waits for their end.
    endless: AtomicUsize,
    multiplex: Multiplex,
}

#[derive(Debug)]
struct Idle {
    stream: Stream,
    /// As in [`Link`].
    client: Option<ClientAddress>,
    since: Instant,
}

// === impl ClientAddress ===

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

// === impl Health ===

impl Health {
    /// Whether the last connect was not refused.
    pub(crate) fn answers(&self) -> bool {
        !self.refused.load(Ordering::Relaxed)
    }

    /// Notes how the last connect went.
    pub(crate) fn set_refused(&self, refused: bool) {
        if self.refused.load(Ordering::Relaxed) != refused {
            self.refused.store(refused, Ordering::Relaxed);
        }
    }

    /// Connections in use.
    pub(crate) fn active(&self) -> usize {
        self.active.load(Ordering::Relaxed)
    }

    /// Requests in progress that will end by themselves.
    pub(crate) fn ending(&self) -> usize {
        self.active().saturating_sub(self.endless.load(Ordering::Relaxed))
    }

    /// Begins anew with a listener of the same name: what was learnt of its predecessor is void.
    pub(crate) fn renew(&self) {
        self.set_refused(false);
        self.pool().clear();
        self.multiplex.renew();
    }

    /// Closes connections that stayed unused too long or that the listener closed; how many are left.
    pub(crate) fn sweep(&self, now: Instant) -> usize {
        let mut pool = self.pool();
        pool.retain(|idle| now.duration_since(idle.since) < IDLE_UPSTREAM && idle.stream.is_quiet());
        pool.len() + self.multiplex.sweep(now)
    }

    /// Its HTTP/2.
    pub(crate) fn multiplex(&self) -> &Multiplex {
        &self.multiplex
    }

    /// Keeps the connection of `link` for the next request; closes it where enough are kept.
    pub(crate) fn keep(&self, link: Link) {
        let Link { stream, client, .. } = link;
        if matches!(stream, Stream::Bridge(_)) {
            return;
        }
        let mut pool = self.pool();
        if pool.len() < IDLE_UPSTREAM_CONNECTIONS {
            pool.push(Idle { stream, client, since: Instant::now() });
        }
    }

    /// The connection used last, if one is alive; for a `client` that the listener is told, one of its own before
    /// others of its machine. `exact`: see [`Wanted`].
    fn take(&self, exact: bool, client: Option<ClientAddress>) -> Option<Idle> {
        let mut pool = self.pool();
        loop {
            let index = match client {
                None => pool.len().checked_sub(1)?,
                Some(client) => index_for(&pool, client)?,
            };
            let idle = pool.remove(index);
            if idle.stream.is_quiet() && !(exact && idle.stream.has_ended()) {
                return Some(idle);
            }
        }
    }

    fn pool(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The connection used last that was made for `client`; else the last one for another client of its machine.
fn index_for(pool: &[Idle], client: ClientAddress) -> Option<usize> {
    let mut neighbour = None;
    for (index, idle) in pool.iter().enumerate().rev() {
        match idle.client {
            Some(of) if of == client => return Some(index),
            Some(of) if neighbour.is_none() && of.ip == client.ip => neighbour = Some(index),
            _ => {}
        }
    }
    neighbour
}

// === impl Active ===

impl Active {
    /// One more connection to `upstream` is in use.
    pub(crate) fn begin(upstream: &Arc<Upstream>) -> Self {
        upstream.health.active.fetch_add(1, Ordering::Relaxed);
        Self { upstream: Arc::clone(upstream), endless: false }
    }

    /// Notes that nobody need wait for its end.
    pub(crate) fn set_endless(&mut self) {
        if !std::mem::replace(&mut self.endless, true) {
            self.upstream.health.endless.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        let health = &self.upstream.health;
        if self.endless {
            health.endless.fetch_sub(1, Ordering::Relaxed);
        }
        health.active.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl Upstream ===

impl Upstream {
    /// A connection: a kept one, unless it has to be fresh.
    pub(crate) async fn open(self: &Arc<Self>, wanted: &Wanted, metrics: &RouterMetrics) -> io::Result<Link> {
        if self.health.multiplex.is_only() {
            // Boxed, as the connect below: every idle client would keep room for it.
            let Lane { sender, active, driver, .. } =
                Box::pin(self.open_http2(wanted.fresh, metrics)).await?;
            let stream = Stream::Bridge(Box::new(Bridge::new(sender, driver, self)));
            return Ok(Link { stream, reused: false, active, client: None });
        }
        let active = Active::begin(self);
        let client = self.names_clients.then_some(wanted.client);
        let fresh = wanted.fresh || (wanted.upgrade && client.is_some());
        if !fresh && let Some(Idle { stream, client, .. }) = self.health.take(wanted.exact, client) {
            return Ok(Link { stream, reused: true, active, client });
        }
        let opened = Box::pin(Stream::connect(&self.socket, client)).await;
        self.health.set_refused(matches!(&opened, Err(error) if is_refusal(error)));
        if opened.is_ok() {
            metrics.connects.add(1);
        }
        Ok(Link { stream: opened?, reused: false, active, client })
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
async fn connect_unix(path: &Path, client: Option<ClientAddress>) -> io::Result<UnixStream> {
    if let Some(client) = client {
        match handoff::connect(path, client.into(), false) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock && !is_refusal(&error) => {}
            result => return result,
        }
    }
    UnixStream::connect(path).await
}

// === impl Stream ===

impl Stream {
    /// A new connection, in the name of `client` where the listener is to be told one.
    pub(crate) async fn connect(target: &Target, client: Option<ClientAddress>) -> io::Result<Self> {
        let timeout = |_| io::Error::from(io::ErrorKind::TimedOut);
        match target {
            Target::Unix(path) => match connect_unix(path, client).await {
                // The backlog is full. TCP would wait by itself.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let patient = async {
                        loop {
                            tokio::time::sleep(Duration::from_millis(1)).await;
                            match connect_unix(path, client).await {
                                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                                other => return other,
                            }
                        }
                    };
                    Ok(Self::Unix(tokio::time::timeout(CONNECT_TIME, patient).await.map_err(timeout)??))
                }
                other => Ok(Self::Unix(other?)),
            },
            Target::Tcp(address) => {
                let connect = TcpStream::connect(address);
                let stream = tokio::time::timeout(CONNECT_TIME, connect).await.map_err(timeout)??;
                stream.set_nodelay(true)?;
                Ok(Self::Tcp(stream))
            }
        }
    }

    /// Whether the event loop knows of nothing to read and no end: so it should be between requests.
    fn is_quiet(&self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        match self {
            Self::Unix(stream) => stream.poll_read_ready(&mut context).is_pending(),
            Self::Tcp(stream) => stream.poll_read_ready(&mut context).is_pending(),
            Self::Bridge(_) => false,
        }
    }

    /// Asks the kernel whether the other side ended it, or sent what nobody asked for.
    fn has_ended(&self) -> bool {
        let descriptor = match self {
            Self::Unix(stream) => stream.as_raw_fd(),
            Self::Tcp(stream) => stream.as_raw_fd(),
            Self::Bridge(_) => return true,
        };
        let peeked = recv(descriptor, &mut [0], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT);
        peeked != Err(nix::errno::Errno::EAGAIN)
    }
}

delegate_io!(Stream { Unix, Tcp, Bridge });

#[cfg(test)]
mod tests {
    use super::*;

    fn idle(client: &str) -> Idle {
        let (ours, _) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let stream = Stream::Unix(UnixStream::from_std(ours).unwrap());
        Idle { stream, client: client.parse().ok().map(SocketAddr::into), since: Instant::now() }
    }

    #[tokio::test]
    async fn a_client_gets_its_own_connection_before_one_of_its_machine() {
        let pool = ["127.0.0.1:5", "127.0.0.2:7", "127.0.0.1:6", "", "[::1]:5"].map(idle);
        let index = |client: &str| index_for(&pool, client.parse::<SocketAddr>().unwrap().into());
        assert_eq!(index("127.0.0.1:5"), Some(0));
        assert_eq!(index("127.0.0.1:9"), Some(2));
        assert_eq!(index("127.0.0.2:5"), Some(1));
        assert_eq!(index("[::1]:9"), Some(4));
        assert_eq!(index("127.0.0.3:5"), None);
        assert_eq!(index("[::ffff:127.0.0.2]:7"), Some(1));
    }
}
