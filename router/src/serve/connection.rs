//! One client connection: request after request until one side has enough.
//!
//! Decides what each request gets: a page of ours, an application (with the next replica when one
//! refuses, and once more when a kept connection turns out closed), or a tunnel. Called by `listen`.
use crate::error::{Failure, Refusal};
use crate::io::buffer::{ReadBuffer, give_head, take_head};
use crate::io::transport::{Rewound, Transport};
use crate::limits::{DEATHS, HEAD_TIME};
use crate::message::rehost::Rehost;
use crate::message::request::{Facts, Origin, with_request};
use crate::observe::access::Access;
use crate::pages::{self, Reply};
use crate::serve::client::{Client, Next};
use crate::serve::exchange::{End, Exchange};
use crate::serve::handover::{self, Outcome};
use crate::serve::http2;
use crate::serve::places::Place;
use crate::serve::shared::{Busy, Prepared, Shared};
use crate::serve::upgrade;
use crate::table::{Route, Upstream};
use crate::upstream::pool::{ClientAddress, Link, Wanted};
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

/// What becomes of the connection.
enum Then {
    Next,
    Close,
    /// Close, but see to it that the answer arrives.
    Linger,
}

/// Serves one connection to its end. `secure`: it came to a port for TLS.
pub(crate) fn serve(
    stream: TcpStream,
    address: SocketAddr,
    secure: bool,
    place: Place,
    shared: Arc<Shared>,
) -> impl Future<Output = ()> {
    // Made out here, so that the connection's task need not keep what it is made of.
    let peer = ClientAddress::from(address);
    let address = address.ip().to_canonical().to_string().into_boxed_str();
    let client = Client::new(Transport::Plain(stream), peer, address, place);
    async move {
        shared.metrics.connections.add(1);
        requests(client, secure, &shared).await;
    }
}

