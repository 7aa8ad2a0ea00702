//! Socket addresses as bytes. Pure.
use agentfs_wire::address::Endpoint;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes of `sockaddr_in`.
const IN_BYTES: usize = 16;
/// Bytes of `sockaddr_in6`.
const IN6_BYTES: usize = 28;
/// Least bytes of an IPv6 address that the kernel takes (`SIN6_LEN_RFC2133`).
const IN6_LEAST_BYTES: usize = 24;

/// Reads an inet address. Nothing for other families, and for what is too short.
pub(crate) fn read(bytes: &[u8]) -> Option<Endpoint> {
    let family = i32::from(u16::from_ne_bytes(*bytes.first_chunk()?));
    let port = u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]);
    let ip = match family {
        libc::AF_INET if bytes.len() >= IN_BYTES => {
            let octets: [u8; 4] = bytes.get(4..8)?.try_into().ok()?;
            IpAddr::V4(Ipv4Addr::from(octets))
        }
        libc::AF_INET6 if bytes.len() >= IN6_LEAST_BYTES => {
            let octets: [u8; 16] = bytes.get(8..24)?.try_into().ok()?;
            IpAddr::V6(Ipv6Addr::from(octets))
        }
        _ => return None,
    };
    Some(Endpoint { ip, port })
}

/// Writes an inet address.
pub(crate) fn write(endpoint: Endpoint) -> Vec<u8> {
    let family = match endpoint.ip {
        IpAddr::V4(_) => libc::AF_INET,
        IpAddr::V6(_) => libc::AF_INET6,
    };
    let mut bytes = u16::try_from(family).unwrap_or(0).to_ne_bytes().to_vec();
    bytes.extend(endpoint.port.to_be_bytes());
    match endpoint.ip {
        IpAddr::V4(ip) => {
            bytes.extend(ip.octets());
            bytes.resize(IN_BYTES, 0);
        }
        IpAddr::V6(ip) => {
            bytes.extend([0; 4]);
            bytes.extend(ip.octets());
            bytes.resize(IN6_BYTES, 0);
        }
    }
    bytes
}

/// The same address with another port.
pub(crate) fn with_port(bytes: &[u8], port: u16) -> Vec<u8> {
    let [family, ports, rest] = [0..2, 2..4, 4..bytes.len()].map(|part| bytes.get(part).unwrap_or_default());
    debug_assert_eq!(ports.len(), 2, "an inet address");
    [family, &port.to_be_bytes(), rest].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back_and_short_ones_are_refused() {
        for (text, least) in [("127.0.0.1:80", IN_BYTES), ("[::1]:65535", IN6_LEAST_BYTES)] {
            let address: std::net::SocketAddr = text.parse().unwrap();
            let endpoint = Endpoint { ip: address.ip(), port: address.port() };
            let bytes = write(endpoint);
            assert_eq!(read(&bytes), Some(endpoint));
            assert_eq!(read(&with_port(&bytes, 7)), Some(Endpoint { port: 7, ..endpoint }));
            assert_eq!(read(&bytes[..least]), Some(endpoint));
            for length in 0..least {
                assert_eq!(read(&bytes[..length]), None, "{text}, {length} bytes");
            }
        }
        assert_eq!(read(&[1, 0, b'/', b'x', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None);
    }
}
