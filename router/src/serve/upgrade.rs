//! After `101 Switching Protocols`: bytes both ways until both sides are done.
//!
//! Each side's end is passed on as the end of that direction only. A quiet connection holds no buffer.
use crate::io::buffer::{Expect, ReadBuffer};
use crate::limits::HEAD_BUFFER_BYTES;
use crate::serve::client::Client;
use crate::upstream::pool::Link;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite};

/// One direction.
#[derive(Debug)]
struct Pipe {
    buffer: ReadBuffer,
    expect: Expect,
    ended: bool,
    finished: bool,
}

/// Passes bytes until both directions have ended or one breaks. `from_application` is what came
/// behind the head of the answer.
pub(crate) async fn tunnel(mut client: Client, link: Link, from_application: ReadBuffer) {
    let Link { mut stream, active: _active, .. } = link;
    let mut up = Pipe::new(std::mem::take(&mut client.read));
    let mut down = Pipe::new(from_application);
    poll_fn(|context| {
        let sent = up.poll(context, &mut client.stream, &mut stream);
        let received = down.poll(context, &mut stream, &mut client.stream);
        if matches!(sent, Poll::Ready(Err(_))) || matches!(received, Poll::Ready(Err(_))) {
            return Poll::Ready(());
        }
        if up.finished && down.finished {
            return Poll::Ready(());
        }
        // An application that overlooks the end would keep the connection of a client that left.
        while up.ended && client.timer.poll_tick(context).is_ready() {
            if client.is_gone() {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    })
    .await;
}

/// As [`tunnel`], for a client within HTTP/2: its connection says when it is gone.
pub(crate) async fn tunnel_plain<C>(mut client: C, link: Link, from_application: ReadBuffer)
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let Link { mut stream, active: _active, .. } = link;
    let mut up = Pipe::new(ReadBuffer::default());
    let mut down = Pipe::new(from_application);
    poll_fn(|context| {
        let sent = up.poll(context, &mut client, &mut stream);
        let received = down.poll(context, &mut stream, &mut client);
        let broken = matches!(sent, Poll::Ready(Err(_))) || matches!(received, Poll::Ready(Err(_)));
        if broken || (up.finished && down.finished) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

// === impl Pipe ===

impl Pipe {
    fn new(buffer: ReadBuffer) -> Self {
        Self { buffer, expect: Expect::Little, ended: false, finished: false }
    }

    fn poll<F, T>(&mut self, context: &mut Context<'_>, from: &mut F, to: &mut T) -> Poll<io::Result<()>>
    where
        F: AsyncRead + Unpin,
        T: AsyncWrite + Unpin,
    {
        while !self.finished {
            while !self.buffer.is_empty() {
                let written = ready!(Pin::new(&mut *to).poll_write(context, self.buffer.filled()))?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.buffer.consume(written);
            }
            if self.ended {
                ready!(Pin::new(&mut *to).poll_shutdown(context))?;
                self.finished = true;
                break;
            }
            // TLS and HTTP/2 may still hold what was written.
            ready!(Pin::new(&mut *to).poll_flush(context))?;
            match ready!(self.buffer.poll_fill(context, from, self.expect))? {
                0 => self.ended = true,
                count => self.expect = if count >= HEAD_BUFFER_BYTES { Expect::Much } else { Expect::Little },
            }
        }
        Poll::Ready(Ok(()))
    }
}
