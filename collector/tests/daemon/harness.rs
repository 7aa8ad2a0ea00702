//! A collector with a home of its own, and a client of its control socket.
use agentfs_collector::{Config, Error, Report};
use agentfs_wire::companion::Companion;
use agentfs_wire::control::{InstanceInfo, Reply, Snapshot};
use agentfs_wire::level::Level;
use agentfs_wire::limits::NOTICE_BYTES;
use agentfs_wire::notice::{Call, Notice, Outcome, Why};
use agentfs_wire::paths::Paths;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

/// Time after which a test has failed. Everything is expected within milliseconds, but machines of
/// test runs are busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A running collector. Dropping it is its kill -9, as far as one process can do that.
pub(crate) struct Collector {
    pub(crate) home: TempDir,
    pub(crate) paths: Paths,
    task: JoinHandle<Result<Report, Error>>,
    end_tx: Option<oneshot::Sender<()>>,
}

/// A control connection.
pub(crate) struct Client {
    lines: Lines<BufReader<OwnedReadHalf>>,
    output: OwnedWriteHalf,
}

pub(crate) fn home() -> TempDir {
    tempfile::Builder::new().prefix("afs").tempdir_in("/tmp").unwrap()
}

pub(crate) fn config(home: &Path) -> Config {
    let uid = nix::unistd::geteuid().as_raw();
    let mut config = Config::new(Paths::new(&home.canonicalize().unwrap(), uid), "1.2.3");
    config.router_address = Some("127.0.0.1:0".parse().unwrap());
    config.log = Level::Error;
    config
}

/// Asks until `found` finds something.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut found: impl FnMut() -> F,
) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = found().await {
            return found;
        }
        assert!(Instant::now() < end, "{what} did not happen in {PATIENCE:?}");
        sleep(Duration::from_millis(2)).await;
    }
}

impl Collector {
    pub(crate) async fn start() -> Self {
        Self::start_in(home()).await
    }

    pub(crate) async fn start_in(home: TempDir) -> Self {
        let config = config(home.path());
        Self::start_with(home, config).await
    }

    pub(crate) async fn start_with(home: TempDir, config: Config) -> Self {
        let paths = config.paths.clone();
        let (end_tx, end_rx) = oneshot::channel::<()>();
        let task = tokio::spawn(agentfs_collector::run(config, async move {
            let _ = end_rx.await;
        }));
        let collector = Self { home, paths, task, end_tx: Some(end_tx) };
        eventually("the control socket", || async {
            let mut client = Client::connect(&collector.paths.control).await?;
            client.ask("ping", Value::Null).await.ok()
        })
        .await;
        collector
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(&self.paths.control).await.expect("the collector listens")
    }

    pub(crate) fn run(&self, file: &str) -> PathBuf {
        self.paths.run.join(file)
    }

    pub(crate) async fn list(&self) -> Snapshot {
        self.client().await.result("list", Value::Null).await
    }

    pub(crate) async fn instance(&self, name: &str) -> Option<InstanceInfo> {
        let of_name = |instance: &InstanceInfo| format!("{}/{}", instance.app, instance.instance) == name;
        self.list().await.instances.into_iter().find(of_name)
    }

    /// Waits until an instance has `listeners` listeners.
    pub(crate) async fn listening(&self, name: &str, listeners: usize) -> InstanceInfo {
        eventually(&format!("{listeners} listeners of {name}"), || async {
            self.instance(name).await.filter(|instance| instance.listeners.len() == listeners)
        })
        .await
    }

    pub(crate) async fn gone(&self, name: &str) {
        eventually(&format!("the end of {name}"), || async {
            self.instance(name).await.is_none().then_some(())
        })
        .await;
    }

