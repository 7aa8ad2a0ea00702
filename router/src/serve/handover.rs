//! Hands a client's connection into the application, where the route of its first request says so.
//!
//! Looks at that request without taking it, and asks the same code as for any other what is to become of it: only
//! what would go to the application is offered to it. All else, and what the application does not take, is left to
//! `connection`, which finds the connection as it was. Called by it, before it reads anything; reads nothing itself.
use crate::error::Refusal;
use crate::io::buffer::{ReadBuffer, give_head, take_head};
use crate::io::transport::Transport;
use crate::limits::{HEAD_TIME, PEEKED_HEAD_BYTES};
use crate::message::body::is_token;
use crate::message::head::{Head, Scanner};
use crate::message::request::{Origin, with_request};
use crate::observe::access::Access;
use crate::serve::client::{Client, HTTP2_PREFACE};
use crate::serve::places::Place;
use crate::serve::reader::Reader;
use crate::serve::shared::{Busy, Prepared, Shared};
use crate::table::{Lookup, Route};
use crate::upstream::connect::is_refusal;
use crate::upstream::listener::Upstream;
use crate::upstream::target::Target;
use agentfs_handoff::{Families, Offer};
use nix::sys::socket::{MsgFlags, Shutdown, recv, shutdown};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

/// What became of a connection.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It is over for us: the application has it, or the client never said anything.
    Over,
    /// The client is to be told so.
    Refused(Refusal),
    /// It is to be read, from its first byte.
    Read(Box<Begun>),
}

/// What is known of a connection that was looked at.
#[derive(Debug, Default)]
pub(crate) struct Begun {
    /// When its first byte was there.
    pub(crate) since: Option<Instant>,
    /// The listener that it was offered to. Its first request goes there: it was that one's turn.
    pub(crate) picked: Option<Arc<Upstream>>,
    /// Ends it when we are done with it.
    _end: Option<End>,
}

/// Ends a connection when it is dropped, also where the application holds a descriptor of it that it has not come
/// for yet.
#[derive(Debug)]
struct End(OwnedFd);

/// What a connection begins with.
enum Start {
    /// This head.
    Head(ReadBuffer),
    /// Something that has to be read to find out, or that is too long to be looked at.
    Other,
    /// Nothing, or a part of a head, within the time for it.
    Late,
}

/// Offers a connection of which nothing was read.
pub(crate) async fn offer(client: &Client, shared: &Shared) -> Outcome {
    let mut begun = Box::<Begun>::default();
    let Transport::Plain(stream) = &client.stream else { return Outcome::Read(begun) };
    client.place.rest(Instant::now());
    let head = match look(stream, &client.place, &mut begun.since).await {
        Start::Head(head) => head,
        Start::Other => return Outcome::Read(begun),
        Start::Late if begun.since.is_some() => return Outcome::Refused(Refusal::TIMEOUT),
        Start::Late => return Outcome::Over,
    };
    let _busy = Busy::new(shared);
    let mut access = Access::begin();
    let Some(route) = route_of(client, head.filled(), shared, &mut access).await else {
        return Outcome::Read(begun);
    };
    let Some(counters) = &route.entry.handoff else { return Outcome::Read(begun) };
    for upstream in route.candidates() {
        let offer = match &upstream.socket {
            Target::Unix(path) => {
                shared.handoff.offer(path, stream, client.peer.into(), Families::Related).await
            }
            Target::Tcp(_) => Offer::Left { sent: false },
        };
        match offer {
            Offer::Taken => {
                counters.taken.fetch_add(1, Ordering::Relaxed);
                access.handed_over(&shared.observer, upstream);
                return Outcome::Over;
            }
            Offer::Refused(error) => {
                upstream.set_refused(is_refusal(&error));
                shared.refused(upstream, &error);
            }
            Offer::Left { sent } => {
                begun.picked = Some(Arc::clone(upstream));
                begun._end = if sent { End::of(stream) } else { None };
                break;
            }
        }
    }
    counters.passed.fetch_add(1, Ordering::Relaxed);
    Outcome::Read(begun)
}

/// The route of the request with this head, where it is one whose application gets connections, and the request
/// would go there.
async fn route_of(client: &Client, head: &[u8], shared: &Shared, access: &mut Access) -> Option<Arc<Route>> {
    let mut out = take_head();
    let prepared = with_request(head, |request| {
        match shared.table.load().lookup(request.host) {
            Lookup::Found(route) if route.entry.handoff.is_some() => {}
            _ => return Ok(None),
        }
        access.note(&shared.observer, &request);
        let origin = Origin { address: &client.address, scheme: client.stream.scheme() };
        shared.prepare(&request, origin, Reader::Of(client.stream.tcp()), &mut out).map(Some)
    });
    give_head(out);
    match prepared {
        Ok(Some(Prepared::Forward { route, .. })) => Some(route),
        Ok(Some(Prepared::Starting { route, .. })) => shared.started(&route).await,
        _ => None,
    }
}

