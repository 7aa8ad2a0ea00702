//! Connections to listeners that speak HTTP/2 by prior knowledge: many requests over one.
//!
//! Owns the connections of one listener and the tasks that drive them; they end when nobody used them for
//! a while, or after their last request when another program listens. hyper speaks the protocol. Which requests come here is the
//! caller's business.

use super::http2::Inflow;
use super::limits::{IDLE_UPSTREAM, UPSTREAM_HTTP2_CONNECTIONS, UPSTREAM_STREAMS};
use super::metrics::RouterMetrics;
use super::table::Upstream;
use super::tasks::Tasks;
use super::upstream::{Active, Stream, is_refusal};
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use tokio::time::Instant;

/// First bytes of a frame: length (3), type, flags, stream (4) (RFC 9113 4.1).
pub(crate) const FRAME_HEAD: usize = 9;

/// Type of the frame that each side begins with (RFC 9113 3.4).
const SETTINGS: u8 = 4;

/// Whether an answer begins as HTTP/2 does. No answer of HTTP/1 begins with a zero.
pub(crate) fn is_http2(bytes: &[u8]) -> bool {
    bytes.len() >= FRAME_HEAD && bytes[0] == 0 && bytes[3..FRAME_HEAD] == [SETTINGS, 0, 0, 0, 0, 0]
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
    Http2(Inflow),
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
    fn take(&self, upstream: &Arc<Upstream>) -> Option<Lane> {
        let mut open = self.open();
        open.retain(|connection| !connection.sender.is_closed());
        let full = open.len() >= UPSTREAM_HTTP2_CONNECTIONS;
        let emptiest = open.iter_mut().min_by_key(|connection| connection.streams())?;
        (full || emptiest.streams() < UPSTREAM_STREAMS).then(|| emptiest.lane(true, upstream))
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

    fn lane(&mut self, reused: bool, upstream: &Arc<Upstream>) -> Lane {
        self.used = Instant::now();
        let (sender, driver) = (self.sender.clone(), Arc::clone(&self.driver));
        Lane { sender, reused, driver, active: Active::begin(upstream) }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.end();
    }
}

// === impl Upstream ===

impl Upstream {
    /// A place for a request in HTTP/2.
    pub(crate) async fn open_http2(
        self: &Arc<Self>,
        fresh: bool,
        metrics: &RouterMetrics,
    ) -> io::Result<Lane> {
        let multiplex = self.health.multiplex();
        if !fresh && let Some(lane) = multiplex.take(self) {
            return Ok(lane);
        }
        let opened = Stream::connect(&self.socket, None).await;
        self.health.set_refused(matches!(&opened, Err(error) if is_refusal(error)));
        let stream = opened?;
        metrics.connects.add(1);
        let tasks = Tasks::default();
        let handshake = Builder::new(tasks.clone()).handshake(TokioIo::new(stream)).await;
        let (sender, serving) = handshake.map_err(io::Error::other)?;
        tasks.spawn(async move {
            // Requests that it cuts off hear of it themselves.
            let _ = serving.await;
        });
        let driver = Arc::new(Driver(tasks));
        let mut connection = Connection { sender, driver, used: Instant::now() };
        let lane = connection.lane(false, self);
        multiplex.open().push(connection);
        Ok(lane)
    }
}

// === impl Sending ===

impl Body for Sending {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Nothing => Poll::Ready(None),
            Self::Http1(body) => {
                Pin::new(body).poll_frame(context).map(|frame| frame.map(|frame| frame.map_err(Into::into)))
            }
            Self::Http2(body) => {
                Pin::new(body).poll_frame(context).map(|frame| frame.map(|frame| frame.map_err(Into::into)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_frame_tells() {
        assert!(is_http2(b"\0\0\0\x04\0\0\0\0\0"));
        assert!(is_http2(b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x64"));
        for other in [b"HTTP/1.1 200 OK\r\n".as_slice(), b"\0\0\0\x04\0\0\0\0", b"\0\0\0\x07\0\0\0\0\0", b""]
        {
            assert!(!is_http2(other), "{other:?}");
        }
    }
}
