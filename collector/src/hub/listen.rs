//! The addresses that the router listens on: both loopback families of one port, so that a browser
//! that prefers the other one never reaches a stranger.
use crate::limits::FREE_PORT_ATTEMPTS;
use std::fmt::Write as _;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

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
    /// What a person should know about the choice.
    pub(super) note: Option<String>,
}

/// Binds the router's sockets: where the user asked for, else the usual port, else the ordinary one, else
/// any port.
///
/// # Errors
/// A text that names the port and, where it can be seen, who holds it.
pub(super) fn bind(asked: Option<SocketAddr>, ports: Ports) -> Result<Bound, String> {
    let Some(asked) = asked else { return bind_default(ports) };
    if asked.ip().is_loopback() {
        return match asked.port() {
            0 => bind_any(),
            port => bind_loopback(port).map_err(|error| describe(port, &error)),
        }
        .map(|(listeners, port)| Bound { listeners, port, note: None });
    }
    let listener = TcpListener::bind(asked).map_err(|error| describe(asked.port(), &error))?;
    let port = listener.local_addr().map_err(|error| error.to_string())?.port();
    let note = format!("the router listens on {asked}: other machines can reach every app");
    Ok(Bound { listeners: vec![listener], port, note: Some(note) })
}

fn bind_default(ports: Ports) -> Result<Bound, String> {
    if let Ok((listeners, port)) = bind_loopback(ports.usual) {
        return Ok(Bound { listeners, port, note: None });
    }
    match bind_loopback(ports.ordinary) {
        Ok((listeners, port)) => Ok(Bound { listeners, port, note: None }),
        Err(error) => {
            let why = describe(ports.ordinary, &error);
            let (listeners, port) = bind_any()?;
            Ok(Bound { listeners, port, note: Some(format!("{why}; the router listens on port {port}")) })
        }
    }
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
    let mut text = format!("port {port} cannot be used: {error}");
    if error.kind() == ErrorKind::AddrInUse
        && let Some(pid) = holder(port)
    {
        let _ = write!(text, " (held by pid {pid})");
    }
    text
}

/// The process that listens on a TCP port of this machine, as far as `/proc` shows it to us.
fn holder(port: u16) -> Option<u32> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .find_map(|list| listening_inode(&std::fs::read_to_string(list).ok()?, port))?;
    let wanted = format!("socket:[{inode}]");
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let (Some(pid), Ok(descriptors)) = (pid, std::fs::read_dir(entry.path().join("fd"))) else {
            continue;
        };
        let holds = |descriptor: std::fs::DirEntry| {
            std::fs::read_link(descriptor.path()).is_ok_and(|link| link.as_os_str() == wanted.as_str())
        };
        if descriptors.flatten().any(holds) {
            return Some(pid);
        }
    }
    None
}

/// The inode of the socket that listens (state 0A) on a port, in the format of proc(5).
fn listening_inode(list: &str, port: u16) -> Option<u64> {
    list.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let local = fields.get(1)?.rsplit_once(':')?.1;
        let is_it = u16::from_str_radix(local, 16).ok()? == port && *fields.get(3)? == "0A";
        is_it.then(|| fields.get(9)?.parse().ok()).flatten()
    })
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
        let bound = bind(any(), HTTP).unwrap();
        assert!(!bound.listeners.is_empty());
        for address in addresses(&bound.listeners) {
            let loopback = address.parse::<SocketAddr>().unwrap().ip().is_loopback();
            assert!(loopback && address.ends_with(&format!(":{}", bound.port)), "{address}");
        }
    }

    #[test]
    fn a_taken_port_that_was_asked_for_is_an_error_that_names_the_holder() {
        let first = bind(any(), HTTP).unwrap();
        let asked = SocketAddr::from((Ipv4Addr::LOCALHOST, first.port));
        let error = bind(Some(asked), HTTP).unwrap_err();
        assert!(error.contains(&first.port.to_string()), "{error}");
        if cfg!(target_os = "linux") {
            assert!(error.contains(&format!("pid {}", std::process::id())), "{error}");
        }
    }
}
