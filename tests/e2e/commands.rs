//! The commands beside `wrap` and `exec`: what they print, what they do, how they end.
use agentfs_tests::wait::until;
use agentfs_tests::{Home, Process, artifact, http};
use serde_json::Value;

const PORT: u16 = 5000;

fn start<'home>(home: &'home Home, app: &str, copy: &str) -> Process<'home> {
    let running =
        home.wrap(app, copy, &[artifact::binary("fixture-wait").display().to_string()]).body(copy).spawn();
    home.listener(app, copy, PORT);
    running
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("no JSON ({error}): {text}"))
}

/// "Every command: help with an example."
#[test]
fn every_command_has_help_with_an_example() {
    let home = Home::new();
    let commands = [
        "wrap",
        "name",
        "exec",
        "ps",
        "trace",
        "route",
        "forward",
        "stop",
        "restart",
        "url",
        "wait",
        "who",
        "prune",
        "trust",
        "mac-tools",
        "doctor",
    ];
    let actions =
        ["start", "stop", "status", "install", "uninstall", "run"].map(|action| vec!["daemon", action]);
    let lists = [["route", "list"], ["route", "remove"], ["forward", "list"], ["forward", "remove"]];
    let actions = actions.into_iter().chain(lists.map(Vec::from));
    for mut command in commands.map(|command| vec![command]).into_iter().chain(actions) {
        command.push("--help");
        let text = home.agentfs(&command).text();
        let example = format!("  agentfs {}", command[..command.len() - 1].join(" "));
        let variant = format!(" agentfs {}", command[..command.len() - 1].join(" "));
        assert!(text.contains("Examples:"), "{command:?}:\n{text}");
        assert!(text.contains(&example) || text.contains(&variant), "{command:?}:\n{text}");
    }
    let text = home.agentfs(&["--help"]).text();
    for word in commands.iter().chain(&["daemon", "Exit status", "127"]) {
        assert!(text.contains(word), "{word}:\n{text}");
    }
    assert!(home.agentfs(&["--version"]).text().starts_with("agentfs "));
}

