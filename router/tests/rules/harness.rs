//! A router on a free port, applications on Unix sockets in a folder of their own, and clients.
use agentfs_handoff::Handoff;
use agentfs_router::{
    Entry, LastSeen, Listeners, RouterEvent, RouterMetrics, Table, TableHandle, Target, Upstream, run,
};
use agentfs_wire::control::Policy;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// How long anything may take. Longer than every limit of the router, since some tests let the
/// clock run by itself.
const PATIENCE: Duration = Duration::from_secs(200);

pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

/// A router, its folder of sockets and its table.
pub(crate) struct Bench {
    pub(crate) address: SocketAddr,
    pub(crate) metrics: Arc<RouterMetrics>,
    pub(crate) event_rx: mpsc::Receiver<RouterEvent>,
    pub(crate) folder: tempfile::TempDir,
    /// Whom clients within TLS trust.
    authority: Option<CertificateDer<'static>>,
    table: TableHandle,
    stop_tx: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// A listener of an application.
pub(crate) struct App {
    listener: UnixListener,
}

/// One end of a connection.
pub(crate) struct Conn<S> {
    pub(crate) stream: S,
    pub(crate) buffer: Vec<u8>,
}

/// A message as it was read.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Message {
    pub(crate) fn status(&self) -> u16 {
        self.head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("{self:?}"))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

pub(crate) fn entry(host: &str, upstreams: Vec<Arc<Upstream>>) -> Entry {
    let dead = upstreams.is_empty().then(|| LastSeen {
        socket: "/run/gone.sock".to_owned(),
        command: "npm <start>".to_owned(),
        directory: "/home/me/gone".to_owned(),
        when_ms: 1_700_000_000_000,
    });
    Entry { upstreams, dead, title: "a <title>".to_owned(), ..Entry::new(host.to_owned()) }
}

impl Bench {
    /// A router with `app.localhost` that leads to applications of these names, and they.
    pub(crate) async fn with_replicas(policy: Policy, names: [&str; 2]) -> (Self, [App; 2]) {
        let bench = Self::new().await;
        let apps = names.map(|name| bench.app(name));
        let upstreams = names.map(|name| bench.upstream(name)).to_vec();
        bench.set(vec![Entry { policy, ..entry("app.localhost", upstreams) }]);
        (bench, apps)
    }

    /// A router that knows `app.localhost`, and its application.
    pub(crate) async fn with_app() -> (Self, App) {
        let bench = Self::new().await;
        let app = bench.app("app");
        bench.set(vec![entry("app.localhost", vec![bench.upstream("app")])]);
        (bench, app)
    }

    /// As [`Self::with_app`]; the port understands TLS too.
    pub(crate) async fn with_tls() -> (Self, App) {
        let key = rcgen::generate_simple_self_signed(["app.localhost".to_owned()]).unwrap();
        let chain = vec![key.cert.der().clone()];
        let secret = PrivateKeyDer::Pkcs8(key.signing_key.serialize_der().into());
        let config = rustls::ServerConfig::builder().with_no_client_auth();
        let mut config = config.with_single_cert(chain, secret).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let mut bench =
            Self::listening(Listeners { tls: Some(Arc::new(config)), ..Listeners::default() }).await;
        bench.authority = Some(key.cert.der().clone());
        let app = bench.app("app");
        bench.set(vec![entry("app.localhost", vec![bench.upstream("app")])]);
        (bench, app)
    }

    pub(crate) async fn new() -> Self {
        Self::listening(Listeners::default()).await
    }

    /// A router that hands connections over by way of `handoff`.
    pub(crate) async fn with_handoff(handoff: Arc<Handoff>) -> Self {
        Self::listening(Listeners { handoff, ..Listeners::default() }).await
    }

    /// A router with these listeners and one for plain HTTP.
    pub(crate) async fn listening(listeners: Listeners) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let table = TableHandle::new(Table::new(Vec::new(), address.port()));
        let (event_tx, event_rx) = mpsc::channel(16);
        let (stop_tx, stop_rx) = watch::channel(false);
        let metrics = Arc::new(RouterMetrics::default());
        let listeners = Listeners { http: vec![listener], ..listeners };
        let router = run(listeners, table.clone(), event_tx, Arc::clone(&metrics), stop_rx);
        let task = tokio::spawn(async move { router.await.unwrap() });
        let folder = tempfile::tempdir().unwrap();
        Self { address, metrics, event_rx, folder, authority: None, table, stop_tx, task }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.sock"))
    }

