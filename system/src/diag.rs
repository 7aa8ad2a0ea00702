//! sock_diag(7): a request for TCP sockets, `struct inet_diag_req_v2`, and answers, `struct inet_diag_msg`, each after a
//! `struct nlmsghdr` (netlink(7)). Numbers are in host byte order, ports and addresses in network byte order.
use crate::sockets::{Ends, Listening, PeerSocket};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd as _, OwnedFd};

/// `NLMSG_ERROR`
const ERROR: u16 = 2;
/// `NLMSG_DONE`
const DONE: u16 = 3;
/// `SOCK_DIAG_BY_FAMILY`
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST`, and `NLM_F_REQUEST | NLM_F_DUMP`
const ONE: u16 = 1;
const DUMP: u16 = 0x301;
/// `IPPROTO_TCP`
const TCP: u8 = 6;
/// `1 << TCP_LISTEN`, and all states
const LISTEN: u32 = 1 << 10;
const ANY: u32 = u32::MAX;
/// Bytes of the header, of the request after it, and of the answer after it.
const HEADER: usize = 16;
const QUESTION: usize = 56;
const ANSWER: usize = 72;
/// Offsets in an answer: the ports of the socket, its own address, its user and its inode.
const PORTS: usize = HEADER + 4;
const ADDRESS: usize = HEADER + 8;
const USER: usize = HEADER + 64;
const INODE: usize = HEADER + 68;
/// Bytes that are read at once; the kernel fills at most 32 KiB (net/netlink/af_netlink.c).
const PART: usize = 32 * 1024;

/// The sockets of a family that listen: one dump. `/proc/net/tcp` has the same, but the kernel walks its whole table of
/// connections for it: milliseconds on a machine with much memory.
///
/// # Errors
/// The kernel does not answer: a sandbox, or a kernel without `inet_diag`.
pub(crate) fn listening(family: AddressFamily) -> nix::Result<Vec<Listening>> {
    let kernel = ask(&question(family, DUMP, LISTEN, None))?;
    let mut found = Vec::new();
    let mut part = vec![0; PART];
    loop {
        // The kernel writes each part when the one before was read.
        let length = recv(kernel.as_raw_fd(), &mut part, MsgFlags::empty())?;
        if read_part(part.get(..length).unwrap_or(&[]), family, &mut found)? {
            return Ok(found);
        }
    }
}

/// The socket at the other end of a connection within this machine; `None` if there is none.
///
/// # Errors
/// As above.
pub(crate) fn peer_socket(ends: Ends) -> nix::Result<Option<PeerSocket>> {
    let family = if ends.peer.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let kernel = ask(&question(family, ONE, ANY, Some(ends)))?;
    // The kernel answers during our send call.
    let mut answer = [0; 512];
    let length = recv(kernel.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    read_peer(answer.get(..length).unwrap_or(&[]), ends)
}

fn ask(question: &[u8]) -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let kernel = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkSockDiag)?;
    send(kernel.as_raw_fd(), question, MsgFlags::empty())?;
    Ok(kernel)
}

fn question(family: AddressFamily, flags: u16, states: u32, ends: Option<Ends>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + QUESTION);
    bytes.extend(u32::try_from(HEADER + QUESTION).unwrap_or(u32::MAX).to_ne_bytes());
    bytes.extend(BY_FAMILY.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    // Sequence and sender: there is only one request and one sender.
    bytes.extend([0; 8]);
    bytes.extend([u8::try_from(family as i32).unwrap_or(0), TCP, 0, 0]);
    bytes.extend(states.to_ne_bytes());
    if let Some(ends) = ends {
        bytes.extend(ends.peer.port().to_be_bytes());
        bytes.extend(ends.here.port().to_be_bytes());
        bytes.extend(address(ends.peer));
        bytes.extend(address(ends.here));
        // On any interface, and without the cookie of an earlier answer.
        bytes.extend([0; 4]);
        bytes.extend([0xff; 8]);
    }
    // Of any address.
    bytes.resize(HEADER + QUESTION, 0);
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

/// Reads the messages of one part (netlink(7)); whether it was the last.
fn read_part(mut part: &[u8], family: AddressFamily, found: &mut Vec<Listening>) -> nix::Result<bool> {
    while let Some(length) = bytes(part, 0).map(u32::from_ne_bytes) {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let message = part.get(..length).filter(|message| message.len() >= HEADER).ok_or(Errno::EBADMSG)?;
        match kind(message) {
            Some(DONE) => return Ok(true),
            Some(ERROR) => return Err(refusal(message)),
            Some(BY_FAMILY) => found.push(listener(message, family).ok_or(Errno::EBADMSG)?),
            _ => {}
        }
        // Messages begin at multiples of four (`NLMSG_ALIGN`).
        part = part.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    Ok(false)
}

fn read_peer(answer: &[u8], ends: Ends) -> nix::Result<Option<PeerSocket>> {
    let kind = kind(answer);
    if kind == Some(ERROR) {
        return match refusal(answer) {
            Errno::ENOENT => Ok(None),
            errno => Err(errno),
        };
    }
    let (Some(BY_FAMILY), Some(ports), Some(uid), Some(inode)) =
        (kind, bytes(answer, PORTS), bytes(answer, USER), bytes(answer, INODE))
    else {
        return Err(Errno::EBADMSG);
    };
    let [a, b] = ends.peer.port().to_be_bytes();
    let [c, d] = ends.here.port().to_be_bytes();
    // If there is no such connection, the kernel may report a listener on the port.
    let found = answer.len() >= HEADER + ANSWER && ports == [a, b, c, d];
    Ok(found.then(|| PeerSocket { inode: u32::from_ne_bytes(inode), uid: u32::from_ne_bytes(uid) }))
}

fn listener(message: &[u8], family: AddressFamily) -> Option<Listening> {
    let ip = if family == AddressFamily::Inet {
        IpAddr::from(bytes::<4>(message, ADDRESS)?)
    } else {
        IpAddr::from(bytes::<16>(message, ADDRESS)?)
    };
    Some(Listening {
        address: SocketAddr::new(ip, u16::from_be_bytes(bytes(message, PORTS)?)),
        uid: u32::from_ne_bytes(bytes(message, USER)?),
        inode: u32::from_ne_bytes(bytes(message, INODE)?).into(),
    })
}

fn kind(message: &[u8]) -> Option<u16> {
    bytes(message, 4).map(u16::from_ne_bytes)
}

fn refusal(message: &[u8]) -> Errno {
    Errno::from_raw(bytes(message, HEADER).map_or(0, i32::from_ne_bytes).saturating_neg())
}

fn bytes<const N: usize>(message: &[u8], from: usize) -> Option<[u8; N]> {
    message.get(from..from + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_answer_is_an_error_and_the_end_ends() {
        let message = |kind: u16, length: u32| {
            let mut bytes = length.to_ne_bytes().to_vec();
            bytes.extend(kind.to_ne_bytes());
            bytes.resize(88, 0);
            bytes
        };
        let read = |bytes: &[u8]| {
            let mut found = Vec::new();
            read_part(bytes, AddressFamily::Inet, &mut found).map(|last| (last, found.len()))
        };
        assert_eq!(read(&[]), Ok((false, 0)));
        assert_eq!(read(&message(BY_FAMILY, 88)), Ok((false, 1)));
        assert_eq!(read(&[message(BY_FAMILY, 88), message(DONE, 20)].concat()), Ok((true, 1)));
        assert_eq!(read(&message(BY_FAMILY, 40)), Err(Errno::EBADMSG), "too short for a socket");
        for length in [0, 15, 89, u32::MAX] {
            assert_eq!(read(&message(BY_FAMILY, length)), Err(Errno::EBADMSG), "{length}");
        }
        let mut refused = message(ERROR, 36);
        refused[16..20].copy_from_slice(&(-2_i32).to_ne_bytes());
        assert_eq!(read(&refused), Err(Errno::ENOENT));
    }

    #[test]
    fn what_is_no_answer_names_nobody() {
        let ends = Ends { peer: "127.0.0.1:1".parse().unwrap(), here: "127.0.0.1:2".parse().unwrap() };
        let question = question(AddressFamily::Inet, ONE, ANY, Some(ends));
        assert_eq!(question.len(), 72);
        for length in 0..question.len() {
            assert!(read_peer(&question[..length], ends).is_err(), "{length}");
        }
        let mut answer = [0xff; 88];
        answer[4..6].copy_from_slice(&20_u16.to_ne_bytes());
        assert_eq!(read_peer(&answer, ends), Ok(None), "it is of other ports");
        answer[20..24].copy_from_slice(&[0, 1, 0, 2]);
        assert_eq!(read_peer(&answer, ends), Ok(Some(PeerSocket { inode: u32::MAX, uid: u32::MAX })));
        assert!(read_peer(&answer[..87], ends).is_err());
    }
}
