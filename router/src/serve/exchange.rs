//! One request and its answer, both directions at once.
//!
//! Owns the bytes on their way between a client and an application; never decides where a request
//! goes or what to do about a failure (that is `connection`). A plain poll function instead of two
//! tasks: an answer may begin while the body is still coming, and nothing may be copied or spawned
//! for the usual request that fits into one read.
use crate::error::Failure;
use crate::io::buffer::{Expect, ReadBuffer, give_head, take_head};
use crate::io::outgoing::Outgoing;
use crate::limits::{RESPONSE_HEAD_BYTES, SWEEP, UPLOAD_IDLE};
use crate::message::body::{Body, Part};
use crate::message::head::{Head, Scanner};
use crate::message::headers::put_trailers;
use crate::message::rehost::Rehost;
use crate::message::request::Facts;
use crate::message::response::{self, Answer, Coding};
use crate::serve::client::Client;
use crate::upstream::multiplex::is_http2;
use crate::upstream::pool::{Stream, is_unread};
use std::io::Write as _;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// An exchange in progress.
#[derive(Debug)]
pub(crate) struct Exchange {
    facts: Facts,
    /// Whether the client's connection is to be closed afterwards, whatever it asks for.
    close: bool,
    request: Outgoing,
    request_body: Body,
    /// How far the request is.
    upload: Upload,
    /// What the application sent and the client did not get yet.
    pub(crate) answered: ReadBuffer,
    response: Outgoing,
    response_body: Body,
    /// What few exchanges have.
    aside: Option<Box<Aside>>,
    scanner: Scanner,
    phase: Phase,
    /// The head of the answer, once it is there.
    pub(crate) answer: Option<Answer>,
    /// Bytes of the answer's body that were made ready for the client.
    pub(crate) bytes: u64,
    /// How long the upload has stood still.
    stalled: Duration,
}

#[derive(Debug, Default)]
struct Aside {
    request_trailers: Vec<u8>,
    response_trailers: Vec<u8>,
    rehost: Option<Box<Rehost>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Upload {
    Sending,
    /// The application reads no more; what comes is dropped.
    Discarding,
    Finished,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Waiting for a head.
    Head,
    /// Bytes are ready for the client.
    Flush,
    /// Waiting for more of the body.
    Body,
}

/// How an exchange ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The answer is with the client.
    Answered,
    /// The application changed the protocol, and the client knows.
    Switched,
}

// === impl Exchange ===

impl Exchange {
    /// An exchange that sends `head` and the body behind it, and rewrites the answer by `rehost`.
    pub(crate) fn new(facts: Facts, head: Vec<u8>, close: bool, rehost: Option<Box<Rehost>>) -> Self {
        Self {
            facts,
            close,
            request: Outgoing::new(head),
            request_body: facts.body,
            upload: Upload::Sending,
            answered: ReadBuffer::default(),
            response: Outgoing::default(),
            response_body: Body::NONE,
            aside: rehost.map(|rehost| Box::new(Aside { rehost: Some(rehost), ..Aside::default() })),
            scanner: Scanner::default(),
            phase: Phase::Head,
            answer: None,
            bytes: 0,
            stalled: Duration::ZERO,
        }
    }

    /// Starts again on another connection, nothing of the answer having come.
    pub(crate) fn rewind(&mut self) {
        self.request.rewind();
        self.upload = Upload::Sending;
        self.answered = ReadBuffer::default();
        self.scanner = Scanner::default();
    }

    /// Whether the whole request was sent, so that the application waits for the next.
    pub(crate) fn is_sent(&self) -> bool {
        self.upload == Upload::Finished
    }

    /// Whether nothing of the request is left to be read from the client.
    pub(crate) fn is_received(&self) -> bool {
        self.request_body.is_finished() && self.request.is_empty()
    }

    /// Whether the client has got a part of the final answer.
    pub(crate) fn has_started(&self) -> bool {
        self.answer.is_some_and(|answer| !answer.interim) && self.response.has_begun()
    }

