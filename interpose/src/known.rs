//! The options of TCP that a rewritten socket answers, and the options that accepted sockets inherit from a listener.
//! Only lists: nothing is asked or kept here.
use libc::c_int;

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

/// Every option that a rewritten socket answers (tcp(7), ip(7), ipv6(7)), with its default. `true`: the value is
/// read from the TCP socket when it is rewritten.
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
    // libuv, Go and Rust use it against SIGPIPE: macOS has no MSG_NOSIGNAL.
    #[cfg(target_os = "macos")]
    libc::SO_NOSIGPIPE,
];

/// `SOL_SOCKET` options that few programs set. A Unix socket takes them, and they matter to nobody but getsockopt(2).
#[cfg(target_os = "linux")]
const RARE: &[c_int] =
    &[libc::SO_BROADCAST, libc::SO_DONTROUTE, libc::SO_PRIORITY, libc::SO_TIMESTAMP, libc::SO_BINDTODEVICE];
/// macOS: none is known that matters.
#[cfg(target_os = "macos")]
const RARE: &[c_int] = &[];

/// The options of `SOL_SOCKET` that few programs set, and that survive a rewrite.
pub(crate) fn rare_socket_options() -> impl Iterator<Item = c_int> {
    RARE.iter().copied()
}

/// Whether few programs set an option, so that it is only looked up where one of them was set.
pub(crate) fn is_rare(level: c_int, name: c_int) -> bool {
    if level == libc::SOL_SOCKET {
        return RARE.contains(&name);
    }
    OPTIONS.iter().any(|(known, carried)| !carried && (known.level, known.name) == (level, name))
}

/// The known option of this level and name.
pub(crate) fn find(level: c_int, name: c_int) -> Option<Known> {
    protocol_options().find(|known| known.level == level && known.name == name)
}

/// Whether an option is one that a listener hands on.
pub(crate) fn is_handed_on(name: c_int) -> bool {
    HANDED_ON.contains(&name)
}

/// Options of TCP and IP that a rewritten socket answers.
pub(crate) fn protocol_options() -> impl Iterator<Item = Known> {
    OPTIONS.iter().map(|(known, _)| *known)
}

/// Those of them that are looked up when a socket is rewritten.
pub(crate) fn carried_options() -> impl Iterator<Item = Known> {
    OPTIONS.iter().filter(|(_, carried)| *carried).map(|(known, _)| *known)
}

/// What a listener hands on: the options of `SOL_SOCKET` that were set, and whether there are any of TCP or IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HandedOn(c_int);

// === impl HandedOn ===

impl HandedOn {
    /// Everything has its default.
    pub(crate) const NOTHING: Self = Self(0);
    /// There are options of TCP or IP. The bits below stand for the places of [`HANDED_ON`].
    const PROTOCOL: c_int = 1 << 30;

    /// The set that [`HandedOn::bits`] gave.
    pub(crate) const fn from_bits(bits: c_int) -> Self {
        Self(bits)
    }

    /// The set as a number.
    pub(crate) const fn bits(self) -> c_int {
        self.0
    }

    /// The set with one more option of `SOL_SOCKET`. One that no listener hands on changes nothing.
    pub(crate) fn with(self, name: c_int) -> Self {
        HANDED_ON.iter().position(|own| *own == name).map_or(self, |place| Self(self.0 | (1 << place)))
    }

    /// The set with options of TCP or IP.
    pub(crate) const fn with_protocol(self) -> Self {
        Self(self.0 | Self::PROTOCOL)
    }

    /// Whether there are options of TCP or IP.
    pub(crate) const fn has_protocol(self) -> bool {
        self.0 & Self::PROTOCOL != 0
    }

    /// The options of `SOL_SOCKET` in the set.
    pub(crate) fn names(self) -> impl Iterator<Item = c_int> {
        let places = HANDED_ON.iter().enumerate();
        places.filter(move |(place, _)| self.0 & (1 << place) != 0).map(|(_, name)| *name)
    }

    /// Every option of `SOL_SOCKET` that a listener hands on.
    pub(crate) fn all() -> impl Iterator<Item = c_int> {
        HANDED_ON.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_handed_on_is_a_set() {
        let none = HandedOn::NOTHING;
        assert_eq!((none.names().count(), none.has_protocol()), (0, false));
        let linger = none.with(libc::SO_LINGER).with(libc::SO_LINGER);
        assert!(linger.names().eq([libc::SO_LINGER]));
        let both = linger.with(libc::SO_KEEPALIVE).with_protocol();
        assert!(both.has_protocol() && both.names().eq([libc::SO_KEEPALIVE, libc::SO_LINGER]));
        assert_eq!(HandedOn::from_bits(both.bits()), both);
        let all = HandedOn::all().fold(none, HandedOn::with);
        assert!(all.names().eq(HandedOn::all()) && !all.has_protocol());
    }

    #[test]
    fn what_no_listener_hands_on_changes_nothing() {
        assert_eq!(HandedOn::NOTHING.with(libc::SO_REUSEADDR), HandedOn::NOTHING);
        assert!(!is_handed_on(libc::SO_REUSEADDR) && is_handed_on(libc::SO_LINGER));
    }

    #[test]
    fn an_option_is_known_by_level_and_name() {
        let nodelay = find(libc::IPPROTO_TCP, libc::TCP_NODELAY).unwrap();
        assert_eq!((nodelay.level, nodelay.name, nodelay.default), (libc::IPPROTO_TCP, libc::TCP_NODELAY, 0));
        assert!(find(libc::IPPROTO_TCP, -1).is_none() && find(-1, libc::TCP_NODELAY).is_none());
    }

    #[test]
    fn what_is_rare_is_not_looked_up_otherwise() {
        assert!(is_rare(libc::SOL_SOCKET, libc::SO_BROADCAST) || cfg!(target_os = "macos"));
        assert!(
            !is_rare(libc::SOL_SOCKET, libc::SO_KEEPALIVE) && is_rare(libc::IPPROTO_TCP, libc::TCP_MAXSEG)
        );
        assert!(carried_options().all(|known| !is_rare(known.level, known.name)));
        assert!(rare_socket_options().all(|name| !is_handed_on(name)));
    }

    #[test]
    fn no_option_is_listed_twice() {
        let mut names: Vec<_> = protocol_options().map(|known| (known.level, known.name)).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(carried_options().count() < count);
    }
}
