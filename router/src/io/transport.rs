//! What carries a client's bytes: TCP, or TLS over it.
use crate::io::buffer::ReadBuffer;
use crate::io::delegate::delegate_io;
use crate::io::peer::Peer;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// A client's stream.
#[derive(Debug)]
pub(crate) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<Rewound<TcpStream>>>),
}

/// A stream of which the first bytes were read already: they come again, then the rest.
#[derive(Debug)]
pub(crate) struct Rewound<S> {
    read: ReadBuffer,
    stream: S,
}

// === impl Transport ===

impl Transport {
    /// The scheme of URLs that lead here.
    pub(crate) fn scheme(&self) -> &'static str {
        match self {
            Self::Plain(_) => "http",
            Self::Tls(_) => "https",
        }
    }

    /// The TCP connection that carries it.
    pub(crate) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => &stream.get_ref().0.stream,
        }
    }

    /// Whether the event loop knows of something to read, an end or an error.
    pub(crate) fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp().poll_read_ready(context)
    }

    /// Whether the client, of which `peer` is known, can no longer get an answer.
    pub(crate) fn is_gone(&self, peer: &mut Peer) -> bool {
        peer.is_gone(self.tcp(), matches!(self, Self::Tls(_)))
    }

    /// Ready once the client, of which `peer` is known, has reset the connection, though nothing of it is read.
    pub(crate) fn poll_reset(&self, context: &mut Context<'_>, peer: &mut Peer) -> Poll<()> {
        peer.poll_reset(context, self.tcp())
    }
}

delegate_io!(Transport { Plain, Tls });

// === impl Rewound ===

impl<S> Rewound<S> {
    /// `stream`, with the bytes in `read` before it.
    pub(crate) fn new(read: ReadBuffer, stream: S) -> Self {
        Self { read, stream }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.read.is_empty() {
            return Pin::new(&mut this.stream).poll_read(context, room);
        }
        let count = this.read.filled().len().min(room.remaining());
        room.put_slice(&this.read.filled()[..count]);
        this.read.consume(count);
        this.read.release();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
