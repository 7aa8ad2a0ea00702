//! What is done to agentfs from outside while programs run: files removed, folders closed,
//! collectors that hold the lock or die while they are asked. `tests/chaos` does all of it at random.
use agentfs_tests::wait::until;
use agentfs_tests::{Home, Process, artifact};
use nix::fcntl::{Flock, FlockArg};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

fn start<'home>(home: &'home Home, copy: &str) -> Process<'home> {
    let server = artifact::binary("fixture-wait").display().to_string();
    let process = home.wrap("shop", copy, &[server]).body(copy).spawn();
    home.listener("shop", copy, 5000);
    process
}

fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

/// Waits until the collector has second names for the instance's listener and companion.
fn kept(home: &Home, copy: &str) {
    until("the second names are there", || {
        let names = files(&home.paths().keep);
        let wanted = [format!("shop-{copy}.5000.l.sock"), format!("shop-{copy}.json")];
        wanted.iter().all(|name| names.contains(name)).then_some(())
    });
}

/// A program that runs is reached again after somebody emptied the run dir, with or without a collector, and
/// its name is not given to another one.
#[test]
fn an_emptied_run_dir_is_filled_again() {
    let home = Home::new();
    let client = artifact::binary("fixture-client").display().to_string();
    let _running = start(&home, "one");
    kept(&home, "one");
    let run = home.paths().run.clone();
    for file in files(&run) {
        fs::remove_file(run.join(file)).unwrap();
    }
    until("the names are back", || (files(&run).len() >= 3).then_some(()));
    assert_eq!(home.exec("shop/one", &[&client, "5000"]).text(), "one");
    home.expect_body("one.shop.localhost", "one");
    let other = home.work().join("other");
    fs::create_dir(&other).unwrap();
    let refused = home.wrap("shop", "one", &["true"]).directory(&other).output().code(125);
    let _ = refused.names(&["belongs to", &home.work().display().to_string()]);

    home.kill_daemon();
    fs::remove_dir_all(&run).unwrap();
    home.start_daemon();
    home.expect_body("one.shop.localhost", "one");
    assert_eq!(home.exec("shop/one", &[&client, "5000"]).text(), "one");
}

/// What ended leaves no second name either.
#[test]
fn second_names_go_with_their_owners() {
    let home = Home::new();
    let running = start(&home, "one");
    kept(&home, "one");
    running.terminate();
    home.gone("shop", "one");
    until("nothing is kept", || files(&home.paths().keep).is_empty().then_some(()));
    assert_eq!(files(&home.paths().run), Vec::<String>::new());
}

/// A run dir that somebody closed or removed is opened or made again by the next call of a wrapped program, also
/// without a collector.
#[test]
fn a_closed_or_removed_run_dir_is_no_hindrance() {
    // Root may enter whatever the mode is.
    let home = Home::of_user("nobody");
    let copy = |name: &str| -> PathBuf {
        let path = home.root().join(name);
        artifact::copy(&artifact::binary(name), &path);
        path
    };
    let (server, client) = (copy("fixture-wait"), copy("fixture-client"));
    let script = "set -e\n\
        wait_up() { until \"$2\" $3 >out 2>/dev/null; do :; done; cat out; }\n\
        FIXTURE_BODY=first \"$1\" & first=$!; wait_up \"$@\" 5000\n\
        collector=$(cat \"$AGENTFS_HOME/collector.lock\"); kill -9 $(ps -o ppid= -p $collector) $collector\n\
        chmod 0 \"$AGENTFS_RUN\"; \"$2\" 5000\n\
        chmod 0 \"$AGENTFS_RUN\"; FIXTURE_PORT=5001 FIXTURE_BODY=second \"$1\" & second=$!; wait_up \"$@\" 5001\n\
        rm -r \"$AGENTFS_RUN\"; FIXTURE_PORT=5002 FIXTURE_BODY=third \"$1\" & third=$!; wait_up \"$@\" 5002\n\
        kill $first $second $third";
    let (server, client) = (server.display().to_string(), client.display().to_string());
    let output = home.wrap("shop", "one", &["sh", "-c", script, "sh", &server, &client]).output().success();
    assert_eq!(output.stdout, "firstfirstsecondthird", "{}", output.explain());
    let mode = fs::metadata(&home.paths().run).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

/// A collector that holds the lock and does not answer yet, or not any more, is waited for.
#[test]
fn a_held_lock_is_waited_for() {
    let home = Home::new();
    let first = home.start_daemon();
    let _ = home.agentfs(&["daemon", "stop"]).output().success();
    // Somebody who lives and has the lock: this test.
    fs::write(&home.paths().lock, std::process::id().to_string()).unwrap();
    let file = fs::File::open(&home.paths().lock).unwrap();
    let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno).unwrap();
    let mut starting = home.agentfs(&["daemon", "start"]).spawn();
    let mut tried = BTreeSet::new();
    until("a second collector is tried", || {
        tried.extend(home.processes().into_iter().map(|(pid, _)| pid).filter(|pid| *pid != starting.pid()));
        assert!(starting.is_running(), "it gave up while another one had the lock");
        (tried.len() > 1).then_some(())
    });
    drop(lock);
    let _ = starting.finish().success();
    assert_ne!(home.daemon().unwrap().pid, first.pid);
    let log = fs::read_to_string(&home.paths().log).unwrap();
    assert!(!log.contains("another collector"), "{log}");
}

