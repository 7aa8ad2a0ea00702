//! Raw TCP from outside into an instance: a port of its own on this host, or an address of its own in 127/8 on
//! which all of its ports are served. Owns the TCP listeners; finds the instance's sockets by their names in
//! the run dir, as the interposer does, hands connections over where the program takes them (`handoff`), and
//! passes bytes elsewhere. Called by `control`.
mod places;
mod talk;

use crate::control::{Answer, error};
use crate::end::ended;
use crate::handoff::{Families, Handoff, Offer, dial};
use crate::journal::{Filter, Journal, Subscription};
use crate::limits::FORWARDS;
use crate::log;
use agentfs_wire::control::{ControlError, ErrorCode, ForwardInfo, ForwardParams};
use agentfs_wire::event::{Event, EventKind};
use agentfs_wire::name::{app_name, instance_name};
use places::{InstanceFiles, bind_in};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use talk::Talks;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

/// Bytes of the buffer for each direction of a forwarded connection.
const BUFFER_BYTES: usize = 64 * 1024;

/// Every forward.
#[derive(Debug)]
pub(crate) struct Forwards {
    run: PathBuf,
    journal: Journal,
    end_rx: watch::Receiver<bool>,
    handoff: Arc<Handoff>,
    active: Mutex<Active>,
}

#[derive(Debug, Default)]
struct Active {
    /// By what is listened on: `address:port`, or the bare address where all ports are served.
    forwards: BTreeMap<String, Forward>,
    tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Forward {
    info: ForwardInfo,
    counters: Arc<Counters>,
    task: AbortHandle,
}

/// Connections of one forward.
#[derive(Debug, Default)]
struct Counters {
    all: AtomicU64,
    /// Those that the program has itself.
    handed: AtomicU64,
    /// Those whose bytes pass here.
    talks: Talks,
}

/// Whom a listener serves.
#[derive(Clone, Debug)]
struct Served {
    place: InstanceFiles,
    /// Whether connections are handed over; `None`: where the program has the port that was dialled.
    handoff: Option<bool>,
    by: Arc<Handoff>,
    counters: Arc<Counters>,
}

// === impl Forwards ===

impl Forwards {
    /// No forwards yet. `end_rx` ends them all.
    pub(crate) fn new(run: PathBuf, journal: Journal, end_rx: watch::Receiver<bool>) -> Self {
        Self { run, journal, end_rx, handoff: Arc::default(), active: Mutex::default() }
    }

    /// Adds a forward; a [`ForwardInfo`].
    pub(crate) async fn add(&self, params: ForwardParams) -> Answer {
        let (Some(_), Some(_)) = (app_name(&params.app), instance_name(&params.instance)) else {
            let message = format!("{}/{} is no name of an instance", params.app, params.instance);
            return Err(error(ErrorCode::BadParams, message, None));
        };
        if self.lock().forwards.len() >= FORWARDS {
            let hint = Some("`agentfs forward --list` shows them");
            return Err(error(ErrorCode::Conflict, format!("there are {FORWARDS} forwards already"), hint));
        }
        let counters = Arc::<Counters>::default();
        let served = Served {
            place: InstanceFiles {
                run: self.run.clone(),
                app: params.app.clone(),
                instance: params.instance.clone(),
            },
            handoff: params.handoff,
            by: Arc::clone(&self.handoff),
            counters: Arc::clone(&counters),
        };
        let filter = Filter {
            app: Some(params.app.clone()),
            instance: Some(params.instance.clone()),
            ..Filter::default()
        };
        let events = self.journal.subscribe(filter);
        let end_rx = self.end_rx.clone();
        let info = |listen: String| ForwardInfo {
            listen,
            app: params.app.clone(),
            instance: params.instance.clone(),
            port: params.port,
            connections: 0,
            handed: 0,
        };
        let (listen, task) = match params.port {
            Some(port) => {
                let listener = bind(params.listen.as_deref().unwrap_or("127.0.0.1:0"), port, &served)?;
                let address = canonical(listener.local_addr().map_err(|cause| internal(&cause))?);
                let task = self.lock().tasks.spawn(one_port(listener, port, served, events, end_rx));
                (address.to_string(), task)
            }
            None => {
                let address = own_address(&params.app, &params.instance);
                let listen = address.to_string();
                if self.lock().forwards.contains_key(&listen) {
                    return Err(taken(&listen));
                }
                let task = self.lock().tasks.spawn(all_ports(address, served, events, end_rx));
                (listen, task)
            }
        };
        let info = info(listen.clone());
        let answer = serde_json::to_value(&info).map_err(|cause| internal(&cause));
        self.lock().forwards.insert(listen, Forward { info, counters, task });
        answer
    }

