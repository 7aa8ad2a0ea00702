//! A client of HTTP/1 as both ends of an exchange: its read buffer is sent on as it is, and so is the application's.
use crate::error::Failure;
use crate::io::buffer::{Expect, ReadBuffer, give_head, take_head};
use crate::io::outgoing::Outgoing;
use crate::message::body::{Body, Malformed, Part};
use crate::message::headers::put_trailers;
use crate::message::rehost::Rehost;
use crate::message::request::Facts;
use crate::message::response::{self, Answer, Coding};
use crate::serve::client::Client;
use crate::serve::exchange::{Sink, Source};
use crate::upstream::pool::Stream;
use std::io::{self, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite as _;

/// One request of a client.
#[derive(Debug)]
pub(crate) struct Http1<'client> {
    pub(crate) client: &'client mut Client,
    facts: Facts,
    request: Outgoing,
    /// What is still to come of the request's body.
    body: Body,
    response: Outgoing,
    /// How the client gets the answer's body.
    coding: Coding,
    /// Whether what `response` holds or has sent is of the final answer.
    last: bool,
    /// What few requests have.
    aside: Option<Box<Aside>>,
}

#[derive(Debug, Default)]
struct Aside {
    request_trailers: Vec<u8>,
    response_trailers: Vec<u8>,
    rehost: Option<Box<Rehost>>,
}

impl<'client> Http1<'client> {
    /// A request that goes out as `head` and the body behind it. Its answer is rewritten by `rehost`.
    pub(crate) fn new(
        client: &'client mut Client,
        facts: Facts,
        head: Vec<u8>,
        rehost: Option<Box<Rehost>>,
    ) -> Self {
        Self {
            client,
            facts,
            request: Outgoing::new(head),
            body: facts.body,
            response: Outgoing::default(),
            coding: Coding::Same,
            last: false,
            aside: rehost.map(|rehost| Box::new(Aside { rehost: Some(rehost), ..Aside::default() })),
        }
    }
}

impl Source for Http1<'_> {
    fn prepare(&mut self) -> Result<(), Failure> {
        if !self.request.has_body() && !self.body.is_finished() && !self.client.read.is_empty() {
            let part = self.body.take(self.client.read.filled(), |byte| {
                self.aside.get_or_insert_default().request_trailers.push(byte);
            });
            match part.map_err(|malformed| Failure::ClientBody(malformed.0))? {
                Part::Pass(count) => self.request.add(count),
                Part::Trailers(count) => {
                    self.client.read.consume(count);
                    if let Some(aside) = &self.aside
                        && self.body.is_finished()
                    {
                        put_trailers(&aside.request_trailers, self.request.head());
                    }
                }
            }
        }
        Ok(())
    }

    fn poll_send(&mut self, context: &mut Context<'_>, to: &mut Stream) -> Poll<io::Result<()>> {
        self.request.poll_flush(context, to, &mut self.client.read)
    }

    fn discard(&mut self) {
        self.request.discard(&mut self.client.read);
    }

    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        if !self.client.read.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let expect = Expect::of(self.body.expected());
        Poll::Ready(match ready!(self.client.read.poll_fill(context, &mut self.client.stream, expect)) {
            Ok(0) => Err(Failure::ClientBody("body: it ends early")),
            Ok(_) => Ok(()),
            Err(_) => Err(Failure::ClientGone),
        })
    }

    fn is_complete(&self) -> bool {
        self.body.is_finished()
    }

    fn is_flushed(&self) -> bool {
        self.request.is_empty()
    }

    fn has_begun(&self) -> bool {
        self.request.has_begun()
    }

    fn is_whole(&self) -> bool {
        self.facts.body.is_finished()
    }

    fn rewind(&mut self) {
        self.request.rewind();
    }

    fn forget(&mut self) {
        self.request.forget();
    }
}

impl Sink for Http1<'_> {
    fn begin(&mut self, head: &[u8], close: bool) -> Result<Answer, &'static str> {
        let mut out = take_head();
        let answer = response::rewrite(head, &self.facts, close, &mut out)?;
        if let Some(rehost) = self.aside.as_ref().and_then(|aside| aside.rehost.as_ref()) {
            rehost.rewrite_head(&mut out);
        }
        self.response.clear();
        self.response.set_head(out);
        self.coding = answer.coding;
        self.last = !answer.interim;
        Ok(answer)
    }

    fn stage(&mut self, body: &mut Body, answered: &mut ReadBuffer) -> Result<usize, Malformed> {
        let count = match self.coding {
            Coding::Same => {
                let part = body.take(answered.filled(), |byte| {
                    self.aside.get_or_insert_default().response_trailers.push(byte);
                })?;
                match part {
                    Part::Pass(count) => count,
                    Part::Trailers(count) => {
                        answered.consume(count);
                        if let Some(aside) = &self.aside
                            && body.is_finished()
                        {
                            put_trailers(&aside.response_trailers, self.response.head());
                        }
                        0
                    }
                }
            }
            Coding::Unchunk => {
                let (framing, count) = body.data(answered.filled())?;
                answered.consume(framing);
                count
            }
            Coding::Chunk => {
                let count = answered.filled().len();
                // Writing into memory cannot fail.
                let _ = write!(self.response.head(), "{count:x}\r\n");
                self.response.set_tail(b"\r\n");
                count
            }
        };
        self.response.add(count);
        Ok(count)
    }

    fn finish(&mut self) {
        if self.coding == Coding::Chunk {
            self.response.head().extend_from_slice(b"0\r\n\r\n");
        }
    }

    fn poll_flush(
        &mut self,
        context: &mut Context<'_>,
        answered: &mut ReadBuffer,
        _: bool,
    ) -> Poll<Result<(), Failure>> {
        let flushed = self.response.poll_flush(context, &mut self.client.stream, answered);
        flushed.map_err(|_| Failure::ClientGone)
    }

    fn has_started(&self) -> bool {
        self.last && self.response.has_begun()
    }

    fn rest(&mut self) {
        self.response.forget();
        self.client.timer.hurry();
    }

    fn poll_room(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.client.poll_gone(context)
    }

    fn is_gone(&mut self) -> bool {
        self.client.is_gone()
    }

    fn poll_tick(&mut self, context: &mut Context<'_>, _: bool) -> Poll<()> {
        self.client.timer.poll_tick(context)
    }

    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<()> {
        // An error is met by the next read or write as well.
        Pin::new(&mut self.client.stream).poll_shutdown(context).map(drop)
    }
}

impl Drop for Http1<'_> {
    fn drop(&mut self) {
        for outgoing in [&mut self.request, &mut self.response] {
            give_head(outgoing.take_head());
        }
    }
}