/// A busy disk makes whoever changes the run dir hold its lock for a third of a second and more: `wrap`, which
/// replaces a dead instance under that lock, waits.
#[test]
fn a_run_dir_that_is_being_changed_is_waited_for() {
    let home = Home::new();
    let paths = home.paths();
    home.start_daemon();
    let file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(&paths.run_lock).unwrap();
    let lock = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno).unwrap();
    // What an instance leaves that was killed while its companion was written.
    fs::write(paths.run.join("shop-one.json"), "{").unwrap();
    let mut starting = home.wrap("shop", "one", &["sh", "-c", "printf %s $AGENTFS_INSTANCE"]).spawn();
    let begin = Instant::now();
    until("twice the time of before has passed", || {
        assert!(starting.is_running(), "{}", starting.stderr());
        (begin.elapsed() > Duration::from_millis(500)).then_some(())
    });
    drop(lock);
    assert_eq!(starting.finish().success().stdout, "one");
}

/// A collector that was killed may still accept while its last thread ends: a command that meets it starts
/// another one.
#[test]
fn a_collector_that_goes_away_while_it_is_asked_is_replaced() {
    for command in [&["prune"][..], &["wrap", "--", "true"], &["route", "x.localhost", "./x.sock"]] {
        let home = Home::new();
        fs::create_dir_all(&home.paths().home).unwrap();
        let dying = UnixListener::bind(&home.paths().control).unwrap();
        let asking = home.agentfs(command).spawn();
        drop(dying.accept().unwrap());
        drop(dying);
        let _ = asking.finish().success();
        assert!(home.daemon().is_some(), "after {command:?}");
    }
}

/// "a truncated `trace.page`": a program that starts then does without the page, and the next trace is heard by the
/// program after it.
#[test]
fn a_trace_page_that_was_cut_short_ends_no_program_that_starts() {
    let home = Home::new();
    home.start_daemon();
    let page = &home.paths().trace_page;
    fs::File::options().write(true).open(page).unwrap().set_len(0).unwrap();
    let script =
        "import socket; s = socket.socket(); s.bind(('127.0.0.1', 8080)); s.listen(); print('listens')";
    let output = home.wrap("shop", "one", &["python3", "-c", script]).output().success();
    assert_eq!(output.stdout, "listens\n", "{}", output.explain());
    let trace = home.agentfs(&["trace", "--json", "--app", "shop", "--", "python3", "-c", script]);
    let output = trace.output().success();
    assert!(format!("{}{}", output.stdout, output.stderr).contains("\"bind\""), "{}", output.explain());
}

/// The same page, cut short or removed while a program has it mapped: the program goes on, the collector restores the
/// page, and a trace hears the program's next calls.
#[test]
fn a_trace_page_that_was_cut_short_or_removed_ends_no_program_that_runs() {
    let home = Home::new();
    home.start_daemon();
    let page = &home.paths().trace_page;
    let script = "
import socket, sys
for line in sys.stdin:
    s = socket.socket()
    s.bind(('127.0.0.1', 0))
    s.listen()
    print('bound', line, flush=True)";
    let mut running = home.wrap("shop", "one", &["python3", "-c", script]).open_input().spawn();
    let mut number = 0;
    let mut bind = || {
        number += 1;
        running.write(format!("{number}.\n").as_bytes());
        running.wait_for(&format!("bound {number}."));
    };
    let whole = || fs::metadata(page).is_ok_and(|page| page.len() == 4096).then_some(());
    bind();
    fs::File::options().write(true).open(page).unwrap().set_len(0).unwrap();
    bind();
    until("the page is restored", whole);
    let trace = home.agentfs(&["trace", "--json", "--app", "shop"]).spawn();
    until("the trace is on", || (fs::read(page).ok()?.first() == Some(&1)).then_some(()));
    let heard = || trace.stdout().matches("\"bind\"").count();
    until("a trace hears the program", || {
        bind();
        (heard() > 0).then_some(())
    });
    fs::remove_file(page).unwrap();
    bind();
    until("the page is made again", whole);
    let before = heard();
    until("the trace hears the program again", || {
        bind();
        (heard() > before + 4).then_some(())
    });
}
