//! `agentfs route NAME TARGET --rewrite-host`: programs that accept only `localhost` are reached by a name.
use agentfs_tests::http::{Answer, Exchange, get};
use agentfs_tests::{Home, Process};
use agentfs_wire::control::RouteInfo;
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};

/// Accepts only `localhost` as host and origin, and leads to where it takes itself to be.
const SERVER: &str = r#"
import base64, hashlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, text, headers={}):
        body = text.encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        host = self.headers.get("Host", "")
        own = f"http://{host}"
        origin, referer = self.headers.get("Origin", own), self.headers.get("Referer", own + "/")
        if host != "localhost:8888" or origin != own or not referer.startswith(own + "/"):
            self.answer(403, f"refused: {host} {origin} {referer}")
        elif self.path == "/redirect":
            self.answer(302, "", {"Location": own + "/there?x", "Set-Cookie": "a=b; Domain=localhost"})
        elif self.path == "/ws":
            key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
            accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
            self.send_response(101)
            for name, value in [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Accept", accept)]:
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"\x82\x05" + self.rfile.read(5))
            self.close_connection = True
        else:
            self.answer(200, "welcome " + self.headers["X-Forwarded-Host"])

    def log_message(self, *arguments):
        pass

ThreadingHTTPServer(("127.0.0.1", 8888), Handler).serve_forever()
"#;

fn start(home: &Home) -> Process<'_> {
    let script = home.write("server.py", SERVER);
    let running = home.wrap("notes", "one", &["python3", script.to_str().unwrap()]).spawn();
    home.listener("notes", "one", 8888);
    running
}

fn ask(home: &Home, path: &str, more: &str) -> Answer {
    let port = home.router_port();
    let host = format!("lab.localhost:{port}");
    let more =
        format!("Origin: http://{host}\r\nReferer: http://{host}/before\r\nConnection: close\r\n{more}");
    Exchange::send(port, "GET", "lab.localhost", path, &more, b"").unwrap().answer().unwrap()
}

#[test]
fn a_program_that_accepts_only_localhost_is_reached() {
    let home = Home::new();
    let _running = start(&home);
    let port = home.router_port();
    assert_eq!(home.get("one.notes.localhost").status, 403);
    let _ = home.agentfs(&["route", "lab", "notes/one"]).output().success();
    assert_eq!(ask(&home, "/", "").status, 403);
    let _ = home.agentfs(&["route", "lab", "notes/one", "--replace", "--rewrite-host"]).output().success();
    let welcome = ask(&home, "/", "");
    assert_eq!(
        (welcome.status, welcome.body.as_str()),
        (200, format!("welcome lab.localhost:{port}").as_str())
    );
    let redirect = ask(&home, "/redirect", "");
    assert_eq!(redirect.header("location"), Some(format!("http://lab.localhost:{port}/there?x").as_str()));
    assert_eq!(redirect.header("set-cookie"), Some("a=b"));
    // Another site is another site still.
    let host = format!("lab.localhost:{port}");
    let evil = Exchange::send(
        port,
        "GET",
        "lab.localhost",
        "/",
        "Origin: http://evil.com\r\nConnection: close\r\n",
        b"",
    );
    assert_eq!(evil.unwrap().answer().unwrap().status, 403);
    let more = format!(
        "Origin: http://{host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    );
    let mut socket = Exchange::send(port, "GET", "lab.localhost", "/ws", &more, b"").unwrap();
    let head = socket.head().unwrap();
    assert_eq!(
        (head.status, head.header("sec-websocket-accept")),
        (101, Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="))
    );
    socket.reader.get_mut().write_all(b"hello").unwrap();
    let mut frame = [0; 7];
    socket.reader.read_exact(&mut frame).unwrap();
    assert_eq!(&frame, b"\x82\x05hello");
}

/// Node's inspector is such a program.
#[test]
fn the_inspector_of_node_is_reached() {
    let home = Home::new();
    let _running = home
        .wrap("debug", "one", &["node", "--inspect=127.0.0.1:9229", "-e", "setInterval(() => {}, 1000)"])
        .spawn();
    home.listener("debug", "one", 9229);
    let port = home.router_port();
    let refused = get(port, "debug.localhost", "/json/version");
    assert!(refused.is_err() || refused.unwrap().status != 200);
    let _ = home.agentfs(&["route", "inspect", "debug/one", "--rewrite-host"]).output().success();
    let answer = get(port, "inspect.localhost", "/json/version").unwrap();
    assert!(answer.status == 200 && answer.body.contains("node.js/"), "{answer:?}");
}

#[test]
fn the_option_is_kept_and_shown() {
    let home = Home::new();
    let _running = start(&home);
    let added = home.agentfs(&["route", "lab", "notes/one", "--rewrite-host", "--json"]).text();
    assert!(serde_json::from_str::<RouteInfo>(&added).unwrap().rewrite_host, "{added}");
    let _ = home.agentfs(&["route", "plain", "notes/one"]).output().success();
    home.kill_daemon();
    home.start_daemon();
    let list: Vec<RouteInfo> =
        serde_json::from_str(&home.agentfs(&["route", "--list", "--json"]).text()).unwrap();
    let shown: Vec<_> = list.iter().map(|route| (route.host.as_str(), route.rewrite_host)).collect();
    assert_eq!(shown, [("lab.localhost", true), ("plain.localhost", false)]);
    let table = home.agentfs(&["route", "--list"]).text();
    for (name, host) in [("lab.localhost", "localhost"), ("plain.localhost", "given")] {
        let row = table.lines().find(|line| line.starts_with(name)).unwrap();
        assert!(row.split_whitespace().any(|word| word == host), "{table}");
    }
    assert_eq!(ask(&home, "/", "").status, 200);
    // A file of an older collector.
    let path = home.paths().home.join("routes.json");
    let mut file: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    for route in file["routes"].as_array_mut().unwrap() {
        route.as_object_mut().unwrap().remove("rewrite_host");
    }
    home.kill_daemon();
    fs::write(&path, file.to_string()).unwrap();
    home.start_daemon();
    assert_eq!(ask(&home, "/", "").status, 403);
    let _ = home.agentfs(&["route", "both", "notes/one", "--rewrite-host", "--handoff"]).output().code(2);
}
