//! HTTP/2 in front: by prior knowledge on the plain port, by ALPN over TLS.
//!
//! hyper speaks the protocol. Each request becomes an HTTP/1 head (`message`), so that the rules of
//! `request` and the table decide about it as about any other; `relay` carries the bodies. Streams
//! live in tasks that end with their connection.
mod message;
mod onward;
mod outbound;
mod relay;

use self::outbound::Outbound;
use self::relay::Relay;
use super::access::Access;
use super::buffer::{give_head, take_head};
use super::client::Client;
use super::error::{Failure, Refusal};
use super::limits::{HEAD_TIME, HTTP2_STREAMS, KEEP_ALIVE, LINGER_TIME, REQUEST_HEAD_BYTES};
use super::pages::{self, Cause, Reply};
use super::request::{Facts, Origin, with_request};
use super::shared::{Busy, Prepared, Shared};
use super::table::{Route, Upstream};
use super::tasks::Tasks;
use super::transport::Rewound;
use super::upgrade;
use crate::end::ended;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};

/// What the streams of one connection share.
#[derive(Debug)]
struct Session {
    shared: Arc<Shared>,
    address: Box<str>,
    scheme: &'static str,
    tasks: Tasks,
    /// Requests so far.
    requests: AtomicU64,
}

/// Serves a connection whose first line said HTTP/2.
pub(crate) async fn serve(client: Client, shared: Arc<Shared>) {
    let Client { stream, read, address, .. } = client;
    let scheme = stream.scheme();
    let tasks = Tasks::default();
    let mut stop_rx = shared.stop_rx.clone();
    let session =
        Arc::new(Session { shared, address, scheme, tasks: tasks.clone(), requests: AtomicU64::new(0) });
    let service = service_fn(|request| answer(Arc::clone(&session), request));
    let connection = hyper::server::conn::http2::Builder::new(tasks.clone())
        .enable_connect_protocol()
        .max_header_list_size(u32::try_from(REQUEST_HEAD_BYTES).unwrap_or(u32::MAX))
        .max_concurrent_streams(HTTP2_STREAMS)
        // The application's own, or none.
        .auto_date_header(false)
        .serve_connection(TokioIo::new(Rewound::new(read, stream)), service);
    let mut connection = pin!(connection);
    let mut tick = interval_at(Instant::now() + HEAD_TIME, HEAD_TIME);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut seen, mut quiet_since) = (0, Instant::now());
    loop {
        tokio::select! {
            // Whatever ended it, nobody is left to be told.
            _ = connection.as_mut() => break,
            () = ended(&mut stop_rx) => {
                connection.as_mut().graceful_shutdown();
                // `listen` cuts what takes too long.
                let _ = connection.as_mut().await;
                break;
            }
            now = tick.tick() => {
                let requests = session.requests.load(Ordering::Relaxed);
                // One reference is ours; every stream has one more.
                if requests != seen || Arc::strong_count(&session) > 1 {
                    (seen, quiet_since) = (requests, now);
                } else if requests == 0 || now.duration_since(quiet_since) >= KEEP_ALIVE {
                    connection.as_mut().graceful_shutdown();
                    tokio::select! {
                        _ = connection.as_mut() => {}
                        () = sleep(LINGER_TIME) => {}
                    }
                    break;
                }
            }
        }
    }
    tasks.end();
}

async fn answer(session: Arc<Session>, request: Request<Incoming>) -> Result<Response<Outbound>, Infallible> {
    session.requests.fetch_add(1, Ordering::Relaxed);
    let busy = Busy::new(Arc::clone(&session.shared));
    let mut access = Access::begin();
    Ok(match prepare(&session, &request, &mut access) {
        Err(refusal) => refused(&session.shared, refusal),
        Ok((Prepared::Page { status, .. }, facts, page)) => {
            access.end(&session.shared, None, status, 0);
            let response = message::page(&page, &facts);
            give_head(page);
            response
        }
        Ok((Prepared::Forward { facts, route }, _, head)) => {
            forward(session, busy, &route, facts, head, request, access).await
        }
        Ok((Prepared::Starting { facts, route }, _, head)) => match session.shared.started(&route).await {
            Some(route) => forward(session, busy, &route, facts, head, request, access).await,
            None => failed(&session.shared, &route, facts, Cause::Starting, access),
        },
    })
}

