//! "a port above the instance's own limits of descriptors": a program that has used up its limit gets the errors
//! that TCP gives, and neither loses a descriptor nor has one more.
use agentfs_tests::Home;

/// Uses up the limit, then does everything that needs no descriptor natively. `HARD` is how far it may be raised.
const SCRIPT: &str = r#"
import errno, os, resource, socket, sys
hard = int(sys.argv[1])

def number(call, *arguments):
    try:
        call(*arguments)
        return 0
    except OSError as error:
        return error.errno

def open_now():
    found = []
    for fd in range(200):
        try:
            found.append((fd, os.fstat(fd).st_ino, os.get_inheritable(fd)))
        except OSError:
            pass
    return found

listener = socket.socket()
other = socket.socket()
early = socket.socket()
early.bind(("127.0.0.1", 5002))
early.listen(8)
clients = [socket.socket() for _ in range(4)]
late = socket.socket()
late.settimeout(5)
resource.setrlimit(resource.RLIMIT_NOFILE, (48, hard))
fill = []
while True:
    try:
        fill.append(os.open("/dev/null", os.O_RDONLY))
    except OSError as error:
        assert error.errno == errno.EMFILE
        break
before = [fd for fd, _, _ in open_now()]
assert len(before) == 48, before
assert number(listener.bind, ("127.0.0.1", 5001)) == 0
assert listener.getsockname() == ("127.0.0.1", 5001)
listener.listen(8)
print("BOUND", flush=True)
sys.stdin.readline()
assert number(other.bind, ("127.0.0.1", 5001)) == errno.EADDRINUSE
# What a connect to the instance's own listener gives, with room and without.
first = number(clients[0].connect, ("127.0.0.1", 5002))
assert first == (0 if hard > 48 else errno.ENOBUFS), first
assert number(clients[1].connect, ("127.0.0.1", 1)) == errno.ECONNREFUSED
assert [fd for fd, _, _ in open_now()] == before
assert resource.getrlimit(resource.RLIMIT_NOFILE) == (48, hard)
assert number(socket.socket) == errno.EMFILE
# One descriptor is enough for a connect.
os.close(fill.pop())
assert number(clients[2].connect, ("127.0.0.1", 5002)) == 0
fill.append(os.open("/dev/null", os.O_RDONLY))
# The connection that cannot be accepted waits.
early.settimeout(5)
assert number(early.accept) == errno.EMFILE
os.close(fill.pop())
accepted, peer = early.accept()
if first != 0:
    assert peer == clients[2].getsockname(), peer
accepted.close()
fill.append(os.open("/dev/null", os.O_RDONLY))
assert [fd for fd, _, _ in open_now()] == before
print("DONE", flush=True)
"#;

#[test]
fn a_program_at_its_limit_keeps_its_localhost() {
    let home = Home::new();
    for copy in ["one", "two"] {
        let mut running = home.wrap("shop", copy, &["python3", "-c", SCRIPT, "400"]).open_input().spawn();
        running.wait_for("BOUND");
        // Both copies on one port: neither has gone to the host.
        home.listener("shop", copy, 5001);
        running.write(b"go\n");
        running.wait_for("DONE");
        let output = running.finish().success();
        assert_eq!(output.stderr, "", "{}", output.explain());
    }
}

/// Where nothing more can be had, a bind goes to the host unchanged, and nothing is lost.
#[test]
fn a_program_at_its_hard_limit_loses_nothing() {
    let home = Home::new();
    // The port is the host's then, so it has to be one that is free there.
    let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let script = SCRIPT.replace("5001", &free.to_string());
    let mut running = home.wrap("shop", "one", &["python3", "-c", &script, "48"]).open_input().spawn();
    running.wait_for("BOUND");
    running.write(b"go\n");
    running.wait_for("DONE");
    let output = running.finish().success();
    assert_eq!(output.stderr, "", "{}", output.explain());
}

/// "The program keeps its own … standard streams": also where it has none of them.
#[cfg_attr(not(target_os = "linux"), ignore = "lists descriptors in /proc")]
#[test]
fn a_closed_stream_stays_closed() {
    let home = Home::new();
    let _running = home.wrap("shop", "one", &["cat"]).open_input().spawn();
    agentfs_tests::wait::until("it runs", || home.instance("shop", "one"));
    let agentfs = home.agentfs_path().display().to_string();
    let lists = "for n in 0 1 2; do [ -e /proc/$$/fd/$n ] && echo $n >>open; done; exit 7";
    for (streams, open) in [("<&- >&- 2>&-", ""), (">&-", "0\n2\n"), ("", "0\n1\n2\n")] {
        for command in [
            "wrap --app shop --",
            "wrap --app shop --engine seccomp --",
            "trace --",
            "exec shop/one --",
            "exec --engine seccomp shop/one --",
        ] {
            let file = home.write("open", "");
            let script = format!("exec \"$0\" {command} sh -c '{lists}' {streams}");
            let _ = home.program("sh").args(["-c", &script, &agentfs]).output().code(7);
            assert_eq!(std::fs::read_to_string(file).unwrap(), open, "{command} {streams}");
        }
    }
}
