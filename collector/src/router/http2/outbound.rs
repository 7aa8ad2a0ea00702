//! What a client gets over HTTP/2: nothing, a page, or an application's body.
use super::super::error::Failure;
use super::super::shared::{Busy, Shared};
use super::Session;
use super::onward::Onward;
use super::relay::Relay;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// A body.
#[derive(Debug)]
pub(super) enum Outbound {
    Empty,
    Page(Bytes),
    /// The same, with an application that speaks HTTP/2.
    Onward(
        Box<Onward>,
        #[expect(dead_code, reason = "held")] Busy<Arc<Shared>>,
        #[expect(dead_code, reason = "held")] Arc<Session>,
    ),
    /// The rest of an exchange; it counts as one, and its connection as used, while it lasts.
    Relay(
        Box<Relay>,
        #[expect(dead_code, reason = "held")] Busy<Arc<Shared>>,
        #[expect(dead_code, reason = "held")] Arc<Session>,
    ),
}

/// Why a body ended early. hyper resets the stream then.
#[derive(Debug, thiserror::Error)]
#[error("the exchange failed: {0:?}")]
pub(super) struct Broken(Failure);

impl Body for Outbound {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Page(page) if page.is_empty() => Poll::Ready(None),
            Self::Page(page) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(page))))),
            Self::Onward(onward, ..) => {
                onward.poll_frame(context).map(|frame| frame.map(|frame| frame.map_err(Broken)))
            }
            Self::Relay(relay, ..) => {
                relay.poll_frame(context).map(|frame| frame.map(|frame| frame.map_err(Broken)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Page(page) => page.is_empty(),
            Self::Onward(onward, ..) => onward.is_finished(),
            Self::Relay(relay, ..) => relay.is_finished(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
