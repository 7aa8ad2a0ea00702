//! One connection that the supervisor passes on: a Unix socket of the run dir on one side, a TCP socket of the port space on
//! the other. Neither side is ever waited for: what the other side does not take is kept, and no more is read.
use crate::limits::RELAY_BYTES;
use crate::sys::options::{self, Value};
use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;
use nix::sys::socket::{MsgFlags, Shutdown, recv, send, shutdown};
use std::os::fd::{AsRawFd, OwnedFd};

/// Which of the two sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Side {
    /// The Unix socket.
    Unix,
    /// The TCP socket.
    Tcp,
}

/// What flows from one side to the other.
#[derive(Debug, Default)]
struct Flow {
    /// Read, and not taken yet.
    kept: Vec<u8>,
    /// How much of it was taken.
    taken: usize,
    /// Whether the side was read to its end.
    ended: bool,
    /// Whether the other side was told so.
    told: bool,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Relay {
    unix: OwnedFd,
    tcp: OwnedFd,
    /// From the Unix side.
    up: Flow,
    /// From the TCP side.
    down: Flow,
    /// Whether the TCP side is still connecting.
    connecting: bool,
    /// Whether a side reported that nothing more can be sent to it.
    hung_up: bool,
}

/// Whether it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// There may be more.
    Open,
    /// Both sides are done, or one failed.
    Over,
    /// Nobody listens at the TCP side.
    Refused,
}

// === impl Relay ===

impl Relay {
    /// Passes on between two sockets that do not wait.
    pub(crate) fn new(unix: OwnedFd, tcp: OwnedFd, connecting: bool) -> Self {
        // What one side sends goes on at once.
        let _ = options::set(&tcp, libc::IPPROTO_TCP, libc::TCP_NODELAY, &Value::number(1));
        Self { unix, tcp, up: Flow::default(), down: Flow::default(), connecting, hung_up: false }
    }

    /// One of the sockets.
    pub(crate) fn socket(&self, side: Side) -> &OwnedFd {
        match side {
            Side::Unix => &self.unix,
            Side::Tcp => &self.tcp,
        }
    }

    /// What is waited for at a side.
    pub(crate) fn interest(&self, side: Side) -> EpollFlags {
        let (from, to) = match side {
            Side::Unix => (&self.up, &self.down),
            Side::Tcp => (&self.down, &self.up),
        };
        let mut interest = EpollFlags::empty();
        if !from.ended && from.kept.is_empty() && !self.connecting {
            interest |= EpollFlags::EPOLLIN;
        }
        if !to.kept.is_empty() || (self.connecting && side == Side::Tcp) {
            interest |= EpollFlags::EPOLLOUT;
        }
        interest
    }

    /// Whether a side reported that nothing more can be sent to it. The kernel reports that again and again, so the caller
    /// stops to wait for that side; everything else about it is known.
    pub(crate) fn has_hung_up(&self) -> bool {
        self.hung_up
    }

    /// Goes on after an event.
    pub(crate) fn go_on(&mut self, events: EpollFlags, buffer: &mut [u8]) -> State {
        if self.connecting {
            match options::get_number(&self.tcp, libc::SOL_SOCKET, libc::SO_ERROR) {
                Ok(0) if events.intersects(EpollFlags::EPOLLOUT) => self.connecting = false,
                Ok(0) if !events.intersects(EpollFlags::EPOLLHUP) => return State::Open,
                _ => return State::Refused,
            }
        }
        self.hung_up |= events.intersects(EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR);
        let up = self.up.pass(&self.unix, &self.tcp, buffer, self.hung_up);
        let down = self.down.pass(&self.tcp, &self.unix, buffer, self.hung_up);
        if up.is_err() || down.is_err() {
            self.reset();
            return State::Over;
        }
        let done = |flow: &Flow| flow.ended && flow.kept.is_empty();
        // A side that hung up takes nothing more, so what comes from the other is of no use.
        let is_over =
            done(&self.up) && done(&self.down) || self.hung_up && (done(&self.up) || done(&self.down));
        if is_over { State::Over } else { State::Open }
    }

    /// Closes as TCP does after a failure: the other end reads `ECONNRESET`.
    fn reset(&self) {
        let at_once = libc::linger { l_onoff: 1, l_linger: 0 };
        let _ = nix::sys::socket::setsockopt(&self.tcp, nix::sys::socket::sockopt::Linger, &at_once);
    }
}

// === impl Flow ===

