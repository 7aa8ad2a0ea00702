//! How listeners are found, named, and lost.
use crate::harness::{App, Collector, eventually};
use agentfs_wire::notice::Call;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

// "dropping {app}-{instance}.sock into the run dir in any way, symlink included"
#[tokio::test(flavor = "multi_thread")]
async fn sockets_dropped_by_hand_are_routed() {
    let collector = Collector::start().await;
    let outside = tempfile::tempdir_in("/tmp").unwrap();
    let _bound = App::bind(&collector.run("my-app-abc123.sock"), "bound");
    let _linked = App::bind(&outside.path().join("linked.sock"), "linked");
    std::os::unix::fs::symlink(outside.path().join("linked.sock"), collector.run("blog-one.sock")).unwrap();
    let _moved = App::bind(&outside.path().join("moved.sock"), "moved");
    fs::rename(outside.path().join("moved.sock"), collector.run("wiki-one.sock")).unwrap();
    for (name, host, body) in [
        ("my-app/abc123", "my-app.localhost", "bound"),
        ("blog/one", "blog.localhost", "linked"),
        ("wiki/one", "one.wiki.localhost", "moved"),
    ] {
        let instance = collector.listening(name, 1).await;
        assert_eq!((instance.listeners[0].port, instance.listeners[0].main), (0, true));
        let answer = collector.get(host).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with(body), "{host}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notice_tells_of_a_listener_and_its_process() {
    let collector = Collector::start().await;
    let _app = App::bind(&collector.run("shop-feature_cart.8080.sock"), "cart");
    collector.notify(Call::Listen, "shop-feature_cart.8080.sock");
    let instance = collector.listening("shop/feature-cart", 1).await;
    let listener = &instance.listeners[0];
    assert_eq!((listener.address.as_str(), listener.port), ("0.0.0.0:8080", 8080));
    if cfg!(target_os = "linux") {
        eventually("the pid", || async {
            let instance = collector.instance("shop/feature-cart").await?;
            (instance.listeners[0].pid == Some(std::process::id())).then_some(())
        })
        .await;
    }
    for host in [
        "shop.localhost",
        "feature-cart.shop.localhost",
        "8080.shop.localhost",
        "8080.feature-cart.shop.localhost",
    ] {
        assert!(collector.get(host).await.ends_with("cart"), "{host}");
    }
    assert!(collector.get("other.localhost").await.starts_with("HTTP/1.1 404"));
}

// "the first listening one is linked as {app}-{instance}.sock"
#[tokio::test(flavor = "multi_thread")]
async fn the_main_link_follows_the_listeners() {
    let collector = Collector::start().await;
    let link = collector.run("shop-k3f9.sock");
    let first = App::bind(&collector.run("shop-k3f9.8080.sock"), "first");
    collector.listening("shop/k3f9", 1).await;
    let leads_to = |target: &'static str| {
        let link = link.clone();
        async move {
            eventually(target, || async {
                fs::read_link(&link).is_ok_and(|to| to == Path::new(target)).then_some(())
            })
            .await;
        }
    };
    leads_to("shop-k3f9.8080.sock").await;
    let _second = App::bind(&collector.run("shop-k3f9.9090.sock"), "second");
    let instance = collector.listening("shop/k3f9", 2).await;
    assert_eq!((instance.listeners[0].port, instance.listeners[1].port), (8080, 9090));
    first.kill().await;
    leads_to("shop-k3f9.9090.sock").await;
    let instance = collector.listening("shop/k3f9", 1).await;
    assert_eq!((instance.listeners[0].port, instance.listeners[0].main), (9090, true));
    assert!(collector.get("shop.localhost").await.ends_with("second"));
}

