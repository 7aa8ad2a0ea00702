//! Accepts control connections, within their limit.
use super::connection::{self, Limits};
use super::{Command, Shared};
use crate::answer::error;
use crate::end::ended;
use crate::limits::COMMAND_QUEUE;
use crate::notice::clear;
use crate::warnings::Warnings;
use agentfs_wire::control::{ErrorCode, Reply};
use agentfs_wire::limits::{CONTROL_CONNECTIONS, CONTROL_SUBSCRIPTIONS};
use serde_json::Value;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

/// The listening end. Its file is removed when it is dropped, unless it is to stay.
#[derive(Debug)]
pub(crate) struct Server {
    listener: UnixListener,
    path: PathBuf,
    stays: Arc<AtomicBool>,
}

// === impl Server ===

impl Server {
    /// Binds the control socket, with access only for us. The caller holds the collector's lock, so an
    /// existing socket is stale.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn bind(path: &Path) -> io::Result<Self> {
        clear(path)?;
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, path: path.to_owned(), stays: Arc::default() })
    }

    /// Whether the file stays, and refuses: whoever finds it knows that nobody asked for the end.
    pub(crate) fn stays(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stays)
    }

    /// The queue between connections and hub.
    pub(crate) fn queue() -> (mpsc::Sender<Command>, mpsc::Receiver<Command>) {
        mpsc::channel(COMMAND_QUEUE)
    }

    /// Serves until `end_rx` fires; open connections may then still write their replies.
    pub(crate) async fn run(self, shared: Arc<Shared>, mut end_rx: watch::Receiver<bool>) {
        let permits = Arc::new(Semaphore::new(CONTROL_CONNECTIONS));
        let places = Arc::new(Semaphore::new(CONTROL_SUBSCRIPTIONS));
        let mut connections = JoinSet::new();
        let for_connections = end_rx.clone();
        let mut warnings = Warnings::default();
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) if !is_trusted(&stream) => drop(stream),
                    Ok((stream, _)) => match Arc::clone(&permits).try_acquire_owned() {
                        Ok(permit) => {
                            let limits = Limits { counted: permit, places: Arc::clone(&places) };
                            connections.spawn(connection::serve(
                                stream,
                                Arc::clone(&shared),
                                limits,
                                for_connections.clone(),
                            ));
                        }
                        Err(_) => refuse(&stream),
                    },
                    Err(error) => {
                        let text = format!("cannot accept a control connection: {error}");
                        if warnings.is_due(crate::clock::now_ms(), &text) {
                            crate::log::warning!("{text}");
                        }
                        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    }
                },
                Some(_) = connections.join_next() => {}
                () = ended(&mut end_rx) => break,
            }
        }
        while connections.join_next().await.is_some() {}
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.stays.load(Ordering::Relaxed) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whether the other end is us or root. The file's mode already ensures it, but modes get changed by
/// accident.
fn is_trusted(stream: &UnixStream) -> bool {
    let own = nix::unistd::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == own || peer.uid() == 0)
}

fn refuse(stream: &UnixStream) {
    let hint = Some("close a connection");
    let busy = error(ErrorCode::Busy, format!("too many connections: {CONTROL_CONNECTIONS} are open"), hint);
    let reply = Reply { id: Value::Null, result: None, error: Some(busy) };
    if let Ok(mut line) = serde_json::to_vec(&reply) {
        line.push(b'\n');
        // A fresh socket has room for one line. If the client filled it, it does not read either.
        let _ = stream.try_write(&line);
    }
}
