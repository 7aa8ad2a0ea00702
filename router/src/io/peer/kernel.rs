//! What the kernel says of one TCP socket of this machine: one question for one socket (sock_diag(7)), and where it
//! takes none, its list of all sockets, which somebody else reads.
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use tokio::net::TcpStream;

/// `SOCK_DIAG_BY_FAMILY` (linux/sock_diag.h).
const BY_FAMILY: u16 = 20;

/// `NLMSG_ERROR` and `NLM_F_REQUEST` (linux/netlink.h).
const ERROR: u16 = 2;
const REQUEST: u16 = 1;

/// `IPPROTO_TCP`.
const TCP: u8 = 6;

/// State of a listener (`TCP_LISTEN`): it may have the port that a closed socket had.
const LISTEN: u8 = 10;

/// Bytes of a question: `nlmsghdr` and `inet_diag_req_v2` (linux/inet_diag.h).
const QUESTION: usize = 72;

/// Where an answer, `nlmsghdr` and `inet_diag_msg`, says the socket's state, its owner and its inode.
const STATE_AT: usize = 17;
const UID_AT: usize = 80;
const INODE_AT: usize = 84;

/// A socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owner {
    /// The user that made it.
    uid: u32,
    /// 0 once no process holds it.
    inode: u32,
}

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
        let (Ok(there), Ok(here)) = (stream.peer_addr(), stream.local_addr()) else { return true };
        match owner(there, here) {
            Ok(owner) => owner.is_none_or(|owner| owner.inode == 0),
            Err(_) => self.is_listed_orphan(there, here),
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

/// Who owns the socket at `there` that is connected to `here`; `None` where there is none.
fn owner(there: SocketAddr, here: SocketAddr) -> io::Result<Option<Owner>> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let netlink = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkSockDiag)?;
    sendto(netlink.as_raw_fd(), &question(there, here), &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    // The kernel answers before it returns; nobody is waited for.
    let mut room = [0; 512];
    let count = recv(netlink.as_raw_fd(), &mut room, MsgFlags::MSG_DONTWAIT)?;
    answer(room.get(..count).unwrap_or_default())
}

fn question(there: SocketAddr, here: SocketAddr) -> [u8; QUESTION] {
    let (there, here) = (canonical(there), canonical(here));
    let family = if there.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let mut bytes = [0; QUESTION];
    let mut put = |at: usize, part: &[u8]| bytes[at..at + part.len()].copy_from_slice(part);
    put(0, &72_u32.to_ne_bytes());
    put(4, &BY_FAMILY.to_ne_bytes());
    put(6, &REQUEST.to_ne_bytes());
    put(16, &[u8::try_from(family as i32).unwrap_or_default(), TCP]);
    // In any state.
    put(20, &u32::MAX.to_ne_bytes());
    for (port_at, address_at, end) in [(24, 28, there), (26, 44, here)] {
        put(port_at, &end.port().to_be_bytes());
        match end.ip() {
            IpAddr::V4(ip) => put(address_at, &ip.octets()),
            IpAddr::V6(ip) => put(address_at, &ip.octets()),
        }
    }
    // On any interface (0), whatever its cookie.
    put(64, &u64::MAX.to_ne_bytes());
    bytes
}

fn answer(bytes: &[u8]) -> io::Result<Option<Owner>> {
    let word = |at: usize| {
        let word = bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
        word.map(u32::from_ne_bytes).ok_or(io::ErrorKind::InvalidData)
    };
    let kind = bytes.get(4..6).and_then(|kind| kind.try_into().ok()).map(u16::from_ne_bytes);
    match kind {
        Some(BY_FAMILY) if bytes.get(STATE_AT) == Some(&LISTEN) => Ok(None),
        Some(BY_FAMILY) => Ok(Some(Owner { uid: word(UID_AT)?, inode: word(INODE_AT)? })),
        Some(ERROR) => {
            let error = io::Error::from_raw_os_error(word(16)?.cast_signed().wrapping_neg());
            if error.kind() == io::ErrorKind::NotFound { Ok(None) } else { Err(error) }
        }
        _ => Err(io::ErrorKind::InvalidData.into()),
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

    /// Whether both ways say that the socket at `there` is held, and by whom the first says that it was made.
    fn ask(there: SocketAddr, here: SocketAddr) -> (bool, Option<u32>) {
        let owner = owner(there, here).unwrap();
        let held = owner.is_some_and(|owner| owner.inode > 0);
        let inode = listed(there, here).unwrap();
        assert_eq!(inode.is_some_and(|inode| inode > 0), held, "{there} {here}");
        (held, owner.filter(|_| held).map(|owner| owner.uid))
    }

    #[test]
    fn both_ways_know_who_is_there() {
        let uid = nix::unistd::Uid::effective().as_raw();
        for (bind, connect) in
            [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1"), ("[::]:0", "127.0.0.1"), ("[::]:0", "::1")]
        {
            let listener = TcpListener::bind(bind).unwrap();
            let port = listener.local_addr().unwrap().port();
            let client = TcpStream::connect((connect, port)).unwrap();
            let (ours, there) = listener.accept().unwrap();
            let here = ours.local_addr().unwrap();
            assert_eq!(ask(there, here), (true, Some(uid)), "{bind} {connect}");
            client.shutdown(Shutdown::Write).unwrap();
            assert_eq!(ask(there, here), (true, Some(uid)), "half-closed: {bind} {connect}");
            drop(client);
            assert_eq!(ask(there, here), (false, None), "closed: {bind} {connect}");
            // Nobody ever was at that end.
            let other = SocketAddr::new(there.ip(), 1);
            assert_eq!(ask(other, here), (false, None), "{bind} {connect}");
        }
    }

    #[test]
    fn a_refusal_is_an_error_and_nonsense_too() {
        let mut refusal = [0; 36];
        refusal[4] = 2;
        refusal[16..20].copy_from_slice(&(-13_i32).to_ne_bytes());
        assert_eq!(answer(&refusal).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        refusal[16..20].copy_from_slice(&(-2_i32).to_ne_bytes());
        assert_eq!(answer(&refusal).unwrap(), None);
        for bytes in [&[][..], &[0; 16], &refusal[..18], &[0, 0, 0, 0, 20, 0]] {
            assert!(answer(bytes).is_err(), "{bytes:?}");
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
