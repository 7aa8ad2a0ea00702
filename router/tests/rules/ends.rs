//! How an exchange ends: a client that resets, an upload that outlives its answer or stands still. Each over HTTP/1,
//! HTTP/2 and TLS.
use super::harness::{App, Bench, Conn, soon};
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, SendStream};
use hyper::{Request, Response};
use nix::sys::socket::{setsockopt, sockopt};
use std::future::Future;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio::time::{Duration, Instant, sleep};

const GET: &str = "GET / HTTP/1.1\r\nHost: app.localhost\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: app.localhost\r\nContent-Length: 20\r\n\r\n0123456789";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const STREAM: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n";

/// Less than the router lets pass between two looks at a client.
const AT_ONCE: Duration = Duration::from_secs(2);

/// As long as an upload may stand still, and the time between two looks.
const UPLOAD_IDLE: Duration = Duration::from_secs(610);

/// Closes so that the other side is told that nobody is there.
fn reset(stream: TcpStream) {
    let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
    setsockopt(&stream, sockopt::Linger, &linger).unwrap();
}

async fn at_once<T>(what: &str, future: impl Future<Output = T>) -> T {
    let start = Instant::now();
    let result = soon(what, future).await;
    assert!(start.elapsed() < AT_ONCE, "{what}: only after {:?}", start.elapsed());
    result
}

/// A client of HTTP/2 and a request under way.
struct Stream {
    _client: SendRequest<Bytes>,
    connection: JoinHandle<()>,
    answer: ResponseFuture,
    body: SendStream<Bytes>,
}

impl Stream {
    /// A request without a body where `length` is 0.
    async fn begin(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, length: usize) -> Self {
        Self::with(stream, length, "text/plain").await
    }

    async fn with(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        length: usize,
        media: &str,
    ) -> Self {
        let (mut client, connection) = soon("handshake", h2::client::handshake(stream)).await.unwrap();
        let connection = tokio::spawn(async move { drop(connection.await) });
        let request = Request::post("http://app.localhost/").header("content-type", media);
        let request = request.header("content-length", length).body(()).unwrap();
        let (answer, body) = client.send_request(request, length == 0).unwrap();
        Self { _client: client, connection, answer, body }
    }

    fn send(&mut self, bytes: &'static str, last: bool) {
        self.body.send_data(Bytes::from_static(bytes.as_bytes()), last).unwrap();
    }

    async fn head(&mut self) -> Response<h2::RecvStream> {
        soon("answer", &mut self.answer).await.unwrap()
    }
}

/// What an application and its client have done before the client resets.
#[derive(Clone, Copy, Debug)]
enum Phase {
    Upload,
    Waiting,
    Download,
}

const PHASES: [Phase; 3] = [Phase::Upload, Phase::Waiting, Phase::Download];

impl Phase {
    fn request(self) -> &'static str {
        if matches!(self, Self::Upload) { POST } else { GET }
    }

    async fn serve(self, app: &App) -> Conn<UnixStream> {
        let mut conn = app.accept().await;
        conn.head().await;
        match self {
            Self::Upload => drop(conn.exactly(10).await),
            Self::Waiting => {}
            Self::Download => conn.send(STREAM).await,
        }
        conn
    }
}

