//! What can go wrong, and whose fault it is.
use std::io;

/// The router could not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A listener could not be taken over by the runtime.
    #[error("cannot use the listening socket of the router")]
    Listener(#[source] io::Error),
}

/// A request that we answer ourselves because it must not be passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Status of the answer.
    pub(crate) status: u16,
    /// What was wrong, after "malformed" for a 400.
    pub(crate) what: &'static str,
}

/// How an exchange with an application failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It ended the connection before any byte of the request reached it.
    Undelivered,
    /// It ended the connection and had not read the whole request.
    Unread,
    /// The application ended the connection before the first byte of its answer.
    Silent,
    /// It answered with something that is no HTTP, or stopped within the head.
    Garbage(&'static str),
    /// What it sends does not begin as HTTP does: it speaks another protocol.
    NotHttp,
    /// It answered in HTTP/2, before it had understood anything.
    OtherProtocol,
    /// It stopped within the body: the client must see that.
    Truncated,
    /// The client is gone, or cannot be written to.
    ClientGone,
    /// The client's body is malformed or ends too early.
    ClientBody(&'static str),
    /// The client's body does not go on.
    ClientSlow,
}

// === impl Refusal ===

impl Refusal {
    pub(crate) const TOO_MANY_HEADERS: Self = Self { status: 431, what: "too many header lines" };
    pub(crate) const HEAD_TOO_LARGE: Self = Self { status: 431, what: "request head is too large" };
    pub(crate) const LINE_TOO_LONG: Self = Self { status: 414, what: "request line is too long" };
    pub(crate) const VERSION: Self = Self { status: 505, what: "this HTTP version is not supported" };
    pub(crate) const CONNECT: Self =
        Self { status: 405, what: "CONNECT is not supported: this is not a forward proxy" };
    pub(crate) const CODING: Self =
        Self { status: 501, what: "transfer codings other than chunked are not supported" };
    pub(crate) const LOOP: Self = Self { status: 508, what: "the request went through this router 5 times" };
    pub(crate) const TIMEOUT: Self = Self { status: 408, what: "the request did not arrive in time" };

    pub(crate) const NO_ROOM: Self =
        Self { status: 503, what: "too many clients are connected; try again in a few seconds" };

    pub(crate) const PLAIN: Self =
        Self { status: 400, what: "request: this port speaks TLS; use an https URL" };

    /// A 400.
    pub(crate) const fn bad(what: &'static str) -> Self {
        Self { status: 400, what }
    }
}