/// Who answers, and what was written: the head for the application, or the page.
fn prepare(
    session: &Session,
    request: &Request<Incoming>,
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
    session: Arc<Session>,
    busy: Busy<Arc<Shared>>,
    route: &Route,
    facts: Facts,
    head: Vec<u8>,
    mut request: Request<Incoming>,
    access: Access,
) -> Response<Outbound> {
    let shared = Arc::clone(&session.shared);
    let only = |upstream: &Arc<Upstream>| upstream.health.multiplex().is_only();
    if !facts.upgrade && (onward::is_grpc(request.headers()) || route.entry.upstreams.iter().any(only)) {
        return send_onward(session, busy, route, facts, &head, Some(request.into_body()), access).await;
    }
    let switch = facts.upgrade.then(|| hyper::upgrade::on(&mut request));
    let repeatable = facts.idempotent && facts.body.is_finished();
    let mut upload = relay::Upload::new(head, request.into_body(), facts.body);
    let mut retried = false;
    let cause = loop {
        let Some((upstream, link)) = shared.open(route, retried, !repeatable).await else {
            break Cause::NoListener;
        };
        let reused = link.reused;
        let mut relay = Relay::new(upload, link, Arc::clone(upstream), facts, Arc::clone(&shared));
        let failure = match relay.head().await {
            Ok((answer, mut response)) => {
                if !answer.switched {
                    relay.count(access, answer.status);
                    return response.map(|()| Outbound::Relay(Box::new(relay), busy, session));
                }
                access.end(&shared, Some(upstream), 101, 0);
                if let (Some(switch), Some((link, answered))) = (switch, relay.into_parts()) {
                    shared.metrics.upgrades.add(1);
                    let tasks = session.tasks.clone();
                    tasks.spawn(async move {
                        // Its connection is in use.
                        let _session = session;
                        // An error says that the client left before it had the answer.
                        if let Ok(upgraded) = switch.await {
                            upgrade::tunnel_plain(TokioIo::new(upgraded), link, answered).await;
                        }
                    });
                }
                // There is no 101 in HTTP/2 (RFC 8441 5).
                *response.status_mut() = http::StatusCode::OK;
                response.headers_mut().remove(http::header::SEC_WEBSOCKET_ACCEPT);
                return response.map(|()| Outbound::Empty);
            }
            Err(failure) => failure,
        };
        upload = relay.into_upload();
        match failure {
            Failure::Undelivered => {}
            Failure::OtherProtocol => {
                upstream.health.multiplex().set_only(true);
                // Nothing was understood, so it may be sent again, while we still have it whole.
                match upload.into_whole() {
                    Some((head, body)) => {
                        return send_onward(session, busy, route, facts, &head, body, access).await;
                    }
                    None => break Cause::Garbage("answer: it speaks HTTP/2 only; try again"),
                }
            }
            Failure::Silent if reused && repeatable && !retried => {}
            Failure::Garbage(what) => break Cause::Garbage(what),
            Failure::ClientBody(what) => break Cause::Request(Refusal::bad(what)),
            Failure::ClientSlow => break Cause::Request(Refusal::TIMEOUT),
            Failure::Silent | Failure::Truncated | Failure::ClientGone => break Cause::Silent,
        }
        shared.metrics.retries.add(1);
        upload.rewind();
        retried = true;
    };
    failed(&shared, route, facts, cause, access)
}

/// As [`forward`], to an application that speaks HTTP/2.
async fn send_onward(
    session: Arc<Session>,
    busy: Busy<Arc<Shared>>,
    route: &Route,
    facts: Facts,
    head: &[u8],
    body: Option<Incoming>,
    access: Access,
) -> Response<Outbound> {
    let shared = Arc::clone(&session.shared);
    let mut access = Some(access);
    match onward::forward(&shared, route, head, body, &mut access).await {
        Ok(response) => response.map(|rest| Outbound::Onward(Box::new(rest), busy, session)),
        Err(cause) => failed(&shared, route, facts, cause, access.unwrap_or_else(Access::begin)),
    }
}

fn failed(shared: &Shared, route: &Route, facts: Facts, cause: Cause, access: Access) -> Response<Outbound> {
    let mut out = take_head();
    let status = pages::failed(&mut out, Reply { facts, close: false }, &route.entry, cause, pages::now_ms());
    access.end(shared, None, status, 0);
    let response = message::page(&out, &facts);
    give_head(out);
    response
}
