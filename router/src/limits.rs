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

/// One of so many clients may wait for its refusal, at least one: with few descriptors, refusals must not take those of
/// the control socket. Further clients are closed without a word.
pub(crate) const REFUSED_OF_CLIENTS: u64 = 8;

/// Bytes of a request head. Beyond: 431. (64 KB must pass; browsers stop at about 256 KB of cookies.)
pub(crate) const REQUEST_HEAD_BYTES: usize = 128 * 1024;

/// Bytes of a request head that are looked at without reading them, to hand the connection over; every socket
/// buffer holds that many. A longer head is read, and its request goes through the router.
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

/// Bytes of a pooled buffer for long bodies: fewer system calls per byte, and still inside the L2 cache.
pub(crate) const BODY_BUFFER_BYTES: usize = 64 * 1024;

/// Pooled buffers of each size that a thread keeps. Further ones are freed.
pub(crate) const POOLED_BUFFERS: usize = 16;

/// Idle connections kept to one listener. Further ones are closed.
pub(crate) const IDLE_UPSTREAM_CONNECTIONS: usize = 256;

/// How long a connection to a listener stays in the pool unused. Then it is closed.
pub(crate) const IDLE_UPSTREAM: Duration = Duration::from_secs(60);

/// How often the pools are swept, closed connections are removed and slow exchanges are checked.
pub(crate) const SWEEP: Duration = Duration::from_secs(5);

/// Time for a whole request head, from the connection or its first byte. Beyond: 408.
pub(crate) const HEAD_TIME: Duration = Duration::from_secs(15);

/// How long a connection may stay open between two requests. Then it is closed.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(120);

/// How long an upload may make no progress, over HTTP/1 and HTTP/2. Then 408, or the end of an answer that has begun.
pub(crate) const UPLOAD_IDLE: Duration = Duration::from_secs(600);

/// How long the router waits for a listener's full backlog. Then the next replica, or 502.
pub(crate) const CONNECT_TIME: Duration = Duration::from_secs(5);

/// Bytes that are still read from a client after it was answered, for at most `LINGER_TIME`: its application gets them
/// while it reads on, and no reset destroys the answer. Then the connection is closed.
pub(crate) const LINGER_BYTES: usize = 16 * 1024 * 1024;
/// See [`LINGER_BYTES`].
pub(crate) const LINGER_TIME: Duration = Duration::from_secs(2);

/// Requests at once over one connection to a listener that speaks HTTP/2: as many as every HTTP/2 server
/// should accept (RFC 9113 6.5.2). Further ones get another connection.
pub(crate) const UPSTREAM_STREAMS: usize = 100;

/// Connections at once to a listener that speaks HTTP/2. At the limit requests share them, and wait if the
/// listener allows no more streams.
pub(crate) const UPSTREAM_HTTP2_CONNECTIONS: usize = 64;

/// Bytes that an HTTP/2 client may send before the router took any of them: on one stream, and on all. At the
/// limit the client waits.
pub(crate) const HTTP2_WINDOW_BYTES: u32 = 1024 * 1024;

/// Streams that an HTTP/2 client may have open at once. The protocol refuses further ones.
pub(crate) const HTTP2_STREAMS: u32 = 256;

/// Time to write what an application sent before it died, before its HTTP/2 stream is reset.
pub(crate) const RESET_DELAY: Duration = Duration::from_millis(5);

/// Time for requests in progress when the router stops. Then their connections are cut.
pub(crate) const DRAIN_TIME: Duration = Duration::from_secs(3);

/// Passes through routers after which a request counts as a loop: 508.
pub(crate) const HOPS: u8 = 5;

/// How long after its start the router waits for an instance to listen. Then 503.
pub(crate) const START_TIME: Duration = Duration::from_secs(10);

/// Listeners that may die, one after the other, with the same request in their queue. Then it is answered
/// with 502.
pub(crate) const DEATHS: u8 = 3;

/// How long a listener that closed a connection without reading the request is watched for its end. If it
/// still runs then, the answer is 502.
pub(crate) const DEATH_TIME: Duration = Duration::from_millis(50);

/// How long a page about a listener that has just refused waits for facts about it. Then the page names only
/// the socket.
pub(crate) const LAST_SEEN_TIME: Duration = Duration::from_millis(250);

/// Live names on one page. The page says how many more there are.
pub(crate) const PAGE_NAMES: usize = 200;
