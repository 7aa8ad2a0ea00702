//! Connections to listeners that speak HTTP/2 by prior knowledge: many requests over one.
//!
//! Owns the connections of one listener and the tasks that drive them; they end when nobody used them for
//! a while, or after their last request when another program listens. hyper speaks the protocol. Which requests come here is the
//! caller's business.

use crate::io::inflow::Inflow;
use crate::io::tasks::Tasks;
use crate::limits::{IDLE_UPSTREAM, UPSTREAM_HTTP2_CONNECTIONS, UPSTREAM_STREAMS};
use crate::message::headers;
use crate::upstream::connect::Socket;
use crate::upstream::load::{Active, Load};
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper::header::HeaderMap;
use hyper_util::rt::TokioIo;
use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::time::Instant;

/// Takes out of `trailers` what may not be among them.
pub(crate) fn retain_trailers(trailers: &mut HeaderMap) {
    let wrong: Vec<_> = trailers.keys().filter(|name| !headers::may_trail(name.as_str())).cloned().collect();
    for name in wrong {
        trailers.remove(name);
    }
}

/// What is known of a listener's HTTP/2, and the connections to it that speak it.
#[derive(Debug, Default)]
pub(crate) struct Multiplex {
    /// Whether it answered HTTP/1 in HTTP/2.
    only: AtomicBool,
    open: Mutex<Vec<Connection>>,
}

#[derive(Debug)]
struct Connection {
    sender: SendRequest<Sending>,
    /// One reference is ours, one is each request's.
    driver: Arc<Driver>,
    used: Instant,
}

/// What drives a connection. It ends with the last that uses it: a connection that takes no more
/// requests still answers those it has.
#[derive(Debug)]
pub(crate) struct Driver(Tasks);

/// A place for one request. The connection counts as used for as long as it lives.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) sender: SendRequest<Sending>,
    /// Whether the connection served a request before: it may be ending at this moment.
    pub(crate) reused: bool,
    /// Counts the request on its connection.
    pub(crate) driver: Arc<Driver>,
    /// Counts it at its listener.
    pub(crate) active: Active,
}

/// A request's body on its way.
#[derive(Debug)]
pub(crate) enum Sending {
    Nothing,
    /// Of a client of HTTP/1, by way of a bridge.
    Http1(Incoming),
    /// Of a client of HTTP/2.
    Http2(Inflow, Arc<Progress>),
}

/// How far a body is.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    frames: AtomicUsize,
    ended: AtomicBool,
}

// === impl Multiplex ===

impl Multiplex {
    /// Whether the listener is taken to speak HTTP/2 only.
    pub(crate) fn is_only(&self) -> bool {
        self.only.load(Ordering::Relaxed)
    }

    /// Notes what the listener turned out to speak.
    pub(crate) fn set_only(&self, only: bool) {
        self.only.store(only, Ordering::Relaxed);
    }

    /// Forgets all: another program listens.
    pub(crate) fn renew(&self) {
        self.set_only(false);
        self.open().clear();
    }

    /// Closes connections that ended or that nobody used for a while; how many are left.
    pub(crate) fn sweep(&self, now: Instant) -> usize {
        let mut open = self.open();
        open.retain_mut(|connection| {
            if connection.streams() > 0 {
                connection.used = now;
            }
            !connection.sender.is_closed() && now.duration_since(connection.used) < IDLE_UPSTREAM
        });
        open.len()
    }

    /// A place on a connection that is there: one with room, or the emptiest where there may be no more.
    pub(crate) fn take(&self, load: &Arc<Load>) -> Option<Lane> {
        let mut open = self.open();
        open.retain(|connection| !connection.sender.is_closed());
        let full = open.len() >= UPSTREAM_HTTP2_CONNECTIONS;
        let emptiest = open.iter_mut().min_by_key(|connection| connection.streams())?;
        (full || emptiest.streams() < UPSTREAM_STREAMS).then(|| emptiest.lane(true, load))
    }

    /// A place on a connection that begins with `socket`.
    pub(crate) async fn begin(&self, socket: Socket, load: &Arc<Load>) -> io::Result<Lane> {
        let tasks = Tasks::default();
        let handshake = Builder::new(tasks.clone()).handshake(TokioIo::new(socket)).await;
        let (sender, serving) = handshake.map_err(io::Error::other)?;
        tasks.spawn(async move {
            // Requests that it cuts off hear of it themselves.
            let _ = serving.await;
        });
        let driver = Arc::new(Driver(tasks));
        let mut connection = Connection { sender, driver, used: Instant::now() };
        let lane = connection.lane(false, load);
        self.open().push(connection);
        Ok(lane)
    }

    fn open(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Connection ===

impl Connection {
    fn streams(&self) -> usize {
        Arc::strong_count(&self.driver) - 1
    }

    fn lane(&mut self, reused: bool, load: &Arc<Load>) -> Lane {
        self.used = Instant::now();
        let (sender, driver) = (self.sender.clone(), Arc::clone(&self.driver));
        Lane { sender, reused, driver, active: Active::begin(load) }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.end();
    }
}

// === impl Progress ===

impl Progress {
    /// Parts that have come; `None`: no more will.
    pub(crate) fn frames(&self) -> Option<usize> {
        (!self.ended.load(Ordering::Relaxed)).then(|| self.frames.load(Ordering::Relaxed))
    }
}

// === impl Sending ===

impl Sending {
    /// The body of a client of HTTP/2.
    pub(crate) fn http2(inflow: Inflow) -> Self {
        Self::Http2(inflow, Arc::default())
    }

    /// How far it is, where it comes from a client of HTTP/2.
    pub(crate) fn progress(&self) -> Option<Arc<Progress>> {
        if let Self::Http2(_, progress) = self { Some(Arc::clone(progress)) } else { None }
    }
}

impl Body for Sending {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let mut frame = match self.get_mut() {
            Self::Nothing => return Poll::Ready(None),
            Self::Http1(body) => {
                ready!(Pin::new(body).poll_frame(context)).map(|frame| frame.map_err(Into::into))
            }
            Self::Http2(body, progress) => {
                let frame = ready!(Pin::new(body).poll_frame(context));
                progress.frames.fetch_add(1, Ordering::Relaxed);
                progress.ended.store(frame.is_none(), Ordering::Relaxed);
                frame.map(|frame| frame.map_err(Into::into))
            }
        };
        if let Some(Ok(frame)) = &mut frame
            && let Some(trailers) = frame.trailers_mut()
        {
            retain_trailers(trailers);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body, _) => body.is_end_stream(),
        }
    }
}
