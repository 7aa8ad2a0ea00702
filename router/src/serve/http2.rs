//! HTTP/2 in front: by prior knowledge on the plain port, by ALPN over TLS.
//!
//! h2 speaks the protocol: hyper on top of it could not send interim answers. Each request is seen by the same rules as
//! one of HTTP/1 (`request`), goes the same way (`forward`), and is one more source and sink of the exchange (`stream`).
//! Streams live in tasks that end with their connection.
mod onward;
mod request;
mod stream;
mod trailers;
mod tunnel;

use self::request::Additions;
use self::stream::Http2;
use crate::io::buffer::{give_head, take_head};
use crate::io::inflow::Inflow;
use crate::io::owner::Ends;
use crate::io::tasks::Tasks;
use crate::io::transport::Rewound;
use crate::limits::{
    HEAD_TIME, HTTP2_STREAMS, HTTP2_WINDOW_BYTES, KEEP_ALIVE, LINGER_TIME, REQUEST_HEAD_BYTES, RESET_DELAY,
};
use crate::message::request::{Facts, Origin};
use crate::message::response;
use crate::observe::access::Access;
use crate::pages::{self, Cause, Reply};
use crate::serve::client::Client;
use crate::serve::forward::{Ended, Job, forward, unless_gone};
use crate::serve::reader::Reader;
use crate::serve::shared::{Busy, Prepared, Shared, ended};
use crate::serve::upgrade;
use crate::table::Route;
use crate::upstream::connect::ClientAddress;
use crate::upstream::listener::Upstream;
use bytes::Bytes;
use hyper::Request;
use hyper::body::Body as _;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until, timeout};

/// What the streams of one connection share.
#[derive(Debug)]
struct Session {
    shared: Arc<Shared>,
    /// The client.
    peer: ClientAddress,
    address: Box<str>,
    scheme: &'static str,
    /// Both ends of the connection.
    ends: Option<Ends>,
    /// Requests so far.
    requests: AtomicU64,
}

/// Serves a connection whose first line said HTTP/2.
pub(crate) async fn serve(client: Client, shared: Arc<Shared>) {
    let Client { stream, read, peer, address, place, .. } = client;
    let (scheme, ends) = (stream.scheme(), Ends::of(stream.tcp()));
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
    let session = Arc::new(Session { shared, peer, address, scheme, ends, requests: AtomicU64::new(0) });
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
    respond: h2::server::SendResponse<Bytes>,
) {
    session.requests.fetch_add(1, Ordering::Relaxed);
    let shared = session.shared.as_ref();
    let busy = Busy::new(shared);
    let mut access = Access::begin();
    let (head, inflow) = request.into_parts();
    let inflow = Inflow::new(inflow);
    let additions = Additions::of(&head);
    let mut out = take_head();
    let origin = Origin { address: &session.address, scheme: session.scheme };
    let prepared = additions.with_request(&head, inflow.is_end_stream(), |request| {
        access.note(&shared.observer, &request);
        shared.prepare(&request, origin, Reader::At(session.ends), &mut out)
    });
    let (facts, route, rehost, starting) = match prepared {
        Err(refusal) => {
            access.refused(&shared.observer, refusal.status);
            shared.observer.metrics.malformed.add(1);
            shared.observer.metrics.answered(refusal.status);
            pages::refused(&mut out, refusal);
            return page(respond, out, &Facts::OF_PAGES);
        }
        Ok(Prepared::Page { facts, status, .. }) => {
            access.end(&shared.observer, None, status, 0);
            return page(respond, out, &facts);
        }
        Ok(Prepared::Forward { facts, route, rehost }) => (facts, route, rehost, false),
        Ok(Prepared::Starting { facts, route, rehost }) => (facts, route, rehost, true),
    };
    let grpc = onward::is_grpc(&head.headers);
    let expects = head.headers.contains_key(http::header::EXPECT);
    // A stream may last; nobody looks at its head again.
    drop(head);
    let mut client = Http2::new(facts, out, inflow, additions.key, rehost, respond);
    let route = match starting {
        false => route,
        true => match unless_gone(&mut client, pin!(shared.started(&route))).await {
            None => return,
            Some(Some(route)) => route,
            Some(None) => return Box::pin(failed(client, &session, &route, Cause::Starting, access)).await,
        },
    };
    let only = |upstream: &Arc<Upstream>| upstream.multiplex().is_only();
    let onward = grpc || route.entry.upstreams.iter().any(only);
    let ended = if onward && !facts.upgrade {
        Ended::Onward(access)
    } else {
        let mut job =
            Job { shared, route: &route, facts, peer: session.peer, picked: None, onward: !facts.upgrade };
        forward(&mut client, &mut job, access).await
    };
    match ended {
        Ended::Answered(_) => {}
        Ended::Switched(switched) => {
            let (mut link, answered) = *switched;
            drop(busy);
            shared.observer.metrics.upgrades.add(1);
            link.active.set_long_lived();
            if let Some(stream) = client.into_tunnel() {
                Box::pin(upgrade::tunnel_plain(stream, link, answered)).await;
            }
        }
        Ended::Onward(access) => {
            if expects {
                // The application's own word cannot come through.
                client.invite();
            }
            let sent = Box::pin(onward::forward(&mut client, shared, &route, access)).await;
            if let Err((cause, access)) = sent {
                Box::pin(failed(client, &session, &route, cause, access)).await;
            }
        }
        Ended::Failed(cause, access) => Box::pin(failed(client, &session, &route, cause, access)).await,
        Ended::Broken => {
            // A reset takes what is not written yet with it.
            sleep(RESET_DELAY).await;
            client.reset();
        }
    }
}

/// Tells a client why its request has no answer.
async fn failed(mut client: Http2, session: &Session, route: &Route, cause: Cause, access: Access) {
    let shared = session.shared.as_ref();
    let known = match cause {
        Cause::NoListener => unless_gone(&mut client, pin!(shared.last_seen(route))).await.flatten(),
        _ => None,
    };
    let entry = &known.as_deref().unwrap_or(route).entry;
    let (facts, mut out) = (client.facts, take_head());
    let (reply, sees) = (Reply { facts, close: false }, Reader::At(session.ends).sees());
    let status = pages::failed(&mut out, reply, sees, entry, cause, &shared.table.load());
    access.end(&shared.observer, None, status, 0);
    page(client.into_respond(), out, &facts);
}

/// Answers with a page of ours, written as HTTP/1.
fn page(mut respond: h2::server::SendResponse<Bytes>, bytes: Vec<u8>, facts: &Facts) {
    let end = bytes.windows(4).position(|mark| mark == b"\r\n\r\n").map_or(bytes.len(), |at| at + 4);
    let (head, body) = bytes.split_at(end);
    // Our own pages are well formed; else the stream is reset. A client that has gone gets none.
    if let Ok((_, response)) = response::read(head, facts)
        && let Ok(mut outflow) = respond.send_response(response, body.is_empty())
        && !body.is_empty()
    {
        let _ = outflow.send_data(Bytes::copy_from_slice(body), true);
    }
    give_head(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream may last for as long as its client likes.
    #[test]
    fn a_stream_is_small() {
        fn size<A, B, C, F>(_: impl FnOnce(A, B, C) -> F) -> usize {
            size_of::<F>()
        }
        let size = size(serve_stream);
        assert!(size <= 2560, "{size} bytes");
    }
}
