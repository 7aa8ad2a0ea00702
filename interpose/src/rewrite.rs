//! The decisions. Pure: addresses and facts in, what to do out; no system call, no environment, no clock.
use agentfs_wire::address::{Endpoint, Scope};
use agentfs_wire::notice::Why;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use libc::c_int;

/// What to do with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action<T> {
    /// The call goes through unchanged.
    Pass(Why),
    /// The call is carried out on a Unix socket.
    Replace(T),
    /// The call fails with this errno, as TCP would have it.
    Refuse(c_int),
}

/// What is known about a socket before bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Before {
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
pub(crate) fn bind(endpoint: Endpoint, socket: Before, covered: bool) -> Action<Scope> {
    match socket {
        Before::Ours => Action::Refuse(libc::EINVAL),
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
pub(crate) fn destination(endpoint: Endpoint) -> Option<Endpoint> {
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
pub(crate) fn perhaps_own(endpoint: Endpoint) -> Option<Endpoint> {
    let endpoint = endpoint.canonical();
    match endpoint.ip {
        IpAddr::V4(ip) if !ip.is_unspecified() && !ip.is_loopback() && !ip.is_multicast() => {
            (endpoint.port != 0).then_some(endpoint)
        }
        _ => None,
    }
}

/// Scopes of one port that conflict with `scope`, without `scope` itself.
pub(crate) fn rivals(scope: Scope) -> &'static [Scope] {
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
pub(crate) fn wildcards(ip: IpAddr) -> [Scope; 2] {
    match ip {
        IpAddr::V4(_) => [Scope::AnyV4, Scope::AnyDual],
        IpAddr::V6(_) => [Scope::AnyV6, Scope::AnyDual],
    }
}

/// Whether every rival of `scope` checks it as well. A wildcard does not check `127.0.0.2` and above.
pub(crate) fn is_seen_by_rivals(scope: Scope) -> bool {
    rivals(scope).iter().all(|rival| rivals(*rival).contains(&scope))
}

/// Scopes that a connect to an address of this host can reach, in the order in which TCP looks them up.
pub(crate) fn candidates(ip: IpAddr) -> [Scope; 3] {
    match ip {
        IpAddr::V4(ip) => [Scope::V4(ip), Scope::AnyV4, Scope::AnyDual],
        IpAddr::V6(_) => [Scope::LoopbackV6, Scope::AnyV6, Scope::AnyDual],
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
        assert_eq!(bind(at("0.0.0.0:80"), Before::Ours, true), Action::Refuse(libc::EINVAL));
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
