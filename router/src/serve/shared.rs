//! What all connections share, and who answers a request: the table says which application, or which
//! page of ours. Knows neither how the request came nor how the answer goes back.
use crate::error::Refusal;
use crate::event::RouterEvent;
use crate::limits::{DEATH_TIME, LAST_SEEN_TIME, START_TIME};
use crate::message::host::host_name;
use crate::message::rehost::Rehost;
use crate::message::request::{Facts, Origin, Request};
use crate::observe::access::Observer;
use crate::pages::{self, Reply};
use crate::serve::reader::Reader;
use crate::table::{Lookup, Route, Table, TableHandle};
use crate::upstream::connect::{Socket, is_refusal};
use crate::upstream::listener::Upstream;
use crate::upstream::multiplex::Lane;
use crate::upstream::pool::{Link, Wanted};
use crate::upstream::target::Target;
use agentfs_handoff::Handoff;
use agentfs_wire::speaks::Speaks;
use std::fmt;
use std::future::poll_fn;
use std::io::ErrorKind;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) table: TableHandle,
    pub(crate) observer: Observer,
    /// router --refusals--> hub
    pub(crate) event_tx: mpsc::Sender<RouterEvent>,
    /// Gives connections to applications that take them.
    pub(crate) handoff: Arc<Handoff>,
    /// How to speak TLS, where that is on.
    pub(crate) tls: RwLock<Option<TlsAcceptor>>,
    /// Whether the router is to stop.
    pub(crate) stop_rx: watch::Receiver<bool>,
    /// Set once the router stops: answers then end their connection.
    pub(crate) draining: AtomicBool,
    /// Exchanges in progress.
    pub(crate) busy: AtomicUsize,
}

/// A request that is ready to be dealt with.
#[derive(Debug)]
pub(crate) enum Prepared {
    /// For an application: the head it gets is written. `rehost`: what its answer is to be rewritten by.
    Forward { facts: Facts, route: Arc<Route>, rehost: Option<Box<Rehost>> },
    /// As `Forward`, once the application listens, which was just started.
    Starting { facts: Facts, route: Arc<Route>, rehost: Option<Box<Rehost>> },
    /// The answer is written.
    Page { facts: Facts, status: u16, close: bool },
}

/// Counts an exchange for as long as it lives.
#[derive(Debug)]
pub(crate) struct Busy<S: Deref<Target = Shared>>(S);

/// Completes when the router is to end, also where whoever would say so is gone.
pub(crate) async fn ended(end_rx: &mut watch::Receiver<bool>) {
    let _ = end_rx.wait_for(|ended| *ended).await;
}

// === impl Busy ===

impl<S: Deref<Target = Shared>> Busy<S> {
    pub(crate) fn new(shared: S) -> Self {
        shared.busy.fetch_add(1, Ordering::Relaxed);
        Self(shared)
    }
}

impl<S: Deref<Target = Shared>> Drop for Busy<S> {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What the answer of `route` to `request` is to be rewritten by.
fn rehost(request: &Request<'_>, origin: Origin<'_>, route: &Route) -> Option<Box<Rehost>> {
    route.local.as_deref().map(|local| Box::new(Rehost::new(local, request.host, origin.scheme)))
}

// === impl Shared ===

impl fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Shared").field("table", &self.table).finish_non_exhaustive()
    }
}

