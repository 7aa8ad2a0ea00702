//! WebSocket and other protocols behind `101`.
use super::harness::{Bench, entry};

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: app.localhost\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Key: k\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";

#[tokio::test]
async fn bytes_pass_both_ways_and_each_end_alone() {
    let (bench, app) = Bench::with_app().await;
    let mut client = bench.client().await;
    // Bytes right behind the head belong to the new protocol.
    client.send(format!("{UPGRADE}early")).await;
    let mut conn = app.accept().await;
    let head = conn.head().await;
    assert!(head.contains("Upgrade: websocket\r\n") && head.contains("Connection: Upgrade\r\n"), "{head}");
    conn.send(format!("{SWITCH}first")).await;
    assert_eq!(client.head().await, SWITCH);
    assert_eq!(client.exactly(5).await, b"first");
    assert_eq!(conn.exactly(5).await, b"early");
    for _ in 0..10 {
        client.send("ping").await;
        assert_eq!(conn.exactly(4).await, b"ping");
        conn.send(vec![b'p'; 100_000]).await;
        assert_eq!(client.exactly(100_000).await, vec![b'p'; 100_000]);
    }
    client.finish_sending().await;
    assert!(conn.rest().await.is_empty());
    conn.send("last words").await;
    drop(conn);
    assert_eq!(client.rest().await, b"last words");
    assert_eq!(bench.metrics.upgrades.get(), 1);
}

#[tokio::test]
async fn refused_upgrades_are_answers() {
    let (bench, app) = Bench::with_app().await;
    let mut client = bench.client().await;
    client.send(UPGRADE).await;
    let mut conn = app.accept().await;
    conn.head().await;
    conn.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").await;
    assert_eq!(client.message().await.status(), 403);
    // The connection goes on.
    client.send(UPGRADE).await;
    conn.head().await;
    conn.send(
        "HTTP/1.1 426 Upgrade Required\r\nUpgrade: chat\r\nConnection: Upgrade\r\nContent-Length: 0\r\n\r\n",
    )
    .await;
    assert!(client.head().await.contains("Upgrade: chat\r\n"));
    client.send(UPGRADE).await;
    conn.head().await;
    conn.send("garbage\r\n\r\n").await;
    assert_eq!(client.message().await.status(), 502);
}

#[tokio::test]
async fn upgrades_to_nowhere() {
    let (bench, _app) = Bench::with_app().await;
    bench.set(vec![
        entry("gone.localhost", Vec::new()),
        entry("stale.localhost", vec![bench.upstream("stale")]),
    ]);
    for (host, status) in [("nothing.localhost", 404), ("gone.localhost", 502), ("stale.localhost", 502)] {
        let mut client = bench.client().await;
        client.send(UPGRADE.replace("app.localhost", host)).await;
        assert_eq!(client.message().await.status(), status, "{host}");
    }
}

#[tokio::test]
async fn h2c_is_not_offered_to_the_application() {
    let (bench, app) = Bench::with_app().await;
    let mut client = bench.client().await;
    client.send("GET / HTTP/1.1\r\nHost: app.localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n\r\n").await;
    let mut conn = app.accept().await;
    let head = conn.head().await;
    assert!(!head.contains("h2c") && !head.contains("HTTP2") && !head.contains("Connection"), "{head}");
    conn.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(client.message().await.status(), 200);
}
