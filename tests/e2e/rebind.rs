//! Programs that open and close listeners over and over: each one is there, and nobody else waits for it.
use agentfs_tests::Home;
use agentfs_tests::wait::until;

const PORT: u16 = 8080;

/// Listens on one port 300 times; each time the named socket must be there and lead to it.
const OVER_AND_OVER: &str = r#"
import os, socket, stat, sys
path = os.path.join(os.environ["AGENTFS_RUN"], "shop-one.8080.l.sock")
for round in range(300):
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 8080))
    listener.listen()
    assert stat.S_ISSOCK(os.lstat(path).st_mode), round
    client = socket.socket(socket.AF_UNIX)
    client.connect(path)
    accepted, peer = listener.accept()
    assert peer[0] == "127.0.0.1", peer
    for each in accepted, client:
        each.close()
    if round < 299: listener.close()
print("LISTENS", os.getpid(), flush=True)
sys.stdin.read()
"#;

/// "Must reach: bind+listen+close": what makes it cheap, few notices and looks that gather, loses nothing.
#[test]
fn a_port_that_is_opened_over_and_over_is_there_each_time() {
    let home = Home::new();
    let mut program = home.wrap("shop", "one", &["python3", "-c", OVER_AND_OVER]).open_input().spawn();
    program.wait_for("LISTENS");
    home.listener("shop", "one", PORT);
    let said = program.stdout();
    let pid = said.split_whitespace().last().unwrap().to_owned();
    until("the last of them is known by its process", || {
        let known = home.listener("shop", "one", PORT).pid;
        (known.map(|known| known.to_string()) == Some(pid.clone())).then_some(())
    });
    program.close_input();
    let _ = program.finish().success();
}

/// The parent has bound the name last and closed it; the child still serves it.
const KEPT_BY_A_CHILD: &str = r#"
import errno, os, socket, sys
def listen():
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 8080))
    listener.listen()
    return listener
listener = listen()
end, keep = os.pipe()
child = os.fork()
if child == 0:
    os.close(keep)
    os.read(end, 1)
    os._exit(0)
os.close(end)
listener.close()
for attempt in range(3):
    try:
        listen()
        sys.exit("the child's port was taken")
    except OSError as error:
        assert error.errno == errno.EADDRINUSE, error
socket.create_connection(("127.0.0.1", 8080)).close()
os.close(keep)
os.waitpid(child, 0)
listen()
print("done")
"#;

/// "Beware of the parent that binds again": a guess that the own file is stale must not cost a child its listener.
#[test]
fn a_name_that_a_child_still_holds_is_not_taken() {
    let home = Home::new();
    let output = home.wrap("shop", "one", &["python3", "-c", KEPT_BY_A_CHILD]).output().success();
    assert!(output.stdout.contains("done"), "{}", output.explain());
}

/// Binds a name twice, lets a child take a rival of it, and binds it again, too soon for anybody to have cleared up.
const RIVALS: &str = r#"
import errno, os, socket
def bound(address, port, shared):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    one = socket.socket(family)
    if shared: one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    else: one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.bind((address, port))
    one.listen()
    return one
pairs = [("127.0.0.1", "0.0.0.0", False), ("0.0.0.0", "127.0.0.1", False), ("0.0.0.0", "::", False), ("::", "::1", False),
         ("::1", "::", False), ("127.0.0.2", "0.0.0.0", False), ("127.0.0.1", "127.0.0.1", True), ("127.0.0.1", "::", True)]
for round in range(10):
    for number, (mine, theirs, shared) in enumerate(pairs):
        port = 9000 + number
        (listens, told), (end, keep) = os.pipe(), os.pipe()
        child = os.fork()
        if child == 0:
            os.close(keep)
            os.read(end, 1)
            rival = bound(theirs, port, shared)
            os.write(told, b"x")
            os.read(end, 1)
            os._exit(0)
        os.close(end)
        os.close(told)
        bound(mine, port, False).close()
        bound(mine, port, False).close()
        os.write(keep, b"x")
        assert os.read(listens, 1) == b"x", (mine, theirs, shared)
        try:
            bound(mine, port, False)
            raise SystemExit(f"{mine} was taken beside {theirs} in round {round}")
        except OSError as error:
            assert error.errno == errno.EADDRINUSE, error
        os.close(keep)
        os.close(listens)
        os.waitpid(child, 0)
        bound(mine, port, False).close()
print("done")
"#;

