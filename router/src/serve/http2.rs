//! HTTP/2 in front: by prior knowledge on the plain port, by ALPN over TLS.
//!
//! h2 speaks the protocol: hyper on top of it could not send interim answers. Each request becomes an HTTP/1 head (`message`), so that the rules of
//! `request` and the table decide about it as about any other; `relay` carries the bodies. Streams
//! live in tasks that end with their connection.
mod message;
mod onward;
mod outbound;
mod relay;
mod stream;

use self::outbound::{Outbound, Tunnel};
use self::relay::Relay;
use self::stream::{Both, Hints};
use crate::error::{Failure, Refusal};
use crate::io::buffer::{give_head, take_head};
use crate::io::inflow::Inflow;
use crate::io::tasks::Tasks;
use crate::io::transport::Rewound;
use crate::limits::{
    DEATHS, HEAD_TIME, HTTP2_STREAMS, HTTP2_WINDOW_BYTES, KEEP_ALIVE, LINGER_TIME, REQUEST_HEAD_BYTES,
};
use crate::message::rehost::Rehost;
use crate::message::request::{Facts, Origin, with_request};
use crate::observe::access::Access;
use crate::pages::{self, Cause, Reply};
use crate::serve::client::Client;
use crate::serve::listen::ended;
use crate::serve::shared::{Busy, Prepared, Shared};
use crate::serve::upgrade;
use crate::table::{Route, Upstream};
use crate::upstream::pool::{ClientAddress, Wanted};
use bytes::Bytes;
use hyper::body::Body as _;
use hyper::{Request, Response};
use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};

/// What the streams of one connection share.
#[derive(Debug)]
struct Session {
    shared: Arc<Shared>,
    /// The client.
    peer: ClientAddress,
    address: Box<str>,
    scheme: &'static str,
    /// Requests so far.
    requests: AtomicU64,
}

/// Serves a connection whose first line said HTTP/2.
pub(crate) async fn serve(client: Client, shared: Arc<Shared>) {
    let Client { stream, read, peer, address, place, .. } = client;
    let scheme = stream.scheme();
    let tasks = Tasks::default();
    let mut stop_rx = shared.stop_rx.clone();
    let mut builder = h2::server::Builder::new();
    builder
        .enable_connect_protocol()
        .initial_window_size(HTTP2_WINDOW_BYTES)
        .initial_connection_window_size(HTTP2_WINDOW_BYTES)
        .max_header_list_size(u32::try_from(REQUEST_HEAD_BYTES).unwrap_or(u32::MAX))
        .max_concurrent_streams(HTTP2_STREAMS);
    let handshake = builder.handshake::<_, Bytes>(Rewound::new(read, stream));
    let Ok(Ok(mut connection)) = timeout(HEAD_TIME, handshake).await else { return };
    let session = Arc::new(Session { shared, peer, address, scheme, requests: AtomicU64::new(0) });
    let mut tick = interval_at(Instant::now() + HEAD_TIME, HEAD_TIME);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut seen, mut quiet_since) = (0, Instant::now());
    let mut stopping = false;
    let mut end = None;
    place.rest(quiet_since);
    loop {
        tokio::select! {
            accepted = connection.accept() => match accepted {
                Some(Ok(_)) if !place.wake() => break,
                Some(Ok((request, respond))) => tasks.spawn(serve_stream(Arc::clone(&session), request, respond)),
                // Whatever ended it, nobody is left to be told.
                Some(Err(_)) | None => break,
            },
            () = ended(&mut stop_rx), if !stopping => {
                // What has begun is served on; `listen` cuts what takes too long.
                connection.graceful_shutdown();
                stopping = true;
            }
            () = sleep_until(end.unwrap_or(quiet_since)), if end.is_some() => break,
            now = tick.tick(), if end.is_none() => {
                let requests = session.requests.load(Ordering::Relaxed);
                // One reference is ours; every stream has one more.
                if requests != seen || Arc::strong_count(&session) > 1 {
                    (seen, quiet_since) = (requests, now);
                } else if requests == 0 || now.duration_since(quiet_since) >= KEEP_ALIVE {
                    connection.graceful_shutdown();
                    end = Some(now + LINGER_TIME);
                } else {
                    place.rest(quiet_since);
                }
            }
        }
    }
    tasks.end();
}