/// Waits for a whole head. `since`: when its first byte was there. Holds no memory while it waits. Until that byte the
/// client may have to leave its `place`.
async fn look(stream: &TcpStream, place: &Place, since: &mut Option<Instant>) -> Start {
    let mut scanner = Scanner::default();
    let mut deadline = Instant::now() + HEAD_TIME;
    let mut seen = 0;
    loop {
        let ready = match timeout_at(deadline, stream.ready(Interest::READABLE)).await {
            Ok(Ok(ready)) => ready,
            Ok(Err(_)) => return Start::Other,
            Err(_) => {
                // Whoever reads what follows is not told of these again. They are refused anyway.
                let _ = recv(stream.as_raw_fd(), &mut vec![0; seen], MsgFlags::MSG_DONTWAIT);
                return Start::Late;
            }
        };
        // Bytes that stay in the socket keep it readable. Only more of them are worth a look: until then the event
        // loop is told that there are none.
        let mut head = ReadBuffer::default();
        let looked = stream.try_io(Interest::READABLE, || {
            let peek = |room: &mut [u8]| {
                Ok(recv(stream.as_raw_fd(), room, MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT)?)
            };
            let count = head.fill_with(PEEKED_HEAD_BYTES, peek)?;
            if count == seen && count > 0 && !ready.is_read_closed() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(count)
        });
        let count = match looked {
            Ok(count) if count > seen => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            // It ends here, or is broken; reading says which.
            Ok(_) | Err(_) => return Start::Other,
        };
        if seen == 0 {
            if !place.wake() {
                return Start::Late;
            }
            *since = Some(Instant::now());
            deadline = Instant::now() + HEAD_TIME;
        }
        seen = count;
        if head.filled().first().is_some_and(|byte| !is_token(*byte)) {
            return Start::Other;
        }
        match scanner.scan(head.filled(), true) {
            Head::Complete(_) if head.filled().starts_with(HTTP2_PREFACE) => return Start::Other,
            Head::Complete(length) => {
                head.truncate(length);
                return Start::Head(head);
            }
            Head::BareLineFeed => return Start::Other,
            Head::Partial if seen == PEEKED_HEAD_BYTES => return Start::Other,
            Head::Partial => {}
        }
    }
}

// === impl End ===

impl End {
    fn of(stream: &TcpStream) -> Option<Self> {
        stream.as_fd().try_clone_to_owned().ok().map(Self)
    }
}

impl Drop for End {
    fn drop(&mut self) {
        // The client may have ended it before.
        let _ = shutdown(self.0.as_raw_fd(), Shutdown::Both);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    async fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    /// What a connection begins with after `bytes`, which must all be there afterwards, and whether any came.
    async fn start(bytes: &[u8], ended: bool) -> (Option<usize>, bool, bool) {
        let (mut client, mut stream) = connection().await;
        client.write_all(bytes).await.unwrap();
        if ended {
            client.shutdown().await.unwrap();
        }
        let mut since = None;
        let start = look(&stream, &Place::outside(), &mut since).await;
        let late = matches!(start, Start::Late);
        client.write_all(b"more").await.unwrap_or_else(|_| assert!(ended));
        let expected = [if late { b"" } else { bytes }, if ended { b"" } else { b"more" }].concat();
        let mut read = vec![0; expected.len()];
        stream.read_exact(&mut read).await.unwrap();
        assert_eq!(read, expected);
        (if let Start::Head(head) = start { Some(head.filled().len()) } else { None }, late, since.is_some())
    }

    /// The clock of this test moves only while nobody has anything to do: looking over and over would stop it.
    #[tokio::test(start_paused = true)]
    async fn a_part_of_a_head_is_waited_for_without_looking_again() {
        assert_eq!(start(b"GET / HT", false).await, (None, true, true));
        assert_eq!(start(b"", false).await, (None, true, false));
    }

    #[tokio::test]
    async fn a_head_is_seen_and_stays() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(start(head, false).await, (Some(head.len()), false, true));
        assert_eq!(start(head, true).await, (Some(head.len()), false, true));
        let more = [head.as_slice(), head].concat();
        assert_eq!(start(&more, false).await, (Some(head.len()), false, true));
    }

    #[tokio::test]
    async fn what_is_no_head_is_read() {
        let long = [b"GET / HTTP/1.1\r\nA: ".as_slice(), &[b'a'; PEEKED_HEAD_BYTES]].concat();
        let lines: [(&[u8], bool); 6] = [
            (b"GET / HT", true),
            (b"GET / HTTP/1.1\nHost: a\r\n\r\n", false),
            (b"\x16\x03\x01", false),
            (b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", false),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", false),
            (&long, false),
        ];
        for (bytes, ended) in lines {
            assert_eq!(start(bytes, ended).await, (None, false, true), "{}", String::from_utf8_lossy(bytes));
        }
        assert_eq!(start(b"", true).await, (None, false, false));
    }

    #[tokio::test]
    async fn a_dripped_head_is_seen_once_it_is_whole() {
        let (mut client, stream) = connection().await;
        let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let drip = async {
            for byte in head {
                client.write_all(&[*byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let mut since = None;
        let place = Place::outside();
        let (start, ()) = tokio::join!(look(&stream, &place, &mut since), drip);
        assert!(matches!(start, Start::Head(seen) if seen.filled() == head));
    }
}
