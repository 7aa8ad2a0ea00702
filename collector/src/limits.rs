//! Every limit of the collector: value, unit, reason, and what happens at the limit. Limits that the
//! interposer or a client sees too stand in `agentfs_wire::limits`.
use std::time::Duration;

/// Worker threads of the runtime, beside the thread that runs the hub. With two, one slow request does not
/// hold up the router, at little memory; a machine with one core gets one.
pub(crate) const WORKER_THREADS: usize = 2;

/// Threads for blocking work (surveys of `/proc`). More work waits for a thread.
pub(crate) const BLOCKING_THREADS: usize = 2;

/// Time between two rounds of the patrol while any listener is known. What no hint reported, for instance a socket
/// that was closed, is found after at most this time. Less than one wake-up a second.
pub(crate) const PATROL: Duration = Duration::from_millis(1100);

/// Time between two rounds while nothing is running. Only our own files and the folder are checked then, and the
/// watcher reports their changes too.
pub(crate) const PATROL_REST: Duration = Duration::from_secs(600);

/// If the run dir changed less than this time before it was listed, it is listed once more: file systems keep
/// times in ticks of up to 10 ms.
pub(crate) const PATROL_RACY: Duration = Duration::from_millis(50);

/// Time after which the port for questions about names is tried again if the collector of another home has it: that one
/// gives the same answers.
pub(crate) const DNS_RETRY: Duration = Duration::from_secs(60);

/// Time after which something that failed is tried again, for instance a removal or a second name on a full disk.
/// Also the time between two checks of what the system does not report: processes without a descriptor, and the
/// end of a drain.
pub(crate) const RETRY: Duration = Duration::from_secs(1);

/// The same for a file, in milliseconds.
pub(crate) const RETRY_MS: u32 = 1_000;

/// Age at which a file of the run dir gets its second name. A file that its program removes earlier costs
/// nothing; one that somebody else removes earlier is not restored.
pub(crate) const KEEP_DELAY: Duration = Duration::from_millis(100);

/// Milliseconds after which a socket that is bound but does not listen yet is checked again, one after the
/// other. Programs call `listen` within microseconds of `bind`, and the file system reports only `bind`.
/// After the last check, the patrol has it checked.
pub(crate) const LOOK_AGAIN_MS: [u32; 8] = [1, 2, 5, 10, 20, 50, 100, 200];

/// Ports without a listener any more that are kept from the host, of each instance; the oldest are forgotten first.
pub(crate) const BARRED_OWN_PORTS: usize = 1024;

/// Milliseconds after which the removal of a stale socket is tried again if somebody else holds the run lock.
pub(crate) const RUN_LOCK_RETRY_MS: u32 = 5;

/// Hints of the watcher that wait for the hub. At the limit the hint is dropped and the whole folder is
/// read instead.
pub(crate) const HINT_QUEUE: usize = 1024;

/// Changes of the run dir that are read at once. After so many in one burst they are read every
/// [`HINT_PAUSE_MS`]: otherwise a program that makes thousands of names a second would wake the collector for
/// each.
pub(crate) const HINT_BURST: u32 = 64;

/// Time without a change after which a burst is over.
pub(crate) const HINT_QUIET: Duration = Duration::from_millis(20);

/// Time for which changes are read within a burst that is longer than [`HINT_BURST`].
pub(crate) const HINT_WORK: Duration = Duration::from_micros(500);

/// Milliseconds between two such reads, in which the kernel collects changes. Its queue (`max_queued_events`)
/// usually holds more than a processor can make in that time; if it overflows, the folder is read instead.
pub(crate) const HINT_PAUSE_MS: u8 = 8;

/// Milliseconds after which a socket that a hint found dead is checked again and removed: the program that
/// made and closed it will probably make it again.
pub(crate) const STALE_REST_MS: u32 = 50;

/// Files that are checked in one go when their time has come, plus one in [`RECHECK_SHARE`] of the waiting
/// files, up to [`RECHECK_MOST`].
pub(crate) const RECHECK_LEAST: usize = 64;

/// See [`RECHECK_LEAST`].
pub(crate) const RECHECK_SHARE: usize = 32;

/// See [`RECHECK_LEAST`].
pub(crate) const RECHECK_MOST: usize = 256;

/// Pause after a go that did not reach all files, so that cleaning up after one program leaves time for the
/// others.
pub(crate) const RECHECK_PAUSE: Duration = Duration::from_millis(4);

/// Files waiting to be checked. Above this, the folder is not listed as well.
pub(crate) const RECHECK_FLOOD: usize = 1024;

/// Notices that wait for the hub. At the limit the notice is counted as lost; if it reported a listener, the
/// file system reports it too.
pub(crate) const NOTICE_QUEUE: usize = 4096;

/// Notices that the hub handles before it does anything else, so that a flood of traced calls cannot hold up
/// its timers.
pub(crate) const NOTICE_BATCH: usize = 256;

/// Bytes of the receive buffer that the notice socket asks for (`SO_RCVBUF`; the kernel may grant less). At
/// the limit senders drop their notices and report how many.
pub(crate) const NOTICE_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Requests of control connections that wait for the hub. At the limit connections wait.
pub(crate) const COMMAND_QUEUE: usize = 64;

/// Reports of the router that wait for the hub. At the limit the router drops the report: the next
/// refused connection repeats it.
pub(crate) const ROUTER_QUEUE: usize = 256;

