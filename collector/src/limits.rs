//! Every limit of the collector: value, unit, reason, and what happens at the limit. Limits that the
//! interposer or a client sees too stand in `agentfs_wire::limits`.
use std::time::Duration;

/// Worker threads of the runtime beside the one that runs the hub. Two keep the router from waiting on
/// one slow request without costing memory; a machine with one core gets one.
pub(crate) const WORKER_THREADS: usize = 2;

/// Threads for blocking work (surveys of `/proc`). Further work waits for a thread.
pub(crate) const BLOCKING_THREADS: usize = 2;

/// Time between two rounds of the patrol while anything lives: what no hint told (a socket that was closed, hints that
/// were lost) is found after at most this. Less than a wake-up a second.
pub(crate) const PATROL: Duration = Duration::from_millis(1100);

/// Time between two rounds while nothing lives: only our own files and the folder are looked at, and a watcher tells
/// of them as well.
pub(crate) const PATROL_REST: Duration = Duration::from_secs(600);

/// A run dir that changed less than this before it was listed is listed once more: file systems tell times in ticks of
/// up to 10 ms.
pub(crate) const PATROL_RACY: Duration = Duration::from_millis(50);

/// Time after which something that failed is tried again, a removal or a second name on a full disk for instance, and
/// between two looks at what the system tells nobody of: processes without a descriptor, the end of a drain.
pub(crate) const RETRY: Duration = Duration::from_secs(1);

/// The same for a file, in milliseconds.
pub(crate) const RETRY_MS: u32 = 1_000;

/// Time that a file of the run dir is there before it gets its second name. What goes sooner costs nothing; what
/// somebody removes sooner is not put back.
pub(crate) const KEEP_DELAY: Duration = Duration::from_millis(100);

/// Milliseconds after which a socket that is bound but does not listen yet is looked at again, one
/// after the other. Programs call `listen` within microseconds of `bind`, and the file system tells
/// only of `bind`. Afterwards the patrol has it looked at.
pub(crate) const LOOK_AGAIN_MS: [u32; 8] = [1, 2, 5, 10, 20, 50, 100, 200];

/// Time below which the list of the machine's Unix sockets is read whenever a socket may have begun to listen.
pub(crate) const ACCEPTING_CHEAP: Duration = Duration::from_micros(200);

/// A list that takes longer is read for sockets that were seen before, and this many times as long passes between two
/// readings.
pub(crate) const ACCEPTING_SHARE: u32 = 16;

/// Milliseconds after which the removal of a stale socket is tried again when somebody else holds the
/// run lock.
pub(crate) const RUN_LOCK_RETRY_MS: u32 = 5;

/// Hints of the watcher that wait for the hub. At the limit the hint is dropped and the whole folder is
/// read instead.
pub(crate) const HINT_QUEUE: usize = 1024;

/// Changes of the run dir that are read at once. After so many in one burst they are read every [`HINT_PAUSE_MS`]: a
/// program that makes thousands of names a second would otherwise wake us for each, at its own cost.
pub(crate) const HINT_BURST: u32 = 64;

/// Time without a change after which a burst is over.
pub(crate) const HINT_QUIET: Duration = Duration::from_millis(20);

/// Time for which changes are read within a burst that is longer than [`HINT_BURST`].
pub(crate) const HINT_WORK: Duration = Duration::from_micros(500);

/// Milliseconds for which the kernel collects changes between. Its queue (`max_queued_events`) holds more than a
/// processor can make in that time; where it does not, the folder is read instead.
pub(crate) const HINT_PAUSE_MS: u8 = 8;

/// Milliseconds after which a socket that was found dead by a hint is looked at again and removed: whoever
/// made it and closed it is probably about to make it again.
pub(crate) const STALE_REST_MS: u32 = 50;

/// Files that are looked at in one go when their time has come; plus one in [`RECHECK_SHARE`] of those that wait, up to
/// [`RECHECK_MOST`].
pub(crate) const RECHECK_LEAST: usize = 64;

/// See [`RECHECK_LEAST`].
pub(crate) const RECHECK_SHARE: usize = 32;

/// See [`RECHECK_LEAST`].
pub(crate) const RECHECK_MOST: usize = 256;

/// Pause after a go that did not reach all, so that clearing up after one program leaves time for the others.
pub(crate) const RECHECK_PAUSE: Duration = Duration::from_millis(4);

/// Files that wait to be looked at beyond which the folder is not listed as well.
pub(crate) const RECHECK_FLOOD: usize = 1024;

/// Notices that wait for the hub. At the limit the notice is counted as lost; if it told of a
/// listener, the file system tells of it too.
pub(crate) const NOTICE_QUEUE: usize = 4096;

/// Notices that the hub handles before it looks at anything else, so that a flood of traced calls
/// cannot keep it from its timers.
pub(crate) const NOTICE_BATCH: usize = 256;

