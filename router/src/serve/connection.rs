//! One client connection: request after request until one side has enough.
//!
//! Decides what each request gets: a page of ours, an application (with the next replica when one
//! refuses, and once more when a kept connection turns out closed), or a tunnel. Called by `listen`.
use crate::error::Refusal;
use crate::io::buffer::{give_head, take_head};
use crate::io::transport::{Rewound, Transport};
use crate::limits::HEAD_TIME;
use crate::message::rehost::Rehost;
use crate::message::request::{Facts, Origin, with_request};
use crate::message::response::Answer;
use crate::observe::access::Access;
use crate::pages::{self, Reply};
use crate::serve::client::{Client, Next};
use crate::serve::exchange::Source as _;
use crate::serve::forward::{Ended, Job, forward};
use crate::serve::handover::{self, Outcome};
use crate::serve::http1::Http1;
use crate::serve::http2;
use crate::serve::places::Place;
use crate::serve::reader::Reader;
use crate::serve::shared::{Busy, Prepared, Shared};
use crate::serve::upgrade;
use crate::table::Route;
use crate::upstream::connect::ClientAddress;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

/// What becomes of the connection.
enum Then {
    Next,
    Close,
    /// Close, but see to it that the answer arrives.
    Linger,
}

/// Serves one connection to its end. `secure`: it came to a port for TLS.
pub(crate) fn serve(
    stream: TcpStream,
    address: SocketAddr,
    secure: bool,
    place: Place,
    shared: Arc<Shared>,
) -> impl Future<Output = ()> {
    // Made out here, so that the connection's task need not keep what it is made of.
    let peer = ClientAddress::from(address);
    let address = address.ip().to_canonical().to_string().into_boxed_str();
    let client = Client::new(Transport::Plain(stream), peer, address, place);
    async move {
        shared.observer.metrics.connections.add(1);
        requests(client, secure, &shared).await;
    }
}

async fn requests(mut client: Client, secure: bool, shared: &Arc<Shared>) {
    let mut begun = None;
    if !secure && shared.table.hands_over() {
        match Box::pin(handover::offer(&client, shared)).await {
            Outcome::Read(looked_at) => begun = Some(looked_at),
            Outcome::Refused(refusal) => return Box::pin(refuse(client, shared, refusal)).await,
            Outcome::Over => return,
        }
    }
    loop {
        let since = begun.as_mut().and_then(|begun| begun.since.take());
        let length = match client.next(since).await {
            Next::Head(length) => length,
            Next::Http2 if secure && client.stream.scheme() == "http" => {
                return Box::pin(refuse(client, shared, Refusal::PLAIN)).await;
            }
            Next::Http2 => return Box::pin(http2::serve(client, Arc::clone(shared))).await,
            Next::Tls => {
                let acceptor = if client.stream.scheme() == "https" { None } else { shared.acceptor() };
                let Some(acceptor) = acceptor else {
                    return Box::pin(refuse(client, shared, Refusal::bad("request line"))).await;
                };
                match Box::pin(handshake(client, acceptor, shared)).await {
                    Some(encrypted) => {
                        client = encrypted;
                        continue;
                    }
                    None => return,
                }
            }
            Next::Closed => return,
            Next::Refused(refusal) => return Box::pin(refuse(client, shared, refusal)).await,
        };
        let busy = Busy::new(shared.as_ref());
        let mut access = Access::begin();
        let mut out = take_head();
        let head = &client.read.filled()[..length];
        let origin = Origin { address: &client.address, scheme: client.stream.scheme() };
        let mut prepared = with_request(head, |request| {
            access.note(&shared.observer, &request);
            match secure && origin.scheme == "http" {
                true => shared.redirect(&request, pages::Moved::ForAll, &mut out),
                false => shared.prepare(&request, origin, Reader::Of(client.stream.tcp()), &mut out),
            }
        });
        client.read.consume(length);
        if let Ok(Prepared::Starting { facts, route, rehost }) = &mut prepared {
            let reader = Reader::Of(client.stream.tcp());
            let starting =
                Box::pin(start(shared, reader, *facts, Arc::clone(route), rehost.take(), &mut out));
            prepared = Ok(starting.await);
        }
        let then = match prepared {
            Err(refusal) => {
                access.refused(&shared.observer, refusal.status);
                return Box::pin(refuse(client, shared, refusal)).await;
            }
            Ok(Prepared::Page { status, close, .. }) => {
                let written = client.stream.write_all(&out).await;
                access.end(&shared.observer, None, status, 0);
                give_head(out);
                match (written, close) {
                    (Err(_), _) => Then::Close,
                    (Ok(()), false) => Then::Next,
                    (Ok(()), true) => Then::Linger,
                }
            }
            Ok(Prepared::Forward { facts, route, rehost } | Prepared::Starting { facts, route, rehost }) => {
                let picked = begun.as_mut().and_then(|begun| begun.picked.take());
                let (shared, route, peer) = (shared.as_ref(), route.as_ref(), client.peer);
                let mut job = Job { shared, route, facts, peer, picked, onward: false };
                let mut http1 = Http1::new(&mut client, facts, out, rehost);
                match forward(&mut http1, &mut job, access).await {
                    Ended::Answered(answer) => finish(&http1, &answer),
                    Ended::Failed(cause, access) => answer_failure(&mut http1, &job, cause, access).await,
                    // `Onward` is for clients of HTTP/2.
                    Ended::Broken | Ended::Onward(_) => Then::Close,
                    Ended::Switched(switched) => {
                        let (mut link, answered) = *switched;
                        drop(busy);
                        drop(http1);
                        shared.observer.metrics.upgrades.add(1);
                        link.active.set_long_lived();
                        return Box::pin(upgrade::tunnel(client, link, answered)).await;
                    }
                }
            }
        };
        match then {
            Then::Next => {}
            Then::Close => return,
            Then::Linger => return Box::pin(client.linger()).await,
        }
    }
}

