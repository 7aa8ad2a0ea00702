//! `url`, `wait`, `who`, `restart`: what scripts and people ask about a running instance, with bad input.
use crate::joining::{asked, companion, serve};
use crate::names::repository;
use agentfs_tests::processes::is_alive;
use agentfs_tests::wait::until;
use agentfs_tests::{Home, Process, artifact};
use agentfs_wire::control::InstanceInfo;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::net::TcpListener;
use std::path::Path;

/// Port of `fixture-wait`.
const PORT: u16 = 5000;

fn server() -> String {
    artifact::binary("fixture-wait").display().to_string()
}

fn start<'home>(home: &'home Home, copy: &str) -> Process<'home> {
    let running = home.wrap("shop", copy, &[server()]).body(copy).spawn();
    home.listener("shop", copy, PORT);
    running
}

/// A server with two ports, 5000 and 5001, both of Python's `http.server` in the folder `www`.
fn two_ports<'home>(home: &'home Home, copy: &str) -> Process<'home> {
    home.write("www/there", "yes");
    let script = "python3 -m http.server -d www 5001 & exec python3 -m http.server -d www 5000";
    let running = home.wrap("shop", copy, &["sh", "-c", script]).spawn();
    home.listener("shop", copy, 5000);
    home.listener("shop", copy, 5001);
    running
}

fn pid(process: &Process<'_>) -> i32 {
    process.pid()
}

#[test]
fn url_prints_where_an_instance_is() {
    let home = Home::new();
    let _ = home.agentfs(&["url"]).output().code(3);
    let _one = two_ports(&home, "one");
    let url = home.agentfs(&["url", "shop/one"]).text();
    let snapshot = home.instance("shop", "one").unwrap();
    assert_eq!(Some(url.trim()), snapshot.listeners[0].url.as_deref());
    // The instance of the folder, a pasted URL with a path, and the same without its scheme.
    let pasted = format!("{}/cart?item=1", url.trim());
    assert_eq!(home.agentfs(&["url"]).text(), url);
    assert_eq!(home.agentfs(&["url", "http://one.shop.localhost/x"]).text(), url);
    assert_eq!(home.agentfs(&["url", &pasted]).text(), url);
    // Several listeners: one URL on stdout, the others in a message.
    let other = format!("--port {}", snapshot.listeners[1].port);
    let several = home.agentfs(&["url", "--verbose"]).output().success().names(&[&other]);
    assert_eq!(several.stdout, url);
    let second = home.listener("shop", "one", 5001).url;
    assert_eq!(Some(home.agentfs(&["url", "--port", "5001"]).text().trim()), second.as_deref());
    let _ = home.agentfs(&["url", "--port", "9999"]).output().code(3).names(&["9999", "5000, 5001"]);
    let _ = home.agentfs(&["url", "shop/other"]).output().code(3).names(&["shop/other", "shop/one"]);
    let _ = home.agentfs(&["url", "--port", "0"]).output().code(2);
    let _two = start(&home, "two");
    let _ = home.agentfs(&["url"]).output().code(2).names(&["shop/one", "shop/two"]);
    let _ = home.agentfs(&["url", "http://example.com/"]).output().code(3).names(&["example.com"]);
}

/// A URL that leads nowhere is not printed.
#[test]
fn url_fails_without_a_router() {
    let home = Home::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let router = taken.local_addr().unwrap().to_string();
    let running = home.wrap("shop", "one", &[server()]).env("AGENTFS_ROUTER", &router).spawn();
    home.listener("shop", "one", PORT);
    let failed =
        home.agentfs(&["url"]).output().code(1).names(&["router", router.rsplit_once(':').unwrap().1]);
    assert_eq!(failed.stdout, "");
    running.terminate();
}

#[test]
fn wait_returns_when_an_instance_can_be_reached() {
    let home = Home::new();
    // For an instance, and a listener, that come later.
    let waiting = home.agentfs(&["wait", "shop/one", "--port", "5001", "--verbose"]).spawn();
    let _one = two_ports(&home, "one");
    let _ = waiting.finish().success().names(&["port 5001 of shop/one"]);
    let _ = home.agentfs(&["wait"]).output().success();
    let _ = home.agentfs(&["wait", "--http", "/there"]).output().success();
    let _ = home.agentfs(&["wait", "http://5001.one.shop.localhost/", "--http", "there"]).output().success();
    // It is redirected from `/www` to `/www/`, which is success too.
    std::fs::create_dir(home.work().join("www/folder")).unwrap();
    let _ = home.agentfs(&["wait", "--http", "/folder"]).output().success();
}

