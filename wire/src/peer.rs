//! Names of the client ends of connections, so that both ends agree on addresses and ports.
//!
//! Before a client socket of an instance connects, it is bound to an abstract name (Linux, unix(7)). The name
//! contains what TCP would know: its own address and port, and the address it connected to.
//!
//! ```text
//! \0afs1/C/{space}/{4|6}{own ip}.{own port}.{ip}.{port}     a client of the instance
//! \0afs1/{H|P}/{client ip}:{port}/{pid}.{seq}               the collector, for a client out there
//! ```
//!
//! macOS has no abstract names. There, the second form is a file beside the run dir: `f.`, then the name
//! without its prefix, with `-` for slashes ([`forwarded_file`]). The file is removed once connected; the
//! kernel keeps the name.
//!
//! The collector's name has an IPv4 address in dotted form, an IPv6 address as 32 hexadecimal digits in
//! brackets.
//!
//! `space` is a hash of run dir, app and instance. The kernel refuses a second socket with the same name, so
//! ephemeral ports are unique within an instance without a table.
use crate::address::Endpoint;
use crate::text::{Text, cut, cut_last, parse_hex, parse_number, parts};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes of the longest name (`sun_path` holds 108 on Linux).
pub const PEER_NAME_BYTES: usize = 100;

/// A name, including its leading NUL.
pub type PeerName = Text<PEER_NAME_BYTES>;

/// The client end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A client of the instance that the interposer connected.
    Client {
        /// Whether its socket is an IPv6 one (IPv4 addresses then show as mapped).
        v6_socket: bool,
        /// Its own address, canonical (never mapped).
        local: Endpoint,
        /// The address it connected to, canonical.
        remote: Endpoint,
    },
    /// The collector, on behalf of an outside client. The client's bytes follow (`P`), or its TCP socket by
    /// `SCM_RIGHTS` (`H`).
    Forwarded {
        /// The client's true address.
        client: Endpoint,
        /// Whether a descriptor follows.
        handed_over: bool,
    },
}

const PREFIX: &str = "\0afs1/";

// === impl Peer ===

impl Peer {
    /// Reads the name of a peer: all bytes of `sun_path` that its length covers.
    pub fn parse(name: &[u8]) -> Option<Self> {
        let name = core::str::from_utf8(name).ok()?.strip_prefix(PREFIX)?;
        let (kind, rest) = cut(name, b'/')?;
        let (first, second) = cut(rest, b'/')?;
        match kind {
            "C" => {
                parse_hex(first, 16)?;
                let v6_socket = match second.get(..1)? {
                    "4" => false,
                    "6" => true,
                    _ => return None,
                };
                let mut parts = parts(second.get(1..)?, b'.');
                let local = Endpoint { ip: parse_ip(parts.next()?)?, port: parse_port(parts.next()?)? };
                let remote = Endpoint { ip: parse_ip(parts.next()?)?, port: parse_port(parts.next()?)? };
                parts.next().is_none().then_some(Self::Client { v6_socket, local, remote })
            }
            "H" | "P" => {
                let (ip, port) = cut_last(first, b':')?;
                let port = u16::try_from(parse_number(port, u64::from(u16::MAX))?).ok()?;
                let client = Endpoint { ip: parse_client_ip(ip)?, port };
                let (pid, sequence) = cut(second, b'.')?;
                parse_number(pid, u64::from(u32::MAX))?;
                parse_number(sequence, u64::MAX)?;
                Some(Self::Forwarded { client, handed_over: kind == "H" })
            }
            _ => None,
        }
    }

    /// Writes a client's name. `space` is [`space`] of the instance.
    pub fn format_client(space: u64, v6_socket: bool, local: Endpoint, remote: Endpoint) -> PeerName {
        let mut name = PeerName::new();
        name.push(PREFIX);
        name.push("C/");
        name.push_hex(space, 16);
        name.push(if v6_socket { "/6" } else { "/4" });
        push_ip(&mut name, local.ip);
        name.push(".");
        name.push_hex(local.port.into(), 4);
        name.push(".");
        push_ip(&mut name, remote.ip);
        name.push(".");
        name.push_hex(remote.port.into(), 4);
        name
    }

