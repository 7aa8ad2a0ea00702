//! HTTP/2 by prior knowledge on the plain port, in front of applications that speak HTTP/1.
use super::harness::{Bench, entry, soon};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper::ext::Protocol;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

pub(crate) type Sent = BoxBody<Bytes, Infallible>;

pub(crate) fn full(text: &str) -> Sent {
    Full::new(Bytes::copy_from_slice(text.as_bytes())).boxed()
}

pub(crate) fn get(path: &str) -> Request<Sent> {
    Request::get(format!("http://app.localhost{path}")).body(full("")).unwrap()
}

/// A body that is sent as the test goes on.
pub(crate) struct Streamed(pub(crate) mpsc::UnboundedReceiver<Frame<Bytes>>);

impl Body for Streamed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|frame| frame.map(Ok))
    }
}

pub(crate) fn streamed() -> (mpsc::UnboundedSender<Frame<Bytes>>, Sent) {
    let (frame_tx, frame_rx) = mpsc::unbounded_channel();
    (frame_tx, Streamed(frame_rx).boxed())
}

pub(crate) fn data(bytes: impl Into<Vec<u8>>) -> Frame<Bytes> {
    Frame::data(Bytes::from(bytes.into()))
}

pub(crate) async fn connect(bench: &Bench) -> SendRequest<Sent> {
    let stream = tokio::net::TcpStream::connect(bench.address).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    sender
}

pub(crate) async fn send(sender: &mut SendRequest<Sent>, request: Request<Sent>) -> Response<Incoming> {
    soon("answer", sender.send_request(request)).await.unwrap()
}

pub(crate) async fn text(response: Response<Incoming>) -> String {
    let body = soon("body", response.into_body().collect()).await.unwrap();
    String::from_utf8(body.to_bytes().to_vec()).unwrap()
}

#[tokio::test]
async fn requests_look_to_the_application_as_any_other() {
    let (bench, app) = Bench::with_app().await;
    let mut client = connect(&bench).await;
    let mut request = get("/a?b=c");
    let headers = request.headers_mut();
    for (name, value) in [
        ("cookie", "a=1"),
        ("cookie", "b=2"),
        ("x-forwarded-for", "6.6.6.6"),
        ("te", "trailers"),
        ("proxy-authorization", "secret"),
    ] {
        headers.append(name, value.parse().unwrap());
    }
    let serve = async {
        let mut conn = app.accept().await;
        let head = conn.head().await;
        conn.send("HTTP/1.1 200 Fine\r\nConnection: X-A\r\nX-A: 1\r\nKeep-Alive: timeout=5\r\nX-B: 2\r\nContent-Length: 2\r\n\r\nok").await;
        (conn, head)
    };
    let (response, (mut conn, head)) = tokio::join!(send(&mut client, request), serve);
    assert_eq!(
        head,
        "GET /a?b=c HTTP/1.1\r\nHost: app.localhost\r\ncookie: a=1; b=2\r\nTE: trailers\r\nConnection: TE\r\n\
         X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Host: app.localhost\r\nX-Forwarded-Proto: http\r\n\
         Forwarded: for=127.0.0.1;host=\"app.localhost\";proto=http\r\nX-Agentfs-Hops: 1\r\n\r\n"
    );
    assert_eq!(response.status(), 200);
    let names: Vec<_> = response.headers().keys().map(|name| name.as_str().to_owned()).collect();
    assert_eq!(names, ["x-b", "content-length"]);
    assert_eq!(text(response).await, "ok");
    // The application's connection is used again.
    let serve = async {
        assert!(conn.head().await.starts_with("HEAD /again "));
        conn.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    };
    let mut request = get("/again");
    *request.method_mut() = Method::HEAD;
    let (response, ()) = tokio::join!(send(&mut client, request), serve);
    assert_eq!(response.status(), 204);
    assert_eq!(bench.metrics.connects.get(), 1);
}