/// "wait for what never comes": a status of its own, and what was missing.
#[test]
fn wait_gives_up_with_a_status_of_its_own() {
    let home = Home::new();
    let give_up = |arguments: &[&str]| {
        let waited = home.agentfs(&[&["wait", "--timeout", "200ms"], arguments].concat()).output();
        waited.code(124)
    };
    let _ = give_up(&["shop/one"]).names(&["waited 0.2 s", "shop/one"]);
    let _ = give_up(&[]).names(&["no instance is running in"]);
    let _one = two_ports(&home, "one");
    let _ = give_up(&["--port", "9999"]).names(&["does not listen on port 9999"]);
    let _ = give_up(&["--http", "/absent"]).names(&["answers GET /absent with 404"]);
    let quiet = home.wrap("shop", "two", &["python3", "-c", "import socket; s = socket.socket(); s.bind(('127.0.0.1', 7000)); s.listen(); exec('while 1: s.accept()[0].recv(9)')"]);
    let _quiet = quiet.spawn();
    home.listener("shop", "two", 7000);
    let _ = give_up(&["shop/two", "--http", "/"]).names(&["does not answer GET /"]);
    for bad in [&["wait", "--timeout", "soon"][..], &["wait", "--http", "/a b"], &["wait", "--port", "x"]] {
        let _ = home.agentfs(bad).output().code(2);
    }
}

/// "who [PORT|URL] says which process of which fork answers there, from inside and outside."
#[test]
fn who_says_which_process_of_which_fork_answers() {
    let home = Home::new();
    let [one, two] = ["one", "two"].map(|copy| start(&home, copy));
    let line = |place: &str, of: &str, process: &Process<'_>| {
        format!("{place} is {} (pid {}) of shop/{of}", server(), pid(process))
    };
    // From inside, the port is each one's own.
    let agentfs = home.agentfs_path().display().to_string();
    for (copy, process) in [("one", &one), ("two", &two)] {
        let said = home.exec(&format!("shop/{copy}"), &[&agentfs, "who", "5000"]).text();
        assert_eq!(said.trim(), line("port 5000", copy, process));
    }
    let url = format!("http://two.shop.localhost:{}/path", home.router_port());
    let said = home.agentfs(&["who", &url]).text();
    assert_eq!(said.trim(), format!("{}, through the router", line(&url, "two", &two)));
    // From outside it is the host's.
    let address = home.agentfs(&["forward", "shop/two:5000"]).text();
    let port = address.trim().rsplit_once(':').unwrap().1;
    let forwarded = format!("{}, through a forward", line(&format!("port {port}"), "two", &two));
    for place in [port, address.trim(), &format!("http://localhost:{port}/x")] {
        assert_eq!(home.agentfs(&["who", place]).text().trim(), forwarded, "{place}");
    }
    // In another instance it is refused.
    let _ =
        home.exec("shop/one", &[&agentfs, "who", port]).output().code(3).names(&["shop/two", "is refused"]);
    let _ = home.agentfs(&["route", "other", "shop/one"]).output().success();
    let said = home.agentfs(&["who", "http://other.localhost"]).text();
    assert!(said.contains("of shop/one, through a route"), "{said}");
    let router = home.router_port().to_string();
    let said = home.agentfs(&["who", &router]).text();
    assert!(said.contains("is the router of agentfs (pid"), "{said}");
    let json: Value =
        serde_json::from_str(&home.exec("shop/one", &[agentfs.as_str(), "who", "--json"]).text()).unwrap();
    assert_eq!((&json[0]["instance"], &json[0]["pid"]), (&json!("one"), &json!(pid(&one))));
}

