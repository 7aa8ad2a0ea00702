//! The face of an app: which of its ports its bare name means. "never the order of starting"
use agentfs_tests::http::{Answer, Exchange};
use agentfs_tests::wait::until;
use agentfs_tests::{Home, Process};

/// Serves `BODY` on `PORT` as `MEDIA`, or greets with it.
const SITE: &str = r#"
import http.server, socketserver, sys
port, media, body = int(sys.argv[1]), sys.argv[2], sys.argv[3].encode()
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", media)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *arguments):
        pass
class Greeting(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall(body)
        self.request.recv(4096)
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
Server(("127.0.0.1", port), Greeting if media == "greeting" else Page).serve_forever()
"#;

const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";

/// An instance `main` in which nothing listens yet.
fn open<'home>(home: &'home Home, more: &[&str]) -> Process<'home> {
    let wrap = ["wrap", "-v", "--app", "shop", "--instance", "main"];
    let arguments = [&wrap[..], more, &["--", "sh", "-c", "read line"]].concat();
    let running = home.agentfs(&arguments).open_input().spawn();
    until("the instance", || home.instance("shop", "main"));
    running
}

/// Starts a server in the instance.
fn serve<'home>(home: &'home Home, port: u16, media: &str, body: &str) -> Process<'home> {
    let number = port.to_string();
    let server = home.exec("shop/main", &["python3", "-c", SITE, &number, media, body]).spawn();
    home.listener("shop", "main", port);
    server
}

fn ask(home: &Home, host: &str, more: &str) -> Answer {
    let more = format!("Connection: close\r\n{more}");
    Exchange::send(home.router_port(), "GET", host, "/", &more, b"").unwrap().answer().unwrap()
}

/// What a browser gets whose user enters the name.
fn visit(home: &Home, host: &str) -> Answer {
    ask(home, host, "Sec-Fetch-Mode: navigate\r\nAccept: text/html,*/*;q=0.8\r\n")
}

fn becomes(home: &Home, host: &str, body: &str) {
    until(&format!("{host} answers {body}"), || (visit(home, host).body == body).then_some(()));
}

fn is_stopped(home: &Home, port: u16) {
    until(&format!("{port} is closed"), || {
        let listeners = home.instance("shop", "main")?.listeners;
        listeners.iter().all(|listener| listener.port != port).then_some(())
    });
}

/// "D8: whichever port listened first is `APP.localhost` (API before front end), and the front takes it over when the API
/// restarts"
#[test]
fn the_order_of_starting_does_not_choose_the_face() {
    for ports in [[8080, 5173], [5173, 8080]] {
        let home = Home::new();
        let _app = open(&home, &[]);
        let servers = ports.map(|port| serve(&home, port, "text/plain", &port.to_string()));
        // A program gets the port that comes first in the documented order.
        home.expect_body("shop.localhost", "5173");
        let [first, second] = servers;
        first.terminate();
        is_stopped(&home, ports[0]);
        let _again = serve(&home, ports[0], "text/plain", &ports[0].to_string());
        home.expect_body("shop.localhost", "5173");
        second.terminate();
    }
}

