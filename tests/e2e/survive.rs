//! "A killed collector is back within a second while anything of its lives, with its forwards, routes, per-listener
//! pids and ages, whoever killed it." No command is run in between: the tests only ask the control socket.
use agentfs_tests::processes::{is_alive, listens_on};
use agentfs_tests::wait::until;
use agentfs_tests::{Home, Process, artifact};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

/// Port of `fixture-wait`.
const PORT: u16 = 5000;

fn start<'home>(home: &'home Home, copy: &str) -> Process<'home> {
    let running = home.wrap("shop", copy, &[artifact::binary("fixture-wait").display().to_string()]);
    let running = running.body(copy).spawn();
    home.listener("shop", copy, PORT);
    running
}

/// Forwards the server's port; the address.
fn forward(home: &Home, copy: &str) -> String {
    home.agentfs(&["forward", &format!("shop/{copy}:{PORT}")]).text().trim().to_owned()
}

/// What a server answers behind an address of the host.
fn answer(address: &str) -> Option<String> {
    let mut client = TcpStream::connect(address).ok()?;
    client.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    client.read_to_string(&mut text).ok()?;
    text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
}

fn pid(number: u32) -> i32 {
    i32::try_from(number).unwrap()
}

/// `npx kill-port 3000`, `lsof -ti tcp:3000 | xargs kill -9`: every process that has the port.
fn free_port(home: &Home, address: &str, signal: Signal) -> Vec<i32> {
    let port: u16 = address.rsplit_once(':').unwrap().1.parse().unwrap();
    let holders: Vec<i32> =
        home.processes().into_iter().map(|(pid, _)| pid).filter(|pid| listens_on(*pid, port)).collect();
    for holder in &holders {
        kill(Pid::from_raw(*holder), signal).unwrap();
    }
    holders
}

/// "After `forward X:3000 3000`, `npx kill-port 3000` or `lsof -ti tcp:3000 | xargs kill -9` kills the collector; the
/// router stays down until somebody runs a command, forwards are gone."
#[test]
fn a_port_that_is_freed_by_force_is_back_with_everything() {
    let home = Home::new();
    let _one = start(&home, "one");
    let _ = home.agentfs(&["route", "other.localhost", "shop/one"]).output().success();
    let address = forward(&home, "one");
    assert_eq!(answer(&address).as_deref(), Some("one"));
    let listener = home.listener("shop", "one", PORT);
    let before = home.instance("shop", "one").unwrap();
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        let collector = home.daemon().unwrap();
        assert_eq!(free_port(&home, &address, signal), [pid(collector.pid)]);
        // One that was asked to end may still answer for a moment.
        let again = || home.daemon().filter(|again| again.pid != collector.pid);
        let again = until("another collector answers", again);
        assert_eq!(again.guardian, collector.guardian);
        until("the forward answers again", || answer(&address).filter(|body| body == "one"));
        home.expect_body("one.shop.localhost", "one");
        home.expect_body("other.localhost", "one");
        let forwards = home.call("forward.list", Value::Null);
        assert_eq!(forwards["forwards"][0]["listen"], json!(address));
        // Found a moment later, by a search of all processes.
        until("the listener's process is known again", || {
            (home.listener("shop", "one", PORT).pid == listener.pid).then_some(())
        });
        let after = home.instance("shop", "one").unwrap();
        assert_eq!((after.wrap_pid, after.started_ms), (before.wrap_pid, before.started_ms));
        let since = home.listener("shop", "one", PORT).since_ms;
        assert!(since.abs_diff(listener.since_ms) < 1_000, "{since} instead of {}", listener.since_ms);
    }
}

/// What was asked to stop stays away, and its guardian with it; its forwards come with the next one.
#[test]
fn a_collector_that_was_asked_to_stop_does_not_come_back() {
    let home = Home::new();
    let _one = start(&home, "one");
    let address = forward(&home, "one");
    let daemon = home.daemon().unwrap();
    let guardian = pid(daemon.guardian.unwrap());
    let _ = home.agentfs(&["daemon", "stop"]).output().success();
    assert!(!is_alive(guardian) && !is_alive(pid(daemon.pid)) && home.daemon().is_none());
    home.start_daemon();
    assert_eq!(answer(&address).as_deref(), Some("one"));
}

