//! The addresses that the router listens on: both loopback families of one port, so that a browser
//! that prefers the other one never reaches a stranger.
use crate::limits::FREE_PORT_ATTEMPTS;
use agentfs_system::holders;
use std::fmt::Write as _;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// Whether everybody may bind a wildcard address below port 1024: so on macOS since 10.14, where a loopback
/// address takes root all the same.
const WILDCARD_IS_FREE: bool = cfg!(target_os = "macos");

/// How long a listener of somebody else on a loopback address may take to accept.
const PROBE_TIME: Duration = Duration::from_millis(200);

/// Ports for one protocol.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    /// Port of a web server, which URLs need not name.
    usual: u16,
    /// Port where the usual one may not be bound.
    ordinary: u16,
}

/// Ports for HTTP.
pub(super) const HTTP: Ports = Ports { usual: 80, ordinary: 4280 };

/// Ports for TLS.
pub(super) const HTTPS: Ports = Ports { usual: 443, ordinary: 4443 };

/// Where the router listens.
#[derive(Debug)]
pub(super) struct Bound {
    /// The sockets.
    pub(super) listeners: Vec<TcpListener>,
    /// Their port.
    pub(super) port: u16,
    /// Whether only this machine is served, whatever the sockets would accept.
    pub(super) only_local: bool,
    /// What a person should know about the choice.
    pub(super) note: Option<String>,
}

impl Bound {
    /// Sockets for this machine alone.
    fn new(listeners: Vec<TcpListener>, port: u16) -> Self {
        Self { listeners, port, only_local: true, note: None }
    }
}

/// Uses what somebody else opened for the router, where there is some and the user asked for nothing else; else
/// binds its sockets.
///
/// # Errors
/// As [`bind`].
pub(super) fn choose(
    asked: Option<SocketAddr>,
    sockets: Vec<TcpListener>,
    ports: Ports,
    former: Option<u16>,
) -> Result<Bound, String> {
    match sockets.first().and_then(|first| first.local_addr().ok()) {
        Some(address) if asked.is_none() => Ok(Bound::new(sockets, address.port())),
        _ => bind(asked, ports, former),
    }
}

/// Binds the router's sockets: where the user asked for, else the usual port, else the ordinary one, else
/// any port. Where the user asked for any, the `former` one if it is free.
///
/// # Errors
/// A text that names the port and, where it can be seen, who holds it.
pub(super) fn bind(asked: Option<SocketAddr>, ports: Ports, former: Option<u16>) -> Result<Bound, String> {
    let Some(asked) = asked else { return bind_default(ports) };
    if asked.ip().is_loopback() {
        return match asked.port() {
            0 => bind_former(former),
            port => bind_loopback(port)
                .map(|(listeners, port)| Bound::new(listeners, port))
                .map_err(|error| describe(port, &error)),
        };
    }
    let listener = TcpListener::bind(asked).map_err(|error| describe(asked.port(), &error))?;
    let port = listener.local_addr().map_err(|error| error.to_string())?.port();
    let note = format!("the router listens on {asked}: other machines can reach every app");
    Ok(Bound { listeners: vec![listener], port, only_local: false, note: Some(note) })
}

fn bind_default(ports: Ports) -> Result<Bound, String> {
    let Ports { usual, ordinary } = ports;
    let usual = match bind_loopback(usual) {
        Err(error) if WILDCARD_IS_FREE && error.kind() == ErrorKind::PermissionDenied => bind_wildcard(usual),
        other => other,
    };
    if let Ok((listeners, port)) = usual {
        return Ok(Bound::new(listeners, port));
    }
    match bind_loopback(ordinary) {
        Ok((listeners, port)) => Ok(Bound::new(listeners, port)),
        Err(error) => {
            let why = describe(ordinary, &error);
            let (listeners, port) = bind_any()?;
            let note = Some(format!("{why}; the router listens on port {port}"));
            Ok(Bound { note, ..Bound::new(listeners, port) })
        }
    }
}

/// Any port, if possible the one that the router had last.
fn bind_former(former: Option<u16>) -> Result<Bound, String> {
    let mut note = None;
    if let Some(port) = former.filter(|port| *port != 0) {
        match bind_loopback(port) {
            Ok((listeners, port)) => return Ok(Bound::new(listeners, port)),
            Err(error) => note = Some(describe(port, &error)),
        }
    }
    let (listeners, port) = bind_any()?;
    let note = note.map(|why| {
        format!("{why}, which the router had before; it listens on port {port}, so older URLs do not work")
    });
    Ok(Bound { note, ..Bound::new(listeners, port) })
}

