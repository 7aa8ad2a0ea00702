//! TCP, IP and IPv6 options of rewritten sockets: a Unix socket has none, so their values are kept here.
//!
//! A lossy cache, not a truth: fixed slots keyed by the socket's inode (which survives dup and fork, and is
//! not used again for four billion sockets). What was forgotten, or set before an exec, reads as the
//! default, and nothing depends on it. No lock: a slot is one atomic key and one atomic value.
use crate::sys;
use core::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use libc::c_int;

/// Slots; 16 KiB of zeroed memory, touched only by programs that set such options.
const SLOTS: usize = 1024;
/// Places that one key may be in.
const PLACES: usize = 8;

struct Slot {
    key: AtomicU64,
    value: AtomicI32,
}

static TABLE: [Slot; SLOTS] = [const { Slot { key: AtomicU64::new(0), value: AtomicI32::new(0) } }; SLOTS];

/// Key of the mark that says which `SOL_SOCKET` options a listener hands on, and that it is known.
pub(crate) const INHERITED: (c_int, c_int) = (0x7fff, 1);

/// Key under which is kept how a process has shut down a connection: bit 0 for reading, bit 1 for writing.
#[cfg(target_os = "linux")]
const SHUT_DOWN: (c_int, c_int) = (0x7fff, 2);

/// Bit of that mark: the listener has options of TCP or IP that are not the default.
const PROTOCOL_OPTIONS: c_int = 1 << 20;

/// An option that a program may set, with its default.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    /// Level.
    pub(crate) level: c_int,
    /// Name.
    pub(crate) name: c_int,
    /// Value that a fresh socket has.
    pub(crate) default: c_int,
}

const fn known(level: c_int, name: c_int, default: c_int) -> Known {
    Known { level, name, default }
}

/// Every option that is answered on a rewritten socket (tcp(7), ip(7), ipv6(7)), and its default. Those
/// with `true` are looked up on the TCP socket when it is rewritten.
#[cfg(target_os = "linux")]
const OPTIONS: &[(Known, bool)] = {
    use libc::{IPPROTO_IP as IP, IPPROTO_IPV6 as IP6, IPPROTO_TCP as TCP};
    &[
        (known(TCP, libc::TCP_NODELAY, 0), true),
        (known(TCP, libc::TCP_KEEPIDLE, 7200), true),
        (known(TCP, libc::TCP_KEEPINTVL, 75), true),
        (known(TCP, libc::TCP_KEEPCNT, 9), true),
        (known(TCP, libc::TCP_USER_TIMEOUT, 0), true),
        (known(TCP, libc::TCP_DEFER_ACCEPT, 0), true),
        (known(TCP, libc::TCP_CORK, 0), true),
        (known(TCP, libc::TCP_LINGER2, 60), false),
        (known(TCP, libc::TCP_SYNCNT, 6), true),
        (known(TCP, libc::TCP_WINDOW_CLAMP, 0), false),
        (known(TCP, libc::TCP_MAXSEG, 32741), false),
        (known(TCP, libc::TCP_QUICKACK, 1), false),
        (known(TCP, libc::TCP_FASTOPEN, 0), true),
        (known(TCP, libc::TCP_FASTOPEN_CONNECT, 0), false),
        (known(TCP, libc::TCP_FASTOPEN_NO_COOKIE, 0), false),
        (known(TCP, libc::TCP_NOTSENT_LOWAT, 0), true),
        (known(TCP, libc::TCP_THIN_LINEAR_TIMEOUTS, 0), false),
        (known(TCP, libc::TCP_THIN_DUPACK, 0), false),
        (known(TCP, libc::TCP_SAVE_SYN, 0), false),
        (known(TCP, libc::TCP_TIMESTAMP, 0), false),
        (known(TCP, libc::TCP_INQ, 0), false),
        (known(IP, libc::IP_TOS, 0), true),
        (known(IP, libc::IP_TTL, 64), true),
        (known(IP, libc::IP_MTU, 65535), false),
        (known(IP, libc::IP_MTU_DISCOVER, 1), false),
        (known(IP, libc::IP_RECVERR, 0), false),
        (known(IP, libc::IP_PKTINFO, 0), false),
        (known(IP, libc::IP_RECVTOS, 0), false),
        (known(IP, libc::IP_RECVTTL, 0), false),
        (known(IP, libc::IP_FREEBIND, 0), true),
        (known(IP, libc::IP_TRANSPARENT, 0), true),
        (known(IP, libc::IP_BIND_ADDRESS_NO_PORT, 0), false),
        (known(IP, libc::IP_MINTTL, 0), false),
        (known(IP, libc::IP_MULTICAST_TTL, 1), false),
        (known(IP, libc::IP_MULTICAST_LOOP, 1), false),
        (known(IP6, libc::IPV6_V6ONLY, 0), true),
        (known(IP6, libc::IPV6_UNICAST_HOPS, 64), false),
        (known(IP6, libc::IPV6_MULTICAST_HOPS, 1), false),
        (known(IP6, libc::IPV6_MULTICAST_LOOP, 1), false),
        (known(IP6, libc::IPV6_TCLASS, 0), true),
        (known(IP6, libc::IPV6_MTU, 65536), false),
        (known(IP6, libc::IPV6_TRANSPARENT, 0), true),
        (known(IP6, libc::IPV6_RECVERR, 0), false),
        (known(IP6, libc::IPV6_RECVPKTINFO, 0), false),
        (known(IP6, libc::IPV6_RECVTCLASS, 0), false),
        (known(IP6, libc::IPV6_RECVHOPLIMIT, 0), false),
    ]
};

