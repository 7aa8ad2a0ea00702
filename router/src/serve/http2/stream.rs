//! One stream of a client: its body comes in, an answer goes out, or bytes pass both ways.
//!
//! h2 frames; what is in the frames is decided in `http2`. Flow control holds in both directions: no
//! more is read than is passed on, and nothing is asked of the application that the client has no room
//! for.
use super::outbound::Outbound;
use crate::io::inflow::Inflow;
use crate::limits::RESET_DELAY;
use bytes::Bytes;
use h2::{Reason, SendStream};
use hyper::Response;
use hyper::body::Body;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::sleep;

/// Interim answers on their way to the client.
#[derive(Clone, Debug, Default)]
pub(super) struct Hints(Arc<Mutex<VecDeque<Response<()>>>>);

/// A stream as bytes both ways, after the protocol changed.
#[derive(Debug)]
pub(super) struct Both {
    inflow: Inflow,
    outflow: SendStream<Bytes>,
    /// What was read and not asked for yet.
    rest: Bytes,
}

// === impl Hints ===

impl Hints {
    pub(super) fn push(&self, hint: Response<()>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(hint);
    }

    pub(super) fn pop(&self) -> Option<Response<()>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

/// Sends `body` to its end, or until the client wants no more.
pub(super) async fn carry(mut outflow: SendStream<Bytes>, mut body: Outbound) {
    if poll_fn(|context| poll_carry(context, &mut outflow, &mut body)).await == Carried::Broken {
        // A reset takes what is not written yet with it.
        sleep(RESET_DELAY).await;
        outflow.send_reset(Reason::INTERNAL_ERROR);
    }
}

/// How a body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carried {
    /// With its last frame, or because the client wants no more.
    Over,
    /// Too early: the client must see that.
    Broken,
}

fn poll_carry(
    context: &mut Context<'_>,
    outflow: &mut SendStream<Bytes>,
    body: &mut Outbound,
) -> Poll<Carried> {
    loop {
        outflow.reserve_capacity(1);
        while outflow.capacity() == 0 {
            match ready!(outflow.poll_capacity(context)) {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Poll::Ready(Carried::Over),
            }
        }
        if outflow.poll_reset(context).is_ready() {
            return Poll::Ready(Carried::Over);
        }
        let sent = match ready!(Pin::new(&mut *body).poll_frame(context)) {
            None => outflow.send_data(Bytes::new(), true).map(|()| true),
            Some(Err(_)) => return Poll::Ready(Carried::Broken),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    let last = body.is_end_stream();
                    outflow.send_data(data, last).map(|()| last)
                }
                Err(frame) => {
                    outflow.reserve_capacity(0);
                    outflow.send_trailers(frame.into_trailers().unwrap_or_default()).map(|()| true)
                }
            },
        };
        match sent {
            Ok(false) => {}
            // It ended, or the client has reset it.
            Ok(true) | Err(_) => return Poll::Ready(Carried::Over),
        }
    }
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
