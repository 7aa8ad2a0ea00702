//! One exchange between a stream of HTTP/2 and an application that speaks HTTP/1.
//!
//! Both directions move whenever either is polled: an answer may begin, and end, while the request's
//! body is still coming. The application's connection goes back to its pool after a whole exchange.
use super::message;
use super::stream::Hints;
use crate::error::Failure;
use crate::io::buffer::{Expect, ReadBuffer, give_head};
use crate::io::inflow::Inflow;
use crate::limits::RESPONSE_HEAD_BYTES;
use crate::message::body::Body;
use crate::message::head::{Head, Scanner};
use crate::message::request::Facts;
use crate::message::response::{self, Answer};
use crate::observe::access::Access;
use crate::serve::shared::Shared;
use crate::table::Upstream;
use crate::upstream::multiplex::is_http2;
use crate::upstream::pool::{Link, Stream, is_unread};
use bytes::Bytes;
use hyper::Response;
use hyper::body::{Body as _, Frame};
use std::future::poll_fn;
use std::io::{IoSlice, Write as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite as _;

/// A request on its way to the application.
#[derive(Debug, Default)]
pub(super) struct Upload {
    /// The request's head; then what frames `data`.
    head: Vec<u8>,
    /// Bytes of `head` that are sent.
    sent: usize,
    data: Bytes,
    tail: &'static [u8],
    /// What is still to come from the client; nothing once it has ended or nobody wants it.
    body: Option<Inflow>,
    chunked: bool,
    /// Whether anything was sent.
    begun: bool,
    /// Whether the application hung up before it had all.
    cut: bool,
    /// Whether head and body are no longer as they were given.
    taken: bool,
}

/// An exchange.
#[derive(Debug)]
pub(super) struct Relay {
    upload: Upload,
    /// `None` once it is back in its pool.
    link: Option<Link>,
    upstream: Arc<Upstream>,
    facts: Facts,
    read: ReadBuffer,
    body: Body,
    /// Trailer lines so far.
    trailers: Vec<u8>,
    reusable: bool,
    /// The request to be counted at the end, and its status.
    access: Option<(Access, u16)>,
    /// Bytes of the body so far.
    bytes: u64,
    shared: Arc<Shared>,
}

// === impl Upload ===

impl Upload {
    /// A request with `head` and the body that frames as `framing`.
    pub(super) fn new(head: Vec<u8>, body: Option<Inflow>, framing: Body) -> Self {
        let body = body.filter(|body| !framing.is_finished() || !body.is_end_stream());
        let chunked = matches!(framing, Body::Chunked(_));
        Self { head, body, chunked, ..Self::default() }
    }

    /// Begins again on another connection. Only the head was sent, at most.
    pub(super) fn rewind(&mut self) {
        self.sent = 0;
        self.begun = false;
        self.cut = false;
    }

    /// Head and body, to send the request in another way; `None` where something of them is gone.
    pub(super) fn into_whole(self) -> Option<(Vec<u8>, Option<Inflow>)> {
        (!self.taken).then_some((self.head, self.body))
    }

    fn is_sent(&self) -> bool {
        !self.cut && self.body.is_none() && self.is_flushed()
    }

    fn is_flushed(&self) -> bool {
        self.sent == self.head.len() && self.data.is_empty() && self.tail.is_empty()
    }

    fn poll(&mut self, context: &mut Context<'_>, link: &mut Link) -> Poll<Result<(), Failure>> {
        loop {
            if self.cut {
                return Poll::Ready(Ok(()));
            }
            if ready!(self.poll_flush(context, &mut link.stream)).is_err() {
                if !self.begun {
                    return Poll::Ready(Err(Failure::Undelivered));
                }
                // It may have answered before it hung up: that is what the client should see.
                self.cut = true;
                self.taken |= self.body.take().is_some();
                continue;
            }
            let Some(body) = &mut self.body else { return Poll::Ready(Ok(())) };
            let frame = ready!(Pin::new(body).poll_frame(context));
            self.taken |= frame.is_some() || self.chunked;
            match frame {
                None => {
                    self.body = None;
                    self.finish(&http::HeaderMap::new());
                }
                Some(Err(_)) => return Poll::Ready(Err(Failure::ClientGone)),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if data.is_empty() => {}
                    Ok(data) => self.stage(data),
                    Err(frame) => {
                        self.body = None;
                        self.finish(&frame.into_trailers().unwrap_or_default());
                    }
                },
            }
        }
    }

    /// Sends `data` next.
    fn stage(&mut self, data: Bytes) {
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
    fn finish(&mut self, trailers: &http::HeaderMap) {
        if self.chunked {
            self.head.clear();
            self.sent = 0;
            self.head.extend_from_slice(b"0\r\n");
            message::write_trailers(trailers, &mut self.head);
            self.head.extend_from_slice(b"\r\n");
        }
    }

    fn poll_flush(&mut self, context: &mut Context<'_>, stream: &mut Stream) -> Poll<std::io::Result<()>> {
        while !self.is_flushed() {
            let head = &self.head[self.sent..];
            let written = if self.data.is_empty() && self.tail.is_empty() {
                ready!(Pin::new(&mut *stream).poll_write(context, head))?
            } else {
                let slices = [IoSlice::new(head), IoSlice::new(&self.data), IoSlice::new(self.tail)];
                ready!(Pin::new(&mut *stream).poll_write_vectored(context, &slices))?
            };
            if written == 0 {
                return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into()));
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
}

// === impl Relay ===

impl Relay {
    /// An exchange over `link`, which is one to `upstream`.
    pub(super) fn new(
        upload: Upload,
        link: Link,
        upstream: Arc<Upstream>,
        facts: Facts,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            upload,
            link: Some(link),
            upstream,
            facts,
            read: ReadBuffer::default(),
            body: Body::NONE,
            trailers: Vec::new(),
            reusable: false,
            access: None,
            bytes: 0,
            shared,
        }
    }

    /// Counts `access` with `status` once the body has ended, however it ends.
    pub(super) fn count(&mut self, access: Access, status: u16) {
        self.access = Some((access, status));
    }

    /// The request, to send it again.
    pub(super) fn into_upload(mut self) -> Upload {
        std::mem::take(&mut self.upload)
    }

    /// The application's connection and what came behind its head, after it changed the protocol.
    pub(super) fn into_parts(mut self) -> Option<(Link, ReadBuffer)> {
        Some((self.link.take()?, std::mem::take(&mut self.read)))
    }

    /// Sends the request and waits for the head of its final answer. Interim ones become `hints`.
    pub(super) async fn head(&mut self, hints: &Hints) -> Result<(Answer, Response<()>), Failure> {
        let mut scanner = Scanner::default();
        poll_fn(|context| self.poll_head(context, &mut scanner, hints)).await
    }

    /// Whether the body has ended and no trailers are left to be told.
    pub(super) fn is_finished(&self) -> bool {
        self.body.is_finished() && self.trailers.is_empty()
    }

    fn poll_head(
        &mut self,
        context: &mut Context<'_>,
        scanner: &mut Scanner,
        hints: &Hints,
    ) -> Poll<Result<(Answer, Response<()>), Failure>> {
        self.poll_upload(context)?;
        loop {
            if let Head::Complete(length) = scanner.scan(self.read.filled(), false) {
                let read = response::read(&self.read.filled()[..length], &self.facts);
                let (answer, response) = read.map_err(Failure::Garbage)?;
                self.read.consume(length);
                if answer.interim {
                    hints.push(response);
                    *scanner = Scanner::default();
                    continue;
                }
                self.body = answer.body;
                self.reusable = answer.reusable;
                if let Some(link) = self.link.as_mut().filter(|_| answer.endless) {
                    link.active.set_endless();
                }
                // A tunnel goes on with the connection.
                if self.body.is_finished() && !answer.switched {
                    self.settle();
                }
                return Poll::Ready(Ok((answer, response)));
            }
            if is_http2(self.read.filled()) {
                return Poll::Ready(Err(Failure::OtherProtocol));
            }
            if !response::may_begin(self.read.filled()) {
                return Poll::Ready(Err(Failure::Garbage("status line")));
            }
            if self.read.filled().len() > RESPONSE_HEAD_BYTES {
                return Poll::Ready(Err(Failure::Garbage("head: it is too large")));
            }
            let Some(link) = &mut self.link else { return Poll::Ready(Err(Failure::Silent)) };
            match ready!(self.read.poll_fill(context, &mut link.stream, Expect::Little)) {
                Ok(1..) => {}
                Err(error) if self.read.is_empty() && is_unread(&error) => {
                    return Poll::Ready(Err(Failure::Unread));
                }
                _ if self.read.is_empty() => return Poll::Ready(Err(Failure::Silent)),
                _ => return Poll::Ready(Err(Failure::Garbage("head: it ends early"))),
            }
        }
    }

    /// The next part of the body.
    pub(super) fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        if let Err(failure) = self.poll_upload(context) {
            return Poll::Ready(Some(Err(failure)));
        }
        loop {
            if self.body.is_finished() {
                self.settle();
                let lines = std::mem::take(&mut self.trailers);
                let trailers = message::trailers(&lines);
                return Poll::Ready((!trailers.is_empty()).then(|| Ok(Frame::trailers(trailers))));
            }
            if !self.read.is_empty() {
                let trailers = &mut self.trailers;
                let parted = self.body.data_and_trailers(self.read.filled(), |byte| trailers.push(byte));
                let Ok((framing, count)) = parted else {
                    return Poll::Ready(Some(Err(Failure::Truncated)));
                };
                self.read.consume(framing);
                if count > 0 {
                    let data = Bytes::copy_from_slice(&self.read.filled()[..count]);
                    self.read.consume(count);
                    self.bytes += count as u64;
                    if self.body.is_finished() {
                        // Nobody asks further where the end is seen.
                        self.settle();
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                continue;
            }
            let Some(link) = &mut self.link else { return Poll::Ready(Some(Err(Failure::Truncated))) };
            let expect = Expect::of(self.body.expected());
            match ready!(self.read.poll_fill(context, &mut link.stream, expect)) {
                Ok(1..) => {}
                Ok(_) if self.body == Body::UntilClose => self.body = Body::NONE,
                _ => return Poll::Ready(Some(Err(Failure::Truncated))),
            }
        }
    }

    /// Moves the request on. What waits is no failure.
    fn poll_upload(&mut self, context: &mut Context<'_>) -> Result<(), Failure> {
        let Some(link) = &mut self.link else { return Ok(()) };
        match self.upload.poll(context, link) {
            Poll::Ready(result) => result,
            Poll::Pending => Ok(()),
        }
    }

    /// After the whole answer: keeps the application's connection where that is right.
    fn settle(&mut self) {
        if self.reusable
            && self.upload.is_sent()
            && self.read.is_empty()
            && let Some(link) = self.link.take()
        {
            self.upstream.health.keep(link);
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        give_head(std::mem::take(&mut self.upload.head));
        if let Some((access, status)) = self.access.take() {
            access.end(&self.shared, Some(&self.upstream), status, self.bytes);
        }
    }
}