/// The same for macOS (tcp(4), ip(4), ip6(4)).
#[cfg(target_os = "macos")]
const OPTIONS: &[(Known, bool)] = {
    use libc::{IPPROTO_IP as IP, IPPROTO_IPV6 as IP6, IPPROTO_TCP as TCP};
    &[
        (known(TCP, libc::TCP_NODELAY, 0), true),
        (known(TCP, libc::TCP_NOPUSH, 0), true),
        (known(TCP, libc::TCP_KEEPALIVE, 7200), true),
        (known(TCP, libc::TCP_KEEPINTVL, 75), true),
        (known(TCP, libc::TCP_KEEPCNT, 8), true),
        (known(TCP, libc::TCP_MAXSEG, 16344), false),
        (known(TCP, libc::TCP_FASTOPEN, 0), false),
        (known(IP, libc::IP_TOS, 0), true),
        (known(IP, libc::IP_TTL, 64), true),
        (known(IP6, libc::IPV6_V6ONLY, 0), true),
        (known(IP6, libc::IPV6_UNICAST_HOPS, 64), false),
        (known(IP6, libc::IPV6_TCLASS, 0), true),
    ]
};

/// `SOL_SOCKET` options that TCP hands from a listener to what it accepts, or that survive a rewrite.
const HANDED_ON: &[c_int] = &[
    libc::SO_KEEPALIVE,
    libc::SO_LINGER,
    libc::SO_RCVTIMEO,
    libc::SO_SNDTIMEO,
    libc::SO_OOBINLINE,
    libc::SO_RCVBUF,
    libc::SO_SNDBUF,
    #[cfg(target_os = "linux")]
    libc::SO_MARK,
    #[cfg(target_os = "linux")]
    libc::SO_BUSY_POLL,
    #[cfg(target_os = "linux")]
    libc::SO_RCVLOWAT,
    // How libuv, Go and Rust keep SIGPIPE away on macOS, which has no MSG_NOSIGNAL there.
    #[cfg(target_os = "macos")]
    libc::SO_NOSIGPIPE,
];

/// The known option of this level and name.
pub(crate) fn find(level: c_int, name: c_int) -> Option<Known> {
    OPTIONS.iter().map(|(known, _)| *known).find(|known| known.level == level && known.name == name)
}

fn key(inode: u64, (level, name): (c_int, c_int)) -> u64 {
    let option = (u64::from(level.unsigned_abs()) << 16) | u64::from(name.unsigned_abs());
    // The inode has 32 bits in practice; key 0 means an empty slot, and no socket has inode 0.
    (inode << 32) ^ (inode >> 32) ^ option
}

fn places(key: u64) -> impl Iterator<Item = &'static Slot> {
    let start = usize::try_from(key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48).unwrap_or(0);
    (0..PLACES).filter_map(move |place| TABLE.get((start + place) % SLOTS))
}