/// A process that is not wrapped is named with its folder; a free port is not found.
#[test]
fn who_names_strangers_and_free_ports() {
    let home = Home::new();
    let _one = start(&home, "one");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let said = home.agentfs(&["who", &port]).text();
    let own = format!("(pid {}), not wrapped, in ", std::process::id());
    assert!(said.starts_with(&format!("port {port} is ")) && said.contains(&own), "{said}");
    drop(listener);
    let _ = home.agentfs(&["who", &port]).output().code(3).names(&[&port]);
    let free = home.agentfs(&["who", "5000"]).output();
    if free.status.code() == Some(3) {
        // Unless a program of this machine happens to have that port.
        let _ = free.names(&["port 5000 of the host", "shop/one"]);
    }
    let agentfs = home.agentfs_path().display().to_string();
    let inside = home.exec("shop/one", &[&agentfs, "who", &port]).output().code(3);
    let _ = inside.names(&["neither in this instance nor on the host"]);
    for bad in ["", "0", "localhost", "65536", "http://example.com/", "shop/one:x"] {
        let _ = home.agentfs(&["who", bad]).output().code(2);
    }
    let _ = home.agentfs(&["who", "http://none.shop.localhost/"]).output().code(3).names(&["none.shop"]);
}

/// "`restart` (stop and start again with the same command line, folder, rules and names; says what it starts)".
#[test]
fn restart_starts_the_same_again() {
    let home = Home::new();
    std::fs::create_dir(home.work().join("sub")).unwrap();
    let sub = home.work().join("sub");
    let only = ["wrap", "--app", "shop", "--instance", "one", "--only", "5000,6000", "--", &server()];
    let first = home.agentfs(&only).directory(&sub).body("first").spawn();
    home.listener("shop", "one", PORT);
    let before = home.instance("shop", "one").unwrap();
    let address = home.agentfs(&["forward", "shop/one:5000"]).text();
    let second = home.agentfs(&["restart", "shop/one"]).body("second").speaking().spawn();
    first.finish();
    until("the second one serves", || {
        let info = home.instance("shop", "one")?;
        (info.started_ms > before.started_ms && !info.listeners.is_empty()).then_some(())
    });
    home.expect_body("one.shop.localhost", "second");
    let after = home.instance("shop", "one").unwrap();
    assert_eq!((after.command, after.directory), (before.command, before.directory));
    assert_eq!(after.wrap_pid, u32::try_from(pid(&second)).ok());
    let said = second.stderr();
    assert!(
        said.contains("restarting shop/one") && said.contains(&server()) && said.contains("/sub"),
        "{said}"
    );
    let companion: Value =
        serde_json::from_slice(&std::fs::read(home.paths().run.join("shop-one.json")).unwrap()).unwrap();
    assert_eq!(companion["rules"]["only"], json!([5000, 6000]));
    let forwards = home.call("forward.list", Value::Null);
    assert_eq!(forwards["forwards"][0]["listen"], json!(address.trim()));
    // In its folder, without a name.
    let third = home.agentfs(&["restart"]).directory(&sub).body("third").spawn();
    second.finish();
    until("the third one serves", || {
        let info = home.instance("shop", "one")?;
        (info.started_ms > after.started_ms && !info.listeners.is_empty()).then_some(())
    });
    home.expect_body("one.shop.localhost", "third");
    third.terminate();
}

