//! TCP addresses as a program names them, and the part of the address space that agentfs rewrites.
use bincode::{Decode, Encode};
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address and a port as the program sees them. The family is that of its socket: an IPv4 peer on an IPv6
/// socket is `::ffff:127.0.0.1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Address, in the family of the socket.
    pub ip: IpAddr,
    /// Port, host byte order.
    pub port: u16,
}

/// An [`Endpoint`] as it travels in a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct WireEndpoint {
    /// 4 or 6.
    pub family: u8,
    /// Address bytes; an IPv4 address uses the first four.
    pub bytes: [u8; 16],
    /// Port, host byte order.
    pub port: u16,
}

/// What a listener is bound to, as a place in the instance's TCP port space. Only wildcards and
/// loopback addresses exist here; everything else stays with the real network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// `0.0.0.0`
    AnyV4,
    /// `[::]` with `IPV6_V6ONLY` off: both families.
    AnyDual,
    /// `[::]` with `IPV6_V6ONLY` on.
    AnyV6,
    /// An address of `127.0.0.0/8`.
    V4(Ipv4Addr),
    /// `[::1]`
    LoopbackV6,
}

// === impl Endpoint ===

impl Endpoint {
    /// The endpoint with an IPv4-mapped address converted to IPv4.
    pub fn canonical(self) -> Self {
        match self.ip {
            IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
                Some(v4) => Self { ip: IpAddr::V4(v4), port: self.port },
                None => self,
            },
            IpAddr::V4(_) => self,
        }
    }

    /// The endpoint as an IPv6 socket sees it: an IPv4 address becomes a mapped one.
    pub fn mapped(self) -> Self {
        match self.ip {
            IpAddr::V4(ip) => Self { ip: IpAddr::V6(ip.to_ipv6_mapped()), port: self.port },
            IpAddr::V6(_) => self,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ip {
            IpAddr::V4(ip) => write!(formatter, "{ip}:{}", self.port),
            IpAddr::V6(ip) => write!(formatter, "[{ip}]:{}", self.port),
        }
    }
}

// === impl WireEndpoint ===

impl From<Endpoint> for WireEndpoint {
    fn from(endpoint: Endpoint) -> Self {
        let mut bytes = [0; 16];
        let family = match endpoint.ip {
            IpAddr::V4(ip) => {
                for (to, from) in bytes.iter_mut().zip(ip.octets()) {
                    *to = from;
                }
                4
            }
            IpAddr::V6(ip) => {
                bytes = ip.octets();
                6
            }
        };
        Self { family, bytes, port: endpoint.port }
    }
}

impl From<WireEndpoint> for Endpoint {
    fn from(wire: WireEndpoint) -> Self {
        let ip = match (wire.family, wire.bytes) {
            (4, [a, b, c, d, ..]) => IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
            (_, bytes) => IpAddr::V6(Ipv6Addr::from(bytes)),
        };
        Self { ip, port: wire.port }
    }
}

// === impl Scope ===

impl Scope {
    /// The scope of binding `ip`, or `None` for an address that agentfs leaves to the network.
    /// `v6_only` is the socket's `IPV6_V6ONLY`, which only `[::]` depends on.
    pub fn of(ip: IpAddr, v6_only: bool) -> Option<Self> {
        match ip {
            IpAddr::V4(v4) if v4.is_unspecified() => Some(Self::AnyV4),
            IpAddr::V4(v4) if v4.is_loopback() => Some(Self::V4(v4)),
            IpAddr::V4(_) => None,
            IpAddr::V6(v6) if v6.is_unspecified() => Some(if v6_only { Self::AnyV6 } else { Self::AnyDual }),
            IpAddr::V6(v6) if v6.is_loopback() => Some(Self::LoopbackV6),
            IpAddr::V6(v6) => Self::of(IpAddr::V4(v6.to_ipv4_mapped()?), v6_only),
        }
    }

    /// The address that a program bound, without the mapping of an IPv6 socket.
    pub fn ip(self) -> IpAddr {
        match self {
            Self::AnyV4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Self::AnyDual | Self::AnyV6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            Self::V4(ip) => IpAddr::V4(ip),
            Self::LoopbackV6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
        }
    }

    /// Whether it is a wildcard.
    pub fn is_any(self) -> bool {
        matches!(self, Self::AnyV4 | Self::AnyDual | Self::AnyV6)
    }

    /// Whether only an IPv6 socket can be bound to it.
    pub fn is_v6(self) -> bool {
        matches!(self, Self::AnyDual | Self::AnyV6 | Self::LoopbackV6)
    }

    /// Whether listeners on the two scopes conflict on one port, as in TCP without `SO_REUSEPORT`.
    pub fn conflicts(self, other: Self) -> bool {
        let v4 = |scope: Self| matches!(scope, Self::AnyV4 | Self::AnyDual | Self::V4(_));
        let v6 = |scope: Self| matches!(scope, Self::AnyDual | Self::AnyV6 | Self::LoopbackV6);
        let overlap = (v4(self) && v4(other)) || (v6(self) && v6(other));
        self == other || (overlap && (self.is_any() || other.is_any()))
    }