    pub(crate) fn app(&self, name: &str) -> App {
        App { listener: UnixListener::bind(self.path(name)).unwrap() }
    }

    pub(crate) fn upstream(&self, name: &str) -> Arc<Upstream> {
        Arc::new(Upstream::new(Target::Unix(self.path(name)), "app".to_owned(), name.to_owned(), 8080))
    }

    pub(crate) fn set(&self, entries: Vec<Entry>) {
        self.table.store(Table::new(entries, self.address.port()));
    }

    pub(crate) async fn client(&self) -> Conn<TcpStream> {
        let stream = soon("connect", TcpStream::connect(self.address)).await.unwrap();
        // A paused clock does not wait for an acknowledgement.
        stream.set_nodelay(true).unwrap();
        Conn::new(stream)
    }

    /// A client within TLS that agrees to `protocol`.
    pub(crate) async fn secure_client(&self, protocol: &str) -> TlsStream<TcpStream> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.authority.clone().unwrap()).unwrap();
        let mut config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let stream = self.client().await.stream;
        let name = "app.localhost".try_into().unwrap();
        soon("TLS", TlsConnector::from(Arc::new(config)).connect(name, stream)).await.unwrap()
    }

    /// As [`Self::secure_client`], to ask and read as any other client.
    pub(crate) async fn tls_client(&self, protocol: &str) -> Conn<TlsStream<TcpStream>> {
        Conn::new(self.secure_client(protocol).await)
    }

    /// What one client that sends `request` gets until the connection ends.
    pub(crate) async fn ask(&self, request: impl AsRef<[u8]>) -> String {
        let mut client = self.client().await;
        client.send(request).await;
        String::from_utf8_lossy(&client.rest().await).into_owned()
    }

    /// The status alone.
    pub(crate) async fn status(&self, request: impl AsRef<[u8]>) -> u16 {
        let answer = self.ask(request).await;
        answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("{answer:?}"))
    }

    pub(crate) async fn stop(self) {
        self.stop_tx.send(true).unwrap();
        soon("stop", self.task).await.unwrap();
    }
}

impl App {
    pub(crate) async fn accept(&self) -> Conn<UnixStream> {
        Conn::new(soon("accept", self.listener.accept()).await.unwrap().0)
    }

    /// Whether nobody has connected.
    pub(crate) async fn is_alone(&self) -> bool {
        // All that the router does is done when the client has its answer.
        tokio::time::timeout(Duration::from_millis(20), self.listener.accept()).await.is_err()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Conn<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.expect("write");
    }

    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        soon("write", self.stream.write_all(bytes.as_ref())).await
    }

    pub(crate) async fn finish_sending(&mut self) {
        self.stream.shutdown().await.expect("shutdown");
    }

    /// Reads until `mark`, included.
    pub(crate) async fn until(&mut self, mark: impl AsRef<[u8]>) -> Vec<u8> {
        let mark = mark.as_ref();
        loop {
            if let Some(at) = self.buffer.windows(mark.len()).position(|window| window == mark) {
                return self.buffer.drain(..at + mark.len()).collect();
            }
            let count = soon("read", self.stream.read_buf(&mut self.buffer)).await.expect("read");
            assert!(count > 0, "ended: {:?}", String::from_utf8_lossy(&self.buffer));
        }
    }

    pub(crate) async fn head(&mut self) -> String {
        String::from_utf8(self.until("\r\n\r\n").await).unwrap()
    }

    pub(crate) async fn exactly(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count {
            let read = soon("read", self.stream.read_buf(&mut self.buffer)).await.expect("read");
            assert!(read > 0, "ended: {:?}", String::from_utf8_lossy(&self.buffer));
        }
        self.buffer.drain(..count).collect()
    }

    /// A message whose body is chunked (then its framing is in `body`) or has a length.
    pub(crate) async fn message(&mut self) -> Message {
        let mut message = Message { head: self.head().await, body: Vec::new() };
        if let Some(length) = message.header("content-length").map(str::to_owned) {
            message.body = self.exactly(length.parse().unwrap()).await;
        } else if message.header("transfer-encoding").is_some() {
            message.body = self.until("0\r\n\r\n").await;
        }
        message
    }

    /// All until the end; a reset counts as one.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while soon("read", self.stream.read_buf(&mut self.buffer)).await.unwrap_or(0) > 0 {}
        std::mem::take(&mut self.buffer)
    }
}
