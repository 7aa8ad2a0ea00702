//! Connections to listeners: made, kept while idle, checked before they are used again.
//!
//! Each [`Upstream`] owns its pool: last in, first out, so that a quiet router keeps few connections
//! warm and the rest age and are closed by [`Health::sweep`].
use super::bridge::Bridge;
use super::delegate::delegate_io;
use super::limits::{CONNECT_TIME, IDLE_UPSTREAM, IDLE_UPSTREAM_CONNECTIONS};
use super::metrics::RouterMetrics;
use super::multiplex::{Lane, Multiplex};
use super::table::{Target, Upstream};
use nix::sys::socket::{MsgFlags, recv};
use std::io;
use std::os::fd::AsRawFd;
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

/// A connection about to be used.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) stream: Stream,
    /// Whether it served a request before: the listener may be closing it at this moment.
    pub(crate) reused: bool,
    pub(crate) active: Active,
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
    since: Instant,
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

    /// Closes connections that stayed unused too long or that the listener closed.
    pub(crate) fn sweep(&self, now: Instant) {
        self.pool().retain(|idle| now.duration_since(idle.since) < IDLE_UPSTREAM && idle.stream.is_quiet());
        self.multiplex.sweep(now);
    }

    /// Its HTTP/2.
    pub(crate) fn multiplex(&self) -> &Multiplex {
        &self.multiplex
    }

    /// Keeps `stream` for the next request; closes it where enough are kept.
    pub(crate) fn keep(&self, stream: Stream) {
        if matches!(stream, Stream::Bridge(_)) {
            return;
        }
        let mut pool = self.pool();
        if pool.len() < IDLE_UPSTREAM_CONNECTIONS {
            pool.push(Idle { stream, since: Instant::now() });
        }
    }

    /// The connection used last, if one is alive. `exact` asks the kernel; else what the event loop
    /// knows is enough, since the request can be sent again.
    fn take(&self, exact: bool) -> Option<Stream> {
        let mut pool = self.pool();
        loop {
            let stream = pool.pop()?.stream;
            if stream.is_quiet() && !(exact && stream.has_ended()) {
                return Some(stream);
            }
        }
    }

    fn pool(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
    /// A connection: a kept one unless `fresh`. `exact`: see [`Health::take`].
    pub(crate) async fn open(
        self: &Arc<Self>,
        fresh: bool,
        exact: bool,
        metrics: &RouterMetrics,
    ) -> io::Result<Link> {
        if self.health.multiplex.is_only() {
            // Boxed, as the connect below: every idle client would keep room for it.
            let Lane { sender, active, driver, .. } = Box::pin(self.open_http2(fresh, metrics)).await?;
            let stream = Stream::Bridge(Box::new(Bridge::new(sender, driver, self)));
            return Ok(Link { stream, reused: false, active });
        }
        let active = Active::begin(self);
        if !fresh && let Some(stream) = self.health.take(exact) {
            return Ok(Link { stream, reused: true, active });
        }
        let opened = Box::pin(Stream::connect(&self.socket)).await;
        self.health.set_refused(matches!(&opened, Err(error) if is_refusal(error)));
        if opened.is_ok() {
            metrics.connects.add(1);
        }
        Ok(Link { stream: opened?, reused: false, active })
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

// === impl Stream ===

impl Stream {
    /// A new connection.
    pub(crate) async fn connect(target: &Target) -> io::Result<Self> {
        let timeout = |_| io::Error::from(io::ErrorKind::TimedOut);
        match target {
            Target::Unix(path) => match UnixStream::connect(path).await {
                // The backlog is full. TCP would wait by itself.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let patient = async {
                        loop {
                            tokio::time::sleep(Duration::from_millis(1)).await;
                            match UnixStream::connect(path).await {
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
