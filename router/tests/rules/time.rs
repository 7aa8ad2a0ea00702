//! Limits of time. The clock is paused: it jumps to the next timer whenever nothing else happens.
use super::harness::Bench;
use tokio::time::{Duration, Instant};

const GET: &str = "GET / HTTP/1.1\r\nHost: app.localhost\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[tokio::test(start_paused = true)]
async fn silent_and_dripping_clients_are_let_go() {
    let bench = Bench::new().await;
    let start = Instant::now();
    let mut silent = bench.client().await;
    assert!(silent.rest().await.is_empty());
    assert!((10..=30).contains(&start.elapsed().as_secs()));

    let start = Instant::now();
    let mut dripping = bench.client().await;
    let drip = async {
        for byte in "GET / HTTP/1.1\r\nHost: app.localhost\r\nX: ".bytes().cycle() {
            if dripping.try_send([byte]).await.is_err() || start.elapsed() > Duration::from_secs(16) {
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        String::from_utf8(dripping.rest().await).unwrap()
    };
    let answer = drip.await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn idle_connections_live_for_65_seconds_and_not_for_ever() {
    let (bench, app) = Bench::with_app().await;
    let mut client = bench.client().await;
    client.send(GET).await;
    let mut conn = app.accept().await;
    conn.head().await;
    conn.send(OK).await;
    client.exactly(OK.len()).await;
    tokio::time::sleep(Duration::from_secs(70)).await;
    client.send(GET).await;
    // The application's connection was closed meanwhile: it had been idle for too long.
    let mut conn = app.accept().await;
    conn.head().await;
    conn.send(OK).await;
    client.exactly(OK.len()).await;
    let start = Instant::now();
    let end = tokio::time::timeout(
        Duration::from_secs(1000),
        tokio::io::AsyncReadExt::read(&mut client.stream, &mut [0]),
    )
    .await;
    assert!(matches!(end, Ok(Ok(0))), "{end:?}");
    assert!(start.elapsed().as_secs() >= 65);
}

#[tokio::test(start_paused = true)]
async fn uploads_streams_and_tunnels_may_pause() {
    let (bench, app) = Bench::with_app().await;
    let pause = || tokio::time::sleep(Duration::from_secs(300));
    let mut client = bench.client().await;
    client.send("POST / HTTP/1.1\r\nHost: app.localhost\r\nContent-Length: 2\r\n\r\na").await;
    let mut conn = app.accept().await;
    conn.until("a").await;
    pause().await;
    client.send("b").await;
    conn.until("b").await;
    pause().await;
    conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    client.head().await;
    pause().await;
    conn.send("1\r\nx\r\n0\r\n\r\n").await;
    assert_eq!(client.until("0\r\n\r\n").await, b"1\r\nx\r\n0\r\n\r\n");
    client.send("GET / HTTP/1.1\r\nHost: app.localhost\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n").await;
    conn.head().await;
    conn.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n").await;
    client.head().await;
    pause().await;
    client.send("x").await;
    assert_eq!(conn.exactly(1).await, b"x");
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_never_goes_on_ends() {
    let (bench, app) = Bench::with_app().await;
    let mut client = bench.client().await;
    client.send("POST / HTTP/1.1\r\nHost: app.localhost\r\nContent-Length: 2\r\n\r\na").await;
    let _conn = app.accept().await;
    tokio::time::sleep(Duration::from_secs(700)).await;
    assert_eq!(client.message().await.status(), 408);
}

#[cfg(target_os = "linux")]
#[tokio::test(start_paused = true)]
async fn a_client_that_left_does_not_hold_the_application() {
    let (bench, app) = Bench::with_app().await;
    let mut client = bench.client().await;
    client.send(GET).await;
    let mut conn = app.accept().await;
    conn.head().await;
    conn.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n").await;
    client.head().await;
    drop(client);
    // Nothing is written any more, and yet the connection ends.
    assert!(conn.rest().await.is_empty());
}