/// The value kept for a socket, or `None` where none is.
pub(crate) fn get(inode: u64, option: (c_int, c_int)) -> Option<c_int> {
    let key = key(inode, option);
    let slot = places(key).find(|slot| slot.key.load(Ordering::Acquire) == key)?;
    let value = slot.value.load(Ordering::Acquire);
    // Another thread may have given the slot to another key meanwhile.
    (slot.key.load(Ordering::Acquire) == key).then_some(value)
}

/// Keeps a value for a socket.
pub(crate) fn set(inode: u64, option: (c_int, c_int), value: c_int) {
    let key = key(inode, option);
    let mut oldest = None;
    for slot in places(key) {
        let present = slot.key.load(Ordering::Acquire);
        if present == key {
            slot.value.store(value, Ordering::Release);
            return;
        }
        if present == 0 {
            oldest = Some(slot);
            break;
        }
        // With all places taken the socket with the lowest inode, the oldest, gives way.
        if oldest.is_none_or(|old: &Slot| present < old.key.load(Ordering::Relaxed)) {
            oldest = Some(slot);
        }
    }
    if let Some(slot) = oldest {
        // Nobody's while the value changes.
        slot.key.store(0, Ordering::Release);
        slot.value.store(value, Ordering::Release);
        slot.key.store(key, Ordering::Release);
    }
}

/// Carries what a program has set on its TCP socket over to the Unix socket that replaces it; whether that was how much
/// it may send ahead.
pub(crate) fn carry(from: c_int, to: c_int, v6: bool) -> bool {
    let reuse_address = crate::hints::reuse_address(from).unwrap_or_else(|| {
        sys::option(from, libc::SOL_SOCKET, libc::SO_REUSEADDR).is_ok_and(|value| value != 0)
    });
    if reuse_address {
        let _ = sys::set_option(to, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1);
    }
    if !crate::hints::may_have_options(from) {
        return false;
    }
    let inode = sys::inode(to).unwrap_or(0);
    let mut handed_on = 1;
    let mut sized = false;
    for (bit, name) in HANDED_ON.iter().enumerate() {
        if is_set(from, *name) {
            copy(from, to, *name);
            handed_on |= 2 << bit;
            sized |= *name == libc::SO_SNDBUF;
        }
    }
    for (known, _) in OPTIONS.iter().filter(|(_, carried)| *carried) {
        if known.level == libc::IPPROTO_IPV6 && !v6 {
            continue;
        }
        if let Ok(value) = sys::option(from, known.level, known.name)
            && value != known.default
        {
            set(inode, (known.level, known.name), value);
            handed_on |= PROTOCOL_OPTIONS;
        }
    }
    #[cfg(target_os = "linux")]
    if let words = sys::text_of(from, libc::IPPROTO_TCP, libc::TCP_CONGESTION)
        && words != usual_text()
    {
        keep_text(inode, words);
        handed_on |= PROTOCOL_OPTIONS;
    }
    set(inode, INHERITED, handed_on);
    sized
}

/// The congestion control's name that sockets start with, asked once.
pub(crate) fn usual_text() -> [c_int; 4] {
    static USUAL: [AtomicI32; 4] = [const { AtomicI32::new(0) }; 4];
    let mut words = [0; 4];
    for (to, from) in words.iter_mut().zip(&USUAL) {
        *to = from.load(Ordering::Relaxed);
    }
    if words == [0; 4]
        && let Ok(socket) = sys::tcp_socket(false)
    {
        words = sys::text_of(socket.number(), libc::IPPROTO_TCP, sys::TEXT_OPTION);
        for (to, from) in USUAL.iter().zip(words) {
            to.store(from, Ordering::Relaxed);
        }
    }
    words
}

/// Carries what is kept for a rewritten socket back to a TCP socket.
pub(crate) fn carry_back(from: c_int, to: c_int, v6: bool) {
    let inode = sys::inode(from).unwrap_or(0);
    for (bit, name) in HANDED_ON.iter().enumerate() {
        if get(inode, INHERITED).is_some_and(|bits| bits & (2 << bit) != 0) {
            copy(from, to, *name);
        }
    }
    sys::copy_option(from, to, libc::SOL_SOCKET, libc::SO_REUSEADDR);
    for (known, _) in OPTIONS {
        if known.level == libc::IPPROTO_IPV6 && !v6 {
            continue;
        }
        if let Some(value) = get(inode, (known.level, known.name)) {
            let _ = sys::set_option(to, known.level, known.name, value);
        }
    }
}