#[tokio::test]
async fn a_reset_of_http1_reaches_the_application_at_once() {
    let (bench, app) = Bench::with_app().await;
    for phase in PHASES {
        let mut client = bench.client().await;
        client.send(phase.request()).await;
        let mut conn = phase.serve(&app).await;
        if matches!(phase, Phase::Download) {
            client.until("data: 1\n\n").await;
        }
        reset(client.stream);
        at_once(&format!("{phase:?}"), conn.rest()).await;
    }
    // Also where it has asked for more already.
    let mut client = bench.client().await;
    client.send([GET, GET].concat()).await;
    let mut conn = Phase::Waiting.serve(&app).await;
    reset(client.stream);
    at_once("a second request", conn.rest()).await;
    // A client that only ended what it sends gets its answer.
    let mut client = bench.client().await;
    client.send(GET).await;
    client.finish_sending().await;
    let mut conn = Phase::Waiting.serve(&app).await;
    sleep(Duration::from_millis(100)).await;
    conn.send(OK).await;
    assert_eq!(client.message().await.text(), "ok");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_client_that_closes_while_it_waits_is_noticed_at_once() {
    let (bench, app) = Bench::with_app().await;
    let mut client = bench.client().await;
    client.send(GET).await;
    let mut conn = Phase::Waiting.serve(&app).await;
    drop(client);
    at_once("the end", conn.rest()).await;
}

#[tokio::test]
async fn a_reset_within_tls_reaches_the_application_at_once() {
    let (bench, app) = Bench::with_tls().await;
    for phase in PHASES {
        let mut client = Conn::new(bench.secure_client("http/1.1").await);
        client.send(phase.request()).await;
        let mut conn = phase.serve(&app).await;
        if matches!(phase, Phase::Download) {
            client.until("data: 1\n\n").await;
        }
        reset(client.stream.into_inner().0);
        at_once(&format!("{phase:?}"), conn.rest()).await;
    }
}

#[tokio::test]
async fn a_reset_of_http2_reaches_the_application_at_once() {
    let (bench, app) = Bench::with_app().await;
    for phase in PHASES {
        let length = if matches!(phase, Phase::Upload) { 20 } else { 0 };
        let mut stream = Stream::begin(bench.client().await.stream, length).await;
        if length > 0 {
            stream.send("0123456789", false);
        }
        let mut conn = phase.serve(&app).await;
        if matches!(phase, Phase::Download) {
            let mut body = stream.head().await.into_body();
            assert_eq!(soon("data", body.data()).await.unwrap().unwrap(), "data: 1\n\n");
        }
        stream.body.send_reset(Reason::CANCEL);
        at_once(&format!("{phase:?}"), conn.rest()).await;
    }
}

#[tokio::test]
async fn the_end_of_a_connection_of_http2_reaches_the_applications_at_once() {
    let (bench, app) = Bench::with_tls().await;
    for phase in PHASES {
        let length = if matches!(phase, Phase::Upload) { 20 } else { 0 };
        for secure in [false, true] {
            let what = format!("{phase:?}, within TLS: {secure}");
            let mut stream = if secure {
                Stream::begin(bench.secure_client("h2").await, length).await
            } else {
                Stream::begin(bench.client().await.stream, length).await
            };
            if length > 0 {
                stream.send("0123456789", false);
            }
            let mut conn = phase.serve(&app).await;
            stream.connection.abort();
            at_once(&what, conn.rest()).await;
        }
    }
}

/// Sends until nothing more is taken: the application reads nothing, and neither does the router.
#[cfg(target_os = "linux")]
async fn fill(stream: &TcpStream) {
    let mut refused = 0;
    while refused < 50 {
        match stream.try_write(&[b'x'; 10_000]) {
            Ok(_) => refused = 0,
            Err(_) => refused += 1,
        }
        tokio::task::yield_now().await;
    }
}

/// Waits for the end of what an application could read, and reads none of it.
#[cfg(target_os = "linux")]
async fn ended(conn: &Conn<UnixStream>) {
    while !conn.stream.ready(tokio::io::Interest::READABLE).await.unwrap().is_read_closed() {
        sleep(Duration::from_millis(10)).await;
    }
}

/// A client's reset is seen behind what it sent before, though nobody reads that.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_reset_is_noticed_at_once_while_the_application_reads_nothing() {
    let (bench, app) = Bench::with_app().await;
    let mut client = bench.client().await;
    client.send(POST.replace("20", "100000000")).await;
    let conn = app.accept().await;
    fill(&client.stream).await;
    reset(client.stream);
    at_once("unread upload", ended(&conn)).await;
    // Within TLS the router reads a record ahead, and then no more.
    let (bench, app) = Bench::with_tls().await;
    let mut client = Conn::new(bench.secure_client("http/1.1").await);
    client.send(POST.replace("20", "100000000")).await;
    let conn = app.accept().await;
    let filled = async {
        loop {
            client.send("x".repeat(10_000)).await;
        }
    };
    let _ = tokio::time::timeout(Duration::from_millis(300), filled).await;
    reset(client.stream.into_inner().0);
    at_once("unread upload within TLS", ended(&conn)).await;
}

/// A client that ended what it sends, and waits for its answer, resets the connection.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_reset_after_the_end_of_what_the_client_sends_is_noticed_at_once() {
    let (bench, app) = Bench::with_app().await;
    let mut client = bench.client().await;
    client.send(GET).await;
    client.finish_sending().await;
    let mut conn = Phase::Waiting.serve(&app).await;
    sleep(Duration::from_millis(50)).await;
    reset(client.stream);
    at_once("a half-closed client's reset", conn.rest()).await;
}

/// "An app that answers before it read the whole upload keeps getting it."
async fn answers_early(app: &App) -> Conn<UnixStream> {
    let mut conn = app.accept().await;
    conn.head().await;
    conn.exactly(10).await;
    conn.send(OK).await;
    conn
}

