//! Bytes on their way out: a head of ours, then a part of a read buffer, then a few fixed bytes, in
//! one system call where possible.
use crate::io::buffer::{ReadBuffer, give_head, take_head};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;

#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    head: Vec<u8>,
    /// Bytes of `head` that are sent.
    sent: usize,
    /// Bytes at the front of the read buffer that follow.
    body: usize,
    /// What follows them.
    tail: &'static [u8],
    /// Whether anything was sent.
    begun: bool,
}

// === impl Outgoing ===

impl Outgoing {
    /// Begins with `head`.
    pub(crate) fn new(head: Vec<u8>) -> Self {
        Self { head, ..Self::default() }
    }

    /// Replaces the head, whose predecessor is sent.
    pub(crate) fn set_head(&mut self, head: Vec<u8>) {
        give_head(std::mem::replace(&mut self.head, head));
        self.sent = 0;
    }

    /// The head, to be written to. What was sent of it is gone.
    pub(crate) fn head(&mut self) -> &mut Vec<u8> {
        if self.sent == self.head.len() {
            self.head.clear();
            self.sent = 0;
        }
        if self.head.capacity() == 0 {
            self.head = take_head();
        }
        &mut self.head
    }

    /// Sends the next `count` bytes of the read buffer behind the head.
    pub(crate) fn add(&mut self, count: usize) {
        self.body += count;
    }

    /// Sends `tail` behind that.
    pub(crate) fn set_tail(&mut self, tail: &'static [u8]) {
        self.tail = tail;
    }

    /// Whether bytes of the read buffer are yet to be sent.
    pub(crate) fn has_body(&self) -> bool {
        self.body > 0
    }

    /// Whether all is sent.
    pub(crate) fn is_empty(&self) -> bool {
        self.sent == self.head.len() && self.body == 0 && self.tail.is_empty()
    }

    /// Whether anything was sent.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun
    }

    /// Sends the head once more.
    pub(crate) fn rewind(&mut self) {
        self.sent = 0;
        self.begun = false;
    }

    /// Begins anew.
    pub(crate) fn clear(&mut self) {
        self.head.clear();
        self.sent = 0;
        self.begun = false;
    }

    /// Takes the head out, to give its memory back.
    pub(crate) fn take_head(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.head)
    }

    /// Gives the memory of a head that is sent back.
    pub(crate) fn forget(&mut self) {
        if self.sent == self.head.len() {
            self.sent = 0;
            give_head(std::mem::take(&mut self.head));
        }
    }

    /// Drops all instead of sending it.
    pub(crate) fn discard(&mut self, buffer: &mut ReadBuffer) {
        self.sent = self.head.len();
        self.tail = b"";
        buffer.consume(std::mem::take(&mut self.body));
    }

    /// Writes all; `buffer` is the one that [`Self::add`] counted in.
    pub(crate) fn poll_flush(
        &mut self,
        context: &mut Context<'_>,
        to: &mut (impl AsyncWrite + Unpin),
        buffer: &mut ReadBuffer,
    ) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let head = &self.head[self.sent..];
            let body = &buffer.filled()[..self.body];
            let written = match (head.is_empty(), body.is_empty(), self.tail.is_empty()) {
                (false, true, true) => Pin::new(&mut *to).poll_write(context, head),
                (true, false, true) => Pin::new(&mut *to).poll_write(context, body),
                _ => {
                    let slices = [IoSlice::new(head), IoSlice::new(body), IoSlice::new(self.tail)];
                    Pin::new(&mut *to).poll_write_vectored(context, &slices)
                }
            };
            let written = ready!(written)?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.begun = true;
            let of_head = written.min(head.len());
            let of_body = (written - of_head).min(self.body);
            self.sent += of_head;
            self.body -= of_body;
            buffer.consume(of_body);
            self.tail = self.tail.get(written - of_head - of_body..).unwrap_or_default();
        }
        // TLS may still hold records; a plain stream holds nothing.
        Pin::new(to).poll_flush(context)
    }
}