/// Where nothing is left to serve, nobody starts a collector.
#[test]
fn nobody_brings_a_collector_back_for_nothing() {
    let home = Home::new();
    let daemon = home.start_daemon();
    let guardian = pid(daemon.guardian.unwrap());
    home.kill_collector();
    until("the guardian ends", || (!is_alive(guardian)).then_some(()));
    assert!(home.daemon().is_none());
}

/// The collector goes on without its guardian, and the next command after its death starts both.
#[test]
fn the_guardian_may_be_killed_too() {
    let home = Home::new();
    let _one = start(&home, "one");
    let daemon = home.kill_daemon();
    assert!(home.daemon().is_none());
    let _ = home.agentfs(&["ps"]).output().success();
    let again = home.daemon().unwrap();
    assert!(again.guardian.is_some() && again.guardian != daemon.guardian, "{again:?}");
    home.expect_body("one.shop.localhost", "one");
}

/// "Guardian and collector killed together do not come back until the next command", and "the announcer does not subscribe
/// again": both are back at once, and a listener that opens later is told; none is told twice.
#[test]
fn an_announcer_starts_both_again_and_goes_on() {
    let home = Home::new();
    let server = artifact::binary("fixture-wait").display().to_string();
    let script = "\"$0\" & read line; FIXTURE_PORT=5001 \"$0\" & wait";
    let mut running =
        home.wrap("shop", "one", &["sh", "-c", script, &server]).body("one").open_input().speaking().spawn();
    home.listener("shop", "one", PORT);
    until("the first listener is told", || running.stderr().contains(":5000 →").then_some(()));
    let router = home.router_port();
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        let before = home.daemon().unwrap();
        for victim in [before.guardian.unwrap(), before.pid] {
            kill(Pid::from_raw(pid(victim)), signal).unwrap();
        }
        let again = || home.daemon().filter(|again| again.pid != before.pid);
        let again = until("another collector answers", again);
        assert!(again.guardian.is_some() && again.guardian != before.guardian, "{again:?}");
        // "AGENTFS_URL of running programs": its port is the same.
        assert_eq!(again.http_port, router);
        home.expect_body("one.shop.localhost", "one");
    }
    running.write(b"\n");
    until("the second listener is told", || running.stderr().contains(":5001 →").then_some(()));
    let said = running.stderr();
    assert_eq!((said.matches(":5000 →").count(), said.matches(":5001 →").count()), (1, 1), "{said}");
    // Only the collector: its guardian is faster.
    let guardian = home.daemon().unwrap().guardian;
    let killed = home.kill_collector();
    let again = until("another collector answers", || home.daemon().filter(|again| again.pid != killed.pid));
    assert_eq!(again.guardian, guardian);
    // One that was asked to stop stays away: longer than an announcer waits.
    let _ = home.agentfs(&["daemon", "stop"]).output().success();
    let begin = std::time::Instant::now();
    until("a moment has passed", || {
        assert!(home.daemon().is_none());
        (begin.elapsed() > std::time::Duration::from_millis(800)).then_some(())
    });
    home.start_daemon();
    let _ = home.exec("shop/one", &["true"]).output().success();
}

/// "With AGENTFS_ROUTER=127.0.0.1:0 a restarted collector takes a new port, so AGENTFS_URL of running programs is dead."
#[test]
fn the_next_collector_takes_the_routers_port_again() {
    let home = Home::new();
    let _one = start(&home, "one");
    let port = home.router_port();
    home.kill_daemon();
    assert_eq!(home.start_daemon().http_port, port);
    let _ = home.agentfs(&["daemon", "stop"]).output().success();
    // Somebody else has it: then it is another one, and that is told.
    let taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let other = home.start_daemon().http_port;
    assert_ne!(other, port);
    let log = std::fs::read_to_string(&home.paths().log).unwrap();
    let told = format!("cannot use port {port}");
    assert!(log.lines().any(|line| line.contains(&told) && line.contains(&other.to_string())), "{log}");
    drop(taken);
    home.kill_daemon();
    assert_eq!(home.start_daemon().http_port, other);
    // A damaged file is put aside.
    home.kill_daemon();
    std::fs::write(&home.paths().router, "{\"http\":").unwrap();
    home.start_daemon();
    home.expect_body("one.shop.localhost", "one");
    assert!(home.paths().router.with_extension("json.torn").exists());
}

