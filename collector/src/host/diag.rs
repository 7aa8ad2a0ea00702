//! Asks the kernel for the TCP sockets that listen: sock_diag(7), one dump of a family. `/proc/net/tcp` has the same, but
//! the kernel walks its whole table of connections for it: milliseconds on a machine with much memory.
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd as _;

/// `NLMSG_ERROR`
const ERROR: u16 = 2;
/// `NLMSG_DONE`
const DONE: u16 = 3;
/// `SOCK_DIAG_BY_FAMILY`
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST | NLM_F_DUMP`
const DUMP: u16 = 0x301;
/// `IPPROTO_TCP`
const TCP: u8 = 6;
/// `1 << TCP_LISTEN`
const LISTEN: u32 = 1 << 10;
/// Bytes of `struct nlmsghdr`, and of `struct inet_diag_req_v2` after it.
const HEADER: usize = 16;
const QUESTION: usize = 56;
/// Offsets in a message: port and address of the socket, and its inode.
const PORT: usize = HEADER + 4;
const ADDRESS: usize = HEADER + 8;
const INODE: usize = HEADER + 68;
/// Bytes that are read at once; the kernel fills at most 32 KiB (net/netlink/af_netlink.c).
const PART: usize = 32 * 1024;

/// A socket that listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Listening {
    pub(super) ip: IpAddr,
    pub(super) port: u16,
    pub(super) inode: u64,
}

/// The sockets of a family that listen.
///
/// # Errors
/// The kernel does not answer: a sandbox, or a kernel without `inet_diag`.
pub(super) fn listening(family: AddressFamily) -> nix::Result<Vec<Listening>> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let kernel = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkSockDiag)?;
    send(kernel.as_raw_fd(), &question(family), MsgFlags::empty())?;
    let mut found = Vec::new();
    let mut part = vec![0; PART];
    loop {
        // The kernel writes each part when the one before was read.
        let length = recv(kernel.as_raw_fd(), &mut part, MsgFlags::empty())?;
        if read(part.get(..length).unwrap_or(&[]), family, &mut found)? {
            return Ok(found);
        }
    }
}

fn question(family: AddressFamily) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + QUESTION);
    bytes.extend(u32::try_from(HEADER + QUESTION).unwrap_or(u32::MAX).to_ne_bytes());
    bytes.extend(BY_FAMILY.to_ne_bytes());
    bytes.extend(DUMP.to_ne_bytes());
    // Sequence and sender: there is only one request and one sender.
    bytes.extend([0; 8]);
    bytes.extend([u8::try_from(family as i32).unwrap_or(0), TCP, 0, 0]);
    bytes.extend(LISTEN.to_ne_bytes());
    // Of any address.
    bytes.resize(HEADER + QUESTION, 0);
    bytes
}

/// Reads the messages of one part (netlink(7)); whether it was the last.
fn read(mut part: &[u8], family: AddressFamily, found: &mut Vec<Listening>) -> nix::Result<bool> {
    while let Some(length) = part.get(..4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes) {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let message = part.get(..length).filter(|message| message.len() >= HEADER).ok_or(Errno::EBADMSG)?;
        match message.get(4..6).and_then(|kind| kind.try_into().ok()).map(u16::from_ne_bytes) {
            Some(DONE) => return Ok(true),
            Some(ERROR) => {
                let errno = message.get(HEADER..HEADER + 4).and_then(|bytes| bytes.try_into().ok());
                return Err(Errno::from_raw(errno.map_or(0, i32::from_ne_bytes).saturating_neg()));
            }
            Some(BY_FAMILY) => found.push(socket_of(message, family).ok_or(Errno::EBADMSG)?),
            _ => {}
        }
        // Messages begin at multiples of four (`NLMSG_ALIGN`).
        part = part.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    Ok(false)
}

fn socket_of(message: &[u8], family: AddressFamily) -> Option<Listening> {
    let bytes = |from: usize| message.get(from..from + 4)?.try_into().ok();
    let ip = if family == AddressFamily::Inet {
        let ip: [u8; 4] = bytes(ADDRESS)?;
        IpAddr::V4(Ipv4Addr::from(ip))
    } else {
        let ip: [u8; 16] = message.get(ADDRESS..ADDRESS + 16)?.try_into().ok()?;
        IpAddr::V6(Ipv6Addr::from(ip))
    };
    let port = u16::from_be_bytes(message.get(PORT..PORT + 2)?.try_into().ok()?);
    Some(Listening { ip, port, inode: u32::from_ne_bytes(bytes(INODE)?).into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::fd::AsFd as _;
    use std::os::unix::fs::MetadataExt as _;

    fn inode(listener: &TcpListener) -> u64 {
        std::fs::File::from(listener.as_fd().try_clone_to_owned().unwrap()).metadata().unwrap().ino()
    }

    #[test]
    fn listeners_are_found_with_their_inode() {
        let all: Vec<_> = (0..300).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let found = listening(AddressFamily::Inet).unwrap();
        for listener in &all {
            let address = listener.local_addr().unwrap();
            let wanted = Listening { ip: address.ip(), port: address.port(), inode: inode(listener) };
            assert!(found.contains(&wanted), "{wanted:?}");
        }
        if let Ok(listener) = TcpListener::bind("[::1]:0") {
            let address = listener.local_addr().unwrap();
            let wanted = Listening { ip: address.ip(), port: address.port(), inode: inode(&listener) };
            assert!(listening(AddressFamily::Inet6).unwrap().contains(&wanted));
        }
    }

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
            read(bytes, AddressFamily::Inet, &mut found).map(|last| (last, found.len()))
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
}
