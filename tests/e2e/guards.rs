//! Guards with a second line of defence behind them, each tried where that one does not help.
use agentfs_tests::wait::until;
use agentfs_tests::{Home, artifact};
use serde_json::{Value, json};
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::Path;

/// Cases of `tests/behaviours` on descriptors, duplicates and epoll: each is a plain TCP program.
#[cfg(target_os = "linux")]
const DESCRIPTOR_CASES: &str = "^(fd_|ev_|c_epoll_|c_dup3_|c_select_fds|c_unix_on_reused_fd|c_.*_fd0$)";

/// `./test` runs these cases too; `.ci/run` runs all of them.
#[cfg(target_os = "linux")]
#[test]
fn the_cases_on_descriptors_and_epoll_pass() {
    let home = Home::new();
    let runner = Path::new(env!("CARGO_MANIFEST_DIR")).join("behaviours/run.py");
    let run = home.program(artifact::PYTHON).arg(runner).args(["--jobs", "2", "--only", DESCRIPTOR_CASES]);
    let mut running = run.arg(home.agentfs_path()).args(["wrap", "--new", "--"]).spawn();
    // Each case has as long as anything has: all of them take longer than that on a busy machine.
    let mut seen = 0;
    while running.is_running() {
        seen = until("another case, or the end", || {
            let cases = running.stdout().lines().count();
            (cases > seen || !running.is_running()).then_some(cases)
        });
    }
    let output = running.finish().success();
    let passed = output.stdout.lines().filter(|line| line.starts_with("ok ")).count();
    assert!(passed >= 14, "some cases were not found or skipped:\n{}", output.explain());
}

/// Groups on the wildcard and on the exact address, two members each; the clients of one address meet its own group.
#[cfg(target_os = "linux")]
const TWO_GROUPS: &str = r#"
import selectors, socket
def member(address):
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    one.bind((address, 8080))
    one.listen()
    return one
chosen = selectors.DefaultSelector()
for address in "0.0.0.0", "127.0.0.1", "0.0.0.0", "127.0.0.1":
    chosen.register(member(address), selectors.EVENT_READ, address)
for host, expected in [("127.0.0.1", "127.0.0.1"), ("127.0.0.2", "0.0.0.0")] * 8:
    client = socket.create_connection((host, 8080))
    (key, _), = chosen.select(10)
    assert key.data == expected, (host, key.data)
    accepted, _ = key.fileobj.accept()
    accepted.close()
    client.close()
print("done")
"#;

/// SO_REUSEPORT, socket(7): the lookup prefers the exact address, then balances within its group.
#[cfg(target_os = "linux")]
#[test]
fn a_group_on_the_exact_address_comes_before_one_on_the_wildcard() {
    let home = Home::new();
    let output = home.wrap("shop", "one", &["python3", "-c", TWO_GROUPS]).output().success();
    assert!(output.stdout.contains("done"), "{}", output.explain());
}

/// A listener with a backlog of nothing (by a call past the library, which makes it larger), full; a connect that must not
/// wait finds it so, and there is room only once the kernel has it waiting.
#[cfg(target_os = "linux")]
const FULL: &str = concat!(
    kernel!(),
    r#"
import os, socket, struct, threading
LISTEN, CONNECT = (201, 203) if platform.machine() == "aarch64" else (50, 42)
listener = socket.socket()
listener.bind(("127.0.0.1", 8080))
assert kernel(LISTEN, listener.fileno(), 0) == 0
def waits(thread):
    with open(f"/proc/self/task/{thread.native_id}/syscall") as call:
        return call.read().split()[0] == str(CONNECT)
for own in (0, 0), (7, 250_000):
    first = socket.create_connection(("127.0.0.1", 8080))
    second = socket.socket()
    second.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", *own))
    os.set_blocking(second.fileno(), False)
    errors = []
    thread = threading.Thread(target=lambda: errors.append(second.connect_ex(("127.0.0.1", 8080))))
    thread.start()
    while thread.is_alive() and not waits(thread):
        pass
    assert thread.is_alive(), f"it did not wait: {errors}"
    accepted = [listener.accept()[0]]
    thread.join()
    assert errors == [0], errors
    left = struct.unpack("ll", second.getsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, 16))
    # The kernel rounds up to its ticks.
    assert left[0] == own[0] and 0 <= left[1] - own[1] < 10_000, (own, left)
    assert not os.get_blocking(second.fileno())
    accepted.append(listener.accept()[0])
    for each in first, second, *accepted:
        each.close()
print("done")
"#
);

/// The time that a full backlog is waited for is ours alone: it does not stay on the program's socket.
#[cfg(target_os = "linux")]
#[test]
fn the_wait_for_a_full_backlog_leaves_no_timeout_behind() {
    let home = Home::new();
    let output = home.wrap("shop", "one", &["python3", "-c", FULL]).output().success();
    assert!(output.stdout.contains("done"), "{}", output.explain());
}

