//! Hands an accepted TCP connection into the program that it is meant for (see `agentfs_wire::handoff`), and
//! connects in a client's name where the bytes have to be passed on. Called by `forward` and by the router;
//! owns what was learned of listeners, reads nothing of a connection, and never decides where one goes.
mod accept_support;
mod front;
mod full;
mod limits;
mod tagged;

pub use front::{dial_front, is_front};
pub use full::Kernel;
pub use tagged::{connect, dial};

use crate::limits::{HANDOFF_CLAIM, HANDOFF_GREETING};
use accept_support::{AcceptSupport, Given, Known};
use agentfs_wire::address::Scope;
use agentfs_wire::handoff::{HELLO, MESSAGE};
use agentfs_wire::name::{Kind, SocketName};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// Which connections a listener may get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    /// Such as its socket would accept.
    Exact,
    /// Also one of IPv4 for an IPv6 socket that takes both families.
    Related,
}

/// What became of an offer.
#[derive(Debug)]
pub enum Offer {
    /// The program has the connection: ours is to be dropped.
    Taken,
    /// The connection is as it was, not a byte of it read. `sent`: the program may hold a descriptor of it that it
    /// will drop when it comes for it, so that only shutdown(2) ends the connection before.
    Left {
        /// See above.
        sent: bool,
    },
    /// Nobody listens there; the connection is as it was.
    Refused(io::Error),
}

/// Hands over connections, and remembers which listeners take them.
#[derive(Debug, Default)]
pub struct Handoff {
    accept_support: AcceptSupport,
}

/// What came of waiting for a program.
enum Sign {
    /// The library's greeting.
    Hello,
    /// The other side closed the connection.
    End,
    /// Something that the library does not say, or nothing at all.
    Other,
}

// === impl Handoff ===

impl Handoff {
    /// Offers `stream`, whose client is `client`, to the program that listens at `path`.
    pub async fn offer(
        &self,
        path: &Path,
        stream: &TcpStream,
        client: SocketAddr,
        families: Families,
    ) -> Offer {
        if !is_of_library(path).await {
            return Offer::Left { sent: false };
        }
        let mut listener = match self.accept_support.of(path).await {
            Ok(Some(listener)) => listener,
            Ok(None) => return Offer::Left { sent: false },
            Err(error) => return Offer::Refused(error),
        };
        let carrier = match dial(path, client, true).await {
            Ok(carrier) => carrier,
            Err(error) => return Offer::Refused(error),
        };
        if !may_have(&carrier, stream, families) {
            return Offer::Left { sent: false };
        }
        if listener.known() == Known::Nothing {
            // One program at a time is asked; whoever waits behind learns from the answer.
            match sign(&carrier, HANDOFF_GREETING).await {
                Sign::Hello => listener.greeted(),
                Sign::End | Sign::Other => {
                    listener.silent();
                    return Offer::Left { sent: false };
                }
            }
        }
        let listener = listener.release();
        let given = give(&carrier, stream).await.unwrap_or(Given::Missed);
        listener.note(given);
        if given == Given::Taken { Offer::Taken } else { Offer::Left { sent: true } }
    }
}

/// Sends the connection and waits until the program has taken it, or cannot any more.
async fn give(carrier: &UnixStream, stream: &TcpStream) -> io::Result<Given> {
    let (mut token, mut writer) = io::pipe()?;
    writer.write_all(&[0])?;
    drop(writer);
    {
        let descriptors = [stream.as_raw_fd(), token.as_raw_fd()];
        let parts = [IoSlice::new(MESSAGE)];
        // An empty connection has room for one byte.
        let rights = [ControlMessage::ScmRights(&descriptors)];
        sendmsg::<()>(carrier.as_raw_fd(), &parts, &rights, MsgFlags::empty(), None)?;
    }
    // The program closes the carrier when it has the connection. It may have greeted meanwhile.
    let last = loop {
        match sign(carrier, HANDOFF_CLAIM).await {
            Sign::Hello => {}
            sign => break sign,
        }
    };
    // If the program has not read the token, this does, and the connection stays ours. Nobody can write into the
    // pipe any more, so that reading it never waits.
    Ok(match (token.read(&mut [0])?, last) {
        (0, _) => Given::Taken,
        (_, Sign::End) => Given::Missed,
        (_, Sign::Hello | Sign::Other) => Given::Left,
    })
}

