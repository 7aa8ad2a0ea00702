//! Stand-ins: the ports of an instance where the system gives us no network name space. For each port of the instance, a
//! free port of the host stands in, on loopback only. A listener is real TCP there too; what is not true is its number,
//! so the supervisor answers when a program asks for the name of a socket.
//!
//! Sockets are tied to the device `lo`, which they pass on to the connections that they accept. So a wildcard is not
//! reached from outside, and a socket of ours is known by its device.
use crate::address;
use crate::facts;
use crate::limits::PORT_TRIES;
use crate::sys::options::{self, Value};
use agentfs_wire::address::Endpoint;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, OwnedFd};

/// The device of loopback.
const LOOPBACK: &[u8] = b"lo";

/// Which port stands in for which.
#[derive(Debug, Default)]
pub(crate) struct StandIns {
    /// The host's port for each port of the instance.
    hosts: HashMap<u16, u16>,
    /// The instance's port for each of the host's. One stays after its listener, for the connections that are left.
    owns: HashMap<u16, u16>,
}

// === impl StandIns ===

impl StandIns {
    /// None yet.
    ///
    /// # Errors
    /// The system does not let us tie a socket to a device.
    pub(crate) fn new() -> io::Result<Self> {
        socket(false).map(|_| Self::default())
    }

    /// Whether no port was ever taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.owns.is_empty()
    }

    /// Where a port of the instance is. Loopback stands in for the host's own addresses too.
    pub(crate) fn at(&self, to: Endpoint) -> Endpoint {
        let ip = match to.canonical().ip {
            own if own.is_loopback() => to.ip,
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        Endpoint { ip, port: self.hosts.get(&to.port).copied().unwrap_or(to.port) }
    }

    /// The instance's port for one of the host.
    pub(crate) fn of_instance(&self, port: u16) -> u16 {
        self.owns.get(&port).copied().unwrap_or(port)
    }

    /// Binds a socket where a program wants its own. If nobody of the instance has the port, a stand-in that somebody else has
    /// taken meanwhile is replaced.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn bind(&mut self, socket: &OwnedFd, bytes: &[u8], is_free: bool) -> io::Result<()> {
        let port = address::read(bytes).map_or(0, |endpoint| endpoint.port);
        if port == 0 {
            return self.bind_any(socket, bytes);
        }
        let in_use = || io::Error::from_raw_os_error(libc::EADDRINUSE);
        let is_in_use = |result: &io::Result<()>| {
            result.as_ref().err().and_then(io::Error::raw_os_error) == Some(libc::EADDRINUSE)
        };
        let mut result = match self.hosts.get(&port) {
            Some(host) => options::bind(socket, &address::with_port(bytes, *host)),
            None => Err(in_use()),
        };
        for _ in 0..PORT_TRIES {
            if !is_in_use(&result) || !is_free {
                break;
            }
            let host = free_port()?;
            result = options::bind(socket, &address::with_port(bytes, host));
            if result.is_ok() {
                self.note(port, host);
            }
        }
        result
    }

    /// A port that the system chooses stands in for itself, so that no name of it is untrue.
    fn bind_any(&mut self, socket: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
        options::bind(socket, bytes)?;
        let port = facts::name(socket)?.port;
        // Another port stands in for this number already: the program gets the number of that one's choice.
        if self.hosts.get(&port).is_some_and(|host| *host != port) {
            let own = (1024..=u16::MAX).rev().find(|own| !self.hosts.contains_key(own));
            self.note(own.unwrap_or(port), port);
        } else {
            self.note(port, port);
        }
        Ok(())
    }

    fn note(&mut self, own: u16, host: u16) {
        self.hosts.insert(own, host);
        self.owns.insert(host, own);
    }
}

/// A fresh TCP socket of the host that only loopback reaches.
///
/// # Errors
/// What the system says.
pub(crate) fn socket(v6: bool) -> io::Result<OwnedFd> {
    let socket = facts::fresh(v6)?;
    options::set(&socket, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, &Value::text(LOOPBACK))?;
    Ok(socket)
}

/// Whether a socket is tied to loopback.
pub(crate) fn is_one(socket: impl AsFd) -> bool {
    let device = options::get(socket, libc::SOL_SOCKET, libc::SO_BINDTODEVICE);
    device.is_ok_and(|device| device.as_text() == LOOPBACK)
}

/// A port that is free in both families, if there are two.
fn free_port() -> io::Result<u16> {
    let (socket, ip) = match socket(true) {
        Ok(socket) => (socket, Ipv6Addr::UNSPECIFIED.into()),
        Err(_) => (socket(false)?, Ipv4Addr::UNSPECIFIED.into()),
    };
    options::bind(&socket, &address::write(Endpoint { ip, port: 0 }))?;
    Ok(facts::name(&socket)?.port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Vec<u8> {
        address::write(endpoint(text))
    }

    fn endpoint(text: &str) -> Endpoint {
        let address: std::net::SocketAddr = text.parse().unwrap();
        Endpoint { ip: address.ip(), port: address.port() }
    }

    fn name(ports: &StandIns, socket: &OwnedFd) -> u16 {
        ports.of_instance(facts::name(socket).unwrap().port)
    }

    #[test]
    fn two_instances_have_the_same_port_and_each_has_it_once() {
        let (mut one, mut two) = (StandIns::new().unwrap(), StandIns::new().unwrap());
        let (first, second) = (socket(false).unwrap(), socket(false).unwrap());
        assert!(one.is_empty() && is_one(&first) && !is_one(facts::fresh(false).unwrap()));
        one.bind(&first, &at("0.0.0.0:80"), true).unwrap();
        two.bind(&second, &at("127.0.0.1:80"), true).unwrap();
        assert_eq!((name(&one, &first), name(&two, &second)), (80, 80));
        options::listen(&first, 5).unwrap();
        let again = socket(false).unwrap();
        let error = one.bind(&again, &at("127.0.0.1:80"), false).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EADDRINUSE));
        for own in ["127.0.0.1:80", "10.1.2.3:80"] {
            let client = facts::fresh(false).unwrap();
            options::connect(&client, &address::write(one.at(endpoint(own)))).unwrap();
        }
    }

    #[test]
    fn a_stand_in_that_somebody_took_is_replaced() {
        let mut ports = StandIns::new().unwrap();
        let first = socket(false).unwrap();
        ports.bind(&first, &at("127.0.0.1:80"), true).unwrap();
        let host = ports.at(endpoint("127.0.0.1:80"));
        options::listen(&first, 5).unwrap();
        let second = socket(false).unwrap();
        ports.bind(&second, &at("127.0.0.1:80"), true).unwrap();
        assert_ne!(ports.at(endpoint("127.0.0.1:80")), host);
        assert_eq!((name(&ports, &first), name(&ports, &second)), (80, 80));
    }

    #[test]
    fn a_port_of_the_systems_choice_has_its_own_number() {
        let mut ports = StandIns::new().unwrap();
        let any = socket(false).unwrap();
        ports.bind(&any, &at("127.0.0.1:0"), true).unwrap();
        assert_eq!(name(&ports, &any), facts::name(&any).unwrap().port);
    }
}
