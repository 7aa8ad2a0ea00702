//! A stream as bytes both ways, after the protocol changed.
use crate::io::inflow::Inflow;
use bytes::Bytes;
use h2::SendStream;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Such a stream.
#[derive(Debug)]
pub(super) struct Both {
    inflow: Inflow,
    outflow: SendStream<Bytes>,
    /// What was read and not asked for yet.
    rest: Bytes,
}

// === impl Both ===

impl Both {
    pub(super) fn new(inflow: Inflow, outflow: SendStream<Bytes>) -> Self {
        Self { inflow, outflow, rest: Bytes::new() }
    }
}

impl AsyncRead for Both {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.rest.is_empty() {
            match ready!(this.inflow.poll_data(context)) {
                Some(data) => this.rest = data.map_err(io::Error::other)?,
                None => return Poll::Ready(Ok(())),
            }
        }
        let count = this.rest.len().min(room.remaining());
        room.put_slice(&this.rest.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Both {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outflow = &mut self.get_mut().outflow;
        outflow.reserve_capacity(bytes.len());
        while outflow.capacity() == 0 {
            match ready!(outflow.poll_capacity(context)) {
                Some(capacity) => capacity.map_err(io::Error::other)?,
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            };
        }
        let count = outflow.capacity().min(bytes.len());
        outflow.send_data(Bytes::copy_from_slice(&bytes[..count]), false).map_err(io::Error::other)?;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.get_mut().outflow.send_data(Bytes::new(), true).map_err(io::Error::other))
    }
}
