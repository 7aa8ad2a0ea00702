//! Every limit of the router: value, unit, reason, and what happens there.
use std::time::Duration;

/// Clients connected at once, at the most: about as many as one address has ports (ip(7)). At the limit the client that
/// has been idle longest is disconnected for a new one; where none is idle, the new one gets 503 with `Retry-After`.
pub(crate) const CLIENTS: u64 = 32_768;

/// One in so many descriptors (`RLIMIT_NOFILE`) may be a client's: the second third is for connections to listeners, the
/// last for the control socket and all else of the process. Beyond: as at [`CLIENTS`].
pub(crate) const CLIENTS_OF_DESCRIPTORS: u64 = 3;

/// One in so many descriptors may be a connection to a listener. At the limit a request waits [`CONNECT_TIME`] for one that
/// ends, then it is answered with 503.
pub(crate) const LISTENERS_OF_DESCRIPTORS: u64 = 3;

/// While less than one in so many connections to listeners is left, none is kept idle.
pub(crate) const SCARCE: usize = 4;

/// How long nobody looks for an idle client again, after none was found. New ones are refused until then.
pub(crate) const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// Clients that are told at once that there is no room. Further ones are disconnected without a word.
pub(crate) const REFUSED_CLIENTS: usize = 64;

/// Bytes of a request head. Beyond: 431. (64 KB must pass; browsers stop at about 256 KB of cookies.)
pub(crate) const REQUEST_HEAD_BYTES: usize = 128 * 1024;

/// Bytes of a request head that are looked at before they are read, to hand the connection over: what every socket
/// holds. A longer head is read, and its request goes through the router.
pub(crate) const PEEKED_HEAD_BYTES: usize = 16 * 1024;

/// Bytes of a request line without its end; over HTTP/2, of the line that would say the same. Beyond: 414. (32 KB must pass.)
pub(crate) const REQUEST_LINE_BYTES: usize = 64 * 1024;

/// Header lines of one head. Beyond: 431 for a request, 502 for a response.
pub(crate) const HEADER_LINES: usize = 4096;

/// Header lines parsed without an allocation.
pub(crate) const HEADER_LINES_INLINE: usize = 96;

/// Bytes of a response head. Beyond: 502. (256 KB must pass.)
pub(crate) const RESPONSE_HEAD_BYTES: usize = 512 * 1024;

/// Bytes of all trailers, and of one chunk's extension. Beyond: 400 or 502.
pub(crate) const TRAILER_BYTES: usize = 64 * 1024;

/// Bytes of a pooled buffer for heads and short bodies.
pub(crate) const HEAD_BUFFER_BYTES: usize = 16 * 1024;

/// Bytes of a pooled buffer for long bodies: fewer system calls a byte, and still inside the L2 cache.
pub(crate) const BODY_BUFFER_BYTES: usize = 64 * 1024;

/// Pooled buffers of each size that a thread keeps. Further ones are freed.
pub(crate) const POOLED_BUFFERS: usize = 16;

/// Idle connections kept to one listener. Further ones are closed.
pub(crate) const IDLE_UPSTREAM_CONNECTIONS: usize = 256;

/// How long a connection to a listener stays in the pool unused. Then it is closed.
pub(crate) const IDLE_UPSTREAM: Duration = Duration::from_secs(60);

/// How often the pools are swept, closed connections reaped and slow exchanges looked at.
pub(crate) const SWEEP: Duration = Duration::from_secs(5);

/// Time for a whole request head, from the connection or its first byte. Beyond: 408.
pub(crate) const HEAD_TIME: Duration = Duration::from_secs(15);

/// How long a connection may stay open between two requests. Then it is closed.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(120);

/// How long an upload may stand still. Then 408.
pub(crate) const UPLOAD_IDLE: Duration = Duration::from_secs(600);

/// How long a listener's full backlog is waited for. Then the next replica, or 502.
pub(crate) const CONNECT_TIME: Duration = Duration::from_secs(5);

/// Bytes and time that are spent on reading what a client still sends after it was answered, so
/// that the reset does not destroy the answer. Then the connection is closed.
pub(crate) const LINGER_BYTES: usize = 16 * 1024 * 1024;
/// See [`LINGER_BYTES`].
pub(crate) const LINGER_TIME: Duration = Duration::from_secs(2);

/// Requests at once over one connection to a listener that speaks HTTP/2: what every server of it should
/// take (RFC 9113 6.5.2). Further ones get another connection.
pub(crate) const UPSTREAM_STREAMS: usize = 100;

/// Connections at once to a listener that speaks HTTP/2. At the limit requests share them, and wait where the
/// listener says so.
pub(crate) const UPSTREAM_HTTP2_CONNECTIONS: usize = 64;

/// Bytes that a client of HTTP/2 may send before we took any of them: on one stream, and on all. At the limit it
/// waits.
pub(crate) const HTTP2_WINDOW_BYTES: u32 = 1024 * 1024;

/// Streams that a client of HTTP/2 may have open at once. Further ones are refused by the protocol.
pub(crate) const HTTP2_STREAMS: u32 = 256;

/// Time for what an application sent before it died to be written, before its stream of HTTP/2 is reset.
pub(crate) const RESET_DELAY: Duration = Duration::from_millis(5);

/// Time for requests in flight when the router stops. Then their connections are cut.
pub(crate) const DRAIN_TIME: Duration = Duration::from_secs(3);

/// Passes through routers before a request is a loop: 508.
pub(crate) const HOPS: u8 = 5;

/// How long after its start an instance is waited for before it is said that it does not listen: 503.
pub(crate) const START_TIME: Duration = Duration::from_secs(10);

/// Listeners that may end with one request in their queue before it is answered with 502.
pub(crate) const DEATHS: u8 = 3;

/// How long a listener that hung up on a request it had not read is watched whether it ends. Then it lives, and the
/// answer is 502.
pub(crate) const DEATH_TIME: Duration = Duration::from_millis(50);

/// How long a page about a listener that has just refused waits to hear what it was. Then it names the socket alone.
pub(crate) const LAST_SEEN_TIME: Duration = Duration::from_millis(250);

/// Live names on one page. The page says how many more there are.
pub(crate) const PAGE_NAMES: usize = 200;
