//! `agentfs route … --handoff`: the first request of a connection brings the connection along, as it is; whatever
//! cannot be handed over goes through the router, and nothing is lost or comes twice.
use agentfs_tests::wait::{DEADLINE, until};
use agentfs_tests::{Home, Process};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

const PORT: u16 = 8080;
const HOST: &str = "shop.localhost";

/// Answers each request with a line `PEER OWN LENGTH-OF-BODY SUM-OF-BODY`, then with the head as it came. After
/// `Upgrade: echo`, gives back what it gets, and ends with `end`.
pub(super) const RAW: &str = concat!(
    kernel!(),
    r#"
import os, socket, sys, threading
address, how = sys.argv[1], sys.argv[2]
def address_of(pair):
    return "%s:%d" % (pair[0].replace("::ffff:", ""), pair[1])
def serve(connection):
    peer, own = address_of(connection.getpeername()), address_of(connection.getsockname())
    data = b""
    while True:
        while b"\r\n\r\n" not in data:
            more = connection.recv(65536)
            if not more:
                return connection.close()
            data += more
        head, data = data.split(b"\r\n\r\n", 1)
        lines = head.decode().split("\r\n")
        fields = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines[1:])}
        if fields.get("upgrade") == "echo":
            connection.sendall(b"HTTP/1.1 101 Switching\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n")
            connection.sendall(peer.encode() + b"\n" + data)
            while data := connection.recv(65536):
                connection.sendall(data)
            connection.sendall(b"end")
            return connection.close()
        length = int(fields.get("content-length", 0))
        while len(data) < length:
            data += connection.recv(65536)
        body, data = data[:length], data[length:]
        print("request", lines[0], flush=True)
        text = ("%s %s %d %d\n" % (peer, own, len(body), sum(body))).encode() + head
        connection.sendall(b"HTTP/1.1 200 OK\r\nX-App: %s\r\nContent-Length: %d\r\n\r\n"
            % (os.environ["AGENTFS_INSTANCE"].encode(), len(text)) + text)
def accept_past_the_library(listener):
    accept4 = {"x86_64": 288, "aarch64": 242}[platform.machine()]
    while True:
        fd = kernel(accept4, listener.fileno())
        if fd < 0:
            raise OSError(-fd, "accept4")
        yield socket.socket(fileno=fd)
family = socket.AF_INET6 if ":" in address else socket.AF_INET
listener = socket.create_server((address, 8080), family=family, backlog=64)
# Copies have the same command line.
if how == "past" or (how == "copy-past" and os.environ["AGENTFS_INSTANCE"] == "main-2"):
    connections = accept_past_the_library(listener)
else:
    connections = (listener.accept()[0] for _ in iter(int, 1))
for connection in connections:
    threading.Thread(target=serve, args=(connection,), daemon=True).start()
"#
);

const HTTP_SERVER: &str = r#"
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        peer, own = ("%s:%d" % pair for pair in (self.client_address, self.connection.getsockname()))
        text = f"{peer} {own} {len(body)} {sum(body)}\n{self.headers}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
    def log_message(self, *arguments):
        pass
http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()
"#;

/// On a socket for both families.
const NODE: &str = r#"
require('http').createServer((request, response) => {
    let length = 0, sum = 0;
    request.on('data', data => { length += data.length; for (const byte of data) sum += byte; });
    request.on('end', () => {
        const {remoteAddress, remotePort, localAddress, localPort} = request.socket;
        const plain = address => address.replace('::ffff:', '');
        const headers = request.rawHeaders.join('\n');
        const text = `${plain(remoteAddress)}:${remotePort} ${plain(localAddress)}:${localPort} ` +
            `${length} ${sum}\n${headers}`;
        response.setHeader('Content-Length', Buffer.byteLength(text));
        response.end(text);
    });
}).listen(8080, '::');
"#;

/// A connection to the router, and what was read of it too far.
pub(super) struct Client {
    pub(super) stream: TcpStream,
    /// The client's address and the router's: the socket forgets them once both sides have ended.
    ends: String,
    left: Vec<u8>,
}

/// An answer: its head, and its body.
pub(super) type Answer = (String, String);