#[tokio::test]
async fn bodies_and_trailers_pass_both_ways_at_once() {
    let (bench, app) = Bench::with_app().await;
    let mut client = connect(&bench).await;
    let (frame_tx, body) = streamed();
    let request = Request::post("http://app.localhost/up").header("te", "trailers").body(body).unwrap();
    frame_tx.send(data("one")).unwrap();
    let serve = async {
        let mut conn = app.accept().await;
        let head = conn.head().await;
        assert!(head.contains("Transfer-Encoding: chunked\r\n") && !head.contains("ontent-"), "{head}");
        conn.until("3\r\none\r\n").await;
        // It answers before the request has ended.
        conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n").await;
        conn
    };
    let (response, mut conn) = tokio::join!(send(&mut client, request), serve);
    let mut body = response.into_body();
    assert_eq!(soon("frame", body.frame()).await.unwrap().unwrap().into_data().unwrap(), "first");
    frame_tx.send(data("two")).unwrap();
    conn.until("3\r\ntwo\r\n").await;
    let mut trailers = hyper::HeaderMap::new();
    trailers.insert("x-sum", "1".parse().unwrap());
    frame_tx.send(Frame::trailers(trailers)).unwrap();
    conn.until("0\r\nx-sum: 1\r\n\r\n").await;
    conn.send("0\r\nGrpc-Status: 0\r\nGrpc-Message: fine\r\n\r\n").await;
    let last = soon("trailers", body.frame()).await.unwrap().unwrap().into_trailers().unwrap();
    assert_eq!(
        (&last["grpc-status"], &last["grpc-message"]),
        (&"0".parse().unwrap(), &"fine".parse().unwrap())
    );
    assert!(soon("end", body.frame()).await.is_none());
}

#[tokio::test]
async fn a_known_length_stays_known() {
    let (bench, app) = Bench::with_app().await;
    let mut client = connect(&bench).await;
    let request =
        Request::put("http://app.localhost/").header("content-length", "5").body(full("hello")).unwrap();
    let serve = async {
        let mut conn = app.accept().await;
        let head = conn.head().await;
        assert!(head.contains("content-length: 5\r\n") && !head.contains("chunked"), "{head}");
        assert_eq!(conn.exactly(5).await, b"hello");
        conn.send("HTTP/1.0 200 OK\r\n\r\nuntil the end").await;
    };
    let (response, ()) = tokio::join!(send(&mut client, request), serve);
    assert_eq!(text(response).await, "until the end");
}

