//! Trailers: what frames, routes or authenticates is left out of them (RFC 9110 6.5.1), whichever way they come.
use super::harness::{App, Bench, Conn, soon};
use super::http2::{connect, data, send, streamed};
use super::semantics::{connect_tls, fields, frame, http2};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

/// What may not be a trailer, with two that may.
const LINES: &str = "X-Sum: 1\r\nHost: evil\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nConnection: close\r\nTE: x\r\n\
                     Trailer: y\r\nAuthorization: z\r\nCookie: c\r\nSet-Cookie: d\r\nContent-Type: e\r\nX-Forwarded-For: evil\r\n\
                     X-Agentfs-Hops: 9\r\nMax-Forwards: 1\r\nKeep-Alive: 1\r\nUpgrade: h2c\r\nETag: \"a:b\"\r\n\r\n";
const PASSED: &str = "0\r\nX-Sum: 1\r\nETag: \"a:b\"\r\n\r\n";

async fn both_ways<S: AsyncRead + AsyncWrite + Unpin>(app: &App, mut client: Conn<S>, piece: usize) {
    let post = "POST / HTTP/1.1\r\nHost: app.localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    let body = format!("3\r\nabc\r\n0\r\n{LINES}");
    client.send(post).await;
    let mut conn = app.accept().await;
    conn.head().await;
    for round in 0..2 {
        for part in body.as_bytes().chunks(piece) {
            client.send(part).await;
            if piece == 1 {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(
            String::from_utf8(conn.until("\"a:b\"\r\n\r\n").await).unwrap(),
            format!("3\r\nabc\r\n{PASSED}")
        );
        conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        for part in body.as_bytes().chunks(piece) {
            conn.send(part).await;
            if piece == 1 {
                tokio::task::yield_now().await;
            }
        }
        client.head().await;
        assert_eq!(
            String::from_utf8(client.until("\"a:b\"\r\n\r\n").await).unwrap(),
            format!("3\r\nabc\r\n{PASSED}")
        );
        // Both connections go on behind it.
        if round == 0 {
            client.send(post).await;
            conn.head().await;
        }
    }
}

#[tokio::test]
async fn of_http1_both_ways() {
    let (bench, app) = Bench::with_tls().await;
    for piece in [1, 7, 10_000] {
        both_ways(&app, bench.client().await, piece).await;
        both_ways(&app, bench.tls_client("http/1.1").await, piece).await;
    }
}

/// What is behind trailers is the next request, also where all came at once.
#[tokio::test]
async fn pipelined_behind_trailers() {
    let (bench, app) = Bench::with_app().await;
    let mut client = bench.client().await;
    let post =
        format!("POST / HTTP/1.1\r\nHost: app.localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n{LINES}");
    client.send(format!("{post}{post}")).await;
    let mut conn = app.accept().await;
    for _ in 0..2 {
        conn.head().await;
        assert_eq!(String::from_utf8(conn.until("\"a:b\"\r\n\r\n").await).unwrap(), PASSED);
        conn.send("HTTP/1.1 204 No Content\r\n\r\n").await;
        assert_eq!(client.message().await.status(), 204);
    }
    // None that may pass: an end as if there were none.
    client.send("POST / HTTP/1.1\r\nHost: app.localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nHost: x\r\n\r\n").await;
    conn.head().await;
    assert_eq!(conn.exactly(5).await, b"0\r\n\r\n");
}

fn map() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    for line in LINES.split("\r\n").filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ").unwrap();
        // A client of HTTP/2 cannot send these at all.
        if !["TE", "Connection", "Keep-Alive", "Upgrade", "Transfer-Encoding"].contains(&name) {
            trailers.append(hyper::header::HeaderName::try_from(name).unwrap(), value.parse().unwrap());
        }
    }
    trailers
}

fn names(trailers: &HeaderMap) -> Vec<&str> {
    trailers.keys().map(|name| name.as_str()).collect()
}

