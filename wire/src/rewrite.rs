//! The decisions about a call of a program, the same for the library and for the engine. Pure: addresses and facts in,
//! what to do out; no system call, no environment, no clock.
use crate::address::{Endpoint, Scope};
use crate::barred::Bar;
use crate::notice::Why;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// errno of a second bind: the number is the same on Linux and macOS.
const EINVAL: i32 = 22;

/// What to do with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<T> {
    /// The call goes through unchanged.
    Pass(Why),
    /// The call is carried out on a socket of the instance.
    Replace(T),
    /// The call fails with this errno, as TCP would have it.
    Refuse(i32),
}

/// What is known about a socket before bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// A TCP socket that is not bound.
    FreshTcp {
        /// Whether it is an IPv6 socket.
        v6: bool,
        /// Its `IPV6_V6ONLY`.
        v6_only: bool,
    },
    /// A socket that was rewritten before.
    Ours,
    /// Anything else.
    Other,
}

/// bind(2): which scope to occupy.
pub fn bind(endpoint: Endpoint, socket: Before, covered: bool) -> Action<Scope> {
    match socket {
        Before::Ours => Action::Refuse(EINVAL),
        Before::Other => Action::Pass(Why::NotTcp),
        Before::FreshTcp { v6, v6_only } => {
            // If address and socket do not match, the kernel refuses.
            if v6 != matches!(endpoint.ip, IpAddr::V6(_)) {
                return Action::Pass(Why::NotTcp);
            }
            match Scope::of(endpoint.ip, v6_only) {
                None => Action::Pass(Why::OtherAddress),
                Some(Scope::AnyV4 | Scope::V4(_)) if v6 && v6_only => Action::Pass(Why::OtherAddress),
                Some(_) if !covered => Action::Pass(Why::Excluded),
                Some(scope) => Action::Replace(scope),
            }
        }
    }
}

/// Where a connect goes: a loopback address, canonical, or `None` for another host.
pub fn destination(endpoint: Endpoint) -> Option<Endpoint> {
    let endpoint = endpoint.canonical();
    let ip = match endpoint.ip {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V4(ip) if ip.is_loopback() => endpoint.ip,
        IpAddr::V6(ip) if ip.is_unspecified() || ip.is_loopback() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        _ => return None,
    };
    (endpoint.port != 0).then_some(Endpoint { ip, port: endpoint.port })
}

/// An address that may be one of the host's own. A connect to it reaches wildcard listeners of this host, and so those
/// of the instance. `None` for addresses that [`destination`] knows, and for IPv6: the names of clients have no room.
pub fn perhaps_own(endpoint: Endpoint) -> Option<Endpoint> {
    let endpoint = endpoint.canonical();
    match endpoint.ip {
        IpAddr::V4(ip) if !ip.is_unspecified() && !ip.is_loopback() && !ip.is_multicast() => {
            (endpoint.port != 0).then_some(endpoint)
        }
        _ => None,
    }
}

/// Scopes of one port that conflict with `scope`, without `scope` itself.
pub fn rivals(scope: Scope) -> &'static [Scope] {
    const LO: Scope = Scope::V4(Ipv4Addr::LOCALHOST);
    match scope {
        Scope::AnyV4 => &[Scope::AnyDual, LO],
        Scope::AnyDual => &[Scope::AnyV4, LO, Scope::AnyV6, Scope::LoopbackV6],
        Scope::AnyV6 => &[Scope::AnyDual, Scope::LoopbackV6],
        Scope::V4(_) => &[Scope::AnyV4, Scope::AnyDual],
        Scope::LoopbackV6 => &[Scope::AnyDual, Scope::AnyV6],
    }
}

/// The scopes that conflict with a bind to an address of the host's own: wildcards of its family.
pub fn wildcards(ip: IpAddr) -> [Scope; 2] {
    match ip {
        IpAddr::V4(_) => [Scope::AnyV4, Scope::AnyDual],
        IpAddr::V6(_) => [Scope::AnyV6, Scope::AnyDual],
    }
}

/// Whether every rival of `scope` checks it as well. A wildcard does not check `127.0.0.2` and above.
pub fn is_seen_by_rivals(scope: Scope) -> bool {
    rivals(scope).iter().all(|rival| rivals(*rival).contains(&scope))
}

