//! Every limit of agentfs: value, unit, reason, and what happens at the limit. `docs/limits.md` lists them.

/// Bytes of a whole socket path. macOS `sockaddr_un.sun_path` has 104 with the NUL (sys/un.h); Linux 108. If
/// the paths in a run dir would be longer, a run dir below `/tmp` is used instead.
pub const SOCKET_PATH_BYTES: usize = 103;

/// Bytes of an app name: a DNS label, short enough that paths fit. A longer name is shortened and gets a
/// hash.
pub const APP_BYTES: usize = 24;

/// Bytes of an instance name, for the same reason.
pub const INSTANCE_BYTES: usize = 20;

/// Bytes of the longest file name in the run dir:
/// `{app}-{instance}.{port}.{tag}.{worker}.group`.
pub const FILE_NAME_BYTES: usize = APP_BYTES + 1 + INSTANCE_BYTES + 1 + 5 + 1 + 7 + 1 + 3 + 6;

/// Bytes left for the run dir itself: the path less a `/`, less one more `/` that spells a v4-mapped listener
/// (see `name`), less the file name.
pub const RUN_DIR_BYTES: usize = SOCKET_PATH_BYTES - 2 - FILE_NAME_BYTES;

/// Members of one `SO_REUSEPORT` group. The next bind fails with `EADDRINUSE`.
pub const REUSEPORT_WORKERS: u8 = 64;

/// First port of the private ephemeral range, as in Linux's `ip_local_port_range`.
pub const EPHEMERAL_FIRST: u16 = 32768;

/// Number of ports in the private ephemeral range.
pub const EPHEMERAL_COUNT: u16 = 28232;

/// Bytes of one notice datagram. A longer one is not sent.
pub const NOTICE_BYTES: usize = 512;

/// Milliseconds in which a process reports a listener that it makes over and over only once, unless somebody
/// traces. Less than the watcher may take to see it.
pub const NOTICE_QUIET_MS: u64 = 20;

/// Bytes of one line on the control socket. A longer line is answered with `too_large` and the connection is
/// closed.
pub const CONTROL_LINE_BYTES: usize = 16 * 1024 * 1024;

/// Bytes of the log of a collector that runs in the background. At this size the log is renamed to `collector.log.1`,
/// which replaces the previous one, and a new log is created. So both together never take more than twice this.
pub const LOG_BYTES: u64 = 1024 * 1024;

/// Characters of one line of that log. A longer line is cut and ends with `…`.
pub const LOG_LINE_CHARACTERS: usize = 4096;

/// Control connections at once, without those that became subscriptions. Further ones are answered with `busy` and
/// closed.
pub const CONTROL_CONNECTIONS: usize = 256;

/// Subscriptions at once: each `wrap` that reports its listeners holds one. Further ones are answered with `busy`; such a
/// `wrap` reports nothing.
pub const CONTROL_SUBSCRIPTIONS: usize = 4096;

/// Events that the journal keeps in memory. Older ones are dropped; a subscriber that asks for them
/// is told how many it missed.
pub const JOURNAL_EVENTS: usize = 16 * 1024;

/// Events queued for one subscriber. At the limit it gets `lagged` with the number of missed events.
pub const SUBSCRIBER_EVENTS: usize = 1024;

/// Least backlog of a rewritten listener. A Unix socket refuses (`EAGAIN`) where TCP would queue, so a small
/// backlog that works with TCP would break clients. The kernel cuts it to `somaxconn`.
pub const LISTEN_BACKLOG: i32 = 4096;

/// Milliseconds that a connect to a listener of the instance may wait for room in the listener's backlog if
/// the caller's socket is non-blocking. Then it fails with `ETIMEDOUT`.
pub const CONNECT_WAIT_MS: u32 = 200;

/// Milliseconds that a process which changed its user waits for the collector to open a socket for it. Then the call
/// fails. The collector changes the run dir, which takes as long as the disk does: 0.3 s were seen on a busy machine.
pub const BROKER_WAIT_MS: u32 = 2000;

/// Milliseconds that an accept waits for a connection that the collector announced. Then it skips that one
/// and waits for no other in the same call; the collector passes the bytes on instead.
pub const HANDOFF_WAIT_MS: u32 = 50;

#[cfg(test)]
mod tests {
    use super::*;

    /// Other builds rely on them, and users on what docs/limits.md says.
    #[test]
    fn what_is_computed_is_this_much() {
        assert_eq!((FILE_NAME_BYTES, RUN_DIR_BYTES), (69, 32));
        assert_eq!((CONTROL_LINE_BYTES, LOG_BYTES, JOURNAL_EVENTS), (16_777_216, 1_048_576, 16_384));
    }
}