// "stale names must be gone": an application that was killed leaves its socket behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_listener_is_removed_and_its_name_says_what_it_was() {
    let collector = Collector::start().await;
    let socket = collector.run("shop-k3f9.8080.sock");
    let app = App::bind(&socket, "shop");
    collector.listening("shop/k3f9", 1).await;
    app.kill().await;
    assert!(socket.exists());
    collector.gone("shop/k3f9").await;
    eventually("an empty run dir", || async {
        fs::read_dir(&collector.paths.run).unwrap().next().is_none().then_some(())
    })
    .await;
    let answer = collector.get("shop.localhost").await;
    assert!(answer.starts_with("HTTP/1.1 502") && answer.contains("shop-k3f9.8080.sock"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_connection_ends_a_listener_at_once() {
    let collector = Collector::start().await;
    let app = App::bind(&collector.run("shop-k3f9.8080.sock"), "shop");
    collector.listening("shop/k3f9", 1).await;
    app.kill().await;
    assert!(collector.get("shop.localhost").await.starts_with("HTTP/1.1 502"));
    collector.gone("shop/k3f9").await;
}

// bound is not routable: the file system tells of bind, the listen follows.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_socket_is_routed_once_it_listens() {
    use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
    use std::os::fd::AsRawFd;
    let collector = Collector::start().await;
    let bound = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(bound.as_raw_fd(), &UnixAddr::new(&collector.run("shop-k3f9.8080.sock")).unwrap()).unwrap();
    eventually("the instance", || collector.instance("shop/k3f9")).await;
    assert!(collector.instance("shop/k3f9").await.unwrap().listeners.is_empty());
    listen(&bound, Backlog::new(8).unwrap()).unwrap();
    collector.listening("shop/k3f9", 1).await;
}

// "cleans up its instance when its last process is gone, also after kill -9 of wrap itself"
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_ends_with_its_last_process() {
    let collector = Collector::start().await;
    let process = || Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let (mut wrap, mut child) = (process(), process());
    collector.claim("shop", "k3f9", wrap.id(), child.id(), |_| {});
    let instance = eventually("the instance", || collector.instance("shop/k3f9")).await;
    assert_eq!((instance.wrap_pid, instance.pids), (Some(wrap.id()), vec![child.id()]));
    assert_eq!(instance.command.join(" "), "serve --port 80");
    fs::write(collector.run("shop-k3f9.80.group"), "").unwrap();
    wrap.kill().unwrap();
    wrap.wait().unwrap();
    eventually("the end of wrap", || async {
        collector.instance("shop/k3f9").await.unwrap().wrap_pid.is_none().then_some(())
    })
    .await;
    child.kill().unwrap();
    child.wait().unwrap();
    collector.gone("shop/k3f9").await;
    eventually("an empty run dir", || async {
        fs::read_dir(&collector.paths.run).unwrap().next().is_none().then_some(())
    })
    .await;
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_program_in_the_background_keeps_its_instance() {
    let collector = Collector::start().await;
    let mut wrap = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut background = Command::new("cat")
        .env("AGENTFS_RUN", &collector.paths.run)
        .env("AGENTFS_APP", "shop")
        .env("AGENTFS_INSTANCE", "k3f9")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    collector.claim("shop", "k3f9", wrap.id(), 0, |_| {});
    eventually("the instance", || collector.instance("shop/k3f9")).await;
    let mut client = collector.client().await;
    let ended = serde_json::json!({"app": "shop", "instance": "k3f9"});
    client.ask("instance.ended", ended).await.unwrap();
    eventually("the process in the background", || async {
        let instance = collector.instance("shop/k3f9").await?;
        (instance.pids == [background.id()] && instance.wrap_pid.is_none()).then_some(())
    })
    .await;
    background.kill().unwrap();
    background.wait().unwrap();
    collector.gone("shop/k3f9").await;
    eventually("the end of the companion", || async {
        (!collector.run("shop-k3f9.json").exists()).then_some(())
    })
    .await;
    wrap.kill().unwrap();
    wrap.wait().unwrap();
}

// "APP.localhost is the instance main … if it is not running: a page that lists the forks that are, never another fork"
#[tokio::test(flavor = "multi_thread")]
async fn the_apps_name_means_main() {
    let collector = Collector::start().await;
    let own = std::process::id();
    collector.claim("shop", "fork", own, 0, |companion| {
        companion.fork = true;
        companion.checkout = Some("/src/fork".into());
        companion.started_ms -= 9000;
    });
    let _fork = App::bind(&collector.run("shop-fork.8080.sock"), "fork");
    collector.listening("shop/fork", 1).await;
    let answer = collector.get("shop.localhost").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("http://fork.shop.localhost:"), "{answer}");
    collector.claim("shop", "main", own, 0, |_| {});
    let main = App::bind(&collector.run("shop-main.8080.sock"), "main");
    let instance = collector.listening("shop/main", 1).await;
    assert_eq!(instance.host, "shop.localhost");
    assert_eq!(collector.instance("shop/fork").await.unwrap().host, "fork.shop.localhost");
    assert!(collector.get("shop.localhost").await.ends_with("main"));
    assert!(collector.get("fork.shop.localhost").await.ends_with("fork"));
    // While it restarts its listener, its name does not slip to the fork.
    main.kill().await;
    fs::remove_file(collector.run("shop-main.8080.sock")).unwrap();
    collector.listening("shop/main", 0).await;
    assert!(collector.get("shop.localhost").await.starts_with("HTTP/1.1 502"));
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_of_one_folder_take_turns() {
    let collector = Collector::start().await;
    let own = std::process::id();
    for name in ["main", "main-2", "main-3"] {
        collector.claim("shop", name, own, 0, |companion| {
            if name == "main-3" {
                companion.command = vec!["other".into()];
            }
        });
    }
    let _apps = ["main", "main_2", "main_3"]
        .map(|file| App::bind(&collector.run(&format!("shop-{file}.8080.sock")), file));
    for name in ["main", "main-2", "main-3"] {
        collector.listening(&format!("shop/{name}"), 1).await;
    }
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..4 {
        seen.insert(collector.get("shop.localhost").await.lines().last().unwrap().to_owned());
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["main", "main_2"], "of another command is not a copy");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_asked_for_too_early_comes_when_its_program_listens() {
    let collector = Collector::start().await;
    assert!(collector.get("shop.localhost").await.starts_with("HTTP/1.1 404"));
    collector.claim("shop", "main", std::process::id(), std::process::id(), |_| {});
    collector.listening("shop/main", 0).await;
    let early = async { tokio::join!(collector.get("shop.localhost"), collector.get("main.shop.localhost")) };
    let late = async {
        eventually("two waiting clients", || async {
            let metrics: serde_json::Value =
                collector.client().await.result("metrics", serde_json::Value::Null).await;
            metrics["text"].as_str()?.contains("agentfs_router_connections_open 2").then_some(())
        })
        .await;
        App::bind(&collector.run("shop-main.8080.sock"), "at last")
    };
    let ((one, two), _app) = tokio::join!(early, late);
    assert!(one.ends_with("at last") && two.ends_with("at last"), "{one} {two}");
}
