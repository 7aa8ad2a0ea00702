//! One client connection: request after request until one side has enough.
//!
//! Decides what each request gets: a page of ours, an application (with the next replica when one
//! refuses, and once more when a kept connection turns out closed), or a tunnel. Called by `listen`.
use super::RouterEvent;
use super::buffer::{ReadBuffer, give_head, take_head};
use super::client::{Client, Next};
use super::error::{Failure, Refusal};
use super::exchange::{End, Exchange};
use super::metrics::RouterMetrics;
use super::pages::{self, Reply};
use super::request::{Facts, Origin, Request, with_request};
use super::table::{Lookup, Route, Table, TableHandle, Target, Upstream};
use super::upgrade;
use super::upstream::{Link, Stream, is_refusal};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) table: TableHandle,
    pub(crate) metrics: Arc<RouterMetrics>,
    /// router --refusals--> hub
    pub(crate) event_tx: mpsc::Sender<RouterEvent>,
    /// Set once the router stops: answers then end their connection.
    pub(crate) draining: AtomicBool,
    /// Exchanges in progress.
    pub(crate) busy: AtomicUsize,
}

/// A request that is ready to be dealt with; its head is consumed.
enum Prepared {
    /// For an application: the head it gets is written.
    Forward { facts: Facts, route: Arc<Route> },
    /// The answer is written.
    Page { status: u16, close: bool },
}

/// What becomes of the connection.
enum Then {
    Next,
    Close,
    /// Close, but see to it that the answer arrives.
    Linger,
}

/// Counts an exchange for as long as it lives.
struct Busy<'shared>(&'shared AtomicUsize);

