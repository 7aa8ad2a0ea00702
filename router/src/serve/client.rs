//! The client's side of a connection: its stream, what was read of it, its timer.
use crate::error::Refusal;
use crate::io::buffer::{Expect, ReadBuffer};
use crate::io::peer::Peer;
use crate::io::timer::Timer;
use crate::io::transport::Transport;
use crate::limits::{
    HEAD_BUFFER_BYTES, HEAD_TIME, KEEP_ALIVE, LINGER_BYTES, LINGER_TIME, REQUEST_HEAD_BYTES,
    REQUEST_LINE_BYTES,
};
use crate::message::body::is_token;
use crate::message::head::{Head, Scanner};
use crate::serve::places::Place;
use crate::upstream::connect::ClientAddress;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;

/// First byte of a TLS connection: the type of a handshake record (RFC 8446 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// First line of an HTTP/2 connection (RFC 9113 3.4); no HTTP/1 server may take it for a request.
pub(crate) const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";

#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) stream: Transport,
    pub(crate) read: ReadBuffer,
    pub(crate) timer: Timer,
    /// Its address.
    pub(crate) peer: ClientAddress,
    /// The same without its port, as applications are told in headers.
    pub(crate) address: Box<str>,
    /// What it must leave when room is needed and it rests.
    pub(crate) place: Place,
    /// Whether it has sent a whole head before.
    spoke: bool,
    /// Whether it has ended its sending side while it waited for an answer.
    ended: bool,
    /// What is known of its end of the connection.
    end: Peer,
}

/// What a client sends next.
#[derive(Debug)]
pub(crate) enum Next {
    /// A head of this many bytes, at the front of the read buffer.
    Head(usize),
    /// The start of HTTP/2, still in the read buffer.
    Http2,
    /// The start of TLS, still in the read buffer.
    Tls,
    /// Something that is none.
    Refused(Refusal),
    /// Nothing: it left, or it kept silent too long.
    Closed,
}

// === impl Client ===

impl Client {
    pub(crate) fn new(stream: Transport, peer: ClientAddress, address: Box<str>, place: Place) -> Self {
        Self {
            stream,
            read: ReadBuffer::default(),
            timer: Timer::default(),
            peer,
            address,
            place,
            spoke: false,
            ended: false,
            end: Peer::default(),
        }
    }

    /// Waits for the next request. `since`: when its first byte was there, where that is known already.
    pub(crate) async fn next(&mut self, since: Option<Instant>) -> Next {
        let mut scanner = Scanner::default();
        let mut started = since.is_some();
        let time = if self.spoke && !started { KEEP_ALIVE } else { HEAD_TIME };
        let now = since.unwrap_or_else(Instant::now);
        let mut deadline = now + time;
        if !started && self.read.is_empty() {
            self.place.rest(now);
        }
        poll_fn(|context| self.poll_next(context, &mut scanner, &mut deadline, &mut started)).await
    }

