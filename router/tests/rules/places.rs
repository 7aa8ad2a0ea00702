//! How many clients there may be, and who makes room.
use super::harness::{App, Bench, Conn, entry, soon};
use super::http2::{connect, get, send};
use agentfs_router::{Entry, Listeners};
use std::sync::Arc;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

const GET: &str = "GET / HTTP/1.1\r\nHost: app.localhost\r\n\r\n";
const PAGE: &str = "GET / HTTP/1.1\r\nHost: nothing.localhost\r\n\r\n";

async fn bench(clients: usize) -> (Bench, App) {
    let bench = Bench::listening(Listeners { clients: Some(clients), ..Listeners::default() }).await;
    let app = bench.app("app");
    bench.set(vec![entry("app.localhost", vec![bench.upstream("app")])]);
    (bench, app)
}

/// A client whose first request was answered, so that it rests.
async fn resting(bench: &Bench) -> Conn<TcpStream> {
    let mut client = bench.client().await;
    client.send(PAGE).await;
    assert_eq!(client.message().await.status(), 404);
    client
}

async fn ended(client: &mut Conn<TcpStream>) -> bool {
    soon("end", client.stream.read_buf(&mut client.buffer)).await.unwrap_or(0) == 0
}

#[tokio::test(start_paused = true)]
async fn the_client_that_rested_longest_makes_room() {
    let (bench, app) = bench(3).await;
    let mut first = resting(&bench).await;
    let mut second = resting(&bench).await;
    // It waits for its answer: it does not rest.
    let mut busy = bench.client().await;
    busy.send(GET).await;
    let mut conn = app.accept().await;
    conn.head().await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    first.send(PAGE).await;
    first.message().await;
    let mut fourth = resting(&bench).await;
    assert!(ended(&mut second).await);
    assert_eq!(bench.metrics.let_go.get(), 1);
    // Also one that has not said anything yet may have to go.
    let mut silent = bench.client().await;
    assert!(ended(&mut first).await);
    let mut sixth = resting(&bench).await;
    assert!(ended(&mut fourth).await);
    let mut seventh = resting(&bench).await;
    assert!(ended(&mut silent).await || ended(&mut sixth).await);
    conn.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(busy.message().await.text(), "ok");
    seventh.send(PAGE).await;
    assert_eq!(seventh.message().await.status(), 404);
    assert_eq!(bench.metrics.turned_away.get(), 0);
}

/// One whose first request is looked at before it is read rests until then.
#[tokio::test(start_paused = true)]
async fn a_silent_client_makes_room_where_connections_are_handed_over() {
    let (bench, app) = bench(2).await;
    let handed =
        Entry { handoff: Some(Arc::default()), ..entry("app.localhost", vec![bench.upstream("app")]) };
    bench.set(vec![handed]);
    let mut busy = bench.client().await;
    busy.send(PAGE.trim_end()).await;
    let mut silent = bench.client().await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    drop(resting(&bench).await);
    assert!(ended(&mut silent).await);
    // A part of a head is no rest.
    busy.send("\r\n\r\n").await;
    assert_eq!(busy.message().await.status(), 404);
    assert_eq!((bench.metrics.let_go.get(), bench.metrics.turned_away.get()), (1, 0));
    drop(app);
}

#[tokio::test(start_paused = true)]
async fn where_nobody_rests_a_new_client_is_told_to_come_later() {
    let (bench, app) = bench(2).await;
    let mut busy = Vec::new();
    for _ in 0..2 {
        let mut client = bench.client().await;
        client.send(GET).await;
        let mut conn = app.accept().await;
        conn.head().await;
        busy.push((client, conn));
    }
    for _ in 0..3 {
        let mut client = bench.client().await;
        client.send(GET).await;
        let answer = client.message().await;
        assert_eq!((answer.status(), answer.header("retry-after")), (503, Some("2")));
        assert_eq!(answer.header("connection"), Some("close"));
        assert!(client.rest().await.is_empty());
    }
    assert_eq!((bench.metrics.turned_away.get(), bench.metrics.let_go.get()), (3, 0));
    assert!(app.is_alone().await);
    for (client, conn) in &mut busy {
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        assert_eq!(client.message().await.text(), "ok");
    }
    // They rest by now, and the router looks again after a moment.
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    drop(resting(&bench).await);
    let text =
        bench.ask("GET /metrics HTTP/1.1\r\nHost: agentfs.localhost\r\nConnection: close\r\n\r\n").await;
    assert!(text.contains("agentfs_router_connections_turned_away_total 3\n"), "{text}");
}

/// An upgraded connection is never let go, nor one with a stream of HTTP/2.
#[tokio::test(start_paused = true)]
async fn clients_with_something_open_stay() {
    let (bench, app) = bench(2).await;
    let mut socket = bench.client().await;
    socket
        .send("GET / HTTP/1.1\r\nHost: app.localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        .await;
    let mut conn = app.accept().await;
    conn.head().await;
    conn.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await;
    socket.head().await;
    let mut client = connect(&bench).await;
    let asked = tokio::spawn(async move {
        let response = send(&mut client, get("/")).await;
        (client, response)
    });
    let mut streaming = app.accept().await;
    streaming.head().await;
    // Longer than an idle connection of HTTP/2 is let be.
    tokio::time::sleep(std::time::Duration::from_secs(150)).await;
    assert_eq!(bench.status(PAGE).await, 503);
    streaming.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let (client, response) = asked.await.unwrap();
    assert_eq!(response.status(), 200);
    // Some time after its last stream it rests.
    tokio::time::sleep(std::time::Duration::from_secs(40)).await;
    drop(resting(&bench).await);
    assert_eq!(bench.metrics.let_go.get(), 1);
    drop(client);
    socket.send("ping").await;
    assert_eq!(conn.exactly(4).await, b"ping");
}