/// Every address of one port. The router closes what other machines open there (`only_local`).
fn bind_wildcard(port: u16) -> io::Result<(Vec<TcpListener>, u16)> {
    // A listener on the loopback address would get what was meant for us, and this bind would not fail.
    for loopback in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
        if port != 0 && TcpStream::connect_timeout(&(loopback, port).into(), PROBE_TIME).is_ok() {
            return Err(ErrorKind::AddrInUse.into());
        }
    }
    // Accepts both families, unless an administrator has changed that; IPv4 alone where there is no IPv6.
    let listener = match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)) {
        Err(error) if !matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::PermissionDenied) => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))
        }
        other => other,
    }?;
    let port = listener.local_addr()?.port();
    Ok((vec![listener], port))
}

fn bind_any() -> Result<(Vec<TcpListener>, u16), String> {
    let mut last = None;
    for _ in 0..FREE_PORT_ATTEMPTS {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|first| Ok((first.local_addr()?.port(), first)));
        let bound = port.and_then(|(port, first)| Ok((with_v6(first, port)?, port)));
        match bound {
            Ok(bound) => return Ok(bound),
            Err(error) => last = Some(error),
        }
    }
    Err(format!(
        "no port is free on both loopback addresses: {}",
        last.map(|error| error.to_string()).unwrap_or_default()
    ))
}

fn bind_loopback(port: u16) -> io::Result<(Vec<TcpListener>, u16)> {
    let first = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    Ok((with_v6(first, port)?, port))
}

/// Adds the IPv6 twin, where this machine has IPv6.
fn with_v6(first: TcpListener, port: u16) -> io::Result<Vec<TcpListener>> {
    match TcpListener::bind((Ipv6Addr::LOCALHOST, port)) {
        Ok(second) => Ok(vec![first, second]),
        Err(error) if matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::PermissionDenied) => {
            Err(error)
        }
        Err(_) => Ok(vec![first]),
    }
}

fn describe(port: u16, error: &io::Error) -> String {
    let mut text = format!("cannot use port {port}: {error}");
    if error.kind() == ErrorKind::AddrInUse
        && let Some(pid) = holders::of_port(port).iter().find_map(|listener| listener.pids.first())
    {
        let _ = write!(text, " (held by pid {pid})");
    }
    text
}

/// The addresses of sockets, for people.
pub(super) fn addresses(listeners: &[TcpListener]) -> Vec<String> {
    let addresses = listeners.iter().filter_map(|listener| listener.local_addr().ok());
    addresses.map(|address: SocketAddr| address.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any() -> Option<SocketAddr> {
        Some((Ipv4Addr::LOCALHOST, 0).into())
    }

    #[test]
    fn both_families_share_one_port() {
        let bound = bind(any(), HTTP, None).unwrap();
        assert!(!bound.listeners.is_empty());
        for address in addresses(&bound.listeners) {
            let loopback = address.parse::<SocketAddr>().unwrap().ip().is_loopback();
            assert!(loopback && address.ends_with(&format!(":{}", bound.port)), "{address}");
        }
    }

    #[test]
    fn any_port_is_the_former_one_if_that_is_free() {
        let first = bind(any(), HTTP, None).unwrap();
        let second = bind(any(), HTTP, Some(first.port)).unwrap();
        assert_ne!(second.port, first.port);
        let note = second.note.unwrap();
        assert!(note.contains(&first.port.to_string()) && note.contains(&second.port.to_string()), "{note}");
        let port = first.port;
        drop(first);
        let third = bind(any(), HTTP, Some(port)).unwrap();
        assert_eq!((third.port, third.note), (port, None));
    }

    #[test]
    fn a_taken_port_that_was_asked_for_is_an_error_that_names_the_holder() {
        let first = bind(any(), HTTP, None).unwrap();
        let asked = SocketAddr::from((Ipv4Addr::LOCALHOST, first.port));
        let error = bind(Some(asked), HTTP, None).unwrap_err();
        assert!(error.contains(&first.port.to_string()), "{error}");
        if cfg!(target_os = "linux") {
            assert!(error.contains(&format!("pid {}", std::process::id())), "{error}");
        }
    }

    #[test]
    fn what_was_opened_for_us_is_used_unless_the_user_asks_for_something_else() {
        let opened = || vec![TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()];
        let given = opened();
        let port = given[0].local_addr().unwrap().port();
        let bound = choose(None, given, HTTP, None).unwrap();
        assert_eq!((bound.port, bound.listeners.len(), bound.only_local), (port, 1, true));
        let given = opened();
        let port = given[0].local_addr().unwrap().port();
        assert_ne!(choose(any(), given, HTTP, None).unwrap().port, port);
    }

    #[test]
    fn every_address_of_a_port_is_bound_unless_somebody_listens_on_loopback() {
        let (listeners, port) = bind_wildcard(0).unwrap();
        assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
        if listeners[0].local_addr().unwrap().is_ipv6() && TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
        {
            assert!(TcpStream::connect((Ipv6Addr::LOCALHOST, port)).is_ok());
        }
        assert_eq!(bind_wildcard(port).unwrap_err().kind(), ErrorKind::AddrInUse);
    }
}
