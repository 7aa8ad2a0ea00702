//! One stream of a client of HTTP/2 as both ends of an exchange: frames come in and go out, flow control holds in
//! both directions. No more is read than is passed on, and nothing is asked of the application that the client has no
//! room for.
use super::trailers;
use super::tunnel::Both;
use crate::error::Failure;
use crate::io::buffer::{ReadBuffer, give_head};
use crate::io::inflow::Inflow;
use crate::io::timer::Timer;
use crate::message::body::{Body, Malformed};
use crate::message::rehost::Rehost;
use crate::message::request::Facts;
use crate::message::response::{self, Answer};
use crate::message::websocket;
use crate::serve::exchange::{Sink, Source};
use crate::upstream::pool::Stream;
use bytes::Bytes;
use h2::{Reason, SendStream, server::SendResponse};
use hyper::Response;
use hyper::body::Body as _;
use std::io::{self, IoSlice, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite as _;

/// One request of a client.
#[derive(Debug)]
pub(super) struct Http2 {
    pub(super) facts: Facts,
    /// The request's head; then what frames `data`.
    pub(super) head: Vec<u8>,
    /// Bytes of `head` that are sent.
    sent: usize,
    data: Bytes,
    tail: &'static [u8],
    /// What is still to come from the client; nothing once it has ended or nobody wants it.
    pub(super) inflow: Option<Inflow>,
    chunked: bool,
    /// Whether anything was sent.
    begun: bool,
    /// Whether head and body are no longer as they were given.
    taken: bool,
    pub(super) respond: SendResponse<Bytes>,
    /// The answer's body, once its head is sent.
    pub(super) outflow: Option<SendStream<Bytes>>,
    /// A head that is to be sent.
    ready: Option<Response<()>>,
    /// Bytes at the front of the application's buffer that are to be sent behind it.
    count: usize,
    /// Trailer lines so far.
    trailers: Vec<u8>,
    /// The key that the application has to know, where the client wants a WebSocket.
    key: Option<String>,
    /// What its answer is rewritten by.
    rehost: Option<Box<Rehost>>,
    /// Runs while an upload stands still.
    timer: Timer,
}

// === impl Http2 ===

impl Http2 {
    /// A request with `head` and the body in `inflow`. Where it changes the protocol, that is no body.
    pub(super) fn new(
        facts: Facts,
        head: Vec<u8>,
        inflow: Inflow,
        key: Option<String>,
        rehost: Option<Box<Rehost>>,
        respond: SendResponse<Bytes>,
    ) -> Self {
        let ended = facts.body.is_finished() && inflow.is_end_stream();
        Self {
            facts,
            head,
            sent: 0,
            data: Bytes::new(),
            tail: b"",
            inflow: (!ended).then_some(inflow),
            chunked: matches!(facts.body, Body::Chunked(_)),
            begun: false,
            taken: false,
            respond,
            outflow: None,
            ready: None,
            count: 0,
            trailers: Vec::new(),
            key,
            rehost,
            timer: Timer::default(),
        }
    }

    /// Gives an answer the names of its route, where it is to have those.
    pub(super) fn rehost(&self, headers: &mut http::HeaderMap) {
        let Some(rehost) = &self.rehost else { return };
        for (name, value) in headers {
            let rewritten = rehost.outward(name.as_str(), value.as_bytes());
            if let Some(Ok(rewritten)) = rewritten.map(http::HeaderValue::try_from) {
                *value = rewritten;
            }
        }
    }

    /// Says that the body may come, in the place of an application that cannot.
    pub(super) fn invite(&mut self) {
        let mut invitation = Response::new(());
        *invitation.status_mut() = http::StatusCode::CONTINUE;
        // A client that has gone is noticed elsewhere.
        let _ = self.respond.send_informational(invitation);
    }

    /// What is needed to answer otherwise.
    pub(super) fn into_respond(self) -> SendResponse<Bytes> {
        self.respond
    }

    /// Both ways of the stream, after the protocol changed.
    pub(super) fn into_tunnel(self) -> Option<Both> {
        Some(Both::new(self.inflow?, self.outflow?))
    }

    /// Breaks off an answer that has begun.
    pub(super) fn reset(&mut self) {
        if let Some(outflow) = &mut self.outflow {
            outflow.send_reset(Reason::INTERNAL_ERROR);
        }
    }

    /// Whether `inflow` is the other protocol's, and no body.
    fn is_tunnel(&self) -> bool {
        self.facts.upgrade
    }

    /// Sends `data` next.
    fn frame(&mut self, data: Bytes) {
        self.head.clear();
        self.sent = 0;
        if self.chunked {
            // Writing into memory cannot fail.
            let _ = write!(self.head, "{:x}\r\n", data.len());
            self.tail = b"\r\n";
        }
        self.data = data;
    }

    /// Sends the end of the body. A body of known length has none, nor has it trailers.
    fn end(&mut self, headers: &http::HeaderMap) {
        self.inflow = None;
        if self.chunked {
            self.head.clear();
            self.sent = 0;
            self.head.extend_from_slice(b"0\r\n");
            trailers::write(headers, &mut self.head);
            self.head.extend_from_slice(b"\r\n");
        }
    }
}

impl Source for Http2 {
    fn prepare(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn poll_send(&mut self, context: &mut Context<'_>, to: &mut Stream) -> Poll<io::Result<()>> {
        while !self.is_flushed() {
            let head = &self.head[self.sent..];
            let written = if self.data.is_empty() && self.tail.is_empty() {
                ready!(Pin::new(&mut *to).poll_write(context, head))?
            } else {
                let slices = [IoSlice::new(head), IoSlice::new(&self.data), IoSlice::new(self.tail)];
                ready!(Pin::new(&mut *to).poll_write_vectored(context, &slices))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.begun = true;
            let of_head = written.min(head.len());
            let of_data = (written - of_head).min(self.data.len());
            self.sent += of_head;
            self.tail = self.tail.get(written - of_head - of_data..).unwrap_or_default();
            drop(self.data.split_to(of_data));
        }
        Poll::Ready(Ok(()))
    }

    fn discard(&mut self) {
        self.sent = self.head.len();
        self.data = Bytes::new();
        self.tail = b"";
        if !self.is_tunnel() {
            // The client is told that nobody reads on.
            self.taken |= self.inflow.take().is_some();
        }
    }

    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let Some(inflow) = &mut self.inflow else { return Poll::Ready(Ok(())) };
        let frame = ready!(Pin::new(inflow).poll_frame(context));
        self.taken |= frame.is_some() || self.chunked;
        match frame {
            None => self.end(&http::HeaderMap::new()),
            Some(Err(_)) => return Poll::Ready(Err(Failure::ClientGone)),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => self.frame(data),
                Err(frame) => self.end(&frame.into_trailers().unwrap_or_default()),
            },
        }
        Poll::Ready(Ok(()))
    }

    fn is_complete(&self) -> bool {
        self.inflow.is_none() || self.is_tunnel()
    }

    fn is_flushed(&self) -> bool {
        self.sent == self.head.len() && self.data.is_empty() && self.tail.is_empty()
    }

    fn has_begun(&self) -> bool {
        self.begun
    }

    fn is_whole(&self) -> bool {
        !self.taken
    }

    fn rewind(&mut self) {
        self.sent = 0;
        self.begun = false;
    }

    fn forget(&mut self) {
        if self.is_complete() && self.is_flushed() {
            self.sent = 0;
            give_head(std::mem::take(&mut self.head));
        }
    }
}

impl Sink for Http2 {
    fn begin(&mut self, head: &[u8], _: bool) -> Result<Answer, &'static str> {
        let (answer, mut response) = response::read(head, &self.facts)?;
        // In HTTP/2 it would say that the tunnel is there (RFC 8441 5).
        if self.facts.upgrade && !answer.switched && (200..300).contains(&answer.status) {
            return Err("upgrade: it did not change the protocol");
        }
        if answer.switched {
            if let Some(key) = &self.key {
                let mut accepts = response.headers().get_all(http::header::SEC_WEBSOCKET_ACCEPT).iter();
                // Nobody else can check it: the key is ours (RFC 6455 4.1).
                let fits = accepts.next().is_some_and(|accept| accept == websocket::accept(key).as_str());
                if !fits || accepts.next().is_some() {
                    return Err("sec-websocket-accept: it does not fit the key");
                }
            }
            // There is no 101 in HTTP/2 (RFC 8441 5).
            *response.status_mut() = http::StatusCode::OK;
            response.headers_mut().remove(http::header::SEC_WEBSOCKET_ACCEPT);
        }
        self.rehost(response.headers_mut());
        self.ready = Some(response);
        Ok(answer)
    }

    fn stage(&mut self, body: &mut Body, answered: &mut ReadBuffer) -> Result<usize, Malformed> {
        let trailers = &mut self.trailers;
        let (framing, count) = body.data_and_trailers(answered.filled(), |byte| trailers.push(byte))?;
        answered.consume(framing);
        self.count = count;
        Ok(count)
    }

    fn finish(&mut self) {}

    fn poll_flush(
        &mut self,
        _: &mut Context<'_>,
        answered: &mut ReadBuffer,
        last: bool,
    ) -> Poll<Result<(), Failure>> {
        let gone = |_| Failure::ClientGone;
        let trailers = if last { trailers::read(&self.trailers) } else { http::HeaderMap::new() };
        let ends = last && trailers.is_empty();
        if let Some(response) = self.ready.take() {
            if response.status().is_informational() {
                // A client that has gone is noticed elsewhere.
                let _ = self.respond.send_informational(response);
                return Poll::Ready(Ok(()));
            }
            let ends = ends && self.count == 0;
            match self.respond.send_response(response, ends) {
                Ok(outflow) => self.outflow = Some(outflow),
                // A head that the protocol does not allow, or a client that has gone.
                Err(_) => {
                    self.respond.send_reset(Reason::INTERNAL_ERROR);
                    return Poll::Ready(Err(Failure::ClientGone));
                }
            }
            if ends {
                return Poll::Ready(Ok(()));
            }
        }
        let Some(outflow) = &mut self.outflow else { return Poll::Ready(Err(Failure::ClientGone)) };
        if self.count > 0 {
            let data = Bytes::copy_from_slice(&answered.filled()[..self.count]);
            answered.consume(std::mem::take(&mut self.count));
            outflow.send_data(data, ends).map_err(gone)?;
        } else if ends {
            outflow.send_data(Bytes::new(), true).map_err(gone)?;
        }
        if last && !ends {
            outflow.reserve_capacity(0);
            outflow.send_trailers(trailers).map_err(gone)?;
        }
        Poll::Ready(Ok(()))
    }

    fn has_started(&self) -> bool {
        self.outflow.is_some()
    }

    fn rest(&mut self) {}

    fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let Some(outflow) = &mut self.outflow else { return Poll::Ready(Ok(())) };
        poll_room(outflow, context)
    }

    fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match &mut self.outflow {
            Some(outflow) => outflow.poll_reset(context).map(drop),
            None => self.respond.poll_reset(context).map(drop),
        }
    }

    fn is_gone(&mut self) -> bool {
        false
    }

    fn poll_tick(&mut self, context: &mut Context<'_>, uploading: bool) -> Poll<()> {
        if uploading { self.timer.poll_tick(context) } else { Poll::Pending }
    }

    fn poll_end(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

/// Ready once the client takes more of an answer.
pub(super) fn poll_room(
    outflow: &mut SendStream<Bytes>,
    context: &mut Context<'_>,
) -> Poll<Result<(), Failure>> {
    outflow.reserve_capacity(1);
    while outflow.capacity() == 0 {
        match ready!(outflow.poll_capacity(context)) {
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Poll::Ready(Err(Failure::ClientGone)),
        }
    }
    Poll::Ready(Ok(()))
}
