//! Requests and answers that pass: heads, bodies, pools, retries.
use super::harness::{Bench, entry};

const GET: &str = "GET /path?q=1 HTTP/1.1\r\nHost: app.localhost\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[tokio::test]
async fn a_get_passes_and_both_connections_are_kept() {
    let (bench, app) = Bench::with_app().await;
    let mut client = bench.client().await;
    client.send(GET).await;
    let mut conn = app.accept().await;
    let port = client.stream.local_addr().unwrap().port();
    assert_ne!(port, 0);
    assert_eq!(
        conn.head().await,
        "GET /path?q=1 HTTP/1.1\r\nHost: app.localhost\r\nX-Forwarded-For: 127.0.0.1\r\n\
         X-Forwarded-Host: app.localhost\r\nX-Forwarded-Proto: http\r\n\
         Forwarded: for=127.0.0.1;host=\"app.localhost\";proto=http\r\nX-Agentfs-Hops: 1\r\n\r\n"
    );
    conn.send(OK).await;
    assert_eq!(client.exactly(OK.len()).await, OK.as_bytes());
    for _ in 0..3 {
        client.send(GET).await;
        conn.head().await;
        conn.send(OK).await;
        client.exactly(OK.len()).await;
    }
    assert_eq!(bench.metrics.connects.get(), 1);
    drop(client);
    // Another client gets the same connection.
    let mut other = bench.client().await;
    other.send(GET).await;
    conn.head().await;
    conn.send(OK).await;
    other.exactly(OK.len()).await;
    assert_eq!(bench.metrics.connects.get(), 1);
    bench.stop().await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let (bench, app) = Bench::with_app().await;
    let mut client = bench.client().await;
    client
        .send(
            ["GET /1", "GET /2", "GET /3"]
                .map(|line| format!("{line} HTTP/1.1\r\nHost: app.localhost\r\n\r\n"))
                .concat(),
        )
        .await;
    let mut conn = app.accept().await;
    for number in 1..=3 {
        assert!(conn.head().await.starts_with(&format!("GET /{number} ")));
        conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{number}")).await;
        assert_eq!(client.message().await.text(), number.to_string());
    }
}