/// "A navigation to an app with several candidates and no answer known gets a page with all of them", "learned from
/// answers", "kept per app folder over restarts of the app and of the collector"
#[test]
fn the_port_that_serves_pages_becomes_the_face_and_stays_it() {
    let home = Home::new();
    let app = open(&home, &[]);
    // By the fixed order it would be the API.
    let api = serve(&home, 3000, JSON, "{}");
    assert_eq!(visit(&home, "shop.localhost").body, "{}", "a single port has no choice");
    let front = serve(&home, 9000, HTML, "<title>Shop</title>");
    becomes(&home, "9000.shop.localhost", "<title>Shop</title>");
    becomes(&home, "shop.localhost", "<title>Shop</title>");
    becomes(&home, "main.shop.localhost", "<title>Shop</title>");
    assert_eq!(visit(&home, "3000.shop.localhost").body, "{}");
    api.terminate();
    is_stopped(&home, 3000);
    let api = serve(&home, 3000, JSON, "{}");
    assert_eq!(visit(&home, "shop.localhost").body, "<title>Shop</title>", "the API has restarted");
    // A front end that restarts does not lend its name to the API.
    front.terminate();
    is_stopped(&home, 9000);
    let failed = visit(&home, "shop.localhost");
    assert!(failed.status == 502 && failed.body.contains("http://3000.shop.localhost:"), "{failed:?}");
    drop(api);
    drop(app);
    home.gone("shop", "main");
    let stored = || std::fs::read_to_string(&home.paths().faces).unwrap_or_default();
    until("what was learned is stored", || stored().contains(r#""9000": "pages""#).then_some(()));
    home.kill_daemon();
    home.start_daemon();
    let _app = open(&home, &[]);
    let _api = serve(&home, 3000, JSON, "{}");
    let _front = serve(&home, 9000, HTML, "<title>Shop</title>");
    assert_eq!(visit(&home, "shop.localhost").body, "<title>Shop</title>", "another life, another collector");
}

/// "a page with all of them (ports, commands, links)"; "a single-candidate app never sees it and curl/API clients are not
/// broken"
#[test]
fn a_browser_chooses_between_ports_of_which_nothing_is_known() {
    let home = Home::new();
    let _app = open(&home, &[]);
    let _api = serve(&home, 7001, JSON, "api");
    let _front = serve(&home, 7002, HTML, "front");
    let page = visit(&home, "shop.localhost");
    assert_eq!(page.status, 300, "{page:?}");
    for part in ["href=\"http://7001.shop.localhost:", "href=\"http://7002.shop.localhost:", "python3"] {
        assert!(page.body.contains(part), "{part}: {page:?}");
    }
    let json = ask(&home, "shop.localhost", "Sec-Fetch-Mode: navigate\r\nAccept: application/json\r\n");
    let json: serde_json::Value = serde_json::from_str(&json.body).unwrap();
    assert_eq!((&json["error"], json["ports"].as_array().unwrap().len()), (&"several_ports".into(), 2));
    for more in ["", "Accept: */*\r\n", "Accept: text/html\r\nSec-Fetch-Mode: cors\r\n"] {
        assert_eq!(ask(&home, "shop.localhost", more).body, "api", "{more}");
    }
    // Databases and debuggers are not offered as the only other choice.
    becomes(&home, "7002.shop.localhost", "front");
    becomes(&home, "shop.localhost", "front");
    home.expect_body("shop.localhost", "front");
}

#[test]
fn a_port_that_is_usually_a_database_makes_no_choice_necessary() {
    let home = Home::new();
    let _app = open(&home, &[]);
    let _store = serve(&home, 5432, "greeting", "no HTTP");
    let _inspector = serve(&home, 9229, JSON, "{}");
    let _web = serve(&home, 7001, HTML, "front");
    assert_eq!(visit(&home, "shop.localhost").body, "front");
    // It is no secret, and counts like any other once it has answered with a page.
    assert_eq!(ask(&home, "9229.shop.localhost", "").body, "{}");
}

/// "`main = 5173` in agentfs.toml or `--main PORT` of wrap", "The 502 page lists the siblings"
#[test]
fn a_person_can_say_which_port_is_the_face() {
    let home = Home::new();
    let app = open(&home, &["--main", "7002"]);
    let first = serve(&home, 7001, HTML, "first");
    let said = serve(&home, 7002, JSON, "said");
    assert_eq!(visit(&home, "shop.localhost").body, "said");
    assert_eq!(visit(&home, "7001.shop.localhost").body, "first");
    assert_eq!(visit(&home, "shop.localhost").body, "said", "a page elsewhere changes nothing");
    said.terminate();
    is_stopped(&home, 7002);
    let failed = visit(&home, "shop.localhost");
    assert!(failed.status == 502 && failed.body.contains("http://7001.shop.localhost:"), "{failed:?}");
    assert!(failed.body.contains("7002"), "{failed:?}");
    drop(first);
    drop(app);
    home.gone("shop", "main");
    home.write("agentfs.toml", "main = 7003\n");
    let _app = open(&home, &[]);
    let _first = serve(&home, 7001, HTML, "first");
    let _said = serve(&home, 7003, HTML, "from the file");
    assert_eq!(visit(&home, "shop.localhost").body, "from the file");
    home.write("agentfs.toml", "main = \"7003\"\n");
    let refused = home.agentfs(&["wrap", "--", "true"]).output().code(125);
    let _ = refused.names(&["agentfs.toml", "main"]);
}

/// "A listener that greets in another protocol is never the face from then on"
#[test]
fn a_listener_that_greets_in_another_protocol_is_not_the_face() {
    let home = Home::new();
    let _app = open(&home, &[]);
    let _mail = serve(&home, 3000, "greeting", "220 mail ready\r\n");
    let _front = serve(&home, 7001, "text/plain", "front");
    let failed = ask(&home, "shop.localhost", "");
    assert_eq!(failed.status, 502, "{failed:?}");
    assert!(failed.body.contains("does not speak HTTP"), "{failed:?}");
    assert!(failed.body.contains("http://7001.shop.localhost:"), "the siblings: {failed:?}");
    until("the other port", || (ask(&home, "shop.localhost", "").body == "front").then_some(()));
}

/// "D7: the announced URL of a second port is the app's". Each URL that was announced last for a port leads to it, and
/// `ps` and the events say the same.
#[test]
fn each_port_has_one_url_everywhere() {
    let home = Home::new();
    // `wrap` announces what its own command opens.
    let script = "while read -r port; do python3 -c \"$0\" $port text/plain $port & done; wait";
    let wrap = ["wrap", "-v", "--app", "shop", "--instance", "main", "--", "sh", "-c", script, SITE];
    let mut app = home.agentfs(&wrap).open_input().spawn();
    let ports = [7003, 7001, 5173, 7002];
    for port in ports {
        app.write(format!("{port}\n").as_bytes());
        home.listener("shop", "main", port);
    }
    for port in ports {
        let announced = || {
            let said = app.stderr();
            let of_port = said.lines().rev().find(|line| line.contains(&format!("127.0.0.1:{port} →")))?;
            Some(of_port.split("http://").nth(1)?.split(':').next()?.to_owned())
        };
        let expected =
            if port == 5173 { "shop.localhost".to_owned() } else { format!("{port}.shop.localhost") };
        until(&format!("{port} is announced as {expected}"), || (announced()? == expected).then_some(()));
        home.expect_body(&expected, &port.to_string());
        let listed = home.listener("shop", "main", port).url.unwrap();
        assert_eq!(listed, format!("http://{expected}:{}", home.router_port()));
        let table = home.agentfs(&["ps"]).text();
        assert!(table.contains(&format!("127.0.0.1:{port}  {listed} ")), "{table}");
    }
    let trace = home.agentfs(&["trace", "--since", "1h", "--json"]).spawn();
    let last = |port: u16| {
        let out = trace.stdout();
        let events = out.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let of_port = events.filter(|event| event["address"] == format!("127.0.0.1:{port}"));
        of_port.filter_map(|event| Some(event["url"].as_str()?.to_owned())).next_back()
    };
    until("the events", || (last(7002)? == "7002.shop.localhost").then_some(()));
    assert_eq!(last(5173).as_deref(), Some("shop.localhost"));
    assert_eq!(last(7003).as_deref(), Some("7003.shop.localhost"), "it was the app's before others came");
}
