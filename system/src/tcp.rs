//! The TCP sockets of this machine. Linux asks the kernel (sock_diag(7)), and where that is refused reads its lists
//! (proc_pid_net(5)); on other systems nothing is known here.
pub use crate::sockets::{Ends, Listening, PeerSocket};
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, SocketAddr};

/// The kernel's lists: the name, and the bytes of an address there.
const LISTS: [(&str, usize); 2] = [("/proc/net/tcp", 4), ("/proc/net/tcp6", 16)];

/// The sockets that listen. Takes less than a millisecond where the kernel answers, else as long as its lists are.
pub fn listening() -> Vec<Listening> {
    asked().unwrap_or_else(|_| listed())
}

/// The socket at the other end of a connection within this machine; `None` if there is none. One lookup needs a socket, a
/// request and an answer, some 10 µs, and searches no table.
///
/// # Errors
/// `ENOSYS` on systems that cannot be asked; what the kernel says where it does not answer, in a sandbox for example.
pub fn peer_socket(ends: Ends) -> nix::Result<Option<PeerSocket>> {
    #[cfg(target_os = "linux")]
    return crate::diag::peer_socket(ends);
    #[cfg(not(target_os = "linux"))]
    {
        let _ = ends;
        Err(nix::errno::Errno::ENOSYS)
    }
}

/// The user who created the socket at the other end. `None` if it is on another machine, if no process holds it any
/// more, or if the system does not say.
pub fn peer_user(ends: Ends) -> Option<u32> {
    let peer = peer_socket(ends).ok().flatten()?;
    (peer.inode != 0).then_some(peer.uid)
}

/// The inode of the socket at the other end in the kernel's lists, for where it takes no question: 0 if no process holds
/// it, `None` if there is none. The lists may be long: call it only where blocking is allowed.
///
/// # Errors
/// A list cannot be read.
pub fn peer_inode_listed(ends: Ends) -> std::io::Result<Option<u64>> {
    let wanted = [ends.peer, ends.here].map(canonical);
    for (list, width) in LISTS {
        let file = match File::open(list) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            file => file?,
        };
        for line in BufReader::new(file).lines().skip(1) {
            if let Some(row) = Row::parse(&line?, width)
                && [row.local, row.remote].map(canonical) == wanted
            {
                return Ok(Some(row.inode));
            }
        }
    }
    Ok(None)
}

#[cfg(target_os = "linux")]
fn asked() -> nix::Result<Vec<Listening>> {
    use nix::sys::socket::AddressFamily;
    let mut found = crate::diag::listening(AddressFamily::Inet)?;
    found.extend(crate::diag::listening(AddressFamily::Inet6)?);
    Ok(found)
}

#[cfg(not(target_os = "linux"))]
fn asked() -> nix::Result<Vec<Listening>> {
    Err(nix::errno::Errno::ENOSYS)
}

fn listed() -> Vec<Listening> {
    let mut found = Vec::new();
    for (list, width) in LISTS {
        let Ok(file) = File::open(list) else { continue };
        let rows = BufReader::new(file).lines().skip(1).map_while(Result::ok);
        // Listening sockets come first (net/ipv4/tcp_ipv4.c, `tcp_seq_start`): the connections are not read.
        let rows = rows.map_while(|line| Row::parse(&line, width).filter(|row| row.listens));
        found.extend(rows.map(|row| Listening { address: row.local, uid: row.uid, inode: row.inode }));
    }
    found
}

/// A line of a list: number, local and remote address, state (0A listens), …, the user as eighth and the inode as tenth.
struct Row {
    local: SocketAddr,
    remote: SocketAddr,
    listens: bool,
    uid: u32,
    inode: u64,
}

impl Row {
    fn parse(line: &str, width: usize) -> Option<Self> {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (local, remote) = (address(words.next()?, width)?, address(words.next()?, width)?);
        let listens = words.next()? == "0A";
        let (uid, inode) = (words.nth(3)?.parse().ok()?, words.nth(1)?.parse().ok()?);
        Some(Self { local, remote, listens, uid, inode })
    }
}