    /// Removes a forward.
    pub(crate) fn remove(&self, listen: &str) -> Answer {
        match self.lock().forwards.remove(listen) {
            Some(forward) => {
                forward.task.abort();
                Ok(json!({ "removed": true }))
            }
            None => {
                let hint = Some("`agentfs forward --list` shows what there is");
                Err(error(ErrorCode::NotFound, format!("nothing is forwarded from {listen}"), hint))
            }
        }
    }

    /// Connections into an instance that wait for an answer, as far as their bytes pass here.
    pub(crate) fn waiting(&self, app: &str, instance: &str) -> usize {
        self.waiting_of(&BTreeSet::from([(app, instance)]))
    }

    /// The same for several instances, by app and instance.
    pub(crate) fn waiting_of(&self, instances: &BTreeSet<(&str, &str)>) -> usize {
        let active = self.lock();
        let of_them = active.forwards.values().filter(|forward| {
            instances.contains(&(forward.info.app.as_str(), forward.info.instance.as_str()))
        });
        of_them.map(|forward| forward.counters.talks.waiting()).sum()
    }

    /// Every forward.
    pub(crate) fn list(&self) -> Answer {
        let forwards: Vec<ForwardInfo> = self
            .lock()
            .forwards
            .values()
            .map(|forward| {
                let connections = forward.counters.all.load(Ordering::Relaxed);
                let handed = forward.counters.handed.load(Ordering::Relaxed);
                ForwardInfo { connections, handed, ..forward.info.clone() }
            })
            .collect();
        Ok(json!({ "forwards": forwards }))
    }

    /// The state, without forwards whose instance has ended.
    fn lock(&self) -> std::sync::MutexGuard<'_, Active> {
        let mut active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        while active.tasks.try_join_next().is_some() {}
        active.forwards.retain(|_, forward| !forward.task.is_finished());
        active
    }
}

fn internal(cause: &dyn std::fmt::Display) -> ControlError {
    error(ErrorCode::Internal, cause.to_string(), None)
}

fn taken(listen: &str) -> ControlError {
    let hint = Some("choose another port, or none for any free one");
    error(ErrorCode::Conflict, format!("{listen} is taken"), hint)
}

fn bind(listen: &str, port: u16, served: &Served) -> Result<TcpListener, ControlError> {
    let Ok(address) = listen.parse::<SocketAddr>() else {
        let hint = Some("write it as 127.0.0.1:5432 or [::1]:5432");
        return Err(error(ErrorCode::BadParams, format!("`{listen}` is no address and port"), hint));
    };
    let dual = served.may_hand(address.port(), port) && served.place.takes_both(port);
    bind_in(address, dual).map_err(|cause| match cause.kind() {
        std::io::ErrorKind::AddrInUse => taken(listen),
        _ => error(ErrorCode::Conflict, format!("cannot listen on {listen}: {cause}"), None),
    })
}

