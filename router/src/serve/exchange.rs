//! One request and its answer, both directions at once, whatever the client speaks.
//!
//! Owns how far both are, and the bytes of the application; never decides where a request goes or what to do about a
//! failure (that is `forward`), and knows neither end's protocol: a [`Source`] is where the request comes from, a
//! [`Sink`] where the answer goes, and each client is both. A plain poll function instead of two tasks: an answer may
//! begin while the body is still coming, and nothing may be copied or spawned for the usual request that fits into
//! one read.
use crate::error::Failure;
use crate::io::buffer::{Expect, ReadBuffer};
use crate::limits::{RESPONSE_HEAD_BYTES, SWEEP, UPLOAD_IDLE};
use crate::message::body::{Body, Malformed};
use crate::message::head::{Head, Scanner, is_http2};
use crate::message::response::{self, Answer};
use crate::upstream::connect::is_unread;
use crate::upstream::pool::Stream;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// Where a request comes from. What came is sent before more is received.
pub(crate) trait Source {
    /// Makes what has come of the body ready to be sent.
    fn prepare(&mut self) -> Result<(), Failure>;

    /// Sends what is ready.
    fn poll_send(&mut self, context: &mut Context<'_>, to: &mut Stream) -> Poll<io::Result<()>>;

    /// Drops what is ready: the application reads no more.
    fn discard(&mut self);

    /// Receives more of the body.
    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>>;

    /// Whether the whole body has come.
    fn is_complete(&self) -> bool;

    /// Whether nothing that came is left to be sent.
    fn is_flushed(&self) -> bool;

    /// Whether anything was sent.
    fn has_begun(&self) -> bool;

    /// Whether the request can be sent once more, in another way: nothing of its body is used up.
    fn is_whole(&self) -> bool;

    /// Begins again on another connection. Only the head was sent, at most.
    fn rewind(&mut self);

    /// The request will not be sent again.
    fn forget(&mut self);
}

/// Where an answer goes.
pub(crate) trait Sink {
    /// Reads the head in `head`, and makes what the client gets of it ready. `close`: nothing may follow on the
    /// client's connection.
    fn begin(&mut self, head: &[u8], close: bool) -> Result<Answer, &'static str>;

    /// Makes the bytes at hand of the body ready, which is framed as `body` says. Returns how many there are.
    fn stage(&mut self, body: &mut Body, answered: &mut ReadBuffer) -> Result<usize, Malformed>;

    /// The application ended the body by closing its connection.
    fn finish(&mut self);

    /// Sends what is ready; `last`: nothing follows.
    fn poll_flush(
        &mut self,
        context: &mut Context<'_>,
        answered: &mut ReadBuffer,
        last: bool,
    ) -> Poll<Result<(), Failure>>;

    /// Whether a part of the final answer was sent.
    fn has_started(&self) -> bool;

    /// Nothing is at hand: gives memory back.
    fn rest(&mut self);

    /// Ready once the client takes more.
    fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>>;

    /// Ready once the client wants no answer any more. Called while nothing moves.
    fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()>;

    /// Whether the client wants no answer any more, where [`Self::poll_gone`] may overlook it.
    fn is_gone(&mut self) -> bool;

    /// Ready now and then while nothing moves, within [`SWEEP`]; never, where nobody has to look at a client that is
    /// not `uploading`.
    fn poll_tick(&mut self, context: &mut Context<'_>, uploading: bool) -> Poll<()>;

    /// Tells the client that nothing follows, where its protocol has no other word for it.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<()>;
}

/// An exchange in progress.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// Whether the client's connection is to be closed afterwards, whatever it asks for.
    close: bool,
    /// How far the request is.
    upload: Upload,
    /// What the application sent and the client did not get yet.
    pub(crate) answered: ReadBuffer,
    body: Body,
    scanner: Scanner,
    phase: Phase,
    /// The head of the answer, once it is there.
    pub(crate) answer: Option<Answer>,
    /// Bytes of the answer's body that were made ready for the client.
    pub(crate) bytes: u64,
    /// How long the upload has stood still.
    stalled: Duration,
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
    /// An exchange that has not begun.
    pub(crate) fn new(close: bool) -> Self {
        Self {
            close,
            upload: Upload::Sending,
            answered: ReadBuffer::default(),
            body: Body::NONE,
            scanner: Scanner::default(),
            phase: Phase::Head,
            answer: None,
            bytes: 0,
            stalled: Duration::ZERO,
        }
    }

    /// Starts again on another connection, nothing of the answer having come.
    pub(crate) fn rewind(&mut self) {
        self.upload = Upload::Sending;
        self.answered = ReadBuffer::default();
        self.scanner = Scanner::default();
    }

    /// Whether the whole request was sent, so that the application waits for the next.
    pub(crate) fn is_sent(&self) -> bool {
        self.upload == Upload::Finished
    }