/// Every command of the instance that was running is started again, in its order and its folder, as it was started.
#[test]
fn restart_starts_every_command_of_an_instance_again() {
    let home = Home::new();
    let (_main, cart) = repository(&home);
    let web = cart.join("web");
    std::fs::create_dir_all(&web).unwrap();
    let api = serve(&home, &cart, 5000, "api");
    home.listener("shop", "feature-cart", 5000);
    let script = "FIXTURE_PORT=$PORT FIXTURE_BODY=web exec \"$0\"";
    let front = ["wrap", "--port", "5001", "--", "sh", "-c", script, &server()];
    let front = home.agentfs(&front).directory(&web).spawn();
    home.listener("shop", "feature-cart", 5001);
    // A command that has ended is not started again.
    assert_eq!(asked(&home, &cart, 5001), "web");
    let before = home.instance("shop", "feature-cart").unwrap();
    assert_eq!(before.commands.len(), 2, "{before:?}");
    let address = home.agentfs(&["forward", "feature-cart.shop:5001"]).text();
    let again = home.agentfs(&["restart"]).directory(&web).speaking().spawn();
    api.finish();
    front.finish();
    let after = until("both serve again", || {
        let info = home.instance("shop", "feature-cart")?;
        let is_new = info.started_ms > before.started_ms && info.commands.len() == 2;
        (is_new && info.listeners.len() == 2).then_some(info)
    });
    let of = |info: &InstanceInfo| -> Vec<_> {
        info.commands.iter().map(|one| (one.command.clone(), one.directory.clone())).collect()
    };
    assert_eq!(of(&after), of(&before));
    assert_eq!((asked(&home, &cart, 5000), asked(&home, &cart, 5001)), ("api".into(), "web".into()));
    let companion = companion(&home, "shop-feature_cart.json");
    assert_eq!((companion.stem.as_deref(), companion.commands[1].port), (Some("feature-cart"), Some(5001)));
    assert_eq!(home.call("forward.list", Value::Null)["forwards"][0]["listen"], json!(address.trim()));
    until("its listeners are told", || again.stderr().contains("127.0.0.1:5001").then_some(()));
    let said = again.stderr();
    let told = said.match_indices("restarting shop/feature-cart").count();
    assert!(told == 2 && said.contains("/web)"), "{said}");
    // What is sent to it goes to all; the status is that of the first that failed.
    let _ = again.terminate().signal(Signal::SIGTERM);
    home.gone("shop", "feature-cart");
}

/// What cannot be started again is not stopped.
#[test]
fn restart_fails_before_it_stops_anything() {
    let home = Home::new();
    let _ = home.agentfs(&["restart"]).output().code(3);
    let _ = home.agentfs(&["restart", "shop/none"]).output().code(3).names(&["shop/none"]);
    let folder = home.work().join("gone");
    std::fs::create_dir(&folder).unwrap();
    std::fs::copy(server(), folder.join("serve")).unwrap();
    let running = home.wrap("shop", "one", &["./serve"]).directory(&folder).spawn();
    home.listener("shop", "one", PORT);
    std::fs::remove_file(folder.join("serve")).unwrap();
    let _ = home.agentfs(&["restart", "shop/one"]).output().code(127).names(&["./serve", "still running"]);
    std::fs::remove_dir(&folder).unwrap();
    let _ = home.agentfs(&["restart", "shop/one"]).output().code(1).names(&["gone", "still running"]);
    let agentfs = home.agentfs_path().display().to_string();
    let inside = home.exec("shop/one", &[agentfs.as_str(), "restart"]).output().code(1);
    let _ = inside.names(&["cannot restart itself"]);
    assert!(is_alive(pid(&running)));
    let by_hand = std::os::unix::net::UnixListener::bind(home.paths().run.join("hand-made.sock")).unwrap();
    until("the socket made by hand is known", || home.instance("hand", "made"));
    let _ = home.agentfs(&["restart", "hand/made"]).output().code(1).names(&["was not started by agentfs"]);
    drop(by_hand);
    running.terminate();
}

/// `exec` without a name, and its failures before the program starts.
#[test]
fn exec_without_a_name_means_the_instance_of_the_folder() {
    let home = Home::new();
    let client = artifact::binary("fixture-client").display().to_string();
    let _ = home.agentfs(&["exec", "--", "true"]).output().code(125);
    let _one = start(&home, "one");
    let here = home.agentfs(&["exec", "--", &client, "5000"]).text();
    assert_eq!(here, "one");
    // As before, `--` may be left out after a name.
    assert_eq!(home.agentfs(&["exec", "shop/one", &client, "5000"]).text(), "one");
    assert_eq!(home.agentfs(&["exec", "http://one.shop.localhost/", "--", &client, "5000"]).text(), "one");
    let _ = home.agentfs(&["exec", "--", "sh", "-c", "exit 3"]).output().code(3);
    let _ = home.agentfs(&["exec", "--", "no-such-program"]).output().code(127);
    let _ = home.agentfs(&["exec", "shop/one"]).output().code(125).names(&["shop/one"]);
    let _ = home.agentfs(&["exec", "other", "--", "true"]).output().code(125).names(&["other"]);
    let _ = home
        .agentfs(&["exec", "--", "true"])
        .directory(Path::new("/"))
        .output()
        .code(125)
        .names(&["shop/one"]);
    let _two = start(&home, "two");
    let _ = home.agentfs(&["exec", "--", "true"]).output().code(125).names(&["shop/one", "shop/two"]);
    // Inside an instance it is that one.
    let agentfs = home.agentfs_path().display().to_string();
    let nested = home.exec("shop/two", &[agentfs.as_str(), "exec", "--", &client, "5000"]).text();
    assert_eq!(nested, "two");
}