/// An address of a list: words of 32 bits in the order of the machine, as the kernel prints them.
fn address(text: &str, width: usize) -> Option<SocketAddr> {
    let (hex, port) = text.split_once(':')?;
    let words = hex.as_bytes().chunks_exact(8);
    let words = words.map(|word| u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok());
    let bytes: Vec<u8> = words
        .map(|word| word.map(u32::to_ne_bytes))
        .collect::<Option<Vec<_>>>()?
        .into_iter()
        .flatten()
        .collect();
    let ip = match width {
        4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        _ => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

/// An IPv4 socket, whatever family it was made in.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::os::unix::fs::MetadataExt as _;

    fn inode(socket: &impl AsFd) -> u64 {
        File::from(socket.as_fd().try_clone_to_owned().unwrap()).metadata().unwrap().ino()
    }

    fn own() -> u32 {
        nix::unistd::geteuid().as_raw()
    }

    #[test]
    fn both_ways_find_listeners() {
        let many = (0..300).filter_map(|_| TcpListener::bind("127.0.0.1:0").ok());
        let kinds = ["127.9.8.7:0", "0.0.0.0:0", "[::1]:0", "[::]:0"];
        let bound: Vec<_> =
            many.chain(kinds.iter().filter_map(|address| TcpListener::bind(address).ok())).collect();
        let (asked, listed) = (asked().unwrap(), listed());
        assert!(bound.len() > 301);
        for listener in &bound {
            let address = listener.local_addr().unwrap();
            let wanted = Listening { address, uid: own(), inode: inode(listener) };
            assert!(asked.contains(&wanted) && listed.contains(&wanted), "{wanted:?}");
        }
    }

    #[test]
    fn rows_are_read() {
        let row = |address: &str, state: &str, width| {
            let zeros = "0".repeat(width * 2);
            Row::parse(&format!("0: {address}:1F90 {zeros}:0000 {state} 0:0 0:0 0 1000 0 77 1"), width)
        };
        let v4 = row("0100007F", "0A", 4).unwrap();
        assert_eq!((v4.local, v4.uid, v4.inode), ("127.0.0.1:8080".parse().unwrap(), 1000, 77));
        assert!(v4.listens && !row("0100007F", "01", 4).unwrap().listens);
        for (text, address) in [
            ("00000000000000000000000001000000", "[::1]:8080"),
            ("0000000000000000FFFF00000100007F", "[::ffff:127.0.0.1]:8080"),
            ("000080FE000000000000000001000000", "[fe80::1]:8080"),
        ] {
            assert_eq!(row(text, "0A", 16).unwrap().local, address.parse().unwrap());
        }
        assert!(row("0100007F", "0A", 16).is_none() && Row::parse("sl local_address", 4).is_none());
    }

    #[test]
    fn the_other_end_is_found_with_its_user() {
        for (listen, connect) in [
            ("127.0.0.1:0", "127.0.0.1"),
            ("[::1]:0", "::1"),
            ("[::]:0", "127.0.0.1"),
            ("[::]:0", "::1"),
            ("0.0.0.0:0", "127.3.2.1"),
        ] {
            let listener = TcpListener::bind(listen).unwrap();
            let client = TcpStream::connect((connect, listener.local_addr().unwrap().port())).unwrap();
            let (server, peer) = listener.accept().unwrap();
            let ends = Ends { peer, here: server.local_addr().unwrap() };
            // Both ways.
            let found = |ends| (peer_socket(ends).unwrap(), peer_inode_listed(ends).unwrap());
            let of = |stream: &TcpStream| {
                let number = inode(stream);
                let socket = PeerSocket { inode: u32::try_from(number).unwrap(), uid: own() };
                (Some(socket), Some(number))
            };
            assert_eq!(found(ends), of(&client), "{listen}");
            assert_eq!(peer_user(ends), Some(own()));
            // Seen from the other end, it is the server's socket.
            let back = Ends { peer: client.peer_addr().unwrap(), here: client.local_addr().unwrap() };
            assert_eq!(found(back), of(&server), "{listen}");
            client.shutdown(Shutdown::Write).unwrap();
            assert_eq!(found(ends), of(&client), "half-closed: {listen}");
            drop(client);
            let (socket, listed) = found(ends);
            assert!(socket.is_none_or(|socket| socket.inode == 0) && listed.is_none_or(|inode| inode == 0));
            assert_eq!(peer_user(ends), None, "nobody holds it, whoever the kernel says made it");
        }
    }

    #[test]
    fn a_listener_on_the_port_is_not_the_other_end() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let here = "127.0.0.1:1".parse().unwrap();
        let nobody = [listener.local_addr().unwrap(), "192.0.2.1:80".parse().unwrap()];
        for peer in nobody {
            let ends = Ends { peer, here };
            assert_eq!((peer_socket(ends), peer_user(ends)), (Ok(None), None));
            assert_eq!(peer_inode_listed(ends).unwrap(), None);
        }
    }
}