/// Somebody who holds the control socket and never answers: programs run without a collector, and nobody clears up
/// behind them.
fn without_collector(home: &Home) -> UnixListener {
    fs::create_dir_all(&home.paths().home).unwrap();
    UnixListener::bind(&home.paths().control).unwrap()
}

fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

/// Clients that choose their own port, to a listener of the instance, and to one of the host.
const BOUND_CLIENTS: &str = r#"
import os, socket, sys
listener = socket.create_server(("127.0.0.1", 8080))
for port in 8080, int(sys.argv[1]):
    client = socket.socket()
    client.bind(("127.0.0.1", 9090))
    assert any(".9090." in name for name in os.listdir(os.environ["AGENTFS_RUN"])), "it was not bound here"
    client.connect(("127.0.0.1", port))
    left = [name for name in os.listdir(os.environ["AGENTFS_RUN"]) if ".9090." in name]
    assert not left, (port, left)
    # The name stays the client's own for as long as it is connected, and is free afterwards.
    client.close()
print("done")
"#;

/// bind, then connect: the file of the bound socket goes with it.
#[test]
fn a_client_that_chose_its_port_leaves_no_file() {
    let home = Home::new();
    let _silent = without_collector(&home);
    let host = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = host.local_addr().unwrap().port().to_string();
    let output = home.wrap("shop", "one", &["python3", "-c", BOUND_CLIENTS, &port]).output().success();
    assert!(output.stdout.contains("done"), "{}", output.explain());
}

/// A program that cannot be started never was: its name is free at once.
#[test]
fn a_start_that_fails_gives_the_name_back() {
    let home = Home::new();
    let _silent = without_collector(&home);
    let script = home.write("script", "#!/no/such/interpreter\n");
    let made = home.program("chmod").arg("755").arg(&script).output().success();
    assert_eq!(made.stderr, "");
    let script = script.display().to_string();
    for command in [&["wrap"][..], &["trace"]] {
        let arguments = ["--app", "shop", "--", &script];
        let output = home.agentfs(command).args(arguments).output().code(127).names(&["interpreter"]);
        assert_eq!(files(&home.paths().run), Vec::<String>::new(), "{}", output.explain());
    }
}

/// Connects to a port that this program has bound and does not listen on.
const BOUND: &str = r#"
import socket, sys
bound = socket.socket()
bound.bind(("127.0.0.1", int(sys.argv[1])))
try:
    socket.create_connection(bound.getsockname())
    print("reached the host")
except ConnectionRefusedError:
    print("refused")
"#;

/// "connect to a loopback address on port P: the instance's own listener if it has one, else the host's": a port that is
/// bound is the instance's own, and refuses until its program listens.
#[test]
fn a_port_that_is_bound_does_not_lead_to_the_host() {
    let home = Home::new();
    let host = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = host.local_addr().unwrap().port().to_string();
    let program = home.wrap("shop", "one", &[artifact::PYTHON, "-c", BOUND, &port]);
    assert_eq!(program.output().success().stdout, "refused\n");
}

/// Prints how many members of a group of four got clients.
#[cfg(target_os = "linux")]
const GROUP: &str = r#"
import selectors, socket
chosen = selectors.DefaultSelector()
for number in range(4):
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    one.bind(("127.0.0.1", 8080))
    one.listen()
    chosen.register(one, selectors.EVENT_READ, number)
reached = set()
for _ in range(64):
    client = socket.create_connection(("127.0.0.1", 8080))
    (key, _), = chosen.select(10)
    reached.add(key.data)
    key.fileobj.accept()[0].close()
    client.close()
print(len(reached))
"#;

/// "`SO_REUSEPORT` groups share."
#[cfg(target_os = "linux")]
#[test]
fn every_member_of_a_group_gets_clients() {
    let home = Home::new();
    let program = home.wrap("shop", "one", &[artifact::PYTHON, "-c", GROUP]);
    assert_eq!(program.output().success().stdout, "4\n");
}

/// Says which options that were set before bind read back after it; then how many clients wait for a listener with a
/// backlog of one that accepts nobody.
#[cfg(target_os = "linux")]
const BEFORE: &str = r#"
import socket
one = socket.socket()
options = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
           (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 77)]
for level, name, value in options:
    one.setsockopt(level, name, value)
one.bind(("127.0.0.1", 8080))
print([one.getsockopt(level, name) for level, name, _ in options])
one.listen(1)
waiting = [socket.create_connection(("127.0.0.1", 8080), timeout=20) for _ in range(20)]
print(len(waiting))
"#;

