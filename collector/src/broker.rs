//! Opens sockets of the run dir for processes of an instance that have changed their user and may no longer
//! enter it (see `agentfs_wire::broker`). Only root can change users, so only root's collector serves
//! this. Every process on the machine can connect, so a caller must know the secret of its instance (`member`).
//! Refusals are logged, but not each one. Owns the abstract socket; does not know the registry. Each connection
//! has one request and is closed after the answer.
mod member;

use crate::clock::now_ms;
use crate::end::ended;
use crate::limits::{BROKER_CONNECTIONS, BROKER_LOCK_WAIT, BROKER_OPEN, BROKER_SILENT, BROKER_TIMEOUT};
use crate::log;
use crate::warnings::Warnings;
use agentfs_home::{Change, Probe, Prober, RunDir};
use agentfs_wire::broker::{Answer, Ask, REQUEST_BYTES, Request, socket_name};
use agentfs_wire::limits::REUSEPORT_WORKERS;
use agentfs_wire::name::{Kind, SocketName};
use agentfs_wire::paths::Paths;
use agentfs_wire::peer::Peer;
use nix::errno::Errno;
use nix::sys::socket::sockopt::{PeerCredentials, ReceiveTimeout, SendTimeout};
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, UnixCredentials, bind,
    connect, getsockopt, listen, recv, sendmsg, setsockopt, socket,
};
use nix::sys::time::TimeVal;
use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};

/// The listening end.
#[derive(Debug)]
pub(crate) struct Broker {
    /// A `SOCK_SEQPACKET` socket; accepting is the same as for a stream.
    socket: UnixListener,
    places: Arc<Places>,
}

/// Where the sockets are.
#[derive(Debug)]
struct Places {
    run: PathBuf,
    run_lock: PathBuf,
    warnings: Mutex<Warnings>,
}

/// Connections of each user that have sent nothing yet.
#[derive(Debug, Default)]
struct Silent(Mutex<HashMap<u32, usize>>);

/// Counts one of them for as long as it lives.
#[derive(Debug)]
struct Waiting {
    silent: Arc<Silent>,
    user: u32,
}

// === impl Silent ===

impl Silent {
    /// Counts one more of the user at the other end; `None` if there are too many.
    fn enter(self: &Arc<Self>, connection: &UnixStream) -> Option<Waiting> {
        let user = getsockopt(connection, PeerCredentials).ok()?.uid();
        let mut users = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = users.entry(user).or_default();
        if *count >= BROKER_SILENT {
            return None;
        }
        *count += 1;
        Some(Waiting { silent: Arc::clone(self), user })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut users = self.silent.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = users.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                users.remove(&self.user);
            }
        }
    }
}

// === impl Broker ===

impl Broker {
    /// Listens, where this process is root's; `None` elsewhere.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn listen(paths: &Paths) -> io::Result<Option<Self>> {
        if !nix::unistd::geteuid().is_root() {
            return Ok(None);
        }
        let name = socket_name(paths.base.as_os_str().as_bytes());
        let address = UnixAddr::new_abstract(name.as_bytes().get(1..).unwrap_or(&[]))?;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
        bind(socket.as_raw_fd(), &address)?;
        listen(&socket, Backlog::new(64)?)?;
        let warnings = Mutex::default();
        let places = Places { run: paths.run.clone(), run_lock: paths.run_lock.clone(), warnings };
        let socket = UnixListener::from_std(std::os::unix::net::UnixListener::from(socket))?;
        Ok(Some(Self { socket, places: Arc::new(places) }))
    }

    /// Answers until the collector ends.
    pub(crate) async fn run(self, mut end_rx: watch::Receiver<bool>) {
        let open = Arc::new(Semaphore::new(BROKER_OPEN));
        let permits = Arc::new(Semaphore::new(BROKER_CONNECTIONS));
        let silent = Arc::new(Silent::default());
        loop {
            let Ok(place) = Arc::clone(&open).acquire_owned().await else { return };
            let connection = tokio::select! {
                () = ended(&mut end_rx) => return,
                connection = self.socket.accept() => connection,
            };
            match connection {
                Ok((connection, _)) => {
                    let (places, permits) = (Arc::clone(&self.places), Arc::clone(&permits));
                    // A user with too many connections that say nothing loses the further ones. The rest is served.
                    let Some(waiting) = silent.enter(&connection) else { continue };
                    // Detached on purpose: it ends by its own timeouts, and its place counts it.
                    drop(tokio::spawn(async move {
                        if let Err(error) = answer(connection, waiting, &permits, places).await {
                            log::debug!("broker: {error}");
                        }
                        drop(place);
                    }));
                }
                Err(error) => log::debug!("broker: cannot accept: {error}"),
            }
        }
    }
}

