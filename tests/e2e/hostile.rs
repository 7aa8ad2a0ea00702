//! "permission changes of the run dir while running; another user's processes (refused); symlinks planted in the
//! run dir; a hostile local user who creates files with our names before we do"
use agentfs_tests::wait::until;
use agentfs_tests::{Home, artifact};
use agentfs_wire::broker;
use nix::unistd::{Uid, chown};
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

/// A user without a name, as far as tests go, and another.
const STRANGER: u32 = 54_321;
const VICTIM: u32 = 54_322;

/// The system's: what else is called `python3` may be in a folder that other users do not enter.
const PYTHON: &str = "/usr/bin/python3";

/// Only root can become somebody else; for others these tests have nothing to try.
fn cannot_change_user() -> bool {
    !agentfs_tests::skip::is_root()
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn as_user<'home>(home: &'home Home, user: u32, command: &[&str]) -> agentfs_tests::Run<'home> {
    let user = [format!("--reuid={user}"), format!("--regid={user}")];
    home.program("setpriv").args(user).args(["--clear-groups", "--"]).args(command)
}

/// Knocks at everything of ours: `path` each, then every abstract name of ours. Prints what the system says.
const KNOCK: &str = r#"
import errno, socket, sys
def knock(kind, name):
    with socket.socket(socket.AF_UNIX, kind) as client:
        client.settimeout(10)
        try:
            client.connect(name)
            return client
        except OSError as error:
            return errno.errorcode[error.errno]
for path in sys.argv[1:]:
    for kind in socket.SOCK_STREAM, socket.SOCK_DGRAM:
        print(path.rsplit("/", 1)[1], knock(kind, path))
with open("/proc/net/unix") as table:
    names = [line.split()[7] for line in table if " @afs1/C/" in line]
for name in names:
    print("client", knock(socket.SOCK_STREAM, "\0" + name[1:]))
"#;

