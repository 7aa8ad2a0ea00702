//! Finds the socket at the other end of a TCP connection within this machine, and its user. Asks the kernel for the
//! two addresses and does not search a table. Linux only; on other systems nothing is known.
//!
//! One lookup needs a socket, a request and an answer. So it is only for our own pages and for half-closed
//! connections, not for every request.
use std::net::SocketAddr;
use tokio::net::TcpStream;

/// The two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ends {
    /// The other end.
    pub(crate) peer: SocketAddr,
    /// Ours.
    pub(crate) here: SocketAddr,
}

/// The socket at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PeerSocket {
    /// Its inode number; 0 if no process holds it any more.
    pub(crate) inode: u32,
    /// The user who created it. Not valid if no process holds it.
    uid: u32,
}

// === impl Ends ===

impl Ends {
    /// The ends of a stream; `None` if it is no longer connected.
    pub(crate) fn of(stream: &TcpStream) -> Option<Self> {
        Some(Self { peer: stream.peer_addr().ok()?, here: stream.local_addr().ok()? })
    }

    /// The user who created the socket at the other end. `None` if it is on another machine, if no process holds it
    /// any more, or if the system does not say.
    pub(crate) fn peer_user(self) -> Option<u32> {
        let peer = peer_socket(self).ok().flatten()?;
        // When no process holds a socket any more, the kernel reports root as its user.
        (peer.inode != 0).then_some(peer.uid)
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn peer_socket(_: Ends) -> nix::Result<Option<PeerSocket>> {
    Err(nix::errno::Errno::ENOSYS)
}

#[cfg(target_os = "linux")]
pub(crate) use linux::peer_socket;

#[cfg(target_os = "linux")]
mod linux {
    //! sock_diag(7): one request for one socket, `struct inet_diag_req_v2`, and one answer, `struct inet_diag_msg`, each
    //! after a `struct nlmsghdr` (netlink(7)). Numbers are in host byte order, ports and addresses in network byte order.
    use super::{Ends, PeerSocket};
    use nix::errno::Errno;
    use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};
    use std::net::{IpAddr, SocketAddr};
    use std::os::fd::AsRawFd as _;

    /// `NLMSG_ERROR`
    const ERROR: u16 = 2;
    /// `SOCK_DIAG_BY_FAMILY`
    const BY_FAMILY: u16 = 20;
    /// `NLM_F_REQUEST`
    const REQUEST: u16 = 1;
    /// `IPPROTO_TCP`
    const TCP: u8 = 6;
    /// Bytes of the header, of the request after it, and of the answer after it.
    const HEADER: usize = 16;
    const QUESTION: usize = 56;
    const ANSWER: usize = 72;
    /// Offsets in an answer: the ports of the socket, and its user and inode.
    const PORTS: usize = HEADER + 4;
    const OWNER: usize = HEADER + 64;

    /// The socket at the other end; `None` if this machine has no such socket.
    pub(crate) fn peer_socket(ends: Ends) -> nix::Result<Option<PeerSocket>> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let protocol = SockProtocol::NetlinkSockDiag;
        let kernel = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
        send(kernel.as_raw_fd(), &question(ends), MsgFlags::empty())?;
        // The kernel answers during our send call.
        let mut answer = [0; 512];
        let length = recv(kernel.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        read(answer.get(..length).unwrap_or(&[]), ends)
    }

    pub(super) fn question(ends: Ends) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + QUESTION);
        let length = u32::try_from(HEADER + QUESTION).unwrap_or(u32::MAX);
        bytes.extend(length.to_ne_bytes());
        bytes.extend(BY_FAMILY.to_ne_bytes());
        bytes.extend(REQUEST.to_ne_bytes());
        // Sequence and sender: there is only one request and one sender.
        bytes.extend([0; 8]);
        let family = if ends.peer.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        bytes.extend([u8::try_from(family as i32).unwrap_or(0), TCP, 0, 0]);
        // In any state.
        bytes.extend(u32::MAX.to_ne_bytes());
        bytes.extend(ends.peer.port().to_be_bytes());
        bytes.extend(ends.here.port().to_be_bytes());
        bytes.extend(address(ends.peer));
        bytes.extend(address(ends.here));
        // On any interface, and without the cookie of an earlier answer.
        bytes.extend([0; 4]);
        bytes.extend([0xff; 8]);
        bytes
    }

    fn address(end: SocketAddr) -> [u8; 16] {
        match end.ip() {
            IpAddr::V4(ip) => {
                let mut bytes = [0; 16];
                bytes[..4].copy_from_slice(&ip.octets());
                bytes
            }
            IpAddr::V6(ip) => ip.octets(),
        }
    }

    pub(super) fn read(answer: &[u8], ends: Ends) -> nix::Result<Option<PeerSocket>> {
        let at = |from: usize| -> Option<[u8; 4]> { answer.get(from..from + 4)?.try_into().ok() };
        let kind = answer.get(4..6).and_then(|kind| kind.try_into().ok()).map(u16::from_ne_bytes);
        if kind == Some(ERROR) {
            let errno = at(HEADER).map_or(0, i32::from_ne_bytes).saturating_neg();
            return match Errno::from_raw(errno) {
                Errno::ENOENT => Ok(None),
                errno => Err(errno),
            };
        }
        let (Some(BY_FAMILY), Some(ports), Some(uid), Some(inode)) =
            (kind, at(PORTS), at(OWNER), at(OWNER + 4))
        else {
            return Err(Errno::EBADMSG);
        };
        let [a, b] = ends.peer.port().to_be_bytes();
        let [c, d] = ends.here.port().to_be_bytes();
        // If there is no such connection, the kernel may report a listener on the port.
        let found = answer.len() >= HEADER + ANSWER && ports == [a, b, c, d];
        Ok(found.then(|| PeerSocket { inode: u32::from_ne_bytes(inode), uid: u32::from_ne_bytes(uid) }))
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;
    use tokio::net::{TcpListener, TcpSocket};

    fn inode(stream: &TcpStream) -> u32 {
        use std::os::fd::AsFd as _;
        let file = std::fs::File::from(stream.as_fd().try_clone_to_owned().unwrap());
        u32::try_from(file.metadata().unwrap().ino()).unwrap()
    }

    #[tokio::test]
    async fn the_other_end_is_found_with_its_user() {
        let own = nix::unistd::geteuid().as_raw();
        for (listen, connect) in [
            ("127.0.0.1:0", "127.0.0.1"),
            ("[::1]:0", "::1"),
            ("[::]:0", "127.0.0.1"),
            ("0.0.0.0:0", "127.3.2.1"),
        ] {
            let listener = TcpListener::bind(listen).await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let client = TcpStream::connect((connect, port)).await.unwrap();
            let (server, _) = listener.accept().await.unwrap();
            let ends = Ends::of(&server).unwrap();
            let found = peer_socket(ends).unwrap();
            assert_eq!(found, Some(PeerSocket { inode: inode(&client), uid: own }), "{listen}");
            assert_eq!(ends.peer_user(), Some(own));
            // Seen from the other end, it is the server's socket.
            assert_eq!(peer_socket(Ends::of(&client).unwrap()).unwrap().unwrap().inode, inode(&server));
            drop(client);
            assert_eq!(ends.peer_user(), None, "nobody holds it, whoever the kernel says made it");
        }
    }

    #[tokio::test]
    async fn a_listener_on_the_port_is_not_the_other_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = listener.local_addr().unwrap();
        let here = "127.0.0.1:1".parse().unwrap();
        assert_eq!(peer_socket(Ends { peer, here }), Ok(None));
        let unbound = TcpSocket::new_v4().unwrap();
        unbound.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        assert_eq!(peer_socket(Ends { peer: unbound.local_addr().unwrap(), here }), Ok(None));
        let elsewhere = Ends { peer: "192.0.2.1:80".parse().unwrap(), here };
        assert_eq!((peer_socket(elsewhere), elsewhere.peer_user()), (Ok(None), None));
    }

    #[test]
    fn what_is_no_answer_names_nobody() {
        let ends = Ends { peer: "127.0.0.1:1".parse().unwrap(), here: "127.0.0.1:2".parse().unwrap() };
        let question = linux::question(ends);
        assert_eq!(question.len(), 72);
        for length in 0..question.len() {
            assert!(linux::read(&question[..length], ends).is_err(), "{length}");
        }
        let mut answer = [0xff; 88];
        answer[4..6].copy_from_slice(&20_u16.to_ne_bytes());
        assert_eq!(linux::read(&answer, ends), Ok(None), "it is of other ports");
        answer[20..24].copy_from_slice(&[0, 1, 0, 2]);
        assert_eq!(linux::read(&answer, ends), Ok(Some(PeerSocket { inode: u32::MAX, uid: u32::MAX })));
        assert!(linux::read(&answer[..87], ends).is_err());
    }
}