/// Waits for what the program's side says.
async fn sign(carrier: &UnixStream, time: std::time::Duration) -> Sign {
    let listen = async {
        loop {
            if carrier.readable().await.is_err() {
                return Sign::End;
            }
            let mut bytes = [0; 64];
            match carrier.try_read(&mut bytes) {
                Ok(0) => return Sign::End,
                Ok(count) if bytes.get(..count) == Some(HELLO) => return Sign::Hello,
                Ok(_) => return Sign::Other,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Sign::End,
            }
        }
    };
    timeout(time, listen).await.unwrap_or(Sign::Other)
}

/// Whether a listener of the library's is named at `path`. The others' programs would see an empty connection.
async fn is_of_library(path: &Path) -> bool {
    if is_front(path) {
        return false;
    }
    let listens = |path: &Path| {
        let file = path.file_name().and_then(|file| file.to_str()).unwrap_or_default();
        SocketName::parse(file).is_ok_and(|name| matches!(name.kind, Kind::Listener { .. }))
    };
    // An instance's main name is a link to one of them, or a socket that the program made by itself.
    listens(path) || tokio::fs::canonicalize(path).await.is_ok_and(|path| listens(&path))
}

/// Whether the listener at the other end of `carrier` is one of the library's, and its socket one that would
/// accept such a connection. The name that it was bound to says both.
fn may_have(carrier: &UnixStream, stream: &TcpStream, families: Families) -> bool {
    let (Ok(name), Ok(local)) = (carrier.peer_addr(), stream.local_addr()) else { return false };
    let Some(path) = name.as_pathname() else { return false };
    let file = path.file_name().and_then(|file| file.to_str()).unwrap_or_default();
    let Ok(Kind::Listener { scope, .. }) = SocketName::parse(file).map(|name| name.kind) else {
        return false;
    };
    // A doubled slash before the file is an IPv6 socket on an IPv4 address (see `wire::name`).
    let mapped =
        path.as_os_str().as_bytes().strip_suffix(file.as_bytes()).is_some_and(|run| run.ends_with(b"//"));
    fits(scope, mapped || scope.is_v6(), local, families)
}

