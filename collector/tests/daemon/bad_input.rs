//! What nobody should send, bind or write, and what comes of it: a clear word, and nothing else.
use crate::harness::{App, Client, Collector, eventually};
use agentfs_wire::control::ErrorCode;
use agentfs_wire::limits::{CONTROL_CONNECTIONS, CONTROL_LINE_BYTES};
use serde_json::{Value, json};
use std::fs;
use std::time::Duration;
use tokio::time::timeout;

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_the_control_socket_gets_typed_errors() {
    let collector = Collector::start().await;
    let mut client = collector.client().await;
    client.send(b"\n  \ngarbage\n{\"id\":1}\n\xff\xfe\n[1,2]\n{\"id\":2,\"method\":\"ping\"}\n").await;
    for _ in 0..4 {
        let reply = client.reply().await;
        assert_eq!((reply.id, reply.error.unwrap().code), (Value::Null, ErrorCode::BadRequest));
    }
    assert_eq!(client.reply().await.id, json!(2));
    for (method, params, code) in [
        ("no.such.method", Value::Null, "unknown_method"),
        ("route.add", Value::Null, "bad_params"),
        ("route.remove", json!({"host": 7}), "bad_params"),
        ("subscribe", json!({"after": "yesterday"}), "bad_params"),
        ("instance.ended", json!([]), "bad_params"),
    ] {
        assert_eq!(client.ask(method, params).await.unwrap_err(), code, "{method}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_requests_are_answered_in_order() {
    let collector = Collector::start().await;
    let mut client = collector.client().await;
    let methods = ["ping", "list", "nonsense", "daemon.info", "route.list"];
    let requests: String = (0..50)
        .map(|number| json!({"id": number, "method": methods[number % methods.len()]}).to_string() + "\n")
        .collect();
    client.send(requests.as_bytes()).await;
    for number in 0..50 {
        assert_eq!(client.reply().await.id, json!(number));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_without_end_is_cut_off() {
    let collector = Collector::start().await;
    let mut client = collector.client().await;
    client.send(&vec![b'x'; CONTROL_LINE_BYTES + 1]).await;
    assert_eq!(client.reply().await.error.unwrap().code, ErrorCode::TooLarge);
    assert!(client.line().await.is_none());
    assert!(collector.client().await.ask("ping", Value::Null).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_connections_are_told_so() {
    let collector = Collector::start().await;
    let mut open = Vec::new();
    // A connection that is not refused at once has a place, and keeps it.
    let refused = loop {
        let mut client = collector.client().await;
        let wait =
            if open.len() < CONTROL_CONNECTIONS - 8 { Duration::ZERO } else { Duration::from_millis(100) };
        match timeout(wait, client.next()).await {
            Ok(line) => break line.expect("a word about the limit"),
            Err(_) if open.len() < CONTROL_CONNECTIONS => match client.ask("ping", Value::Null).await {
                Ok(_) => open.push(client),
                Err(_) => continue,
            },
            Err(_) => panic!("{} connections are open", open.len()),
        }
    };
    assert_eq!(refused["error"]["code"], "busy");
    drop(open);
    eventually("room", || async {
        let mut client = Client::connect(&collector.paths.control).await?;
        client.ask("ping", Value::Null).await.ok()
    })
    .await;
}

// "a socket file that is no socket, a stale one, a symlink out of the run dir"
#[tokio::test(flavor = "multi_thread")]
async fn foreign_files_in_the_run_dir_do_no_harm() {
    let collector = Collector::start().await;
    let run = |file: &str| collector.run(file);
    fs::write(run("a-plain.sock"), "no socket").unwrap();
    fs::write(run("a-torn.json"), "{").unwrap();
    fs::write(run("a-other.json"), r#"{"app":"x"}"#).unwrap();
    fs::create_dir(run("a-folder.sock")).unwrap();
    fs::create_dir(run("a-folder.80.group")).unwrap();
    std::os::unix::fs::symlink("a-loop.sock", run("a-loop.sock")).unwrap();
    std::os::unix::fs::symlink("/", run("a-root.sock")).unwrap();
    std::os::unix::fs::symlink("a-k.8080.sock", run("a-k.sock")).unwrap();
    nix::unistd::mkfifo(&run("a-pipe.sock"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let _datagram = std::os::unix::net::UnixDatagram::bind(run("a-datagram.sock")).unwrap();
    fs::write(run("b-plain.sock"), "in the way of the main link").unwrap();
    let _app = App::bind(&run("b-plain.8080.sock"), "served");
    let _good = App::bind(&run("c-good.sock"), "good");
    collector.listening("c/good", 1).await;
    collector.listening("b/plain", 1).await;
    assert!(collector.get("b.localhost").await.ends_with("served"));
    assert_eq!(fs::read(run("b-plain.sock")).unwrap(), b"in the way of the main link");
    let mut client = collector.client().await;
    client.ask("subscribe", json!({"after": 0})).await.unwrap();
    let mut warned = std::collections::BTreeSet::new();
    while warned.len() < 5 {
        let line = client.line().await.unwrap();
        if line["kind"] == "warning" {
            warned.insert(line["detail"].as_str().unwrap().to_owned());
        }
    }
    for file in ["a-plain.sock", "a-torn.json", "a-folder.sock", "a-pipe.sock", "a-datagram.sock"] {
        assert!(run(file).exists(), "{file}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_in_notices_is_counted() {
    let collector = Collector::start().await;
    let socket = std::os::unix::net::UnixDatagram::unbound().unwrap();
    for garbage in [&b""[..], b"\x01", b"hello", &[0xff; 600]] {
        socket.send_to(garbage, &collector.paths.notice).unwrap();
    }
    eventually("the count", || async {
        let metrics = collector.client().await.ask("metrics", Value::Null).await.ok()?;
        metrics["text"].as_str()?.contains("agentfs_notices_refused_total 4").then_some(())
    })
    .await;
}