/// Waits for an application that was just started; `out` holds its request, or in the end our page.
async fn start(
    shared: &Shared,
    reader: Reader<'_>,
    facts: Facts,
    route: Arc<Route>,
    rehost: Option<Box<Rehost>>,
    out: &mut Vec<u8>,
) -> Prepared {
    if let Some(route) = shared.started(&route).await {
        return Prepared::Forward { facts, route, rehost };
    }
    out.clear();
    let close = !facts.keep_alive || !facts.body.is_finished() || shared.is_draining();
    let reply = Reply { facts, close };
    let table = shared.table.load();
    let status = pages::failed(out, reply, reader.sees(), &route.entry, pages::Cause::Starting, &table);
    Prepared::Page { facts, status, close }
}

/// Takes up TLS, whose first bytes are in the read buffer. What comes within it is told apart by its
/// first bytes as well: a client that agreed to HTTP/2 begins with its first line.
async fn handshake(client: Client, acceptor: TlsAcceptor, shared: &Shared) -> Option<Client> {
    let Transport::Plain(stream) = client.stream else { return None };
    let accept = super::handshake::accept(acceptor.config(), Rewound::new(client.read, stream));
    match tokio::time::timeout(HEAD_TIME, accept).await {
        Ok(Ok(stream)) => {
            let stream = Transport::Tls(Box::new(stream));
            Some(Client::new(stream, client.peer, client.address, client.place))
        }
        // The client was told why, or has gone.
        Ok(Err(_)) | Err(_) => {
            shared.observer.metrics.failed_handshakes.add(1);
            None
        }
    }
}

/// After a complete answer: keeps the client's connection where that is right.
fn finish(http1: &Http1<'_>, answer: &Answer) -> Then {
    if !http1.is_complete() || !http1.is_flushed() {
        // The application answered without the rest of the body.
        return Then::Linger;
    }
    match answer.keep_alive {
        true => Then::Next,
        // TLS has a word for the end, without which the answer looks cut off.
        false if http1.client.read.is_empty() && http1.client.stream.scheme() == "http" => Then::Close,
        false => Then::Linger,
    }
}

async fn answer_failure(http1: &mut Http1<'_>, job: &Job<'_>, cause: pages::Cause, access: Access) -> Then {
    let Job { shared, route, facts, .. } = *job;
    let known = match cause {
        pages::Cause::NoListener => Box::pin(shared.last_seen(route)).await,
        _ => None,
    };
    let entry = &known.as_deref().unwrap_or(route).entry;
    let received = http1.is_complete() && http1.is_flushed();
    let close = !facts.keep_alive || !received || shared.is_draining();
    let mut out = take_head();
    let (reply, sees) = (Reply { facts, close }, Reader::Of(http1.client.stream.tcp()).sees());
    let status = pages::failed(&mut out, reply, sees, entry, cause, &shared.table.load());
    access.end(&shared.observer, None, status, 0);
    let written = http1.client.stream.write_all(&out).await;
    give_head(out);
    match (written, close) {
        (Err(_), _) => Then::Close,
        (Ok(()), true) => Then::Linger,
        (Ok(()), false) => Then::Next,
    }
}

/// Tells a client that there is no room for it.
pub(crate) async fn turn_away(stream: TcpStream, address: SocketAddr, shared: Arc<Shared>) {
    let (peer, place) = (ClientAddress::from(address), Place::outside());
    let client = Client::new(Transport::Plain(stream), peer, Box::default(), place);
    refuse(client, &shared, Refusal::NO_ROOM).await;
}

async fn refuse(mut client: Client, shared: &Shared, refusal: Refusal) {
    shared.observer.metrics.malformed.add(1);
    shared.observer.metrics.answered(refusal.status);
    let mut out = take_head();
    pages::refused(&mut out, refusal);
    let written = client.stream.write_all(&out).await;
    give_head(out);
    if written.is_ok() {
        Box::pin(client.linger()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::access::{Observer, RequestLog};
    use crate::serve::places::Places;
    use crate::table::{Table, TableHandle};
    use std::sync::RwLock;
    use std::sync::atomic::{AtomicBool, AtomicUsize};
    use tokio::sync::{mpsc, watch};

    /// Ten thousand idle connections should fit into a few dozen megabytes.
    #[tokio::test]
    async fn a_connection_is_small() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        let shared = Arc::new(Shared {
            table: TableHandle::new(Table::new(Vec::new(), 80)),
            observer: Observer { metrics: Arc::default(), log: RequestLog::none() },
            event_tx: mpsc::channel(1).0,
            handoff: Arc::default(),
            tls: RwLock::default(),
            stop_rx: watch::channel(false).1,
            draining: AtomicBool::new(false),
            busy: AtomicUsize::new(0),
        });
        let place = Places::new(Some(1), Arc::clone(&shared.observer.metrics)).take().unwrap();
        let size = std::mem::size_of_val(&serve(stream, address, false, place, shared));
        assert!(size <= 2048, "{size} bytes");
    }
}
