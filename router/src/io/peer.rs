//! Whether a client that ended its sending side still listens.
//!
//! A closed connection and a half-closed one look alike from here, and a half-closed client must get
//! its answer. Both ends are on this machine, though, so the kernel can be asked about the other one.
use nix::sys::socket::{MsgFlags, recv};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::task::{Context, Poll, ready};
use tokio::io::Interest;
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
pub(crate) struct Peer {
    lookup: Lookup,
    /// Hears of a reset while nothing is read: made when it is first needed.
    alarm: Option<Box<TcpStream>>,
}

// === impl Peer ===

impl Peer {
    /// Whether nobody is left to read what we would send on `stream`. In doubt, no. `encrypted`: the end
    /// of the stream is announced by bytes that only TLS can read.
    pub(crate) fn is_gone(&mut self, stream: &TcpStream, encrypted: bool) -> bool {
        match recv(stream.as_raw_fd(), &mut [0], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT) {
            Ok(0) => self.lookup.is_orphan(stream),
            Err(error) => !matches!(error, nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR),
            // What came before a reset is still there.
            Ok(_) => is_reset(stream) || (encrypted && self.lookup.is_orphan(stream)),
        }
    }

    /// Ready once `stream` was reset. For a stream of which nothing is read at present, so that its own readiness
    /// tells nothing new: a second registration with the event loop hears of every change. Where the system
    /// refuses that, nothing is heard.
    pub(crate) fn poll_reset(&mut self, context: &mut Context<'_>, stream: &TcpStream) -> Poll<()> {
        if self.alarm.is_none() {
            let twin = stream.as_fd().try_clone_to_owned();
            self.alarm = twin.and_then(|twin| TcpStream::from_std(twin.into())).map(Box::new).ok();
        }
        let Some(alarm) = &self.alarm else { return Poll::Pending };
        loop {
            if ready!(alarm.poll_read_ready(context)).is_err() {
                return Poll::Pending;
            }
            // What is not a reset is forgotten, so that the next change is heard.
            let look = || if is_reset(stream) { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) };
            if alarm.try_io(Interest::READABLE, look).is_ok() {
                return Poll::Ready(());
            }
        }
    }
}

/// Whether a connection was reset, though bytes of it wait to be read.
#[cfg(target_os = "linux")]
fn is_reset(stream: &TcpStream) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
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
