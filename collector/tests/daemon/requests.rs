//! The methods of the control socket.
use crate::harness::{App, Collector, eventually};
use agentfs_wire::event::{Event, EventKind, Request, RequestEnd, What, Who};
use agentfs_wire::notice::Call;
use serde_json::{Value, json};
use std::fs;

fn event(line: Value) -> Event {
    serde_json::from_value(line).unwrap()
}

fn request(line: Value) -> Request {
    match event(line).what {
        What::Request(request) => *request,
        other => panic!("not a request: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_tells_who_it_is() {
    let collector = Collector::start().await;
    let mut client = collector.client().await;
    let info = client.ask("daemon.info", Value::Null).await.unwrap();
    assert_eq!(info["version"], "1.2.3");
    assert_eq!(info["pid"], std::process::id());
    let port = info["http_port"].as_u64().unwrap();
    assert!(info["listen"].as_array().unwrap().contains(&json!(format!("127.0.0.1:{port}"))));
    let metrics = client.ask("metrics", Value::Null).await.unwrap();
    let text = metrics["text"].as_str().unwrap();
    assert!(text.contains("agentfs_instances 0") && text.contains("agentfs_router_connections_total"));
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_by_hand_are_made_kept_and_removed() {
    let collector = Collector::start().await;
    let outside = tempfile::tempdir_in("/tmp").unwrap();
    let socket = outside.path().join("app.sock");
    let _app = App::bind(&socket, "by hand");
    let mut client = collector.client().await;
    let target = socket.to_str().unwrap();
    let route =
        client.ask("route.add", json!({"host": "MyApp.localhost", "target": target, "wildcard": true})).await;
    let url = route.unwrap()["url"].as_str().unwrap().to_owned();
    assert!(url.starts_with("http://myapp.localhost"), "{url}");
    assert!(collector.get("myapp.localhost").await.ends_with("by hand"));
    assert!(collector.get("deep.myapp.localhost").await.ends_with("by hand"));
    let mut add = async |host: &str, target: &str| {
        client.ask("route.add", json!({"host": host, "target": target})).await.unwrap_err()
    };
    assert_eq!(add("myapp.localhost", "127.0.0.1:3000").await, "conflict");
    assert_eq!(add("x.localhost", "nobody/here").await, "not_found");
    assert_eq!(add("x.localhost", "10.0.0.1:80").await, "bad_params");
    assert_eq!(add("x.example.com", target).await, "bad_params");
    let replaced = json!({"host": "myapp.localhost", "target": "127.0.0.1:3000", "replace": true});
    assert!(client.ask("route.add", replaced).await.is_ok());
    let routes = client.ask("route.list", Value::Null).await.unwrap();
    assert_eq!(routes["routes"][0]["target"], "127.0.0.1:3000");

    let (_, home) = collector.end().await;
    let collector = Collector::start_in(home).await;
    let mut client = collector.client().await;
    assert_eq!(client.ask("route.list", Value::Null).await.unwrap()["routes"].as_array().unwrap().len(), 1);
    let host = json!({"host": "myapp.localhost"});
    assert_eq!(client.ask("route.remove", host.clone()).await.unwrap(), json!({"removed": true}));
    assert_eq!(client.ask("route.remove", host).await.unwrap_err(), "not_found");
    assert!(collector.get("myapp.localhost").await.starts_with("HTTP/1.1 404"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_to_an_instance_follows_it() {
    let collector = Collector::start().await;
    let app = App::bind(&collector.run("shop-k3f9.8080.sock"), "one");
    collector.listening("shop/k3f9", 1).await;
    let mut client = collector.client().await;
    client.ask("route.add", json!({"host": "my.localhost", "target": "k3f9.shop"})).await.unwrap();
    assert!(collector.get("my.localhost").await.ends_with("one"));
    app.kill().await;
    collector.gone("shop/k3f9").await;
    assert!(collector.get("my.localhost").await.starts_with("HTTP/1.1 502"));
    let _app = App::bind(&collector.run("shop-k3f9.9090.sock"), "two");
    collector.listening("shop/k3f9", 1).await;
    assert!(collector.get("my.localhost").await.ends_with("two"));
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_streamed_from_any_point_and_by_app() {
    let collector = Collector::start().await;
    let mut all = collector.client().await;
    let subscribed = all.ask("subscribe", json!({"after": 0})).await.unwrap();
    assert!(subscribed["sequence"].as_u64().unwrap() >= 1);
    assert_eq!(event(all.line().await.unwrap()).kind(), EventKind::CollectorStarted);
    let mut shop = collector.client().await;
    shop.ask("subscribe", json!({"app": "shop"})).await.unwrap();
    let _blog = App::bind(&collector.run("blog-one.sock"), "blog");
    collector.listening("blog/one", 1).await;
    let app = App::bind(&collector.run("shop-k3f9.8080.sock"), "shop");
    collector.notify(Call::Bind, "shop-k3f9.8080.sock");
    collector.listening("shop/k3f9", 1).await;
    app.kill().await;
    let mut kinds = Vec::new();
    while kinds.last() != Some(&EventKind::ListenerDown) {
        let event = event(shop.line().await.unwrap());
        assert_eq!(event.what.of().map(|of| of.app.as_str()), Some("shop"));
        kinds.push(event.kind());
    }
    for kind in [EventKind::InstanceStarted, EventKind::ListenerUp, EventKind::Call] {
        assert_eq!(kinds.iter().filter(|seen| **seen == kind).count(), 1, "{kinds:?}");
    }
    let mut sequence = 1;
    loop {
        let event = event(all.line().await.unwrap());
        sequence += 1;
        assert_eq!(event.sequence, sequence);
        if event.kind() == EventKind::ListenerDown {
            break;
        }
    }
    // Snapshot plus what follows it is everything.
    let snapshot = collector.list().await;
    let mut tail = collector.client().await;
    tail.ask("subscribe", json!({"after": snapshot.sequence})).await.unwrap();
    let _wiki = App::bind(&collector.run("wiki-one.sock"), "wiki");
    assert_eq!(event(tail.line().await.unwrap()).sequence, snapshot.sequence + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trace_page_says_whether_calls_are_wanted() {
    let collector = Collector::start().await;
    let first = || fs::read(&collector.paths.trace_page).unwrap()[0];
    assert_eq!(first(), 0);
    let mut client = collector.client().await;
    client.ask("subscribe", json!({"calls": true})).await.unwrap();
    assert_eq!(first(), 1);
    drop(client);
    eventually("the end of the wish", || async { (first() == 0).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prune_removes_the_dead_and_names_what_it_leaves() {
    let collector = Collector::start().await;
    fs::write(collector.run("notes.txt"), "mine").unwrap();
    fs::write(collector.run("shop-file.sock"), "no socket").unwrap();
    std::os::unix::fs::symlink("/nowhere/app.sock", collector.run("shop-dangling.sock")).unwrap();
    let _live = App::bind(&collector.run("shop-live.sock"), "live");
    collector.listening("shop/live", 1).await;
    let pruned = collector.client().await.ask("prune", Value::Null).await.unwrap();
    assert_eq!(pruned["removed"], json!(["shop-dangling.sock"]));
    let left = pruned["left"].to_string();
    assert!(left.contains("notes.txt") && left.contains("shop-file.sock"), "{left}");
    assert!(collector.instance("shop/live").await.is_some() && collector.run("notes.txt").exists());
}

/// `prune` waits for a search of all processes, and nobody else has to wait.
#[tokio::test(flavor = "multi_thread")]
async fn prunes_at_once_get_the_same_answer() {
    let collector = Collector::start().await;
    fs::write(collector.run("notes.txt"), "mine").unwrap();
    let mut clients = [collector.client().await, collector.client().await, collector.client().await];
    for client in &mut clients {
        client.send(b"{\"id\":1,\"method\":\"prune\"}\n").await;
    }
    for client in &mut clients {
        let reply = client.reply().await;
        assert!(reply.error.is_none() && reply.result.unwrap()["left"].to_string().contains("notes.txt"));
    }
}

/// A listener is routed when the journal reports it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_is_in_force() {
    let collector = Collector::start().await;
    let mut follower = collector.client().await;
    follower.ask("subscribe", json!({})).await.unwrap();
    for port in 8000..8050 {
        let _app = App::bind(&collector.run(&format!("shop-k3f9.{port}.sock")), "here");
        while event(follower.line().await.unwrap()).kind() != EventKind::ListenerUp {}
        assert!(collector.get(&format!("{port}.shop.localhost")).await.ends_with("here"), "{port}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_told_to_those_who_ask_and_counted_for_all() {
    let collector = Collector::start().await;
    let _app = App::bind(&collector.run("shop-k3f9.8080.sock"), "hello");
    collector.listening("shop/k3f9", 1).await;
    assert!(collector.get("shop.localhost").await.ends_with("hello"));
    let mut follower = collector.client().await;
    follower.ask("subscribe", json!({"requests": true})).await.unwrap();
    let mut of_others = collector.client().await;
    of_others.ask("subscribe", json!({"requests": true, "app": "blog"})).await.unwrap();
    collector.get("shop.localhost").await;
    let told = request(follower.line().await.unwrap());
    assert_eq!((told.end, told.bytes), (RequestEnd::Answered(200), 5));
    assert_eq!((told.method.as_str(), told.path.as_str()), ("GET", "/"));
    assert_eq!(told.of, Some(Who::new("shop", "k3f9")));
    assert!(told.host.starts_with("shop.localhost:"));
    collector.get("nothing.localhost").await;
    let told = request(follower.line().await.unwrap());
    assert_eq!((told.end, told.of), (RequestEnd::Answered(404), None));
    // What is not kept is not told later, and takes no numbers.
    let before = collector.list().await.sequence;
    collector.get("shop.localhost").await;
    assert_eq!(collector.list().await.sequence, before);
    let metrics = collector.client().await.ask("metrics", Value::Null).await.unwrap();
    let text = metrics["text"].as_str().unwrap();
    let labels = "app=\"shop\",instance=\"k3f9\",port=\"8080\"";
    for line in [
        format!("agentfs_responses_total{{{labels},class=\"2xx\"}} 3"),
        format!("agentfs_response_bytes_total{{{labels}}} 15"),
        format!("agentfs_request_seconds_bucket{{{labels},le=\"+Inf\"}} 3"),
        format!("agentfs_request_seconds_count{{{labels}}} 3"),
    ] {
        assert!(text.lines().any(|is| is == line), "{line}: {text}");
    }
    assert!(text.contains(&format!("agentfs_request_seconds_bucket{{{labels},le=\"0.0025\"}}")), "{text}");
}