    /// Drives both directions.
    pub(crate) fn poll(
        &mut self,
        context: &mut Context<'_>,
        client: &mut Client,
        stream: &mut Stream,
    ) -> Poll<Result<End, Failure>> {
        if self.upload != Upload::Finished
            && let Poll::Ready(result) = self.poll_upload(context, client, stream)
        {
            result?;
        }
        match self.poll_download(context, client, stream) {
            Poll::Pending => self.poll_waiting(context, client),
            ready => ready,
        }
    }

    fn poll_upload(
        &mut self,
        context: &mut Context<'_>,
        client: &mut Client,
        stream: &mut Stream,
    ) -> Poll<Result<(), Failure>> {
        loop {
            if !self.request.has_body() && !self.request_body.is_finished() && !client.read.is_empty() {
                let part = self.request_body.take(client.read.filled(), |byte| {
                    self.aside.get_or_insert_default().request_trailers.push(byte);
                });
                match part.map_err(|malformed| Failure::ClientBody(malformed.0))? {
                    Part::Pass(count) => self.request.add(count),
                    Part::Trailers(count) => {
                        client.read.consume(count);
                        if let Some(aside) = &self.aside
                            && self.request_body.is_finished()
                        {
                            put_trailers(&aside.request_trailers, self.request.head());
                        }
                    }
                }
            }
            if self.upload == Upload::Discarding {
                self.request.discard(&mut client.read);
            } else if let Err(_gone) = ready!(self.request.poll_flush(context, stream, &mut client.read)) {
                if !self.request.has_begun() {
                    return Poll::Ready(Err(Failure::Undelivered));
                }
                // It may have answered before it hung up: that is what the client should see.
                self.upload = Upload::Discarding;
                continue;
            }
            if self.request_body.is_finished() {
                if self.upload == Upload::Sending {
                    self.upload = Upload::Finished;
                }
                return Poll::Ready(Ok(()));
            }
            if client.read.is_empty() {
                let expect = Expect::of(self.request_body.expected());
                match ready!(client.read.poll_fill(context, &mut client.stream, expect)) {
                    Ok(0) => return Poll::Ready(Err(Failure::ClientBody("body: it ends early"))),
                    Ok(_) => self.stalled = Duration::ZERO,
                    Err(_) => return Poll::Ready(Err(Failure::ClientGone)),
                }
            }
        }
    }

    fn poll_download(
        &mut self,
        context: &mut Context<'_>,
        client: &mut Client,
        stream: &mut Stream,
    ) -> Poll<Result<End, Failure>> {
        loop {
            match self.phase {
                Phase::Head => match self.scanner.scan(self.answered.filled(), false) {
                    Head::Complete(length) => self.begin_answer(length)?,
                    _ if is_http2(self.answered.filled()) => {
                        return Poll::Ready(Err(Failure::OtherProtocol));
                    }
                    _ if !response::may_begin(self.answered.filled()) => {
                        return Poll::Ready(Err(Failure::Garbage("status line")));
                    }
                    _ if self.answered.filled().len() > RESPONSE_HEAD_BYTES => {
                        return Poll::Ready(Err(Failure::Garbage("head: it is too large")));
                    }
                    _ => match ready!(self.answered.poll_fill(context, stream, Expect::Little)) {
                        Ok(1..) => {}
                        Err(error) if self.answered.is_empty() && is_unread(&error) => {
                            return Poll::Ready(Err(Failure::Unread));
                        }
                        _ if self.answered.is_empty() => return Poll::Ready(Err(Failure::Silent)),
                        _ => return Poll::Ready(Err(Failure::Garbage("head: it ends early"))),
                    },
                },
                Phase::Flush => {
                    let flushed = self.response.poll_flush(context, &mut client.stream, &mut self.answered);
                    ready!(flushed).map_err(|_| Failure::ClientGone)?;
                    let answer = self.answer.as_ref();
                    if answer.is_some_and(|answer| answer.interim) {
                        self.response.clear();
                        self.phase = Phase::Head;
                    } else if answer.is_some_and(|answer| answer.switched) {
                        return Poll::Ready(Ok(End::Switched));
                    } else if self.response_body.is_finished() {
                        return Poll::Ready(Ok(End::Answered));
                    } else {
                        self.phase = Phase::Body;
                        if self.answered.is_empty() {
                            self.response.forget();
                            client.timer.hurry();
                        }
                    }
                }
                Phase::Body => {
                    if !self.answered.is_empty() {
                        self.stage_body()?;
                        continue;
                    }
                    let expect = Expect::of(self.response_body.expected());
                    match ready!(self.answered.poll_fill(context, stream, expect)) {
                        Ok(1..) => {}
                        Ok(_) if self.response_body == Body::UntilClose => {
                            self.response_body = Body::NONE;
                            if self.answer.is_some_and(|answer| answer.coding == Coding::Chunk) {
                                self.response.head().extend_from_slice(b"0\r\n\r\n");
                            }
                            self.phase = Phase::Flush;
                        }
                        _ => return Poll::Ready(Err(Failure::Truncated)),
                    }
                }
            }
        }
    }

