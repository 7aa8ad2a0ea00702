//! Which name leads where, and the pages for those that lead nowhere.
use super::harness::{Bench, Message, entry, soon};
use super::http2;

fn get(host: &str, extra: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{extra}\r\n")
}

async fn page(bench: &Bench, host: &str, extra: &str) -> Message {
    let mut client = bench.client().await;
    client.send(get(host, extra)).await;
    client.message().await
}

#[tokio::test]
async fn the_host_decides() {
    let (bench, app) = Bench::with_app().await;
    for (head, status) in [
        ("GET / HTTP/1.1\r\nHost: app.localhost\r\nHost: app.localhost\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: app.localhost\r\nHost: b\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: app localhost\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: user@app.localhost\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: app.localhost/x\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: app.localhost,b\r\n", 400),
        ("GET / HTTP/1.1\r\nHost:\r\n", 400),
        ("GET / HTTP/1.1\r\n", 400),
        ("GET / HTTP/1.0\r\n", 404),
        ("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n", 404),
        ("GET / HTTP/1.1\r\nHost: [::1]:80\r\n", 404),
        ("GET / HTTP/1.1\r\nHost: evil-app.localhost\r\n", 404),
        ("GET / HTTP/1.1\r\nHost: app.localhost.evil.com\r\n", 404),
        ("GET / HTTP/1.1\r\nHost: sub.app.localhost\r\n", 404),
        ("GET http://evil.com/ HTTP/1.1\r\nHost: app.localhost\r\n", 404),
    ] {
        assert_eq!(bench.status(format!("{head}Connection: close\r\n\r\n")).await, status, "{head}");
    }
    assert!(app.is_alone().await);
    for host in ["APP.localhost:99", "app.localhost.", "app.localhost.:80"] {
        let mut client = bench.client().await;
        client.send(get(host, "")).await;
        let mut conn = app.accept().await;
        assert!(conn.head().await.contains(&format!("\r\nHost: {host}\r\n")), "{host}");
    }
    let mut client = bench.client().await;
    client.send("GET http://app.localhost:99/x HTTP/1.1\r\nHost: evil.com\r\n\r\n").await;
    let head = app.accept().await.head().await;
    assert!(
        head.starts_with("GET /x HTTP/1.1\r\nHost: app.localhost:99\r\n") && !head.contains("evil"),
        "{head}"
    );
}

#[tokio::test]
async fn pages_speak_html_json_and_text() {
    let (bench, _app) = Bench::with_app().await;
    bench.set(vec![entry("app.localhost", vec![bench.upstream("app")]), entry("gone.localhost", Vec::new())]);
    let link = format!("http://app.localhost:{}/", bench.address.port());

    let html = page(&bench, "nothing.localhost", "Accept: text/html,*/*\r\n").await;
    assert_eq!((html.status(), html.header("content-type")), (404, Some("text/html; charset=utf-8")));
    assert!(html.text().contains(&format!("<a href=\"{link}\">")) && html.text().contains("a &lt;title&gt;"));
    assert!(!html.text().contains("gone.localhost"));
    let json = page(&bench, "nothing.localhost", "Accept: application/json\r\n").await;
    let value: serde_json::Value = serde_json::from_slice(&json.body).unwrap();
    assert_eq!(value["error"], "unknown_host");
    assert_eq!(value["live"][0]["url"], link);
    let text = page(&bench, "nothing.localhost", "Accept: */*\r\n").await;
    assert!(text.text().contains(&link) && !text.text().contains('<') || text.text().contains("a <title>"));

    let dead = page(&bench, "gone.localhost", "").await;
    assert_eq!(dead.status(), 502);
    for word in ["gone.localhost", "/run/gone.sock", "npm <start>", "/home/me/gone", " ago"] {
        assert!(dead.text().contains(word), "{word}: {dead:?}");
    }
    let dead = page(&bench, "gone.localhost", "Accept: text/html\r\n").await;
    assert!(dead.text().contains("npm &lt;start&gt;"));
    let dead = page(&bench, "gone.localhost", "Accept: application/json\r\n").await;
    let value: serde_json::Value = serde_json::from_slice(&dead.body).unwrap();
    assert_eq!(
        (value["error"].as_str(), value["command"].as_str()),
        (Some("no_listener"), Some("npm <start>"))
    );

    for host in ["agentfs.localhost", "localhost"] {
        let index = page(&bench, host, "").await;
        assert_eq!(index.status(), 200);
        assert!(index.text().contains(&link));
    }
    // Who comes by a foreign name learns nothing.
    let foreign = page(&bench, "evil.com", "Accept: text/html\r\n").await;
    assert_eq!(foreign.status(), 404);
    assert!(!foreign.text().contains("app.localhost"), "{foreign:?}");
}