/// Carries what is kept for a rewritten socket over to another rewritten one; see [`carry`].
pub(crate) fn carry_ours(from: c_int, to: c_int) -> bool {
    let sized = inherit(from, to);
    if let (Some(from), Some(to)) = (sys::inode(from), sys::inode(to)) {
        set(to, INHERITED, get(from, INHERITED).unwrap_or(1));
    }
    sized
}

/// `SO_SNDTIMEO` as it is.
pub(crate) fn send_timeout(fd: c_int) -> libc::timeval {
    let mut value = libc::timeval { tv_sec: 0, tv_usec: 0 };
    let mut length = sys::socklen(size_of::<libc::timeval>());
    let pointer = (&raw mut value).cast::<libc::c_void>();
    let _ = sys::get_option(fd, libc::SOL_SOCKET, libc::SO_SNDTIMEO, pointer, &mut length);
    value
}

/// Sets `SO_SNDTIMEO`, which also bounds connect on a Unix socket (socket(7)).
pub(crate) fn set_send_timeout(fd: c_int, value: libc::timeval) {
    let pointer = (&raw const value).cast::<libc::c_void>();
    let length = sys::socklen(size_of::<libc::timeval>());
    let _ = sys::set_option_raw(fd, libc::SOL_SOCKET, libc::SO_SNDTIMEO, pointer, length);
}

/// Sets both `SO_SNDTIMEO` and `SO_RCVTIMEO`.
#[cfg(target_os = "linux")]
pub(crate) fn set_timeouts(fd: c_int, value: libc::timeval) {
    set_send_timeout(fd, value);
    let pointer = (&raw const value).cast::<libc::c_void>();
    let length = sys::socklen(size_of::<libc::timeval>());
    let _ = sys::set_option_raw(fd, libc::SOL_SOCKET, libc::SO_RCVTIMEO, pointer, length);
}

/// Milliseconds as a timeval.
pub(crate) fn milliseconds(milliseconds: u32) -> libc::timeval {
    let seconds = i32::try_from(milliseconds / 1000).unwrap_or(0);
    let microseconds = i32::try_from(milliseconds % 1000 * 1000).unwrap_or(0);
    libc::timeval { tv_sec: seconds.into(), tv_usec: microseconds as libc::suseconds_t }
}

/// Gives an accepted socket what its listener hands on; see [`carry`].
pub(crate) fn inherit(listener: c_int, accepted: c_int) -> bool {
    let inode = sys::inode(listener).unwrap_or(0);
    let (protocol, sized) = inherit_socket_options(inode, listener, accepted);
    if protocol && let Some(to) = sys::inode(accepted) {
        for (known, value) in kept(inode) {
            set(to, (known.level, known.name), value);
        }
        if let Some(words) = text(inode) {
            keep_text(to, words);
        }
    }
    sized
}

/// The same for a TCP connection that was handed over, which has all options itself.
pub(crate) fn inherit_as_tcp(listener: c_int, accepted: c_int) {
    let inode = sys::inode(listener).unwrap_or(0);
    if inherit_socket_options(inode, listener, accepted).0 {
        for (known, value) in kept(inode) {
            // Some mean nothing on a connection, or on one of this family.
            let _ = sys::set_option(accepted, known.level, known.name, value);
        }
    }
}

/// Options of TCP and IP that the program has set on a rewritten socket.
fn kept(inode: u64) -> impl Iterator<Item = (Known, c_int)> {
    OPTIONS.iter().filter_map(move |(known, _)| Some((*known, get(inode, (known.level, known.name))?)))
}

/// Hands on the options of `SOL_SOCKET`; whether there are any of TCP or IP, and whether the send buffer was among them.
fn inherit_socket_options(inode: u64, listener: c_int, accepted: c_int) -> (bool, bool) {
    let handed_on = match get(inode, INHERITED) {
        Some(bits) => bits,
        // A listener that came over exec or from another process: look once.
        None => {
            let mut bits = 1;
            for (bit, name) in HANDED_ON.iter().enumerate() {
                if is_set(listener, *name) {
                    bits |= 2 << bit;
                }
            }
            set(inode, INHERITED, bits);
            bits
        }
    };
    if handed_on == 1 {
        return (false, false);
    }
    let mut sized = false;
    for (bit, name) in HANDED_ON.iter().enumerate() {
        if handed_on & (2 << bit) != 0 {
            copy(listener, accepted, *name);
            sized |= *name == libc::SO_SNDBUF;
        }
    }
    (handed_on & PROTOCOL_OPTIONS != 0, sized)
}

