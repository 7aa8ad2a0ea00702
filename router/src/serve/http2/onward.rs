//! One exchange between a stream of HTTP/2 and an application that speaks HTTP/2 as well: gRPC first of
//! all. Frames pass as they are, trailers among them; both ends' flow control holds.
use super::stream::{Http2, poll_room};
use crate::error::{Failure, Refusal};
use crate::io::timer::Timer;
use crate::limits::{HEADER_LINES, RESET_DELAY, SWEEP, UPLOAD_IDLE};
use crate::message::headers::{Kind, is_html, kind};
use crate::observe::access::Access;
use crate::pages::Cause;
use crate::serve::forward::unless_gone;
use crate::serve::shared::Shared;
use crate::table::Route;
use crate::upstream::bridge::remove_hops;
use crate::upstream::listener::Upstream;
use crate::upstream::multiplex::{Lane, Progress, Sending, retain_trailers};
use crate::upstream::retry::{Again, again};
use bytes::Bytes;
use h2::SendStream;
use http::{HeaderName, HeaderValue, Uri};
use hyper::body::{Body as _, Incoming};
use hyper::{HeaderMap, Method, Request, Response};
use std::error::Error as _;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::sleep;

/// The rest of an answer.
#[derive(Debug)]
struct Onward<'job> {
    body: Incoming,
    /// Its place on the application's connection.
    _lane: Lane,
    upstream: &'job Upstream,
    /// The request to be counted at the end, and its status.
    access: Option<(Access, u16)>,
    /// Bytes of the body so far.
    bytes: u64,
    shared: &'job Shared,
}

/// Whether a request is one of gRPC, which HTTP/1 cannot carry. gRPC-Web is made for it.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    let media = headers.get(http::header::CONTENT_TYPE).map(http::HeaderValue::as_bytes);
    let rest = media.and_then(|media| media.strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';' | b' ')))
}

