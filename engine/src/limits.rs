//! Limits of the engine: value, unit, reason, and what happens at the limit.
use std::time::Duration;

/// Sockets of each family that the supervisor keeps ready. When none is left, the next call waits for a fresh batch.
pub(crate) const STOCK: usize = 8;

/// Connections that one supervisor passes on at once, to and from listeners in other programs. Further ones wait in the
/// listener's backlog.
pub(crate) const RELAYS: usize = 16_384;

/// Bytes that the supervisor reads at once from one side of a connection. What the other side does not take at once is kept
/// for it, at most as much, and nothing more is read until it is taken.
pub(crate) const RELAY_BYTES: usize = 64 * 1024;

/// Time between two looks of a supervisor whether listeners were closed in a process that goes on. Only while there are
/// listeners.
pub(crate) const LOOK: Duration = Duration::from_millis(1000);

/// Time that `wrap` waits for a supervisor to answer. Then the program runs without the engine.
pub(crate) const ANSWER: Duration = Duration::from_secs(5);

/// Time that a supervisor waits for the next program after the last one, if none needed a socket: a build starts many, one after
/// the other, and each start of a supervisor takes milliseconds.
pub(crate) const LINGER: Duration = Duration::from_secs(1);

/// Most that a new file's time is behind the clock: it is the time of the last tick (Linux `HZ` is at least 100).
pub(crate) const FILE_TIME: Duration = Duration::from_millis(10);

/// Times that a program tries to reach a supervisor which ends at the same moment.
pub(crate) const ENTRY_TRIES: u32 = 3;

/// Bytes of one message between a program that starts and its supervisor. A longer one is refused.
pub(crate) const MESSAGE_BYTES: usize = 16 * 1024;

/// Ports that a bind to port 0 tries if another program of the instance has the first. Then `EADDRINUSE`.
pub(crate) const PORT_TRIES: u32 = 16;

/// Times that a call tries to get the run dir's lock, about 1 ms apart. A process holds it for a few system calls; after
/// this many tries it was stopped, and the call fails with `EADDRINUSE`.
pub(crate) const LOCK_TRIES: u32 = 5000;

/// Times that a descriptor is replaced whose number is above the limit of open files, while the program lowers that limit
/// in another thread. Then the call fails with `EBADF`.
pub(crate) const ROOM_TRIES: u32 = 16;

/// Bytes of a socket address that are read from a program: a `sockaddr_storage`, the most that the kernel takes.
pub(crate) const ADDRESS_BYTES: usize = 128;

/// Ports of the host that a supervisor remembers as told, for each command. At the limit all are forgotten, and told again.
pub(crate) const TOLD_PORTS: usize = 4096;

/// Most connections that wait for the supervisor to accept them. The kernel cuts it to `somaxconn`.
pub(crate) const BACKLOG: i32 = 4096;

/// Sockets of which a supervisor keeps copies, where it cannot get them from the program. A further socket is the host's.
pub(crate) const COPIES: usize = 4096;

/// Events that the supervisor takes from the kernel at once.
pub(crate) const EVENTS: usize = 64;
