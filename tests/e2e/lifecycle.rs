//! Instances come and go: collector and instances killed, wrap killed, a hundred at once.
use agentfs_tests::processes::is_alive;
use agentfs_tests::wait::until;
use agentfs_tests::{Home, Process, artifact};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Port of `fixture-wait`.
const PORT: u16 = 5000;

fn start<'home>(home: &'home Home, app: &str, copy: &str) -> Process<'home> {
    home.wrap(app, copy, &[artifact::binary("fixture-wait").display().to_string()]).body(copy).spawn()
}

/// The process that listens, not `wrap` itself.
fn server_pid(home: &Home, app: &str, copy: &str) -> i32 {
    let pid = until("the listener's process is known", || home.listener(app, copy, PORT).pid);
    i32::try_from(pid).unwrap()
}

/// The run dir's entries that belong to the instance.
fn files(home: &Home, app: &str, copy: &str) -> Vec<String> {
    let prefix = format!("{app}-{copy}.");
    let entries = std::fs::read_dir(&home.paths().run).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(&prefix)).collect()
}

/// "The collector killed with -9 in the middle and everything still there afterwards."
#[test]
fn a_killed_collector_loses_nothing() {
    let home = Home::new();
    let copies = ["one", "two"];
    let _running = copies.map(|copy| start(&home, "shop", copy));
    let before = copies.map(|copy| {
        home.listener("shop", copy, PORT);
        home.instance("shop", copy).unwrap()
    });
    let killed = home.kill_daemon();
    let listed = home.agentfs(&["ps"]).text();
    for copy in copies {
        assert!(listed.contains(copy), "ps after the kill:\n{listed}");
        home.listener("shop", copy, PORT);
        home.expect_body(&format!("{copy}.shop.localhost"), copy);
    }
    for before in before {
        let after = home.instance(&before.app, &before.instance).unwrap();
        assert_eq!((after.command, after.directory), (before.command, before.directory));
        assert_eq!((after.wrap_pid, after.started_ms), (before.wrap_pid, before.started_ms));
    }
    assert_ne!(home.daemon().unwrap().pid, killed.pid);
    // A program that starts while no collector runs brings one back by itself.
    home.kill_daemon();
    let _third = start(&home, "shop", "three");
    home.listener("shop", "three", PORT);
    home.expect_body("three.shop.localhost", "three");
    home.expect_body("one.shop.localhost", "one");
}

/// Every command that needs a collector brings one back, whatever was asked for first.
#[test]
fn every_command_brings_a_killed_collector_back() {
    let home = Home::new();
    let client = artifact::binary("fixture-client").display().to_string();
    let running = start(&home, "shop", "one");
    home.listener("shop", "one", PORT);
    home.kill_daemon();
    assert_eq!(home.exec("shop/one", &[&client, "5000"]).text(), "one");
    home.start_daemon();
    home.kill_daemon();
    let list = home.agentfs(&["ps", "--json"]).text();
    assert!(list.contains("\"one\""), "{list}");
    home.kill_daemon();
    let _ = home.agentfs(&["route", "other.localhost", "shop/one"]).output().success();
    home.expect_body("other.localhost", "one");
    home.kill_daemon();
    let _ = home.agentfs(&["stop", "shop/one"]).output().success();
    running.finish();
}

/// Own localhost needs no collector at all.
#[test]
fn localhost_works_while_the_collector_is_dead() {
    let home = Home::new();
    let server = artifact::binary("fixture-wait").display().to_string();
    let client = artifact::binary("fixture-client").display().to_string();
    let script = "\"$1\" & server=$!; read line; \"$2\" 5000; kill $server";
    let mut shell = home.wrap("shop", "one", &["sh", "-c", script, "sh", &server, &client]);
    shell = shell.body("alone").open_input();
    let mut shell = shell.spawn();
    home.listener("shop", "one", PORT);
    home.kill_daemon();
    shell.write(b"go\n");
    assert_eq!(shell.finish().success().stdout, "alone");
}

/// "An instance killed with -9 and its name gone, its port bindable again."
#[test]
fn a_killed_instance_leaves_nothing() {
    let home = Home::new();
    let running = start(&home, "shop", "one");
    let _other = start(&home, "shop", "two");
    home.listener("shop", "two", PORT);
    let pid = server_pid(&home, "shop", "one");
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    running.finish();
    home.gone("shop", "one");
    home.expect_nothing("one.shop.localhost");
    until("the instance's files are removed", || files(&home, "shop", "one").is_empty().then_some(()));
    home.expect_body("two.shop.localhost", "two");
    let _again = start(&home, "shop", "one");
    home.listener("shop", "one", PORT);
    home.expect_body("one.shop.localhost", "one");
}

