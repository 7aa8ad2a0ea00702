//! The kernel's table of TCP sockets (sock_diag(7)): the names of a socket that we have no descriptor of. Numbers are in host
//! byte order, ports and addresses in network byte order.
use agentfs_wire::address::Endpoint;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};
use std::net::IpAddr;
use std::os::fd::AsRawFd;

/// Bytes of `struct nlmsghdr`, and of `struct inet_diag_req_v2` after it.
const HEADER: usize = 16;
const QUESTION: usize = 56;
/// Offsets in an answer: the ports, the addresses, the number of the socket.
const PORTS: usize = HEADER + 4;
const ADDRESSES: usize = HEADER + 8;
const NUMBER: usize = HEADER + 68;
/// `SOCK_DIAG_BY_FAMILY`, `NLMSG_DONE` and `NLMSG_ERROR`.
const BY_FAMILY: u16 = 20;
const DONE: u16 = 3;
const ERROR: u16 = 2;
/// All states but `TIME_WAIT`, in which no process has a socket.
const STATES: u32 = !(1 << 6);
/// Bytes that are read at once; the kernel fills at most 32 KiB (net/netlink/af_netlink.c).
const PART: usize = 32 * 1024;

/// The names of both ends of the socket with this number.
pub(crate) fn names(number: u64) -> Option<(Endpoint, Endpoint)> {
    let number = u32::try_from(number).ok()?;
    [AddressFamily::Inet, AddressFamily::Inet6].into_iter().find_map(|family| in_family(family, number))
}

fn in_family(family: AddressFamily, number: u32) -> Option<(Endpoint, Endpoint)> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let kernel = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkSockDiag).ok()?;
    send(kernel.as_raw_fd(), &question(family), MsgFlags::empty()).ok()?;
    let mut buffer = vec![0; PART];
    loop {
        // The kernel writes each part when the one before was read.
        let length = recv(kernel.as_raw_fd(), &mut buffer, MsgFlags::empty()).ok()?;
        let mut part = buffer.get(..length)?;
        while let Some(length) = bytes(part, 0).map(u32::from_ne_bytes) {
            let length = usize::try_from(length).ok().filter(|length| *length >= HEADER)?;
            let message = part.get(..length)?;
            match bytes(message, 4).map(u16::from_ne_bytes)? {
                BY_FAMILY if bytes(message, NUMBER).map(u32::from_ne_bytes) == Some(number) => {
                    return both(message, family);
                }
                DONE | ERROR => return None,
                _ => {}
            }
            part = part.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        }
    }
}

/// Asks for all sockets of a family.
fn question(family: AddressFamily) -> Vec<u8> {
    /// `NLM_F_REQUEST | NLM_F_DUMP`
    const DUMP: u16 = 0x301;
    let mut question = u32::try_from(HEADER + QUESTION).unwrap_or(u32::MAX).to_ne_bytes().to_vec();
    question.extend([BY_FAMILY, DUMP].map(u16::to_ne_bytes).concat());
    // Sequence and sender: there is only one request and one sender.
    question.extend([0; 8]);
    let numbers = [family as i32, libc::IPPROTO_TCP].map(|number| u8::try_from(number).unwrap_or(0));
    question.extend([numbers[0], numbers[1], 0, 0]);
    question.extend(STATES.to_ne_bytes());
    question.resize(HEADER + QUESTION, 0);
    question
}

fn both(message: &[u8], family: AddressFamily) -> Option<(Endpoint, Endpoint)> {
    let end = |index: usize| {
        let ip: IpAddr = match family {
            AddressFamily::Inet => bytes::<4>(message, ADDRESSES + 16 * index)?.into(),
            _ => bytes::<16>(message, ADDRESSES + 16 * index)?.into(),
        };
        Some(Endpoint { ip, port: u16::from_be_bytes(bytes(message, PORTS + 2 * index)?) })
    };
    Some((end(0)?, end(1)?))
}

fn bytes<const N: usize>(message: &[u8], from: usize) -> Option<[u8; N]> {
    message.get(from..from.checked_add(N)?)?.try_into().ok()
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
        assert_eq!((names(u64::MAX), names(u64::from(u32::MAX))), (None, None));
    }
}