#[test]
fn ps_lists_what_runs() {
    let home = Home::new();
    assert_eq!(json(&home.agentfs(&["ps", "--json"]).text()), json("[]"));
    let _running = [start(&home, "shop", "one"), start(&home, "shop", "two"), start(&home, "till", "one")];
    let text = home.agentfs(&["ps"]).text();
    for word in ["shop", "till", "one", "two", "127.0.0.1:5000", ".localhost"] {
        assert!(text.contains(word), "{word}:\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "no colour where it is no terminal: {text:?}");
    let list = json(&home.agentfs(&["ps", "--json"]).text());
    let list = list.as_array().unwrap();
    assert_eq!(list.len(), 3);
    for info in list {
        let url = info["url"].as_str().unwrap();
        let host = url.trim_start_matches("http://").split([':', '/']).next().unwrap();
        home.expect_body(host, info["instance"].as_str().unwrap());
        assert_eq!(info["listeners"][0]["port"], 5000, "{info}");
    }
    let counted = json(&home.agentfs(&["ps", "--json"]).text());
    assert_eq!(counted[0]["listeners"][0]["requests"], 1, "requests are counted");
}

#[test]
fn ps_watches() {
    let home = Home::new();
    home.start_daemon();
    let mut watching = home.agentfs(&["ps", "--watch", "--json"]).spawn();
    watching.wait_for("[]");
    let _running = start(&home, "shop", "one");
    watching.wait_for("127.0.0.1:5000");
    let last = watching.stdout();
    let line = last.lines().last().unwrap();
    assert!(json(line).is_array(), "one array a line: {line}");
}

/// "who called what on which address, what became of it and why, which listener, which connection"
#[test]
fn trace_shows_the_calls_of_one_command() {
    let home = Home::new();
    let server = artifact::binary("fixture-wait").display().to_string();
    let client = artifact::binary("fixture-client").display().to_string();
    let script = "\"$0\" & server=$!; until \"$1\" 5000 2>/dev/null; do :; done; kill $server; exit 7";
    let trace =
        home.agentfs(&["trace", "--json", "--app", "shop", "--", "bash", "-c", script, &server, &client]);
    let output = trace.body("traced").output().code(7);
    let lines = [&output.stderr, &output.stdout].into_iter().flat_map(|text| text.lines());
    let events: Vec<Value> = lines.filter_map(|line| serde_json::from_str(line).ok()).collect();
    let calls = |name: &str| events.iter().filter(|event| event["call"] == name).collect::<Vec<_>>();
    assert!(output.stdout.contains("traced"), "{}", output.explain());
    for (call, address) in
        [("bind", "127.0.0.1:5000"), ("listen", "127.0.0.1:5000"), ("connect", "127.0.0.1:5000")]
    {
        let found = calls(call)
            .into_iter()
            .any(|event| event["address"] == address && event["outcome"] == "rewritten");
        assert!(found, "no {call} of {address}: {}", output.explain());
    }
    assert!(!calls("accept").is_empty(), "{}", output.explain());
    let bind = calls("bind")[0];
    assert_eq!((bind["app"].as_str(), bind["program"].as_str()), (Some("shop"), Some("fixture-wait")));
    assert!(bind["pid"].as_u64() > Some(1) && bind["socket"].as_str().is_some(), "{bind}");
    assert!(
        events.iter().any(|event| event["kind"] == "process_exited" || event["kind"] == "instance_ended")
    );
}

#[test]
fn trace_says_why_a_call_was_passed() {
    let home = Home::new();
    let script = "import socket; s = socket.socket(); s.settimeout(1); s.connect_ex(('127.0.0.1', 1))";
    let trace = home.agentfs(&["trace", "--json", "--app", "shop", "--", "python3", "-c", script]);
    let output = trace.output().success();
    let said = format!("{}{}", output.stdout, output.stderr);
    assert!(said.contains("no_listener") && said.contains("127.0.0.1:1"), "{}", output.explain());
}

#[test]
fn trace_follows_an_app() {
    let home = Home::new();
    home.start_daemon();
    let mut trace = home.agentfs(&["trace", "--json", "--app", "shop"]).spawn();
    // The page that asks wrapped programs for every call says that somebody listens.
    until("the trace is on", || {
        (std::fs::read(&home.paths().trace_page).ok()?.first() == Some(&1)).then_some(())
    });
    let _other = start(&home, "till", "one");
    let running = start(&home, "shop", "one");
    home.expect_body("one.shop.localhost", "one");
    trace.wait_for("listener_up");
    trace.wait_for("\"accept\"");
    running.terminate();
    trace.wait_for("instance_ended");
    assert!(!trace.stdout().contains("till"), "{}", trace.stdout());
    let since = home.agentfs(&["trace", "--json", "--since", "10m"]).spawn();
    let mut since = since;
    since.wait_for("till");
    drop((trace, since));
    until("the trace is off", || {
        (std::fs::read(&home.paths().trace_page).ok()?.first() == Some(&0)).then_some(())
    });
}

/// "target: a socket path, host:port on loopback, or app/instance"
#[test]
fn route_gives_names_by_hand() {
    let home = Home::new();
    let _running = start(&home, "shop", "one");
    let socket = home.listener("shop", "one", PORT).socket;
    let host = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = host.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        while let Ok((mut stream, _)) = host.accept() {
            let _ = stream.read(&mut [0; 4096]);
            let _ =
                stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nhost");
        }
    });
    for (name, target, body) in [
        ("socket.localhost", socket.as_str(), "one"),
        ("port.localhost", address.as_str(), "host"),
        ("instance.localhost", "shop/one", "one"),
    ] {
        let _ = home.agentfs(&["route", name, target]).output().success();
        home.expect_body(name, body);
    }
    let list = json(&home.agentfs(&["route", "--list", "--json"]).text());
    assert_eq!(list.as_array().map(Vec::len), Some(3), "{list}");
    assert!(home.agentfs(&["route", "--list"]).text().contains("port.localhost"));
    // They outlive a killed collector.
    home.kill_daemon();
    home.start_daemon();
    home.expect_body("socket.localhost", "one");
    // A name that is taken is not lost by accident.
    let again = home.agentfs(&["route", "port.localhost", "shop/one"]).output();
    assert!(!again.status.success() && again.stderr.contains("port.localhost"), "{}", again.explain());
    let _ = home.agentfs(&["route", "--remove", "port.localhost"]).output().success();
    assert_eq!(home.get("port.localhost").status, 404);
    let _ =
        home.agentfs(&["route", "--remove", "port.localhost"]).output().code(3).names(&["port.localhost"]);
}

