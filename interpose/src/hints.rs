//! What this process did to a descriptor since it made the socket. It saves asking the kernel for twenty options
//! that nobody has set.
//!
//! These are hints, and only for speed. A number is *known* from `socket` until it may stand for another socket (dup,
//! accept, a descriptor that came by `SCM_RIGHTS`). For an unknown number the kernel is asked everything. It does not
//! matter if a number was closed: a call on what is not a socket fails in the kernel.
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use libc::c_int;

/// Descriptors that are followed; higher numbers are always unknown. The memory is zeroed and only touched for numbers
/// in use.
const FOLLOWED: usize = 65536;

/// `socket` made it in this process.
const KNOWN: u64 = 1;
/// An option of TCP or IP was set, or one that accepted sockets inherit.
const OPTIONS: u64 = 2;
/// `SO_REUSEADDR` is on.
const REUSE_ADDRESS: u64 = 4;
/// `SO_REUSEPORT` is on.
const REUSE_PORT: u64 = 8;
/// An owner for SIGIO was set.
const OWNER: u64 = 16;

/// It is not a stream.
const DATAGRAM: u64 = 32;

/// `SO_SNDBUF` was set.
const SEND_BUFFER: u64 = 64;

/// `SO_RCVBUF` was set.
const RECEIVE_BUFFER: u64 = 1024;

/// It is a Unix socket that the program made.
const LOCAL: u64 = 128;

/// It has, or had, a second descriptor.
const DUPLICATED: u64 = 256;

/// It was made as a TCP socket.
const TCP: u64 = 512;

/// It is a connection that was made here and shut down for writing here.
const ENDED: u64 = 2048;

/// An option was set that few programs set.
const RARE: u64 = 4096;

/// It was bound here, and is a listener of the instance.
#[cfg(target_os = "linux")]
const BOUND: u64 = 8192;

/// The part of a hint that is the backlog that listen(2) was given, at most [`BACKLOG_LARGEST`]; 0 for none.
#[cfg(target_os = "linux")]
const BACKLOG: u64 = 0xffff_0000;
/// The first bit of it.
#[cfg(target_os = "linux")]
const BACKLOG_AT: u32 = 16;
/// `net.core.somaxconn`: no more may wait, whatever a program asks for.
#[cfg(target_os = "linux")]
const BACKLOG_LARGEST: u64 = 4096;

/// The part of a hint that says when a connection was made here: the [`GENERATION`], 0 for none.
const MADE: u64 = !0xffff_ffff;

/// Grows whenever this process may have passed on copies of its descriptors: by a fork, or a program that it starts.
static GENERATION: AtomicU32 = AtomicU32::new(1);

/// The last descriptor that was bound: the upper half of the fingerprint of its file, then its number.
#[cfg(target_os = "linux")]
static LAST_BOUND: AtomicU64 = AtomicU64::new(0);

static HINTS: [AtomicU64; FOLLOWED] = [const { AtomicU64::new(0) }; FOLLOWED];

fn of(fd: c_int) -> Option<&'static AtomicU64> {
    HINTS.get(usize::try_from(fd).ok()?)
}

fn add(fd: c_int, flag: u64, on: bool) {
    let Some(hint) = of(fd) else { return };
    if on {
        hint.fetch_or(flag, Ordering::Relaxed);
    } else {
        hint.fetch_and(!flag, Ordering::Relaxed);
    }
}

fn has(fd: c_int, flag: u64) -> Option<bool> {
    let hint = of(fd)?.load(Ordering::Relaxed);
    (hint & KNOWN != 0).then_some(hint & flag != 0)
}

/// A socket was made.
pub(crate) fn fresh(fd: c_int, domain: c_int, kind: c_int, protocol: c_int) {
    // The kind has SOCK_NONBLOCK and SOCK_CLOEXEC in higher bits (socket(2)).
    let datagram = kind & 0xf != libc::SOCK_STREAM;
    let mut hints = KNOWN;
    if datagram {
        hints |= DATAGRAM;
    }
    if domain == libc::AF_UNIX {
        hints |= LOCAL;
    }
    if !datagram
        && matches!(domain, libc::AF_INET | libc::AF_INET6)
        && matches!(protocol, 0 | libc::IPPROTO_TCP)
    {
        hints |= TCP;
    }
    if let Some(hint) = of(fd) {
        hint.store(hints, Ordering::Relaxed);
    }
}

/// Whether it is known to be a Unix socket of the program's own.
pub(crate) fn is_local(fd: c_int) -> bool {
    has(fd, LOCAL).unwrap_or(false)
}

/// Whether an inet socket is known to be one of TCP.
pub(crate) fn is_tcp(fd: c_int) -> bool {
    has(fd, TCP).unwrap_or(false)
}

