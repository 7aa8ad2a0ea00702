//! `--rewrite-host`: an application that accepts only `localhost` is asked for that, and its answers lead back.
use super::harness::{App, Bench, Conn, entry, soon};
use super::http2::{connect, full, send, streamed};
use super::semantics::connect_tls;
use agentfs_router::{Entry, Target, Upstream};
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};

fn local(bench: &Bench) -> Entry {
    Entry { rewrite_host: true, ..entry("app.localhost", vec![bench.upstream("app")]) }
}

async fn bench() -> (Bench, App) {
    let (bench, app) = Bench::with_tls().await;
    bench.set(vec![local(&bench)]);
    (bench, app)
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(app: &App, mut client: Conn<S>, scheme: &str) {
    client
        .send(format!(
            "GET /x HTTP/1.1\r\nHost: app.localhost:4280\r\nOrigin: {scheme}://app.localhost:4280\r\n\
             Referer: {scheme}://app.localhost:4280/from?a\r\nX-A: http://app.localhost:4280\r\n\r\n"
        ))
        .await;
    let mut conn = app.accept().await;
    assert_eq!(
        conn.head().await,
        format!(
            "GET /x HTTP/1.1\r\nHost: localhost:8080\r\nOrigin: http://localhost:8080\r\n\
             Referer: http://localhost:8080/from?a\r\nX-A: http://app.localhost:4280\r\n\
             X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Host: app.localhost:4280\r\nX-Forwarded-Proto: {scheme}\r\n\
             Forwarded: for=127.0.0.1;host=\"app.localhost:4280\";proto={scheme}\r\nX-Agentfs-Hops: 1\r\n\r\n"
        )
    );
    conn.send(
        "HTTP/1.1 302 Found\r\nLocation: http://localhost:8080/y\r\nSet-Cookie: a=b; Domain=localhost; Path=/\r\n\
         Connection: close\r\nContent-Length: 0\r\n\r\n",
    )
    .await;
    assert_eq!(
        client.head().await,
        format!(
            "HTTP/1.1 302 Found\r\nLocation: {scheme}://app.localhost:4280/y\r\nSet-Cookie: a=b; Path=/\r\n\
             Content-Length: 0\r\n\r\n"
        )
    );
}

#[tokio::test]
async fn over_http1_and_tls() {
    let (bench, app) = bench().await;
    exchange(&app, bench.client().await, "http").await;
    exchange(&app, bench.tls_client("http/1.1").await, "https").await;
    // What names another place is the application's to judge.
    let mut client = bench.client().await;
    client
        .send("GET http://app.localhost/x HTTP/1.1\r\nHost: other\r\nOrigin: http://evil.com\r\n\r\n")
        .await;
    let mut conn = app.accept().await;
    let head = conn.head().await;
    assert!(
        head.contains("\r\nHost: localhost:8080\r\n") && head.contains("\r\nOrigin: http://evil.com\r\n"),
        "{head}"
    );
    // A route without the option stays as it is.
    bench.set(vec![entry("app.localhost", vec![bench.upstream("app")])]);
    let mut client = bench.client().await;
    client.send("GET / HTTP/1.1\r\nHost: app.localhost\r\nOrigin: http://app.localhost\r\n\r\n").await;
    let mut conn = app.accept().await;
    assert!(conn.head().await.contains("\r\nHost: app.localhost\r\nOrigin: http://app.localhost\r\n"));
    conn.send("HTTP/1.1 302 Found\r\nLocation: http://localhost:8080/y\r\nContent-Length: 0\r\n\r\n").await;
    assert!(client.head().await.contains("\r\nLocation: http://localhost:8080/y\r\n"));
}

#[tokio::test]
async fn over_http2() {
    let (bench, app) = bench().await;
    for (mut client, scheme) in [(connect(&bench).await, "http"), (connect_tls(&bench).await, "https")] {
        let request = Request::get(format!("{scheme}://app.localhost:4280/x"))
            .header("origin", format!("{scheme}://app.localhost:4280"))
            .body(full(""))
            .unwrap();
        let serve = async {
            let mut conn = app.accept().await;
            let head = conn.head().await;
            assert!(head.contains("\r\nHost: localhost:8080\r\norigin: http://localhost:8080\r\n"), "{head}");
            conn.send("HTTP/1.1 201 X\r\nLocation: http://localhost:8080/y\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").await;
        };
        let (response, ()) = tokio::join!(send(&mut client, request), serve);
        assert_eq!(response.headers()["location"], format!("{scheme}://app.localhost:4280/y"));
    }
}

#[tokio::test]
async fn websockets_too() {
    let (bench, app) = bench().await;
    let mut client = bench.client().await;
    client
        .send(
            "GET /ws HTTP/1.1\r\nHost: app.localhost\r\nOrigin: http://app.localhost\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n",
        )
        .await;
    let mut conn = app.accept().await;
    let head = conn.head().await;
    assert!(head.contains("\r\nHost: localhost:8080\r\nOrigin: http://localhost:8080\r\n"), "{head}");
    conn.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhi")
        .await;
    client.head().await;
    assert_eq!(client.exactly(2).await, b"hi");
    let mut client = connect(&bench).await;
    let mut request = Request::connect("http://app.localhost/ws").body(full("")).unwrap();
    request.extensions_mut().insert(Protocol::from_static("websocket"));
    request.headers_mut().insert("origin", "http://app.localhost".parse().unwrap());
    let serve = async {
        let mut conn = app.accept().await;
        let head = conn.head().await;
        assert!(
            head.contains("Host: localhost:8080\r\n") && head.contains("origin: http://localhost:8080\r\n"),
            "{head}"
        );
        conn.send("HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n").await;
    };
    let (response, ()) = tokio::join!(send(&mut client, request), serve);
    assert_eq!(response.status(), 403);
}

/// An application that speaks HTTP/2, behind clients of either.
#[tokio::test]
async fn before_http2() {
    let (bench, app) = bench().await;
    tokio::spawn(async move {
        loop {
            let stream = app.accept().await.stream;
            let service = service_fn(|request: Request<Incoming>| async move {
                let told = format!("{} {:?}", request.uri(), request.headers().get("origin"));
                let (_, body) = streamed();
                let answer =
                    Response::builder().header("x-told", told).header("location", "http://localhost:8080/y");
                Ok::<_, Infallible>(answer.body(body).unwrap())
            });
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(async move { drop(builder.serve_connection(TokioIo::new(stream), service).await) });
        }
    });
    let mut client = connect(&bench).await;
    let request = Request::post("http://app.localhost/x")
        .header("origin", "http://app.localhost")
        .header("content-type", "application/grpc")
        .body(full(""))
        .unwrap();
    let response = send(&mut client, request).await;
    let told = "http://localhost:8080/x Some(\"http://localhost:8080\")";
    assert_eq!(response.headers()["x-told"], told);
    assert_eq!(response.headers()["location"], "http://app.localhost/y");
    let mut client = bench.client().await;
    client.send("GET /x HTTP/1.1\r\nHost: app.localhost\r\nOrigin: http://app.localhost\r\n\r\n").await;
    let answer = soon("answer", client.message()).await;
    assert_eq!(answer.header("x-told"), Some(told));
    assert_eq!(answer.header("location"), Some("http://app.localhost/y"));
}

/// A port of the host is named as such, and a socket that belongs to no port as `localhost`.
#[tokio::test]
async fn names_of_other_places() {
    let bench = Bench::new().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let upstream = |target| Arc::new(Upstream::new(target, String::new(), String::new(), 0));
    let entry = |upstream| Entry { rewrite_host: true, ..entry("app.localhost", vec![upstream]) };
    bench.set(vec![entry(upstream(Target::Tcp(listener.local_addr().unwrap())))]);
    let mut client = bench.client().await;
    client.send("GET / HTTP/1.1\r\nHost: app.localhost\r\n\r\n").await;
    let head = Conn::new(soon("accept", listener.accept()).await.unwrap().0).head().await;
    assert!(head.contains(&format!("\r\nHost: localhost:{port}\r\n")), "{head}");
    let app = bench.app("app");
    bench.set(vec![entry(upstream(Target::Unix(bench.path("app"))))]);
    let mut client = bench.client().await;
    client.send("GET / HTTP/1.1\r\nHost: app.localhost\r\n\r\n").await;
    let head = app.accept().await.head().await;
    assert!(head.contains("\r\nHost: localhost\r\n"), "{head}");
}
