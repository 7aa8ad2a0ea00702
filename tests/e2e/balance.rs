//! Several listeners behind one name: replicas, workers, the end of one of them; and what is told of the
//! requests meanwhile.
use agentfs_tests::http::{self, Exchange};
use agentfs_tests::wait::until;
use agentfs_tests::{Home, Process, artifact};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

const PORT: u16 = 5000;

/// Answers `/slow` once there is a file `release`, and says by a file `begun` that it was asked.
const SLOW_SERVER: &str = r#"
import http.server, os, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/events":
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            self.wfile.write(b"data: 1\n\n")
            time.sleep(1000)
        if self.path == "/slow":
            open("begun", "w").close()
            while not os.path.exists("release"):
                time.sleep(0.01)
        self.send_response(200)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"late")
    def log_message(self, *arguments):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", 5000), Handler).serve_forever()
"#;

fn start<'home>(home: &'home Home, copy: &str) -> Process<'home> {
    let running =
        home.wrap("shop", copy, &[artifact::binary("fixture-wait").display().to_string()]).body(copy).spawn();
    home.listener("shop", copy, PORT);
    running
}

/// Waits until a command says `text` on standard error.
fn says(process: &Process<'_>, text: &str) {
    until(text, || process.stderr().contains(text).then_some(()));
}

/// The bodies of `count` requests for `shop.localhost`, none of which may fail.
fn bodies(home: &Home, count: usize) -> BTreeSet<String> {
    let bodies = (0..count).map(|_| {
        let answer = home.get("shop.localhost");
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body
    });
    bodies.collect()
}

#[test]
fn replicas_are_balanced_and_a_killed_one_is_never_seen() {
    let home = Home::new();
    let main = start(&home, "main");
    let copy = start(&home, "main-2");
    let both = BTreeSet::from(["main".to_owned(), "main-2".to_owned()]);
    assert_eq!(bodies(&home, 4), both);
    let policy = |policy: &str| {
        let _ = home.agentfs(&["route", "shop", "shop", "--replace", "--policy", policy]).output().success();
    };
    policy("first");
    assert_eq!(bodies(&home, 4), BTreeSet::from(["main".to_owned()]));
    let list = home.agentfs(&["route", "--list"]).text();
    assert!(list.contains("first"), "{list}");
    policy("least-connections");
    assert_eq!(bodies(&home, 4), both);
    let server = until("the server's process", || home.listener("shop", "main", PORT).pid);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(server).unwrap()), Signal::SIGKILL)
        .unwrap();
    assert_eq!(bodies(&home, 20).into_iter().next_back().as_deref(), Some("main-2"));
    drop(main.finish());
    home.gone("shop", "main");
    // Its copy goes on without it.
    assert_eq!(bodies(&home, 4), BTreeSet::from(["main-2".to_owned()]));
    let again = start(&home, "main");
    until("it is back", || (bodies(&home, 2) == both).then_some(()));
    again.terminate();
    copy.terminate();
}

#[test]
fn a_policy_for_a_single_place_is_refused() {
    let home = Home::new();
    let output = home.agentfs(&["route", "x", "127.0.0.1:80", "--policy", "first"]).output().code(2);
    let _ = output.names(&["127.0.0.1:80", "policy"]);
    let _ =
        home.agentfs(&["route", "x", "shop", "--policy", "loudest"]).output().code(2).names(&["round-robin"]);
}

#[test]
fn reuse_port_workers_share_the_requests() {
    let home = Home::new();
    let server = agentfs_fixtures::server("c_reuseport");
    let running = home.wrap("shop", "one", &artifact::server_command(&server)).body("one").spawn();
    let requests = || -> Vec<u64> {
        let listeners = home.instance("shop", "one").map(|info| info.listeners).unwrap_or_default();
        listeners.iter().map(|listener| listener.requests).collect()
    };
    until("four workers", || (requests().len() == 4).then_some(()));
    for _ in 0..16 {
        home.expect_body("one.shop.localhost", "one");
    }
    assert_eq!(requests(), [4; 4]);
    running.terminate();
}

/// "requests in flight drain on `stop`"
#[test]
fn stop_lets_requests_end_and_sends_no_more() {
    let home = Home::new();
    let script = home.write("slow.py", SLOW_SERVER).display().to_string();
    let running = home.wrap("shop", "one", &["python3", &script]).spawn();
    home.listener("shop", "one", PORT);
    let port = home.router_port();
    let mut slow = Exchange::send(port, "GET", "one.shop.localhost", "/slow", "", b"").unwrap();
    let exists = |name: &str| Path::new(&home.work()).join(name).exists();
    until("the request is with the program", || exists("begun").then_some(()));
    let mut stop = home.agentfs(&["stop", "shop/one", "--timeout", "120", "--verbose"]).spawn();
    says(&stop, "waiting for requests in progress: 1");
    assert_eq!(home.get("one.shop.localhost").status, 502);
    assert!(stop.is_running());
    home.write("release", "");
    let answer = slow.answer().unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, "late"));
    drop(stop.finish().success());
    home.gone("shop", "one");
    running.finish();
}