/// Whether it is known not to be a stream.
pub(crate) fn is_datagram(fd: c_int) -> bool {
    has(fd, DATAGRAM).unwrap_or(false)
}

/// `from` was duplicated as `to`.
pub(crate) fn duplicated(from: c_int, to: c_int) {
    add(from, DUPLICATED, true);
    shared(from);
    if let Some(hint) = of(to) {
        hint.store(DUPLICATED, Ordering::Relaxed);
    }
}

/// Whether a socket is known to have only this one descriptor in this process.
#[cfg(target_os = "linux")]
pub(crate) fn is_single(fd: c_int) -> bool {
    has(fd, DUPLICATED) == Some(false)
}

/// Descriptors of this process may have been copied into another one. Called before and after it happens: a connection
/// that is made meanwhile may be in both.
pub(crate) fn spawns() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
}

/// The generation, to be asked before a connection is made.
pub(crate) fn generation() -> u32 {
    GENERATION.load(Ordering::Relaxed)
}

/// A socket was bound to a file of the instance with this fingerprint.
#[cfg(target_os = "linux")]
pub(crate) fn bound(fd: c_int, file: u64) {
    add(fd, BOUND, true);
    LAST_BOUND.store(file & MADE | u64::try_from(fd).unwrap_or(0), Ordering::Relaxed);
}

/// The upper half of the fingerprint of the file that a descriptor was bound to, if it was the last one.
#[cfg(target_os = "linux")]
pub(crate) fn last_bound(fd: c_int) -> Option<u64> {
    let last = LAST_BOUND.load(Ordering::Relaxed);
    let is_bound = of(fd)?.load(Ordering::Relaxed) & BOUND != 0;
    (is_bound && u64::try_from(fd) == Ok(last & !MADE)).then_some(last & MADE)
}

/// A listener was given a backlog.
#[cfg(target_os = "linux")]
pub(crate) fn listens(fd: c_int, backlog: c_int) {
    if let Some(hint) = of(fd) {
        let backlog = u64::try_from(backlog).unwrap_or(BACKLOG_LARGEST).min(BACKLOG_LARGEST);
        let rest = hint.load(Ordering::Relaxed) & !BACKLOG;
        hint.store(backlog << BACKLOG_AT | rest, Ordering::Relaxed);
    }
}

/// The backlog that a listener was given, where that is known.
#[cfg(target_os = "linux")]
pub(crate) fn backlog(fd: c_int) -> Option<u32> {
    let hint = of(fd)?.load(Ordering::Relaxed);
    u32::try_from((hint & BACKLOG) >> BACKLOG_AT).ok().filter(|backlog| *backlog != 0)
}

/// A connection was made, and has this one descriptor.
pub(crate) fn made(fd: c_int, generation: u32) {
    if let Some(hint) = of(fd) {
        let flags = hint.load(Ordering::Relaxed) & !(MADE | ENDED);
        hint.store(u64::from(generation) << 32 | flags, Ordering::Relaxed);
    }
}

/// Somebody else may have the connection.
pub(crate) fn shared(fd: c_int) {
    add(fd, MADE | ENDED, false);
}

/// A connection was shut down for writing.
#[cfg(target_os = "linux")]
pub(crate) fn ended(fd: c_int) {
    if is_ours_alone(fd) {
        add(fd, ENDED, true);
    }
}

/// Whether a connection was made here, was shut down for writing here, and nobody else can have it.
#[cfg(target_os = "linux")]
#[inline]
pub(crate) fn is_ended(fd: c_int) -> bool {
    of(fd).is_some_and(|hint| hint.load(Ordering::Relaxed) & ENDED != 0) && is_ours_alone(fd)
}

#[cfg(target_os = "linux")]
fn is_ours_alone(fd: c_int) -> bool {
    of(fd).is_some_and(|hint| hint.load(Ordering::Relaxed) >> 32 == u64::from(generation()))
}

/// The number may stand for something else now.
pub(crate) fn forget(fd: c_int) {
    if let Some(hint) = of(fd)
        && hint.load(Ordering::Relaxed) != 0
    {
        hint.store(0, Ordering::Relaxed);
    }
}

/// An option was set.
pub(crate) fn option_set(fd: c_int, level: c_int, name: c_int, value: Option<c_int>) {
    let on = value != Some(0);
    match (level, name) {
        (libc::SOL_SOCKET, libc::SO_REUSEADDR) => add(fd, REUSE_ADDRESS, on),
        (libc::SOL_SOCKET, libc::SO_REUSEPORT) => add(fd, REUSE_PORT, on),
        (libc::SOL_SOCKET, libc::SO_SNDBUF) => add(fd, OPTIONS | SEND_BUFFER, true),
        (libc::SOL_SOCKET, libc::SO_RCVBUF) => add(fd, OPTIONS | RECEIVE_BUFFER, true),
        (libc::SOL_SOCKET, name) if !crate::known::is_handed_on(name) => {
            if crate::known::is_rare(level, name) {
                add(fd, OPTIONS | RARE, true);
            }
        }
        _ if crate::known::is_rare(level, name) => add(fd, OPTIONS | RARE, true),
        _ => add(fd, OPTIONS, true),
    }
}