/// Serves one stream to its end, which may be that the client wants no answer any more.
async fn serve_stream(
    session: Arc<Session>,
    request: Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
) {
    session.requests.fetch_add(1, Ordering::Relaxed);
    let busy = Busy::new(session.shared.as_ref());
    let hints = Hints::default();
    let mut answering = pin!(answer(&session, request.map(Inflow::new), &hints));
    let answered = poll_fn(|context| {
        let answered = answering.as_mut().poll(context);
        while let Some(hint) = hints.pop() {
            // A client that has gone is noticed below.
            let _ = respond.send_informational(hint);
        }
        match answered {
            Poll::Ready(response) => Poll::Ready(Some(response)),
            Poll::Pending => respond.poll_reset(context).map(|_| None),
        }
    });
    let Some(response) = answered.await else { return };
    let (parts, body) = response.into_parts();
    let sent = respond.send_response(Response::from_parts(parts, ()), body.is_end_stream());
    match (sent, body) {
        // A head that the protocol does not allow, or a client that has gone.
        (Err(_), _) => respond.send_reset(h2::Reason::INTERNAL_ERROR),
        (Ok(_), body) if body.is_end_stream() => {}
        (Ok(outflow), Outbound::Tunnel(tunnel)) => {
            drop(busy);
            let Tunnel { inflow, link, answered } = *tunnel;
            upgrade::tunnel_plain(Both::new(inflow, outflow), link, answered).await;
        }
        (Ok(outflow), body) => stream::carry(outflow, body).await,
    }
}

async fn answer(session: &Session, request: Request<Inflow>, hints: &Hints) -> Response<Outbound> {
    let shared = &session.shared;
    let mut access = Access::begin();
    match prepare(session, &request, &mut access) {
        Err(refusal) => {
            access.refused(shared, refusal.status);
            refused(shared, refusal)
        }
        Ok((Prepared::Page { status, .. }, facts, page)) => {
            access.end(shared, None, status, 0);
            let response = message::page(&page, &facts);
            give_head(page);
            response
        }
        Ok((Prepared::Forward { facts, route, rehost }, _, head)) => {
            let response = forward(session, &route, facts, head, request, hints, access).await;
            rehosted(response, rehost)
        }
        Ok((Prepared::Starting { facts, route, rehost }, _, head)) => match shared.started(&route).await {
            Some(route) => {
                let response = forward(session, &route, facts, head, request, hints, access).await;
                rehosted(response, rehost)
            }
            None => failed(shared, &route, facts, Cause::Starting, access).await,
        },
    }
}

/// An answer with the names of its route, where it is to have those.
fn rehosted(mut response: Response<Outbound>, rehost: Option<Box<Rehost>>) -> Response<Outbound> {
    if let Some(rehost) = rehost {
        for (name, value) in response.headers_mut() {
            let rewritten = rehost.outward(name.as_str(), value.as_bytes());
            if let Some(Ok(rewritten)) = rewritten.map(http::HeaderValue::try_from) {
                *value = rewritten;
            }
        }
    }
    response
}

/// Who answers, and what was written: the head for the application, or the page.
fn prepare(
    session: &Session,
    request: &Request<Inflow>,
    access: &mut Access,
) -> Result<(Prepared, Facts, Vec<u8>), Refusal> {
    let mut head = take_head();
    let mut out = take_head();
    let origin = Origin { address: &session.address, scheme: session.scheme };
    let prepared = message::write_head(request, &mut head).and_then(|()| {
        with_request(&head, |request| {
            access.note(&session.shared, &request);
            let facts = request.facts;
            session.shared.prepare(&request, origin, &mut out).map(|prepared| (prepared, facts))
        })
    });
    give_head(head);
    prepared.map(|(prepared, facts)| (prepared, facts, out))
}

fn refused(shared: &Shared, refusal: Refusal) -> Response<Outbound> {
    shared.metrics.malformed.add(1);
    shared.metrics.answered(refusal.status);
    let mut out = take_head();
    pages::refused(&mut out, refusal);
    let response = message::page(&out, &Facts::OF_PAGES);
    give_head(out);
    response
}