    /// Writes the collector's name for a connection that it makes on behalf of `client`. `pid` and
    /// `sequence` make it unique.
    pub fn format_forwarded(client: Endpoint, handed_over: bool, pid: u32, sequence: u64) -> PeerName {
        let mut name = PeerName::new();
        name.push(PREFIX);
        name.push(if handed_over { "H/" } else { "P/" });
        match client.ip {
            IpAddr::V4(ip) => {
                for (index, octet) in ip.octets().into_iter().enumerate() {
                    name.push(if index == 0 { "" } else { "." });
                    name.push_number(octet.into());
                }
            }
            IpAddr::V6(ip) => {
                name.push("[");
                let bits = ip.to_bits();
                name.push_hex(u64::try_from(bits >> 64).unwrap_or(0), 16);
                name.push_hex(u64::try_from(bits & u128::from(u64::MAX)).unwrap_or(0), 16);
                name.push("]");
            }
        }
        name.push(":");
        name.push_number(client.port.into());
        name.push("/");
        name.push_number(pid.into());
        name.push(".");
        name.push_number(sequence);
        name
    }
}

/// Start of a forwarded connection's file on macOS.
const FILE_PREFIX: &str = "f.";

/// The file name that stands for a name of [`Peer::format_forwarded`] where there are no abstract names.
pub fn forwarded_file(name: &PeerName) -> PeerName {
    let mut file = PeerName::new();
    file.push(FILE_PREFIX);
    for (index, part) in parts(name.as_str().strip_prefix(PREFIX).unwrap_or_default(), b'/').enumerate() {
        file.push(if index == 0 { "" } else { "-" });
        file.push(part);
    }
    file
}

/// Reads such a file name.
pub fn parse_forwarded_file(file: &str) -> Option<Peer> {
    let mut name = PeerName::new();
    name.push(PREFIX);
    for (index, part) in parts(file.strip_prefix(FILE_PREFIX)?, b'-').enumerate() {
        let pushed = name.push(if index == 0 { "" } else { "/" }) && name.push(part);
        if !pushed {
            return None;
        }
    }
    match Peer::parse(name.as_bytes())? {
        peer @ Peer::Forwarded { .. } => Some(peer),
        Peer::Client { .. } => None,
    }
}

/// FNV-1a (64 bit) over run dir, app and instance: the name space of an instance's client sockets.
pub fn space(run_dir: &[u8], app: &str, instance: &str) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in [run_dir, app.as_bytes(), instance.as_bytes()] {
        for byte in part.iter().chain(&[0]) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    hash
}

fn push_ip(name: &mut PeerName, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => name.push_hex(u64::from(u32::from(ip)), 8),
        IpAddr::V6(ip) if ip.is_unspecified() => name.push("y"),
        IpAddr::V6(_) => name.push("x"),
    };
}

fn parse_ip(text: &str) -> Option<IpAddr> {
    match text {
        "x" => Some(IpAddr::V6(Ipv6Addr::LOCALHOST)),
        "y" => Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        _ => Some(IpAddr::V4(Ipv4Addr::from(u32::try_from(parse_hex(text, 8)?).ok()?))),
    }
}

/// A dotted IPv4 address, or 32 hexadecimal digits in brackets.
fn parse_client_ip(text: &str) -> Option<IpAddr> {
    if let Some(digits) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        let high = u128::from(parse_hex(digits.get(..16)?, 16)?);
        let low = u128::from(parse_hex(digits.get(16..)?, 16)?);
        return Some(IpAddr::V6(Ipv6Addr::from_bits((high << 64) | low)));
    }
    let mut octets = [0_u8; 4];
    let mut parts = parts(text, b'.');
    for octet in &mut octets {
        *octet = u8::try_from(parse_number(parts.next()?, 255)?).ok()?;
    }
    parts.next().is_none().then_some(IpAddr::V4(Ipv4Addr::from(octets)))
}