/// Whether an option may have been set that few programs set.
pub(crate) fn may_have_rare(fd: c_int) -> bool {
    has(fd, RARE).unwrap_or(true)
}

/// An owner for SIGIO was set.
pub(crate) fn owner_set(fd: c_int) {
    add(fd, OWNER, true);
}

/// Whether options may have been set.
pub(crate) fn may_have_options(fd: c_int) -> bool {
    has(fd, OPTIONS).unwrap_or(true)
}

/// Whether a buffer size was set, where that is known.
pub(crate) fn buffer_set(fd: c_int, name: c_int) -> Option<bool> {
    has(fd, if name == libc::SO_SNDBUF { SEND_BUFFER } else { RECEIVE_BUFFER })
}

/// Whether an owner may have been set.
pub(crate) fn may_have_owner(fd: c_int) -> bool {
    has(fd, OWNER).unwrap_or(true)
}

/// Whether `SO_REUSEADDR` is on, where that is known.
pub(crate) fn reuse_address(fd: c_int) -> Option<bool> {
    has(fd, REUSE_ADDRESS)
}

/// Whether `SO_REUSEPORT` is on, where that is known.
pub(crate) fn reuse_port(fd: c_int) -> Option<bool> {
    has(fd, REUSE_PORT)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number that no other test uses: the table is one for the process.
    fn number(number: c_int) -> c_int {
        60_000 + number
    }

    fn fresh_tcp(fd: c_int) {
        fresh(fd, libc::AF_INET, libc::SOCK_STREAM, 0);
    }

    /// All that is asked of a socket: options, owner, `SO_REUSEADDR`, `SO_REUSEPORT`, sizes for sending and receiving.
    fn asked(fd: c_int) -> (bool, bool, [Option<bool>; 4]) {
        let sizes = [buffer_set(fd, libc::SO_SNDBUF), buffer_set(fd, libc::SO_RCVBUF)];
        (may_have_options(fd), may_have_owner(fd), [reuse_address(fd), reuse_port(fd), sizes[0], sizes[1]])
    }

    const UNTOUCHED: (bool, bool, [Option<bool>; 4]) = (false, false, [Some(false); 4]);
    const UNKNOWN: (bool, bool, [Option<bool>; 4]) = (true, true, [None; 4]);

    #[test]
    fn an_unknown_number_may_be_anything() {
        for fd in [number(0), -1, c_int::try_from(FOLLOWED).unwrap(), c_int::MAX] {
            option_set(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, Some(1));
            owner_set(fd);
            assert_eq!(asked(fd), UNKNOWN, "{fd}");
            assert!(!is_tcp(fd) && !is_local(fd) && !is_datagram(fd), "{fd}");
        }
        let last = c_int::try_from(FOLLOWED - 1).unwrap();
        fresh_tcp(last);
        assert_eq!(asked(last), UNTOUCHED);
    }

    #[test]
    fn a_socket_is_what_it_was_made_as() {
        let fd = number(1);
        let flags = 0o2_004_000; // SOCK_CLOEXEC | SOCK_NONBLOCK
        for (domain, kind, protocol, expected) in [
            (libc::AF_INET, libc::SOCK_STREAM, 0, (true, false, false)),
            (libc::AF_INET6, libc::SOCK_STREAM | flags, libc::IPPROTO_TCP, (true, false, false)),
            (libc::AF_INET, libc::SOCK_STREAM, 132, (false, false, false)), // SCTP
            (libc::AF_INET, libc::SOCK_DGRAM | flags, 0, (false, false, true)),
            (libc::AF_UNIX, libc::SOCK_STREAM, 0, (false, true, false)),
            (libc::AF_UNIX, libc::SOCK_DGRAM, 0, (false, true, true)),
            (16, libc::SOCK_STREAM, 0, (false, false, false)), // netlink
        ] {
            fresh(fd, domain, kind, protocol);
            let found = (is_tcp(fd), is_local(fd), is_datagram(fd));
            assert_eq!(found, expected, "domain {domain}, kind {kind}, protocol {protocol}");
            assert_eq!(asked(fd), UNTOUCHED);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_backlog_is_remembered_beside_the_rest() {
        let fd = number(22);
        fresh_tcp(fd);
        made(fd, generation());
        for (given, kept) in [(7, Some(7)), (0, None), (-1, Some(4096)), (1 << 20, Some(4096))] {
            listens(fd, given);
            assert_eq!((backlog(fd), is_tcp(fd), asked(fd)), (kept, true, UNTOUCHED));
        }
        forget(fd);
        assert_eq!(backlog(fd), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn only_the_last_bound_socket_is_known_to_be_bound() {
        // Another test of this process may bind meanwhile, but none does.
        let (one, other) = (number(23), number(24));
        let file = 0x1234_5678_9abc_def0;
        assert_eq!(last_bound(one), None);
        fresh_tcp(one);
        bound(one, file);
        assert_eq!(
            (last_bound(one), last_bound(other), last_bound(-1)),
            (Some(0x1234_5678_0000_0000), None, None)
        );
        for stands_for_another in
            [&|| forget(one) as (), &|| fresh_tcp(one), &|| duplicated(other, one)] as [&dyn Fn(); 3]
        {
            bound(one, file);
            stands_for_another();
            assert_eq!(last_bound(one), None);
        }
        bound(one, file);
        bound(other, file);
        assert_eq!(last_bound(one), None);
    }

    #[test]
    fn each_option_is_remembered_as_itself() {
        let (level, on) = (libc::SOL_SOCKET, Some(1));
        for (index, (level, name, value, expected)) in [
            (
                level,
                libc::SO_REUSEADDR,
                on,
                (false, false, [Some(true), Some(false), Some(false), Some(false)]),
            ),
            (
                level,
                libc::SO_REUSEPORT,
                on,
                (false, false, [Some(false), Some(true), Some(false), Some(false)]),
            ),
            // What cannot be read may be anything but 0.
            (
                level,
                libc::SO_REUSEPORT,
                None,
                (false, false, [Some(false), Some(true), Some(false), Some(false)]),
            ),
            (level, libc::SO_SNDBUF, on, (true, false, [Some(false), Some(false), Some(true), Some(false)])),
            (level, libc::SO_RCVBUF, on, (true, false, [Some(false), Some(false), Some(false), Some(true)])),
            (level, libc::SO_KEEPALIVE, on, (true, false, [Some(false); 4])),
            (level, libc::SO_TYPE, on, UNTOUCHED),
            (libc::IPPROTO_TCP, libc::TCP_NODELAY, on, (true, false, [Some(false); 4])),
        ]
        .into_iter()
        .enumerate()
        {
            let fd = number(10 + c_int::try_from(index).unwrap());
            fresh_tcp(fd);
            option_set(fd, level, name, value);
            assert_eq!(asked(fd), expected, "level {level}, option {name}");
            assert!(is_tcp(fd));
            option_set(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, Some(0));
            option_set(fd, libc::SOL_SOCKET, libc::SO_REUSEPORT, Some(0));
            assert_eq!((reuse_address(fd), reuse_port(fd)), (Some(false), Some(false)));
        }
        fresh_tcp(number(2));
        owner_set(number(2));
        assert_eq!(asked(number(2)), (false, true, [Some(false); 4]));
    }

    #[test]
    fn behind_a_duplicate_may_be_anything() {
        let (first, second) = (number(3), number(4));
        fresh_tcp(first);
        fresh_tcp(second);
        #[cfg(target_os = "linux")]
        assert!(is_single(first));
        duplicated(first, second);
        #[cfg(target_os = "linux")]
        assert!(!is_single(first) && !is_single(second));
        assert_eq!(asked(first), UNTOUCHED);
        assert_eq!(asked(second), UNKNOWN);
        forget(first);
        assert_eq!(asked(first), UNKNOWN);
        // Made anew: nothing of the old one is left.
        fresh_tcp(second);
        assert_eq!(asked(second), UNTOUCHED);
        #[cfg(target_os = "linux")]
        assert!(is_single(second) && !is_single(number(5)));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_connection_is_ours_alone_until_somebody_may_have_a_copy() {
        // A fork of another test only makes this one start again.
        let (one, other) = (number(20), number(21));
        let alone = |share: &dyn Fn()| loop {
            let generation = generation();
            forget(one);
            made(one, generation);
            ended(one);
            let before = is_ended(one);
            if before {
                share();
                return is_ended(one);
            }
        };
        assert!(alone(&|| {}));
        for share in
            [&|| shared(one) as (), &|| duplicated(one, other), &spawns, &|| forget(one), &|| fresh_tcp(one)]
                as [&dyn Fn(); 5]
        {
            assert!(!alone(share));
        }
        // What was not made here is not ended by a shutdown.
        forget(one);
        ended(one);
        assert!(!is_ended(one) && !is_ended(-1));
        // A connection keeps what is known of its socket, and the next one is not ended.
        fresh_tcp(one);
        made(one, generation());
        ended(one);
        made(one, generation());
        assert!(is_tcp(one) && !is_ended(one));
    }
}