/// Level under which the words of the congestion control's name are kept.
const TEXT: c_int = 0x7ffe;

/// Keeps the congestion control's name, 16 bytes.
pub(crate) fn keep_text(inode: u64, words: [c_int; 4]) {
    for (index, word) in (0..).zip(words) {
        set(inode, (TEXT, index), word);
    }
}

/// The congestion control's name that a program has set.
pub(crate) fn text(inode: u64) -> Option<[c_int; 4]> {
    let mut words = [0; 4];
    for (index, word) in (0..).zip(&mut words) {
        *word = get(inode, (TEXT, index))?;
    }
    Some(words)
}

/// The bytes of such a name.
pub(crate) fn bytes_of(words: &[c_int; 4]) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(words.iter().flat_map(|word| word.to_ne_bytes())) {
        *to = from;
    }
    bytes
}

/// Keeps the value of an option of TCP or IP that a program sets on a rewritten socket.
pub(crate) fn keep(inode: u64, known: Known, value: c_int) {
    set(inode, (known.level, known.name), value);
    set(inode, INHERITED, get(inode, INHERITED).unwrap_or(1) | PROTOCOL_OPTIONS);
}

/// Remembers how a connection was shut down.
#[cfg(target_os = "linux")]
pub(crate) fn note_shutdown(fd: c_int, how: c_int) {
    let Some(inode) = sys::inode(fd) else { return };
    let bits = match how {
        libc::SHUT_RD => 1,
        libc::SHUT_WR => 2,
        _ => 3,
    };
    set(inode, SHUT_DOWN, get(inode, SHUT_DOWN).unwrap_or(0) | bits);
}

/// Whether this process has shut a connection down for reading, and for writing.
#[cfg(target_os = "linux")]
pub(crate) fn shut_down(fd: c_int) -> (bool, bool) {
    let bits = sys::inode(fd).and_then(|inode| get(inode, SHUT_DOWN)).unwrap_or(0);
    (bits & 1 != 0, bits & 2 != 0)
}

/// Whether this is the first data for a peer that has closed.
#[cfg(target_os = "linux")]
pub(crate) fn is_first_late(fd: c_int) -> bool {
    const LATE: c_int = 4;
    let Some(inode) = sys::inode(fd) else { return false };
    let bits = get(inode, SHUT_DOWN).unwrap_or(0);
    set(inode, SHUT_DOWN, bits | LATE);
    bits & LATE == 0
}

/// Remembers that a listener hands on one more option.
pub(crate) fn note_set(fd: c_int, name: c_int) {
    let Some(bit) = HANDED_ON.iter().position(|own| *own == name) else { return };
    let Some(inode) = sys::inode(fd) else { return };
    if let Some(bits) = get(inode, INHERITED) {
        set(inode, INHERITED, bits | (2 << bit));
    }
}

/// Whether an option is one that a listener hands on.
pub(crate) fn is_handed_on(name: c_int) -> bool {
    HANDED_ON.contains(&name)
}

fn is_set(fd: c_int, name: c_int) -> bool {
    if name == libc::SO_RCVBUF || name == libc::SO_SNDBUF {
        // A size that was asked for may be the one that sockets start with.
        return crate::hints::buffer_set(fd, name).unwrap_or_else(|| crate::room::is_set(fd, name));
    }
    if name == libc::SO_RCVLOWAT {
        return sys::option(fd, libc::SOL_SOCKET, name).is_ok_and(|value| value > 1);
    }
    let mut value = [0_u64; 2];
    let mut length = sys::socklen(size_of_val(&value));
    let pointer = value.as_mut_ptr().cast::<libc::c_void>();
    sys::get_option(fd, libc::SOL_SOCKET, name, pointer, &mut length).is_ok() && value != [0, 0]
}

fn copy(from: c_int, to: c_int, name: c_int) {
    if name != libc::SO_RCVBUF && name != libc::SO_SNDBUF {
        sys::copy_option(from, to, libc::SOL_SOCKET, name);
        return;
    }
    if let Ok(size) = sys::option(from, libc::SOL_SOCKET, name) {
        let _ = sys::set_option(to, libc::SOL_SOCKET, name, sys::buffer_request(size));
    }
}