/// "A port held by a forward is explained where a person meets it: `port 3000 is node api.js (pid 812) of
/// taskboard/blue`": in an instance, and for a program that keeps the host's port.
#[test]
fn a_port_in_use_is_explained() {
    let home = Home::new();
    let one = start(&home, "one");
    let bind = |port: &str| format!("import socket; socket.socket().bind(('127.0.0.1', {port}))");
    let twice = "import socket, sys\na, b = socket.socket(), socket.socket()\na.bind(('127.0.0.1', 7000))\n\
        try: b.bind(('127.0.0.1', 7000))\nexcept OSError: sys.stdin.read()";
    let traced = home.agentfs(&["trace", "--app", "shop", "--", "python3", "-c", twice]);
    let mut traced = traced.open_input().spawn();
    until("the instance's own listener is named", || {
        let said = traced.stderr();
        (said.contains("EADDRINUSE)  port 7000 is ") && said.contains(" of shop/")).then_some(())
    });
    traced.close_input();
    let own = traced.finish().success();
    assert!(
        own.stderr.contains(&format!("{twice:.20}")) || own.stderr.contains("-c import socket"),
        "{}",
        own.explain()
    );
    let address = home.agentfs(&["forward", "shop/one:5000"]).text();
    let port = address.trim().rsplit_once(':').unwrap().1;
    let text = format!("port {port} is {} (pid {}) of shop/one, through a forward", server(), pid(&one));
    // As `wrap` tells it on a terminal.
    let told = home.agentfs(&["-v", "wrap", "--app", "shop", "--instance", "two", "--except", port, "--"]);
    let script = format!(
        "{}\nexcept OSError as e: print(e.errno)\nimport sys; sys.stdin.read()",
        bind(port).replace("; socket.socket", "\ntry: socket.socket")
    );
    let mut told = told.args(["python3", "-c", &script]).open_input().spawn();
    until("the reason is told", || told.stderr().contains(&text).then_some(()));
    told.close_input();
    let _ = told.finish().success();
    // A stranger has it.
    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = stranger.local_addr().unwrap().port().to_string();
    let mut told = home
        .agentfs(&["-v", "wrap", "--app", "shop", "--instance", "three", "--except", &port, "--"])
        .args(["sh", "-c", "python3 -c \"$0\"; read line", &bind(&port)])
        .open_input()
        .spawn();
    let text = format!("(pid {})", std::process::id());
    until("the stranger is named", || told.stderr().contains(&text).then_some(()));
    told.close_input();
    told.finish();
}

/// The usual case: the program ends as soon as its bind has failed.
#[test]
fn a_port_in_use_is_explained_even_if_the_program_ends_at_once() {
    let home = Home::new();
    let _one = start(&home, "one");
    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    let other = stranger.local_addr().unwrap().port().to_string();
    let script = "socket(S, PF_INET, SOCK_STREAM, 0); exit !bind(S, sockaddr_in($ARGV[0], INADDR_LOOPBACK))";
    for (port, holder) in [(other.as_str(), "(pid "), ("5000", "of shop/one"), (&other, "(pid ")] {
        let bind = home.agentfs(&["wrap", "--app", "shop", "--instance", "one", "--except", &other, "--"]);
        let mut told = bind.args(["perl", "-MSocket", "-e", script, port]).speaking().spawn();
        told.wait();
        // It is told by another process.
        until("the reason is told", || {
            let said = told.stderr();
            (said.contains(&format!("port {port} is ")) && said.contains(holder)).then_some(())
        });
        let _ = told.finish().code(1);
    }
}