#[tokio::test]
async fn an_application_that_answered_early_gets_the_rest_over_http1() {
    let (bench, app) = Bench::with_app().await;
    let mut client = bench.client().await;
    client.send(POST).await;
    let mut conn = answers_early(&app).await;
    assert_eq!(client.message().await.text(), "ok");
    client.send("abcdefghij").await;
    assert_eq!(conn.exactly(10).await, b"abcdefghij");
    assert!(client.rest().await.is_empty());
    // The application's connection has seen a whole request and a whole answer.
    let mut client = bench.client().await;
    client.send(GET).await;
    conn.head().await;
    conn.send(OK).await;
    assert_eq!(client.message().await.text(), "ok");
    assert_eq!(bench.metrics.connects.get(), 1);
    // Chunks pass as well.
    client
        .send("POST / HTTP/1.1\r\nHost: app.localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        .await;
    conn.until("1\r\na\r\n").await;
    conn.send(OK).await;
    assert_eq!(client.message().await.text(), "ok");
    client.send("1\r\nb\r\n0\r\n\r\n").await;
    conn.until("1\r\nb\r\n0\r\n\r\n").await;
    assert!(client.rest().await.is_empty());
}

#[tokio::test]
async fn an_application_that_answered_early_gets_the_rest_within_tls() {
    let (bench, app) = Bench::with_tls().await;
    let mut client = Conn::new(bench.secure_client("http/1.1").await);
    client.send(POST).await;
    let mut conn = answers_early(&app).await;
    assert_eq!(client.message().await.text(), "ok");
    client.send("abcdefghij").await;
    assert_eq!(conn.exactly(10).await, b"abcdefghij");
    let mut stream = Stream::begin(bench.secure_client("h2").await, 20).await;
    stream.send("0123456789", false);
    conn.head().await;
    conn.exactly(10).await;
    conn.send(OK).await;
    assert_eq!(stream.head().await.status(), 200);
    stream.send("abcdefghij", true);
    assert_eq!(conn.exactly(10).await, b"abcdefghij");
}

#[tokio::test]
async fn an_application_that_answered_early_gets_the_rest_over_http2() {
    let (bench, app) = Bench::with_app().await;
    let mut stream = Stream::begin(bench.client().await.stream, 20).await;
    stream.send("0123456789", false);
    let mut conn = answers_early(&app).await;
    let mut body = stream.head().await.into_body();
    assert_eq!(soon("data", body.data()).await.unwrap().unwrap(), "ok");
    assert!(soon("end", body.data()).await.is_none());
    stream.send("abcdefghij", true);
    assert_eq!(conn.exactly(10).await, b"abcdefghij");
}

/// "…while LINGER_TIME lasts."
#[tokio::test(start_paused = true)]
async fn the_rest_is_not_waited_for_for_long() {
    let (bench, app) = Bench::with_app().await;
    for http2 in [false, true] {
        let start = Instant::now();
        let (mut http1, mut stream) = (bench.client().await, None);
        if http2 {
            let begun = stream.insert(Stream::begin(bench.client().await.stream, 20).await);
            begun.send("0123456789", false);
        } else {
            http1.send(POST).await;
        }
        let mut conn = answers_early(&app).await;
        assert!(conn.rest().await.is_empty());
        let seconds = start.elapsed().as_secs();
        assert!((1..=4).contains(&seconds), "{seconds} s, over HTTP/2: {http2}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_over_http2_that_never_goes_on_ends() {
    let (bench, app) = Bench::with_app().await;
    let mut stream = Stream::begin(bench.client().await.stream, 20).await;
    stream.send("0123456789", false);
    let mut conn = app.accept().await;
    conn.head().await;
    conn.exactly(10).await;
    // One that goes on is waited for.
    sleep(Duration::from_secs(400)).await;
    stream.send("a", false);
    conn.exactly(1).await;
    sleep(Duration::from_secs(400)).await;
    stream.send("b", false);
    conn.exactly(1).await;
    sleep(UPLOAD_IDLE).await;
    assert_eq!(stream.head().await.status(), 408);
    assert!(conn.rest().await.is_empty());
}

/// The same where the application speaks HTTP/2.
#[tokio::test(start_paused = true)]
async fn an_upload_of_grpc_that_never_goes_on_ends() {
    let (bench, app) = Bench::with_app().await;
    let mut stream = Stream::with(bench.client().await.stream, 20, "application/grpc").await;
    stream.send("0123456789", false);
    let conn = app.accept().await;
    let mut server = soon("handshake", h2::server::handshake(conn.stream)).await.unwrap();
    let (request, respond) = soon("request", server.accept()).await.unwrap().unwrap();
    let serving = tokio::spawn(async move { while server.accept().await.is_some() {} });
    let mut body = request.into_body();
    assert_eq!(soon("data", body.data()).await.unwrap().unwrap(), "0123456789");
    sleep(UPLOAD_IDLE).await;
    assert_eq!(stream.head().await.status(), 408);
    assert!(soon("reset", body.data()).await.unwrap().is_err());
    drop(respond);
    serving.abort();
}
