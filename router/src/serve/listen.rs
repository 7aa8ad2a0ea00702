//! Accepts connections, sweeps pools, and stops in order.
use crate::counters::RouterMetrics;
use crate::error::Error;
use crate::event::RouterEvent;
use crate::limits::{DRAIN_TIME, SWEEP};
use crate::observe::access::{Observer, RequestLog};
use crate::serve::connection;
use crate::serve::places::Places;
use crate::serve::shared::{Shared, ended};
use crate::table::TableHandle;
use agentfs_handoff::Handoff;
use std::future::{pending, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::task::Poll;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_rustls::TlsAcceptor;

/// How long to wait when no descriptor is left, before the next accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Ended connections reaped at each accept.
const REAP: usize = 4;

/// How often to look whether the last exchange has ended.
const DRAIN_STEP: Duration = Duration::from_millis(10);

/// Where the router listens, and what it speaks there.
#[derive(Debug, Default)]
pub struct Listeners {
    /// Sockets for HTTP, non-blocking or not; TLS is understood there as well.
    pub http: Vec<std::net::TcpListener>,
    /// Sockets for TLS; plain HTTP is sent on to its `https` URL.
    pub https: Vec<std::net::TcpListener>,
    /// How to speak TLS; without it nobody does.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// hub --what is to be otherwise from here on--> router
    pub changes: Option<mpsc::Receiver<SecureListeners>>,
    /// Whether connections of other machines are closed before anything of them is read.
    pub only_local: bool,
    /// Who follows along; without it nobody does.
    pub log: Option<RequestLog>,
    /// Gives connections to applications that take them.
    pub handoff: Arc<Handoff>,
    /// How many clients may be connected at once; without it, as many as the descriptors allow.
    pub clients: Option<usize>,
}

/// How TLS is spoken from here on. Connections that are open stay as they are.
#[derive(Debug)]
pub struct SecureListeners {
    /// Sockets for TLS instead of those that are there; absent: those that are there.
    pub https: Option<Vec<std::net::TcpListener>>,
    /// As in [`Listeners`].
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

impl From<Vec<std::net::TcpListener>> for Listeners {
    fn from(http: Vec<std::net::TcpListener>) -> Self {
        Self { http, ..Self::default() }
    }
}

/// Serves `listeners` until `shutdown` turns true, or its sender is dropped;
/// then lets exchanges in progress end, for a bounded time. Refused connects are told to `event_tx`.
pub async fn run(
    listeners: impl Into<Listeners>,
    table: TableHandle,
    event_tx: mpsc::Sender<RouterEvent>,
    metrics: Arc<RouterMetrics>,
    mut shutdown: watch::Receiver<bool>,
) -> Result<(), Error> {
    let Listeners { http, https, tls, mut changes, only_local, log, handoff, clients } = listeners.into();
    let adopt_all = |sockets: Vec<_>| sockets.into_iter().map(adopt).collect::<io::Result<Vec<_>>>();
    let plain = adopt_all(http).map_err(Error::Listener)?;
    let mut secure = adopt_all(https).map_err(Error::Listener)?;
    let shared = Arc::new(Shared {
        table,
        observer: Observer { metrics, log: log.unwrap_or_else(RequestLog::none) },
        event_tx,
        handoff,
        tls: RwLock::new(tls.map(TlsAcceptor::from)),
        stop_rx: shutdown.clone(),
        draining: AtomicBool::new(false),
        busy: AtomicUsize::new(0),
    });
    let mut places = Places::new(clients, Arc::clone(&shared.observer.metrics));
    let mut connections = JoinSet::new();
    let mut refusals = JoinSet::new();
    // Only while something is open: a router without connections sleeps.
    let mut sweep_at = None;
    loop {
        tokio::select! {
            biased;
            () = ended(&mut shutdown) => break,
            () = sleep_until(sweep_at.unwrap_or_else(Instant::now)), if sweep_at.is_some() => {
                let now = Instant::now();
                let mut kept = 0;
                for upstream in shared.table.load().routes().flat_map(|route| &route.entry.upstreams) {
                    kept += upstream.sweep(now);
                }
                while connections.try_join_next().is_some() || refusals.try_join_next().is_some() {}
                let open = kept > 0 || !connections.is_empty() || !refusals.is_empty();
                sweep_at = open.then(|| now + SWEEP);
            }
            SecureListeners { https, tls } = changed(&mut changes) => {
                shared.set_acceptor(tls.map(TlsAcceptor::from));
                match https.map(adopt_all) {
                    None => {}
                    Some(Ok(listeners)) => secure = listeners,
                    Some(Err(error)) => {
                        // A full queue loses a warning; the status of the collector tells the ports anyway.
                        let reason = error.to_string();
                        let _ = shared.event_tx.try_send(RouterEvent::SecureListenersFailed { reason });
                    }
                }
            }
            accepted = accept(&plain, &secure) => match accepted {
                Ok((stream, address, _)) if only_local && !is_local(address) => drop(stream),
                Ok((stream, address, secure)) => {
                    sweep_at.get_or_insert_with(|| Instant::now() + SWEEP);
                    let Some(place) = places.take() else {
                        shared.observer.metrics.turned_away.add(1);
                        while refusals.try_join_next().is_some() {}
                        // Within TLS there is no short answer.
                        if !secure && refusals.len() < places.refusals() {
                            refusals.spawn(connection::turn_away(stream, address, Arc::clone(&shared)));
                        }
                        continue;
                    };
                    let state = place.state();
                    let serving = connection::serve(stream, address, secure, place, Arc::clone(&shared));
                    places.note(state, connections.spawn(serving));
                    // Ended connections keep their memory until they are reaped: more than one for
                    // each new one. A panic in one has closed that connection; it is no reason to
                    // stop the others.
                    for _ in 0..REAP {
                        if connections.try_join_next().is_none() {
                            break;
                        }
                    }
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(_) => sleep(ACCEPT_PAUSE).await,
            },
        }
    }
    drop((plain, secure));
    shared.draining.store(true, Ordering::Relaxed);
    let end = Instant::now() + DRAIN_TIME;
    while shared.busy.load(Ordering::Relaxed) > 0 && Instant::now() < end {
        sleep(DRAIN_STEP).await;
    }
    refusals.shutdown().await;
    connections.shutdown().await;
    Ok(())
}

fn adopt(listener: std::net::TcpListener) -> io::Result<TcpListener> {
    use nix::sys::socket::{Backlog, listen, setsockopt, sockopt::TcpNoDelay};
    listener.set_nonblocking(true)?;
    // Accepted sockets inherit it: one system call instead of one a connection.
    setsockopt(&listener, TcpNoDelay, &true)?;
    // The standard library asks for 128; a browser's burst of connections to many names is larger.
    listen(&listener, Backlog::MAXCONN)?;
    TcpListener::from_std(listener)
}

/// The next change, if any is ever to come.
async fn changed(changes: &mut Option<mpsc::Receiver<SecureListeners>>) -> SecureListeners {
    let next = match changes {
        Some(changes) => changes.recv().await,
        None => None,
    };
    match next {
        Some(change) => change,
        None => pending().await,
    }
}

/// The next connection, and whether it came to a port for TLS.
async fn accept(plain: &[TcpListener], secure: &[TcpListener]) -> io::Result<(TcpStream, SocketAddr, bool)> {
    poll_fn(|context| {
        for (listeners, is_secure) in [(plain, false), (secure, true)] {
            for listener in listeners {
                if let Poll::Ready(accepted) = listener.poll_accept(context) {
                    return Poll::Ready(accepted.map(|(stream, address)| (stream, address, is_secure)));
                }
            }
        }
        Poll::Pending
    })
    .await
}

/// Whether a client is on this machine, and came by an address that no other machine has.
fn is_local(client: SocketAddr) -> bool {
    client.ip().to_canonical().is_loopback()
}

/// Whether only the connection that was about to be accepted is lost (accept(2)).
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Table;
    use std::net::{Ipv4Addr, UdpSocket};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[test]
    fn only_loopback_is_local() {
        for (client, local) in [
            ("127.0.0.1:1", true),
            ("127.9.8.7:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("[::ffff:192.0.2.1]:1", false),
            ("192.0.2.1:80", false),
            ("0.0.0.0:80", false),
            ("[fe80::1]:80", false),
            ("[::127.0.0.1]:80", false),
        ] {
            assert_eq!(is_local(client.parse().unwrap()), local, "{client}");
        }
    }

    /// What a client gets that connects from `address` to a router on every address.
    async fn answer_from(address: Ipv4Addr) -> String {
        let listener = std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (end_tx, end_rx) = watch::channel(false);
        let (event_tx, _event_rx) = mpsc::channel(1);
        let listeners = Listeners { http: vec![listener], only_local: true, ..Listeners::default() };
        let table = TableHandle::new(Table::new(Vec::new(), port));
        let router = tokio::spawn(run(listeners, table, event_tx, Arc::default(), end_rx));
        let mut stream = TcpStream::connect((address, port)).await.unwrap();
        let mut answer = Vec::new();
        let asked =
            stream.write_all(b"GET / HTTP/1.1\r\nHost: x.localhost\r\nConnection: close\r\n\r\n").await;
        // A connection that was closed at once may refuse the write or the read; both are no answer.
        if asked.is_ok() {
            let _ = stream.read_to_end(&mut answer).await;
        }
        end_tx.send(true).unwrap();
        router.await.unwrap().unwrap();
        String::from_utf8(answer).unwrap()
    }

    #[tokio::test]
    async fn a_connection_from_elsewhere_is_closed_unread() {
        assert!(answer_from(Ipv4Addr::LOCALHOST).await.starts_with("HTTP/1.1 404"));
        // An address of this machine in its network: what connects to it comes from it. No packet is sent.
        let own = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
            .and_then(|socket| socket.connect("192.0.2.1:9").and_then(|()| socket.local_addr()));
        if let Ok(SocketAddr::V4(own)) = own
            && !own.ip().is_loopback()
        {
            assert_eq!(answer_from(*own.ip()).await, "");
        }
    }
}
