//! One listener: where it is, what is known of it, and connections to it. Never decides which listener is asked.
use crate::counters::{RouterMetrics, Usage};
use crate::upstream::bridge::Bridge;
use crate::upstream::connect::{Socket, is_refusal};
use crate::upstream::load::{Active, Load};
use crate::upstream::multiplex::{Lane, Multiplex};
use crate::upstream::pool::{Idle, Link, Pool, Stream, Wanted};
use crate::upstream::seats::Seat;
use crate::upstream::target::Target;
use agentfs_wire::speaks::Speaks;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::time::Instant;

/// One listener, with the connections kept to it. Keep the `Arc` across tables.
#[derive(Debug)]
pub struct Upstream {
    /// Where it listens.
    pub socket: Target,
    /// Its app.
    pub app: String,
    /// Its instance.
    pub instance: String,
    /// The port that the program asked for; 0 when there is none.
    pub port: u16,
    /// Whether the program is told, by the name of our end, for which client a connection is.
    names_clients: bool,
    /// Requests sent to it.
    pub requests: AtomicU64,
    /// Counters of its answers.
    pub(crate) usage: Usage,
    /// Whether the last connect was refused.
    refused: AtomicBool,
    /// What its answers showed so far that it speaks.
    speaks: Mutex<Option<Speaks>>,
    load: Arc<Load>,
    pool: Pool,
    multiplex: Arc<Multiplex>,
}

// === impl Upstream ===

impl Upstream {
    /// A listener with an empty pool.
    pub fn new(socket: Target, app: String, instance: String, port: u16) -> Self {
        Self {
            socket,
            app,
            instance,
            port,
            names_clients: false,
            requests: AtomicU64::new(0),
            usage: Usage::default(),
            refused: AtomicBool::new(false),
            speaks: Mutex::default(),
            load: Arc::default(),
            pool: Pool::default(),
            multiplex: Arc::default(),
        }
    }

    /// The same, for a listener whose program reads the names of clients: one that the library made.
    #[must_use]
    pub fn naming_clients(self) -> Self {
        Self { names_clients: true, ..self }
    }

    /// Requests in progress that will end by themselves: no event streams, no upgraded connections.
    pub fn finite_in_flight(&self) -> usize {
        self.load.finite()
    }

    /// Begins anew with another listener of the same name: what was learnt of its predecessor is void.
    pub fn renew(&self) {
        self.set_refused(false);
        *self.speaks.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.pool.clear();
        self.multiplex.renew();
    }

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

    /// An answer shows what it speaks. `tell` is called if that is new, and says whether the word was passed on.
    pub(crate) fn spoke(&self, seen: Speaks, tell: impl FnOnce() -> bool) {
        let mut known = self.speaks.lock().unwrap_or_else(PoisonError::into_inner);
        // One answer that is not HTTP, after others that were, is a mistake of the application.
        let mistake = seen == Speaks::Other && known.is_some();
        let after = Some(Speaks::after(*known, seen));
        if !mistake && *known != after && tell() {
            *known = after;
        }
    }

    /// Connections in use.
    pub(crate) fn active(&self) -> usize {
        self.load.active()
    }

    /// One more connection is in use, for tests of the order.
    #[cfg(test)]
    pub(crate) fn busy(&self) -> Active {
        Active::begin(&self.load)
    }

    /// Its HTTP/2.
    pub(crate) fn multiplex(&self) -> &Multiplex {
        &self.multiplex
    }

    /// Keeps the connection of `link` for the next request; closes it where enough are kept.
    pub(crate) fn keep(&self, link: Link) {
        self.pool.keep(link);
    }

    /// Closes connections that stayed unused too long or that the listener closed; how many are left.
    pub(crate) fn sweep(&self, now: Instant) -> usize {
        self.pool.sweep(now) + self.multiplex.sweep(now)
    }

    /// A connection: a kept one, unless it has to be fresh.
    pub(crate) async fn open(&self, wanted: &Wanted, metrics: &RouterMetrics) -> io::Result<Link> {
        if self.multiplex.is_only() {
            // Boxed, as the connect below: every idle client would keep room for it.
            let Lane { sender, active, driver, .. } =
                Box::pin(self.open_http2(wanted.fresh, metrics)).await?;
            let stream = Stream::Bridge(Box::new(Bridge::new(sender, driver, &self.multiplex)));
            return Ok(Link { stream, reused: false, active, client: None, seat: None });
        }
        let active = Active::begin(&self.load);
        let client = self.names_clients.then_some(wanted.client);
        let fresh = wanted.fresh || (wanted.upgrade && client.is_some());
        if !fresh && let Some(Idle { stream, client, seat, .. }) = self.pool.take(wanted.exact, client) {
            return Ok(Link { stream, reused: true, active, client, seat });
        }
        let seat = Some(Box::pin(Seat::take()).await?);
        let opened = Box::pin(Socket::connect(&self.socket, client)).await;
        self.set_refused(matches!(&opened, Err(error) if is_refusal(error)));
        if opened.is_ok() {
            metrics.connects.add(1);
        }
        Ok(Link { stream: opened?.into(), reused: false, active, client, seat })
    }

    /// A place for a request in HTTP/2.
    pub(crate) async fn open_http2(&self, fresh: bool, metrics: &RouterMetrics) -> io::Result<Lane> {
        if !fresh && let Some(lane) = self.multiplex.take(&self.load) {
            return Ok(lane);
        }
        let opened = Socket::connect(&self.socket, None).await;
        self.set_refused(matches!(&opened, Err(error) if is_refusal(error)));
        let socket = opened?;
        metrics.connects.add(1);
        self.multiplex.begin(socket, &self.load).await
    }
}
