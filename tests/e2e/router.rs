//! What the router must do beyond a plain GET: stream, upgrade, name what is missing.
use agentfs_tests::http::{Exchange, get};
use agentfs_tests::wait::until;
use agentfs_tests::{Home, Process, artifact};
use std::io::{Read, Write};

fn start(home: &Home) -> Process<'_> {
    let running = home.wrap("shop", "one", &artifact::python("stream_server.py")).spawn();
    home.listener("shop", "one", 8080);
    running
}

#[test]
fn an_event_stream_is_not_held_back() {
    let home = Home::new();
    let _running = start(&home);
    let port = home.router_port();
    let mut events = Exchange::send(port, "GET", "one.shop.localhost", "/events", "", b"").unwrap();
    let head = events.head().unwrap();
    assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
    let mut seen = String::new();
    for number in 0..3 {
        // The next event is sent only once this one was acknowledged, so it must arrive by itself.
        while !seen.contains(&format!("data: {number}\n\n")) {
            let mut part = [0; 256];
            let got = events.reader.read(&mut part).unwrap();
            assert!(got > 0, "the stream ended after {seen:?}");
            seen.push_str(&String::from_utf8_lossy(&part[..got]));
        }
        let more = "Content-Length: 0\r\nConnection: close\r\n";
        let ack =
            Exchange::send(port, "POST", "one.shop.localhost", "/ack", more, b"").unwrap().answer().unwrap();
        assert_eq!(ack.body, "acknowledged");
    }
}

#[test]
fn a_websocket_upgrade_passes_bytes_both_ways() {
    let home = Home::new();
    let _running = start(&home);
    let more = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let mut socket =
        Exchange::send(home.router_port(), "GET", "one.shop.localhost", "/websocket", more, b"").unwrap();
    let head = socket.head().unwrap();
    assert_eq!((head.status, head.header("upgrade")), (101, Some("websocket")));
    for message in [&b"hello"[..], &[0, 1, 2, 255]] {
        socket.reader.get_mut().write_all(message).unwrap();
        let mut echo = vec![0; message.len()];
        socket.reader.read_exact(&mut echo).unwrap();
        assert_eq!(echo, message);
    }
}

#[test]
fn request_bodies_pass_with_a_length_and_in_chunks() {
    let home = Home::new();
    let _running = start(&home);
    let port = home.router_port();
    let large = "x".repeat(1 << 20);
    let more = format!("Content-Length: {}\r\nConnection: close\r\n", large.len());
    let answer = Exchange::send(port, "POST", "one.shop.localhost", "/echo", &more, large.as_bytes());
    assert_eq!(answer.unwrap().answer().unwrap().body.len(), large.len());
    let more = "Transfer-Encoding: chunked\r\nConnection: close\r\n";
    let body = b"5\r\nhello\r\n7\r\n, world\r\n0\r\n\r\n";
    let answer =
        Exchange::send(port, "POST", "one.shop.localhost", "/echo", more, body).unwrap().answer().unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, "hello, world"));
}

#[test]
fn many_requests_use_one_connection() {
    let home = Home::new();
    let _running = start(&home);
    let mut exchange =
        Exchange::send(home.router_port(), "GET", "one.shop.localhost", "/nothing", "", b"").unwrap();
    for _ in 0..3 {
        let answer = exchange.answer().unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (404, "no such page"));
        exchange
            .reader
            .get_mut()
            .write_all(b"GET /nothing HTTP/1.1\r\nHost: one.shop.localhost\r\n\r\n")
            .unwrap();
    }
    assert_eq!(exchange.answer().unwrap().status, 404);
}

#[test]
fn an_unknown_name_is_404_and_says_what_there_is() {
    let home = Home::new();
    let _running = start(&home);
    for host in ["other.localhost", "two.shop.localhost", "9999.shop.localhost"] {
        let answer = home.get(host);
        assert_eq!(answer.status, 404, "{host}: {answer:?}");
        assert!(answer.body.contains("one.shop.localhost"), "{host}: {answer:?}");
    }
}

#[test]
fn what_is_not_http_gets_an_answer_and_harms_nobody() {
    let home = Home::new();
    let _running = start(&home);
    let port = home.router_port();
    for garbage in
        [&b"\x16\x03\x01\x02\x00garbage\r\n\r\n"[..], b"GET\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", &[0; 4096]]
    {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(garbage).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        // A reset is as good an end as an answer.
        let _ = stream.read_to_end(&mut answer);
        assert!(
            answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"),
            "{:?}",
            String::from_utf8_lossy(&answer)
        );
    }
    assert_eq!(home.get("one.shop.localhost").status, 404, "the app's own 404");
}

/// "A limit of connections, below what the control socket and upstreams need": with few descriptors and many clients that
/// want something, those that there is room for are served, the others are told so, and commands still work.
#[test]
fn the_control_socket_works_when_all_places_are_taken() {
    let home = Home::new();
    start_with_few_descriptors(&home);
    let _running = start(&home);
    let port = home.router_port();
    let more = "Accept: text/event-stream\r\n";
    let mut served = Vec::new();
    let mut refused = 0;
    for _ in 0..120 {
        let mut events = Exchange::send(port, "GET", "one.shop.localhost", "/events", more, b"").unwrap();
        let head = events.head().unwrap();
        match head.status {
            200 => served.push(events),
            503 => {
                assert_eq!(
                    (head.header("retry-after"), head.header("connection")),
                    (Some("2"), Some("close"))
                );
                refused += 1;
            }
            _ => panic!("{head:?}"),
        }
    }
    assert_eq!((served.len(), refused), (50, 70));
    assert!(home.agentfs(&["ps"]).text().contains("shop"));
    let _ = home.wrap("other", "one", &["true"]).output().success();
    // Whoever goes leaves a place.
    drop(served);
    until("a place", || (get(port, "one.shop.localhost", "/nothing").ok()?.status == 404).then_some(()));
}

fn start_with_few_descriptors(home: &Home) {
    let script = "ulimit -n 150 && exec \"$0\" daemon start";
    let _ = home.program("sh").args(["-c", script, home.agentfs_path().to_str().unwrap()]).output().success();
}

/// Asks for 120 event streams over one connection of HTTP/2, says how many answers of each status there were, and lets
/// its streams go when it is told to.
const MANY_STREAMS: &str = r#"
const [port] = process.argv.slice(1);
const session = require('http2').connect(`http://127.0.0.1:${port}`);
const counts = {};
let answers = 0;
for (let index = 0; index < 120; index++) {
    const stream = session.request({ ':path': '/events', ':authority': 'one.shop.localhost' });
    stream.on('response', headers => {
        counts[headers[':status']] = (counts[headers[':status']] || 0) + 1;
        if (++answers === 120) console.log(JSON.stringify(counts));
    });
    stream.resume();
}
process.stdin.on('data', () => session.destroy()).on('end', () => process.exit());
"#;

/// The same for one client with many requests, each of which needs a connection to the listener.
#[test]
fn the_control_socket_works_when_one_client_asks_for_all_connections() {
    let home = Home::new();
    start_with_few_descriptors(&home);
    let _running = start(&home);
    let port = home.router_port();
    let mut client = home.program("node").args(["-e", MANY_STREAMS, &port.to_string()]).open_input().spawn();
    client.wait_for("}");
    assert_eq!(client.stdout().trim(), r#"{"200":50,"503":70}"#);
    assert!(home.agentfs(&["ps"]).text().contains("shop"));
    client.write(b"x");
    until("a connection", || (get(port, "one.shop.localhost", "/nothing").ok()?.status == 404).then_some(()));
}