#[test]
fn route_refuses_what_it_cannot_reach() {
    let home = Home::new();
    for target in ["192.0.2.1:80", "no such thing", "127.0.0.1:0", "127.0.0.1:99999", "nowhere/one"] {
        let output = home.agentfs(&["route", "bad.localhost", target]).output();
        let thing = target.split(':').next().unwrap();
        assert!(!output.status.success() && output.stderr.contains(thing), "{}", output.explain());
    }
    let output = home.agentfs(&["route", "no label!.localhost", "127.0.0.1:80"]).output();
    assert!(!output.status.success() && output.stderr.contains("no label!"), "{}", output.explain());
}

#[test]
fn stop_ends_an_instance() {
    let home = Home::new();
    let [one, two, three] = ["one", "two", "three"].map(|copy| start(&home, "shop", copy));
    let _till = start(&home, "till", "one");
    let _ = home.agentfs(&["stop", "shop/one"]).output().success();
    one.finish();
    home.gone("shop", "one");
    home.expect_body("two.shop.localhost", "two");
    let _ = home.agentfs(&["stop", "shop"]).output().success();
    two.finish();
    three.finish();
    home.gone("shop", "two");
    home.gone("shop", "three");
    home.expect_body("one.till.localhost", "one");
    let _ = home.agentfs(&["stop", "shop/one"]).output().code(3).names(&["shop/one"]);
}

/// Many are asked at once and looked at together, and those that are not meant go on.
#[test]
fn stop_ends_dozens_at_once() {
    let home = Home::new();
    let names: Vec<String> = (0..36).map(|number| format!("f{number}")).collect();
    let running: Vec<Process> = names.iter().map(|name| start(&home, "shop", name)).collect();
    let _till = start(&home, "till", "one");
    let stopped = home.agentfs(&["stop", "shop", "--verbose"]).output().success();
    let words: Vec<&str> = names.iter().map(String::as_str).collect();
    let stopped = stopped.names(&words);
    assert!(!stopped.stderr.contains("killing"), "{}", stopped.explain());
    running.into_iter().for_each(|process| drop(process.finish()));
    for name in &names {
        home.gone("shop", name);
    }
    home.expect_body("one.till.localhost", "one");
}

/// "`agentfs stop X && agentfs wrap … (same name)`: 502 for 12–13 s, while `ps` lists the listener": the time that the
/// old instance is given is longer than the test waits, and the new one does not inherit it.
#[test]
fn a_name_that_was_stopped_serves_again_at_once() {
    let home = Home::new();
    let mut running = start(&home, "shop", "one");
    for _ in 0..50 {
        let _ = home.agentfs(&["stop", "shop/one", "--timeout", "300"]).output().success();
        // Not waited for: the new one may take the name before the collector has seen the old one's end.
        let next = start(&home, "shop", "one");
        drop(std::mem::replace(&mut running, next).finish());
        home.expect_body("one.shop.localhost", "one");
    }
}

/// A program that ignores SIGTERM is killed when the time is over.
#[test]
fn stop_kills_what_does_not_end() {
    let home = Home::new();
    let server = artifact::binary("fixture-wait").display().to_string();
    let stubborn =
        home.wrap("shop", "one", &["sh", "-c", "trap '' TERM; \"$0\"", &server]).body("one").spawn();
    home.listener("shop", "one", PORT);
    let _ = home.agentfs(&["stop", "shop/one", "--timeout", "1"]).output().success();
    stubborn.finish();
    home.gone("shop", "one");
}

