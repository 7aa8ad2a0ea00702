//! One timer a connection, touched only when it has to wait.
//!
//! It is moved later only when it fires, so that a busy connection never touches the timer wheel.
use crate::limits::SWEEP;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::time::{Instant, Sleep, sleep_until};

#[derive(Debug, Default)]
pub(crate) struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    /// Ready once `deadline` is over.
    pub(crate) fn poll_until(&mut self, context: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        while sleep.as_mut().poll(context).is_ready() {
            if sleep.deadline() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }

    /// Ready now and then: within [`SWEEP`] after the last time or [`Self::hurry`], or after what the
    /// timer was set to before.
    pub(crate) fn poll_tick(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + SWEEP)));
        if sleep.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        sleep.as_mut().reset(Instant::now() + SWEEP);
        // Registers the task; a reset timer does not fire at once.
        let _ = sleep.as_mut().poll(context);
        Poll::Ready(())
    }

    /// Makes the next tick come within [`SWEEP`].
    pub(crate) fn hurry(&mut self) {
        let soon = Instant::now() + SWEEP;
        if let Some(sleep) = &mut self.0
            && sleep.deadline() > soon
        {
            sleep.as_mut().reset(soon);
        }
    }
}
