//! "Which local users may read names, folders and command lines (index, 502 page) is decided and documented: other users
//! of the machine should see names only."
#![cfg(target_os = "linux")]
use agentfs_tests::wait::until;
use agentfs_tests::{Home, artifact};

/// A user without a name, as far as tests go.
const STRANGER: [&str; 5] = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups", "--"];

/// Text that no other user may read.
const FOLDER: &str = "a-private-folder";
const ARGUMENT: &str = "--token=hidden";

#[test]
fn other_users_see_names_only() {
    let home = Home::new();
    let folder = home.work().join(FOLDER);
    std::fs::create_dir(&folder).unwrap();
    let _ = home.agentfs(&["daemon", "start", "--tls"]).output().success();
    let server = artifact::binary("fixture-wait").display().to_string();
    let wrapped = ["wrap", "--app", "shop", "--instance", "one", "--", &server, ARGUMENT];
    let running = home.agentfs(&wrapped).directory(&folder).spawn();
    home.listener("shop", "one", 5000);
    let socket = folder.join("app.sock").display().to_string();
    let by_hand = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let _ = home.agentfs(&["route", "by-hand", &socket]).output().success();
    let daemon = home.daemon().unwrap();
    let (http, https) = (daemon.http_port, daemon.https_port.unwrap());
    let ask_for = |path: &str, user: &[&str], scheme: &str, options: &[&str], host: &str| {
        let port = if scheme == "https" { https } else { http };
        let curl = ["curl", "--silent", "--show-error", "--insecure", "--max-time", "20"];
        let command = [user, &curl, options].concat();
        let run = home.program(command[0]).args(&command[1..]);
        let run = run.args(["--resolve", &format!("{host}:{port}:127.0.0.1")]);
        run.arg(format!("{scheme}://{host}:{port}{path}")).directory(std::path::Path::new("/")).text()
    };
    let ask =
        |user: &[&str], scheme: &str, options: &[&str], host: &str| ask_for("/", user, scheme, options, host);
    let ways = [
        ("http", &["--http1.1"][..]),
        ("http", &["--http2-prior-knowledge"]),
        ("https", &["--http1.1"]),
        ("https", &["--http2"]),
        ("http", &["-H", "Accept: application/json"]),
        ("http", &["-H", "Accept: text/html"]),
    ];
    let all = |user: &[&str], host: &str| ways.map(|(scheme, options)| ask(user, scheme, options, host));
    let index = ["localhost", "agentfs.localhost", "nobody.localhost"];
    let shows = |page: &str| page.contains(FOLDER) || page.contains(ARGUMENT) || page.contains(".sock");
    for host in index {
        for page in all(&[], host) {
            assert!(page.contains("shop.localhost") && shows(&page), "{host}: {page}");
        }
    }
    let metrics = |user: &[&str]| ask_for("/metrics", user, "http", &[], "agentfs.localhost");
    assert!(metrics(&[]).contains(&format!("target=\"{socket}\"")));
    if agentfs_tests::skip::is_root() {
        let seen = metrics(&STRANGER);
        assert!(seen.contains("instance=\"one\"") && !seen.contains(".sock"), "{seen}");
        for page in index.iter().flat_map(|host| all(&STRANGER, host)) {
            assert!(
                page.contains("shop.localhost") && page.contains("by-hand.localhost") && !shows(&page),
                "{page}"
            );
        }
    }
    drop(by_hand);
    std::fs::remove_file(&socket).unwrap();
    let _ = running.terminate();
    home.gone("shop", "one");
    for page in all(&[], "one.shop.localhost") {
        assert!(page.contains(FOLDER) && page.contains(ARGUMENT) && page.contains(".sock"), "{page}");
    }
    for page in all(&[], "by-hand.localhost") {
        assert!(page.contains(FOLDER), "{page}");
    }
    if agentfs_tests::skip::is_root() {
        for host in ["one.shop.localhost", "by-hand.localhost"] {
            for page in all(&STRANGER, host) {
                assert!(page.contains(host) && page.contains("nothing listens") && !shows(&page), "{page}");
            }
        }
    }
}

/// The pages of an app whose `main` is not running, and of one with several ports.
#[test]
fn other_users_see_only_names_of_forks_and_ports() {
    let home = Home::new();
    let server = artifact::binary("fixture-wait").display().to_string();
    let script = "FIXTURE_PORT=5001 \"$0\" \"$1\" & exec \"$0\" \"$1\"";
    let wrapped = ["wrap", "--app", "shop", "--instance", "one", "--", "sh", "-c", script, &server, ARGUMENT];
    let _running = home.agentfs(&wrapped).spawn();
    home.listener("shop", "one", 5000);
    home.listener("shop", "one", 5001);
    let port = home.router_port();
    let ask = |user: &[&str], host: &str| {
        let curl = ["curl", "--silent", "--show-error", "--max-time", "20", "-H", "Accept: text/html"];
        let command = [user, &curl].concat();
        let run = home.program(command[0]).args(&command[1..]);
        let run = run.args(["--resolve", &format!("{host}:{port}:127.0.0.1")]);
        run.arg(format!("http://{host}:{port}/")).directory(std::path::Path::new("/")).text()
    };
    for (host, named) in [("shop.localhost", "one.shop.localhost"), ("one.shop.localhost", "5001.one.shop")] {
        let own = until(host, || Some(ask(&[], host)).filter(|page| page.contains(named)));
        let commands = host.starts_with("one");
        assert_eq!(own.contains(ARGUMENT), commands, "{own}");
        assert!(own.contains("shop/one"), "{own}");
        if agentfs_tests::skip::is_root() {
            let page = ask(&STRANGER, host);
            assert!(page.contains(named) && !page.contains(ARGUMENT) && !page.contains("shop/one"), "{page}");
        }
    }
}
