//! What could be read in two ways, or is no HTTP, is refused; nothing of it reaches an application.
use super::harness::Bench;

async fn refuses(cases: &[(&str, u16)]) {
    let (bench, app) = Bench::with_app().await;
    for (request, status) in cases {
        let answer = bench.ask(request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {answer:?}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{request:?} left a second request: {answer:?}");
    }
    assert!(app.is_alone().await);
}

fn post(headers: &str) -> String {
    format!(
        "POST / HTTP/1.1\r\nHost: app.localhost\r\n{headers}\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: app.localhost\r\n\r\n"
    )
}

#[tokio::test]
async fn ambiguous_framing() {
    let cases = [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", 400),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5", 400),
        ("Content-Length: 5\r\nContent-Length: 5", 400),
        ("Content-Length: 5\r\nContent-Length: 6", 400),
        ("Content-Length: 5, 5", 400),
        ("Content-Length: +5", 400),
        ("Content-Length: -1", 400),
        ("Content-Length: 0x5", 400),
        ("Content-Length:", 400),
        ("Content-Length: 99999999999999999999", 400),
        ("Content-Length : 5", 400),
        ("Transfer-Encoding : chunked", 400),
        ("Transfer-Encoding: xchunked", 400),
        ("Transfer-Encoding: identity", 400),
        ("Transfer-Encoding: chunked, identity", 400),
        ("Transfer-Encoding: chunked, chunked", 400),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400),
        ("Transfer-Encoding: \u{b}chunked", 400),
        ("Transfer-Encoding:", 400),
        ("Transfer-Encoding: gzip, chunked", 501),
        ("Transfer-Encoding: gzip", 501),
        ("Transfer-Encoding: foo", 501),
        ("Transfer-Encoding: foo, chunked", 501),
        ("Transfer-Encoding: \"chunked\"", 400),
        ("X: a\r\n folded", 400),
        (" X: a", 400),
        ("X\0Y: a", 400),
        ("X: a\0b", 400),
        ("X: a\rb", 400),
        ("no colon", 400),
        (": empty", 400),
        ("X: a\nY: b", 400),
    ];
    let cases: Vec<_> = cases.iter().map(|(headers, status)| (post(headers), *status)).collect();
    refuses(&cases.iter().map(|(request, status)| (request.as_str(), *status)).collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn request_lines() {
    refuses(&[
        ("GET / HTTP/1.1\nHost: app.localhost\n\n", 400),
        ("GET / HTTP/1.1\r\nHost: app.localhost\n\r\n", 400),
        ("GET /\r\n\r\n", 400),
        // HTTP/0.9 has no more to say: it is not waited for.
        ("GET /\r\n", 400),
        ("GET / x HTTP/1.1\r\nHost: app.localhost\r\n\r\n", 400),
        ("GET / HTTP/0.9\r\nHost: app.localhost\r\n\r\n", 400),
        ("GET / HTTP/2.0\r\nHost: app.localhost\r\n\r\n", 505),
        ("GET / HTTP/9.9\r\nHost: app.localhost\r\n\r\n", 505),
        ("GET / HTTP/1\r\nHost: app.localhost\r\n\r\n", 400),
        ("GET  / HTTP/1.1\r\nHost: app.localhost\r\n\r\n", 400),
        ("GET relative HTTP/1.1\r\nHost: app.localhost\r\n\r\n", 400),
        ("G@T / HTTP/1.1\r\nHost: app.localhost\r\n\r\n", 400),
        ("\x16\x03\x01\x02", 400),
        ("\nGET / HTTP/1.1\r\nHost: app.localhost\r\n\r\n", 400),
        ("CONNECT app.localhost:80 HTTP/1.1\r\nHost: app.localhost\r\n\r\n", 405),
        ("POST / HTTP/1.0\r\nHost: app.localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ])
    .await;
}

#[tokio::test]
async fn bad_chunks_end_in_400_whatever_the_application_got() {
    let (bench, app) = Bench::with_app().await;
    for chunks in [
        "x\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "5\r\nhelloX0\r\n\r\n",
        "0x1\r\na\r\n",
        "5\nhello\r\n",
        "fffffffffffffffff\r\n",
        "5;\0\r\n",
        "0\r\nbad trailer\r\n\r\n",
        "0\r\nA: b\n\r\n",
    ] {
        let mut client = bench.client().await;
        client.send(format!("POST / HTTP/1.1\r\nHost: app.localhost\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}GET /smuggled HTTP/1.1\r\n\r\n")).await;
        let mut conn = app.accept().await;
        let answer = String::from_utf8(client.rest().await).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{chunks:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{chunks:?}: {answer}");
        let seen = String::from_utf8(conn.rest().await).unwrap();
        assert!(!seen.contains("smuggled"), "{seen}");
    }
}

#[tokio::test]
async fn limits_of_heads() {
    let (bench, app) = Bench::with_app().await;
    let serve = async {
        loop {
            let mut conn = app.accept().await;
            conn.head().await;
            conn.send("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        }
    };
    let check = async {
        let host = "Host: app.localhost\r\nConnection: close\r\n";
        let cookie = format!("GET / HTTP/1.1\r\n{host}Cookie: {}\r\n\r\n", "c".repeat(12 * 1024));
        let many = format!("GET / HTTP/1.1\r\n{host}{}\r\n", "X-Header: v\r\n".repeat(200));
        let large =
            format!("GET / HTTP/1.1\r\n{host}{}\r\n", format!("X: {}\r\n", "v".repeat(1000)).repeat(64));
        let uri = format!("GET /{} HTTP/1.1\r\n{host}\r\n", "u".repeat(32 * 1024));
        for request in [&cookie, &many, &large, &uri] {
            assert_eq!(bench.status(request).await, 200, "{}", &request[..100]);
        }
        let long = format!("GET /{} HTTP/1.1\r\n{host}\r\n", "u".repeat(200 * 1024));
        assert_eq!(bench.status(&long).await, 414);
        let huge =
            format!("GET / HTTP/1.1\r\n{host}{}\r\n", format!("X: {}\r\n", "v".repeat(1000)).repeat(300));
        assert_eq!(bench.status(&huge).await, 431);
        let lines = format!("GET / HTTP/1.1\r\n{host}{}\r\n", "X: v\r\n".repeat(5000));
        assert_eq!(bench.status(&lines).await, 431);
    };
    tokio::select! { () = serve => {}, () = check => {} }
}

#[tokio::test]
async fn a_head_of_the_application_may_have_256_kilobytes() {
    let (bench, app) = Bench::with_app().await;
    let mut client = bench.client().await;
    client.send("GET / HTTP/1.1\r\nHost: app.localhost\r\n\r\n").await;
    let mut conn = app.accept().await;
    conn.head().await;
    let head = format!(
        "HTTP/1.1 200 OK\r\n{}Content-Length: 0\r\n\r\n",
        format!("X: {}\r\n", "v".repeat(1020)).repeat(255)
    );
    conn.send(&head).await;
    assert_eq!(client.head().await, head);
}