    /// Reads the head of the answer, and what is there of its body.
    fn begin_answer(&mut self, length: usize) -> Result<(), Failure> {
        let mut head = take_head();
        // Whoever answers before the whole request is there may not want the rest.
        let close = self.close || !self.request_body.is_finished();
        let answer = response::rewrite(&self.answered.filled()[..length], &self.facts, close, &mut head);
        let answer = answer.map_err(Failure::Garbage)?;
        if let Some(rehost) = self.aside.as_ref().and_then(|aside| aside.rehost.as_ref()) {
            rehost.rewrite_head(&mut head);
        }
        self.answered.consume(length);
        self.response.set_head(head);
        self.answer = Some(answer);
        self.response_body = answer.body;
        self.scanner = Scanner::default();
        self.phase = Phase::Flush;
        if !answer.interim {
            // Nothing will be sent again from here on.
            self.request.forget();
            if !self.answered.is_empty() && !answer.switched && !self.response_body.is_finished() {
                self.stage_body()?;
            }
        }
        Ok(())
    }

    /// Makes the body bytes at hand ready for the client.
    fn stage_body(&mut self) -> Result<(), Failure> {
        let coding = self.answer.map_or(Coding::Same, |answer| answer.coding);
        let broken = if self.response.has_begun() { Failure::Truncated } else { Failure::Garbage("body") };
        match coding {
            Coding::Same => {
                match self.response_body.take(self.answered.filled(), |byte| {
                    self.aside.get_or_insert_default().response_trailers.push(byte);
                }) {
                    Ok(Part::Pass(count)) => {
                        self.response.add(count);
                        self.bytes += count as u64;
                    }
                    Ok(Part::Trailers(count)) => {
                        self.answered.consume(count);
                        if let Some(aside) = &self.aside
                            && self.response_body.is_finished()
                        {
                            put_trailers(&aside.response_trailers, self.response.head());
                        }
                    }
                    Err(_) => return Err(broken),
                }
            }
            Coding::Unchunk => match self.response_body.data(self.answered.filled()) {
                Ok((framing, count)) => {
                    self.answered.consume(framing);
                    self.response.add(count);
                    self.bytes += count as u64;
                }
                Err(_) => return Err(broken),
            },
            Coding::Chunk => {
                let count = self.answered.filled().len();
                // Writing into memory cannot fail.
                let _ = write!(self.response.head(), "{count:x}\r\n");
                self.response.add(count);
                self.bytes += count as u64;
                self.response.set_tail(b"\r\n");
            }
        }
        self.phase = Phase::Flush;
        Ok(())
    }

    /// Now and then while nothing moves: is the client still there, does its upload go on?
    fn poll_waiting(&mut self, context: &mut Context<'_>, client: &mut Client) -> Poll<Result<End, Failure>> {
        while client.timer.poll_tick(context).is_ready() {
            if client.is_gone() {
                return Poll::Ready(Err(Failure::ClientGone));
            }
            if self.upload != Upload::Finished && !self.request_body.is_finished() && !self.request.has_body()
            {
                self.stalled += SWEEP;
                if self.stalled >= UPLOAD_IDLE {
                    return Poll::Ready(Err(Failure::ClientSlow));
                }
            }
        }
        Poll::Pending
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        for outgoing in [&mut self.request, &mut self.response] {
            give_head(outgoing.take_head());
        }
    }
}