#[test]
fn an_instance_may_be_named_in_three_ways() {
    let home = Home::new();
    let _running = start(&home, "shop", "one");
    let client = artifact::binary("fixture-client").display().to_string();
    for name in ["shop/one", "one.shop", "shop"] {
        assert_eq!(home.exec(name, &[&client, "5000"]).text(), "one", "{name}");
    }
    let _second = start(&home, "shop", "two");
    let output = home.exec("shop", &["true"]).output();
    assert!(!output.status.success(), "{}", output.explain());
    let _ = output.names(&["shop/one", "shop/two"]);
}

#[test]
fn exec_passes_the_exit_status_and_names_what_is_missing() {
    let home = Home::new();
    let _running = start(&home, "shop", "one");
    let _ = home.exec("shop/one", &["sh", "-c", "exit 42"]).output().code(42);
    let _ = home.exec("shop/one", &["no-such-program"]).output().code(127).names(&["no-such-program"]);
    let missing = home.exec("shop/other", &["true"]).output().code(125);
    let _ = missing.names(&["shop/other"]);
}

#[test]
fn daemon_starts_stops_and_tells() {
    let home = Home::new();
    let _ = home.agentfs(&["daemon", "status"]).output().code(3);
    let started = home.start_daemon();
    let status = home.agentfs(&["daemon", "status", "--json"]).text();
    assert_eq!(json(&status)["pid"], started.pid, "{status}");
    assert!(home.agentfs(&["daemon", "status"]).text().contains(&started.pid.to_string()));
    let _running = start(&home, "shop", "one");
    let _ = home.agentfs(&["daemon", "stop"]).output().success();
    until("the collector is gone", || home.daemon().is_none().then_some(()));
    let _ = home.agentfs(&["daemon", "status"]).output().code(3);
    // Stopping what does not run is done already.
    let _ = home.agentfs(&["daemon", "stop"]).output();
    home.start_daemon();
    home.listener("shop", "one", PORT);
    home.expect_body("one.shop.localhost", "one");
}

/// "HTTP on loopback: /livez, /readyz, /metrics on the control host name only."
#[test]
fn the_collector_has_pages_of_its_own() {
    let home = Home::new();
    let _running = start(&home, "shop", "one");
    let port = home.router_port();
    for path in ["/livez", "/readyz", "/metrics"] {
        let answer = http::get(port, "agentfs.localhost", path).unwrap();
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        let elsewhere = http::get(port, "one.shop.localhost", path).unwrap();
        assert_eq!(elsewhere.body, "one", "{path} of an app is the app's");
    }
    let metrics = http::get(port, "agentfs.localhost", "/metrics").unwrap().body;
    for name in
        ["agentfs_router_connections_total ", "agentfs_instances 1\n", "agentfs_journal_events_total "]
    {
        assert!(metrics.contains(&format!("\n{name}")), "no {name} in {metrics}");
    }
}

#[test]
fn doctor_finds_a_healthy_home() {
    let home = Home::new();
    home.start_daemon();
    let checks = json(&home.agentfs(&["doctor", "--json"]).text());
    let checks = checks.as_array().unwrap();
    assert!(!checks.is_empty());
    let _ = home.agentfs(&["doctor"]).output().success();
}

/// A reader that has seen enough is no error.
#[test]
fn a_closed_pipe_is_success() {
    let home = Home::new();
    let _running = start(&home, "shop", "one");
    let script = "\"$0\" ps | true; echo ${PIPESTATUS[0]}; \"$0\" --help | head -n 1 >/dev/null; echo ${PIPESTATUS[0]}";
    let output = home.program("bash").args(["-c", script]).arg(home.agentfs_path()).output().success();
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("0\n0\n", ""), "{}", output.explain());
}

