//! Long bodies, early answers, events as they happen, and stopping.
use super::harness::{Bench, soon};
use tokio::io::AsyncReadExt;

const MANY: usize = 20 * 1024 * 1024;

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index / 7 % 251).to_le_bytes()[0]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_megabytes_pass_both_ways_at_once() {
    let (bench, app) = Bench::with_app().await;
    let bytes = pattern(MANY);
    let mut client = bench.client().await;
    client.send(format!("POST / HTTP/1.1\r\nHost: app.localhost\r\nContent-Length: {MANY}\r\n\r\n")).await;
    let mut conn = app.accept().await;
    conn.head().await;
    conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    client.head().await;
    let expected = bytes.clone();
    let echo = tokio::spawn(async move {
        let mut left = MANY;
        let mut buffer = vec![0; 100_000];
        while left > 0 {
            let count = soon("read", conn.stream.read(&mut buffer)).await.unwrap();
            assert!(count > 0);
            left -= count;
            conn.send(format!("{count:x}\r\n")).await;
            conn.send(&buffer[..count]).await;
            conn.send("\r\n").await;
        }
        conn.send("0\r\n\r\n").await;
        conn
    });
    let (mut read, mut write) = client.stream.into_split();
    let sender = tokio::spawn(async move {
        tokio::io::AsyncWriteExt::write_all(&mut write, &bytes).await.unwrap();
        write
    });
    let mut received = Vec::new();
    while !received.ends_with(b"\r\n0\r\n\r\n") {
        assert!(soon("read", read.read_buf(&mut received)).await.unwrap() > 0);
    }
    let mut data = Vec::with_capacity(MANY);
    let mut rest = received.as_slice();
    loop {
        let end = rest.windows(2).position(|pair| pair == b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            break;
        }
        data.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 4 + size..];
    }
    assert!(data == expected);
    sender.await.unwrap();
    echo.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_of_known_length_arrives_whole() {
    let (bench, app) = Bench::with_app().await;
    let mut client = bench.client().await;
    client.send("GET / HTTP/1.1\r\nHost: app.localhost\r\n\r\n").await;
    let bytes = pattern(MANY);
    let sent = bytes.clone();
    let serve = tokio::spawn(async move {
        let mut conn = app.accept().await;
        conn.head().await;
        conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {MANY}\r\n\r\n")).await;
        conn.send(sent).await;
        conn
    });
    let message = client.message().await;
    assert!(message.body == bytes);
    serve.await.unwrap();
}

#[tokio::test]
async fn an_early_answer_passes_while_the_body_is_coming() {
    let (bench, app) = Bench::with_app().await;
    let mut client = bench.client().await;
    client.send(format!("POST / HTTP/1.1\r\nHost: app.localhost\r\nContent-Length: {MANY}\r\n\r\n")).await;
    client.send(vec![b'x'; 100_000]).await;
    let mut conn = app.accept().await;
    conn.head().await;
    conn.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\n\r\nlong").await;
    drop(conn);
    // The client goes on for a while, as clients do.
    for _ in 0..10 {
        if client.try_send(vec![b'x'; 10_000]).await.is_err() {
            break;
        }
    }
    let answer = client.message().await;
    assert_eq!((answer.status(), answer.text().as_str()), (413, "long"));
    assert_eq!(answer.header("connection"), Some("close"));
}

#[tokio::test]
async fn events_arrive_one_by_one() {
    let (bench, app) = Bench::with_app().await;
    let mut client = bench.client().await;
    client.send("GET / HTTP/1.1\r\nHost: app.localhost\r\n\r\n").await;
    let mut conn = app.accept().await;
    conn.head().await;
    conn.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n").await;
    client.head().await;
    for number in 0..10 {
        conn.send(format!("data: {number}\n\n")).await;
        client.until(format!("data: {number}\n\n\r\n")).await;
    }
    // A client that leaves is noticed at the next event.
    drop(client);
    let gone = async {
        while conn.try_send("data: more\n\n").await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    soon("end of stream", gone).await;
}

#[tokio::test]
async fn requests_in_progress_end_before_the_router_does() {
    let (bench, app) = Bench::with_app().await;
    let mut idle = bench.client().await;
    let mut client = bench.client().await;
    client.send("GET / HTTP/1.1\r\nHost: app.localhost\r\n\r\n").await;
    let mut conn = app.accept().await;
    conn.head().await;
    let stop = tokio::spawn(bench.stop());
    tokio::task::yield_now().await;
    conn.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(client.message().await.text(), "ok");
    assert!(client.rest().await.is_empty());
    assert!(idle.rest().await.is_empty());
    stop.await.unwrap();
}
