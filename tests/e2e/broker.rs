//! Root's broker: what it refuses, whom it serves, and that other users never see a secret. Only root can change its
//! user, so these tests do nothing for other users.
#![cfg(target_os = "linux")]
use agentfs_tests::wait::until;
use agentfs_tests::{Home, Run, artifact};
use agentfs_wire::address::Endpoint;
use agentfs_wire::broker::{self, Ask, REQUEST_BYTES, Request};
use agentfs_wire::env;
use agentfs_wire::peer::Peer;
use nix::fcntl::{Flock, FlockArg};
use serde_json::Value;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

/// The system's Python: another `python3` may be in a folder that other users cannot enter.
const PYTHON: &str = "/usr/bin/python3";

/// Runs a program as `nobody`.
const DROP: [&str; 5] = ["/usr/bin/setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"];

fn cannot_change_user() -> bool {
    !agentfs_tests::skip::is_root()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Sends each message to the broker; prints each answer: an errno and the number of descriptors.
const ASK: &str = r"
import socket, sys
for message in sys.argv[2:]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as broker:
        broker.settimeout(10)
        broker.connect(bytes.fromhex(sys.argv[1]))
        broker.send(bytes.fromhex(message))
        answer, descriptors, _, _ = socket.recv_fds(broker, 512, 4)
        print(int.from_bytes(answer[1:5], 'little'), len(descriptors))
";

/// Asks for three sockets of shop/one with each secret, as another user whose environment names that instance.
fn forged<'home>(home: &'home Home, secrets: &[&str]) -> Run<'home> {
    let name = broker::socket_name(home.paths().base.as_os_str().as_bytes());
    let end = |port| Endpoint { ip: Ipv4Addr::LOCALHOST.into(), port };
    let client = Peer::format_client(1, false, end(1), end(5000));
    let asks = [
        Ask::Bind { file: "shop-one.7777.l.sock", mapped: false },
        Ask::Connect { file: "shop-one.5000.l.sock", name: client.as_bytes() },
        Ask::Probe { file: "shop-one.5000.l.sock" },
    ];
    let messages = secrets.iter().flat_map(|secret| {
        asks.map(|ask| {
            let mut message = [0; REQUEST_BYTES];
            let request = Request { app: "shop", instance: "one", secret, ask };
            let length = request.encode(&mut message).unwrap();
            hex(&message[..length])
        })
    });
    let run = home.program(DROP[0]).args(&DROP[1..]).args([PYTHON, "-c", ASK, &hex(name.as_bytes())]);
    run.args(messages)
        .env(env::APP, "shop")
        .env(env::INSTANCE, "one")
        .env(env::RUN, &home.paths().run)
        .env(env::HOME, &home.paths().home)
        .env(env::SECRET, secrets.first().unwrap_or(&""))
}

/// The secret of an instance, from its companion.
fn secret(home: &Home, instance: &str) -> String {
    let companion = std::fs::read(home.paths().run.join(format!("shop-{instance}.json"))).unwrap();
    let companion: Value = serde_json::from_slice(&companion).unwrap();
    companion["secret"].as_str().unwrap().to_owned()
}

/// "as `nobody`, with AGENTFS_APP, AGENTFS_INSTANCE, AGENTFS_RUN set by hand, `Bind` and `Connect` answer 0: a stranger
/// served `7777.shop.localhost`"
#[test]
fn a_forged_environment_is_refused() {
    if cannot_change_user() {
        return;
    }
    let home = Home::new();
    let server = artifact::binary("fixture-wait").display().to_string();
    let _one = home.wrap("shop", "one", &[&server]).body("internal").spawn();
    let _two = home.wrap("shop", "two", &[&server]).spawn();
    home.listener("shop", "one", 5000);
    home.listener("shop", "two", 5000);
    let two = secret(&home, "two");
    assert_ne!(two, secret(&home, "one"));
    let guesses = ["", "0", &"0".repeat(32), &two, &"f".repeat(64)];
    let output = forged(&home, &guesses).output().success();
    assert_eq!(output.stdout, "13 0\n".repeat(3 * guesses.len()), "{}", output.explain());
    home.expect_nothing("7777.shop.localhost");
    // Only the secret counts, nothing else about the caller.
    let output = forged(&home, &[&secret(&home, "one")]).output().success();
    assert_eq!(output.stdout, "0 1\n0 1\n0 0\n", "{}", output.explain());
}

/// "its refusals are logged without limit (2,000 in 0.5 s)"
#[test]
fn refusals_are_logged_once_in_a_while() {
    if cannot_change_user() {
        return;
    }
    let home = Home::new();
    home.start_daemon();
    let guesses = [""; 100];
    let output = forged(&home, &guesses).output().success();
    assert_eq!(output.stdout.lines().count(), 300, "{}", output.explain());
    let log = std::fs::read_to_string(&home.paths().log).unwrap();
    let refusals: Vec<&str> = log.lines().filter(|line| line.contains("without its secret")).collect();
    assert_eq!(refusals.len(), 1, "{log}");
    assert!(refusals[0].contains("of user 65534"), "{log}");
}

