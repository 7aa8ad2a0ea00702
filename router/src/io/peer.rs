//! Whether a client that ended its sending side still listens.
//!
//! A closed connection and a half-closed one look alike from here, and a half-closed client must get
//! its answer. Both ends are on this machine, though, so the kernel can be asked about the other one.
use nix::sys::socket::{MsgFlags, recv};
use std::os::fd::AsRawFd as _;
use tokio::net::TcpStream;

#[cfg(target_os = "linux")]
use kernel::Lookup;
#[cfg(target_os = "linux")]
mod kernel;

/// What was asked about a client.
#[cfg(not(target_os = "linux"))]
#[derive(Debug, Default)]
struct Lookup;

/// What is known of a client's end.
#[derive(Debug, Default)]
pub(crate) struct Peer(Lookup);

// === impl Peer ===

impl Peer {
    /// Whether nobody is left to read what we would send on `stream`. In doubt, no. `encrypted`: the end
    /// of the stream is announced by bytes that only TLS can read.
    pub(crate) fn is_gone(&mut self, stream: &TcpStream, encrypted: bool) -> bool {
        match recv(stream.as_raw_fd(), &mut [0], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT) {
            Ok(0) => self.0.is_orphan(stream),
            Err(error) => !matches!(error, nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR),
            // What came before a reset is still there.
            Ok(_) => is_reset(stream) || (encrypted && self.0.is_orphan(stream)),
        }
    }
}

/// Whether a connection was reset, though bytes of it wait to be read.
#[cfg(target_os = "linux")]
fn is_reset(stream: &TcpStream) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd as _;
    // Errors and the end of both directions are told unasked (poll(2)); a client's own end is neither.
    let mut asked = [PollFd::new(stream.as_fd(), PollFlags::empty())];
    let told = poll(&mut asked, PollTimeout::ZERO);
    told.is_ok_and(|count| count > 0)
}

#[cfg(not(target_os = "linux"))]
fn is_reset(_: &TcpStream) -> bool {
    false
}

#[cfg(not(target_os = "linux"))]
impl Lookup {
    fn is_orphan(&self, _: &TcpStream) -> bool {
        false
    }
}
