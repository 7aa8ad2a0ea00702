//! Replicas and workers as the daemon finds them: who gets requests, who leaves, who comes back.
use crate::harness::{App, Collector, eventually};
use agentfs_wire::control::ListenerInfo;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixListener};

/// The answers' bodies of `count` requests.
async fn bodies(collector: &Collector, host: &str, count: usize) -> Vec<String> {
    let mut bodies = Vec::new();
    for _ in 0..count {
        let answer = collector.get(host).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        bodies.push(answer.rsplit("\r\n").next().unwrap().to_owned());
    }
    bodies
}

fn distinct(bodies: &[String]) -> usize {
    bodies.iter().collect::<BTreeSet<_>>().len()
}

/// Takes an instance of `shop` out of the routes; its requests in progress.
async fn drain(collector: &Collector, instance: &str, hold_ms: u64) -> Result<u64, String> {
    let params = json!({"app": "shop", "instance": instance, "hold_ms": hold_ms});
    let answer = collector.client().await.ask("instance.drain", params).await?;
    Ok(answer["requests"].as_u64().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_of_one_port_share_its_requests() {
    let collector = Collector::start().await;
    let _first = App::bind(&collector.run("shop-k3f9.8080.sock"), "0");
    let _second = App::bind(&collector.run("shop-k3f9.8080.w1.sock"), "1");
    let _third = App::bind(&collector.run("shop-k3f9.8080.w2.sock"), "2");
    collector.listening("shop/k3f9", 3).await;
    for host in ["shop.localhost", "k3f9.shop.localhost", "8080.shop.localhost"] {
        let bodies = bodies(&collector, host, 6).await;
        assert_eq!(distinct(&bodies), 3, "{host}: {bodies:?}");
    }
    let requests: Vec<u64> = collector
        .listening("shop/k3f9", 3)
        .await
        .listeners
        .iter()
        .map(|listener| listener.requests)
        .collect();
    assert_eq!(requests, [6, 6, 6]);
    // They are one listener to whoever reads the metrics: no two series have the same labels.
    let metrics = collector.client().await.ask("metrics", Value::Null).await.unwrap();
    let text = metrics["text"].as_str().unwrap();
    let line = "agentfs_requests_total{app=\"shop\",instance=\"k3f9\",port=\"8080\"} 18";
    assert!(text.lines().any(|is| is == line), "{text}");
    let mut names = BTreeSet::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        assert!(names.insert(line.rsplit_once(' ').unwrap().0), "twice: {line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_follow_the_policy_of_a_route() {
    let collector = Collector::start().await;
    let me = std::process::id();
    for (number, instance) in ["main", "main-2"].into_iter().enumerate() {
        collector.claim("shop", instance, me, 0, |companion| companion.started_ms += number as u64);
    }
    let _one = App::bind(&collector.run("shop-main.80.sock"), "one");
    let _two = App::bind(&collector.run("shop-main_2.80.sock"), "two");
    collector.listening("shop/main", 1).await;
    collector.listening("shop/main-2", 1).await;
    let both = |bodies: Vec<String>| (distinct(&bodies) == 2).then_some(());
    eventually("two replicas", || async { both(bodies(&collector, "shop.localhost", 2).await) }).await;
    let mut client = collector.client().await;
    let mut route = async |host: &str, policy: &str| {
        let params = json!({"host": host, "target": "shop", "replace": true, "policy": policy});
        client.ask("route.add", params).await
    };
    route("shop.localhost", "first").await.unwrap();
    assert_eq!(bodies(&collector, "shop.localhost", 4).await, ["one"; 4]);
    route("busy.localhost", "least_connections").await.unwrap();
    assert_eq!(distinct(&bodies(&collector, "busy.localhost", 4).await), 2);
    assert_eq!(route("x.localhost", "loudest").await.unwrap_err(), "bad_params");
    // It is kept.
    let (_, home) = collector.end().await;
    let collector = Collector::start_in(home).await;
    let mut client = collector.client().await;
    let routes = client.ask("route.list", Value::Null).await.unwrap();
    let policies: Vec<_> =
        routes["routes"].as_array().unwrap().iter().map(|route| &route["policy"]).collect();
    assert_eq!(policies, ["least_connections", "first"]);
    assert_eq!(bodies(&collector, "shop.localhost", 3).await, ["one"; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_refuses_is_left_out_and_is_back_with_its_next_listen() {
    let collector = Collector::start().await;
    let paths = ["shop-k3f9.80.sock", "shop-k3f9.80.w1.sock"].map(|file| collector.run(file));
    let _first = App::bind(&paths[0], "first");
    for _ in 0..5 {
        let second = App::bind(&paths[1], "second");
        collector.listening("shop/k3f9", 2).await;
        assert_eq!(distinct(&bodies(&collector, "shop.localhost", 2).await), 2);
        second.kill().await;
        // No request fails, the one that finds out included.
        assert_eq!(bodies(&collector, "shop.localhost", 4).await, ["first"; 4]);
        // At once in place of the old one: perhaps before anybody saw that it was gone.
        fs::remove_file(&paths[1])
            .or_else(|error| match error.kind() {
                std::io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            })
            .unwrap();
        let again = App::bind(&paths[1], "again");
        eventually("its return", || async {
            (distinct(&bodies(&collector, "shop.localhost", 2).await) == 2).then_some(())
        })
        .await;
        again.kill().await;
        collector.listening("shop/k3f9", 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_is_about_to_end_gets_no_requests_and_ends_those_it_has() {
    let collector = Collector::start().await;
    let slow = UnixListener::bind(collector.run("shop-slow.80.sock")).unwrap();
    collector.listening("shop/slow", 1).await;
    let info: Value = collector.client().await.result("daemon.info", Value::Null).await;
    let port = u16::try_from(info["http_port"].as_u64().unwrap()).unwrap();
    let mut streams = Vec::new();
    for _ in 0..2 {
        let mut client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: shop.localhost\r\n\r\n").await.unwrap();
        let (mut app, _) = slow.accept().await.unwrap();
        let mut head = [0; 4096];
        assert!(app.read(&mut head).await.unwrap() > 0);
        streams.push((client, app));
    }
    // One of the two is an event stream, which has no end.
    streams[0]
        .1
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        .await
        .unwrap();
    let mut part = [0; 4096];
    assert!(streams[0].0.read(&mut part).await.unwrap() > 0);
    let drain = async |instance, hold| drain(&collector, instance, hold).await;
    eventually("one request in progress", || async {
        (drain("slow", 600_000).await.unwrap() == 1).then_some(())
    })
    .await;
    assert!(collector.get("shop.localhost").await.starts_with("HTTP/1.1 502"));
    streams[1].1.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate").await.unwrap();
    let mut answer = String::new();
    while !answer.ends_with("late") {
        let count = streams[1].0.read(&mut part).await.unwrap();
        assert!(count > 0, "{answer}");
        answer.push_str(std::str::from_utf8(&part[..count]).unwrap());
    }
    eventually("no request in progress", || async {
        (drain("slow", 600_000).await.unwrap() == 0).then_some(())
    })
    .await;
    // Where its end does not come, it is back after the time that was asked for.
    drain("slow", 0).await.unwrap();
    let app = tokio::spawn(async move {
        let (mut stream, _) = slow.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nback").await.unwrap();
        stream
    });
    eventually("its return", || async {
        collector.get("shop.localhost").await.ends_with("back").then_some(())
    })
    .await;
    app.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_places_have_series_of_their_own() {
    let collector = Collector::start().await;
    let outside = tempfile::tempdir_in("/tmp").unwrap();
    let mut client = collector.client().await;
    let mut apps = Vec::new();
    for name in ["a", "b"] {
        let socket = outside.path().join(format!("{name}.sock"));
        apps.push(App::bind(&socket, "hello"));
        let params = json!({"host": format!("{name}.localhost"), "target": socket.to_str().unwrap()});
        client.ask("route.add", params).await.unwrap();
        assert!(collector.get(&format!("{name}.localhost")).await.ends_with("hello"));
    }
    let metrics = client.ask("metrics", Value::Null).await.unwrap();
    let text = metrics["text"].as_str().unwrap();
    for name in ["a", "b"] {
        let target = outside.path().join(format!("{name}.sock"));
        let target = format!("target=\"{}\"", target.display());
        let series =
            text.lines().filter(|line| line.starts_with("agentfs_requests_total") && line.contains(&target));
        assert_eq!(series.count(), 1, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_has_a_rate() {
    let collector = Collector::start().await;
    let _app = App::bind(&collector.run("shop-k3f9.8080.sock"), "hello");
    collector.listening("shop/k3f9", 1).await;
    bodies(&collector, "shop.localhost", 5).await;
    let ListenerInfo { requests, requests_per_second, .. } =
        collector.listening("shop/k3f9", 1).await.listeners.remove(0);
    assert_eq!(requests, 5);
    assert!(requests_per_second > 0.0 && requests_per_second <= 5.0, "{requests_per_second}");
}

/// One request takes many instances out of the routes and ignores names of ended instances.
#[tokio::test(flavor = "multi_thread")]
async fn many_are_drained_at_once() {
    let collector = Collector::start().await;
    let names: Vec<String> = (0..40).map(|number| format!("f{number}")).collect();
    let _apps: Vec<App> =
        names.iter().map(|name| App::bind(&collector.run(&format!("shop-{name}.80.sock")), "here")).collect();
    for name in &names {
        collector.listening(&format!("shop/{name}"), 1).await;
    }
    let named = |name: &str| json!({"app": "shop", "instance": name});
    let mut instances: Vec<Value> = names[1..].iter().map(|name| named(name)).collect();
    instances.push(named("ended-long-ago"));
    let params = json!({"instances": instances, "hold_ms": 600_000});
    let answer = collector.client().await.ask("instances.drain", params).await.unwrap();
    assert_eq!(answer, json!({"requests": 0}));
    assert!(collector.get("f0.shop.localhost").await.ends_with("here"));
    for name in &names[1..] {
        let answer = collector.get(&format!("{name}.shop.localhost")).await;
        assert!(answer.starts_with("HTTP/1.1 502"), "{name}: {answer}");
    }
    let wrong = collector.client().await.ask("instances.drain", json!({"instances": "all"})).await;
    assert_eq!(wrong.unwrap_err(), "bad_params");
}