/// Scopes that a connect to an address of this host can reach, in the order in which TCP looks them up.
pub fn candidates(ip: IpAddr) -> [Scope; 3] {
    match ip {
        IpAddr::V4(ip) => [Scope::V4(ip), Scope::AnyV4, Scope::AnyDual],
        IpAddr::V6(_) => [Scope::LoopbackV6, Scope::AnyV6, Scope::AnyDual],
    }
}

/// What an instance's rules say about one port of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// Whether the instance refuses ports of the host.
    pub isolated: bool,
    /// Whether the user allows this port, whoever holds it.
    pub allowed: bool,
    /// Whether the port may be one of the instance at all.
    pub covered: bool,
}

/// Why a connect to `to`, where the instance has no listener, must not reach the host. `listens_beside` says whether the
/// instance listens at the other of `127.0.0.1` and `::1`, `bar` what the page of barred ports says; both are asked only if
/// it matters.
pub fn host_refused(
    to: Endpoint,
    rules: HostPort,
    listens_beside: impl FnOnce() -> bool,
    bar: impl FnOnce() -> Option<Bar>,
) -> Option<Why> {
    if rules.isolated {
        return Some(Why::Isolated);
    }
    if rules.allowed || !rules.covered {
        return None;
    }
    let is_localhost = matches!(to.ip, IpAddr::V4(Ipv4Addr::LOCALHOST | Ipv4Addr::UNSPECIFIED))
        || matches!(to.ip, IpAddr::V6(Ipv6Addr::LOCALHOST | Ipv6Addr::UNSPECIFIED));
    if is_localhost && listens_beside() {
        return Some(Why::OwnPort);
    }
    match bar()? {
        Bar::OwnPort => Some(Why::OwnPort),
        Bar::OtherCheckout => Some(Why::OtherCheckout),
        // Forwards listen on localhost; another address of 127/8 is somebody's own.
        Bar::HeldFor => is_localhost.then_some(Why::HeldForOther),
    }
}