/// Sends the request of `client`, and the answer back to it. Says why, where there was none.
pub(super) async fn forward(
    client: &mut Http2,
    shared: &Shared,
    route: &Route,
    access: Access,
) -> Result<(), (Cause, Access)> {
    let mut request = match request(&client.head) {
        Ok(request) => request.map(|()| match client.inflow.take() {
            Some(inflow) => Sending::http2(inflow),
            None => Sending::Nothing,
        }),
        Err(refusal) => return Err((Cause::Request(refusal), access)),
    };
    let mut fresh = false;
    let (upstream, lane, response) = loop {
        let opened = unless_gone(client, pin!(shared.open_http2(route, fresh))).await;
        let Some(opened) = opened else { return Ok(()) };
        let Some((upstream, mut lane)) = opened else { return Err((Cause::NoListener, access)) };
        let progress = request.body().progress();
        let sending = pin!(lane.sender.try_send_request(request));
        let answer = answer(client, sending, progress.as_deref());
        let mut error = match answer.await {
            Ok(Ok(response)) => break (upstream, lane, response),
            Ok(Err(error)) => error,
            Err(Failure::ClientGone) => return Ok(()),
            Err(failure) => return Err((failure.into(), access)),
        };
        let unsent = error.take_message();
        let failure = failure(&error.into_error(), lane.reused && unsent.is_some());
        match (again(&failure, lane.reused, false, fresh), unsent) {
            (Again::Fresh, Some(unsent)) => request = unsent,
            _ => {
                // It may be another program by now.
                upstream.multiplex().set_only(false);
                return Err((failure.into(), access));
            }
        }
        fresh = true;
        shared.observer.metrics.retries.add(1);
    };
    let (mut parts, body) = response.into_parts();
    let media = parts.headers.get(http::header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let is_page = parts.status.is_success() && is_html(media);
    shared.answered(upstream, &client.facts, parts.status.as_u16(), is_page);
    remove_hops(&mut parts.headers);
    parts.headers.remove(http::header::TE);
    client.rehost(&mut parts.headers);
    let access = Some((access, parts.status.as_u16()));
    let mut rest = Onward { body, _lane: lane, upstream, access, bytes: 0, shared };
    let ends = rest.body.is_end_stream();
    match client.respond.send_response(Response::from_parts(parts, ()), ends) {
        // A head that the protocol does not allow, or a client that has gone.
        Err(_) => client.respond.send_reset(h2::Reason::INTERNAL_ERROR),
        Ok(_) if ends => {}
        Ok(mut outflow) => {
            if poll_fn(|context| rest.poll_carry(context, &mut outflow)).await == Carried::Broken {
                // A reset takes what is not written yet with it.
                sleep(RESET_DELAY).await;
                outflow.send_reset(h2::Reason::INTERNAL_ERROR);
            }
        }
    }
    Ok(())
}

/// What comes of `sending`, unless the client leaves meanwhile, or its upload stands still for too long.
async fn answer<T>(
    client: &mut Http2,
    sending: Pin<&mut impl Future<Output = T>>,
    progress: Option<&Progress>,
) -> Result<T, Failure> {
    let (mut timer, mut seen, mut stalled) = (Timer::default(), 0, Duration::ZERO);
    let mut watched = pin!(unless_gone(client, sending));
    poll_fn(|context| {
        if let Poll::Ready(answer) = watched.as_mut().poll(context) {
            return Poll::Ready(answer.ok_or(Failure::ClientGone));
        }
        let Some(progress) = progress else { return Poll::Pending };
        while timer.poll_tick(context).is_ready() {
            match progress.frames() {
                None => stalled = Duration::ZERO,
                Some(frames) if frames == seen => stalled += SWEEP,
                Some(frames) => (seen, stalled) = (frames, Duration::ZERO),
            }
            if stalled >= UPLOAD_IDLE {
                return Poll::Ready(Err(Failure::ClientSlow));
            }
        }
        Poll::Pending
    })
    .await
}

/// What an error says. A fresh connection that takes no request is one to a program that speaks something else.
fn failure(error: &hyper::Error, unsent: bool) -> Failure {
    let ended = error.source().is_some_and(|source| source.is::<std::io::Error>());
    match unsent {
        true => Failure::Undelivered,
        false if ended || error.is_closed() || error.is_canceled() => Failure::Silent,
        false => Failure::Garbage("answer in HTTP/2"),
    }
}

/// The head that an application gets, as a request of HTTP/2. Says the same as `head`, which is ours.
fn request(head: &[u8]) -> Result<Request<()>, Refusal> {
    let bad = |_| Refusal::bad("head");
    let mut lines = vec![httparse::EMPTY_HEADER; HEADER_LINES];
    let mut parsed = httparse::Request::new(&mut lines);
    parsed.parse(head).map_err(|_| Refusal::bad("head"))?;
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(parsed.method.unwrap_or_default().as_bytes())
        .map_err(|_| Refusal::bad("method"))?;
    let mut authority = None;
    for line in &*parsed.headers {
        match kind(line.name) {
            Kind::Host => authority = Some(line.value),
            // Its word would not come through: hyper passes no interim answers.
            Kind::Expect => {}
            Kind::Connection | Kind::TransferEncoding | Kind::Upgrade | Kind::HopByHop => {}
            _ => {
                let named = HeaderName::from_bytes(line.name.as_bytes()).map_err(drop).map_err(bad)?;
                let value = HeaderValue::from_bytes(line.value).map_err(drop).map_err(bad)?;
                request.headers_mut().try_append(named, value).map_err(drop).map_err(bad)?;
            }
        }
    }
    let target = parsed.path.unwrap_or("/");
    let uri = Uri::builder().scheme("http").authority(authority.unwrap_or_default()).path_and_query(target);
    *request.uri_mut() = uri.build().map_err(drop).map_err(bad)?;
    Ok(request)
}

/// How a body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carried {
    /// With its last frame, or because the client wants no more.
    Over,
    /// Too early: the client must see that.
    Broken,
}

// === impl Onward ===

impl Onward<'_> {
    /// Sends the body to its end, or until the client wants no more.
    fn poll_carry(&mut self, context: &mut Context<'_>, outflow: &mut SendStream<Bytes>) -> Poll<Carried> {
        loop {
            if ready!(poll_room(outflow, context)).is_err() || outflow.poll_reset(context).is_ready() {
                return Poll::Ready(Carried::Over);
            }
            let sent = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                None => outflow.send_data(Bytes::new(), true).map(|()| true),
                Some(Err(_)) => return Poll::Ready(Carried::Broken),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        self.bytes += data.len() as u64;
                        let last = self.body.is_end_stream();
                        outflow.send_data(data, last).map(|()| last)
                    }
                    Err(frame) => {
                        outflow.reserve_capacity(0);
                        let mut trailers = frame.into_trailers().unwrap_or_default();
                        retain_trailers(&mut trailers);
                        outflow.send_trailers(trailers).map(|()| true)
                    }
                },
            };
            match sent {
                Ok(false) => {}
                // It ended, or the client has reset it.
                Ok(true) | Err(_) => return Poll::Ready(Carried::Over),
            }
        }
    }
}

impl Drop for Onward<'_> {
    fn drop(&mut self) {
        if let Some((access, status)) = self.access.take() {
            access.end(&self.shared.observer, Some(self.upstream), status, self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_is_told_by_its_media_type() {
        let is = |media: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("content-type", media.parse().unwrap());
            is_grpc(&headers)
        };
        assert!(is("application/grpc") && is("application/grpc+proto") && is("application/grpc; x"));
        assert!(!is("application/grpc-web") && !is("application/json") && !is_grpc(&HeaderMap::new()));
    }
}