fn parse_port(text: &str) -> Option<u16> {
    u16::try_from(parse_hex(text, 4)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_client_name_reads_back(space: u64, v6_socket: bool, low: u32, port: u16, to: u16, v6: bool) {
            let ip = if v6 { IpAddr::V6(Ipv6Addr::LOCALHOST) } else { IpAddr::V4(Ipv4Addr::from(0x7f00_0000 | (low >> 8))) };
            let (local, remote) = (Endpoint { ip, port }, Endpoint { ip, port: to });
            let name = Peer::format_client(space, v6_socket, local, remote);
            prop_assert_eq!(Peer::parse(name.as_bytes()), Some(Peer::Client { v6_socket, local, remote }));
        }

        #[test]
        fn a_forwarded_name_reads_back(ip: IpAddr, port: u16, handed_over: bool, pid: u32, sequence: u64) {
            let client = Endpoint { ip, port };
            let name = Peer::format_forwarded(client, handed_over, pid, sequence);
            prop_assert_eq!(Peer::parse(name.as_bytes()), Some(Peer::Forwarded { client, handed_over }));
            let file = forwarded_file(&name);
            prop_assert!(!file.as_str().contains('/'));
            prop_assert_eq!(parse_forwarded_file(file.as_str()), Some(Peer::Forwarded { client, handed_over }));
        }

        #[test]
        fn parse_never_panics(name: Vec<u8>) {
            let _ = Peer::parse(&name);
            let _ = parse_forwarded_file(&String::from_utf8_lossy(&name));
        }
    }

    /// Programs that were started by another build have to understand them.
    #[test]
    fn names_are_these_bytes() {
        let end = |ip: &str, port| Endpoint { ip: ip.parse().unwrap(), port };
        let (v4, v6) = (end("127.0.0.1", 0x50), end("::1", 0x1f90));
        let client = |six, local, remote| Peer::format_client(0xabc, six, local, remote).as_str().to_owned();
        assert_eq!(client(false, v4, v4), "\0afs1/C/0000000000000abc/47f000001.0050.7f000001.0050");
        assert_eq!(client(true, v6, end("::", 1)), "\0afs1/C/0000000000000abc/6x.1f90.y.0001");
        let any = Peer::format_client(1, true, end("::", 1), v6);
        assert_eq!(
            Peer::parse(any.as_bytes()),
            Some(Peer::Client { v6_socket: true, local: end("::", 1), remote: v6 })
        );
        let forwarded = |ip, handed| Peer::format_forwarded(end(ip, 80), handed, 7, 12);
        assert_eq!(forwarded("192.0.2.1", false).as_str(), "\0afs1/P/192.0.2.1:80/7.12");
        let v6 = forwarded("2001:db8::1", true);
        assert_eq!(v6.as_str(), "\0afs1/H/[20010db8000000000000000000000001]:80/7.12");
        assert_eq!(forwarded_file(&v6).as_str(), "f.H-[20010db8000000000000000000000001]:80-7.12");
        // The space of an instance is part of names as well.
        assert_eq!(space(b"/home/ada/.agentfs/run", "shop", "main"), 0x8750_30ab_4096_0c50);
        assert_eq!(parse_forwarded_file("f.C-0000000000000abc-47f000001.0050.7f000001.0050"), None);
    }

    #[test]
    fn a_name_with_anything_behind_it_is_not_ours() {
        let client = "\0afs1/C/0123456789abcdef/47f000001.0050.7f000001.1f90";
        let forwarded = "\0afs1/P/127.0.0.1:80/7.1";
        let forwarded_v6 = "\0afs1/H/[00000000000000000000000000000001]:80/7.1";
        for name in [client, forwarded, forwarded_v6] {
            assert!(Peer::parse(name.as_bytes()).is_some(), "{name:?}");
            for more in [".", ".0050", "0", "/", "/x", "\0", " ", "x"] {
                // One digit more is another sequence number.
                if more == "0" && name != client {
                    continue;
                }
                let longer = format!("{name}{more}");
                assert_eq!(Peer::parse(longer.as_bytes()), None, "{longer:?}");
            }
        }
        for inside in ["127.0.0.1.1", "127.0.0", "[000000000000000000000000000000010]"] {
            assert_eq!(Peer::parse(format!("\0afs1/P/{inside}:80/7.1").as_bytes()), None, "{inside}");
        }
        for end in ["", "7", "7.", ".1", "7.1.2", "x.1", "7.x"] {
            assert_eq!(Peer::parse(format!("\0afs1/P/127.0.0.1:80/{end}").as_bytes()), None, "{end:?}");
        }
    }
}
