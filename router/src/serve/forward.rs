//! One request to one application after another, until there is an answer or nobody is left to give one.
//!
//! Decides what follows from a failure, as `retry` says; knows neither what the client speaks nor what it is told in
//! the end. Called by whoever has a request for a route.
use crate::error::Failure;
use crate::io::buffer::ReadBuffer;
use crate::limits::{DEATHS, LINGER_TIME};
use crate::message::request::Facts;
use crate::message::response::Answer;
use crate::observe::access::Access;
use crate::pages::Cause;
use crate::serve::exchange::{End, Exchange, Sink, Source};
use crate::serve::shared::Shared;
use crate::table::Route;
use crate::upstream::connect::ClientAddress;
use crate::upstream::listener::Upstream;
use crate::upstream::pool::{Link, Wanted};
use crate::upstream::retry::{Again, again};
use agentfs_wire::speaks::Speaks;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use tokio::time::timeout;

/// A request on its way.
#[derive(Debug)]
pub(crate) struct Job<'job> {
    pub(crate) shared: &'job Shared,
    pub(crate) route: &'job Route,
    pub(crate) facts: Facts,
    /// The client.
    pub(crate) peer: ClientAddress,
    /// The listener whose turn it is, where that was decided before.
    pub(crate) picked: Option<Arc<Upstream>>,
    /// Whether the client can be answered by an application of HTTP/2 in another way.
    pub(crate) onward: bool,
}

/// How it ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The client has its answer.
    Answered(Answer),
    /// The application changed the protocol: its connection, and what came behind its head.
    Switched(Box<(Link, ReadBuffer)>),
    /// The application speaks HTTP/2 alone, and the request is still whole.
    Onward(Access),
    /// The client got nothing yet: it is to be told why.
    Failed(Cause, Access),
    /// The client left, or it must see that its answer broke off.
    Broken,
}

/// An exchange that is counted, however it ends: a stream of HTTP/2 ends with its connection.
#[derive(Debug)]
struct Counted<'job> {
    exchange: Exchange,
    access: Option<Access>,
    shared: &'job Shared,
    upstream: Option<&'job Upstream>,
}

/// Sends the request of `client` to the application that `job` says.
pub(crate) async fn forward<C: Source + Sink>(client: &mut C, job: &mut Job<'_>, access: Access) -> Ended {
    let Job { shared, route, facts, peer, onward, .. } = *job;
    let repeatable = facts.idempotent && facts.body.is_finished();
    let mut wanted = Wanted { client: peer, fresh: false, exact: !repeatable, upgrade: facts.upgrade };
    let mut deaths = 0..DEATHS;
    let exchange = Exchange::new(shared.is_draining());
    let mut counted = Counted { exchange, access: Some(access), shared, upstream: None };
    loop {
        let picked = job.picked.take();
        let Some(opened) = unless_gone(client, pin!(shared.open(route, picked.as_ref(), &wanted))).await
        else {
            counted.end(0);
            return Ended::Broken;
        };
        let (upstream, mut link) = match opened {
            Ok(opened) => opened,
            Err(cause) => return Ended::Failed(cause, counted.take()),
        };
        counted.upstream = Some(upstream);
        let exchange = &mut counted.exchange;
        let mut learned = false;
        let result = poll_fn(|context| {
            let polled = exchange.poll(context, client, &mut link.stream);
            if let Some(answer) = exchange.answer.filter(|answer| !learned && !answer.interim) {
                learned = true;
                shared.answered(upstream, &facts, answer.status, answer.is_page);
            }
            if polled.is_pending() && exchange.answer.is_some_and(|answer| answer.long_lived) {
                link.active.set_long_lived();
            }
            polled
        })
        .await;
        let failure = match (result, exchange.answer) {
            (Ok(End::Switched), _) => {
                let answered = std::mem::take(&mut exchange.answered);
                counted.end(101);
                return Ended::Switched(Box::new((link, answered)));
            }
            (Ok(End::Answered), Some(answer)) => {
                counted.end(answer.status);
                let exchange = &mut counted.exchange;
                if !client.is_complete() || !client.is_flushed() {
                    Box::pin(rest(client, exchange, &mut link)).await;
                }
                if answer.reusable && exchange.is_sent() && exchange.answered.is_empty() {
                    upstream.keep(link);
                }
                return Ended::Answered(answer);
            }
            (Ok(End::Answered), None) => Failure::Silent,
            (Err(failure), _) => failure,
        };
        if matches!(failure, Failure::NotHttp) {
            shared.spoke(upstream, Speaks::Other);
        }
        let again = match again(&failure, link.reused, repeatable, wanted.fresh) {
            Again::Never => false,
            Again::Fresh => true,
            Again::IfDead => deaths.next().is_some() && Box::pin(shared.is_dead(upstream)).await,
            Again::InHttp2 => {
                upstream.multiplex().set_only(true);
                if onward && client.is_whole() {
                    return Ended::Onward(counted.take());
                }
                client.is_whole()
            }
        };
        if again {
            shared.observer.metrics.retries.add(1);
            client.rewind();
            counted.exchange.rewind();
            wanted.fresh = true;
            continue;
        }
        if client.has_started() || matches!(failure, Failure::ClientGone | Failure::Truncated) {
            counted.end(counted.exchange.answer.map_or(0, |answer| answer.status));
            return Ended::Broken;
        }
        return Ended::Failed(failure.into(), counted.take());
    }
}

// === impl Counted ===

impl Counted<'_> {
    /// Counts it with `status`.
    fn end(&mut self, status: u16) {
        if let Some(access) = self.access.take() {
            access.end(&self.shared.observer, self.upstream, status, self.exchange.bytes);
        }
    }

    /// Leaves the counting to others.
    fn take(&mut self) -> Access {
        self.access.take().unwrap_or_else(Access::begin)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if let Some(answer) = self.exchange.answer.filter(|answer| !answer.interim) {
            self.end(answer.status);
        }
    }
}

/// After an answer to a request that has not come as a whole: the application may read on for a while.
async fn rest<C: Source + Sink>(client: &mut C, exchange: &mut Exchange, link: &mut Link) {
    let rest = poll_fn(|context| exchange.poll_rest(context, client, &mut link.stream));
    // The bound is the point: who answered early may never read the rest.
    let _ = timeout(LINGER_TIME, rest).await;
}

/// What comes of `future`; `None` where the client leaves meanwhile.
pub(crate) fn unless_gone<T>(
    client: &mut impl Sink,
    mut future: Pin<&mut impl Future<Output = T>>,
) -> impl Future<Output = Option<T>> {
    poll_fn(move |context| match future.as_mut().poll(context) {
        Poll::Ready(result) => Poll::Ready(Some(result)),
        Poll::Pending => client.poll_gone(context).map(|()| None),
    })
}