/// Waits for one request and answers it. A client that sends nothing does not occupy a thread.
async fn answer(
    connection: UnixStream,
    waiting: Waiting,
    permits: &Semaphore,
    places: Arc<Places>,
) -> io::Result<()> {
    tokio::time::timeout(BROKER_TIMEOUT, has_spoken(&connection)).await??;
    drop(waiting);
    let _permit = permits.acquire().await.map_err(io::Error::other)?;
    let connection = connection.into_std()?;
    connection.set_nonblocking(false)?;
    tokio::task::spawn_blocking(move || serve(&connection.into(), &places)).await??;
    Ok(())
}

/// Completes when something is there to be read, or the other end has closed.
async fn has_spoken(connection: &UnixStream) -> io::Result<()> {
    loop {
        // It may say so without a cause, so the socket itself is asked.
        connection.readable().await?;
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        let peek = || recv(connection.as_raw_fd(), &mut [0], flags).map_err(io::Error::from);
        match connection.try_io(tokio::io::Interest::READABLE, peek) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result.map(drop),
        }
    }
}

/// Answers one request.
fn serve(connection: &OwnedFd, places: &Places) -> nix::Result<()> {
    let timeout = TimeVal::new(0, BROKER_TIMEOUT.subsec_micros().into());
    setsockopt(connection, ReceiveTimeout, &timeout)?;
    setsockopt(connection, SendTimeout, &timeout)?;
    let mut message = [0; REQUEST_BYTES];
    let length = recv(connection.as_raw_fd(), &mut message, MsgFlags::empty())?;
    let caller = getsockopt(connection, PeerCredentials)?;
    let result = match Request::decode(message.get(..length).unwrap_or(&[])) {
        Some(request) => carry_out(&request, caller, places),
        None => Err(Errno::EINVAL),
    };
    let (errno, descriptor) = match result {
        Ok(descriptor) => (0, descriptor),
        Err(errno) => (errno as i32, None),
    };
    let mut reply = [0; 16];
    let length = Answer { errno }.encode(&mut reply).unwrap_or(0);
    let parts = [IoSlice::new(reply.get(..length).unwrap_or(&[]))];
    let descriptors: Vec<i32> = descriptor.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&descriptors)];
    let rights = if descriptors.is_empty() { &[] } else { &rights[..] };
    sendmsg::<()>(connection.as_raw_fd(), &parts, rights, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

fn carry_out(
    request: &Request<'_>,
    caller: UnixCredentials,
    places: &Places,
) -> nix::Result<Option<OwnedFd>> {
    if !member::proves(request, &places.run) {
        places.refused(caller);
        return Err(Errno::EACCES);
    }
    let file = match request.ask {
        Ask::Probe { file } | Ask::Bind { file, .. } | Ask::Connect { file, .. } => file,
    };
    let name = SocketName::parse(file).map_err(|_| Errno::EINVAL)?;
    if (name.app.as_str(), name.instance.as_str()) != (request.app, request.instance) {
        return Err(Errno::EACCES);
    }
    let path = places.run.join(file);
    match request.ask {
        Ask::Probe { .. } => match Prober::default().probe(&path) {
            Probe::Live => Ok(None),
            // The caller may be about to bind the same name and cannot remove the stale file itself: the library
            // takes a stale file for a proof that no rival came (interpose/src/rundir/claim.rs, `retake_quickly`).
            Probe::Stale => match run_dir(places).remove_stale_within(file, BROKER_LOCK_WAIT) {
                Ok(Change::Different) => Ok(None),
                _ => Err(Errno::ECONNREFUSED),
            },
            Probe::Gone => Err(Errno::ENOENT),
            Probe::Unknown(errno) => Err(errno),
        },
        Ask::Bind { mapped, .. } => bound(places, file, mapped).map(Some),
        Ask::Connect { name: client, .. } => {
            let mut outcome = Err(Errno::ENOENT);
            for path in std::iter::once(path).chain(group(&name, places)) {
                outcome = connected(&path, client);
                if !matches!(outcome, Err(Errno::ENOENT | Errno::ECONNREFUSED)) {
                    break;
                }
            }
            outcome.map(Some)
        }
    }
}

// === impl Places ===

impl Places {
    /// Logs that a caller was refused. The caller can invent any request and repeat it without end, so the log
    /// gets one line a minute for all callers together, without the content of the request.
    fn refused(&self, caller: UnixCredentials) {
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        if warnings.is_due(now_ms(), "refused") {
            log::warning!(
                "process {} of user {} asked for a socket of an instance without its secret, and was refused; further \
                 refusals within a minute are not logged",
                caller.pid(),
                caller.uid()
            );
        }
    }
}

fn run_dir(places: &Places) -> RunDir {
    RunDir::new(places.run.clone(), places.run_lock.clone())
}

fn stream() -> nix::Result<OwnedFd> {
    socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)
}