    /// The status line and body that the router gives for a host.
    pub(crate) async fn get(&self, host: &str) -> String {
        let info: Value = self.client().await.result("daemon.info", Value::Null).await;
        let port = u16::try_from(info["http_port"].as_u64().unwrap()).unwrap();
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let request = format!("GET / HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        answer
    }

    /// Sends a notice as the interposer would.
    pub(crate) fn notify(&self, call: Call, file: &str) {
        let name = agentfs_wire::name::SocketName::parse(file).unwrap();
        self.notify_as(name.app.as_str(), name.instance.as_str(), call, file);
    }

    /// The same in the name of any instance.
    pub(crate) fn notify_as(&self, app: &str, instance: &str, call: Call, file: &str) {
        let notice = Notice {
            call,
            outcome: Outcome::Rewritten,
            why: Why::Rewritten,
            errno: 0,
            fd: 3,
            pid: 1,
            time_ns: 0,
            dropped: 0,
            address: None,
            peer: None,
            app,
            instance,
            file,
            program: "test",
        };
        let mut buffer = [0; NOTICE_BYTES];
        let length = notice.encode(&mut buffer).unwrap();
        let socket = std::os::unix::net::UnixDatagram::unbound().unwrap();
        socket.send_to(&buffer[..length], &self.paths.notice).unwrap();
    }

    /// Writes the companion of an instance as `wrap` does.
    pub(crate) fn claim(
        &self,
        app: &str,
        instance: &str,
        wrap_pid: u32,
        child_pid: u32,
        edit: impl FnOnce(&mut Companion),
    ) {
        let file = self.run(&format!("{app}-{}.json", instance.replace('-', "_")));
        Self::claim_in(&file, app, instance, wrap_pid, child_pid, edit);
    }

    /// As [`Self::claim`], in another file.
    pub(crate) fn claim_in(
        file: &std::path::Path,
        app: &str,
        instance: &str,
        wrap_pid: u32,
        child_pid: u32,
        edit: impl FnOnce(&mut Companion),
    ) {
        let mut companion = Companion {
            app: app.into(),
            instance: instance.into(),
            directory: "/src/shop".into(),
            checkout: Some("/src/shop".into()),
            fork: false,
            branch: None,
            command: vec!["serve".into(), "--port".into(), "80".into()],
            wrap_pid,
            child_pid,
            started_ms: now_ms(),
            version: "1.2.3".into(),
            ..Companion::default()
        };
        edit(&mut companion);
        std::fs::write(file, serde_json::to_string(&companion).unwrap()).unwrap();
    }

    /// Ends the collector as SIGTERM does.
    pub(crate) async fn end(mut self) -> (Report, TempDir) {
        self.end_tx.take().unwrap().send(()).unwrap();
        (self.ended().await.unwrap(), std::mem::replace(&mut self.home, home()))
    }

    /// Waits for the end that something else causes.
    pub(crate) async fn ended(&mut self) -> Result<Report, Error> {
        timeout(PATIENCE, &mut self.task).await.expect("the collector ends").unwrap()
    }

    /// Stops it without letting it clean up; what it would have left is put back.
    pub(crate) async fn kill(mut self) -> TempDir {
        self.task.abort();
        let _ = (&mut self.task).await;
        for stale in [&self.paths.control, &self.paths.notice] {
            let _ = std::fs::remove_file(stale);
            drop(std::os::unix::net::UnixListener::bind(stale).unwrap());
        }
        std::mem::replace(&mut self.home, home())
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
        // A thread of it may be at work in there and make a file while the folder is removed.
        let gone = || std::fs::remove_dir_all(self.home.path()).is_ok() || !self.home.path().exists();
        for _ in 0..100 {
            if gone() {
                break;
            }
            std::thread::yield_now();
        }
    }
}

impl Client {
    pub(crate) async fn connect(path: &Path) -> Option<Self> {
        let (input, output) = UnixStream::connect(path).await.ok()?.into_split();
        Some(Self { lines: BufReader::new(input).lines(), output })
    }

    pub(crate) async fn send(&mut self, text: &[u8]) {
        self.output.write_all(text).await.unwrap();
    }

    /// The next line in good time, or `None` where the collector closed.
    pub(crate) async fn line(&mut self) -> Option<Value> {
        timeout(PATIENCE, self.next()).await.expect("a line")
    }

    /// The next line, or `None` where the collector closed.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        let line = self.lines.next_line().await.ok()??;
        Some(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}")))
    }

    pub(crate) async fn reply(&mut self) -> Reply {
        serde_json::from_value(self.line().await.expect("a reply")).unwrap()
    }

    /// Result or error code.
    pub(crate) async fn ask(&mut self, method: &str, params: Value) -> Result<Value, String> {
        let request = json!({"id": 1, "method": method, "params": params}).to_string() + "\n";
        self.output.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
        let reply = self.line().await.ok_or("closed")?;
        match reply.get("error") {
            Some(error) => Err(error["code"].as_str().unwrap().to_owned()),
            None => Ok(reply["result"].clone()),
        }
    }

    pub(crate) async fn result<T: DeserializeOwned>(&mut self, method: &str, params: Value) -> T {
        serde_json::from_value(self.ask(method, params).await.expect(method)).unwrap()
    }
}

pub(crate) fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

/// Answers every connection to `path` with `body` until the result is dropped.
pub(crate) struct App {
    task: JoinHandle<()>,
}

impl App {
    pub(crate) fn bind(path: &Path, body: &'static str) -> Self {
        let listener = tokio::net::UnixListener::bind(path).unwrap();
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut head = [0; 4096];
                    let _ = stream.read(&mut head).await;
                    let length = body.len();
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
                    );
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        Self { task }
    }

    /// Ends as by SIGKILL: the file stays.
    pub(crate) async fn kill(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.task.abort();
    }
}