#[test]
fn another_user_is_refused_everywhere() {
    if cannot_change_user() {
        return;
    }
    let home = Home::new();
    // Nothing but our own permissions protects anything.
    for folder in [home.root(), &home.paths().home] {
        mode(folder, 0o755);
    }
    let script = "\"$0\" & python3 -c '
import socket, time
while True:
    try:
        held = socket.create_connection((\"localhost\", 5000))
        break
    except OSError:
        time.sleep(0.01)
print(\"HELD\", flush=True)
input()'";
    let server = artifact::binary("fixture-wait").display().to_string();
    let mut running = home.wrap("shop", "one", &["sh", "-c", script, &server]).open_input().spawn();
    running.wait_for("HELD");
    let socket = home.listener("shop", "one", 5000).socket;
    let control = home.paths().control.display().to_string();
    let notice = home.paths().notice.display().to_string();
    let page = home.paths().trace_page.display().to_string();
    let places = [socket.as_str(), &control, &notice];
    let knocked = as_user(&home, STRANGER, &[PYTHON, "-c", KNOCK]).args(places).output().success();
    let answers: Vec<&str> =
        knocked.stdout.lines().filter_map(|line| line.split_once(' ')).map(|(_, word)| word).collect();
    assert!(answers.len() > 2 * places.len(), "a client end is there, too: {}", knocked.explain());
    assert!(answers.iter().all(|word| ["EACCES", "ECONNREFUSED"].contains(word)), "{}", knocked.explain());
    let _ = as_user(&home, STRANGER, &["cat", &page]).output().code(1);
    let _ = as_user(&home, STRANGER, &["ls", &home.paths().run.display().to_string()]).output().code(2);
    // The command line, pointed at a home that is not the user's own.
    let binary = home.root().join("agentfs");
    fs::copy(home.agentfs_path(), &binary).unwrap();
    for arguments in [&["ps"][..], &["wrap", "--", "echo", "started"], &["daemon", "stop"]] {
        let output = as_user(&home, STRANGER, &[&binary.display().to_string()]).args(arguments).output();
        assert!(!output.status.success() && output.stdout.is_empty(), "{}", output.explain());
        assert!(output.stderr.contains("agentfs: error:"), "{}", output.explain());
    }
    running.write(b"\n");
}

/// The abstract name under which root's collector helps processes that have changed their user: whoever takes it
/// first would be asked for the sockets of the instance.
#[test]
fn a_broker_of_somebody_else_is_not_believed() {
    if cannot_change_user() {
        return;
    }
    let home = Home::new();
    let name = broker::socket_name(home.paths().base.as_os_str().as_bytes());
    let squat = "
import socket, sys
name = bytes.fromhex(sys.argv[1])
trap = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
trap.bind(b'\\0trap' + name[1:])
server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
server.bind(name)
server.listen(8)
print('READY', flush=True)
while True:
    client, _ = server.accept()
    request = client.recv(512)
    print('ASKED', request, flush=True)
    if request:
        socket.send_fds(client, [b'\\1\\0\\0\\0\\0'], [trap.fileno()])
    client.close()
";
    let name: String = name.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let mut squatter = as_user(&home, STRANGER, &[PYTHON, "-c", squat, &name]).spawn();
    squatter.wait_for("READY");
    home.start_daemon();
    let victim = "
import os, socket
server = socket.socket()
server.bind(('127.0.0.1', 0))
server.listen(1)
inode = str(os.fstat(server.fileno()).st_ino)
tables = [name for name in ('tcp', 'unix') if inode in open('/proc/net/' + name).read().split()]
print(tables, server.getsockname()[0], flush=True)
";
    let command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--", PYTHON, "-c", victim];
    let output = home.wrap("shop", "one", &command).output().success();
    assert_eq!(output.stdout, "['tcp'] 127.0.0.1\n", "{}", output.explain());
    assert!(!squatter.stdout().contains("shop"), "{}", squatter.stdout());
    let log = fs::read_to_string(&home.paths().log).unwrap();
    assert!(log.contains("processes that change their user"), "the collector says so: {log}");
}

/// The place of a home that is too deep for sockets.
#[test]
fn a_folder_of_somebody_else_in_tmp_is_refused() {
    if cannot_change_user() {
        return;
    }
    let home = Home::new();
    mode(home.root(), 0o755);
    let binary = home.root().join("agentfs");
    fs::copy(home.agentfs_path(), &binary).unwrap();
    let binary = binary.display().to_string();
    let deep = home.root().join("victim").join("a-folder-with-quite-a-long-name/".repeat(3));
    fs::create_dir_all(&deep).unwrap();
    for folder in deep.ancestors().take_while(|folder| *folder != home.root()) {
        chown(folder, Some(Uid::from_raw(VICTIM)), None).unwrap();
    }
    let taken = format!("/tmp/agentfs-{VICTIM}");
    let taken = Path::new(&taken);
    let wrap = || {
        as_user(&home, VICTIM, &[&binary, "wrap", "--", "echo", "started"])
            .env("AGENTFS_HOME", &deep)
            .directory(Path::new("/"))
            .output()
    };
    let refused = |what: &str| {
        let output = wrap().code(125);
        assert_eq!(output.stdout, "", "{what}: {}", output.explain());
        let _ = output.names(&[&taken.display().to_string()]);
    };
    fs::create_dir(taken).unwrap();
    chown(taken, Some(Uid::from_raw(STRANGER)), None).unwrap();
    mode(taken, 0o777);
    refused("a folder");
    assert_eq!(fs::read_dir(taken).unwrap().count(), 0, "nothing was put into a stranger's folder");
    fs::remove_dir(taken).unwrap();
    let elsewhere = home.work().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    symlink(&elsewhere, taken).unwrap();
    std::os::unix::fs::lchown(taken, Some(STRANGER), Some(STRANGER)).unwrap();
    refused("a link");
    fs::remove_file(taken).unwrap();
    fs::write(taken, "").unwrap();
    refused("a file");
    fs::remove_file(taken).unwrap();
}

/// Links in the places of our files: what they lead to is neither written nor made, nor taken for ours.
#[test]
fn planted_links_are_not_followed() {
    for place in
        ["collector.lock", "collector.log", "trace.page", "run.lock", "collector.sock", "collector.notice"]
    {
        let home = Home::new();
        let precious = home.write("precious", "content that stays\n");
        let before = fs::metadata(&precious).unwrap();
        let missing = home.work().join("missing");
        for target in [&precious, &missing] {
            let link = home.paths().home.join(place);
            symlink(target, &link).unwrap();
            let output = home.wrap("shop", "one", &["echo", "started"]).output();
            // A run dir without a usable lock or collector still runs programs; else it is refused.
            assert!(!output.stderr.contains("panicked"), "{place}: {}", output.explain());
            if output.status.success() {
                assert_eq!(output.stdout, "started\n", "{place}: {}", output.explain());
            } else {
                let output = output.code(125).names(&[place]);
                assert_eq!(output.stdout, "");
            }
            let start = home.agentfs(&["daemon", "start"]).output();
            assert!(start.status.success() || start.stderr.contains(place), "{place}: {}", start.explain());
            if home.daemon().is_some() {
                let _ = home.agentfs(&["daemon", "stop"]).output().success();
            }
            let after = fs::metadata(&precious).unwrap();
            assert_eq!(fs::read_to_string(&precious).unwrap(), "content that stays\n", "{place}");
            assert_eq!((after.mode(), after.mtime_nsec()), (before.mode(), before.mtime_nsec()), "{place}");
            assert!(!missing.exists(), "{place}");
            let _ = fs::remove_file(link);
        }
    }
}

/// Links under the names of listeners: a bind does not follow them, and nothing behind them is removed.
#[test]
fn planted_links_in_the_run_dir_are_not_bound_through() {
    let home = Home::new();
    home.start_daemon();
    let run = &home.paths().run;
    let precious = home.write("precious", "content that stays\n");
    let missing = home.work().join("missing");
    let stale = home.work().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    let links = [(5001, &precious), (5002, &missing), (5003, &stale)];
    for (port, target) in links {
        symlink(target, run.join(format!("shop-one.{port}.l.sock"))).unwrap();
    }
    symlink(&precious, run.join("shop-one.json.1.tmp")).unwrap();
    symlink(&precious, run.join("shop-one.5004.group")).unwrap();
    symlink(&missing, run.join("shop-one.5005.group")).unwrap();
    let script = "
import errno, socket
for port in range(5001, 5006):
    with socket.socket() as server:
        if port > 5003:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            server.bind(('127.0.0.1', port))
            print(port, server.getsockname()[1])
        except OSError as error:
            print(port, errno.errorcode[error.errno])
";
    let output = home.wrap("shop", "one", &["python3", "-c", script]).output().success();
    for line in output.stdout.lines() {
        let (port, answer) = line.split_once(' ').unwrap();
        assert!(answer == port || answer == "EADDRINUSE", "{}", output.explain());
    }
    assert_eq!(fs::read_to_string(&precious).unwrap(), "content that stays\n");
    assert!(!missing.exists() && stale.exists(), "what a link leads to is not ours");
    let _ = home.agentfs(&["prune"]).output().success();
    assert!(precious.exists() && stale.exists() && !missing.exists());
}

/// The owner changes the permissions of the run dir while a program runs, and changes them back.
#[test]
fn permissions_of_the_run_dir_may_change() {
    let home = Home::of_user("nobody");
    home.start_daemon();
    let script = "
import errno, socket, sys
def serve(port):
    server = socket.socket()
    try:
        server.bind(('127.0.0.1', port))
    except OSError as error:
        return errno.errorcode[error.errno]
    server.listen()
    kept.append(server)
    return 'bound'
def reach(port):
    client = socket.socket()
    client.settimeout(10)
    try:
        client.connect(('127.0.0.1', port))
    except OSError as error:
        return errno.errorcode[error.errno]
    kept.append(client)
    return 'connected'
kept = []
print('READY', serve(5000), flush=True)
for line in sys.stdin:
    port = int(line)
    print('DONE', port, reach(5000), serve(port), kept[0].getsockname(), flush=True)
";
    let mut running = home.wrap("shop", "one", &["python3", "-c", script]).open_input().spawn();
    running.wait_for("READY bound");
    home.listener("shop", "one", 5000);
    let run = home.paths().run.clone();
    // Ports that are free on the host: a run dir that cannot be used leaves the program with the host.
    let free = || std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    for (bits, reached) in [(0o000, false), (0o500, true), (0o755, true), (0o700, true)] {
        mode(&run, bits);
        let port = free();
        running.write(format!("{port}\n").as_bytes());
        running.wait_for(&format!("DONE {port} "));
        let answer = running.stdout();
        let answer = answer.lines().last().unwrap();
        // The collector puts the mode back; whoever comes before it finds the folder closed.
        let refused = !reached && answer.contains(" ECONNREFUSED ");
        assert!(refused || answer.contains(" connected "), "{bits:o}: {answer}");
        assert!(answer.contains(" bound ('127.0.0.1', 5000)"), "{bits:o}: {answer}");
        assert!(home.daemon().is_some(), "{bits:o}: the collector lives");
        mode(&run, 0o700);
        until("the instance is known again", || {
            home.instance("shop", "one")?.listeners.iter().any(|listener| listener.port == 5000).then_some(())
        });
        assert!(run.join("shop-one.5000.l.sock").exists(), "{bits:o}");
    }
    // A run dir that is open to others is closed again by the next command that needs it.
    mode(&run, 0o777);
    let _ = home.wrap("shop", "two", &["true"]).output().success();
    assert_eq!(fs::metadata(&run).unwrap().mode() & 0o777, 0o700);
    running.close_input();
    let _ = running.finish().success();
    home.gone("shop", "one");
}

/// Homes up to and beyond the length that sockets allow, with the longest names that there are.
#[test]
fn paths_of_every_length_work() {
    let app = "an-app-of-24-characters-";
    let app = &app.replace("s-", "sx")[..24];
    let instance = "instance-of-20-chars";
    let server = "
import socket
for address in ('127.0.0.1', '127.255.255.254', '0.0.0.0'):
    with socket.socket() as server, socket.socket() as client:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        server.bind((address, 65535))
        server.listen()
        client.connect((address, 65535))
        peer = server.accept()[1]
        assert peer == client.getsockname(), peer
        assert server.getsockname() == (address, 65535)
print('ok')
";
    let most = agentfs_wire::limits::RUN_DIR_BYTES - "/run".len();
    for length in [most - 1, most, most + 1, 97, 98, 99, 103, 104, 108, 250] {
        let home = Home::new();
        let root = home.root().display().to_string();
        let mut path = root;
        while path.len() + 1 < length {
            let more = (length - path.len() - 1).min(60);
            path.push('/');
            path.extend(std::iter::repeat_n('d', more));
        }
        // A path cannot grow by a slash alone.
        let length = path.len();
        let wrap = home.wrap(app, instance, &["python3", "-c", server]).env("AGENTFS_HOME", &path);
        let output = wrap.output().success();
        assert_eq!(output.stdout, "ok\n", "{length}: {}", output.explain());
        let _ = home.agentfs(&["daemon", "stop"]).env("AGENTFS_HOME", &path).output().success();
        let paths = agentfs_wire::paths::Paths::new(Path::new(&path), Uid::effective().as_raw());
        if paths.is_short() {
            fs::remove_dir_all(&paths.base).unwrap();
        }
    }
}