/// A socket bound to a file of the run dir; a stale file is cleared.
fn bound(places: &Places, file: &str, mapped: bool) -> nix::Result<OwnedFd> {
    let mut path = places.run.as_os_str().as_bytes().to_vec();
    path.extend_from_slice(if mapped { b"//" } else { b"/" });
    path.extend_from_slice(file.as_bytes());
    let address = UnixAddr::new(path.as_slice())?;
    let socket = stream()?;
    match bind(socket.as_raw_fd(), &address) {
        Err(Errno::EADDRINUSE) => {}
        result => return result.map(|()| socket),
    }
    // Busy for too long, or alive: whoever asks gets the answer that TCP gives.
    let _ = run_dir(places).remove_stale_within(file, BROKER_LOCK_WAIT);
    bind(socket.as_raw_fd(), &address).map(|()| socket)
}

/// The members of the `SO_REUSEPORT` group on the port and address of a listener, each first in its turn.
fn group(name: &SocketName, places: &Places) -> Vec<PathBuf> {
    static TURN: AtomicUsize = AtomicUsize::new(0);
    let Kind::Listener { port, scope, worker: None } = name.kind else { return Vec::new() };
    let mut members: Vec<PathBuf> = (0..REUSEPORT_WORKERS)
        .map(|worker| name.with(Kind::Listener { port, scope, worker: Some(worker) }))
        .map(|member| places.run.join(member.format().as_str()))
        .filter(|path| path.exists())
        .collect();
    if !members.is_empty() {
        let first = TURN.fetch_add(1, Ordering::Relaxed) % members.len();
        members.rotate_left(first);
    }
    members
}

/// A socket named as the client end and connected to a listener.
fn connected(path: &std::path::Path, name: &[u8]) -> nix::Result<OwnedFd> {
    let Some(Peer::Client { .. }) = Peer::parse(name) else { return Err(Errno::EINVAL) };
    let socket = stream()?;
    setsockopt(&socket, SendTimeout, &TimeVal::new(0, BROKER_TIMEOUT.subsec_micros().into()))?;
    bind(socket.as_raw_fd(), &UnixAddr::new_abstract(name.get(1..).unwrap_or(&[]))?)?;
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    setsockopt(&socket, SendTimeout, &TimeVal::new(0, 0))?;
    Ok(socket)
}
