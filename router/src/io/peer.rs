//! Whether a client that ended its sending side still listens.
//!
//! A closed connection and a half-closed one look alike from here, and a half-closed client must get
//! its answer. Both ends are on this machine, though, so the kernel can be asked about the other one.
use nix::sys::socket::{MsgFlags, recv};
use std::os::fd::AsRawFd as _;
use tokio::net::TcpStream;

/// Whether nobody is left to read what we would send on `stream`. In doubt, no. `encrypted`: the end
/// of the stream is announced by bytes that only TLS can read.
pub(crate) fn is_gone(stream: &TcpStream, encrypted: bool) -> bool {
    match recv(stream.as_raw_fd(), &mut [0], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT) {
        Ok(0) => is_orphan(stream),
        Err(error) => !matches!(error, nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR),
        Ok(_) if encrypted => is_orphan(stream),
        Ok(_) => false,
    }
}

#[cfg(target_os = "linux")]
fn is_orphan(stream: &TcpStream) -> bool {
    use std::net::SocketAddr;
    let (Ok(client), Ok(here)) = (stream.peer_addr(), stream.local_addr()) else { return true };
    // proc(5): addresses in the kernel's byte order, `inode` is 0 once no process holds the socket.
    let text = |address: SocketAddr| match address {
        SocketAddr::V4(v4) => format!("{:08X}:{:04X}", u32::from_ne_bytes(v4.ip().octets()), v4.port()),
        SocketAddr::V6(v6) => {
            let words = v6.ip().octets();
            let hex: String = words
                .chunks_exact(4)
                .map(|word| format!("{:08X}", word.try_into().map_or(0, u32::from_ne_bytes)))
                .collect();
            format!("{hex}:{:04X}", v6.port())
        }
    };
    let file = if client.is_ipv4() { "/proc/net/tcp" } else { "/proc/net/tcp6" };
    let Ok(rows) = std::fs::read_to_string(file) else { return false };
    let (client, here) = (text(client), text(here));
    rows.lines()
        .map(|row| row.split_ascii_whitespace())
        .find_map(|mut fields| {
            (fields.nth(1) == Some(&client) && fields.next() == Some(&here))
                .then(|| fields.nth(6) == Some("0"))
        })
        .unwrap_or(true)
}

#[cfg(not(target_os = "linux"))]
fn is_orphan(_: &TcpStream) -> bool {
    false
}