/// Options go with the socket that takes the place, and a small backlog refuses nobody: a Unix socket would, where TCP
/// has the client try again.
#[cfg(target_os = "linux")]
#[test]
fn options_survive_bind_and_a_small_backlog_is_enough() {
    let home = Home::new();
    let program = home.wrap("shop", "one", &[artifact::PYTHON, "-c", BEFORE]);
    assert_eq!(program.output().success().stdout, "[1, 1, 77]\n20\n");
}

/// Listens on the first port, says whether the second is reached, and ends with its first client.
const JOINED: &str = r#"
import socket, sys
excepted, host = map(int, sys.argv[1:])
one = socket.socket()
one.bind(("127.0.0.1", excepted))
one.listen()
try:
    socket.create_connection(("127.0.0.1", host))
    print("reached the host", flush=True)
except ConnectionRefusedError:
    print("refused", flush=True)
one.accept()
"#;

/// "keeps its rules": who joins an instance that is isolated, and of which a port stays on the host, is bound by that.
#[test]
fn who_joins_an_instance_has_its_rules() {
    let home = Home::new();
    let host = TcpListener::bind("127.0.0.1:0").unwrap();
    let host_port = host.local_addr().unwrap().port().to_string();
    let excepted = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let port = excepted.port().to_string();
    let wrap = ["wrap", "--app", "shop", "--instance", "one", "--isolate", "--except", &port, "--"];
    let server = home.agentfs(&wrap).arg(artifact::binary("fixture-wait")).body("one").spawn();
    home.listener("shop", "one", 5000);
    let mut joined = home.exec("shop/one", &[artifact::PYTHON, "-c", JOINED, &port, &host_port]).spawn();
    joined.wait_for("refused");
    TcpStream::connect(excepted).unwrap();
    let _ = joined.finish().success();
    let _ = server.terminate();
}

/// A master that ends its worker when it is asked to end. The worker says whether somebody else has asked it.
const MASTER: &str = r#"
import os, signal, socket
def listen(port):
    one = socket.socket()
    one.bind(("127.0.0.1", port))
    one.listen()
    return one
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
told, tell = os.pipe()
worker = os.fork()
if worker == 0:
    os.close(tell)
    kept = listen(8081)
    os.read(told, 1)
    os.write(1, b"asked by stop\n" if signal.SIGTERM in signal.sigpending() else b"asked by its master\n")
    os._exit(0)
kept = listen(8080)
signal.sigwait({signal.SIGTERM})
os.close(tell)
os.waitpid(worker, 0)
"#;

/// `stop` asks only the process that `wrap` became, so that a master ends its workers in its own way.
#[test]
fn stop_leaves_the_workers_to_their_master() {
    let home = Home::new();
    let mut master = home.wrap("shop", "one", &[artifact::PYTHON, "-c", MASTER]).spawn();
    home.listener("shop", "one", 8080);
    home.listener("shop", "one", 8081);
    until("both processes are known", || {
        home.instance("shop", "one").filter(|instance| instance.pids.len() == 2)
    });
    let _ = home.agentfs(&["stop", "one.shop"]).output().success();
    master.wait_for("asked by its master");
    let _ = master.finish().success();
}

/// Says in a file that it was hung up. The word is in two parts: the trace shows the command line, where it must not be
/// found.
const HUNG_UP: &str = r#"
import signal, sys
# Waited for, not handled: a signal just before pause(2) would be noticed after the next one only.
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
try:
    # In two pieces: `trace` shows the command line, which must not be taken for the word itself.
    print("REA" "DY", flush=True)
except OSError:
    pass  # The terminal may be gone before the call returns.
signal.sigwait({signal.SIGHUP})
open(sys.argv[1], "w").close()
"#;

/// The kernel tells only the session's leader, which is `trace` here, that the terminal is gone (credentials(7)).
#[test]
fn a_hang_up_of_the_terminal_reaches_a_traced_program() {
    let home = Home::new();
    let (binary, mark) = (home.agentfs_path().display().to_string(), home.work().join("hung-up"));
    let mark_text = mark.display().to_string();
    let command =
        [&binary, "trace", "--app", "shop", "--", artifact::PYTHON, "-c", HUNG_UP, mark_text.as_str()];
    let steps =
        [json!(["expect", "READY"]), json!(["hangup"])].iter().map(Value::to_string).collect::<Vec<_>>();
    let run = home.program(artifact::PYTHON).args(&artifact::python("terminal.py")[1..]).args(command);
    let output = run.env("TERM", "dumb").input(steps.join("\n").as_bytes()).output();
    assert_ne!(output.status.code(), Some(99), "{}", output.explain());
    until("the program is told that its terminal is gone", || mark.exists().then_some(()));
}
