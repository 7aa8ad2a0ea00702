//! What the interposer reports to the collector: one datagram per notice, a version byte followed by bincode.
//!
//! A notice is a hint. It may be lost at any time (no listener, queue full); the run dir still has the facts.
//! Reader and writer may be of different versions: a notice with an unknown version byte is dropped and
//! counted.
use crate::address::{Endpoint, WireEndpoint};
use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use bincode::{BorrowDecode, Decode, Encode};

/// First byte of every notice. A change of [`Notice`] changes it.
pub const VERSION: u8 = 1;

/// First byte of a notice that the engine sends for a process that it serves: `pid` is that process. In any other notice,
/// the kernel's word about the sender counts.
pub const ON_BEHALF: u8 = 2;

const CONFIG: Configuration<LittleEndian, Fixint, Limit<{ crate::limits::NOTICE_BYTES }>> =
    bincode::config::standard().with_fixed_int_encoding().with_limit();

/// Which call was intercepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Call {
    /// bind(2)
    Bind,
    /// listen(2)
    Listen,
    /// accept(2), accept4(2)
    Accept,
    /// connect(2)
    Connect,
    /// execve(2) and related calls, posix_spawn(3)
    Exec,
    /// The library was loaded into a process (reported only while somebody traces).
    Start,
    /// io_uring_setup(2)
    Ring,
}

/// Result of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Outcome {
    /// Carried out on a Unix socket of the instance.
    Rewritten,
    /// Passed to the system unchanged.
    Passed,
    /// Answered with an error that TCP would give.
    Refused,
}

/// Why a call was passed unchanged or refused. Add new reasons at the end: a reader that does not know a
/// reason drops only that notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Why {
    /// It was rewritten: there is nothing to explain.
    Rewritten,
    /// Not an address that agentfs rewrites (neither wildcard nor loopback).
    OtherAddress,
    /// Not a TCP socket.
    NotTcp,
    /// The instance has no listener on that port, so the call goes to the host.
    NoListener,
    /// The instance is isolated and has no listener on that port.
    Isolated,
    /// Excluded by `--only` or `--except`.
    Excluded,
    /// The port is in use within the instance.
    InUse,
    /// The listener exists but does not accept.
    NotAccepting,
    /// A step of ours failed with `errno`; the call went through unchanged.
    Failed,
    /// The started program is statically linked: no loader runs that could load the library.
    Static,
    /// The environment that a program passed to exec did not have our variables; they were added again.
    EnvironmentRestored,
    /// The started program is a Go program: it makes its own system calls.
    Go,
    /// The started program is for another kind of machine (32 bit, for example).
    OtherMachine,
    /// The started program changes its user or gains rights (set-uid): its loader ignores the library (ld.so(8)).
    GainsRights,
    /// The started program cannot see the library's file: another root (chroot(2)), a sandbox.
    OutOfSight,
    /// The port was the instance's own; its listener is gone, and the host's would be another program.
    OwnPort,
    /// agentfs holds the host's port for another instance.
    HeldForOther,
    /// A program that runs in another checkout of the same repository holds the host's port.
    OtherCheckout,
    /// The library does not reach the started program, but the engine serves it.
    Engine,
    /// The supervisor of the engine has ended: the socket calls of the programs that it served fail.
    EngineEnded,
    /// The engine cannot read the program's memory.
    Unreadable,
    /// As [`Why::Engine`], on stand-ins, because the system has no network name space for it (`errno`).
    EngineStandIns,
    /// The kernel carries out what a ring of io_uring is asked for, and nobody sees it.
    Ring,
}

/// One notice. Text is UTF-8; an unknown text is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub struct Notice<'a> {
    /// The call.
    pub call: Call,
    /// What became of it.
    pub outcome: Outcome,
    /// Why.
    pub why: Why,
    /// errno that the program got, 0 on success; with [`Why::Failed`] the errno of our own step.
    pub errno: i32,
    /// The descriptor.
    pub fd: i32,
    /// The process.
    pub pid: u32,
    /// CLOCK_REALTIME in nanoseconds.
    pub time_ns: u64,
    /// Notices of this process that could not be sent since the last one that could.
    pub dropped: u32,
    /// The address that the call named, as the program sees it.
    pub address: Option<WireEndpoint>,
    /// For accept, the client; for connect, the program's own end.
    pub peer: Option<WireEndpoint>,
    /// The app of the process.
    pub app: &'a str,
    /// The instance of the process.
    pub instance: &'a str,
    /// File name of the listener in the run dir; for exec the program; for a connect that asks for a port of the host, the
    /// number in `AGENTFS_COMMAND`.
    pub file: &'a str,
    /// Name of the process (`comm`, at most 15 bytes on Linux).
    pub program: &'a str,
}

/// What a notice says beyond the process that it is about.
#[derive(Clone, Copy, Debug)]
pub struct News<'a> {
    /// The call.
    pub call: Call,
    /// What became of it.
    pub outcome: Outcome,
    /// Why.
    pub why: Why,
    /// errno of the call, or of our failed step.
    pub errno: i32,
    /// The descriptor.
    pub fd: i32,
    /// The address that the call named.
    pub address: Option<Endpoint>,
    /// The other end.
    pub peer: Option<Endpoint>,
    /// As [`Notice::file`].
    pub file: &'a str,
}