impl Shared {
    /// Whether answers should end their connections.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// How to speak TLS, where that is on.
    pub(crate) fn acceptor(&self) -> Option<TlsAcceptor> {
        self.tls.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Speaks TLS in another way, or not at all, with connections from here on.
    pub(crate) fn set_acceptor(&self, acceptor: Option<TlsAcceptor>) {
        *self.tls.write().unwrap_or_else(PoisonError::into_inner) = acceptor;
    }

    /// Waits until what `route` leads to listens; `None` where it does not within [`START_TIME`] after its
    /// start, or is gone.
    pub(crate) async fn started(&self, route: &Route) -> Option<Arc<Route>> {
        let age = pages::now_ms().saturating_sub(route.entry.starting?);
        let left = START_TIME.checked_sub(Duration::from_millis(age))?;
        let listens = async {
            let mut table = self.table.load();
            loop {
                match table.lookup(&route.entry.host) {
                    Lookup::Found(found) if !found.entry.upstreams.is_empty() => return Some(found),
                    Lookup::Found(found) if found.entry.starting.is_some() => {}
                    _ => return None,
                }
                table = poll_fn(|context| self.table.poll_other(&table, context)).await;
            }
        };
        tokio::time::timeout(left, listens).await.ok().flatten()
    }

    /// What is known by now of a listener that has just refused: whoever asks in the moment of its end should
    /// see what it was as well. `None`: no more than `route` says.
    pub(crate) async fn last_seen(&self, route: &Route) -> Option<Arc<Route>> {
        let upstreams = &route.entry.upstreams;
        // The end of what was never an instance is told by nobody.
        if upstreams.is_empty() || upstreams.iter().any(|upstream| upstream.app.is_empty()) {
            return None;
        }
        let told = async {
            let mut table = self.table.load();
            loop {
                match table.lookup(&route.entry.host) {
                    Lookup::Found(found) if found.entry.dead.is_some() => return Some(found),
                    Lookup::Found(_) => {}
                    _ => return None,
                }
                table = poll_fn(|context| self.table.poll_other(&table, context)).await;
            }
        };
        tokio::time::timeout(LAST_SEEN_TIME, told).await.ok().flatten()
    }

    /// A connection to the first replica that takes one, `picked` before others.
    pub(crate) async fn open<'route>(
        &self,
        route: &'route Route,
        picked: Option<&Arc<Upstream>>,
        wanted: &Wanted,
    ) -> Result<(&'route Arc<Upstream>, Link), pages::Cause> {
        for upstream in route.candidates_after(picked) {
            match upstream.open(wanted, &self.observer.metrics).await {
                Ok(link) => {
                    upstream.requests.fetch_add(1, Ordering::Relaxed);
                    return Ok((upstream, link));
                }
                Err(error) if error.kind() == ErrorKind::QuotaExceeded => return Err(pages::Cause::NoRoom),
                Err(error) => self.refused(upstream, &error),
            }
        }
        Err(pages::Cause::NoListener)
    }