impl<'shared> Busy<'shared> {
    fn new(counter: &'shared AtomicUsize) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Self(counter)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves one connection to its end.
pub(crate) async fn serve(stream: TcpStream, address: SocketAddr, shared: Arc<Shared>) {
    shared.metrics.connections.add(1);
    shared.metrics.open_connections.add(1);
    let client = Client::new(stream, address);
    requests(client, &shared).await;
    shared.metrics.open_connections.subtract(1);
}

async fn requests(mut client: Client, shared: &Shared) {
    loop {
        let length = match client.next().await {
            Next::Head(length) => length,
            Next::Closed => return,
            Next::Refused(refusal) => return refuse(client, shared, refusal).await,
        };
        let busy = Busy::new(&shared.busy);
        let mut out = take_head();
        let head = &client.read.filled()[..length];
        let origin = Origin { address: &client.address, scheme: "http" };
        let prepared = with_request(head, |request| shared.prepare(&request, origin, &mut out));
        client.read.consume(length);
        let then = match prepared {
            Err(refusal) => return refuse(client, shared, refusal).await,
            Ok(Prepared::Page { status, close }) => {
                shared.metrics.answered(status);
                let written = client.stream.write_all(&out).await;
                give_head(out);
                match (written, close) {
                    (Err(_), _) => Then::Close,
                    (Ok(()), false) => Then::Next,
                    (Ok(()), true) => Then::Linger,
                }
            }
            Ok(Prepared::Forward { facts, route }) => {
                let exchange = Exchange::new(facts, out, shared.draining.load(Ordering::Relaxed));
                match forward(&mut client, shared, &route, facts, exchange).await {
                    Ended::Then(then) => then,
                    Ended::Switched { stream, answered } => {
                        drop(busy);
                        shared.metrics.upgrades.add(1);
                        return Box::pin(upgrade::tunnel(client, stream, answered)).await;
                    }
                }
            }
        };
        match then {
            Then::Next => {}
            Then::Close => return,
            Then::Linger => return Box::pin(client.linger()).await,
        }
    }
}

/// How [`forward`] ended.
enum Ended {
    Then(Then),
    Switched { stream: Stream, answered: ReadBuffer },
}

async fn forward(
    client: &mut Client,
    shared: &Shared,
    route: &Route,
    facts: Facts,
    mut exchange: Exchange,
) -> Ended {
    let repeatable = facts.idempotent && facts.body.is_finished();
    let mut retried = false;
    loop {
        let Some((upstream, mut link)) = open(shared, route, retried, !repeatable).await else {
            return Ended::Then(
                answer_failure(client, shared, route, facts, &exchange, pages::Cause::NoListener).await,
            );
        };
        let result = poll_fn(|context| exchange.poll(context, client, &mut link.stream, link.reused)).await;
        let cause = match result {
            Ok(End::Answered) => return Ended::Then(finish(client, shared, upstream, link, &mut exchange)),
            Ok(End::Switched) => {
                shared.metrics.answered(101);
                let answered = std::mem::take(&mut exchange.answered);
                return Ended::Switched { stream: link.stream, answered };
            }
            Err(Failure::Undelivered) => {
                retry(shared, &mut exchange, &mut retried);
                continue;
            }
            Err(Failure::Silent) if link.reused && repeatable && !retried => {
                retry(shared, &mut exchange, &mut retried);
                continue;
            }
            Err(_) if exchange.has_started() => return Ended::Then(Then::Close),
            Err(Failure::ClientGone | Failure::Truncated) => return Ended::Then(Then::Close),
            Err(Failure::ClientBody(what)) => pages::Cause::Request(Refusal::bad(what)),
            Err(Failure::ClientSlow) => pages::Cause::Request(Refusal::TIMEOUT),
            Err(Failure::Silent) => pages::Cause::Silent,
            Err(Failure::Garbage(what)) => pages::Cause::Garbage(what),
        };
        return Ended::Then(answer_failure(client, shared, route, facts, &exchange, cause).await);
    }
}

fn retry(shared: &Shared, exchange: &mut Exchange, retried: &mut bool) {
    shared.metrics.retries.add(1);
    exchange.rewind();
    *retried = true;
}

/// A connection to the first replica that takes one.
async fn open<'route>(
    shared: &Shared,
    route: &'route Route,
    fresh: bool,
    exact: bool,
) -> Option<(&'route Arc<Upstream>, Link)> {
    for upstream in route.candidates() {
        match upstream.open(fresh, exact, &shared.metrics).await {
            Ok(link) => {
                upstream.requests.fetch_add(1, Ordering::Relaxed);
                return Some((upstream, link));
            }
            Err(error) if is_refusal(&error) => {
                shared.metrics.refused.add(1);
                if let Target::Unix(socket) = &upstream.socket {
                    // Only a hint: when the queue is full, the hub finds out by itself.
                    let _ = shared.event_tx.try_send(RouterEvent::UpstreamRefused { socket: socket.clone() });
                }
            }
            Err(_) => {}
        }
    }
    None
}

/// After a complete answer: keeps the application's connection and the client's where that is right.
fn finish(
    client: &Client,
    shared: &Shared,
    upstream: &Upstream,
    link: Link,
    exchange: &mut Exchange,
) -> Then {
    let Some(answer) = exchange.answer else { return Then::Close };
    shared.metrics.answered(answer.status);
    if answer.reusable && exchange.is_sent() && exchange.answered.is_empty() {
        upstream.health.keep(link.stream);
    }
    if !exchange.is_received() {
        // The application answered without the rest of the body.
        return Then::Linger;
    }
    match answer.keep_alive {
        true => Then::Next,
        false if client.read.is_empty() => Then::Close,
        false => Then::Linger,
    }
}

async fn answer_failure(
    client: &mut Client,
    shared: &Shared,
    route: &Route,
    facts: Facts,
    exchange: &Exchange,
    cause: pages::Cause,
) -> Then {
    let close = !facts.keep_alive || !exchange.is_received() || shared.draining.load(Ordering::Relaxed);
    let mut out = take_head();
    let status = pages::failed(&mut out, Reply { facts, close }, &route.entry, cause, pages::now_ms());
    shared.metrics.answered(status);
    let written = client.stream.write_all(&out).await;
    give_head(out);
    match (written, close) {
        (Err(_), _) => Then::Close,
        (Ok(()), true) => Then::Linger,
        (Ok(()), false) => Then::Next,
    }
}

async fn refuse(mut client: Client, shared: &Shared, refusal: Refusal) {
    shared.metrics.malformed.add(1);
    shared.metrics.answered(refusal.status);
    let mut out = take_head();
    pages::refused(&mut out, refusal);
    let written = client.stream.write_all(&out).await;
    give_head(out);
    if written.is_ok() {
        Box::pin(client.linger()).await;
    }
}

// === impl Shared ===

impl Shared {
    /// Finds out who answers, and writes to `out` what the application gets, or the page.
    fn prepare(
        &self,
        request: &Request<'_>,
        origin: Origin<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Prepared, Refusal> {
        let table = self.table.load();
        let facts = request.facts;
        let found = if request.host.is_empty() && facts.is_http10 {
            Lookup::Foreign
        } else {
            table.lookup(request.host)
        };
        let close = !facts.keep_alive || !facts.body.is_finished() || self.draining.load(Ordering::Relaxed);
        let reply = Reply { facts, close };
        let status = match found {
            Lookup::Found(route) if route.entry.upstreams.is_empty() => {
                pages::failed(out, reply, &route.entry, pages::Cause::NoListener, pages::now_ms())
            }
            Lookup::Found(route) => {
                request.write(out, origin)?;
                return Ok(Prepared::Forward { facts, route });
            }
            Lookup::Invalid => return Err(Refusal::bad("host")),
            Lookup::Control => self.control(request, reply, &table, out),
            Lookup::Index if request.path() == "/" => pages::index(out, reply, &table),
            Lookup::Index | Lookup::Unknown => pages::unknown(out, reply, request.host, &table),
            Lookup::Foreign => pages::foreign(out, reply),
        };
        Ok(Prepared::Page { status, close })
    }

    fn control(&self, request: &Request<'_>, reply: Reply, table: &Table, out: &mut Vec<u8>) -> u16 {
        if !matches!(request.method(), "GET" | "HEAD") {
            return pages::plain(out, reply, 405, "only GET and HEAD are served here\n");
        }
        match request.path().split('?').next().unwrap_or_default() {
            "/" => pages::index(out, reply, table),
            "/livez" => pages::plain(out, reply, 200, "ok\n"),
            "/readyz" if self.draining.load(Ordering::Relaxed) => pages::plain(out, reply, 503, "stopping\n"),
            "/readyz" => pages::plain(out, reply, 200, "ok\n"),
            "/metrics" => pages::metrics(out, reply, &self.metrics.render(table)),
            _ => pages::plain(out, reply, 404, "no such page; there are / /livez /readyz /metrics\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten thousand idle connections should fit into a few dozen megabytes.
    #[tokio::test]
    async fn a_connection_is_small() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        let shared = Arc::new(Shared {
            table: TableHandle::new(Table::new(Vec::new(), 80)),
            metrics: Arc::default(),
            event_tx: mpsc::channel(1).0,
            draining: AtomicBool::new(false),
            busy: AtomicUsize::new(0),
        });
        let size = std::mem::size_of_val(&serve(stream, address, shared));
        assert!(size <= 2048, "{size} bytes");
    }
}
