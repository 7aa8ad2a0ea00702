//! The body of a request that came over HTTP/2, as it arrives.
use bytes::Bytes;
use h2::RecvStream;
use hyper::body::{Body, Frame};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// A request's body.
#[derive(Debug)]
pub(crate) struct Inflow {
    stream: RecvStream,
    /// Whether all data has come: trailers may follow.
    drained: bool,
}

// === impl Inflow ===

impl Inflow {
    pub(crate) fn new(stream: RecvStream) -> Self {
        Self { stream, drained: false }
    }

    pub(crate) fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, h2::Error>>> {
        let data = ready!(self.stream.poll_data(context));
        if let Some(Ok(data)) = &data {
            // It fails for more than there was: that is what came.
            let _ = self.stream.flow_control().release_capacity(data.len());
        }
        Poll::Ready(data)
    }
}

impl Body for Inflow {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let this = self.get_mut();
        if !this.drained {
            match ready!(this.poll_data(context)) {
                Some(data) => return Poll::Ready(Some(data.map(Frame::data))),
                None => this.drained = true,
            }
        }
        let trailers = ready!(this.stream.poll_trailers(context));
        Poll::Ready(trailers.transpose().map(|trailers| trailers.map(Frame::trailers)))
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }
}