    /// Drives both directions.
    pub(crate) fn poll<C: Source + Sink>(
        &mut self,
        context: &mut Context<'_>,
        client: &mut C,
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

    /// After the answer: goes on with the request for as long as the application reads it.
    pub(crate) fn poll_rest<C: Source + Sink>(
        &mut self,
        context: &mut Context<'_>,
        client: &mut C,
        stream: &mut Stream,
    ) -> Poll<()> {
        ready!(client.poll_end(context));
        match self.poll_upload(context, client, stream) {
            Poll::Pending if self.upload == Upload::Sending => self.poll_left(context, client),
            _ => Poll::Ready(()),
        }
    }

    /// Ready once the client is known to have left.
    fn poll_left<C: Source + Sink>(&self, context: &mut Context<'_>, client: &mut C) -> Poll<()> {
        // What waits for the client to send hears of its end itself.
        let receiving = self.upload != Upload::Finished && client.is_flushed();
        if receiving { Poll::Pending } else { client.poll_gone(context) }
    }

    fn poll_upload(
        &mut self,
        context: &mut Context<'_>,
        client: &mut impl Source,
        stream: &mut Stream,
    ) -> Poll<Result<(), Failure>> {
        loop {
            client.prepare()?;
            if self.upload == Upload::Discarding {
                client.discard();
            } else if let Err(_gone) = ready!(client.poll_send(context, stream)) {
                if !client.has_begun() {
                    return Poll::Ready(Err(Failure::Undelivered));
                }
                // It may have answered before it hung up: that is what the client should see.
                self.upload = Upload::Discarding;
                continue;
            }
            if client.is_complete() {
                if self.upload == Upload::Sending {
                    self.upload = Upload::Finished;
                }
                return Poll::Ready(Ok(()));
            }
            ready!(client.poll_receive(context))?;
            self.stalled = Duration::ZERO;
        }
    }

    fn poll_download<C: Source + Sink>(
        &mut self,
        context: &mut Context<'_>,
        client: &mut C,
        stream: &mut Stream,
    ) -> Poll<Result<End, Failure>> {
        loop {
            match self.phase {
                Phase::Head => match self.scanner.scan(self.answered.filled(), false) {
                    Head::Complete(length) => self.begin_answer(client, length)?,
                    _ if is_http2(self.answered.filled()) => {
                        return Poll::Ready(Err(Failure::OtherProtocol));
                    }
                    _ if !response::may_begin(self.answered.filled()) => {
                        return Poll::Ready(Err(Failure::NotHttp));
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
                    let answer = self.answer.as_ref();
                    let interim = answer.is_some_and(|answer| answer.interim);
                    let switched = answer.is_some_and(|answer| answer.switched);
                    let last = self.body.is_finished() && !interim && !switched;
                    ready!(client.poll_flush(context, &mut self.answered, last))?;
                    if interim {
                        self.phase = Phase::Head;
                    } else if switched {
                        return Poll::Ready(Ok(End::Switched));
                    } else if last {
                        return Poll::Ready(Ok(End::Answered));
                    } else {
                        self.phase = Phase::Body;
                        if self.answered.is_empty() {
                            client.rest();
                        }
                    }
                }
                Phase::Body => {
                    if !self.answered.is_empty() {
                        self.stage_body(client)?;
                        continue;
                    }
                    ready!(client.poll_room(context))?;
                    let expect = Expect::of(self.body.expected());
                    match ready!(self.answered.poll_fill(context, stream, expect)) {
                        Ok(1..) => {}
                        Ok(_) if self.body == Body::UntilClose => {
                            self.body = Body::NONE;
                            client.finish();
                            self.phase = Phase::Flush;
                        }
                        _ => return Poll::Ready(Err(Failure::Truncated)),
                    }
                }
            }
        }
    }

    /// Reads the head of the answer, and what is there of its body.
    fn begin_answer<C: Source + Sink>(&mut self, client: &mut C, length: usize) -> Result<(), Failure> {
        // Whoever answers before the whole request is there may not want the rest.
        let close = self.close || !client.is_complete();
        let answer = client.begin(&self.answered.filled()[..length], close).map_err(Failure::Garbage)?;
        self.answered.consume(length);
        self.answer = Some(answer);
        self.body = answer.body;
        self.scanner = Scanner::default();
        self.phase = Phase::Flush;
        if !answer.interim {
            client.forget();
            if !self.answered.is_empty() && !answer.switched && !self.body.is_finished() {
                self.stage_body(client)?;
            }
        }
        Ok(())
    }

    /// Makes the body bytes at hand ready for the client.
    fn stage_body(&mut self, client: &mut impl Sink) -> Result<(), Failure> {
        let staged = client.stage(&mut self.body, &mut self.answered);
        self.bytes += staged.map_err(|_| match client.has_started() {
            true => Failure::Truncated,
            false => Failure::Garbage("body"),
        })? as u64;
        self.phase = Phase::Flush;
        Ok(())
    }

    /// While nothing moves: is the client still there, does its upload go on?
    fn poll_waiting<C: Source + Sink>(
        &mut self,
        context: &mut Context<'_>,
        client: &mut C,
    ) -> Poll<Result<End, Failure>> {
        if self.poll_left(context, client).is_ready() {
            return Poll::Ready(Err(Failure::ClientGone));
        }
        let uploading = self.upload != Upload::Finished;
        while client.poll_tick(context, uploading).is_ready() {
            if client.is_gone() {
                return Poll::Ready(Err(Failure::ClientGone));
            }
            let long_lived = self.answer.is_some_and(|answer| answer.long_lived);
            if uploading && !long_lived && !client.is_complete() && client.is_flushed() {
                self.stalled += SWEEP;
                if self.stalled >= UPLOAD_IDLE {
                    return Poll::Ready(Err(Failure::ClientSlow));
                }
            }
        }
        Poll::Pending
    }
}