#[tokio::test]
async fn of_http2_before_an_application_of_http1() {
    let (bench, app) = Bench::with_tls().await;
    for mut client in [connect(&bench).await, connect_tls(&bench).await] {
        let (frame_tx, body) = streamed();
        frame_tx.send(data("abc")).unwrap();
        frame_tx.send(Frame::trailers(map())).unwrap();
        let request = Request::post("http://app.localhost/").body(body).unwrap();
        let serve = async {
            let mut conn = app.accept().await;
            conn.head().await;
            let got = String::from_utf8(conn.until("\r\n\r\n").await).unwrap();
            assert_eq!(got, "3\r\nabc\r\n0\r\nx-sum: 1\r\netag: \"a:b\"\r\n\r\n");
            conn.send(format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n{LINES}"
            ))
            .await;
        };
        let (response, ()) = tokio::join!(send(&mut client, request), serve);
        let body = soon("body", response.into_body().collect()).await.unwrap();
        assert_eq!(names(body.trailers().unwrap()), ["x-sum", "etag"]);
    }
}

#[tokio::test]
async fn of_http2_before_an_application_of_http2() {
    let (bench, app) = Bench::with_app().await;
    tokio::spawn(async move {
        let stream = app.accept().await.stream;
        let service = service_fn(|request: Request<Incoming>| async {
            let body = request.into_body().collect().await.unwrap();
            let told = names(body.trailers().unwrap()).join(" ");
            let (frame_tx, body) = streamed();
            frame_tx.send(Frame::trailers(map())).unwrap();
            Ok::<_, Infallible>(
                Response::builder().header("x-told", told).header("te", "trailers").body(body).unwrap(),
            )
        });
        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        drop(builder.serve_connection(TokioIo::new(stream), service).await);
    });
    let mut client = connect(&bench).await;
    let (frame_tx, body) = streamed();
    frame_tx.send(Frame::trailers(map())).unwrap();
    drop(frame_tx);
    let request =
        Request::post("http://app.localhost/").header("content-type", "application/grpc").body(body).unwrap();
    let response = send(&mut client, request).await;
    assert_eq!(response.headers()["x-told"], "x-sum etag");
    assert!(!response.headers().contains_key("te"), "{response:?}");
    let body = soon("body", response.into_body().collect()).await.unwrap();
    assert_eq!(names(body.trailers().unwrap()), ["x-sum", "etag"]);
}

/// "Pseudo-headers in trailers": no application sees them. h2 resets a stream whose pseudo-header stands behind another
/// field, and forgets those that stand before it.
#[tokio::test]
async fn pseudo_headers_are_no_trailers() {
    let (bench, app) = Bench::with_app().await;
    let head = [(":method", "POST"), (":scheme", "http"), (":authority", "app.localhost"), (":path", "/")];
    let request = |trailers: &[(&str, &str)]| {
        http2(&[frame(1, 4, 1, &fields(&head)), frame(0, 0, 1, b"abc"), frame(1, 5, 1, &fields(trailers))])
    };
    let mut client = bench.client().await;
    client.send(request(&[("x-sum", "1"), (":path", "/evil")])).await;
    client.until(frame(3, 0, 1, &[0, 0, 0, 1])).await;
    let mut client = bench.client().await;
    client.send(request(&[(":path", "/evil"), ("x-sum", "1")])).await;
    loop {
        let mut conn = app.accept().await;
        let trailers = b"x-sum: 1\r\n\r\n";
        while !conn.buffer.ends_with(trailers)
            && soon("read", conn.stream.read_buf(&mut conn.buffer)).await.unwrap() > 0
        {}
        let rest = String::from_utf8_lossy(&conn.buffer).into_owned();
        assert!(!rest.contains("evil"), "{rest}");
        // The one that was reset may have reached the application before.
        if rest.ends_with("0\r\nx-sum: 1\r\n\r\n") {
            break;
        }
    }
}
