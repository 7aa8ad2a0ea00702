//! What a connect meets that a program of an instance makes: the instance's own listener, the host's port, or a refusal.
//! The library decides it in the program, by the same rules.
use crate::environment;
use crate::host_port;
use crate::settings::Settings;
use agentfs_home::barred;
use agentfs_system::holders::HostListener;
use agentfs_wire::barred::Bar;
use agentfs_wire::control::{InstanceInfo, ListenerInfo};
use agentfs_wire::env;
use agentfs_wire::peer::space;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt as _;

/// What a connect meets.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Meets<'a> {
    /// A listener of the instance.
    Own(&'a ListenerInfo),
    /// The host's port, if anything listens there.
    Host,
    /// ECONNREFUSED, for this reason (as the trace names it).
    Refused(&'static str),
}

/// The rules of this process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Rules {
    isolate: bool,
    isolated: Vec<u16>,
    allowed: Vec<u16>,
    only: Vec<u16>,
    except: Vec<u16>,
}

/// What a connect of this process, which runs in `info`, to an address of this machine meets.
pub(crate) fn meets<'a>(info: &'a InstanceInfo, address: SocketAddr, settings: &Settings) -> Meets<'a> {
    let run = settings.paths.run.as_os_str().as_bytes();
    let number = space(run, &info.app, &info.instance);
    let barred = || {
        // Without the page nothing is barred.
        let rows = barred::read(&settings.paths.barred).unwrap_or_default();
        rows.iter().find_map(|row| row.bars(number, address.port()))
    };
    decide(&Rules::of(settings), info, address, barred)
}

fn decide<'a>(
    rules: &Rules,
    info: &'a InstanceInfo,
    address: SocketAddr,
    barred: impl FnOnce() -> Option<Bar>,
) -> Meets<'a> {
    let port = address.port();
    let covered = !rules.except.contains(&port) && (rules.only.is_empty() || rules.only.contains(&port));
    let at =
        |ip: IpAddr| info.listeners.iter().find(|listener| listener.port == port && serves(listener, ip));
    if let Some(own) = at(address.ip()).filter(|_| covered) {
        return Meets::Own(own);
    }
    let allowed = rules.allowed.contains(&port);
    if !allowed && (rules.isolate || rules.isolated.contains(&port)) {
        return Meets::Refused(host_port::ISOLATED);
    }
    if allowed || !covered {
        return Meets::Host;
    }
    let (v4, v6) = (IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST));
    let is_localhost = address.ip() == v4 || address.ip() == v6 || address.ip().is_unspecified();
    if is_localhost && at(if address.is_ipv4() { v6 } else { v4 }).is_some() {
        return Meets::Refused(host_port::OWN_PORT);
    }
    match barred() {
        Some(Bar::OwnPort) => Meets::Refused(host_port::OWN_PORT),
        Some(Bar::OtherCheckout) => Meets::Refused(host_port::OTHER_CHECKOUT),
        Some(Bar::HeldFor) if is_localhost => Meets::Refused(host_port::HELD_FOR_OTHER),
        Some(Bar::HeldFor) | None => Meets::Host,
    }
}

/// Whether a connect to `ip` reaches a listener of the instance.
fn serves(listener: &ListenerInfo, ip: IpAddr) -> bool {
    // A socket made by hand has no address, and no port that a connect could name.
    let Ok(address) = listener.address.parse() else { return false };
    // Of a connect to the wildcard, the kernel makes one to loopback.
    let ip = match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    HostListener { address, uid: None, pids: BTreeSet::new() }.serves(ip)
}

// === impl Rules ===

impl Rules {
    /// Those that this process was started with, as the library reads them.
    fn of(settings: &Settings) -> Self {
        let ports = |name| environment::ports(&settings.environment, name);
        let isolate = settings.variable(env::ISOLATE).is_some_and(|value| value == "1");
        Self {
            isolate,
            isolated: if isolate { Vec::new() } else { ports(env::ISOLATE) },
            allowed: ports(env::ALLOW_HOST),
            only: ports(env::ONLY),
            except: ports(env::EXCEPT),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::tests::info;

    fn listener(address: &str) -> ListenerInfo {
        let text = format!(
            r#"{{"address":"{address}","port":5000,"socket":"/s","main":true,"pid":null,"since_ms":0,"requests":0}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn the_rules_are_those_of_the_library() {
        let mut one = info("shop", "one");
        let met = |one: &InstanceInfo, rules: Rules, address: &str, bar: Option<Bar>| match decide(
            &rules,
            one,
            address.parse().unwrap(),
            || bar,
        ) {
            Meets::Own(_) => "own",
            Meets::Host => "host",
            Meets::Refused(why) => why,
        };
        let plain = Rules::default;
        let isolated = || Rules { isolated: vec![5000], ..plain() };
        let only = || Rules { only: vec![80], ..plain() };
        let (v4, v6) = ("127.0.0.1:5000", "[::1]:5000");
        for (bar, expected) in [
            (None, "host"),
            (Some(Bar::OwnPort), "own_port"),
            (Some(Bar::OtherCheckout), "other_checkout"),
            (Some(Bar::HeldFor), "held_for_other"),
        ] {
            assert_eq!(met(&one, plain(), v4, bar), expected);
            assert_eq!(met(&one, Rules { allowed: vec![5000], ..isolated() }, v4, bar), "host");
            assert_eq!(met(&one, only(), v4, bar), "host");
            assert_eq!(met(&one, isolated(), v4, bar), "isolated");
        }
        assert_eq!(met(&one, Rules { isolate: true, ..plain() }, v4, None), "isolated");
        assert_eq!(met(&one, plain(), "127.0.0.9:5000", Some(Bar::HeldFor)), "host");
        one.listeners = vec![listener("127.0.0.1:5000")];
        assert_eq!((met(&one, isolated(), v4, None), met(&one, plain(), v6, None)), ("own", "own_port"));
        assert_eq!(met(&one, only(), v4, None), "host");
        one.listeners = vec![listener("[::]:5000")];
        assert_eq!((met(&one, plain(), v4, None), met(&one, plain(), v6, None)), ("own", "own"));
        one.listeners = vec![listener("0.0.0.0:5000")];
        assert_eq!(
            (met(&one, plain(), "0.0.0.0:5000", None), met(&one, plain(), v6, None)),
            ("own", "own_port")
        );
    }
}
