//! Which of several listeners gets a request.
use super::harness::{App, Bench, Conn, soon};
use super::http2;
use agentfs_wire::control::Policy;
use tokio::net::{TcpStream, UnixStream};

const GET: &str = "GET / HTTP/1.1\r\nHost: app.localhost\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const UPGRADE: &str =
    "GET / HTTP/1.1\r\nHost: app.localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const SWITCHED: &str = "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

/// Which of two applications gets the next connection, and that connection.
async fn chosen(apps: &[App; 2]) -> (usize, Conn<UnixStream>) {
    tokio::select! {
        conn = apps[0].accept() => (0, conn),
        conn = apps[1].accept() => (1, conn),
    }
}

/// Asks for something; the application that got it has not answered.
async fn begin(bench: &Bench, apps: &[App; 2], request: &str) -> (usize, Conn<UnixStream>, Conn<TcpStream>) {
    let mut client = bench.client().await;
    client.send(request).await;
    let (index, mut conn) = chosen(apps).await;
    conn.head().await;
    (index, conn, client)
}

#[tokio::test]
async fn round_robin_asks_each_in_turn() {
    let (bench, apps) = Bench::with_replicas(Policy::RoundRobin, ["one", "two"]).await;
    let mut order = Vec::new();
    for _ in 0..4 {
        let (index, mut conn, mut client) = begin(&bench, &apps, GET).await;
        conn.send(OK).await;
        assert_eq!(client.message().await.status(), 200);
        order.push(index);
    }
    assert!(order == [0, 1, 0, 1] || order == [1, 0, 1, 0], "{order:?}");
}

#[tokio::test]
async fn the_first_gets_all_while_it_answers() {
    let (bench, apps) = Bench::with_replicas(Policy::First, ["one", "two"]).await;
    for _ in 0..3 {
        let (index, mut conn, mut client) = begin(&bench, &apps, GET).await;
        assert_eq!(index, 0);
        conn.send(OK).await;
        assert_eq!(client.message().await.status(), 200);
    }
    let [first, second] = apps;
    drop(first);
    for _ in 0..2 {
        let mut client = bench.client().await;
        client.send(GET).await;
        let mut conn = second.accept().await;
        conn.head().await;
        conn.send(OK).await;
        assert_eq!(client.message().await.status(), 200);
    }
}

#[tokio::test]
async fn the_least_busy_is_asked() {
    let (bench, apps) = Bench::with_replicas(Policy::LeastConnections, ["one", "two"]).await;
    // An upgraded connection counts as long as it lives.
    let (busy, mut tunnel, mut client) = begin(&bench, &apps, UPGRADE).await;
    tunnel.send(SWITCHED).await;
    client.head().await;
    for _ in 0..3 {
        let (index, mut conn, mut client) = begin(&bench, &apps, GET).await;
        assert_eq!(index, 1 - busy);
        conn.send(OK).await;
        assert_eq!(client.message().await.status(), 200);
    }
    // Two at the other one outweigh it.
    let (second, first_conn, _first) = begin(&bench, &apps, GET).await;
    let (third, second_conn, _second) = begin(&bench, &apps, GET).await;
    assert_ne!(second, busy);
    let (fourth, third_conn, _third) = begin(&bench, &apps, GET).await;
    let at_busy = [second, third, fourth].iter().filter(|index| **index == busy).count();
    assert_eq!(at_busy, 1, "one more at each, then either");
    drop((tunnel, first_conn, second_conn, third_conn));
}

/// A request that waits in the queue of a listener which ends: the other replica has it, and nobody sees anything.
#[tokio::test]
async fn what_a_dying_replica_did_not_read_goes_to_another() {
    for over_http2 in [false, true] {
        let (bench, [dying, other]) = Bench::with_replicas(Policy::First, ["one", "two"]).await;
        let asked = if over_http2 {
            let mut client = http2::connect(&bench).await;
            tokio::spawn(async move { http2::send(&mut client, http2::get("/")).await.status().as_u16() })
        } else {
            let mut client = bench.client().await;
            tokio::spawn(async move {
                client.send(GET).await;
                client.message().await.status()
            })
        };
        soon("connection", async {
            while bench.metrics.connects.get() == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        drop(dying);
        let mut conn = other.accept().await;
        conn.head().await;
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        assert_eq!(soon("answer", asked).await.unwrap(), 200, "{over_http2}");
    }
}

/// As a killed process does it: what it accepted ends before its listener.
#[tokio::test]
async fn a_replica_that_is_about_to_end_is_seen_through() {
    let (bench, [dying, other]) = Bench::with_replicas(Policy::First, ["one", "two"]).await;
    let mut client = bench.client().await;
    client.send(GET).await;
    drop(dying.accept().await);
    // The look whether it lives finds it listening.
    let look = dying.accept().await;
    drop(dying);
    drop(look);
    let mut conn = other.accept().await;
    conn.head().await;
    conn.send(OK).await;
    assert_eq!(client.message().await.status(), 200);
}

/// One that lives and hangs up without reading is not asked twice.
#[tokio::test]
async fn a_replica_that_hangs_up_unread_is_502() {
    let (bench, [one, other]) = Bench::with_replicas(Policy::First, ["one", "two"]).await;
    let hang_up = async {
        drop(one.accept().await);
        // Whether it lives is looked at; nothing is asked.
        assert!(one.accept().await.rest().await.is_empty());
    };
    let mut client = bench.client().await;
    client.send(GET).await;
    let (message, ()) = tokio::join!(client.message(), hang_up);
    assert_eq!(message.status(), 502);
    assert!(other.is_alone().await);
}
