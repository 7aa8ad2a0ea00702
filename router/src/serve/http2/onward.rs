//! One exchange between a stream of HTTP/2 and an application that speaks HTTP/2 as well: gRPC first of
//! all. Frames pass as they are, trailers among them; both ends' flow control holds.
use super::message;
use crate::error::Failure;
use crate::io::inflow::Inflow;
use crate::observe::access::Access;
use crate::pages::Cause;
use crate::serve::shared::Shared;
use crate::table::{Route, Upstream};
use crate::upstream::bridge::{remove_hops, retain_trailers};
use crate::upstream::multiplex::{Lane, Sending};
use bytes::Bytes;
use hyper::body::{Body as _, Frame, Incoming};
use hyper::{HeaderMap, Response};
use std::error::Error as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// How often a request that was not sent is tried again on another connection.
const TRIES: usize = 3;

/// The rest of an answer.
#[derive(Debug)]
pub(super) struct Onward {
    body: Incoming,
    /// Its place on the application's connection.
    _lane: Lane,
    upstream: Arc<Upstream>,
    /// The request to be counted at the end, and its status.
    access: Option<(Access, u16)>,
    /// Bytes of the body so far.
    bytes: u64,
    shared: Arc<Shared>,
}

/// Whether a request is one of gRPC, which HTTP/1 cannot carry. gRPC-Web is made for it.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    let media = headers.get(http::header::CONTENT_TYPE).map(http::HeaderValue::as_bytes);
    let rest = media.and_then(|media| media.strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';' | b' ')))
}

/// Sends the request whose rewritten head is `head` and waits for the head of its answer.
pub(super) async fn forward(
    shared: &Arc<Shared>,
    route: &Route,
    head: &[u8],
    body: Option<Inflow>,
    access: &mut Option<Access>,
) -> Result<Response<Onward>, Cause> {
    let mut request = message::onward(head)?.map(|()| body.map_or(Sending::Nothing, Sending::Http2));
    for tried in 1.. {
        let opened = shared.open_http2(route, tried > 1).await;
        let Some((upstream, mut lane)) = opened else { return Err(Cause::NoListener) };
        match lane.sender.try_send_request(request).await {
            Ok(response) => {
                let (mut parts, body) = response.into_parts();
                remove_hops(&mut parts.headers);
                parts.headers.remove(http::header::TE);
                let access = access.take().map(|access| (access, parts.status.as_u16()));
                let (upstream, shared) = (Arc::clone(upstream), Arc::clone(shared));
                let rest = Onward { body, _lane: lane, upstream, access, bytes: 0, shared };
                return Ok(Response::from_parts(parts, rest));
            }
            Err(mut error) => match error.take_message() {
                Some(unsent) if tried < TRIES && lane.reused => request = unsent,
                _ => {
                    // It may be another program by now.
                    upstream.health.multiplex().set_only(false);
                    let error = error.into_error();
                    let ended = error.source().is_some_and(|source| source.is::<std::io::Error>());
                    let silent = ended || error.is_closed() || error.is_canceled();
                    return Err(if silent { Cause::Silent } else { Cause::Garbage("answer in HTTP/2") });
                }
            },
        }
    }
    Err(Cause::Silent)
}

// === impl Onward ===

impl Onward {
    /// Whether nothing is left to come.
    pub(super) fn is_finished(&self) -> bool {
        self.body.is_end_stream()
    }

    /// The next part of the answer.
    pub(super) fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let mut frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &mut frame {
            match frame.trailers_mut() {
                Some(trailers) => retain_trailers(trailers),
                None => self.bytes += frame.data_ref().map_or(0, Bytes::len) as u64,
            }
        }
        Poll::Ready(frame.map(|frame| frame.map_err(|_| Failure::Truncated)))
    }
}

impl Drop for Onward {
    fn drop(&mut self) {
        if let Some((access, status)) = self.access.take() {
            access.end(&self.shared, Some(&self.upstream), status, self.bytes);
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
