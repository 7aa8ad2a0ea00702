//! The tasks of one connection: hyper spawns its streams here, and none outlives the connection.
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::task::JoinSet;

/// Ended tasks reaped whenever a new one begins: more than one, so that they never pile up.
const REAP: usize = 2;

/// A handle to the tasks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tasks(Arc<Mutex<JoinSet<()>>>);

// === impl Tasks ===

impl Tasks {
    /// Begins a task.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.lock();
        // A panic in a stream has reset that stream; it is no reason to stop the others.
        for _ in 0..REAP {
            if tasks.try_join_next().is_none() {
                break;
            }
        }
        tasks.spawn(task);
    }

    /// Ends all of them.
    pub(crate) fn end(&self) {
        self.lock().abort_all();
    }

    fn lock(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, future: F) {
        self.spawn(async move {
            future.await;
        });
    }
}