    fn poll_next(
        &mut self,
        context: &mut Context<'_>,
        scanner: &mut Scanner,
        deadline: &mut Instant,
        started: &mut bool,
    ) -> Poll<Next> {
        loop {
            if scanner.in_first_line() {
                // Empty lines before a request line are forgiven (RFC 9112 2.2).
                while self.read.filled().starts_with(b"\r\n") {
                    self.read.consume(2);
                    *scanner = Scanner::default();
                }
            }
            let held = self.read.filled().len();
            if held > 0 && !self.place.wake() {
                return Poll::Ready(Next::Closed);
            }
            if self.read.filled().first().is_some_and(|byte| !is_token(*byte) && *byte != b'\r') {
                if !self.spoke && self.read.filled().first() == Some(&TLS_HANDSHAKE) {
                    return Poll::Ready(Next::Tls);
                }
                // Not a method: whatever it is would wait for us in silence.
                return Poll::Ready(Next::Refused(Refusal::bad("request line")));
            }
            let scanned = scanner.scan(self.read.filled(), true);
            if self.request_line(scanner) > REQUEST_LINE_BYTES {
                return Poll::Ready(Next::Refused(Refusal::LINE_TOO_LONG));
            }
            match scanned {
                Head::Complete(length) if length <= REQUEST_HEAD_BYTES => {
                    if !self.spoke && self.read.filled().starts_with(HTTP2_PREFACE) {
                        return Poll::Ready(Next::Http2);
                    }
                    self.spoke = true;
                    return Poll::Ready(Next::Head(length));
                }
                Head::BareLineFeed => {
                    return Poll::Ready(Next::Refused(Refusal::bad("line end: LF without CR")));
                }
                Head::Complete(_) => return Poll::Ready(Next::Refused(Refusal::HEAD_TOO_LARGE)),
                Head::Partial if held > REQUEST_HEAD_BYTES => {
                    return Poll::Ready(Next::Refused(Refusal::HEAD_TOO_LARGE));
                }
                Head::Partial if !self.names_version(scanner) => {
                    // HTTP/0.9 ends here: nothing else would come.
                    return Poll::Ready(Next::Refused(Refusal::bad("request line")));
                }
                Head::Partial => {}
            }
            if held > 0 && !*started {
                *started = true;
                *deadline = Instant::now() + HEAD_TIME;
            }
            match self.read.poll_fill(context, &mut self.stream, Expect::Little) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(_)) if held > 0 => {
                    return Poll::Ready(Next::Refused(Refusal::bad("head: it ends early")));
                }
                Poll::Ready(_) => return Poll::Ready(Next::Closed),
                Poll::Pending => {
                    ready!(self.timer.poll_until(context, *deadline));
                    return Poll::Ready(if held > 0 {
                        Next::Refused(Refusal::TIMEOUT)
                    } else {
                        Next::Closed
                    });
                }
            }
        }
    }

    /// Bytes of the request line so far, without its end.
    fn request_line(&self, scanner: &Scanner) -> usize {
        match (scanner.first_line(), self.read.filled()) {
            (Some(length), _) => length.saturating_sub(2),
            (None, [line @ .., b'\r']) => line.len(),
            (None, line) => line.len(),
        }
    }

    /// Whether the first line, where it is there, ends with a version of HTTP.
    fn names_version(&self, scanner: &Scanner) -> bool {
        let line = scanner.first_line().and_then(|length| self.read.filled().get(..length));
        line.is_none_or(|line| {
            matches!(line, [.., b' ', b'H', b'T', b'T', b'P', b'/', _, b'.', _, b'\r', b'\n'])
        })
    }

    /// Ready once the client is known to have left. Reads a little ahead of what is asked for: a reset is told to
    /// whoever reads. Nothing is asked of the kernel while the client keeps silent.
    pub(crate) fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while !self.ended && self.read.filled().len() < HEAD_BUFFER_BYTES {
            if ready!(self.stream.poll_read_ready(context)).is_err() {
                return Poll::Ready(());
            }
            match ready!(self.read.poll_fill(context, &mut self.stream, Expect::Little)) {
                Ok(1..) => {}
                // The end of what it sends is not the end of its interest.
                Ok(_) => {
                    self.ended = true;
                    if self.is_gone() {
                        return Poll::Ready(());
                    }
                }
                Err(_) => return Poll::Ready(()),
            }
        }
        self.stream.poll_reset(context, &mut self.end)
    }

    /// Whether the client can get no answer any more.
    pub(crate) fn is_gone(&mut self) -> bool {
        self.stream.is_gone(&mut self.end)
    }

    /// Closes so that what was written arrives: ends our side, then reads and forgets what the
    /// client still sends, within bounds. Closing at once would reset the connection, and the reset
    /// overtakes the answer.
    pub(crate) async fn linger(mut self) {
        if self.stream.shutdown().await.is_err() {
            return;
        }
        let drain = async {
            let mut dropped = 0;
            while dropped < LINGER_BYTES {
                self.read.consume(usize::MAX);
                match poll_fn(|context| self.read.poll_fill(context, &mut self.stream, Expect::Much)).await {
                    Ok(count @ 1..) => dropped += count,
                    _ => return,
                }
            }
        };
        // The bound is the point: whatever is left then is lost with the connection.
        let _ = tokio::time::timeout(LINGER_TIME, drain).await;
    }
}