/// The same for a client that came by a forward: what it asked for is answered first.
#[test]
fn stop_lets_a_forwarded_request_end() {
    let home = Home::new();
    let script = home.write("slow.py", SLOW_SERVER).display().to_string();
    let running = home.wrap("shop", "one", &["python3", &script]).spawn();
    home.listener("shop", "one", PORT);
    let place = format!("shop/one:{PORT}");
    let forward = home.agentfs(&["forward", &place, "--proxy", "--json"]).text();
    let forward: serde_json::Value = serde_json::from_str(&forward).unwrap();
    let port = forward["listen"].as_str().unwrap().rsplit(':').next().unwrap().parse().unwrap();
    // One that asks for nothing holds nobody up.
    let idle = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut slow = Exchange::send(port, "GET", "one.shop.localhost", "/slow", "", b"").unwrap();
    let exists = |name: &str| Path::new(&home.work()).join(name).exists();
    until("the request is with the program", || exists("begun").then_some(()));
    let mut stop = home.agentfs(&["stop", "shop/one", "--timeout", "120", "--verbose"]).spawn();
    says(&stop, "waiting for requests in progress: 1");
    assert!(stop.is_running());
    home.write("release", "");
    let answer = slow.answer().unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, "late"));
    drop(stop.finish().success());
    drop(idle);
    running.finish();
}

#[test]
fn stop_does_not_wait_for_an_event_stream() {
    let home = Home::new();
    let script = home.write("slow.py", SLOW_SERVER).display().to_string();
    let running = home.wrap("shop", "one", &["python3", &script]).spawn();
    home.listener("shop", "one", PORT);
    let mut events =
        Exchange::send(home.router_port(), "GET", "one.shop.localhost", "/events", "", b"").unwrap();
    assert_eq!(events.head().unwrap().status, 200);
    let begin = std::time::Instant::now();
    let _ = home.agentfs(&["stop", "shop/one", "--timeout", "600"]).output().success();
    assert!(begin.elapsed().as_secs() < 200, "{:?}", begin.elapsed());
    running.finish();
}

/// "`agentfs trace --requests` live (method, host, path, status, time, bytes, instance)"
#[test]
fn trace_shows_requests() {
    let home = Home::new();
    let _running = start(&home, "one");
    let port = home.router_port();
    // Only the program that is followed; text; and all, as JSON.
    let mut other = home.agentfs(&["trace", "--requests", "--app", "till", "--json", "--verbose"]).spawn();
    let mut text =
        home.agentfs(&["trace", "--requests", "--app", "shop", "--since", "10m", "--verbose"]).spawn();
    let mut json = home.agentfs(&["trace", "--requests", "--json", "--verbose"]).spawn();
    for trace in [&mut other, &mut text, &mut json] {
        says(trace, "tracing");
    }
    let answer = http::get(port, "one.shop.localhost", "/a?b=c").unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, "one"));
    let looped = Exchange::send(port, "GET", "one.shop.localhost", "/loop", "X-Agentfs-Hops: 5\r\n", b"");
    assert_eq!(looped.unwrap().answer().unwrap().status, 508);
    assert_eq!(http::get(port, "nothing.localhost", "/x").unwrap().status, 404);
    text.wait_for(&format!("one.shop.localhost:{port}/a?b=c"));
    let shown = text.stdout();
    let line = shown.lines().find(|line| line.contains("/a?b=c")).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[1..4], ["shop/one", "GET", "200"], "{line}");
    assert!(line.contains(" 3 B "), "{line}");
    assert!(shown.contains("up") && !shown.contains("rewritten") && !shown.contains("/x"), "{shown}");
    json.wait_for("nothing.localhost");
    let events: Vec<Value> = json.stdout().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let requests: Vec<_> = events.iter().filter(|event| event["kind"] == "request").collect();
    assert_eq!(requests.len(), 3, "{events:?}");
    assert_eq!((requests[0]["path"].as_str(), requests[0]["status"].as_u64()), (Some("/a?b=c"), Some(200)));
    assert_eq!((requests[0]["instance"].as_str(), requests[0]["bytes"].as_u64()), (Some("one"), Some(3)));
    assert!(requests[0]["duration_us"].as_u64().is_some());
    for (request, status) in [(requests[1], 508), (requests[2], 404)] {
        assert_eq!((request["status"].as_u64(), request.get("app")), (Some(status), None));
    }
    assert!(!other.stdout().contains("\"request\""), "{}", other.stdout());
    let listed: Value = serde_json::from_str(&home.agentfs(&["ps", "--json"]).text()).unwrap();
    let listener = &listed[0]["listeners"][0];
    assert_eq!(listener["requests"], 1);
    assert!(listener["requests_per_second"].as_f64() > Some(0.0), "{listener}");
    let table = home.agentfs(&["ps"]).text();
    assert!(table.contains("REQ/S"), "{table}");
}
