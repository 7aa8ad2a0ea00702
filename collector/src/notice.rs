//! Receives the datagrams of the interposer, checks sender and content, and passes them on as owned values.
//! Owns the socket and its counters; does not know the registry.
use crate::end::ended;
use crate::limits::{NOTICE_BUFFER_BYTES, NOTICE_QUEUE};
use crate::registry::Key;
use agentfs_home::is_ours;
use agentfs_wire::address::Endpoint;
use agentfs_wire::limits::NOTICE_BYTES;
use agentfs_wire::name::{app_name, instance_name};
use agentfs_wire::notice::{Call, Notice, Outcome, Why, is_on_behalf};
use nix::sys::socket::{MsgFlags, recvmsg, setsockopt, sockopt};
use std::fs;
use std::io::{self, IoSliceMut};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::Interest;
use tokio::net::UnixDatagram;
use tokio::sync::{mpsc, watch};

/// A notice whose sender and text were checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VerifiedNotice {
    /// The instance of the process. Its names were checked to be labels.
    pub(crate) key: Key,
    /// The process; 0 if it is in another PID namespace.
    pub(crate) pid: u32,
    /// The call.
    pub(crate) call: Call,
    /// What became of it.
    pub(crate) outcome: Outcome,
    /// Why.
    pub(crate) why: Why,
    /// errno, 0 on success.
    pub(crate) errno: i32,
    /// The descriptor.
    pub(crate) fd: i32,
    /// The address that the call named.
    pub(crate) address: Option<Endpoint>,
    /// The other end.
    pub(crate) peer: Option<Endpoint>,
    /// File of the listener, or the program of an exec.
    pub(crate) file: String,
    /// Name of the process.
    pub(crate) program: String,
}

/// Counters of the datagrams.
#[derive(Debug, Default)]
pub(crate) struct NoticeCounters {
    /// Passed on.
    pub(crate) received: AtomicU64,
    /// Not from our user, or not a valid notice.
    pub(crate) refused: AtomicU64,
    /// Lost because the hub was too slow.
    pub(crate) overflown: AtomicU64,
    /// Lost by the senders, as they report.
    pub(crate) dropped: AtomicU64,
}

/// The receiving end. Its file is removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Receiver {
    socket: UnixDatagram,
    path: PathBuf,
    counters: Arc<NoticeCounters>,
    /// receiver --notices--> hub
    notice_tx: mpsc::Sender<VerifiedNotice>,
}

// === impl Receiver ===