/// Where there is no launchd: what is true instead, and nothing written.
#[cfg(not(target_os = "macos"))]
#[test]
fn there_is_nothing_to_install_without_launchd() {
    let home = Home::new();
    for action in ["install", "uninstall"] {
        let output = home.agentfs(&["daemon", action]).env("HOME", home.work()).output().code(1);
        for word in ["cannot install", "agentfs daemon start"] {
            assert!(output.stderr.contains(word), "{}", output.explain());
        }
    }
    assert_eq!(std::fs::read_dir(home.work()).unwrap().count(), 0);
    let list = home.agentfs(&["daemon", "install", "--print"]).text();
    assert!(list.contains("<key>Sockets</key>") || list.contains("AGENTFS_ROUTER"), "{list}");
    assert!(list.contains(&home.paths().home.display().to_string()), "{list}");
}

/// launchd starts a job that failed again and again: a collector that is there already is no failure to it.
#[test]
fn a_second_collector_ends_quietly_for_launchd() {
    let home = Home::new();
    let daemon = home.start_daemon();
    let output = home.agentfs(&["daemon", "run", "--by-launchd"]).output().success();
    assert!(output.stderr.contains(&daemon.pid.to_string()), "{}", output.explain());
    let _ = home.agentfs(&["daemon", "run"]).output().code(1);
}

/// "Loopback only unless told otherwise, and then said loudly."
#[test]
fn a_forward_opens_nothing_to_the_network_by_itself() {
    let home = Home::new();
    let server = artifact::binary("fixture-wait").display().to_string();
    let _one = home.wrap("shop", "one", &[&server]).body("one").spawn();
    home.listener("shop", "one", 5000);
    for open in ["0.0.0.0:0", "[::]:0", "[::ffff:0.0.0.0]:0", "192.0.2.1:0"] {
        let refused = home.agentfs(&["forward", "shop/one:5000", open]).output().code(2);
        let _ = refused.names(&["to the network", "--lan"]);
    }
    assert_eq!(home.call("forward.list", Value::Null)["forwards"], serde_json::json!([]));
    // The warning is printed even though stderr is not a terminal, and even with `-q`.
    let opened = home.agentfs(&["-q", "forward", "shop/one:5000", "0.0.0.0:0", "--lan"]).output().success();
    let port = opened.stdout.trim().strip_prefix("0.0.0.0:").unwrap().to_owned();
    assert!(opened.stderr.contains("is open to the network"), "{}", opened.explain());
    let quiet = home.agentfs(&["forward", "shop/one:5000", "127.0.0.1:0"]).output().success();
    assert_eq!(quiet.stderr, "");
    let list = home.agentfs(&["forward", "--list"]).text();
    let line = |start: &str| list.lines().find(|line| line.starts_with(start)).unwrap().to_owned();
    assert!(
        line("0.0.0.0:").contains("THE NETWORK") && line("127.0.0.1:").contains("this machine"),
        "{list}"
    );
    let json: Value = serde_json::from_str(&home.agentfs(&["forward", "--list", "--json"]).text()).unwrap();
    assert_eq!((&json[0]["lan"], &json[1]["lan"]), (&Value::Bool(true), &Value::Null), "{json}");
    let log = std::fs::read_to_string(&home.paths().log).unwrap();
    assert!(log.contains("shop/one is open to the network on 0.0.0.0:"), "{log}");
    let _ = home.agentfs(&["forward", "--remove", &format!("0.0.0.0:{port}")]).output().success();
    let every = home.agentfs(&["forward", "shop/one", "127.0.0.1:0"]).output().code(2);
    let _ = every.names(&["every port"]);
    // The router has no such option at all.
    for open in ["0.0.0.0:0", "[::]:0", "[::ffff:0.0.0.0]:0"] {
        for name in ["AGENTFS_ROUTER", "AGENTFS_ROUTER_TLS"] {
            let refused = home.agentfs(&["daemon", "start"]).env(name, open).output().code(2);
            let _ = refused.names(&[name, "loopback"]);
        }
    }
}