// === impl News ===

impl News<'_> {
    /// News with nothing but the call, its outcome and the reason. Callers fill in what else they know.
    pub fn of(call: Call, outcome: Outcome, why: Why) -> Self {
        Self { call, outcome, why, errno: 0, fd: -1, address: None, peer: None, file: "" }
    }
}

/// Why a datagram is not a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeError {
    /// The datagram is empty.
    Empty,
    /// The version byte is not [`VERSION`].
    Version(u8),
    /// The rest is malformed, or bytes are left over.
    Malformed,
}

// === impl Notice ===

impl<'a> Notice<'a> {
    /// Writes the notice. Returns the number of bytes, or `None` if it does not fit.
    pub fn encode(&self, buffer: &mut [u8]) -> Option<usize> {
        self.encode_as(VERSION, buffer)
    }

    /// The same for a notice about another process than the sender.
    pub fn encode_on_behalf(&self, buffer: &mut [u8]) -> Option<usize> {
        self.encode_as(ON_BEHALF, buffer)
    }

    fn encode_as(&self, first: u8, buffer: &mut [u8]) -> Option<usize> {
        let (version, rest) = buffer.split_first_mut()?;
        *version = first;
        let length = bincode::encode_into_slice(self, rest, CONFIG).ok()?;
        length.checked_add(1)
    }

    /// Reads a notice.
    ///
    /// # Errors
    /// [`NoticeError`] if the datagram is not a notice of this version.
    pub fn decode(datagram: &'a [u8]) -> Result<Self, NoticeError> {
        let (version, rest) = datagram.split_first().ok_or(NoticeError::Empty)?;
        if *version != VERSION && *version != ON_BEHALF {
            return Err(NoticeError::Version(*version));
        }
        match bincode::borrow_decode_from_slice(rest, CONFIG) {
            Ok((notice, length)) if length == rest.len() => Ok(notice),
            _ => Err(NoticeError::Malformed),
        }
    }
}

// === impl NoticeError ===

/// Whether a datagram is a notice about another process than its sender.
pub fn is_on_behalf(datagram: &[u8]) -> bool {
    datagram.first() == Some(&ON_BEHALF)
}

impl core::fmt::Display for NoticeError {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Empty => formatter.write_str("the datagram is empty"),
            Self::Version(version) => write!(formatter, "the notice has version {version}, not {VERSION}"),
            Self::Malformed => formatter.write_str("the notice is malformed"),
        }
    }
}

impl core::error::Error for NoticeError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Notice<'static> {
        Notice {
            call: Call::Listen,
            outcome: Outcome::Rewritten,
            why: Why::Rewritten,
            errno: 0,
            fd: 3,
            pid: 4711,
            time_ns: 1_700_000_000_000_000_000,
            dropped: 0,
            address: Some(WireEndpoint { family: 4, bytes: [0; 16], port: 8080 }),
            peer: None,
            app: "shop",
            instance: "k3f9",
            file: "shop-k3f9.8080.sock",
            program: "python3",
        }
    }

    #[test]
    fn a_notice_reads_back() {
        let mut buffer = [0; crate::limits::NOTICE_BYTES];
        let length = sample().encode(&mut buffer).unwrap();
        assert_eq!(Notice::decode(&buffer[..length]), Ok(sample()));
        assert_eq!(Notice::decode(&buffer[..length - 1]), Err(NoticeError::Malformed));
        assert_eq!(Notice::decode(&[]), Err(NoticeError::Empty));
        assert_eq!(Notice::decode(&[9, 1, 2]), Err(NoticeError::Version(9)));
    }

    #[test]
    fn an_error_says_what_is_wrong() {
        for (error, expected) in [
            (NoticeError::Empty, "the datagram is empty"),
            (NoticeError::Version(9), "the notice has version 9"),
            (NoticeError::Malformed, "the notice is malformed"),
        ] {
            assert!(error.to_string().starts_with(expected), "{error}");
        }
    }

    #[test]
    fn a_notice_that_does_not_fit_is_not_sent() {
        let long = "x".repeat(600);
        let notice = Notice { file: &long, ..sample() };
        assert_eq!(notice.encode(&mut [0; 512]), None);
    }

    proptest! {
        #[test]
        fn decode_never_panics(mut datagram: Vec<u8>) {
            let _ = Notice::decode(&datagram);
            if let Some(first) = datagram.first_mut() {
                *first = VERSION;
            }
            let _ = Notice::decode(&datagram);
        }
    }

    #[test]
    fn bytes_behind_a_notice_make_it_malformed() {
        let mut buffer = [0; crate::limits::NOTICE_BYTES];
        let length = sample().encode(&mut buffer).unwrap();
        assert_eq!(Notice::decode(&buffer[..=length]), Err(NoticeError::Malformed));
    }
}