/// Opens many connections to the broker, says nothing, and prints the last of those that the broker closes first.
const SILENT: &str = r"
import select, socket, sys
held = []
for _ in range(60):
    broker = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    broker.connect(bytes.fromhex(sys.argv[1]))
    held.append(broker)
print(max(held.index(broker) for broker in select.select(held, [], [], 20)[0]))
";

/// A user who only connects cannot keep the members of an instance from being served: they would meet the host's port.
#[test]
fn whoever_says_nothing_gets_few_connections() {
    if cannot_change_user() {
        return;
    }
    let home = Home::new();
    home.start_daemon();
    let name = broker::socket_name(home.paths().base.as_os_str().as_bytes());
    let run = home.program(DROP[0]).args(&DROP[1..]).args([PYTHON, "-c", SILENT, &hex(name.as_bytes())]);
    let last: usize = run.text().trim().parse().unwrap();
    // Without a limit the first ones end first, after their time.
    assert!(last >= 32, "connection {last} ended first");
}

/// A socket made by hand has no companion, so no process can prove that it belongs to its instance.
#[test]
fn nobody_is_a_member_of_what_was_made_by_hand() {
    if cannot_change_user() {
        return;
    }
    let home = Home::new();
    home.start_daemon();
    let _listener = UnixListener::bind(home.paths().run.join("shop-one.5000.l.sock")).unwrap();
    home.listener("shop", "one", 5000);
    let output = forged(&home, &[""]).output().success();
    assert_eq!(output.stdout, "13 0\n".repeat(3), "{}", output.explain());
}

/// A process of another user whose environment names an instance is not part of it: it is not listed, `stop` does not
/// end it, and it does not keep the instance alive.
#[test]
fn a_stranger_does_not_become_a_process_of_an_instance() {
    if cannot_change_user() {
        return;
    }
    let home = Home::new();
    let server = artifact::binary("fixture-wait").display().to_string();
    let running = home.wrap("shop", "one", &[&server]).spawn();
    home.listener("shop", "one", 5000);
    let stranger =
        home.program(DROP[0]).args(&DROP[1..]).args(["/bin/sh", "-c", "echo READY; read line; echo $line"]);
    let stranger = stranger.env(env::APP, "shop").env(env::INSTANCE, "one").env(env::RUN, &home.paths().run);
    let mut stranger = stranger.env(env::SECRET, "f".repeat(32)).open_input().spawn();
    stranger.wait_for("READY");
    // A collector searches for the members of all instances when it starts.
    home.kill_daemon();
    home.start_daemon();
    home.listener("shop", "one", 5000);
    let _ = running.terminate();
    home.gone("shop", "one");
    stranger.write(b"alive\n");
    assert!(stranger.finish().success().stdout.ends_with("alive\n"));
}

/// Serves on 8080, and on one more port for each input line; prints its user and what it reached.
const DROPPED: &str = r"
import os, socket, sys
def serve(port):
    listener = socket.socket()
    listener.bind(('127.0.0.1', port))
    listener.listen()
    kept.append(listener)
kept = []
serve(8080)
print('READY', os.getuid(), flush=True)
for line in sys.stdin:
    serve(int(line))
    client = socket.create_connection(('localhost', 8080))
    accepted, peer = kept[0].accept()
    print('DONE', line.strip(), peer == client.getsockname(), flush=True)
";

/// "what root's instance dropped must still work": through several exec with scrubbed environments, after the collector
/// was killed, and where the program joined by `exec`.
#[test]
fn what_root_dropped_is_served() {
    if cannot_change_user() {
        return;
    }
    let home = Home::new();
    let drop = DROP.join(" ");
    let hops =
        format!("exec env -i {drop} /usr/bin/env -i /bin/sh -c 'exec env -i {PYTHON} -c \"$0\"' \"$0\"");
    // An environment made by the program: it names the instance but lacks the secret.
    let own = [env::INSTANCE, env::APP, env::RUN, env::INTERPOSE].map(|name| format!("{name}=\"${name}\""));
    let chosen = format!("exec env -i {} {drop} {PYTHON} -c \"$0\"", own.join(" "));
    for (instance, script) in [("one", &hops), ("one", &chosen)] {
        let mut running = home.wrap("shop", instance, &["sh", "-c", script, DROPPED]).open_input().spawn();
        running.wait_for("READY 65534");
        home.listener("shop", instance, 8080);
        running.write(b"8081\n");
        running.wait_for("DONE 8081 True");
        home.listener("shop", instance, 8081);
        home.kill_daemon();
        home.start_daemon();
        running.write(b"8082\n");
        running.wait_for("DONE 8082 True");
        home.listener("shop", instance, 8082);
        let joined = "
import os, socket
listener = socket.socket()
listener.bind(('127.0.0.1', 8083))
listener.listen()
socket.create_connection(('localhost', 8083))
print(os.getuid(), listener.accept()[1][0], flush=True)
input()
";
        let command = [&["env", "-i"], &DROP[..], &[PYTHON, "-c", joined]].concat();
        let mut joined = home.exec(&format!("{instance}.shop"), &command).open_input().spawn();
        joined.wait_for("65534 127.0.0.1");
        home.listener("shop", instance, 8083);
        joined.write(b"\n");
        let _ = joined.finish().success();
        running.close_input();
        let _ = running.finish().success();
        home.gone("shop", instance);
    }
}

