//! What single headers, methods, targets and versions mean (RFC 9110, 9112, 9113), over HTTP/1, TLS and HTTP/2.
use super::harness::{App, Bench, Conn, Message, soon};
use super::http2::{connect, full, get, send, text};
use hyper::client::conn::http2::SendRequest;
use hyper::{Method, Request, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// A frame of HTTP/2.
pub(crate) fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

/// Header fields as literals that nobody remembers (RFC 7541 6.2.2).
pub(crate) fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    fields.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

/// The beginning of an HTTP/2 connection, then `frames`.
pub(crate) fn http2(frames: &[Vec<u8>]) -> Vec<u8> {
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, 0, 0, &[]), frames.concat()].concat()
}

pub(crate) async fn connect_tls(bench: &Bench) -> SendRequest<super::http2::Sent> {
    let stream = TokioIo::new(bench.tls_client("h2").await.stream);
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    sender
}

/// What the application sees of `request`, which it answers.
async fn seen<S: AsyncRead + AsyncWrite + Unpin>(app: &App, client: &mut Conn<S>, request: &str) -> String {
    client.send(request).await;
    let mut conn = app.accept().await;
    let head = conn.head().await;
    conn.send(OK.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")).await;
    assert_eq!(client.message().await.status(), 200, "{request}");
    head
}

/// The same in HTTP/2.
async fn seen_of_http2(
    app: &App,
    client: &mut SendRequest<super::http2::Sent>,
    request: Request<super::http2::Sent>,
) -> String {
    let serve = async {
        let mut conn = app.accept().await;
        let head = conn.head().await;
        conn.send(OK.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")).await;
        head
    };
    let (response, head) = tokio::join!(send(client, request), serve);
    assert_eq!(response.status(), 200);
    head
}

async fn answer<S: AsyncRead + AsyncWrite + Unpin>(mut client: Conn<S>, request: &str) -> Message {
    client.send(request).await;
    client.message().await
}

/// What later versions of HTTP/1 mean is what 1.1 means (RFC 9110 2.5).
#[tokio::test]
async fn later_versions_are_1_1() {
    let (bench, app) = Bench::with_tls().await;
    for minor in [2, 9] {
        let request = format!("GET /v HTTP/1.{minor}\r\nHost: app.localhost\r\n\r\n");
        for head in [
            seen(&app, &mut bench.client().await, &request).await,
            seen(&app, &mut bench.tls_client("http/1.1").await, &request).await,
        ] {
            assert!(head.starts_with("GET /v HTTP/1.1\r\nHost: app.localhost\r\n"), "{head}");
        }
    }
    // Of an application as well, whose connection is kept as one of 1.1.
    let mut client = bench.client().await;
    let mut over_http2 = connect(&bench).await;
    client.send("GET / HTTP/1.1\r\nHost: app.localhost\r\n\r\n").await;
    let mut conn = app.accept().await;
    conn.head().await;
    conn.send("HTTP/1.2 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(client.until("ok").await, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let serve = async {
        conn.head().await;
        conn.send("HTTP/1.3 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    };
    let (response, ()) = tokio::join!(send(&mut over_http2, get("/")), serve);
    assert_eq!((response.status().as_u16(), text(response).await.as_str()), (200, "ok"));
}

/// A fragment is the client's own affair (RFC 9110 7.1).
#[tokio::test]
async fn fragments_are_refused() {
    let (bench, app) = Bench::with_tls().await;
    for target in ["/a#b", "/#", "/a?b#c", "http://app.localhost/#a", "http://app.localhost#a", "#a", "*#"] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: app.localhost\r\n\r\n");
        assert_eq!(answer(bench.client().await, &request).await.status(), 400, "{target}");
        assert_eq!(answer(bench.tls_client("http/1.1").await, &request).await.status(), 400, "{target}");
    }
    assert!(app.is_alone().await);
    // h2 cuts it off before anybody can see it: it goes no further.
    for (path, seen) in [("/a#b", "/a"), ("/a?b#c", "/a?b"), ("#a", "/")] {
        let request =
            [(":method", "GET"), (":scheme", "http"), (":authority", "app.localhost"), (":path", path)];
        let mut client = bench.client().await;
        client.send(http2(&[frame(1, 5, 1, &fields(&request))])).await;
        let head = app.accept().await.head().await;
        assert!(head.starts_with(&format!("GET {seen} HTTP/1.1\r\n")), "{head}");
    }
}

/// The router serves http and https; another scheme is not its business (RFC 9113 8.3.1).
#[tokio::test]
async fn other_schemes_are_refused() {
    let (bench, app) = Bench::with_tls().await;
    for mut client in [connect(&bench).await, connect_tls(&bench).await] {
        for scheme in ["ftp", "ws", "wss", "gopher"] {
            let request = Request::get(format!("{scheme}://app.localhost/")).body(full("")).unwrap();
            assert_eq!(send(&mut client, request).await.status(), 400, "{scheme}");
        }
    }
    assert!(app.is_alone().await);
    for uri in ["http://app.localhost/", "https://app.localhost/"] {
        seen_of_http2(&app, &mut connect(&bench).await, Request::get(uri).body(full("")).unwrap()).await;
    }
}

/// The router counts down what an OPTIONS or TRACE may still be passed on, and answers at 0 (RFC 9110 7.6.2).
#[tokio::test]
async fn max_forwards_counts_down_and_ends_here() {
    let (bench, app) = Bench::with_tls().await;
    let request = |method: &str, value: &str| {
        format!(
            "{method} /x?y HTTP/1.1\r\nHost: app.localhost\r\nMax-Forwards: {value}\r\nCookie: a=secret\r\n\
             Authorization: Basic secret\r\nX-Auth-Token: secret\r\nX-A: 1\r\n\r\n"
        )
    };
    for (method, value, passed) in [("OPTIONS", "2", "1"), ("TRACE", "1", "0"), ("GET", "0", "0")] {
        let request = request(method, value);
        for head in [
            seen(&app, &mut bench.client().await, &request).await,
            seen(&app, &mut bench.tls_client("http/1.1").await, &request).await,
        ] {
            assert!(head.contains(&format!("\r\nMax-Forwards: {passed}\r\n")), "{head}");
        }
        let mut request = get("/x");
        *request.method_mut() = Method::from_bytes(method.as_bytes()).unwrap();
        request.headers_mut().insert("max-forwards", value.parse().unwrap());
        let head = seen_of_http2(&app, &mut connect(&bench).await, request).await;
        assert!(head.contains(&format!("\r\nmax-forwards: {passed}\r\n")), "{head}");
    }
    let options = answer(bench.client().await, &request("OPTIONS", "0")).await;
    assert_eq!((options.status(), options.text().as_str()), (200, ""));
    assert!(options.header("allow").is_some_and(|methods| methods.contains("PATCH")), "{options:?}");
    for trace in [
        answer(bench.client().await, &request("TRACE", "0")).await,
        answer(bench.tls_client("http/1.1").await, &request("TRACE", "000")).await,
    ] {
        assert_eq!((trace.status(), trace.header("content-type")), (200, Some("message/http")));
        let echo = trace.text();
        assert!(echo.starts_with("TRACE /x?y HTTP/1.1\r\nHost: app.localhost\r\nMax-Forwards: 0"), "{echo}");
        assert!(echo.ends_with("X-A: 1\r\n\r\n") && !echo.contains("secret"), "{echo}");
    }
    let mut client = connect(&bench).await;
    let mut trace = get("/x");
    *trace.method_mut() = Method::TRACE;
    trace.headers_mut().insert("max-forwards", "0".parse().unwrap());
    trace.headers_mut().insert("cookie", "a=secret".parse().unwrap());
    let trace = send(&mut client, trace).await;
    assert_eq!(
        (trace.status().as_u16(), &trace.headers()["content-type"]),
        (200, &"message/http".parse().unwrap())
    );
    let echo = text(trace).await;
    assert!(
        echo.starts_with("TRACE /x HTTP/1.1\r\nHost: app.localhost\r\n") && !echo.contains("secret"),
        "{echo}"
    );
    // What cannot be counted down cannot be passed on.
    for value in ["", "x", "-1", "1, 1", "1\r\nMax-Forwards: 1"] {
        assert_eq!(answer(bench.client().await, &request("TRACE", value)).await.status(), 400, "{value:?}");
    }
    assert!(app.is_alone().await);
    // On other methods it is a header like any other, whatever it holds.
    let mut client = bench.client().await;
    client.send(b"GET / HTTP/1.1\r\nHost: app.localhost\r\nMax-Forwards: \xff\r\n\r\n").await;
    app.accept().await.until(b"\r\nMax-Forwards: \xff\r\n").await;
}

/// An `Upgrade` with `h2c` among others loses that alone.
#[tokio::test]
async fn only_h2c_is_taken_out_of_an_upgrade() {
    let (bench, app) = Bench::with_tls().await;
    let request = "GET / HTTP/1.1\r\nHost: app.localhost\r\nConnection: Upgrade, HTTP2-Settings\r\n\
                   Upgrade: h2c, websocket\r\nHTTP2-Settings: AAA\r\nSec-WebSocket-Key: k\r\n\r\n";
    async fn upgrade<S: AsyncRead + AsyncWrite + Unpin>(app: &App, mut client: Conn<S>, request: &str) {
        client.send(request).await;
        let mut conn = app.accept().await;
        let head = conn.head().await;
        assert!(
            head.contains("\r\nUpgrade: websocket\r\n") && head.contains("\r\nConnection: Upgrade\r\n"),
            "{head}"
        );
        assert!(!head.contains("h2c") && !head.contains("HTTP2-"), "{head}");
        conn.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
            .await;
        assert!(client.head().await.starts_with("HTTP/1.1 101 "));
        client.send("ping").await;
        assert_eq!(conn.exactly(4).await, b"ping");
    }
    upgrade(&app, bench.client().await, request).await;
    upgrade(&app, bench.tls_client("http/1.1").await, request).await;
    let apart = request.replace("h2c, websocket", "h2c\r\nUpgrade: websocket");
    upgrade(&app, bench.client().await, &apart).await;
}

/// 65,536 bytes of a request line pass, and no more.
#[tokio::test]
async fn the_limit_of_a_request_line_is_exact() {
    const LIMIT: usize = 64 * 1024;
    let (bench, app) = Bench::with_tls().await;
    let line = |length: usize| format!("GET /{} HTTP/1.1", "u".repeat(length - "GET / HTTP/1.1".len()));
    let request = |length: usize| format!("{}\r\nHost: app.localhost\r\n\r\n", line(length));
    let head = seen(&app, &mut bench.client().await, &request(LIMIT)).await;
    assert_eq!(head.split("\r\n").next().unwrap().len(), LIMIT);
    seen(&app, &mut bench.tls_client("http/1.1").await, &request(LIMIT)).await;
    for length in [LIMIT + 1, 80_000, 100_000] {
        let request = request(length);
        assert_eq!(bench.status(&request).await, 414, "{length}");
        assert_eq!(answer(bench.tls_client("http/1.1").await, &request).await.status(), 414, "{length}");
        // Whose end does not come.
        assert_eq!(bench.status(&line(length)).await, 414, "{length}");
    }
    for mut client in [connect(&bench).await, connect_tls(&bench).await] {
        let request = |length: usize| {
            let uri = Uri::builder().scheme("http").authority("app.localhost");
            let uri = uri.path_and_query(line(length).split(' ').nth(1).unwrap()).build().unwrap();
            Request::get(uri).body(full("")).unwrap()
        };
        let head = seen_of_http2(&app, &mut client, request(LIMIT)).await;
        assert_eq!(head.split("\r\n").next().unwrap().len(), LIMIT);
        for length in [LIMIT + 1, LIMIT + 11] {
            assert_eq!(send(&mut client, request(length)).await.status(), 414, "{length}");
        }
    }
    assert!(app.is_alone().await);
}

/// Who a client is and how it came says the router alone.
#[tokio::test]
async fn claims_of_strangers_about_their_origin_go() {
    const CLAIMS: [&str; 16] = [
        "X-Forwarded-Port",
        "X-Real-IP",
        "X_Real_IP",
        "X-Client-IP",
        "Client-IP",
        "True-Client-IP",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "X-Forwarded-Protocol",
        "X-Forwarded-Scheme",
        "X-Forwarded-Server",
        "X-Forwarded-Ssl",
        "X-Url-Scheme",
        "Front-End-Https",
        "Forwarded",
    ];
    let (bench, app) = Bench::with_tls().await;
    let lines: String = CLAIMS.iter().map(|name| format!("{name}: evil\r\n")).collect();
    let request = format!("GET / HTTP/1.1\r\nHost: app.localhost\r\n{lines}X-Forwarded-Prefix: /p\r\n\r\n");
    let mut over_http2 = get("/");
    for name in CLAIMS {
        over_http2
            .headers_mut()
            .insert(hyper::header::HeaderName::try_from(name).unwrap(), "evil".parse().unwrap());
    }
    over_http2.headers_mut().insert("x-forwarded-prefix", "/p".parse().unwrap());
    for head in [
        seen(&app, &mut bench.client().await, &request).await,
        seen(&app, &mut bench.tls_client("http/1.1").await, &request).await,
        seen_of_http2(&app, &mut connect(&bench).await, over_http2).await,
    ] {
        assert!(!head.contains("evil"), "{head}");
        assert!(
            head.contains("\r\nX-Forwarded-For: 127.0.0.1\r\n") && head.contains("refix: /p\r\n"),
            "{head}"
        );
    }
}

/// A 405 says what is allowed (RFC 9110 15.5.6).
#[tokio::test]
async fn method_not_allowed_says_which_are() {
    let (bench, _app) = Bench::with_tls().await;
    for (request, allowed) in [
        ("CONNECT app.localhost:80 HTTP/1.1\r\nHost: app.localhost\r\n\r\n", "POST"),
        ("POST /livez HTTP/1.1\r\nHost: agentfs.localhost\r\n\r\n", "GET, HEAD"),
        ("POST / HTTP/1.1\r\nHost: localhost\r\n\r\n", "GET, HEAD"),
    ] {
        for answer in [
            answer(bench.client().await, request).await,
            answer(bench.tls_client("http/1.1").await, request).await,
        ] {
            assert_eq!(answer.status(), 405);
            assert!(answer.header("allow").is_some_and(|methods| methods.contains(allowed)), "{answer:?}");
        }
    }
    let request = Request::connect("app.localhost:80").body(full("")).unwrap();
    let response = send(&mut connect(&bench).await, request).await;
    assert_eq!((response.status().as_u16(), response.headers().contains_key("allow")), (405, true));
}

/// No header of one connection reaches a client of HTTP/2, in interim answers neither (RFC 9113 8.2.2).
#[tokio::test]
async fn headers_that_http2_forbids_stay_here() {
    let (bench, app) = Bench::with_tls().await;
    let hops = "Connection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: close\r\nTE: trailers\r\n\
                Upgrade: h2c\r\nX-A: 1\r\n";
    let stream = tokio::net::TcpStream::connect(bench.address).await.unwrap();
    let (mut client, connection) = soon("handshake", h2::client::handshake(stream)).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    for (status, framing, body) in [
        (200, "Transfer-Encoding: chunked\r\n", "2\r\nok\r\n0\r\n\r\n"),
        (426, "Content-Length: 2\r\n", "ok"),
    ] {
        let (mut answer, _) =
            client.send_request(Request::get("http://app.localhost/").body(()).unwrap(), true).unwrap();
        let mut conn = app.accept().await;
        conn.head().await;
        conn.send(format!(
            "HTTP/1.1 103 Early Hints\r\n{hops}\r\nHTTP/1.1 {status} X\r\n{hops}{framing}\r\n{body}"
        ))
        .await;
        let hint = std::future::poll_fn(|context| answer.poll_informational(context));
        let hint = soon("hint", hint).await.unwrap().unwrap();
        let answer = soon("answer", answer).await.unwrap();
        assert_eq!(answer.status(), status);
        for headers in [hint.headers(), answer.headers()] {
            let names: Vec<_> =
                headers.keys().map(|name| name.as_str()).filter(|name| *name != "content-length").collect();
            assert_eq!(names, ["x-a"]);
        }
    }
}

/// `Via` is the client's and the application's own: the router adds none (docs/protocols.md).
#[tokio::test]
async fn via_passes_and_none_is_added() {
    let (bench, app) = Bench::with_app().await;
    let head = seen(&app, &mut bench.client().await, "GET / HTTP/1.1\r\nHost: app.localhost\r\n\r\n").await;
    assert!(!head.to_ascii_lowercase().contains("\r\nvia:"), "{head}");
    let mut client = bench.client().await;
    client.send("GET / HTTP/1.1\r\nHost: app.localhost\r\nVia: 1.1 other\r\n\r\n").await;
    let mut conn = app.accept().await;
    assert_eq!(conn.head().await.matches("Via: 1.1 other\r\n").count(), 1);
    conn.send("HTTP/1.1 200 OK\r\nVia: 1.1 inner\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(client.head().await, "HTTP/1.1 200 OK\r\nVia: 1.1 inner\r\nContent-Length: 0\r\n\r\n");
}