impl Flow {
    /// Passes on what is there. An error ends the connection.
    /// `all`: until there is nothing left, because no event will come for the rest.
    fn pass(&mut self, from: &OwnedFd, to: &OwnedFd, buffer: &mut [u8], all: bool) -> nix::Result<()> {
        loop {
            if !self.kept.is_empty() {
                let rest = self.kept.get(self.taken..).unwrap_or(&[]);
                self.taken += give(to, rest)?;
                if self.taken < self.kept.len() {
                    return Ok(());
                }
                self.kept = Vec::new();
                self.taken = 0;
            }
            if self.ended {
                if !self.told {
                    self.told = true;
                    let _ = shutdown(to.as_raw_fd(), Shutdown::Write);
                }
                return Ok(());
            }
            let count = match recv(from.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(count) => count,
                Err(Errno::EAGAIN | Errno::EINTR) => return Ok(()),
                Err(errno) => return Err(errno),
            };
            if count == 0 {
                self.ended = true;
                continue;
            }
            let read = buffer.get(..count).unwrap_or(&[]);
            let taken = give(to, read)?;
            if taken < count {
                self.kept = read.get(taken..).unwrap_or(&[]).to_vec();
                return Ok(());
            }
            // There is rarely more than what was read at once; the next event says so.
            if count < RELAY_BYTES && !all {
                return Ok(());
            }
        }
    }
}

/// How much of `bytes` the socket takes now.
fn give(to: &OwnedFd, bytes: &[u8]) -> nix::Result<usize> {
    match send(to.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL) {
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(0),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;

    fn relay() -> (UnixStream, TcpStream, Relay) {
        let (program, unix) = UnixStream::pair().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let tcp = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        unix.set_nonblocking(true).unwrap();
        tcp.set_nonblocking(true).unwrap();
        (program, server, Relay::new(unix.into(), tcp.into(), false))
    }

    #[test]
    fn bytes_and_ends_go_through() {
        let (mut program, mut server, mut relay) = relay();
        let mut buffer = vec![0; RELAY_BYTES];
        program.write_all(b"question").unwrap();
        program.shutdown(std::net::Shutdown::Write).unwrap();
        // The question, and then the end.
        for _ in 0..2 {
            assert_eq!(relay.go_on(EpollFlags::EPOLLIN, &mut buffer), State::Open);
        }
        let mut text = String::new();
        server.read_to_string(&mut text).unwrap();
        server.write_all(b"answer").unwrap();
        drop(server);
        while relay.go_on(EpollFlags::EPOLLIN, &mut buffer) == State::Open {}
        drop(relay);
        let mut answer = String::new();
        program.read_to_string(&mut answer).unwrap();
        assert_eq!((text.as_str(), answer.as_str()), ("question", "answer"));
    }

    #[test]
    fn a_side_that_does_not_read_stops_the_other() {
        let (mut program, mut server, mut relay) = relay();
        program.set_nonblocking(true).unwrap();
        let mut buffer = vec![0; RELAY_BYTES];
        let mut sent = 0;
        while let Ok(count) = program.write(&[7; 4096]) {
            sent += count;
            assert_eq!(relay.go_on(EpollFlags::EPOLLIN, &mut buffer), State::Open);
        }
        assert!(!relay.interest(Side::Unix).contains(EpollFlags::EPOLLIN));
        assert!(relay.interest(Side::Tcp).contains(EpollFlags::EPOLLOUT));
        assert!(relay.up.kept.len() <= RELAY_BYTES);
        drop(program);
        let mut read = 0;
        server.set_nonblocking(true).unwrap();
        let mut room = vec![0; 1 << 20];
        loop {
            match server.read(&mut room) {
                Ok(0) => break,
                Ok(count) => read += count,
                Err(_) => {
                    let _ = relay.go_on(EpollFlags::EPOLLOUT, &mut buffer);
                }
            }
        }
        assert_eq!(read, sent);
    }

    #[test]
    fn a_reset_is_passed_on() {
        let (program, mut server, mut relay) = relay();
        let mut buffer = vec![0; RELAY_BYTES];
        // A Unix socket that is closed with unread input resets.
        server.write_all(b"unread").unwrap();
        while relay.go_on(EpollFlags::EPOLLIN, &mut buffer) == State::Open {
            if relay.down.ended || relay.unix.as_raw_fd() < 0 {
                break;
            }
            let mut room = [0; 1];
            if recv(program.as_raw_fd(), &mut room, MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT).is_ok() {
                break;
            }
        }
        drop(program);
        assert_eq!(relay.go_on(EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP, &mut buffer), State::Over);
        drop(relay);
        let error = server.read(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
}
