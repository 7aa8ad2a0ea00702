//! Connections to one listener: kept while idle, checked before they are used again.
//!
//! Last in, first out, so that a quiet router keeps few connections warm and the rest age and are closed by
//! [`Pool::sweep`].
//!
//! A listener of a wrapped program is told whom a connection is made for, since its accept can say it. Such a
//! connection is used again for clients of the same machine only, so that no request seems to come from another.
use crate::io::delegate::delegate_io;
use crate::limits::{IDLE_UPSTREAM, IDLE_UPSTREAM_CONNECTIONS};
use crate::upstream::bridge::Bridge;
use crate::upstream::connect::{ClientAddress, Socket};
use crate::upstream::load::Active;
use crate::upstream::seats::Seat;
use nix::sys::socket::{MsgFlags, recv};
use std::os::fd::AsRawFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;

/// A connection to a listener.
#[derive(Debug)]
pub(crate) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
    /// To one that speaks HTTP/2, for one exchange.
    Bridge(Box<Bridge>),
}

/// What is wanted of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// The client that it is for.
    pub(crate) client: ClientAddress,
    /// One that served no request before.
    pub(crate) fresh: bool,
    /// Ask the kernel whether a kept one is alive; else what the event loop knows is enough, since the request can
    /// be sent again.
    pub(crate) exact: bool,
    /// It may change its protocol, and is the client's alone then.
    pub(crate) upgrade: bool,
}

/// A connection about to be used.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) stream: Stream,
    /// Whether it served a request before: the listener may be closing it at this moment.
    pub(crate) reused: bool,
    pub(crate) active: Active,
    /// The client that the listener was told, where it is told one.
    pub(crate) client: Option<ClientAddress>,
    /// Counts its descriptor. A bridge has none.
    pub(crate) seat: Option<Seat>,
}

/// Connections that wait for their next request.
#[derive(Debug, Default)]
pub(crate) struct Pool(Mutex<Vec<Idle>>);

/// One of them.
#[derive(Debug)]
pub(crate) struct Idle {
    pub(crate) stream: Stream,
    /// As in [`Link`].
    pub(crate) client: Option<ClientAddress>,
    /// As in [`Link`].
    pub(crate) seat: Option<Seat>,
    since: Instant,
}

// === impl Pool ===

impl Pool {
    /// Closes all.
    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    /// Closes connections that stayed unused too long or that the listener closed; how many are left.
    pub(crate) fn sweep(&self, now: Instant) -> usize {
        let mut pool = self.lock();
        pool.retain(|idle| now.duration_since(idle.since) < IDLE_UPSTREAM && idle.stream.is_quiet());
        pool.len()
    }

    /// Keeps the connection of `link` for the next request; closes it where enough are kept.
    pub(crate) fn keep(&self, link: Link) {
        let Link { stream, client, seat, .. } = link;
        if matches!(stream, Stream::Bridge(_)) || Seat::are_scarce() {
            return;
        }
        let mut pool = self.lock();
        if pool.len() < IDLE_UPSTREAM_CONNECTIONS {
            pool.push(Idle { stream, client, seat, since: Instant::now() });
        }
    }

    /// The connection used last, if one is alive; for a `client` that the listener is told, one of its own before
    /// others of its machine. `exact`: see [`Wanted`].
    pub(crate) fn take(&self, exact: bool, client: Option<ClientAddress>) -> Option<Idle> {
        let mut pool = self.lock();
        loop {
            let index = match client {
                None => pool.len().checked_sub(1)?,
                Some(client) => index_for(&pool, client)?,
            };
            let idle = pool.remove(index);
            if idle.stream.is_quiet() && !(exact && idle.stream.has_ended()) {
                return Some(idle);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The connection used last that was made for `client`; else the last one for another client of its machine.
fn index_for(pool: &[Idle], client: ClientAddress) -> Option<usize> {
    let mut neighbour = None;
    for (index, idle) in pool.iter().enumerate().rev() {
        match idle.client {
            Some(of) if of == client => return Some(index),
            Some(of) if neighbour.is_none() && of.is_beside(client) => neighbour = Some(index),
            _ => {}
        }
    }
    neighbour
}

// === impl Stream ===

impl From<Socket> for Stream {
    fn from(socket: Socket) -> Self {
        match socket {
            Socket::Unix(stream) => Self::Unix(stream),
            Socket::Tcp(stream) => Self::Tcp(stream),
        }
    }
}

impl Stream {
    /// Whether the event loop knows of nothing to read and no end: so it should be between requests.
    fn is_quiet(&self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        match self {
            Self::Unix(stream) => stream.poll_read_ready(&mut context).is_pending(),
            Self::Tcp(stream) => stream.poll_read_ready(&mut context).is_pending(),
            Self::Bridge(_) => false,
        }
    }

    /// Asks the kernel whether the other side ended it, or sent what nobody asked for.
    fn has_ended(&self) -> bool {
        let descriptor = match self {
            Self::Unix(stream) => stream.as_raw_fd(),
            Self::Tcp(stream) => stream.as_raw_fd(),
            Self::Bridge(_) => return true,
        };
        let peeked = recv(descriptor, &mut [0], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT);
        peeked != Err(nix::errno::Errno::EAGAIN)
    }
}

delegate_io!(Stream { Unix, Tcp, Bridge });

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    fn idle(client: &str) -> Idle {
        let (ours, _) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let stream = Stream::Unix(UnixStream::from_std(ours).unwrap());
        let client = client.parse().ok().map(SocketAddr::into);
        Idle { stream, client, seat: None, since: Instant::now() }
    }

    /// A request that is sent once meets a dead connection only if it ends after the question, which nobody can tell.
    #[tokio::test]
    async fn a_connection_that_has_ended_is_not_taken_where_the_kernel_is_asked() {
        let pool = Pool::default();
        // The other end is closed, and the event loop had no time to notice.
        pool.lock().push(idle(""));
        assert!(pool.take(true, None).is_none());
        pool.lock().push(idle(""));
        assert!(pool.take(false, None).is_some(), "the event loop has not noticed");
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let stream = Stream::Unix(UnixStream::from_std(ours).unwrap());
        pool.lock().push(Idle { stream, ..idle("") });
        assert!(pool.take(true, None).is_some());
        drop(theirs);
    }

    #[tokio::test]
    async fn a_client_gets_its_own_connection_before_one_of_its_machine() {
        let pool = ["127.0.0.1:5", "127.0.0.2:7", "127.0.0.1:6", "", "[::1]:5"].map(idle);
        let index = |client: &str| index_for(&pool, client.parse::<SocketAddr>().unwrap().into());
        assert_eq!(index("127.0.0.1:5"), Some(0));
        assert_eq!(index("127.0.0.1:9"), Some(2));
        assert_eq!(index("127.0.0.2:5"), Some(1));
        assert_eq!(index("[::1]:9"), Some(4));
        assert_eq!(index("127.0.0.3:5"), None);
        assert_eq!(index("[::ffff:127.0.0.2]:7"), Some(1));
    }
}