    /// Whether a listener on this scope is reached by connecting to `ip`.
    pub fn reached_by(self, ip: IpAddr) -> bool {
        match (self, ip) {
            (Self::AnyV4 | Self::AnyDual, IpAddr::V4(_)) | (Self::AnyDual | Self::AnyV6, IpAddr::V6(_)) => {
                true
            }
            (Self::V4(own), IpAddr::V4(ip)) => own == ip,
            (Self::LoopbackV6, IpAddr::V6(ip)) => ip.is_loopback(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(text: &str, v6_only: bool) -> Option<Scope> {
        Scope::of(text.parse().unwrap(), v6_only)
    }

    #[test]
    fn only_wildcards_and_loopback_are_rewritten() {
        assert_eq!(scope("0.0.0.0", false), Some(Scope::AnyV4));
        assert_eq!(scope("::", false), Some(Scope::AnyDual));
        assert_eq!(scope("::", true), Some(Scope::AnyV6));
        assert_eq!(scope("127.0.0.1", false), Some(Scope::V4(Ipv4Addr::LOCALHOST)));
        assert_eq!(scope("::ffff:127.0.0.1", false), Some(Scope::V4(Ipv4Addr::LOCALHOST)));
        assert_eq!(scope("::ffff:0.0.0.0", false), Some(Scope::AnyV4));
        assert_eq!(scope("::1", false), Some(Scope::LoopbackV6));
        for other in ["10.0.0.1", "192.168.1.7", "fe80::1", "2001:db8::1", "::ffff:10.0.0.1"] {
            assert_eq!(scope(other, false), None, "{other}");
        }
    }

    /// Scope, its address, whether it is a wildcard, whether it needs an IPv6 socket, and what reaches it of
    /// `127.0.0.1`, `127.0.0.2` and `[::1]`.
    const SCOPES: [(Scope, &str, bool, bool, [bool; 3]); 6] = [
        (Scope::AnyV4, "0.0.0.0", true, false, [true, true, false]),
        (Scope::AnyDual, "::", true, true, [true, true, true]),
        (Scope::AnyV6, "::", true, true, [false, false, true]),
        (Scope::V4(Ipv4Addr::LOCALHOST), "127.0.0.1", false, false, [true, false, false]),
        (Scope::V4(Ipv4Addr::new(127, 0, 0, 2)), "127.0.0.2", false, false, [false, true, false]),
        (Scope::LoopbackV6, "::1", false, true, [false, false, true]),
    ];

    #[test]
    fn each_scope_is_reached_as_in_tcp() {
        for (scope, ip, any, v6, reached) in SCOPES {
            assert_eq!((scope.ip().to_string().as_str(), scope.is_any(), scope.is_v6()), (ip, any, v6));
            let by = ["127.0.0.1", "127.0.0.2", "::1"].map(|ip| scope.reached_by(ip.parse().unwrap()));
            assert_eq!(by, reached, "{scope:?}");
        }
        assert!(!Scope::LoopbackV6.reached_by("fe80::1".parse().unwrap()));
    }

    /// Two conflict that are the same, or of which one is a wildcard that takes the other's clients.
    #[test]
    fn each_pair_of_scopes_conflicts_or_not() {
        for (one, _, one_any, _, by_one) in SCOPES {
            for (other, _, other_any, _, by_other) in SCOPES {
                let shared = by_one.iter().zip(by_other).any(|(one, other)| *one && other);
                let expected = one == other || (shared && (one_any || other_any));
                assert_eq!(one.conflicts(other), expected, "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn endpoints_change_their_family_and_read_back() {
        for (text, canonical, mapped) in [
            ("127.0.0.1:80", "127.0.0.1:80", "[::ffff:127.0.0.1]:80"),
            ("[::ffff:10.1.2.3]:1", "10.1.2.3:1", "[::ffff:10.1.2.3]:1"),
            ("[2001:db8::1]:65535", "[2001:db8::1]:65535", "[2001:db8::1]:65535"),
        ] {
            let address: core::net::SocketAddr = text.parse().unwrap();
            let endpoint = Endpoint { ip: address.ip(), port: address.port() };
            assert_eq!(endpoint.to_string(), text);
            assert_eq!(
                (endpoint.canonical().to_string(), endpoint.mapped().to_string()),
                (canonical.into(), mapped.into())
            );
            let wire = WireEndpoint::from(endpoint);
            assert_eq!((wire.family, wire.port), (if address.is_ipv4() { 4 } else { 6 }, address.port()));
            assert_eq!(Endpoint::from(wire), endpoint);
        }
    }

    #[test]
    fn conflicts_follow_tcp() {
        let lo = Scope::V4(Ipv4Addr::LOCALHOST);
        let lo2 = Scope::V4(Ipv4Addr::new(127, 0, 0, 2));
        assert!(lo.conflicts(lo) && lo.conflicts(Scope::AnyV4) && Scope::AnyDual.conflicts(lo));
        assert!(!lo.conflicts(lo2) && !lo.conflicts(Scope::LoopbackV6) && !lo.conflicts(Scope::AnyV6));
        assert!(!Scope::AnyV4.conflicts(Scope::AnyV6) && Scope::AnyV4.conflicts(Scope::AnyDual));
        assert!(Scope::AnyV6.conflicts(Scope::LoopbackV6) && !Scope::AnyV4.conflicts(Scope::LoopbackV6));
    }
}