// === impl Client ===

impl Client {
    pub(super) fn to(home: &Home) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", home.router_port())).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let ends = format!("{} {}", stream.local_addr().unwrap(), stream.peer_addr().unwrap());
        Self { stream, ends, left: Vec::new() }
    }

    pub(super) fn send(&self, bytes: impl AsRef<[u8]>) {
        (&self.stream).write_all(bytes.as_ref()).unwrap();
    }

    fn more(&mut self) -> bool {
        let mut bytes = [0; 4096];
        let count = self.stream.read(&mut bytes).unwrap();
        self.left.extend(&bytes[..count]);
        count > 0
    }

    pub(super) fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.left.windows(4).position(|window| window == b"\r\n\r\n") {
                return String::from_utf8(self.left.drain(..end + 4).collect()).unwrap();
            }
            assert!(self.more(), "it ended in a head: {}", String::from_utf8_lossy(&self.left));
        }
    }

    pub(super) fn take(&mut self, count: usize) -> String {
        while self.left.len() < count {
            assert!(self.more(), "it ended within a body");
        }
        String::from_utf8(self.left.drain(..count).collect()).unwrap()
    }

    pub(super) fn answer(&mut self) -> Answer {
        let head = self.head();
        let length =
            head.to_lowercase().split("content-length: ").nth(1).map(|rest| {
                rest.split("\r\n").next().and_then(|digits| digits.parse().ok()).expect("a length")
            });
        let body = self.take(length.unwrap_or_else(|| panic!("no length: {head}")));
        (head, body)
    }

    pub(super) fn rest(mut self) -> String {
        while self.more() {}
        String::from_utf8_lossy(&self.left).into_owned()
    }

    /// The first line of an answer to `body`, by a program that has this very connection.
    fn line(&self, body: &[u8]) -> String {
        let sum: u64 = body.iter().map(|byte| u64::from(*byte)).sum();
        format!("{} {} {sum}\n", self.ends, body.len())
    }
}

fn route(home: &Home) {
    let _ = home.agentfs(&["route", "shop", "shop", "--replace", "--handoff"]).output().success();
}

/// A wrapped program in `shop`, and the route.
fn start<'home>(home: &'home Home, instance: &str, command: &[&str]) -> Process<'home> {
    let running = home.wrap("shop", instance, command).spawn();
    home.listener("shop", instance, PORT);
    route(home);
    running
}

fn raw<'home>(home: &'home Home, instance: &str, address: &str, how: &str) -> Process<'home> {
    start(home, instance, &["python3", "-c", RAW, address, how])
}