/// Bytes asked for as receive buffer of the notice socket (`SO_RCVBUF`; the kernel may grant less). At
/// the limit senders drop their notices and say how many.
pub(crate) const NOTICE_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Requests of control connections that wait for the hub. At the limit connections wait.
pub(crate) const COMMAND_QUEUE: usize = 64;

/// Reports of the router that wait for the hub. At the limit the router drops the report: the next
/// refused connection repeats it.
pub(crate) const ROUTER_QUEUE: usize = 256;

/// Changes of the router's sockets for TLS that wait for it. At the limit the change is refused: somebody
/// switches faster than the router can look.
pub(crate) const DOORS_QUEUE: usize = 4;

/// Requests that wait for the hub while somebody follows them. At the limit they are counted as missed:
/// the router never waits.
pub(crate) const REQUEST_QUEUE: usize = 4096;

/// Requests that the hub passes on before it looks at anything else.
pub(crate) const REQUEST_BATCH: usize = 256;

/// Exits of processes that wait for the hub. At the limit the task that saw the exit waits.
pub(crate) const EXIT_QUEUE: usize = 1024;

/// Processes that are watched through a descriptor each. Those beyond are asked for every [`RETRY`].
pub(crate) const WATCHED_PROCESSES: usize = 8192;

/// Descriptors that we ask for (`RLIMIT_NOFILE`): a process, a connection and an upstream take one
/// each. The hard limit may grant less.
pub(crate) const OPEN_FILES: u64 = 65_536;

/// Ended instances that are remembered, so that their names explain themselves. The oldest is
/// forgotten.
pub(crate) const REMEMBERED_DEAD: usize = 256;

/// Routes by hand. A further one is refused with `conflict`.
pub(crate) const HAND_ROUTES: usize = 16_384;

/// Milliseconds that an instance which is about to end stays out of the routes, at the most. Where it lives
/// on, it is back in them afterwards.
pub(crate) const DRAIN_HOLD_MS: u64 = 3_600_000;

/// Bytes of the largest companion file that is read. A larger one is foreign.
pub(crate) const COMPANION_BYTES: u64 = 1024 * 1024;

/// Bytes of the largest certificate or key of the user's own. A larger file is refused.
pub(crate) const PEM_BYTES: u64 = 1024 * 1024;

/// Bytes of the largest routes file that is read. A larger one is treated as torn.
pub(crate) const ROUTES_BYTES: u64 = 16 * 1024 * 1024;

/// The same warning is told once in this time; repetitions are only counted.
pub(crate) const WARNING_REPEAT_MS: u64 = 60_000;

/// Distinct warnings that are remembered for [`WARNING_REPEAT_MS`]. At the limit all are forgotten.
pub(crate) const WARNINGS: usize = 256;

/// Milliseconds by which a process may seem younger than the companion that names it: clocks tick
/// coarsely.
#[cfg(target_os = "linux")]
pub(crate) const BIRTH_SLACK_MS: u64 = 2_000;

/// Time for the parts to end at shutdown. What is still open then is named in the log and left.
pub(crate) const DRAIN: Duration = Duration::from_secs(4);

/// Time that a control connection may take to read a reply. Then it is closed, so that a client which
/// never reads cannot hold a connection for ever.
pub(crate) const CONTROL_WRITE: Duration = Duration::from_secs(30);

/// Time that surveys of `/proc` wait for further instances that seem dead: one search serves all.
pub(crate) const SURVEY_DELAY: Duration = Duration::from_millis(20);

/// Lines of a subscription that are written with one system call.
pub(crate) const SUBSCRIPTION_BATCH: usize = 64;

/// Attempts to find a port that is free on both loopback addresses. Then the router does not listen.
pub(crate) const FREE_PORT_ATTEMPTS: usize = 32;

/// Requests for a socket that are answered at once, for processes that changed their user. Further ones wait.
#[cfg(target_os = "linux")]
pub(crate) const BROKER_CONNECTIONS: usize = 16;

/// Time for one such request, less than a second. Then it is dropped.
#[cfg(target_os = "linux")]
pub(crate) const BROKER_TIMEOUT: Duration = Duration::from_millis(500);

/// Forwards of raw TCP into instances. A further one is refused with `conflict`.
pub(crate) const FORWARDS: usize = 256;

/// Time that a program gets to greet before it is handed its first connection. Then the connection's bytes are
/// passed on: the program is busy, or its accepts go past the library.
pub(crate) const HANDOFF_GREETING: Duration = Duration::from_millis(250);

/// Time that a program which has greeted before gets to accept a connection that is handed to it. Then its bytes
/// are passed on, and it takes as long to be accepted in that way.
pub(crate) const HANDOFF_CLAIM: Duration = Duration::from_secs(2);

/// Pauses after the first, second and third connection in a row that a listener did not take. After a further one
/// it is handed none any more, until it is made anew.
pub(crate) const HANDOFF_RETRY: [Duration; 3] =
    [Duration::from_secs(1), Duration::from_secs(10), Duration::from_secs(60)];

/// Listeners of which it is remembered whether they take connections. At the limit all are asked again.
pub(crate) const HANDOFF_LISTENERS: usize = 4096;
