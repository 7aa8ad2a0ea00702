//! What a client gets over HTTP/2: nothing, a page, an application's body, or bytes both ways.
use super::onward::Onward;
use super::relay::Relay;
use crate::error::Failure;
use crate::io::buffer::ReadBuffer;
use crate::io::inflow::Inflow;
use crate::upstream::pool::Link;
use bytes::Bytes;
use hyper::body::{Body, Frame};
use std::pin::Pin;
use std::task::{Context, Poll};

/// An answer behind its head.
#[derive(Debug)]
pub(super) enum Outbound {
    Empty,
    Page(Bytes),
    /// The rest of an exchange.
    Relay(Box<Relay>),
    /// The same, with an application that speaks HTTP/2.
    Onward(Box<Onward>),
    /// No body: the application changed the protocol.
    Tunnel(Box<Tunnel>),
}

/// Both ends of a tunnel.
#[derive(Debug)]
pub(super) struct Tunnel {
    pub(super) inflow: Inflow,
    pub(super) link: Link,
    /// What came behind the head of the application's answer.
    pub(super) answered: ReadBuffer,
}

impl Body for Outbound {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        match self.get_mut() {
            Self::Empty | Self::Tunnel(_) => Poll::Ready(None),
            Self::Page(page) if page.is_empty() => Poll::Ready(None),
            Self::Page(page) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(page))))),
            Self::Onward(onward) => onward.poll_frame(context),
            Self::Relay(relay) => relay.poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Tunnel(_) => false,
            Self::Page(page) => page.is_empty(),
            Self::Onward(onward) => onward.is_finished(),
            Self::Relay(relay) => relay.is_finished(),
        }
    }
}