fn fits(scope: Scope, v6_socket: bool, local: SocketAddr, families: Families) -> bool {
    match local.ip().to_canonical() {
        IpAddr::V4(_) => {
            let reachable = matches!(scope, Scope::AnyV4 | Scope::V4(_) | Scope::AnyDual);
            let same = local.is_ipv6() == v6_socket;
            reachable && (same || (v6_socket && families == Families::Related))
        }
        IpAddr::V6(_) => scope.is_v6(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::cmsg_space;
    use nix::sys::socket::{ControlMessageOwned, recvmsg, send};
    use nix::unistd::close;
    use std::io::IoSliceMut;
    use std::os::fd::RawFd;
    use std::os::unix::fs::OpenOptionsExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, UnixListener};

    /// A listener in a run dir of its own.
    fn listener(name: &str) -> (tempfile::TempDir, std::path::PathBuf, UnixListener) {
        let home = tempfile::tempdir_in("/tmp").unwrap();
        let run = home.path().join("run");
        std::fs::create_dir(&run).unwrap();
        let path = run.join(name);
        let listener = UnixListener::bind(&path).unwrap();
        (home, path, listener)
    }

    async fn connection() -> (TcpStream, TcpStream, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, address) = listener.accept().await.unwrap();
        (client, stream, address)
    }

    /// Takes the descriptors as the accept hook does, without taking the token.
    async fn receive(carrier: &UnixStream) -> (RawFd, RawFd) {
        let mut byte = [0];
        let receive = || {
            let mut space = cmsg_space!([RawFd; 2]);
            let mut parts = [IoSliceMut::new(&mut byte)];
            let message =
                recvmsg::<()>(carrier.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::empty())?;
            match message.cmsgs()?.next() {
                Some(ControlMessageOwned::ScmRights(rights)) => Ok(rights),
                other => panic!("no descriptors but {other:?}"),
            }
        };
        let rights = carrier.async_io(tokio::io::Interest::READABLE, receive).await.unwrap();
        assert_eq!(byte, MESSAGE);
        let [connection, token] = rights.try_into().unwrap();
        (connection, token)
    }

    /// Whether the token is still there, taking it.
    fn take(token: RawFd) -> bool {
        // As a file that needs no writer to be opened.
        let flags = nix::libc::O_NONBLOCK;
        let file =
            std::fs::OpenOptions::new().read(true).custom_flags(flags).open(format!("/dev/fd/{token}"));
        let read = file.unwrap().read(&mut [0]).unwrap();
        close(token).unwrap();
        read == 1
    }

    #[tokio::test]
    async fn a_program_that_greets_gets_the_connection() {
        let (_home, path, listener) = listener("shop-main.80.sock");
        let handoff = Handoff::default();
        for greeting in [true, false] {
            let (mut client, stream, address) = connection().await;
            let program = async {
                let (mut carrier, _) = listener.accept().await.unwrap();
                if greeting {
                    carrier.write_all(HELLO).await.unwrap();
                }
                let (connection, token) = receive(&carrier).await;
                assert!(take(token));
                connection
            };
            let offer = handoff.offer(&path, &stream, address, Families::Exact);
            let (handed, served) = tokio::join!(offer, program);
            assert!(matches!(handed, Offer::Taken));
            drop(stream);
            send(served, b"hello", MsgFlags::empty()).unwrap();
            close(served).unwrap();
            let mut text = String::new();
            client.read_to_string(&mut text).await.unwrap();
            assert_eq!(text, "hello");
        }
    }

    #[tokio::test]
    async fn a_program_without_the_library_sees_no_byte_of_ours() {
        let (_home, path, listener) = listener("shop-main.80.sock");
        let handoff = Handoff::default();
        let (_client, stream, address) = connection().await;
        let program = async {
            let (mut carrier, _) = listener.accept().await.unwrap();
            // A protocol in which the server speaks first.
            carrier.write_all(b"220 ready\r\n").await.unwrap();
            let mut text = Vec::new();
            carrier.read_to_end(&mut text).await.map(|_| text)
        };
        let offer = handoff.offer(&path, &stream, address, Families::Exact);
        let (handed, seen) = tokio::join!(offer, program);
        assert!(matches!(handed, Offer::Left { sent: false }));
        // Its own bytes were left unread, which the kernel reports as a reset.
        assert!(seen.map_or(true, |bytes| bytes.is_empty()));
        // It is left in peace for a while.
        let again = handoff.offer(&path, &stream, address, Families::Exact).await;
        assert!(matches!(again, Offer::Left { sent: false }));
        assert!(
            timeout(std::time::Duration::ZERO, listener.accept()).await.is_err(),
            "it was asked again at once"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_program_that_is_late_finds_the_token_gone() {
        let (_home, path, listener) = listener("shop-main.80.sock");
        let handoff = Handoff::default();
        let (_client, stream, address) = connection().await;
        let late = async {
            let (mut carrier, _) = listener.accept().await.unwrap();
            carrier.write_all(HELLO).await.unwrap();
            let descriptors = receive(&carrier).await;
            (carrier, descriptors)
        };
        let offer = handoff.offer(&path, &stream, address, Families::Exact);
        let (handed, (_carrier, (connection, token))) = tokio::join!(offer, late);
        assert!(matches!(handed, Offer::Left { sent: true }));
        assert!(!take(token), "two owners");
        close(connection).unwrap();
    }

    #[tokio::test]
    async fn only_listeners_of_the_library_are_asked() {
        let (_home, path, listener) = listener("shop-main.sock");
        let (_client, stream, address) = connection().await;
        let offer = Handoff::default().offer(&path, &stream, address, Families::Exact).await;
        assert!(matches!(offer, Offer::Left { sent: false }));
        assert!(
            timeout(std::time::Duration::ZERO, listener.accept()).await.is_err(),
            "it saw a connection that is nobody's"
        );
        let gone = path.with_file_name("shop-main.81.sock");
        let offer = Handoff::default().offer(&gone, &stream, address, Families::Exact).await;
        assert!(matches!(offer, Offer::Refused(_)));
    }

    #[test]
    fn families_match() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let v4 = at("127.64.1.2:80");
        let mapped = at("[::ffff:127.64.1.2]:80");
        let v6 = at("[::1]:80");
        assert!(fits(Scope::AnyV4, false, v4, Families::Exact));
        assert!(!fits(Scope::AnyV4, false, mapped, Families::Exact));
        assert!(!fits(Scope::AnyV4, false, v6, Families::Related));
        assert!(fits(Scope::AnyDual, true, mapped, Families::Exact));
        assert!(!fits(Scope::AnyDual, true, v4, Families::Exact));
        assert!(fits(Scope::AnyDual, true, v4, Families::Related));
        assert!(fits(Scope::AnyDual, true, v6, Families::Exact));
        assert!(!fits(Scope::LoopbackV6, true, mapped, Families::Related));
        assert!(fits(Scope::V4(std::net::Ipv4Addr::LOCALHOST), true, mapped, Families::Exact));
    }
}
