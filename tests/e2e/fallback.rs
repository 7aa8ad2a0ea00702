//! The fallback path: no interposition, only the convention of names in the run dir.
use agentfs_tests::wait::until;
use agentfs_tests::{Home, artifact};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;

/// Answers every connection to a Unix socket at `path` with `body`, until the test process ends.
fn serve(path: &Path, body: &'static str) {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut line = String::new();
            while reader.read_line(&mut line).unwrap_or(0) > 0 && !line.trim_end().is_empty() {
                line.clear();
            }
            let length = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
            );
        }
    });
}

fn known(home: &Home, app: &str, instance: &str) {
    until(&format!("{app}/{instance} is discovered"), || {
        (!home.instance(app, instance)?.listeners.is_empty()).then_some(())
    });
}

#[test]
fn a_socket_made_by_hand_is_discovered_and_routed() {
    let home = Home::new();
    home.start_daemon();
    serve(&home.paths().run.join("my-app-abc123.sock"), "by hand");
    known(&home, "my-app", "abc123");
    home.expect_body("my-app.localhost", "by hand");
    home.expect_body("abc123.my-app.localhost", "by hand");
    home.kill_daemon();
    home.start_daemon();
    known(&home, "my-app", "abc123");
    home.expect_body("my-app.localhost", "by hand");
    std::fs::remove_file(home.paths().run.join("my-app-abc123.sock")).unwrap();
    home.gone("my-app", "abc123");
    home.expect_nothing("my-app.localhost");
}

/// "or drops {app}-{instance}.sock into the run dir in any way, symlink included"
#[test]
fn a_link_and_a_rename_are_discovered_and_routed() {
    let home = Home::new();
    home.start_daemon();
    let outside = home.work().join("elsewhere.sock");
    serve(&outside, "linked");
    std::os::unix::fs::symlink(&outside, home.paths().run.join("shop-linked.sock")).unwrap();
    known(&home, "shop", "linked");
    home.expect_body("linked.shop.localhost", "linked");
    let draft = home.paths().run.join("draft.tmp");
    serve(&draft, "renamed");
    std::fs::rename(&draft, home.paths().run.join("shop-renamed.sock")).unwrap();
    known(&home, "shop", "renamed");
    home.expect_body("renamed.shop.localhost", "renamed");
    // The link goes, what it pointed at stays.
    let _ = home.agentfs(&["prune"]).output().success();
    assert!(outside.exists() && home.paths().run.join("shop-linked.sock").exists());
}

/// Sockets that were there before the collector started.
#[test]
fn what_was_there_before_the_collector_is_found() {
    let home = Home::new();
    home.start_daemon();
    home.kill_daemon();
    serve(&home.paths().run.join("early-bird.sock"), "early");
    home.start_daemon();
    known(&home, "early", "bird");
    home.expect_body("early.localhost", "early");
}

/// "`AGENTFS_NO_INTERPOSE=1 agentfs wrap -- CMD` gives a cooperative program AGENTFS_SOCKET, AGENTFS_APP,
/// AGENTFS_INSTANCE, AGENTFS_HOSTNAME, AGENTFS_URL and PORT and nothing else."
#[test]
fn a_cooperative_program_needs_no_interposition() {
    let home = Home::new();
    let copies = ["one", "two"];
    let _running = copies.map(|copy| {
        home.wrap("shop", copy, &artifact::python("cooperative.py"))
            .env("AGENTFS_NO_INTERPOSE", "1")
            .body(copy)
            .spawn()
    });
    for copy in copies {
        known(&home, "shop", copy);
        home.expect_body(&format!("{copy}.shop.localhost"), copy);
    }
}

#[test]
fn a_cooperative_program_gets_six_variables_and_nothing_else() {
    let home = Home::new();
    let names = |text: &str| -> BTreeSet<String> {
        text.split('\0').filter_map(|line| Some(line.split_once('=')?.0.to_owned())).collect()
    };
    let before = names(&home.program("env").arg("-0").env("AGENTFS_NO_INTERPOSE", "1").text());
    let after = names(&home.wrap("shop", "one", &["env", "-0"]).env("AGENTFS_NO_INTERPOSE", "1").text());
    let added: Vec<&str> =
        after.difference(&before).map(String::as_str).filter(|name| *name != "_").collect();
    let six =
        ["AGENTFS_APP", "AGENTFS_HOSTNAME", "AGENTFS_INSTANCE", "AGENTFS_SOCKET", "AGENTFS_URL", "PORT"];
    assert_eq!(added, six);
}

/// A program of anybody's that binds the name of its instance as its main listener while it is wrapped.
#[test]
fn a_wrapped_program_may_bind_its_socket_itself() {
    let home = Home::new();
    let _running = home.wrap("shop", "one", &artifact::python("cooperative.py")).body("own").spawn();
    known(&home, "shop", "one");
    home.expect_body("one.shop.localhost", "own");
}