#[tokio::test]
async fn an_application_that_dies_resets_its_stream_alone() {
    let (bench, app) = Bench::with_app().await;
    let mut client = connect(&bench).await;
    for head in ["Content-Length: 10", "Transfer-Encoding: chunked"] {
        let serve = async {
            let mut conn = app.accept().await;
            conn.head().await;
            conn.send(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n5\r\nhel")).await;
            conn
        };
        let (response, conn) = tokio::join!(send(&mut client, get("/")), serve);
        drop(conn);
        let error = soon("reset", response.into_body().collect()).await.unwrap_err();
        assert!(error.to_string().contains("body") && !error.is_incomplete_message(), "{error:?}");
    }
    // Before its head: a page of ours, on the same connection.
    for (answer, status) in [("", 502), ("garbage\r\n\r\n", 502)] {
        let serve = async {
            let mut conn = app.accept().await;
            conn.head().await;
            conn.send(answer).await;
        };
        let (response, ()) = tokio::join!(send(&mut client, get("/")), serve);
        assert_eq!(response.status(), status, "{answer:?}");
    }
}

#[tokio::test]
async fn a_stream_that_the_client_drops_ends_at_the_application() {
    let (bench, app) = Bench::with_app().await;
    let mut client = connect(&bench).await;
    let serve = async {
        let mut conn = app.accept().await;
        conn.head().await;
        conn.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n").await;
        conn
    };
    let (response, mut conn) = tokio::join!(send(&mut client, get("/")), serve);
    let mut body = response.into_body();
    assert_eq!(soon("event", body.frame()).await.unwrap().unwrap().into_data().unwrap(), "data: 1\n\n");
    drop(body);
    assert!(conn.rest().await.is_empty());
    assert!(!client.is_closed());
}

#[tokio::test]
async fn names_and_refusals_are_those_of_http1() {
    let (bench, app) = Bench::with_app().await;
    bench.set(vec![entry("app.localhost", vec![bench.upstream("app")]), entry("gone.localhost", Vec::new())]);
    let mut client = connect(&bench).await;
    for (uri, status) in [
        ("http://nothing.localhost/", 404),
        ("http://evil.com/", 404),
        ("http://127.0.0.1/", 404),
        ("http://gone.localhost/", 502),
        ("http://agentfs.localhost/livez", 200),
        ("http://user@app.localhost/", 400),
    ] {
        let request = Request::get(uri).header("accept", "application/json").body(full("")).unwrap();
        let response = send(&mut client, request).await;
        assert_eq!(response.status(), status, "{uri}");
        assert!(!text(response).await.is_empty(), "{uri}");
    }
    let mut request = get("/");
    request.headers_mut().insert("host", "other.localhost".parse().unwrap());
    assert_eq!(send(&mut client, request).await.status(), 400);
    let mut request = get("/");
    request.headers_mut().insert("x-agentfs-hops", "5".parse().unwrap());
    assert_eq!(send(&mut client, request).await.status(), 508);
    let request = Request::connect("app.localhost:80").body(full("")).unwrap();
    assert_eq!(send(&mut client, request).await.status(), 405);
    assert!(app.is_alone().await);
}

#[tokio::test]
async fn an_early_answer_passes_and_a_closed_kept_connection_is_not_seen() {
    let (bench, app) = Bench::with_app().await;
    let mut client = connect(&bench).await;
    let (frame_tx, body) = streamed();
    let request = Request::post("http://app.localhost/").body(body).unwrap();
    frame_tx.send(data(vec![b'x'; 10_000])).unwrap();
    let serve = async {
        let mut conn = app.accept().await;
        conn.head().await;
        conn.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\n\r\nlong").await;
    };
    let (response, ()) = tokio::join!(send(&mut client, request), serve);
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(text(response).await, "long");
    for round in 0..3 {
        let serve = async {
            let mut conn = app.accept().await;
            conn.head().await;
            // It says nothing about closing, and closes.
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        };
        let (response, ()) = tokio::join!(send(&mut client, get("/")), serve);
        assert_eq!((response.status(), text(response).await.as_str()), (StatusCode::OK, "ok"), "{round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_megabytes_pass_in_many_streams() {
    const LENGTH: usize = 2 * 1024 * 1024;
    let (bench, app) = Bench::with_app().await;
    let client = connect(&bench).await;
    tokio::spawn(async move {
        loop {
            let mut conn = app.accept().await;
            tokio::spawn(async move {
                conn.head().await;
                conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n")).await;
                let mut left = LENGTH;
                let mut buffer = std::mem::take(&mut conn.buffer);
                while left > 0 {
                    if buffer.is_empty() {
                        assert!(soon("read", conn.stream.read_buf(&mut buffer)).await.unwrap() > 0);
                    }
                    left -= buffer.len();
                    conn.send(&buffer).await;
                    buffer.clear();
                }
            });
        }
    });
    let mut streams = tokio::task::JoinSet::new();
    for stream in 0..8_u8 {
        let mut client = client.clone();
        streams.spawn(async move {
            let body = Full::new(Bytes::from(vec![stream; LENGTH])).boxed();
            let request = Request::post("http://app.localhost/")
                .header("content-length", LENGTH.to_string())
                .body(body)
                .unwrap();
            let response = send(&mut client, request).await;
            let echoed = soon("body", response.into_body().collect()).await.unwrap().to_bytes();
            assert!(echoed.len() == LENGTH && echoed.iter().all(|byte| *byte == stream));
        });
    }
    while let Some(ended) = streams.join_next().await {
        ended.unwrap();
    }
}

const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";

/// The line that a server which understood `head` sends.
fn accept(head: &str) -> String {
    let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    let letters: Vec<char> = ('A'..='Z').chain('a'..='z').chain('0'..='9').chain(['+', '/']).collect();
    let bits: String = digest.as_ref().iter().map(|byte| format!("{byte:08b}")).collect::<String>() + "00";
    let letter = |at: usize| letters[usize::from_str_radix(&bits[at..at + 6], 2).unwrap()];
    let text: String = (0..bits.len()).step_by(6).map(letter).collect();
    format!("Sec-WebSocket-Accept: {text}=\r\n")
}

#[tokio::test]
async fn websockets_are_tunnelled() {
    let (bench, app) = Bench::with_app().await;
    let mut client = connect(&bench).await;
    let request = || {
        let mut request = Request::connect("http://app.localhost/ws").body(full("")).unwrap();
        request.extensions_mut().insert(Protocol::from_static("websocket"));
        request.headers_mut().insert("sec-websocket-version", "13".parse().unwrap());
        request
    };
    let serve = async {
        let mut conn = app.accept().await;
        let head = conn.head().await;
        assert!(head.starts_with("GET /ws HTTP/1.1\r\nHost: app.localhost\r\n"), "{head}");
        for line in
            ["Upgrade: websocket", "Connection: Upgrade", "sec-websocket-version: 13", "Sec-WebSocket-Key: "]
        {
            assert!(head.contains(line), "{line}: {head}");
        }
        let lines = format!("{}Sec-WebSocket-Protocol: chat\r\n", accept(&head));
        conn.send(format!("{SWITCH}{lines}\r\nhello")).await;
        conn
    };
    let (response, mut conn) = tokio::join!(send(&mut client, request()), serve);
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["sec-websocket-protocol"], "chat");
    assert!(!response.headers().contains_key("sec-websocket-accept"));
    let mut tunnel = TokioIo::new(soon("upgrade", hyper::upgrade::on(response)).await.unwrap());
    let mut five = [0; 5];
    soon("read", tunnel.read_exact(&mut five)).await.unwrap();
    assert_eq!(&five, b"hello");
    for _ in 0..3 {
        tunnel.write_all(b"ping").await.unwrap();
        assert_eq!(conn.exactly(4).await, b"ping");
        conn.send("pong!").await;
        soon("read", tunnel.read_exact(&mut five)).await.unwrap();
        assert_eq!(&five, b"pong!");
    }
    tunnel.shutdown().await.unwrap();
    assert!(conn.rest().await.is_empty());
    conn.send("end").await;
    drop(conn);
    let mut rest = Vec::new();
    soon("rest", tunnel.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(rest, b"end");
    // One that the application refuses.
    let serve = async {
        let mut conn = app.accept().await;
        conn.head().await;
        conn.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").await;
    };
    let (response, ()) = tokio::join!(send(&mut client, request()), serve);
    assert_eq!((response.status().as_u16(), text(response).await.as_str()), (403, "no"));
    // One that knows nothing of it: its 200 would say that the tunnel is there.
    let serve = async {
        let mut conn = app.accept().await;
        conn.head().await;
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await;
    };
    let (response, ()) = tokio::join!(send(&mut client, request()), serve);
    assert_eq!(response.status(), 502);
    // The key is the router's, so that nobody else can see whether it was understood (RFC 6455 4.1).
    let wrong = [
        String::new(),
        "Sec-WebSocket-Accept: x\r\n".to_owned(),
        accept("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"),
    ];
    for lines in wrong {
        let serve = async {
            let mut conn = app.accept().await;
            conn.head().await;
            conn.send(format!("{SWITCH}{lines}\r\nhello")).await;
            conn
        };
        let (response, mut conn) = tokio::join!(send(&mut client, request()), serve);
        assert_eq!(response.status(), 502, "{lines}");
        assert!(conn.rest().await.is_empty());
    }
    let serve = async {
        let mut conn = app.accept().await;
        let line = accept(&conn.head().await);
        conn.send(format!("{SWITCH}{line}{line}\r\n")).await;
    };
    let (response, ()) = tokio::join!(send(&mut client, request()), serve);
    assert_eq!(response.status(), 502, "twice");
}

/// What an application cannot be asked to change to is no tunnel: its bytes would be the next request.
#[tokio::test]
async fn protocols_that_cannot_be_offered_are_refused() {
    let (bench, app) = Bench::with_app().await;
    let protocols = [("h2c", None), ("H2C", None), ("", None), (",", None), ("websocket", Some("5"))];
    for (protocol, length) in protocols {
        // hyper sends nothing behind a CONNECT.
        let handshake = h2::client::handshake(bench.client().await.stream);
        let (client, connection) = soon("handshake", handshake).await.unwrap();
        let connection = tokio::spawn(connection);
        let mut request = Request::connect("http://app.localhost/ws").body(()).unwrap();
        request.extensions_mut().insert(h2::ext::Protocol::from(protocol));
        if let Some(length) = length {
            request.headers_mut().insert("content-length", length.parse().unwrap());
        }
        let (response, mut data) = client.ready().await.unwrap().send_request(request, false).unwrap();
        let smuggled = match length {
            Some(_) => "hello",
            None => "GET /smuggled HTTP/1.1\r\nHost: app.localhost\r\n\r\n",
        };
        data.send_data(smuggled.into(), false).unwrap();
        let serve = async {
            let mut conn = app.accept().await;
            let mut heads = conn.head().await;
            if length.is_none() {
                heads += &conn.head().await;
            }
            heads
        };
        tokio::select! {
            response = soon("answer", response) => assert_eq!(response.unwrap().status(), 400, "{protocol}"),
            heads = serve => panic!("{protocol}: {heads}"),
        }
        connection.abort();
    }
}

#[tokio::test]
async fn raw_frames_with_connection_headers_are_reset() {
    let (bench, app) = Bench::with_app().await;
    let mut client = bench.client().await;
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let length = u8::try_from(payload.len()).unwrap();
        [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
    };
    // HEADERS: GET http / of app.localhost, with `connection: x` as a literal.
    let authority = b"app.localhost";
    let mut block = vec![0x82, 0x86, 0x84, 0x41, 13];
    block.extend_from_slice(authority);
    block.extend_from_slice(b"\x00\x0aconnection\x01x");
    client
        .send(
            [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &frame(4, 0, 0, &[]), &frame(1, 5, 1, &block)]
                .concat(),
        )
        .await;
    // RST_STREAM of stream 1: PROTOCOL_ERROR.
    client.until(frame(3, 0, 1, &[0, 0, 0, 1])).await;
    assert!(app.is_alone().await);
}

#[tokio::test(start_paused = true)]
async fn silent_connections_are_let_go() {
    let bench = Bench::new().await;
    let start = tokio::time::Instant::now();
    let mut client = bench.client().await;
    client.send("PRI * HTTP/2.0\r\n\r\n").await;
    client.rest().await;
    assert!((10..=30).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    let start = tokio::time::Instant::now();
    let mut client = connect(&bench).await;
    let request = Request::get("http://nothing.localhost/").body(full("")).unwrap();
    assert_eq!(send(&mut client, request).await.status(), 404);
    soon("end", async {
        while client.ready().await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
    })
    .await;
    assert!(start.elapsed().as_secs() >= 65, "{:?}", start.elapsed());
}

/// "103 Early Hints over h2": before the application has answered for good.
#[tokio::test]
async fn interim_answers_pass() {
    let (bench, app) = Bench::with_app().await;
    let stream = tokio::net::TcpStream::connect(bench.address).await.unwrap();
    let (mut client, connection) = soon("handshake", h2::client::handshake(stream)).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    let request = Request::get("http://app.localhost/").body(()).unwrap();
    let (mut answer, _) = client.send_request(request, true).unwrap();
    let mut conn = app.accept().await;
    conn.head().await;
    for link in ["</a.css>", "</b.css>"] {
        conn.send(format!("HTTP/1.1 103 Early Hints\r\nLink: {link}\r\n\r\n")).await;
        let hint = std::future::poll_fn(|context| answer.poll_informational(context));
        let hint = soon("hint", hint).await.unwrap().unwrap();
        assert_eq!((hint.status().as_u16(), &hint.headers()["link"]), (103, &link.parse().unwrap()));
    }
    // One together with the answer is not lost either.
    conn.send(
        "HTTP/1.1 103 Early Hints\r\nLink: </c.css>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    )
    .await;
    let hint = std::future::poll_fn(|context| answer.poll_informational(context));
    assert_eq!(soon("hint", hint).await.unwrap().unwrap().headers()["link"], "</c.css>");
    let answer = soon("answer", answer).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(soon("data", answer.into_body().data()).await.unwrap().unwrap(), "ok");
}

/// "Expect: 100-continue: one 100, when the app reads", over HTTP/2 as well.
#[tokio::test]
async fn one_continue_when_the_application_reads() {
    let (bench, app) = Bench::with_app().await;
    let stream = tokio::net::TcpStream::connect(bench.address).await.unwrap();
    let (mut client, connection) = soon("handshake", h2::client::handshake(stream)).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    let request = Request::post("http://app.localhost/")
        .header("expect", "100-continue")
        .header("content-length", "4")
        .body(())
        .unwrap();
    let (mut answer, mut body) = client.send_request(request, false).unwrap();
    let mut conn = app.accept().await;
    let head = conn.head().await;
    assert!(head.contains("\r\nexpect: 100-continue\r\n"), "{head}");
    conn.send("HTTP/1.1 100 Continue\r\n\r\n").await;
    let hint = std::future::poll_fn(|context| answer.poll_informational(context));
    assert_eq!(soon("hint", hint).await.unwrap().unwrap().status(), 100);
    body.send_data(Bytes::from_static(b"body"), true).unwrap();
    assert_eq!(conn.exactly(4).await, b"body");
    conn.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(soon("answer", answer).await.unwrap().status(), 204);
}

/// "Exactly one Host (two, equal or not: 400)."
#[tokio::test]
async fn a_second_host_is_refused() {
    let (bench, app) = Bench::with_app().await;
    let mut client = connect(&bench).await;
    for host in ["app.localhost", "other.localhost"] {
        let mut request = get("/");
        request.headers_mut().append("host", "app.localhost".parse().unwrap());
        request.headers_mut().append("host", host.parse().unwrap());
        assert_eq!(send(&mut client, request).await.status(), 400, "{host}");
    }
    assert!(app.is_alone().await);
}

/// What an application sent before it died arrives before the reset does.
#[tokio::test]
async fn the_beginning_of_a_broken_answer_arrives() {
    let (bench, app) = Bench::with_app().await;
    let mut client = connect(&bench).await;
    for framing in ["Content-Length: 10\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"] {
        let serve = async {
            let mut conn = app.accept().await;
            conn.head().await;
            conn.send(format!("HTTP/1.1 200 OK\r\n{framing}")).await;
        };
        let (response, ()) = tokio::join!(send(&mut client, get("/")), serve);
        assert_eq!(response.status(), 200, "{framing:?}");
        let mut body = response.into_body();
        let first = soon("data", body.frame()).await.unwrap().unwrap();
        assert_eq!(first.into_data().unwrap(), "abc");
        assert!(soon("reset", body.frame()).await.unwrap().is_err(), "{framing:?}");
    }
}