    /// A place for a request in HTTP/2 at the first replica that takes connections; on a connection of its
    /// own where it is to be `fresh`.
    pub(crate) async fn open_http2<'route>(
        &self,
        route: &'route Route,
        fresh: bool,
    ) -> Option<(&'route Arc<Upstream>, Lane)> {
        for upstream in route.candidates() {
            match upstream.open_http2(fresh, &self.observer.metrics).await {
                Ok(lane) => {
                    upstream.requests.fetch_add(1, Ordering::Relaxed);
                    return Some((upstream, lane));
                }
                Err(error) => self.refused(upstream, &error),
            }
        }
        None
    }

    /// Whether a listener that left a request unread is gone altogether: connections that wait to be accepted end
    /// with their listener, and another replica may have the request.
    pub(crate) async fn is_dead(&self, upstream: &Upstream) -> bool {
        let mut opened = Socket::connect(&upstream.socket, None).await;
        if let Ok(stream) = &mut opened {
            // A killed process closes its descriptors one after the other, the newest first: the listener may be next.
            let ends = tokio::time::timeout(DEATH_TIME, stream.read_u8()).await;
            if matches!(ends, Ok(Err(_))) {
                opened = Socket::connect(&upstream.socket, None).await;
            }
        }
        match opened {
            Err(error) if is_refusal(&error) => {
                upstream.set_refused(true);
                self.refused(upstream, &error);
                true
            }
            _ => false,
        }
    }

    /// Notes that a listener did not take a connection.
    pub(crate) fn refused(&self, upstream: &Upstream, error: &std::io::Error) {
        if !is_refusal(error) {
            return;
        }
        self.observer.metrics.refused.add(1);
        if let Target::Unix(socket) = &upstream.socket {
            // Only a hint: when the queue is full, the hub finds out by itself.
            let _ = self.event_tx.try_send(RouterEvent::UpstreamRefused { socket: socket.clone() });
        }
    }

    /// Learns from an answer what a listener speaks. `is_page`: it is one for people.
    pub(crate) fn answered(&self, upstream: &Upstream, facts: &Facts, status: u16, is_page: bool) {
        self.spoke(
            upstream,
            match facts.navigates {
                true if is_page => Speaks::Pages,
                true if facts.at_root && (200..300).contains(&status) => Speaks::NoPages,
                _ => Speaks::Http,
            },
        );
    }

    /// Notes what a listener was seen to speak.
    pub(crate) fn spoke(&self, upstream: &Upstream, speaks: Speaks) {
        if upstream.app.is_empty() || upstream.port == 0 {
            return;
        }
        if let Target::Unix(socket) = &upstream.socket {
            upstream.spoke(speaks, || {
                let event = RouterEvent::Spoke { socket: socket.clone(), speaks };
                // When the queue is full, the next answer tells it.
                self.event_tx.try_send(event).is_ok()
            });
        }
    }

    /// Finds out who answers, and writes to `out` what the application gets, or the page.
    pub(crate) fn prepare(
        &self,
        request: &Request<'_>,
        origin: Origin<'_>,
        reader: Reader<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Prepared, Refusal> {
        let table = self.table.load();
        let facts = request.facts;
        let found = if request.host.is_empty() && facts.is_http10 {
            Lookup::Foreign
        } else {
            table.lookup(request.host)
        };
        let close = !facts.keep_alive || !facts.body.is_finished() || self.is_draining();
        let reply = Reply { facts, close };
        if request.wants_secure && origin.scheme == "http" && table.has_https() {
            return self.redirect(request, pages::Moved::ForThisClient, out);
        }
        let status = match found {
            Lookup::Found(_) if request.ends_here() => Self::last_hop(request, reply, out),
            Lookup::Found(route) if route.entry.upstreams.is_empty() && route.entry.starting.is_some() => {
                request.write(out, origin, route.local.as_deref())?;
                let rehost = rehost(request, origin, &route);
                return Ok(Prepared::Starting { facts, route, rehost });
            }
            Lookup::Found(route) if route.entry.forks_only => {
                pages::forks_only(out, reply, reader.sees(), &route.entry, &table)
            }
            Lookup::Found(route) if route.entry.upstreams.is_empty() => {
                let sees = reader.sees();
                pages::failed(out, reply, sees, &route.entry, pages::Cause::NoListener, &table)
            }
            Lookup::Found(route) if route.entry.undecided && facts.navigates => {
                pages::choice(out, reply, reader.sees(), &route.entry, &table)
            }
            Lookup::Found(route) => {
                request.write(out, origin, route.local.as_deref())?;
                let rehost = rehost(request, origin, &route);
                return Ok(Prepared::Forward { facts, route, rehost });
            }
            Lookup::Invalid => return Err(Refusal::bad("host")),
            Lookup::Control => self.control(request, reply, reader, &table, out),
            Lookup::Index if request.path() == "/" => self.control(request, reply, reader, &table, out),
            Lookup::Index | Lookup::Unknown => {
                pages::unknown(out, reply, reader.sees(), request.host, &table)
            }
            Lookup::Foreign => pages::foreign(out, reply),
        };
        Ok(Prepared::Page { facts, status, close })
    }

    /// Sends a request that came in plain on to its URL over TLS.
    pub(crate) fn redirect(
        &self,
        request: &Request<'_>,
        moved: pages::Moved,
        out: &mut Vec<u8>,
    ) -> Result<Prepared, Refusal> {
        let table = self.table.load();
        let facts = request.facts;
        let close = !facts.keep_alive || !facts.body.is_finished() || self.is_draining();
        let reply = Reply { facts, close };
        let status = match (table.lookup(request.host), host_name(request.host)) {
            (Lookup::Invalid, _) | (_, None) => return Err(Refusal::bad("host")),
            (Lookup::Foreign, _) => pages::foreign(out, reply),
            (_, Some(name)) => {
                let path = request.path();
                // `*` is no path.
                let path = if path.starts_with('/') { &path } else { "/" };
                pages::redirect(out, reply, moved, &format!("{}{path}", table.secure_url(name)))
            }
        };
        Ok(Prepared::Page { facts, status, close })
    }

    /// Answers a request that may not be passed on.
    fn last_hop(request: &Request<'_>, reply: Reply, out: &mut Vec<u8>) -> u16 {
        let traced = (request.method() == "TRACE").then(|| request.trace());
        pages::last_hop(out, reply, traced.as_deref())
    }

    fn control(
        &self,
        request: &Request<'_>,
        reply: Reply,
        reader: Reader<'_>,
        table: &Table,
        out: &mut Vec<u8>,
    ) -> u16 {
        if !matches!(request.method(), "GET" | "HEAD") {
            return pages::plain(out, reply, 405, "only GET and HEAD are served here\n");
        }
        match request.path().split('?').next().unwrap_or_default() {
            "/" => pages::index(out, reply, reader.sees(), table),
            "/livez" => pages::plain(out, reply, 200, "ok\n"),
            "/readyz" if self.is_draining() => pages::plain(out, reply, 503, "stopping\n"),
            "/readyz" => pages::plain(out, reply, 200, "ok\n"),
            "/metrics" => {
                let with_paths = matches!(reader.sees(), pages::Sees::Everything);
                pages::metrics(out, reply, &self.observer.metrics.render(table, with_paths))
            }
            _ => pages::plain(out, reply, 404, "no such page; the pages are / /livez /readyz /metrics\n"),
        }
    }
}
