//! Whether the system resolves names under `localhost` (RFC 6761 6.3): browsers and curl do it themselves, and in wrapped
//! programs the library does.
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

/// What the system makes of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Resolved {
    /// This machine.
    Loopback,
    /// Nothing.
    Unknown,
    /// Another machine.
    Elsewhere(IpAddr),
}

/// Asks the system for a name that nobody has asked for before: it keeps answers.
pub(crate) fn look() -> Resolved {
    let number = RandomState::new().build_hasher().finish();
    let name = format!("agentfs-{number:x}.localhost");
    let all = (name.as_str(), 80).to_socket_addrs().map(Iterator::collect::<Vec<_>>).unwrap_or_default();
    match all.iter().find(|address| !address.ip().is_loopback()) {
        Some(other) => Resolved::Elsewhere(other.ip()),
        None if all.is_empty() => Resolved::Unknown,
        None => Resolved::Loopback,
    }
}

/// What to do where the system does not resolve these names. `dns` is where the collector answers.
pub(crate) fn advice(dns: SocketAddr) -> String {
    if cfg!(target_os = "macos") {
        return "run `agentfs names install`: Safari, psql, Java and Node ask the system".to_owned();
    }
    let (address, port) = (dns.ip(), dns.port());
    format!(
        "install libnss-myhostname or use systemd-resolved, or let your resolver ask the collector; for dnsmasq: \
         server=/localhost/{address}#{port}"
    )
}

// === impl Resolved ===

impl Resolved {
    /// Whether they are this machine.
    pub(crate) fn is_resolved(&self) -> bool {
        *self == Self::Loopback
    }

    /// The same, for people.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Loopback => "*.localhost resolves to loopback".to_owned(),
            Self::Unknown => "the system does not resolve *.localhost".to_owned(),
            Self::Elsewhere(address) => format!("the system resolves *.localhost to {address}"),
        }
    }
}
