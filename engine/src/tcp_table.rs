//! The kernel's list of TCP sockets (/proc/net/tcp, proc(5)): the names of a socket that we have no descriptor of.
use agentfs_wire::address::Endpoint;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The names of both ends of the socket with this number.
pub(crate) fn names(socket: u64) -> Option<(Endpoint, Endpoint)> {
    ["/proc/self/net/tcp", "/proc/self/net/tcp6"].into_iter().find_map(|table| {
        let text = std::fs::read_to_string(table).ok()?;
        text.lines().find_map(|line| entry(line, socket))
    })
}

/// A line: number, both ends, state, queues, timer, retransmissions, user, time, and the number of the socket.
fn entry(line: &str, socket: u64) -> Option<(Endpoint, Endpoint)> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let (local, remote) = (words.next()?, words.next()?);
    (words.nth(6)?.parse() == Ok(socket)).then_some(())?;
    Some((endpoint(local)?, endpoint(remote)?))
}

/// `0100007F:1F90`: the address as words of the machine, the port as a number.
fn endpoint(text: &str) -> Option<Endpoint> {
    let (ip, port) = text.split_once(':')?;
    let words: Vec<u32> = ip
        .as_bytes()
        .chunks(8)
        .map(|digits| u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok())
        .collect::<Option<_>>()?;
    let bytes: Vec<u8> = words.into_iter().flat_map(u32::to_ne_bytes).collect();
    let ip: IpAddr = match *bytes.as_slice() {
        [a, b, c, d] => Ipv4Addr::new(a, b, c, d).into(),
        ref bytes => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into(),
    };
    Some(Endpoint { ip, port: u16::from_str_radix(port, 16).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_socket_is_found() {
        for ip in ["127.0.0.1", "[::1]"] {
            let Ok(listener) = TcpListener::bind(format!("{ip}:0")) else { continue };
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let number = rustix::fs::fstat(&client).unwrap().st_ino;
            let at = |address: std::net::SocketAddr| Endpoint { ip: address.ip(), port: address.port() };
            let expected = (at(client.local_addr().unwrap()), at(client.peer_addr().unwrap()));
            assert_eq!(names(number), Some(expected));
        }
        assert_eq!(names(u64::MAX), None);
    }

    #[test]
    fn what_is_no_entry_is_none() {
        for line in ["", "sl local_address rem_address st", "0: zz:1 00:2 0A 0 0 0 0 0 7"] {
            assert_eq!(entry(line, 7), None, "{line}");
        }
    }
}
