//! Serves forwards: accepts connections, hands them over if the program takes them, and otherwise passes the bytes.
use super::files::{InstanceFiles, bind_in};
use super::talk::Talks;
use crate::end::ended;
use crate::journal::Subscription;
use crate::log;
use agentfs_handoff::{Families, Handoff, Offer, dial, dial_front, is_front};
use agentfs_wire::event::EventKind;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

/// Bytes of the buffer for each direction of a forwarded connection.
const BUFFER_BYTES: usize = 64 * 1024;

/// Connections of one forward.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) all: AtomicU64,
    /// Connections that were handed over to the program.
    pub(super) handed: AtomicU64,
    /// Connections whose bytes pass here.
    pub(super) talks: Talks,
}

/// What a listener serves.
#[derive(Clone, Debug)]
pub(super) struct Served {
    pub(super) files: InstanceFiles,
    /// Whether connections are handed over; `None`: only if the program listens on the same port.
    pub(super) handoff: Option<bool>,
    pub(super) by: Arc<Handoff>,
    pub(super) counters: Arc<Counters>,
}

/// A connection to a program, of either kind.
trait Pipe: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Pipe for T {}

/// Serves one port until the instance ends. `ip` is the address that was asked for.
pub(super) async fn one_port(
    listener: TcpListener,
    ip: IpAddr,
    port: u16,
    served: Served,
    mut events: Subscription,
    mut end_rx: watch::Receiver<bool>,
) {
    tokio::select! {
        () = accept(listener, ip, port, served) => {}
        () = until_ended(&mut events) => {}
        () = ended(&mut end_rx) => {}
    }
}

/// Serves every port of an instance on its own address, and follows its listeners as they come and go.
pub(super) async fn all_ports(
    address: Ipv4Addr,
    served: Served,
    mut events: Subscription,
    mut end_rx: watch::Receiver<bool>,
) {
    let mut ports: BTreeMap<u16, AbortHandle> = BTreeMap::new();
    let mut tasks = JoinSet::new();
    loop {
        let present = served.files.ports();
        ports.retain(|port, task| {
            let stays = present.contains(port);
            if !stays {
                task.abort();
            }
            stays
        });
        for port in present {
            if ports.contains_key(&port) {
                continue;
            }
            let dual = served.may_hand(port, port) && served.files.takes_both(port);
            match bind_in((address, port).into(), dual) {
                Ok(listener) => {
                    let task = tasks.spawn(accept(listener, IpAddr::V4(address), port, served.clone()));
                    ports.insert(port, task);
                }
                Err(error) => log::warning!("cannot serve {address}:{port}: {error}"),
            }
        }
        tokio::select! {
            event = events.next() => match event.map(|item| item.kind()) {
                None | Some(EventKind::InstanceEnded) => return,
                _ => {}
            },
            () = ended(&mut end_rx) => return,
        }
    }
}

async fn until_ended(events: &mut Subscription) {
    while let Some(item) = events.next().await {
        if item.kind() == EventKind::InstanceEnded {
            return;
        }
    }
}

/// Accepts connections. Each is one task, which ends with this one.
async fn accept(listener: TcpListener, ip: IpAddr, port: u16, served: Served) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, address)) => {
                    connections.spawn(pass(client, address, ip, port, served.clone()));
                }
                // No descriptors left. The listener stays readable, so wait until others close theirs.
                Err(error) => {
                    log::warning!("cannot accept a connection to forward: {error}");
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

async fn pass(client: TcpStream, address: SocketAddr, ip: IpAddr, port: u16, served: Served) {
    served.counters.all.fetch_add(1, Ordering::Relaxed);
    let Some(mut upstream) = connect(&client, address, ip, port, &served).await else { return };
    let _ = client.set_nodelay(true);
    let mut client = served.counters.talks.watch(client);
    // If either side fails, the connection ends; that is not our error.
    let _ = tokio::io::copy_bidirectional_with_sizes(&mut client, &mut upstream, BUFFER_BYTES, BUFFER_BYTES)
        .await;
    // A program that was offered the connection but did not take it keeps it open until then.
    let _ = nix::sys::socket::shutdown(client.get_ref().as_raw_fd(), nix::sys::socket::Shutdown::Both);
}

/// A connection to the program over which to pass bytes. `None`: there is nothing to pass, because the
/// program has the client's connection itself, or because no program listens.
async fn connect(
    client: &TcpStream,
    address: SocketAddr,
    ip: IpAddr,
    port: u16,
    served: &Served,
) -> Option<Box<dyn Pipe>> {
    let candidates = served.files.candidates(port, ip);
    let dialled = client.local_addr().map_or(0, |local| local.port());
    let mut outcome = Err(io::ErrorKind::NotFound.into());
    for path in candidates {
        if served.may_hand(dialled, port)
            && let Offer::Taken = served.by.offer(&path, client, address, Families::Exact).await
        {
            served.counters.handed.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        outcome = connect_to(&path, address).await;
        if outcome.is_ok() {
            break;
        }
    }
    let InstanceFiles { app, instance, .. } = &served.files;
    outcome.inspect_err(|error| log::debug!("{app}/{instance} does not accept on port {port}: {error}")).ok()
}

/// A connection to the listener at `path`, in the client's name.
async fn connect_to(path: &Path, client: SocketAddr) -> io::Result<Box<dyn Pipe>> {
    if is_front(path) {
        let stream = dial_front(path, client).await?;
        stream.set_nodelay(true)?;
        return Ok(Box::new(stream));
    }
    Ok(Box::new(dial(path, client, false).await?))
}

// === impl Served ===

impl Served {
    /// Whether connections to port `dialled` may be handed to the program on `port`, which then sees
    /// `dialled`.
    pub(super) fn may_hand(&self, dialled: u16, port: u16) -> bool {
        self.handoff.unwrap_or(dialled == port)
    }
}