impl Receiver {
    /// Binds the notice socket. The caller holds the collector's lock, so an existing socket is stale.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn bind(
        path: &Path,
    ) -> io::Result<(Self, mpsc::Receiver<VerifiedNotice>, Arc<NoticeCounters>)> {
        clear(path)?;
        let socket = UnixDatagram::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        #[cfg(target_os = "linux")]
        setsockopt(&socket, sockopt::PassCred, &true)?;
        // The kernel may grant less; a smaller buffer only drops hints earlier.
        let _ = setsockopt(&socket, sockopt::RcvBuf, &NOTICE_BUFFER_BYTES);
        let (notice_tx, notice_rx) = mpsc::channel(NOTICE_QUEUE);
        let counters = Arc::new(NoticeCounters::default());
        let receiver = Self { socket, path: path.to_owned(), counters: Arc::clone(&counters), notice_tx };
        Ok((receiver, notice_rx, counters))
    }

    /// Receives until `end_rx` fires.
    pub(crate) async fn run(self, mut end_rx: watch::Receiver<bool>) {
        let mut buffer = [0; NOTICE_BYTES + 1];
        loop {
            tokio::select! {
                received = self.receive(&mut buffer) => match received {
                    Ok(Some(verified)) => self.pass(verified),
                    Ok(None) => count(&self.counters.refused),
                    Err(error) => {
                        crate::log::warning!("cannot receive notices: {error}");
                        tokio::time::sleep(crate::limits::RETRY).await;
                    }
                },
                () = ended(&mut end_rx) => break,
            }
        }
    }

    fn pass(&self, verified: VerifiedNotice) {
        count(match self.notice_tx.try_send(verified) {
            Ok(()) => &self.counters.received,
            Err(_) => &self.counters.overflown,
        });
    }

    async fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<VerifiedNotice>> {
        let (length, sender) =
            self.socket.async_io(Interest::READABLE, || receive(&self.socket, buffer)).await?;
        let Some(sender) = sender else { return Ok(None) };
        let datagram = buffer.get(..length).unwrap_or(&[]);
        let Ok(notice) = Notice::decode(datagram) else { return Ok(None) };
        let sender = if is_on_behalf(datagram) { Sender { pid: Some(notice.pid) } } else { sender };
        self.counters.dropped.fetch_add(notice.dropped.into(), Ordering::Relaxed);
        Ok(check(&notice, sender))
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes the socket of a killed collector. Anything else with that name stays, and the bind fails.
///
/// # Errors
/// What the system says, except that the file does not exist.
pub(crate) fn clear(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() && is_ours(&metadata) => fs::remove_file(path),
        Ok(_) => {
            Err(io::Error::new(io::ErrorKind::AlreadyExists, "the path exists and is not a socket of ours"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// What is known about a sender before its datagram is parsed.
#[derive(Clone, Copy, Debug)]
struct Sender {
    /// Its process, from the kernel; `None` if the system does not say.
    pid: Option<u32>,
}

/// One datagram, and its sender if that is us or root.
#[cfg(target_os = "linux")]
fn receive(socket: &UnixDatagram, buffer: &mut [u8]) -> io::Result<(usize, Option<Sender>)> {
    use nix::sys::socket::{ControlMessageOwned, UnixCredentials};
    let mut control = nix::cmsg_space!(UnixCredentials);
    let mut parts = [IoSliceMut::new(buffer)];
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::MSG_DONTWAIT)?;
    let own = nix::unistd::geteuid().as_raw();
    let sender = message.cmsgs()?.find_map(|part| match part {
        ControlMessageOwned::ScmCredentials(sender) if sender.uid() == own || sender.uid() == 0 => {
            Some(Sender { pid: u32::try_from(sender.pid()).ok() })
        }
        _ => None,
    });
    Ok((message.bytes, sender))
}

/// One datagram. The folder of the socket is closed to others, so the sender is us or root.
#[cfg(not(target_os = "linux"))]
fn receive(socket: &UnixDatagram, buffer: &mut [u8]) -> io::Result<(usize, Option<Sender>)> {
    let mut parts = [IoSliceMut::new(buffer)];
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, None, MsgFlags::MSG_DONTWAIT)?;
    Ok((message.bytes, Some(Sender { pid: None })))
}

/// A notice as an owned value, if its names are valid.
fn check(notice: &Notice<'_>, sender: Sender) -> Option<VerifiedNotice> {
    app_name(notice.app)?;
    instance_name(notice.instance)?;
    Some(VerifiedNotice {
        key: Key { app: notice.app.to_owned(), instance: notice.instance.to_owned() },
        pid: sender.pid.unwrap_or(notice.pid),
        call: notice.call,
        outcome: notice.outcome,
        why: notice.why,
        errno: notice.errno,
        fd: notice.fd,
        address: notice.address.map(Endpoint::from),
        peer: notice.peer.map(Endpoint::from),
        file: notice.file.to_owned(),
        program: notice.program.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn notice() -> Notice<'static> {
        Notice {
            call: Call::Listen,
            outcome: Outcome::Rewritten,
            why: Why::Rewritten,
            errno: 0,
            fd: 3,
            pid: 1,
            time_ns: 0,
            dropped: 2,
            address: None,
            peer: None,
            app: "shop",
            instance: "k3f9",
            file: "shop-k3f9.8080.sock",
            program: "python3",
        }
    }

    #[tokio::test]
    async fn notices_are_checked_and_garbage_is_counted() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("collector.notice");
        let (receiver, mut notice_rx, counters) = Receiver::bind(&path).unwrap();
        let (end_tx, end_rx) = watch::channel(false);
        let task = tokio::spawn(receiver.run(end_rx));
        let sender = UnixDatagram::unbound().unwrap();
        let mut buffer = [0; NOTICE_BYTES];
        for garbage in [&b""[..], b"x", b"\x01garbage", &[1; 600]] {
            sender.send_to(garbage, &path).await.unwrap();
        }
        let bad_name = Notice { app: "No Label", ..notice() };
        let length = bad_name.encode(&mut buffer).unwrap();
        sender.send_to(&buffer[..length], &path).await.unwrap();
        let length = notice().encode(&mut buffer).unwrap();
        sender.send_to(&buffer[..length], &path).await.unwrap();
        let verified =
            tokio::time::timeout(Duration::from_secs(10), notice_rx.recv()).await.unwrap().unwrap();
        assert_eq!(
            (verified.file.as_str(), verified.key.to_string().as_str()),
            ("shop-k3f9.8080.sock", "shop/k3f9")
        );
        if cfg!(target_os = "linux") {
            assert_eq!(verified.pid, std::process::id(), "the kernel's word counts, not the notice's");
        }
        assert_eq!(counters.refused.load(Ordering::Relaxed), 5);
        assert_eq!(counters.dropped.load(Ordering::Relaxed), 4);
        end_tx.send(true).unwrap();
        task.await.unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn only_a_socket_is_cleared_away() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("collector.notice");
        clear(&path).unwrap();
        drop(std::os::unix::net::UnixDatagram::bind(&path).unwrap());
        clear(&path).unwrap();
        fs::write(&path, "precious").unwrap();
        assert!(clear(&path).is_err() && path.exists());
    }
}
