//! Connections that are handed into the application, as far as the router alone decides about them.
use super::harness::{Bench, entry, soon};
use agentfs_handoff::{Families, Handoff, Offer};
use agentfs_router::Entry;
use std::sync::Arc;
use tokio::net::TcpListener;

const GET: &str = "GET / HTTP/1.1\r\nHost: app.localhost\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A name that the library gives to listeners.
const NAME: &str = "shop-main.8080";

/// A router that would hand connections on `app.localhost` over.
async fn bench(handoff: &Arc<Handoff>) -> Bench {
    let bench = Bench::with_handoff(Arc::clone(handoff)).await;
    let handed =
        Entry { handoff: Some(Arc::default()), ..entry("app.localhost", vec![bench.upstream(NAME)]) };
    bench.set(vec![handed]);
    bench
}

/// What others found out about a listener is known to the router.
#[tokio::test]
async fn a_listener_that_takes_no_connections_is_asked_once() {
    let handoff = Arc::<Handoff>::default();
    let bench = bench(&handoff).await;
    let app = bench.app(NAME);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let _client = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, address) = listener.accept().await.unwrap();
    // It accepts and never greets: its accepts go past the library.
    let path = bench.path(NAME);
    let offer = handoff.offer(&path, &stream, address, Families::Exact);
    let (offer, carrier) = tokio::join!(soon("offer", offer), app.accept());
    assert!(matches!(offer, Offer::Left { sent: false }), "{offer:?}");
    drop(carrier);
    let mut client = bench.client().await;
    client.send(GET).await;
    let mut conn = app.accept().await;
    assert!(conn.head().await.starts_with("GET / HTTP/1.1\r\n"));
    conn.send(OK).await;
    assert_eq!(client.message().await.text(), "ok");
}

/// "Every new connection holds no buffer before its first byte."
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_silent_connection_holds_no_buffer() {
    const COUNT: usize = 400;
    // Memory that the process has asked for, in kilobytes.
    let data = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmData:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap()
    };
    let bench = bench(&Arc::default()).await;
    let before = data();
    let mut clients = Vec::new();
    for _ in 0..COUNT {
        clients.push(bench.client().await);
    }
    soon("accepts", async {
        while bench.metrics.open_connections.get() < COUNT as u64 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let grown = data().saturating_sub(before);
    assert!(grown / COUNT < 12, "{grown} KB for {COUNT} connections");
}