/// A forward of an instance that ended while no collector ran is forgotten, also if another took its name.
#[test]
fn a_forward_does_not_outlive_its_instance() {
    let home = Home::new();
    let [one, two] = ["one", "two"].map(|copy| start(&home, copy));
    let addresses = ["one", "two"].map(|copy| forward(&home, copy));
    home.kill_daemon();
    one.terminate();
    two.terminate();
    let _again = start(&home, "one");
    home.gone("shop", "two");
    let listed = until("no forward is listed", || {
        let listed = home.call("forward.list", Value::Null);
        listed["forwards"].as_array()?.is_empty().then_some(listed)
    });
    assert!(addresses.iter().all(|address| answer(address).is_none()), "{listed}");
    let kept = std::fs::read_to_string(&home.paths().forwards).unwrap();
    assert!(!kept.contains("shop"), "{kept}");
}

/// A damaged file of forwards is put aside; the collector starts.
#[test]
fn a_damaged_file_of_forwards_does_no_harm() {
    let home = Home::new();
    let _one = start(&home, "one");
    home.kill_daemon();
    std::fs::write(&home.paths().forwards, "{\"forwards\":[{\"par").unwrap();
    home.start_daemon();
    let address = forward(&home, "one");
    assert_eq!(answer(&address).as_deref(), Some("one"));
    assert!(home.paths().forwards.with_extension("json.torn").exists());
}

/// "`forward` idempotent (same forward again: success, says it exists)", and the same words for routes and forwards.
#[test]
fn forwards_can_be_asked_for_again_and_removed_by_their_port() {
    let home = Home::new();
    let _one = start(&home, "one");
    let address = forward(&home, "one");
    let port = address.rsplit_once(':').unwrap().1;
    let target = format!("shop/one:{PORT}");
    for again in [&["forward", &target][..], &["forward", &target, port], &["forward", &target, &address]] {
        let again = home.agentfs(again).speaking().output().success().names(&[&address, "exists"]);
        assert_eq!(again.stdout.trim(), address);
    }
    let own = home.agentfs(&["forward", "shop/one"]).text();
    assert_eq!(home.agentfs(&["forward", "shop/one"]).text(), own);
    let _other = start(&home, "other");
    let taken = home.agentfs(&["forward", &format!("shop/other:{PORT}"), port]).output().code(1);
    let _ = taken.names(&[&address, "shop/one"]);
    let listed = home.agentfs(&["forward", "list"]).text();
    assert_eq!(listed, home.agentfs(&["forward", "--list"]).text());
    assert!(listed.contains(&address), "{listed}");
    let _ = home.agentfs(&["forward", "remove", port]).output().success();
    assert_eq!(answer(&address), None);
    let _ = home.agentfs(&["forward", "remove", port]).output().code(3).names(&[&address]);
    let _ = home.agentfs(&["forward", "--remove", own.trim()]).output().success();
    assert_eq!(home.agentfs(&["forward", "list", "--json"]).text().trim(), "[]");
    // In the folder of the instance, its name may be left out.
    let here = home.agentfs(&["forward", &format!(":{PORT}")]).output().code(2);
    let _ = here.names(&["shop/one", "shop/other"]);
    let _ = home.agentfs(&["stop", "shop/other"]).output().success();
    let address = home.agentfs(&["forward", &format!(":{PORT}")]).text();
    assert_eq!(answer(address.trim()).as_deref(), Some("one"));
    for bad in
        [&["forward", "remove"][..], &["forward", ":0"], &["forward", "list", "x"], &["route", "remove"]]
    {
        let _ = home.agentfs(bad).output().code(2);
    }
    let _ = home.agentfs(&["route", "add.localhost", "shop/one"]).output().success();
    let routes = home.agentfs(&["route", "list"]).text();
    assert!(routes.contains("add.localhost") && routes == home.agentfs(&["route", "--list"]).text());
    let _ = home.agentfs(&["route", "remove", "add"]).output().success();
    let _ = home.agentfs(&["route", "remove", "add"]).output().code(3).names(&["add.localhost"]);
}
