//! Every limit of agentfs: value, unit, reason, and what happens at the limit. `docs/limits.md` lists them.

/// Bytes of a whole socket path. macOS `sockaddr_un.sun_path` has 104 with the NUL (sys/un.h); Linux 108.
/// A run dir that would go over it is replaced by one below `/tmp`.
pub const SOCKET_PATH_BYTES: usize = 103;

/// Bytes of an app name: a DNS label cut short so that paths fit. Longer names are folded to a hash.
pub const APP_BYTES: usize = 24;

/// Bytes of an instance name, for the same reason.
pub const INSTANCE_BYTES: usize = 20;

/// Bytes of the longest file name in the run dir:
/// `{app}-{instance}.{port}.{tag}.{worker}.group`.
pub const FILE_NAME_BYTES: usize = APP_BYTES + 1 + INSTANCE_BYTES + 1 + 5 + 1 + 7 + 1 + 3 + 6;

/// Bytes left for the run dir itself: the path less a `/`, one more `/` that spells a v4-mapped
/// listener (see `name`), and the file name.
pub const RUN_DIR_BYTES: usize = SOCKET_PATH_BYTES - 2 - FILE_NAME_BYTES;

/// Members of one `SO_REUSEPORT` group. The next bind fails with `EADDRINUSE`.
pub const REUSEPORT_WORKERS: u8 = 64;

/// First port of the private ephemeral range, as in Linux's `ip_local_port_range`.
pub const EPHEMERAL_FIRST: u16 = 32768;

/// Number of ports in the private ephemeral range.
pub const EPHEMERAL_COUNT: u16 = 28232;

/// Bytes of one notice datagram. A longer one is not sent.
pub const NOTICE_BYTES: usize = 512;

/// Milliseconds in which a process tells only once of a listener that it makes over and over, unless
/// somebody traces. Less than what the watcher may take to see it.
pub const NOTICE_QUIET_MS: u64 = 20;

/// Bytes of one line on the control socket. A longer one is answered with `too_large` and the
/// connection closed.
pub const CONTROL_LINE_BYTES: usize = 16 * 1024 * 1024;

/// Bytes of the log of a collector that runs in the background. Beyond it, the log becomes `collector.log.1`, in the
/// place of the one before, and a new one begins: together they have the last of what happened and never take more than
/// twice this.
pub const LOG_BYTES: u64 = 1024 * 1024;

/// Characters of one line of that log. What is longer ends in `…`.
pub const LOG_LINE_CHARACTERS: usize = 4096;

/// Control connections at once. Further ones are answered with `busy` and closed.
pub const CONTROL_CONNECTIONS: usize = 256;

/// Events that the journal keeps in memory. Older ones are dropped; a subscriber that asks for them
/// is told how many it missed.
pub const JOURNAL_EVENTS: usize = 16 * 1024;

/// Events queued for one subscriber. At the limit it gets `lagged` with the number missed.
pub const SUBSCRIBER_EVENTS: usize = 1024;

/// Least backlog of a rewritten listener. A Unix socket refuses (`EAGAIN`) where TCP would queue,
/// so a small backlog that TCP forgives would break clients. The kernel cuts it to `somaxconn`.
pub const LISTEN_BACKLOG: i32 = 4096;

/// Milliseconds that a connect to a listener of the instance may wait for room in its backlog
/// when the caller's socket is non-blocking. Then it fails with `ETIMEDOUT`.
pub const CONNECT_WAIT_MS: u32 = 200;

/// Milliseconds that an accept waits for a connection that the collector announced it would hand over. Then it
/// skips that one, and waits for no further one in the same call; the collector passes its bytes on instead.
pub const HANDOFF_WAIT_MS: u32 = 50;
