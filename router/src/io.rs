//! Bytes on their way: buffers, streams, timers, tasks. Knows nothing of HTTP.
pub(crate) mod buffer;
pub(crate) mod delegate;
pub(crate) mod inflow;
pub(crate) mod outgoing;
pub(crate) mod owner;
pub(crate) mod peer;
pub(crate) mod tasks;
pub(crate) mod timer;
pub(crate) mod transport;