async fn requests(mut client: Client, secure: bool, shared: &Arc<Shared>) {
    let mut begun = None;
    if !secure && shared.table.hands_over() {
        match Box::pin(handover::offer(&client, shared)).await {
            Outcome::Read(looked_at) => begun = Some(looked_at),
            Outcome::Refused(refusal) => return Box::pin(refuse(client, shared, refusal)).await,
            Outcome::Over => return,
        }
    }
    loop {
        let since = begun.as_mut().and_then(|begun| begun.since.take());
        let length = match client.next(since).await {
            Next::Head(length) => length,
            Next::Http2 if secure && client.stream.scheme() == "http" => {
                return Box::pin(refuse(client, shared, Refusal::PLAIN)).await;
            }
            Next::Http2 => return Box::pin(http2::serve(client, Arc::clone(shared))).await,
            Next::Tls => {
                let acceptor = if client.stream.scheme() == "https" { None } else { shared.acceptor() };
                let Some(acceptor) = acceptor else {
                    return Box::pin(refuse(client, shared, Refusal::bad("request line"))).await;
                };
                match Box::pin(handshake(client, acceptor, shared)).await {
                    Some(encrypted) => {
                        client = encrypted;
                        continue;
                    }
                    None => return,
                }
            }
            Next::Closed => return,
            Next::Refused(refusal) => return Box::pin(refuse(client, shared, refusal)).await,
        };
        let busy = Busy::new(shared.as_ref());
        let mut access = Access::begin();
        let mut out = take_head();
        let head = &client.read.filled()[..length];
        let origin = Origin { address: &client.address, scheme: client.stream.scheme() };
        let mut prepared = with_request(head, |request| {
            access.note(shared, &request);
            match secure && origin.scheme == "http" {
                true => shared.redirect(&request, pages::Moved::ForAll, &mut out),
                false => shared.prepare(&request, origin, &mut out),
            }
        });
        client.read.consume(length);
        if let Ok(Prepared::Starting { facts, route, rehost }) = &mut prepared {
            let starting = Box::pin(start(shared, *facts, Arc::clone(route), rehost.take(), &mut out));
            prepared = Ok(starting.await);
        }
        let then = match prepared {
            Err(refusal) => {
                access.refused(shared, refusal.status);
                return Box::pin(refuse(client, shared, refusal)).await;
            }
            Ok(Prepared::Page { status, close }) => {
                let written = client.stream.write_all(&out).await;
                access.end(shared, None, status, 0);
                give_head(out);
                match (written, close) {
                    (Err(_), _) => Then::Close,
                    (Ok(()), false) => Then::Next,
                    (Ok(()), true) => Then::Linger,
                }
            }
            Ok(Prepared::Forward { facts, route, rehost } | Prepared::Starting { facts, route, rehost }) => {
                match forward(
                    &mut client,
                    shared,
                    &route,
                    begun.as_mut().and_then(|begun| begun.picked.take()),
                    facts,
                    Exchange::new(facts, out, shared.is_draining(), rehost),
                    access,
                )
                .await
                {
                    Ended::Then(then) => then,
                    Ended::Switched(switched) => {
                        let (mut link, answered) = *switched;
                        drop(busy);
                        shared.metrics.upgrades.add(1);
                        link.active.set_endless();
                        return Box::pin(upgrade::tunnel(client, link, answered)).await;
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

/// Waits for an application that was just started; `out` holds its request, or in the end our page.
async fn start(
    shared: &Shared,
    facts: Facts,
    route: Arc<Route>,
    rehost: Option<Box<Rehost>>,
    out: &mut Vec<u8>,
) -> Prepared {
    if let Some(route) = shared.started(&route).await {
        return Prepared::Forward { facts, route, rehost };
    }
    out.clear();
    let close = !facts.keep_alive || !facts.body.is_finished() || shared.is_draining();
    let reply = Reply { facts, close };
    let status = pages::failed(out, reply, &route.entry, pages::Cause::Starting, pages::now_ms());
    Prepared::Page { status, close }
}

/// Takes up TLS, whose first bytes are in the read buffer. What comes within it is told apart by its
/// first bytes as well: a client that agreed to HTTP/2 begins with its first line.
async fn handshake(client: Client, acceptor: TlsAcceptor, shared: &Shared) -> Option<Client> {
    let Transport::Plain(stream) = client.stream else { return None };
    let accept = acceptor.accept(Rewound::new(client.read, stream));
    match tokio::time::timeout(HEAD_TIME, accept).await {
        Ok(Ok(stream)) => {
            let stream = Transport::Tls(Box::new(stream));
            Some(Client::new(stream, client.peer, client.address, client.place))
        }
        // The client was told why, or has gone.
        Ok(Err(_)) | Err(_) => {
            shared.metrics.failed_handshakes.add(1);
            None
        }
    }
}

/// How [`forward`] ended.
enum Ended {
    Then(Then),
    Switched(Box<(Link, ReadBuffer)>),
}

async fn forward(
    client: &mut Client,
    shared: &Shared,
    route: &Route,
    mut picked: Option<Arc<Upstream>>,
    facts: Facts,
    mut exchange: Exchange,
    access: Access,
) -> Ended {
    let repeatable = facts.idempotent && facts.body.is_finished();
    let mut wanted = Wanted { client: client.peer, fresh: false, exact: !repeatable, upgrade: facts.upgrade };
    let mut deaths = 0..DEATHS;
    loop {
        let opened = shared.open(route, picked.as_ref(), &wanted).await;
        picked = None;
        let (upstream, mut link) = match opened {
            Ok(opened) => opened,
            Err(cause) => {
                let answered = answer_failure(client, shared, route, facts, &exchange, cause, access);
                return Ended::Then(answered.await);
            }
        };
        let result = poll_fn(|context| {
            let polled = exchange.poll(context, client, &mut link.stream);
            if polled.is_pending() && exchange.answer.is_some_and(|answer| answer.endless) {
                link.active.set_endless();
            }
            polled
        })
        .await;
        let failure = match result {
            Ok(End::Answered) => {
                return Ended::Then(finish(client, shared, upstream, link, &mut exchange, access));
            }
            Ok(End::Switched) => {
                access.end(shared, Some(upstream), 101, 0);
                let answered = std::mem::take(&mut exchange.answered);
                return Ended::Switched(Box::new((link, answered)));
            }
            Err(failure) => failure,
        };
        let again = match failure {
            Failure::Undelivered if link.reused => true,
            Failure::Undelivered => deaths.next().is_some() && Box::pin(shared.is_dead(upstream)).await,
            Failure::Unread if link.reused && repeatable && !wanted.fresh => true,
            Failure::Unread => {
                repeatable && deaths.next().is_some() && Box::pin(shared.is_dead(upstream)).await
            }
            // Nothing was understood, so it may be sent again, while we still have it whole.
            Failure::OtherProtocol => {
                upstream.health.multiplex().set_only(true);
                facts.body.is_finished()
            }
            Failure::Silent => link.reused && repeatable && !wanted.fresh,
            _ => false,
        };
        if again {
            retry(shared, &mut exchange, &mut wanted.fresh);
            continue;
        }
        let over = exchange.has_started() || matches!(failure, Failure::ClientGone | Failure::Truncated);
        if over {
            let status = exchange.answer.map_or(0, |answer| answer.status);
            access.end(shared, Some(upstream), status, exchange.bytes);
            return Ended::Then(Then::Close);
        }
        let cause = match failure {
            Failure::ClientBody(what) => pages::Cause::Request(Refusal::bad(what)),
            Failure::ClientSlow => pages::Cause::Request(Refusal::TIMEOUT),
            Failure::Garbage(what) => pages::Cause::Garbage(what),
            Failure::OtherProtocol => pages::Cause::Garbage("answer: it speaks HTTP/2 only; try again"),
            Failure::Silent
            | Failure::Unread
            | Failure::Undelivered
            | Failure::ClientGone
            | Failure::Truncated => pages::Cause::Silent,
        };
        return Ended::Then(answer_failure(client, shared, route, facts, &exchange, cause, access).await);
    }
}

fn retry(shared: &Shared, exchange: &mut Exchange, fresh: &mut bool) {
    shared.metrics.retries.add(1);
    exchange.rewind();
    *fresh = true;
}

/// After a complete answer: keeps the application's connection and the client's where that is right.
fn finish(
    client: &Client,
    shared: &Shared,
    upstream: &Upstream,
    link: Link,
    exchange: &mut Exchange,
    access: Access,
) -> Then {
    let Some(answer) = exchange.answer else { return Then::Close };
    access.end(shared, Some(upstream), answer.status, exchange.bytes);
    if answer.reusable && exchange.is_sent() && exchange.answered.is_empty() {
        upstream.health.keep(link);
    }
    if !exchange.is_received() {
        // The application answered without the rest of the body.
        return Then::Linger;
    }
    match answer.keep_alive {
        true => Then::Next,
        // TLS has a word for the end, without which the answer looks cut off.
        false if client.read.is_empty() && client.stream.scheme() == "http" => Then::Close,
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
    access: Access,
) -> Then {
    let known = match cause {
        pages::Cause::NoListener => Box::pin(shared.last_seen(route)).await,
        _ => None,
    };
    let entry = &known.as_deref().unwrap_or(route).entry;
    let close = !facts.keep_alive || !exchange.is_received() || shared.is_draining();
    let mut out = take_head();
    let status = pages::failed(&mut out, Reply { facts, close }, entry, cause, pages::now_ms());
    access.end(shared, None, status, 0);
    let written = client.stream.write_all(&out).await;
    give_head(out);
    match (written, close) {
        (Err(_), _) => Then::Close,
        (Ok(()), true) => Then::Linger,
        (Ok(()), false) => Then::Next,
    }
}

/// Tells a client that there is no room for it.
pub(crate) async fn turn_away(stream: TcpStream, address: SocketAddr, shared: Arc<Shared>) {
    let (peer, place) = (ClientAddress::from(address), Place::outside());
    let client = Client::new(Transport::Plain(stream), peer, Box::default(), place);
    refuse(client, &shared, Refusal::NO_ROOM).await;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::access::RequestLog;
    use crate::serve::places::Places;
    use crate::table::{Table, TableHandle};
    use std::sync::RwLock;
    use std::sync::atomic::{AtomicBool, AtomicUsize};
    use tokio::sync::{mpsc, watch};

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
            log: RequestLog::none(),
            handoff: agentfs_handoff::Handoff::default(),
            tls: RwLock::default(),
            stop_rx: watch::channel(false).1,
            draining: AtomicBool::new(false),
            busy: AtomicUsize::new(0),
        });
        let place = Places::new(Some(1), Arc::clone(&shared.metrics)).take().unwrap();
        let size = std::mem::size_of_val(&serve(stream, address, false, place, shared));
        assert!(size <= 2048, "{size} bytes");
    }
}