/// Changes of the router's TLS sockets that wait for the router. At the limit the change is refused: somebody
/// switches faster than the router can follow.
pub(crate) const LISTENERS_QUEUE: usize = 4;

/// Requests that wait for the hub while somebody follows them. At the limit they are counted as missed: the
/// router never waits.
pub(crate) const REQUEST_QUEUE: usize = 4096;

/// Requests that the hub passes on before it does anything else.
pub(crate) const REQUEST_BATCH: usize = 256;

/// Exits of processes that wait for the hub. At the limit the task that saw the exit waits.
pub(crate) const EXIT_QUEUE: usize = 1024;

/// Processes that are each watched through a descriptor. Further processes are checked every [`RETRY`].
pub(crate) const WATCHED_PROCESSES: usize = 8192;

/// Descriptors that the collector asks for (`RLIMIT_NOFILE`): each process, connection and upstream takes
/// one. The hard limit may grant less.
pub(crate) const OPEN_FILES: u64 = 65_536;

/// Ended instances that are remembered, so that the page of their name can say what it was. The oldest is
/// forgotten.
pub(crate) const REMEMBERED_DEAD: usize = 256;

/// Routes added by hand. A further one is refused with `conflict`.
pub(crate) const HAND_ROUTES: usize = 16_384;

/// Longest time in milliseconds that an instance which is about to end stays out of the routes. If it is
/// still running then, it is routed again.
pub(crate) const DRAIN_HOLD_MS: u64 = 3_600_000;

/// Bytes of the largest companion file that is read. A larger one is ignored as foreign.
pub(crate) const COMPANION_BYTES: u64 = 1024 * 1024;

/// Milliseconds in which the same warning is given only once; repetitions are counted.
pub(crate) const WARNING_REPEAT_MS: u64 = 60_000;

/// Distinct warnings that are remembered for [`WARNING_REPEAT_MS`]. At the limit all are forgotten.
pub(crate) const WARNINGS: usize = 256;

/// Milliseconds by which a process may seem younger than the companion that names it: clocks tick
/// coarsely.
pub(crate) const BIRTH_SLACK_MS: u64 = 2_000;

/// Time for the parts to stop at shutdown. Parts that have not stopped by then are named in the log and
/// abandoned.
pub(crate) const DRAIN: Duration = Duration::from_secs(4);

/// Bytes of a client's requests that are read with one system call. Each announcer of a `wrap` keeps a connection open,
/// so a thousand instances have a thousand such buffers.
pub(crate) const CONTROL_READ: usize = 1024;

/// Time that a client of the control socket may take to read a reply. Then its connection is closed, so that
/// a client which never reads cannot hold it for ever.
pub(crate) const CONTROL_WRITE: Duration = Duration::from_secs(30);

/// Time that a survey of `/proc` waits for further instances that seem dead: one search serves all.
pub(crate) const SURVEY_DELAY: Duration = Duration::from_millis(20);

/// Lines of a subscription that are written with one system call.
pub(crate) const SUBSCRIPTION_BATCH: usize = 64;

/// Attempts to find a port that is free on both loopback addresses. Then the router does not listen.
pub(crate) const FREE_PORT_ATTEMPTS: usize = 32;

/// Requests for a socket that are answered at once, for processes that changed their user. Further ones wait.
#[cfg(target_os = "linux")]
pub(crate) const BROKER_CONNECTIONS: usize = 16;

/// Connections to the broker that are open at once, whether they asked or not. Further ones wait to be accepted.
#[cfg(target_os = "linux")]
pub(crate) const BROKER_OPEN: usize = 256;

/// Connections of one user to the broker that have sent nothing yet. Further ones are closed, so that a user who only
/// connects cannot keep others from being served.
#[cfg(target_os = "linux")]
pub(crate) const BROKER_SILENT: usize = 32;

/// Time for one such request, less than a second. Then it is dropped.
#[cfg(target_os = "linux")]
pub(crate) const BROKER_TIMEOUT: Duration = Duration::from_millis(500);

/// Searches at once for the process that has a port. A further bind that fails is reported without that process.
pub(crate) const PORT_SEARCHES: usize = 4;

/// Characters of a process's command line in a message. The rest is left out.
pub(crate) const COMMAND_CHARACTERS: usize = 80;

/// Forwards of raw TCP into instances. A further one is refused with `conflict`.
pub(crate) const FORWARDS: usize = 256;

/// How long a request may wait for the run lock, less than the library waits for its answer (`BROKER_WAIT_MS`). Then a
/// stale file is treated as in use.
#[cfg(target_os = "linux")]
pub(crate) const BROKER_LOCK_WAIT: Duration = Duration::from_millis(1500);

/// Folders of which it is remembered what their ports speak. More: the one about which nothing was learned for the longest
/// time is forgotten, and its apps show the page of choices again.
pub(crate) const FACE_FOLDERS: usize = 1024;

/// Ports of a folder of which it is remembered what they speak. Nothing is learned of more.
pub(crate) const FACE_PORTS: usize = 64;

/// How long the collector waits before it stores what it learned of ports. What it learns meanwhile is stored with it; a
/// killed collector forgets it.
pub(crate) const FACE_PAUSE: Duration = Duration::from_millis(500);

/// Bytes of the command line of a listener that a page shows. The rest is cut off.
pub(crate) const COMMAND_BYTES: u64 = 512;
