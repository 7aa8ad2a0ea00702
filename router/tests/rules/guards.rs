//! Guards that nothing else would miss: each is tried where the second line of defence does not help.
use super::harness::{Bench, entry, soon};
use super::http2;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::io::AsyncReadExt as _;

const GET: &str = "GET / HTTP/1.1\r\nHost: app.localhost\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// What takes longer on the real clock was waited for: far less than any limit of the router.
const AT_ONCE: Duration = Duration::from_secs(5);

/// A POST may have been acted on even if it has no body.
#[tokio::test]
async fn a_request_that_may_act_is_sent_once_even_without_a_body() {
    for method in ["POST", "PATCH", "BREW"] {
        let (bench, app) = Bench::with_app().await;
        let mut client = bench.client().await;
        client.send(GET).await;
        let mut conn = app.accept().await;
        conn.head().await;
        conn.send(OK).await;
        client.message().await;
        // On a kept connection, which ends while the request is on its way.
        client.send(format!("{method} / HTTP/1.1\r\nHost: app.localhost\r\n\r\n")).await;
        assert!(conn.head().await.starts_with(method));
        drop(conn);
        tokio::select! {
            answer = client.message() => assert_eq!(answer.status(), 502, "{method}"),
            _ = app.accept() => panic!("{method} was sent a second time"),
        }
        assert_eq!(bench.metrics.retries.get(), 0, "{method}");
    }
}

/// Whatever makes the end of an answer doubtful: the application's connection gets no second request.
#[tokio::test]
async fn a_connection_with_a_doubtful_end_gets_no_second_request() {
    let twice = format!("{OK}{OK}");
    let cases = [
        // Bytes that nobody asked for, read with the answer: they would answer the next request.
        ("left-over bytes", twice.as_str(), "ok"),
        ("left-over line", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok\r\n", "ok"),
        (
            "a length beside chunks",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "2\r\nok\r\n0\r\n\r\n",
        ),
        (
            "a length beside `identity`",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 2\r\n\r\nok",
            "ok",
        ),
    ];
    for (what, answer, body) in cases {
        let (bench, app) = Bench::with_app().await;
        let mut client = bench.client().await;
        client.send(GET).await;
        let mut conn = app.accept().await;
        conn.head().await;
        conn.send(answer).await;
        let first = client.message().await;
        assert!(first.status() == 200 && first.text().starts_with(body), "{what}: {first:?}");
        client.send(GET).await;
        let mut more = [0; 64];
        let count = soon("the end, or a request", conn.stream.read(&mut more)).await.unwrap();
        assert_eq!(count, 0, "{what}: {:?}", String::from_utf8_lossy(&more[..count]));
        let mut next = app.accept().await;
        next.head().await;
        next.send(OK.replace("ok", "no")).await;
        let second = client.message().await;
        assert!(second.status() == 200 && second.text() == "no", "{what}: {second:?}");
    }
}

/// CGI, WSGI and PHP applications see `_` and `-` as one: a client must not say where its request comes from.
#[tokio::test]
async fn no_spelling_of_a_forwarding_header_passes() {
    const FORGED: [&str; 8] = [
        "Forwarded",
        "X-Forwarded-For",
        "X_Forwarded_For",
        "X-Forwarded-Host",
        "X_Forwarded_Host",
        "X-Forwarded_Host",
        "X_Forwarded_Proto",
        "x-forwarded_proto",
    ];
    let (bench, app) = Bench::with_app().await;
    for name in FORGED {
        let mut client = bench.client().await;
        client.send(format!("GET / HTTP/1.1\r\nHost: app.localhost\r\n{name}: forged\r\n\r\n")).await;
        let mut conn = app.accept().await;
        let head = conn.head().await;
        assert!(!head.contains("forged"), "{head}");
        conn.send("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await;
        assert_eq!(client.message().await.status(), 204);
    }
    let mut client = http2::connect(&bench).await;
    let mut request = http2::get("/");
    for name in FORGED {
        let name = name.to_ascii_lowercase().parse::<hyper::header::HeaderName>().unwrap();
        request.headers_mut().append(name, "forged".parse().unwrap());
    }
    let asked = tokio::spawn(async move { http2::send(&mut client, request).await.status() });
    let mut conn = app.accept().await;
    let head = conn.head().await;
    assert!(!head.contains("forged"), "{head}");
    conn.send(OK).await;
    assert_eq!(asked.await.unwrap(), 200);
}

/// Who waits for a name is woken when it is there, and does not find out by a time limit.
#[tokio::test]
async fn who_waits_for_a_name_is_woken() {
    let (bench, app) = Bench::with_app().await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let starting = || {
        let mut starting = entry("app.localhost", Vec::new());
        starting.dead = None;
        starting.starting = Some(u64::try_from(now.as_millis()).unwrap());
        starting
    };
    bench.set(vec![starting()]);
    let mut waiting = [bench.client().await, bench.client().await];
    for client in &mut waiting {
        client.send(GET).await;
    }
    // Those requests came first, so they were read first.
    for _ in 0..3 {
        assert_eq!(bench.status("GET / HTTP/1.0\r\nHost: unknown.localhost\r\n\r\n").await, 404);
    }
    let start = Instant::now();
    bench.set(vec![entry("app.localhost", vec![bench.upstream("app")])]);
    for _ in &waiting {
        let mut conn = app.accept().await;
        conn.head().await;
        conn.send(OK).await;
    }
    for client in &mut waiting {
        assert_eq!(client.message().await.text(), "ok");
    }
    assert!(start.elapsed() < AT_ONCE, "{:?}", start.elapsed());
}