/// Connections of the route that were handed over, and those that were not.
fn counts(home: &Home) -> (u64, u64) {
    let metrics = home.call("metrics", json!({}));
    let text = metrics["text"].as_str().unwrap();
    let count = |name: &str| {
        let start = format!("{name}{{route=\"{HOST}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&start)).and_then(|count| count.parse().ok()).unwrap()
    };
    (count("agentfs_handed_over_total"), count("agentfs_handover_passed_total"))
}

/// Whether the one connection since `before` was handed over. The app may answer before it is counted.
fn was_handed(home: &Home, (handed, passed): (u64, u64)) -> bool {
    let (now_handed, now_passed) = until("a connection that is counted", || {
        Some(counts(home)).filter(|(now_handed, now_passed)| now_handed + now_passed > handed + passed)
    });
    assert_eq!(now_handed + now_passed, handed + passed + 1, "each connection is counted once");
    now_handed > handed
}

/// Tries until a connection was handed over: a busy machine may let a program miss its time, and what was exchanged
/// must not show it; `try_one` asserts that.
fn until_handed(home: &Home, mut try_one: impl FnMut()) {
    let begin = Instant::now();
    loop {
        let before = counts(home);
        try_one();
        if was_handed(home, before) {
            return;
        }
        assert!(begin.elapsed() < 3 * DEADLINE, "nothing was handed over");
        std::thread::park_timeout(Duration::from_millis(100));
    }
}

fn post(body: &[u8]) -> Vec<u8> {
    let mut request =
        format!("POST /p HTTP/1.1\r\nHost: {HOST}\r\nX-Mine: 1\r\nContent-Length: {}\r\n\r\n", body.len())
            .into_bytes();
    request.extend(body);
    request
}

/// Requests with bodies over kept connections: whoever got the connection answers them all, with the client's own
/// address where it was handed over.
fn serves(home: &Home) {
    let big: Vec<u8> = (0..200 * 1024_u32).map(|index| u8::try_from(index % 251).unwrap()).collect();
    until_handed(home, || {
        let before = counts(home);
        let mut client = Client::to(home);
        for body in [b"first".as_slice(), &big, b""] {
            client.send(post(body));
            let (head, text) = client.answer();
            assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
            if was_handed(home, before) {
                assert!(text.starts_with(&client.line(body)), "{text}");
                assert!(!text.to_lowercase().contains("forwarded"), "{text}");
            }
            assert_eq!(text.matches("X-Mine").count(), 1, "{text}");
        }
    });
}

#[test]
fn a_threaded_server_gets_the_connection() {
    let home = Home::new();
    let _running = start(&home, "one", &["python3", "-c", RAW, "", "accept"]);
    serves(&home);
}

#[test]
fn pythons_http_server_gets_the_connection() {
    let home = Home::new();
    let _running = start(&home, "one", &["python3", "-c", HTTP_SERVER]);
    serves(&home);
}

#[test]
fn node_gets_the_connection() {
    let home = Home::new();
    let _running = start(&home, "one", &["node", "-e", NODE]);
    serves(&home);
}

/// The app sees the head as the client wrote it, once, however it came.
#[test]
fn heads_arrive_once_however_they_come() {
    let home = Home::new();
    let _running = raw(&home, "one", "", "accept");
    let head = format!("GET /dripped HTTP/1.1\r\nhOST: {HOST}\r\nX-Odd:   spaced  \r\n");
    until_handed(&home, || {
        let before = counts(&home);
        let mut client = Client::to(&home);
        client.stream.set_nodelay(true).unwrap();
        for byte in format!("{head}\r\n").bytes() {
            client.send([byte]);
        }
        let text = client.answer().1;
        if was_handed(&home, before) {
            assert_eq!(text, client.line(b"") + head.trim_end_matches("\r\n"));
        }
    });
    // Three at once, one of them with a body, then nothing more from the client.
    until_handed(&home, || {
        let mut client = Client::to(&home);
        client.send([post(b"one"), post(b""), post(b"three")].concat());
        client.stream.shutdown(Shutdown::Write).unwrap();
        for body in [b"one".as_slice(), b"", b"three"] {
            let text = client.answer().1;
            let lengths = client.line(body).split(' ').skip(2).collect::<Vec<_>>().join(" ");
            assert!(text.contains(&format!(" {lengths}")), "{text}");
        }
        assert_eq!(client.rest(), "");
    });
    // Longer than what is looked at.
    let (handed, passed) = counts(&home);
    let mut client = Client::to(&home);
    client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nX-Long: {}\r\n\r\n", "a".repeat(20_000)));
    assert!(client.answer().1.contains(&"a".repeat(20_000)));
    assert_eq!(counts(&home), (handed, passed));
}

/// "The hole": a later request on the same connection with another Host is answered by the first app.
#[test]
fn a_later_request_goes_where_the_first_one_went() {
    let home = Home::new();
    let _running = raw(&home, "one", "", "accept");
    until_handed(&home, || {
        let before = counts(&home);
        let mut client = Client::to(&home);
        client.send(post(b""));
        client.answer();
        let handed = was_handed(&home, before);
        client.send("GET /later HTTP/1.1\r\nHost: nothing.localhost\r\n\r\n");
        let (head, text) = client.answer();
        assert_eq!(head.contains("X-App: one"), handed, "{head}");
        assert_eq!(text.contains("Host: nothing.localhost"), handed, "{text}");
    });
}

/// What protects the app protects it here too, and what is not for it never reaches it.
#[test]
fn rules_hold_before_a_connection_is_handed_over() {
    let home = Home::new();
    let mut running = raw(&home, "one", "", "accept");
    until_handed(&home, || {
        let mut client = Client::to(&home);
        client.send(post(b""));
        client.answer();
    });
    let before = counts(&home);
    let lines = [
        (format!("GET /bad HTTP/1.1\r\nHost: {HOST}\r\nHost: {HOST}\r\n\r\n"), 400),
        (format!("GET /bad HTTP/1.1\r\nHost: {HOST}, other\r\n\r\n"), 400),
        ("GET /bad HTTP/1.1\r\n\r\n".to_owned(), 400),
        (format!("CONNECT {HOST}:80 HTTP/1.1\r\nHost: {HOST}\r\n\r\n"), 405),
        (
            format!(
                "POST /bad HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
            ),
            400,
        ),
        (format!("POST /bad HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 5, 6\r\n\r\n"), 400),
        (format!("GET /bad HTTP/9.9\r\nHost: {HOST}\r\n\r\n"), 505),
        (format!("GET /bad HTTP/1.1\nHost: {HOST}\n\n"), 400),
        (format!("\x01\x02 /bad HTTP/1.1\r\nHost: {HOST}\r\n\r\n"), 400),
        ("GET /bad HTTP/1.1\r\nHost: shop.localhost.example.com\r\n\r\n".to_owned(), 404),
        ("GET /bad HTTP/1.1\r\nHost: nothing.localhost\r\n\r\n".to_owned(), 404),
        ("GET /livez HTTP/1.1\r\nHost: agentfs.localhost\r\n\r\n".to_owned(), 200),
    ];
    for (request, status) in lines {
        let mut client = Client::to(&home);
        client.send(&request);
        let head = client.head();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {head}");
    }
    // A request that ends early.
    let mut client = Client::to(&home);
    client.send(format!("GET /bad HTTP/1.1\r\nHost: {HOST}\r\n"));
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert!(client.head().starts_with("HTTP/1.1 400 "));
    // Another name of the same app is no such route.
    let mut client = Client::to(&home);
    client.send("GET /other HTTP/1.1\r\nHost: one.shop.localhost\r\n\r\n");
    assert!(client.answer().1.to_lowercase().contains("x-forwarded-for"));
    assert_eq!(counts(&home), before);
    running.wait_for("/other");
    assert!(!running.stdout().contains("/bad"), "{}", running.stdout());
}

/// "If the app does not take it …, the request goes through the proxy as usual, nothing lost or doubled."
#[test]
fn an_app_that_accepts_past_the_library_is_served_through_the_router() {
    let home = Home::new();
    let running = raw(&home, "one", "", "past");
    let body = b"body".repeat(50 * 1024);
    for number in 1..=4 {
        let mut client = Client::to(&home);
        client.send(post(&body));
        let (head, text) = client.answer();
        assert!(head.starts_with("HTTP/1.1 200 ") && text.contains("X-Forwarded-For"), "{head}{text}");
        assert!(
            text.contains(&client.line(&body).split(' ').skip(2).collect::<Vec<_>>().join(" ")),
            "{text}"
        );
        assert_eq!(counts(&home), (0, number));
    }
    assert_eq!(running.stdout().matches("request ").count(), 4, "{}", running.stdout());
}

/// An IPv6 socket for both families gets a client of IPv4, one for IPv6 alone does not.
#[test]
fn families_decide() {
    let home = Home::new();
    let _running = raw(&home, "one", "::1", "accept");
    let mut client = Client::to(&home);
    client.send(post(b""));
    assert!(client.answer().1.contains("X-Forwarded-For"));
    assert_eq!(counts(&home), (0, 1));
}

/// The listener whose turn it is gets the connection, or else its first request.
#[test]
fn replicas_take_turns() {
    let home = Home::new();
    let _copies = ["main", "main-2"].map(|copy| raw(&home, copy, "", "copy-past"));
    // Turns begin anew with each change of the routes, and what was just started may still bring one.
    until("turns that alternate", || {
        let apps = [(); 8].map(|()| {
            let mut client = Client::to(&home);
            client.send(post(b""));
            if client.answer().0.contains("X-App: main-2") { "two" } else { "one" }
        });
        let turns = if apps[0] == "one" { ["one", "two"] } else { ["two", "one"] };
        (apps.as_slice() == turns.repeat(4)).then_some(())
    });
}

/// An upgraded connection is the app's own, and goes on without the collector.
#[test]
fn an_upgrade_outlives_the_collector() {
    let home = Home::new();
    let _running = raw(&home, "one", "", "accept");
    let mut kept = None;
    until_handed(&home, || {
        let before = counts(&home);
        let mut client = Client::to(&home);
        client.send(format!(
            "GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nearly"
        ));
        assert!(client.head().starts_with("HTTP/1.1 101 "));
        let line = format!("{}\n", client.stream.local_addr().unwrap());
        if was_handed(&home, before) {
            assert_eq!(client.take(line.len()), line);
            assert_eq!(client.take(5), "early");
            kept = Some(client);
        }
    });
    let mut client = kept.unwrap();
    client.send("with it");
    assert_eq!(client.take(7), "with it");
    home.kill_daemon();
    client.send("without it");
    assert_eq!(client.take(10), "without it");
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.rest(), "end");
}

