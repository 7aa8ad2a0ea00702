//! Start, end, kill, and what is lost in between: nothing.
use crate::harness::{App, Client, Collector, config, eventually, home};
use agentfs_collector::Error;
use agentfs_home::Error as HomeError;
use serde_json::{Value, json};
use std::fs;

#[tokio::test(flavor = "multi_thread")]
async fn there_is_one_collector_a_home() {
    let collector = Collector::start().await;
    let second = agentfs_collector::run(config(collector.home.path()), std::future::pending()).await;
    let error = second.unwrap_err();
    assert!(
        matches!(error, Error::Home(HomeError::AlreadyRunning { pid: Some(pid), .. }) if pid == std::process::id()),
        "{error}"
    );
    assert!(collector.client().await.ask("ping", Value::Null).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_when_told_and_leaves_no_socket() {
    let mut collector = Collector::start().await;
    let mut client = collector.client().await;
    assert_eq!(client.ask("daemon.stop", Value::Null).await.unwrap(), json!({"stopping": true}));
    collector.ended().await.unwrap();
    assert!(!collector.paths.control.exists() && !collector.paths.notice.exists());
    let collector = Collector::start().await;
    let (report, home) = collector.end().await;
    assert!(report.events >= 1 && report.still_open == 0, "{report:?}");
    assert!(!home.path().join("collector.sock").exists());
}

// "the collector killed with -9 in the middle and everything still there afterwards"
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_collector_is_replaced_and_knows_everything_again() {
    let collector = Collector::start().await;
    let own = std::process::id();
    collector.claim("shop", "k3f9", own, 0, |_| {});
    let _first = App::bind(&collector.run("shop-k3f9.3000.sock"), "first");
    collector.listening("shop/k3f9", 1).await;
    let _second = App::bind(&collector.run("shop-k3f9.9090.sock"), "second");
    let _hand = App::bind(&collector.run("blog-one.sock"), "blog");
    collector.listening("shop/k3f9", 2).await;
    collector.listening("blog/one", 1).await;
    let mut client = collector.client().await;
    client.ask("route.add", json!({"host": "my.localhost", "target": "shop/k3f9"})).await.unwrap();
    let before = collector.list().await;

    let collector = Collector::start_in(collector.kill().await).await;
    let after = collector.list().await;
    let shape = |snapshot: &agentfs_wire::control::Snapshot| {
        let mut shape: Vec<String> = Vec::new();
        for instance in &snapshot.instances {
            shape.push(format!(
                "{}/{} {} {:?}",
                instance.app, instance.instance, instance.host, instance.command
            ));
            shape.extend(
                instance.listeners.iter().map(|listener| format!("{} {}", listener.socket, listener.main)),
            );
        }
        shape.extend(snapshot.routes.iter().map(|route| format!("{} {}", route.host, route.target)));
        shape
    };
    assert_eq!(shape(&before), shape(&after));
    assert!(collector.get("my.localhost").await.ends_with("first"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_died_while_nobody_watched_is_cleared_at_the_start() {
    let collector = Collector::start().await;
    let mut dead = std::process::Command::new("true").spawn().unwrap();
    dead.wait().unwrap();
    let home = collector.kill().await;
    let run = home.path().join("run");
    let companion = format!(
        r#"{{"app":"shop","instance":"old","directory":"/","checkout":null,"fork":false,"branch":null,"command":["x"],
            "wrap_pid":{},"child_pid":1,"started_ms":5,"version":"1"}}"#,
        dead.id()
    );
    fs::write(run.join("shop-old.json"), companion).unwrap();
    // Process 1 lives, but was born after this companion: it only has the number.
    let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
    fs::File::options().write(true).open(run.join("shop-old.json")).unwrap().set_modified(long_ago).unwrap();
    drop(std::os::unix::net::UnixListener::bind(run.join("shop-old.80.sock")).unwrap());
    std::os::unix::fs::symlink("shop-old.80.sock", run.join("shop-old.sock")).unwrap();
    fs::write(run.join("shop-old.80.group"), "").unwrap();
    let collector = Collector::start_in(home).await;
    if cfg!(target_os = "linux") {
        eventually("an empty run dir", || async {
            fs::read_dir(&collector.paths.run).unwrap().next().is_none().then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_dir_that_is_removed_comes_back() {
    let collector = Collector::start().await;
    // A socket that its program binds by itself has no second name, however long it is there: it does not come back.
    let _old = App::bind(&collector.run("shop-k3f9.sock"), "old");
    collector.listening("shop/k3f9", 1).await;
    fs::remove_dir_all(&collector.paths.run).unwrap();
    collector.gone("shop/k3f9").await;
    eventually("the run dir", || async { collector.paths.run.is_dir().then_some(()) }).await;
    let _new = App::bind(&collector.run("shop-k3f9.9090.sock"), "new");
    collector.listening("shop/k3f9", 1).await;
    assert!(collector.get("shop.localhost").await.ends_with("new"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_is_removed_ends_its_collector() {
    let mut collector = Collector::start().await;
    // It may write a file at that moment.
    let home = collector.paths.home.clone();
    eventually("the home is removed", || async {
        fs::remove_dir_all(&home).ok().or((!home.exists()).then_some(()))
    })
    .await;
    collector.ended().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_home_is_refused_with_its_name() {
    let home = home();
    let config = config(home.path());
    fs::write(&config.paths.run, "").unwrap();
    let run = config.paths.run.clone();
    let error = agentfs_collector::run(config, std::future::pending()).await.unwrap_err();
    assert!(error.to_string().contains(run.to_str().unwrap()), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_router_port_is_told_and_the_rest_works() {
    let stranger = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let home = home();
    let mut config = config(home.path());
    config.router_address = Some(stranger.local_addr().unwrap());
    let control = config.paths.control.clone();
    let task = tokio::spawn(agentfs_collector::run(config, std::future::pending()));
    let info = eventually("the control socket", || async {
        Client::connect(&control).await?.ask("daemon.info", Value::Null).await.ok()
    })
    .await;
    let error = info["router_error"].as_str().unwrap();
    let port = stranger.local_addr().unwrap().port().to_string();
    assert!(error.contains(&port), "{error}");
    if cfg!(target_os = "linux") {
        assert!(error.contains(&format!("pid {}", std::process::id())), "{error}");
    }
    assert_eq!((info["listen"].clone(), info["http_port"].clone()), (json!([]), json!(0)));
    task.abort();
}