async fn forward(
    session: &Session,
    route: &Route,
    facts: Facts,
    head: Vec<u8>,
    request: Request<Inflow>,
    hints: &Hints,
    access: Access,
) -> Response<Outbound> {
    let shared = &session.shared;
    let expects = request.headers().contains_key(http::header::EXPECT);
    // Where the application's own word cannot come through.
    let invite = || {
        if expects {
            let mut invitation = Response::new(());
            *invitation.status_mut() = http::StatusCode::CONTINUE;
            hints.push(invitation);
        }
    };
    let only = |upstream: &Arc<Upstream>| upstream.health.multiplex().is_only();
    if !facts.upgrade && (onward::is_grpc(request.headers()) || route.entry.upstreams.iter().any(only)) {
        invite();
        return send_onward(shared, route, facts, &head, Some(request.into_body()), access).await;
    }
    // What comes in a tunnel is no body.
    let body = request.into_body();
    let (mut switch, body) = if facts.upgrade { (Some(body), None) } else { (None, Some(body)) };
    let repeatable = facts.idempotent && facts.body.is_finished();
    let mut upload = relay::Upload::new(head, body, facts.body);
    let mut wanted =
        Wanted { client: session.peer, fresh: false, exact: !repeatable, upgrade: facts.upgrade };
    let mut deaths = 0..DEATHS;
    let cause = loop {
        let (upstream, link) = match shared.open(route, None, &wanted).await {
            Ok(opened) => opened,
            Err(cause) => break cause,
        };
        let reused = link.reused;
        let mut relay = Relay::new(upload, link, Arc::clone(upstream), facts, Arc::clone(shared));
        let failure = match relay.head(hints).await {
            // In HTTP/2 it would say that the tunnel is there (RFC 8441 5).
            Ok((answer, _)) if facts.upgrade && !answer.switched && (200..300).contains(&answer.status) => {
                break Cause::Garbage("upgrade: it did not change the protocol");
            }
            Ok((answer, mut response)) => {
                if !answer.switched {
                    relay.count(access, answer.status);
                    return response.map(|()| Outbound::Relay(Box::new(relay)));
                }
                access.end(shared, Some(upstream), 101, 0);
                // There is no 101 in HTTP/2 (RFC 8441 5).
                *response.status_mut() = http::StatusCode::OK;
                response.headers_mut().remove(http::header::SEC_WEBSOCKET_ACCEPT);
                let tunnel = switch.take().zip(relay.into_parts()).map(|(inflow, (link, answered))| {
                    shared.metrics.upgrades.add(1);
                    Outbound::Tunnel(Box::new(Tunnel { inflow, link, answered }))
                });
                return response.map(|()| tunnel.unwrap_or(Outbound::Empty));
            }
            Err(failure) => failure,
        };
        upload = relay.into_upload();
        match failure {
            Failure::Undelivered if reused => {}
            Failure::Unread if reused && repeatable && !wanted.fresh => {}
            Failure::Undelivered if deaths.next().is_some() && shared.is_dead(upstream).await => {}
            Failure::Unread if repeatable && deaths.next().is_some() && shared.is_dead(upstream).await => {}
            Failure::OtherProtocol => {
                upstream.health.multiplex().set_only(true);
                // Nothing was understood, so it may be sent again, while we still have it whole.
                match upload.into_whole() {
                    Some((head, body)) => {
                        invite();
                        return send_onward(shared, route, facts, &head, body, access).await;
                    }
                    None => break Cause::Garbage("answer: it speaks HTTP/2 only; try again"),
                }
            }
            Failure::Silent if reused && repeatable && !wanted.fresh => {}
            Failure::Garbage(what) => break Cause::Garbage(what),
            Failure::ClientBody(what) => break Cause::Request(Refusal::bad(what)),
            Failure::ClientSlow => break Cause::Request(Refusal::TIMEOUT),
            Failure::Silent
            | Failure::Unread
            | Failure::Undelivered
            | Failure::Truncated
            | Failure::ClientGone => break Cause::Silent,
        }
        shared.metrics.retries.add(1);
        upload.rewind();
        wanted.fresh = true;
    };
    failed(shared, route, facts, cause, access).await
}

/// As [`forward`], to an application that speaks HTTP/2.
async fn send_onward(
    shared: &Arc<Shared>,
    route: &Route,
    facts: Facts,
    head: &[u8],
    body: Option<Inflow>,
    access: Access,
) -> Response<Outbound> {
    let mut access = Some(access);
    match onward::forward(shared, route, head, body, &mut access).await {
        Ok(response) => response.map(|rest| Outbound::Onward(Box::new(rest))),
        Err(cause) => failed(shared, route, facts, cause, access.unwrap_or_else(Access::begin)).await,
    }
}

async fn failed(
    shared: &Shared,
    route: &Route,
    facts: Facts,
    cause: Cause,
    access: Access,
) -> Response<Outbound> {
    let known = match cause {
        Cause::NoListener => shared.last_seen(route).await,
        _ => None,
    };
    let entry = &known.as_deref().unwrap_or(route).entry;
    let mut out = take_head();
    let status = pages::failed(&mut out, Reply { facts, close: false }, entry, cause, pages::now_ms());
    access.end(shared, None, status, 0);
    let response = message::page(&out, &facts);
    give_head(out);
    response
}