/// On a busy disk a change of the run dir takes a third of a second and more. Whoever needs the broker waits for that.
#[test]
fn a_broker_that_waits_for_the_disk_is_waited_for() {
    if cannot_change_user() {
        return;
    }
    let home = Home::new();
    let paths = home.paths();
    let command = [&DROP[..], &[PYTHON, "-c", DROPPED]].concat();
    let mut dropped = home.wrap("shop", "one", &command).open_input().spawn();
    dropped.wait_for("READY 65534");
    let file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(&paths.run_lock).unwrap();
    let lock = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno).unwrap();
    // A stale file: it is only removed under the lock.
    drop(UnixListener::bind(paths.run.join("shop-one.8081.l.sock")).unwrap());
    dropped.write(b"8081\n");
    let begin = Instant::now();
    until("half a second has passed", || {
        assert!(dropped.is_running(), "{}", dropped.stderr());
        (begin.elapsed() > Duration::from_millis(500)).then_some(())
    });
    drop(lock);
    dropped.wait_for("DONE 8081 True");
    home.listener("shop", "one", 8081);
    dropped.close_input();
    let _ = dropped.finish().success();
}

/// The secret is only in the companion, which only its owner can read, and in the environment of the instance's programs.
#[test]
fn nobody_else_sees_the_secret() {
    if cannot_change_user() {
        return;
    }
    let home = Home::new();
    let server = artifact::binary("fixture-wait").display().to_string();
    let traced = home.agentfs(&["trace", "--json", "--verbose"]).spawn();
    until("the trace begins", || traced.stderr().contains("tracing").then_some(()));
    let mut running = home.agentfs(&["wrap", "-v", "--app", "shop", "--instance", "one", "--"]);
    running = running.args(["sh", "-c", "env >\"$0\"; \"$1\" & exec cat"]).arg(home.work().join("env"));
    let mut running = running.arg(&server).open_input().spawn();
    home.listener("shop", "one", 5000);
    let secret = secret(&home, "one");
    assert!(secret.len() == 32 && secret.bytes().all(|byte| byte.is_ascii_hexdigit()), "{secret}");
    let environment = std::fs::read_to_string(home.work().join("env")).unwrap();
    assert!(environment.contains(&format!("{}={secret}\n", env::SECRET)), "{environment}");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
    let run = &home.paths().run;
    assert_eq!((mode(run), mode(&run.join("shop-one.json"))), (0o700, 0o600));
    until("the companion has its second name", || {
        run.with_file_name("keep/shop-one.json").exists().then_some(())
    });
    assert_eq!(mode(&run.with_file_name("keep")), 0o700);
    // The part of a process that other users can see.
    let command_lines = home.program("ps").args(["-A", "-ww", "-o", "args"]).output().success();
    let mut said = vec![command_lines.stdout];
    for arguments in [
        &["ps"][..],
        &["ps", "--json"],
        &["route", "--list", "--json"],
        &["forward", "--list", "--json"],
        &["daemon", "status", "--json"],
        &["doctor"],
        &["exec", "shop/none", "--", "true"],
        &["exec", "shop/one", "--", "/nowhere"],
        &["--help"],
        &["wrap", "--help"],
    ] {
        let output = home.agentfs(arguments).output();
        said.extend([output.stdout, output.stderr]);
    }
    let request = home.agentfs(&["wrap", "--app", "shop", "--instance", "one", "--", "/nowhere"]).output();
    said.extend([
        request.stdout,
        request.stderr,
        home.get("agentfs.localhost").body,
        home.get("none.localhost").body,
    ]);
    said.push(home.call("list", Value::Null).to_string());
    running.close_input();
    let wrapped = running.finish();
    said.extend([wrapped.stdout, wrapped.stderr, home.get("shop.localhost").body]);
    said.extend([traced.stdout(), traced.stderr(), std::fs::read_to_string(&home.paths().log).unwrap()]);
    for text in said {
        assert!(!text.contains(&secret), "{text}");
    }
}