/// An address as it was asked for, whatever the family of the socket is.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The address in 127/8 that is an instance's own: from a hash of its name, so that it stays the same.
fn own_address(app: &str, instance: &str) -> Ipv4Addr {
    let [a, b, c, ..] = agentfs_wire::peer::space(b"own address", app, instance).to_be_bytes();
    // 127.0/16 is left to the host, and no part is 0 or 255.
    Ipv4Addr::new(127, 64 + a % 128, 1 + b % 254, 1 + c % 254)
}

/// Serves one port until the instance ends.
async fn one_port(
    listener: TcpListener,
    port: u16,
    served: Served,
    mut events: Subscription,
    mut end_rx: watch::Receiver<bool>,
) {
    let ip = listener.local_addr().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| canonical(address).ip());
    tokio::select! {
        () = accept(listener, ip, port, served) => {}
        () = until_ended(&mut events) => {}
        () = ended(&mut end_rx) => {}
    }
}

/// Serves every port of an instance on its own address, as its listeners come and go.
async fn all_ports(
    address: Ipv4Addr,
    served: Served,
    mut events: Subscription,
    mut end_rx: watch::Receiver<bool>,
) {
    let mut ports: BTreeMap<u16, AbortHandle> = BTreeMap::new();
    let mut tasks = JoinSet::new();
    loop {
        let present = served.place.ports();
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
            let dual = served.may_hand(port, port) && served.place.takes_both(port);
            match bind_in((address, port).into(), dual) {
                Ok(listener) => {
                    let task = tasks.spawn(accept(listener, IpAddr::V4(address), port, served.clone()));
                    ports.insert(port, task);
                }
                Err(error) => log::warning!("cannot serve {address}:{port}: {error}"),
            }
        }
        tokio::select! {
            event = events.next() => match event.as_ref().map(|item| kind_of(item.line())) {
                None | Some(Some(EventKind::InstanceEnded)) => return,
                _ => {}
            },
            () = ended(&mut end_rx) => return,
        }
    }
}

async fn until_ended(events: &mut Subscription) {
    while let Some(item) = events.next().await {
        if kind_of(item.line()) == Some(EventKind::InstanceEnded) {
            return;
        }
    }
}

fn kind_of(line: &str) -> Option<EventKind> {
    serde_json::from_str::<Event>(line).ok().map(|event| event.kind)
}

/// Accepts and passes on; each connection is one task, ended with this one.
async fn accept(listener: TcpListener, ip: IpAddr, port: u16, served: Served) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, address)) => {
                    connections.spawn(pass(client, address, ip, port, served.clone()));
                }
                // Out of descriptors: the listener stays readable, so give others time to close theirs.
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
    // Either side's failure is the end of the connection, and its own business.
    let _ = tokio::io::copy_bidirectional_with_sizes(&mut client, &mut upstream, BUFFER_BYTES, BUFFER_BYTES)
        .await;
    // A program that was offered the connection and did not get to it holds it open until then.
    let _ = nix::sys::socket::shutdown(client.get_ref().as_raw_fd(), nix::sys::socket::Shutdown::Both);
}