/// "A listener killed with SIGKILL: connect is refused and the port can be bound again at once."
#[test]
fn a_killed_listener_frees_its_port_within_the_instance() {
    let home = Home::new();
    let server = artifact::binary("fixture-wait").display().to_string();
    let client = artifact::binary("fixture-client").display().to_string();
    let script = "set -e\n\
        wait_up() { until \"$2\" 5000 >out 2>/dev/null; do :; done; }\n\
        FIXTURE_BODY=first \"$1\" & first=$!; wait_up \"$@\"; cat out; kill -9 $first; wait $first || true\n\
        \"$2\" 5000 2>&1 | grep -o 'ConnectionRefused' | head -n 1\n\
        FIXTURE_BODY=second \"$1\" & second=$!; wait_up \"$@\"; cat out; kill $second";
    let output =
        home.wrap("shop", "one", &["bash", "-c", script, "bash", &server, &client]).output().success();
    assert_eq!(output.stdout, "firstConnectionRefused\nsecond", "{}", output.explain());
}

/// "wrap cleans up its instance when its last process is gone, also after kill -9 of wrap itself."
#[test]
fn a_killed_wrap_is_cleaned_up_after_its_program() {
    let home = Home::new();
    let mut wrap = start(&home, "shop", "one");
    let pid = server_pid(&home, "shop", "one");
    wrap.signal(Signal::SIGKILL);
    wrap.wait();
    if is_alive(pid) {
        home.expect_body("one.shop.localhost", "one");
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    }
    home.gone("shop", "one");
    until("the instance's files are removed", || files(&home, "shop", "one").is_empty().then_some(()));
}

/// A program that ends by itself takes its instance along; so does one that is told to by a signal.
#[test]
fn a_program_that_ends_leaves_nothing() {
    let home = Home::new();
    home.start_daemon();
    let _ = home.wrap("shop", "short", &["true"]).output().success();
    home.gone("shop", "short");
    let running = start(&home, "shop", "one");
    home.listener("shop", "one", PORT);
    running.terminate();
    home.gone("shop", "one");
    until("the instance's files are removed", || files(&home, "shop", "one").is_empty().then_some(()));
}

/// A name that is taken again while its last bearer is cleared away: the new instance is known, every time.
#[test]
fn a_name_is_taken_again_at_once() {
    let home = Home::new();
    home.start_daemon();
    for _ in 0..30 {
        let _ = home.wrap("shop", "one", &["true"]).output().success();
        let mut held = home.wrap("shop", "one", &["sh", "-c", "echo HELD; read line"]).open_input().spawn();
        held.wait_for("HELD");
        until("the instance is known", || home.instance("shop", "one"));
        held.write(b"\n");
        let _ = held.finish().success();
    }
}

/// A daemonised child outlives the command: the instance lives until that child is gone.
#[cfg_attr(not(target_os = "linux"), ignore = "there is no setsid")]
#[test]
fn an_instance_lives_as_long_as_its_last_process() {
    let home = Home::new();
    let server = artifact::binary("fixture-wait").display().to_string();
    let script = "setsid \"$0\" </dev/null >/dev/null 2>&1 &";
    let mut wrap = home.wrap("shop", "one", &["sh", "-c", script, &server]).body("one").spawn();
    wrap.wait();
    let pid = server_pid(&home, "shop", "one");
    home.expect_body("one.shop.localhost", "one");
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    home.gone("shop", "one");
}

/// "A hundred instances at once."
#[test]
fn a_hundred_instances_at_once() {
    let home = Home::new();
    home.start_daemon();
    let names: Vec<String> = (0..100).map(|number| format!("n{number}")).collect();
    let running: Vec<Process<'_>> = names.iter().map(|name| start(&home, "shop", name)).collect();
    until("all hundred listen", || {
        let instances = home.snapshot()?.instances;
        (instances.iter().filter(|info| !info.listeners.is_empty()).count() == 100).then_some(())
    });
    for name in &names {
        home.expect_body(&format!("{name}.shop.localhost"), name);
    }
    let client = artifact::binary("fixture-client").display().to_string();
    for name in names.iter().step_by(10) {
        assert_eq!(home.exec(&format!("shop/{name}"), &[&client, "5000"]).text(), *name);
    }
    assert_eq!(
        home.agentfs(&["ps"]).text().lines().filter(|line| line.contains(".shop.localhost")).count(),
        100
    );
    for process in &running {
        process.signal(Signal::SIGTERM);
    }
    for process in running {
        process.finish();
    }
    until("all hundred are gone", || home.snapshot()?.instances.is_empty().then_some(()));
    until("the run dir is empty", || {
        (std::fs::read_dir(&home.paths().run).unwrap().count() == 0).then_some(())
    });
}