/// The other of `127.0.0.1` and `::1`: `localhost` means both, and which one a program tries first differs.
pub fn other_localhost(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Endpoint {
        let address: core::net::SocketAddr = text.parse().unwrap();
        Endpoint { ip: address.ip(), port: address.port() }
    }

    const FRESH4: Before = Before::FreshTcp { v6: false, v6_only: false };
    const FRESH6: Before = Before::FreshTcp { v6: true, v6_only: false };

    #[test]
    fn only_fresh_tcp_on_loopback_or_wildcard_is_rewritten() {
        assert_eq!(bind(at("0.0.0.0:80"), FRESH4, true), Action::Replace(Scope::AnyV4));
        assert_eq!(bind(at("[::]:80"), FRESH6, true), Action::Replace(Scope::AnyDual));
        assert_eq!(bind(at("10.1.2.3:80"), FRESH4, true), Action::Pass(Why::OtherAddress));
        assert_eq!(bind(at("0.0.0.0:80"), FRESH6, true), Action::Pass(Why::NotTcp));
        assert_eq!(bind(at("0.0.0.0:80"), Before::Other, true), Action::Pass(Why::NotTcp));
        assert_eq!(bind(at("0.0.0.0:80"), FRESH4, false), Action::Pass(Why::Excluded));
        assert_eq!(bind(at("0.0.0.0:80"), Before::Ours, true), Action::Refuse(EINVAL));
    }

    #[test]
    fn a_v6only_socket_cannot_take_a_mapped_address() {
        let socket = Before::FreshTcp { v6: true, v6_only: true };
        assert_eq!(bind(at("[::ffff:127.0.0.1]:80"), socket, true), Action::Pass(Why::OtherAddress));
        let loopback = Scope::V4(Ipv4Addr::LOCALHOST);
        assert_eq!(bind(at("[::ffff:127.0.0.1]:80"), FRESH6, true), Action::Replace(loopback));
    }

    #[test]
    fn wildcards_mean_loopback_when_connected_to() {
        assert_eq!(destination(at("0.0.0.0:80")), Some(at("127.0.0.1:80")));
        assert_eq!(destination(at("[::]:80")), Some(at("[::1]:80")));
        assert_eq!(destination(at("[::ffff:127.0.0.1]:80")), Some(at("127.0.0.1:80")));
        assert_eq!(destination(at("127.0.0.1:0")), None);
        assert_eq!(destination(at("10.0.0.1:80")), None);
        assert_eq!(destination(at("[fd00::1]:80")), None);
    }

    #[test]
    fn an_address_of_the_host_means_itself_and_wildcards() {
        let own = Some(at("10.0.0.1:80"));
        assert_eq!(perhaps_own(at("10.0.0.1:80")), own);
        assert_eq!(perhaps_own(at("[::ffff:10.0.0.1]:80")), own);
        for other in ["10.0.0.1:0", "127.0.0.1:80", "0.0.0.0:80", "224.0.0.1:80", "[::1]:80", "[fd00::1]:80"]
        {
            assert_eq!(perhaps_own(at(other)), None, "{other}");
        }
        let ip = at("10.0.0.1:80").ip;
        assert!(candidates(ip).iter().all(|scope| scope.reached_by(ip)));
    }

    #[test]
    fn rivals_are_what_conflicts() {
        let all =
            [Scope::AnyV4, Scope::AnyDual, Scope::AnyV6, Scope::V4(Ipv4Addr::LOCALHOST), Scope::LoopbackV6];
        for one in all {
            for other in all {
                if one != other {
                    assert_eq!(rivals(one).contains(&other), one.conflicts(other), "{one:?} {other:?}");
                }
            }
            assert!(is_seen_by_rivals(one), "{one:?}");
        }
    }

    #[test]
    fn an_address_of_the_host_meets_the_wildcards_of_its_family() {
        for (ip, expected) in [("10.0.0.1:1", Scope::AnyV4), ("[fd00::1]:1", Scope::AnyV6)] {
            assert_eq!(wildcards(at(ip).ip), [expected, Scope::AnyDual], "{ip}");
        }
    }

    #[test]
    fn a_port_of_the_host_is_refused_for_a_reason() {
        let open = HostPort { isolated: false, allowed: false, covered: true };
        let refused = |to: &str, rules, beside, bar| host_refused(at(to), rules, || beside, || bar);
        assert_eq!(refused("127.0.0.1:80", open, false, None), None);
        assert_eq!(refused("127.0.0.1:80", open, true, None), Some(Why::OwnPort));
        assert_eq!(refused("127.0.0.2:80", open, true, None), None);
        assert_eq!(refused("[::1]:80", open, false, Some(Bar::OwnPort)), Some(Why::OwnPort));
        assert_eq!(refused("127.0.0.1:80", open, false, Some(Bar::HeldFor)), Some(Why::HeldForOther));
        assert_eq!(refused("127.0.0.2:80", open, false, Some(Bar::HeldFor)), None);
        assert_eq!(refused("127.0.0.2:80", open, false, Some(Bar::OtherCheckout)), Some(Why::OtherCheckout));
        let allowed = HostPort { allowed: true, ..open };
        assert_eq!(refused("127.0.0.1:80", allowed, true, Some(Bar::OwnPort)), None);
        assert_eq!(refused("127.0.0.1:80", HostPort { covered: false, ..open }, true, None), None);
        assert_eq!(
            refused("127.0.0.1:80", HostPort { isolated: true, ..open }, false, None),
            Some(Why::Isolated)
        );
        for (one, other) in [("127.0.0.1:1", "[::1]:1"), ("[::1]:1", "127.0.0.1:1")] {
            assert_eq!(other_localhost(at(one).ip), at(other).ip);
        }
    }

    #[test]
    fn no_wildcard_looks_at_other_loopback_addresses() {
        assert!(!is_seen_by_rivals(Scope::V4(Ipv4Addr::new(127, 0, 0, 2))));
    }

    #[test]
    fn candidates_are_what_is_reached() {
        for ip in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
            assert!(candidates(ip).iter().all(|scope| scope.reached_by(ip)));
        }
    }

    #[test]
    fn the_exact_address_is_tried_before_a_wildcard() {
        let v4 = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
        assert_eq!(candidates(v4), [Scope::of(v4, false).unwrap(), Scope::AnyV4, Scope::AnyDual]);
        let v6 = IpAddr::V6(Ipv6Addr::LOCALHOST);
        assert_eq!(candidates(v6), [Scope::LoopbackV6, Scope::AnyV6, Scope::AnyDual]);
    }
}