#[tokio::test]
async fn bodies_pass_in_their_own_framing() {
    let (bench, app) = Bench::with_app().await;
    let mut client = bench.client().await;
    client.send("POST / HTTP/1.1\r\nHost: app.localhost\r\nContent-Length: 5\r\n\r\nhel").await;
    let mut conn = app.accept().await;
    let head = conn.head().await;
    assert!(head.contains("\r\nContent-Length: 5\r\n"), "{head}");
    client.send("lo").await;
    assert_eq!(conn.exactly(5).await, b"hello");
    let chunks = "5;x=y\r\nhello\r\n0\r\nX-Sum: 9\r\n\r\n";
    conn.send(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n{chunks}"))
        .await;
    let answer = client.head().await;
    assert!(
        answer.contains("Transfer-Encoding: chunked\r\n") && answer.contains("Trailer: X-Sum"),
        "{answer}"
    );
    assert_eq!(client.exactly(chunks.len()).await, chunks.as_bytes());
    // The same the other way round, on the same connections.
    client
        .send(format!("POST / HTTP/1.1\r\nHost: app.localhost\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"))
        .await;
    assert!(conn.head().await.contains("Transfer-Encoding: chunked\r\n"));
    assert_eq!(conn.exactly(chunks.len()).await, chunks.as_bytes());
    conn.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    client.head().await;
    assert_eq!(bench.metrics.connects.get(), 1);
}

#[tokio::test]
async fn answers_without_a_body_have_none() {
    let (bench, app) = Bench::with_app().await;
    let mut client = bench.client().await;
    client.send("HEAD / HTTP/1.1\r\nHost: app.localhost\r\n\r\n").await;
    let mut conn = app.accept().await;
    conn.head().await;
    conn.send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n").await;
    assert!(client.head().await.contains("Content-Length: 1000\r\n"));
    for head in ["HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n"]
    {
        client.send(GET).await;
        conn.head().await;
        conn.send(head).await;
        assert_eq!(client.head().await, head);
    }
    assert_eq!(bench.metrics.connects.get(), 1);
}

#[tokio::test]
async fn interim_answers_pass() {
    let (bench, app) = Bench::with_app().await;
    let mut client = bench.client().await;
    client.send(GET).await;
    let mut conn = app.accept().await;
    conn.head().await;
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n";
    conn.send(hints).await;
    assert_eq!(client.head().await, hints);
    conn.send(OK).await;
    assert_eq!(client.message().await.status(), 200);
}

#[tokio::test]
async fn one_continue_when_the_application_reads() {
    let (bench, app) = Bench::with_app().await;
    let mut client = bench.client().await;
    client
        .send("POST / HTTP/1.1\r\nHost: app.localhost\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        .await;
    let mut conn = app.accept().await;
    assert!(conn.head().await.contains("Expect: 100-continue\r\n"));
    conn.send("HTTP/1.1 100 Continue\r\n\r\n").await;
    assert_eq!(client.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("body").await;
    assert_eq!(conn.exactly(4).await, b"body");
    conn.send(OK).await;
    assert_eq!(client.head().await, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
}

#[tokio::test]
async fn hop_by_hop_headers_stay_here() {
    let (bench, app) = Bench::with_app().await;
    let mut client = bench.client().await;
    client
        .send(
            "GET / HTTP/1.1\r\nHost: app.localhost\r\nConnection: keep-alive, X-Foo, Host\r\nX-Foo: 1\r\nX-Bar: 2\r\n\
             Keep-Alive: 5\r\nTE: gzip, trailers\r\nProxy-Authorization: x\r\nProxy-Connection: y\r\n\
             Upgrade: h2c\r\nHTTP2-Settings: z\r\nForwarded: for=evil\r\nX-Forwarded-For: evil\r\n\
             X-Forwarded-Host: evil\r\nX-Forwarded-Proto: evil\r\nX_Forwarded_For: evil\r\nDate: now\r\n\r\n",
        )
        .await;
    let mut conn = app.accept().await;
    assert_eq!(
        conn.head().await,
        "GET / HTTP/1.1\r\nHost: app.localhost\r\nX-Bar: 2\r\nDate: now\r\nTE: trailers\r\nConnection: TE\r\n\
         X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Host: app.localhost\r\nX-Forwarded-Proto: http\r\n\
         Forwarded: for=127.0.0.1;host=\"app.localhost\";proto=http\r\nX-Agentfs-Hops: 1\r\n\r\n"
    );
    conn.send("HTTP/1.1 200 OK\r\nConnection: X-Foo\r\nX-Foo: 1\r\nKeep-Alive: 5\r\nUpgrade: h2\r\nContent-Length: 0\r\nDate: d\r\n\r\n").await;
    assert_eq!(client.head().await, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nDate: d\r\n\r\n");
}

#[tokio::test]
async fn http_1_0_clients() {
    let (bench, app) = Bench::with_app().await;
    let mut client = bench.client().await;
    client.send("GET / HTTP/1.0\r\nHost: app.localhost\r\nExpect: 100-continue\r\n\r\n").await;
    let mut conn = app.accept().await;
    let head = conn.head().await;
    assert!(head.starts_with("GET / HTTP/1.1\r\n") && !head.contains("Expect"), "{head}");
    conn.send("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n").await;
    assert_eq!(client.rest().await, b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabcde");
    let mut client = bench.client().await;
    for _ in 0..2 {
        client.send("GET / HTTP/1.0\r\nHost: app.localhost\r\nConnection: keep-alive\r\n\r\n").await;
        conn.head().await;
        conn.send(OK).await;
        assert_eq!(
            client.head().await,
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\n"
        );
        client.exactly(2).await;
    }
}

#[tokio::test]
async fn a_body_that_ends_by_closing_becomes_chunks() {
    let (bench, app) = Bench::with_app().await;
    let mut client = bench.client().await;
    for _ in 0..2 {
        client.send(GET).await;
        let mut conn = app.accept().await;
        conn.head().await;
        conn.send("HTTP/1.0 200 OK\r\n\r\nabc").await;
        let mut body = client.until("abc\r\n").await;
        conn.send("defgh").await;
        drop(conn);
        body.extend(client.until("0\r\n\r\n").await);
        assert_eq!(
            String::from_utf8(body).unwrap(),
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n5\r\ndefgh\r\n0\r\n\r\n"
        );
    }
}

#[tokio::test]
async fn a_half_closed_client_is_answered() {
    let (bench, app) = Bench::with_app().await;
    let mut client = bench.client().await;
    client.send(GET).await;
    client.finish_sending().await;
    let mut conn = app.accept().await;
    conn.head().await;
    conn.send(OK).await;
    assert_eq!(client.rest().await, OK.as_bytes());
}

#[tokio::test]
async fn silence_of_the_application_is_502_and_never_a_second_post() {
    let (bench, app) = Bench::with_app().await;
    for (request, again) in
        [(GET, true), ("POST / HTTP/1.1\r\nHost: app.localhost\r\nContent-Length: 1\r\n\r\nx", false)]
    {
        // On a fresh connection: 502 at once.
        let mut client = bench.client().await;
        client.send(request).await;
        let mut conn = app.accept().await;
        conn.head().await;
        drop(conn);
        let answer = client.message().await;
        assert_eq!(answer.status(), 502, "{answer:?}");
        assert!(answer.text().contains("app.localhost closed the connection"), "{answer:?}");
        // On a kept one, closed while the request was on its way: once more, if that is harmless.
        client.send(GET).await;
        let mut conn = app.accept().await;
        conn.head().await;
        conn.send(OK).await;
        client.message().await;
        client.send(request).await;
        conn.head().await;
        drop(conn);
        if again {
            let mut conn = app.accept().await;
            conn.head().await;
            conn.send(OK).await;
            assert_eq!(client.message().await.status(), 200);
            drop(conn);
        } else {
            assert_eq!(client.message().await.status(), 502);
        }
    }
    assert_eq!(bench.metrics.retries.get(), 1);
}

#[tokio::test]
async fn a_kept_connection_closed_meanwhile_is_never_noticed() {
    let (bench, app) = Bench::with_app().await;
    let mut client = bench.client().await;
    for _ in 0..3 {
        client.send("POST / HTTP/1.1\r\nHost: app.localhost\r\nContent-Length: 1\r\n\r\nx").await;
        let mut conn = app.accept().await;
        conn.head().await;
        conn.exactly(1).await;
        conn.send(OK).await;
        // Closed right behind the answer, without a word.
        drop(conn);
        assert_eq!(client.message().await.status(), 200);
    }
}

#[tokio::test]
async fn an_application_that_dies_within_the_body_is_seen() {
    let (bench, app) = Bench::with_app().await;
    for (framing, piece) in [
        ("Content-Length: 100", "abc"),
        ("Transfer-Encoding: chunked", "5\r\nabc"),
        ("Transfer-Encoding: chunked", "3\r\nabc\r\n"),
    ] {
        let mut client = bench.client().await;
        client.send(GET).await;
        let mut conn = app.accept().await;
        conn.head().await;
        conn.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{piece}")).await;
        client.until("abc").await;
        drop(conn);
        let rest = client.rest().await;
        assert!(!rest.ends_with(b"0\r\n\r\n"), "{rest:?}");
    }
}

#[tokio::test]
async fn garbage_is_502() {
    let (bench, app) = Bench::with_app().await;
    for garbage in [
        "SSH-2.0-OpenSSH\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 20",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense",
    ] {
        let mut client = bench.client().await;
        client.send(GET).await;
        let mut conn = app.accept().await;
        conn.head().await;
        conn.send(garbage).await;
        drop(conn);
        assert_eq!(client.message().await.status(), 502, "{garbage}");
    }
}

#[tokio::test]
async fn replicas_take_turns_and_one_that_refuses_is_passed_over() {
    let mut bench = Bench::new().await;
    let (one, two) = (bench.app("one"), bench.app("two"));
    let upstreams = ["one", "two", "stale", "missing"].map(|name| bench.upstream(name));
    drop(bench.app("stale"));
    bench.set(vec![entry("app.localhost", upstreams.to_vec())]);
    let mut served = [0, 0];
    for _ in 0..8 {
        let mut client = bench.client().await;
        client.send("GET / HTTP/1.1\r\nHost: app.localhost\r\nConnection: close\r\n\r\n").await;
        let (index, mut conn) =
            tokio::select! { conn = one.accept() => (0, conn), conn = two.accept() => (1, conn) };
        served[index] += 1;
        conn.head().await;
        conn.send("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        assert!(client.rest().await.starts_with(b"HTTP/1.1 200"));
    }
    assert!(served[0] >= 3 && served[1] >= 3, "{served:?}");
    let mut refused = Vec::new();
    while refused.len() < 2 {
        let event = bench.event_rx.recv().await.unwrap();
        // What the others speak is told as well.
        if matches!(event, agentfs_router::RouterEvent::UpstreamRefused { .. }) {
            refused.push(event);
        }
    }
    for name in ["stale", "missing"] {
        let event = agentfs_router::RouterEvent::UpstreamRefused { socket: bench.path(name) };
        assert!(refused.contains(&event), "{refused:?}");
    }
}

#[tokio::test]
async fn loops_end_with_508() {
    let bench = Bench::new().await;
    let upstream = agentfs_router::Upstream::new(
        agentfs_router::Target::Tcp(bench.address),
        "app".to_owned(),
        "main".to_owned(),
        0,
    );
    bench.set(vec![entry("app.localhost", vec![std::sync::Arc::new(upstream)])]);
    assert_eq!(bench.status("GET / HTTP/1.1\r\nHost: app.localhost\r\nConnection: close\r\n\r\n").await, 508);
    assert_eq!(bench.metrics.connects.get(), 5);
    let upgrade =
        "GET / HTTP/1.1\r\nHost: app.localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let mut client = bench.client().await;
    client.send(upgrade).await;
    assert_eq!(client.message().await.status(), 508);
}

/// A greeting of another protocol, behind which nothing comes: nobody waits for the rest of its head.
#[tokio::test]
async fn an_application_that_speaks_another_protocol_is_502_at_once() {
    let (bench, app) = Bench::with_app().await;
    for greeting in [
        "220 mail ready\r\n",
        "SSH-2.0-OpenSSH\r\n",
        "\x15\x03\x01\0\x02\x02\x46",
        "H\n",
        "\0\0\0\0\0\0\0\0\0",
    ] {
        let mut client = bench.client().await;
        client.send(GET).await;
        let mut conn = app.accept().await;
        conn.head().await;
        conn.send(greeting).await;
        let message = client.message().await;
        assert_eq!(message.status(), 502, "{greeting:?}");
        assert!(message.text().contains("malformed status line"), "{}", message.text());
        // It was open all the time.
        drop(conn);
    }
}