#[tokio::test]
async fn control_pages_are_on_the_control_name_only() {
    let (bench, _app) = Bench::with_app().await;
    for (path, word) in
        [("/livez", "ok"), ("/readyz", "ok"), ("/metrics", "agentfs_requests_total{app=\"app\"")]
    {
        let request = |host| format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = bench.ask(request("agentfs.localhost")).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(word), "{answer}");
        assert_eq!(bench.status(request("localhost")).await, 404);
        assert_eq!(bench.status(request("127.0.0.1")).await, 404);
    }
    assert_eq!(
        bench.status("POST /livez HTTP/1.1\r\nHost: agentfs.localhost\r\nConnection: close\r\n\r\n").await,
        405
    );
}

#[tokio::test]
async fn pages_keep_the_connection_and_have_no_body_for_head() {
    let bench = Bench::new().await;
    let mut client = bench.client().await;
    client.send("HEAD / HTTP/1.1\r\nHost: nothing.localhost\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 404 "));
    client.send("GET / HTTP/1.1\r\nHost: nothing.localhost\r\n\r\n").await;
    assert_eq!(client.message().await.status(), 404);
    // A body that nobody reads must not become the next request.
    client
        .send("POST / HTTP/1.1\r\nHost: nothing.localhost\r\nContent-Length: 30\r\n\r\nGET / HTTP/1.1\r\n")
        .await;
    let answer = String::from_utf8(client.rest().await).unwrap();
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    assert!(answer.contains("Connection: close\r\n"));
}

#[tokio::test(start_paused = true)]
async fn what_was_just_started_is_waited_for() {
    let (bench, app) = Bench::with_app().await;
    let starting = |age_ms: u64| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let mut entry = entry("app.localhost", Vec::new());
        entry.dead = None;
        entry.starting = Some(u64::try_from(now.as_millis()).unwrap() - age_ms);
        entry
    };
    bench.set(vec![starting(0)]);
    let mut client = bench.client().await;
    client.send("POST / HTTP/1.1\r\nHost: app.localhost\r\nContent-Length: 2\r\n\r\nhi").await;
    tokio::task::yield_now().await;
    bench.set(vec![starting(0), entry("other.localhost", Vec::new())]);
    tokio::task::yield_now().await;
    bench.set(vec![entry("app.localhost", vec![bench.upstream("app")])]);
    let mut conn = app.accept().await;
    conn.until("hi").await;
    conn.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(client.message().await.text(), "ok");

    // In vain, and after its time.
    for (age_ms, waits) in [(0, 9..11), (60_000, 0..1)] {
        bench.set(vec![starting(age_ms)]);
        let start = tokio::time::Instant::now();
        let page = page(&bench, "app.localhost", "Accept: text/html\r\n").await;
        assert_eq!((page.status(), page.header("retry-after")), (503, Some("2")));
        assert!(
            page.text().contains("http-equiv=\"refresh\"") && page.text().contains("does not listen yet")
        );
        assert!(waits.contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    }
    let json = page(&bench, "app.localhost", "Accept: application/json\r\n").await;
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&json.body).unwrap()["error"], "starting");
}

/// "502 page with the name, the socket, what was last seen of it and the command that starts it": also for whoever
/// finds out.
#[tokio::test]
async fn the_first_to_find_a_listener_dead_is_told_what_it_was() {
    let mut bench = Bench::new().await;
    for over_http2 in [false, true] {
        bench.set(vec![entry("app.localhost", vec![bench.upstream("gone")])]);
        let asked = if over_http2 {
            let mut client = http2::connect(&bench).await;
            tokio::spawn(async move { http2::text(http2::send(&mut client, http2::get("/")).await).await })
        } else {
            let mut client = bench.client().await;
            tokio::spawn(async move {
                client.send(get("app.localhost", "")).await;
                client.message().await.text()
            })
        };
        assert!(soon("event", bench.event_rx.recv()).await.is_some());
        bench.set(vec![entry("app.localhost", Vec::new())]);
        let text = soon("page", asked).await.unwrap();
        assert!(text.contains("nothing listens") && text.contains("npm <start>"), "{over_http2}: {text}");
    }
}