/// "bind+listen+close": the looks that a stale file stands for are not missed where a rival came in between.
#[test]
fn a_rival_is_seen_by_whoever_binds_again_at_once() {
    let home = Home::new();
    let output = home.wrap("shop", "one", &["python3", "-c", RIVALS]).output().success();
    assert!(output.stdout.contains("done"), "{}", output.explain());
}

/// Every port of the ephemeral range was bound and dropped, and hardly any is cleared up yet.
const CROWDED: &str = r#"
import os, socket
run, name = os.environ["AGENTFS_RUN"], "shop-one"
dead = socket.socket(socket.AF_UNIX)
body = os.path.join(os.path.dirname(run), "dead")
dead.bind(body)
dead.close()
for port in range(32768, 32768 + 28232):
    os.link(body, f"{run}/{name}.{port}.l.sock")
sockets = [socket.socket() for number in range(200)]
for one in sockets:
    one.bind(("127.0.0.1", 0))
    one.listen()
assert len({one.getsockname()[1] for one in sockets}) == len(sockets)
for one in sockets:
    client = socket.create_connection(one.getsockname())
    one.accept()
print("done")
"#;

/// "bind to port 0": names of the dead are taken over where most names are theirs.
#[test]
fn a_range_full_of_dead_names_has_ports_for_everybody() {
    let home = Home::new();
    let command = ["python3", "-c", CROWDED];
    let output = home.wrap("shop", "one", &command).output().success();
    assert!(output.stdout.contains("done"), "{}", output.explain());
}

/// Thousands of ports that are bound and dropped, and a process that listens meanwhile.
const FLOOD: &str = r#"
import socket
seen = set()
for number in range(4000):
    one = socket.socket()
    one.bind(("127.0.0.1", 0))
    seen.add(one.getsockname()[1])
    one.close()
assert len(seen) > 3000, len(seen)
keep = socket.socket()
keep.bind(("127.0.0.1", 8080))
keep.listen()
print("LISTENS", flush=True)
input()
"#;

/// "No stale name stays": what a flood leaves is cleared, and what listens is routed all the same.
#[test]
fn a_flood_of_names_is_cleared_and_holds_nobody_up() {
    let home = Home::new();
    let mut program = home.wrap("shop", "one", &["python3", "-c", FLOOD]).open_input().spawn();
    program.wait_for("LISTENS");
    home.listener("shop", "one", PORT);
    until("only what lives is left", || {
        let left = std::fs::read_dir(&home.paths().run).unwrap().count();
        // The companion, the listener, and its short name.
        (left <= 3).then_some(())
    });
    program.write(b"\n");
    let _ = program.finish().success();
    home.gone("shop", "one");
}

/// Moves its listener's name to another socket, as a listener that stops and starts does, and takes its time between
/// the steps.
const MOVES_SLOWLY: &str = r#"
import fcntl, os, socket, sys
run = os.environ["AGENTFS_RUN"]
path = os.path.join(run, "shop-one.8080.l.sock")
listener = socket.socket()
listener.bind(("127.0.0.1", 8080))
listener.listen()
print("LISTENS", flush=True)
input()
lock = open(os.path.join(os.path.dirname(run), "run.lock"), "w")
fcntl.flock(lock, fcntl.LOCK_EX)
os.unlink(path)
# Something that the collector sees after that, in order.
sign = socket.socket(socket.AF_UNIX)
sign.bind(os.path.join(run, "shop-sign.sock"))
sign.listen()
print("REMOVED", flush=True)
input()
assert not os.path.exists(path), "the name was put back although the lock is held"
moved = socket.socket(socket.AF_UNIX)
moved.bind(path)
moved.listen()
fcntl.flock(lock, fcntl.LOCK_UN)
client = socket.create_connection(("127.0.0.1", 8080))
moved.accept()
os.unlink(os.path.join(run, "shop-sign.sock"))
print("done")
"#;

/// "the collector's `Keep::restore` takes no run lock and relinks the old file between unlink and bind."
#[test]
fn a_name_is_not_put_back_while_its_owner_holds_the_lock() {
    let home = Home::new();
    let mut program = home.wrap("shop", "one", &["python3", "-c", MOVES_SLOWLY]).open_input().spawn();
    program.wait_for("LISTENS");
    home.listener("shop", "one", PORT);
    until("the collector keeps a second name", || {
        home.paths().keep.join("shop-one.8080.l.sock").exists().then_some(())
    });
    program.write(b"\n");
    program.wait_for("REMOVED");
    until("the collector has seen what came after the removal", || home.instance("shop", "sign"));
    program.write(b"\n");
    let output = program.finish().success();
    assert!(output.stdout.contains("done"), "{}", output.explain());
}
