//! Every limit of a hand-off: value, unit, reason, and what happens there.
use std::time::Duration;

/// Time in which a program must greet before it is handed its first connection. Then the connection's bytes
/// are passed on: the program is busy, or its accepts bypass the library.
pub(crate) const HANDOFF_GREETING: Duration = Duration::from_millis(250);

/// Time in which a program that has greeted before must accept a connection that is handed to it. Then its
/// bytes are passed on, and that connection waits to be accepted as well.
pub(crate) const HANDOFF_CLAIM: Duration = Duration::from_secs(2);

/// Pauses after the first, second and third connection in a row that a listener did not take. After a further one
/// it is handed none any more, until it is made anew.
pub(crate) const HANDOFF_RETRY: [Duration; 3] =
    [Duration::from_secs(1), Duration::from_secs(10), Duration::from_secs(60)];

/// Listeners of which the collector remembers whether they accept handed-over connections. At the limit it
/// asks all of them again.
pub(crate) const HANDOFF_LISTENERS: usize = 4096;