/// The option is shown wherever others are, is kept over a restart, and is refused where it cannot be.
#[test]
fn the_option_is_kept_shown_and_checked() {
    let home = Home::new();
    let _running = raw(&home, "one", "", "accept");
    let listed =
        || -> Value { serde_json::from_str(&home.agentfs(&["route", "--list", "--json"]).text()).unwrap() };
    assert_eq!(listed()[0]["handoff"], true);
    home.kill_daemon();
    home.start_daemon();
    assert_eq!(listed()[0]["handoff"], true);
    let table = home.agentfs(&["route", "--list"]).text();
    let row = table.lines().find(|line| line.contains(HOST)).unwrap();
    assert!(table.contains("HANDOFF") && row.ends_with("yes"), "{table}");
    let snapshot = home.snapshot().unwrap();
    assert!(snapshot.routes[0].handoff);
    let _ = home
        .agentfs(&["route", "x", "127.0.0.1:80", "--handoff"])
        .output()
        .code(2)
        .names(&["127.0.0.1:80", "port of the host"]);
    let socket = home.work().join("mine.sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    let socket = socket.display().to_string();
    let _ = home
        .agentfs(&["route", "x", &socket, "--handoff"])
        .output()
        .code(2)
        .names(&["mine.sock", "not a listener of a wrapped program"]);
    let listener = home.listener("shop", "one", PORT).socket;
    let main = listener.replace(".8080.sock", ".sock");
    for (name, socket) in
        [("file", listener), ("link", main), ("later", home.work().join("no.sock").display().to_string())]
    {
        let _ = home.agentfs(&["route", name, &socket, "--handoff"]).output().success();
    }
    let _ = home.agentfs(&["route", "shop", "shop", "--replace"]).output().success();
    assert!(
        listed().as_array().unwrap().iter().any(|route| route["host"] == HOST && route["handoff"] == false)
    );
}

/// "the access log/`trace --requests` should at least show that a connection was handed over"
#[test]
fn trace_shows_connections_that_were_handed_over() {
    let home = Home::new();
    let _running = raw(&home, "one", "", "accept");
    let mut text = home.agentfs(&["trace", "--requests", "--verbose"]).spawn();
    until("tracing", || text.stderr().contains("tracing").then_some(()));
    let mut json = home.agentfs(&["trace", "--requests", "--json", "--verbose"]).spawn();
    until("tracing", || json.stderr().contains("tracing").then_some(()));
    until_handed(&home, || {
        let mut client = Client::to(&home);
        client.send(format!("GET /traced HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
        client.answer();
    });
    text.wait_for(" into ");
    json.wait_for("handed_over");
    let shown = text.stdout();
    let line = shown.lines().find(|line| line.contains(" into ")).unwrap();
    assert!(line.contains("shop/one") && line.contains("GET") && line.contains("/traced"), "{line}");
    let event = json.stdout().lines().find(|line| line.contains("handed_over")).unwrap().to_owned();
    let event: Value = serde_json::from_str(&event).unwrap();
    assert_eq!((event["path"].as_str(), event.get("status")), (Some("/traced"), None), "{event}");
}