/// A connection to the program over which the bytes go. `None`: there is nothing to pass, because the program has
/// the client's connection itself, or there is no program.
async fn connect(
    client: &TcpStream,
    address: SocketAddr,
    ip: IpAddr,
    port: u16,
    served: &Served,
) -> Option<UnixStream> {
    let candidates = served.place.candidates(port, ip);
    let dialled = client.local_addr().map_or(0, |local| local.port());
    let mut outcome = Err(io::ErrorKind::NotFound.into());
    for path in candidates {
        if served.may_hand(dialled, port)
            && let Offer::Taken = served.by.offer(&path, client, address, Families::Exact).await
        {
            served.counters.handed.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        outcome = dial(&path, address, false).await;
        if outcome.is_ok() {
            break;
        }
    }
    let InstanceFiles { app, instance, .. } = &served.place;
    outcome.inspect_err(|error| log::debug!("{app}/{instance} has nobody on port {port}: {error}")).ok()
}

// === impl Served ===

impl Served {
    /// Whether connections to `dialled` may be handed to the program on `port`, which sees the port dialled.
    fn may_hand(&self, dialled: u16, port: u16) -> bool {
        self.handoff.unwrap_or(dialled == port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    fn forwards(run: &std::path::Path) -> (Forwards, watch::Sender<bool>, Journal) {
        let (end_tx, end_rx) = watch::channel(false);
        let journal = Journal::new();
        (Forwards::new(run.to_owned(), journal.clone(), end_rx), end_tx, journal)
    }

    fn params(port: Option<u16>) -> ForwardParams {
        ForwardParams {
            app: "shop".to_owned(),
            instance: "main".to_owned(),
            port,
            listen: None,
            handoff: None,
        }
    }

    async fn echo(listener: UnixListener) {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (mut input, mut output) = stream.split();
            let _ = tokio::io::copy(&mut input, &mut output).await;
        }
    }

    async fn says(address: &str) -> String {
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"hello").await.unwrap();
        client.shutdown().await.unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn a_port_is_forwarded_until_its_instance_ends() {
        let run = tempfile::tempdir_in("/tmp").unwrap();
        let upstream = UnixListener::bind(run.path().join("shop-main.5432.l.sock")).unwrap();
        let _upstream = tokio::spawn(echo(upstream));
        let (forwards, _end, journal) = forwards(run.path());
        let info: ForwardInfo =
            serde_json::from_value(forwards.add(params(Some(5432))).await.unwrap()).unwrap();
        assert_eq!(says(&info.listen).await, "hello");
        let second = ForwardParams { listen: Some(info.listen.clone()), ..params(Some(5432)) };
        assert_eq!(forwards.add(second).await.unwrap_err().code, ErrorCode::Conflict);
        assert_eq!(forwards.list().unwrap()["forwards"][0]["connections"], 1);
        journal.publish(0, Event::new(EventKind::InstanceEnded).of("shop", "main"));
        while TcpStream::connect(&info.listen).await.is_ok() {
            tokio::task::yield_now().await;
        }
        assert_eq!(forwards.list().unwrap()["forwards"], json!([]));
        assert_eq!(forwards.remove(&info.listen).unwrap_err().code, ErrorCode::NotFound);
    }

    #[tokio::test]
    async fn an_own_address_serves_every_port() {
        let run = tempfile::tempdir_in("/tmp").unwrap();
        let (forwards, _end, journal) = forwards(run.path());
        let info: ForwardInfo = serde_json::from_value(forwards.add(params(None)).await.unwrap()).unwrap();
        // A port that is free here, because the test's own listener on another address had it.
        let probe = TcpListener::bind((info.listen.as_str(), 0)).await.unwrap();
        let port = probe.local_addr().unwrap().port();
        drop(probe);
        let upstream = UnixListener::bind(run.path().join(format!("shop-main.{port}.sock"))).unwrap();
        let _upstream = tokio::spawn(echo(upstream));
        journal.publish(0, Event::new(EventKind::ListenerUp).of("shop", "main"));
        let address = format!("{}:{port}", info.listen);
        while TcpStream::connect(&address).await.is_err() {
            tokio::task::yield_now().await;
        }
        assert_eq!(says(&address).await, "hello");
    }

    #[tokio::test]
    async fn bad_addresses_are_named() {
        let run = tempfile::tempdir_in("/tmp").unwrap();
        let (forwards, _end, _journal) = forwards(run.path());
        let bad = ForwardParams { listen: Some("nowhere".to_owned()), ..params(Some(1)) };
        let error = forwards.add(bad).await.unwrap_err();
        assert!(error.message.contains("nowhere") && error.hint.is_some());
        let bad = ForwardParams { app: "No Label".to_owned(), ..params(Some(1)) };
        assert_eq!(forwards.add(bad).await.unwrap_err().code, ErrorCode::BadParams);
    }
}
