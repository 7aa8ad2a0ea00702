//! Whether the socket at the other end of a connection is still held by a process: one question for one socket
//! (`owner`), and if the kernel refuses that, its list of all sockets, which another thread reads.
use crate::io::owner::{Ends, peer_socket};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use tokio::net::TcpStream;

/// A question to the list of all sockets that may be under way.
#[derive(Debug, Default)]
pub(super) struct Lookup(Option<Arc<AtomicU8>>);

/// What came of it so far.
const PENDING: u8 = 0;
const HELD: u8 = 1;
const ORPHAN: u8 = 2;

// === impl Lookup ===

impl Lookup {
    /// Whether no process holds the other end of `stream` any more. Where that has to be looked up elsewhere, the
    /// answer is that of the last time.
    pub(super) fn is_orphan(&mut self, stream: &TcpStream) -> bool {
        let Some(ends) = Ends::of(stream) else { return true };
        match peer_socket(ends) {
            Ok(socket) => socket.is_none_or(|socket| socket.inode == 0),
            Err(_) => self.is_listed_orphan(ends.peer, ends.here),
        }
    }

    fn is_listed_orphan(&mut self, there: SocketAddr, here: SocketAddr) -> bool {
        let known = self.0.as_ref().map(|asked| asked.load(Ordering::Relaxed));
        match known {
            Some(PENDING) => false,
            Some(ORPHAN) => true,
            _ => {
                let asked = Arc::new(AtomicU8::new(PENDING));
                self.0 = Some(Arc::clone(&asked));
                // The list may be long: it is not read where connections are served.
                tokio::task::spawn_blocking(move || {
                    let orphan = listed(there, here).is_ok_and(|inode| inode.is_none_or(|inode| inode == 0));
                    asked.store(if orphan { ORPHAN } else { HELD }, Ordering::Relaxed);
                });
                false
            }
        }
    }
}

/// An IPv4 socket, whatever family it was made in.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The inode of that socket in the kernel's list.
fn listed(there: SocketAddr, here: SocketAddr) -> io::Result<Option<u32>> {
    // proc(5): addresses in the kernel's byte order. A socket of IPv6 has the other list, with the same addresses.
    let text = |address: SocketAddr, mapped: bool| {
        let bytes = match address.ip() {
            IpAddr::V4(ip) if !mapped => ip.octets().to_vec(),
            IpAddr::V4(ip) => ip.to_ipv6_mapped().octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        let words = bytes.chunks_exact(4);
        let hex: String =
            words.map(|word| format!("{:08X}", word.try_into().map_or(0, u32::from_ne_bytes))).collect();
        format!("{hex}:{:04X}", address.port())
    };
    let (there, here) = (canonical(there), canonical(here));
    let lists: &[_] = if there.is_ipv4() { &[("tcp", false), ("tcp6", true)] } else { &[("tcp6", true)] };
    for (list, mapped) in lists {
        let rows = match std::fs::read_to_string(format!("/proc/net/{list}")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            rows => rows?,
        };
        let (there, here) = (text(there, *mapped), text(here, *mapped));
        let found = rows.lines().map(|row| row.split_ascii_whitespace()).find_map(|mut fields| {
            let same = fields.nth(1) == Some(&there) && fields.next() == Some(&here);
            same.then(|| fields.nth(6).and_then(|inode| inode.parse().ok()))
        });
        if let Some(inode) = found {
            return Ok(inode);
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Shutdown, TcpListener, TcpStream};

    /// Whether both ways say that the socket at `there` is held.
    fn is_held(there: SocketAddr, here: SocketAddr) -> bool {
        let socket = peer_socket(Ends { peer: there, here }).unwrap();
        let held = socket.is_some_and(|socket| socket.inode > 0);
        let inode = listed(there, here).unwrap();
        assert_eq!(inode.is_some_and(|inode| inode > 0), held, "{there} {here}");
        held
    }

    #[test]
    fn both_ways_know_who_is_there() {
        for (bind, connect) in
            [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1"), ("[::]:0", "127.0.0.1"), ("[::]:0", "::1")]
        {
            let listener = TcpListener::bind(bind).unwrap();
            let port = listener.local_addr().unwrap().port();
            let client = TcpStream::connect((connect, port)).unwrap();
            let (ours, there) = listener.accept().unwrap();
            let here = ours.local_addr().unwrap();
            assert!(is_held(there, here), "{bind} {connect}");
            client.shutdown(Shutdown::Write).unwrap();
            assert!(is_held(there, here), "half-closed: {bind} {connect}");
            drop(client);
            assert!(!is_held(there, here), "closed: {bind} {connect}");
            // Nobody ever was at that end.
            let other = SocketAddr::new(there.ip(), 1);
            assert!(!is_held(other, here), "{bind} {connect}");
        }
    }

    /// Where the kernel takes no question.
    #[tokio::test]
    async fn the_list_is_read_aside() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (ours, there) = listener.accept().await.unwrap();
        let here = ours.local_addr().unwrap();
        let mut lookup = Lookup::default();
        assert!(!lookup.is_listed_orphan(there, here));
        drop(client);
        while !lookup.is_listed_orphan(there, here) {
            tokio::task::yield_now().await;
        }
    }
}
