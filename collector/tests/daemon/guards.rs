//! Guards that nothing else would miss: each is tried where the second line of defence does not help.
use crate::harness::{App, Collector, eventually};
use agentfs_wire::notice::Call;
use nix::fcntl::{Flock, FlockArg};
use std::fs;
use std::process::{Command, Stdio};

/// Whether this test can be tried: only root can give files to others and has a broker. Says so where it cannot.
#[expect(clippy::print_stderr, reason = "the test runner shows it")]
fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: only root can try this");
    }
    root
}

/// Root reads everybody's files, so their owner has to be looked at.
#[tokio::test(flavor = "multi_thread")]
async fn a_companion_of_somebody_else_says_nothing() {
    if !is_root() {
        return;
    }
    let collector = Collector::start().await;
    let own = std::process::id();
    let file = collector.run("shop-theirs.json");
    // It gets its name when it belongs to somebody else: what the collector has seen, it puts back.
    let draft = collector.paths.home.join("draft");
    Collector::claim_in(&draft, "shop", "theirs", own, own, |_| {});
    nix::unistd::chown(&draft, Some(54_321.into()), None).unwrap();
    fs::rename(&draft, &file).unwrap();
    let _theirs = App::bind(&collector.run("shop-theirs.80.sock"), "theirs");
    let theirs = collector.listening("shop/theirs", 1).await;
    assert_eq!((theirs.directory, theirs.command.len(), theirs.pids.len()), (None, 0, 0));
    // The same of our own is believed.
    fs::remove_file(&file).unwrap();
    collector.claim("shop", "theirs", own, own, |_| {});
    eventually("the companion of our own", || async {
        let ours = collector.instance("shop/theirs").await?;
        (ours.directory.is_some() && ours.pids == [own]).then_some(())
    })
    .await;
}

/// The secret of one instance opens the files of this one only, however another's file is spelled.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn the_broker_serves_no_file_of_another_instance() {
    use agentfs_wire::address::Endpoint;
    use agentfs_wire::broker::{Answer, Ask, REQUEST_BYTES, Request, socket_name};
    use agentfs_wire::peer::Peer;
    use nix::errno::Errno;
    use nix::sys::socket::{
        AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, send, socket,
    };
    use std::net::Ipv4Addr;
    use std::os::fd::AsRawFd;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::PermissionsExt;
    if !is_root() {
        return;
    }
    let collector = Collector::start().await;
    let own = std::process::id();
    let secret = "000102030405060708090a0b0c0d0e0f";
    collector.claim("shop", "one", own, own, |companion| {
        companion.secret = serde_json::from_value(secret.into()).unwrap();
    });
    fs::set_permissions(collector.run("shop-one.json"), fs::Permissions::from_mode(0o600)).unwrap();
    let mut apps = Vec::new();
    for file in ["shop-one.80.l.sock", "shop-two.80.l.sock", "cart-one.80.l.sock", "shop-one.82.l.w3.sock"] {
        apps.push(App::bind(&collector.run(file), "app"));
    }
    let name = socket_name(collector.paths.base.as_os_str().as_bytes());
    let broker = UnixAddr::new_abstract(&name.as_bytes()[1..]).unwrap();
    let ask = |ask: Ask<'_>| {
        let mut message = [0; REQUEST_BYTES];
        let request = Request { app: "shop", instance: "one", secret, ask };
        let length = request.encode(&mut message).unwrap();
        let client = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
        connect(client.as_raw_fd(), &broker).unwrap();
        send(client.as_raw_fd(), &message[..length], MsgFlags::empty()).unwrap();
        let mut answer = [0; 64];
        let length = recv(client.as_raw_fd(), &mut answer, MsgFlags::empty()).unwrap();
        Answer::decode(&answer[..length]).unwrap().errno
    };
    let end = |port| Endpoint { ip: Ipv4Addr::LOCALHOST.into(), port };
    let client = Peer::format_client(1, false, end(1), end(80));
    let client = client.as_bytes();
    for (file, refused) in [
        ("shop-one.80.l.sock", 0),
        ("shop-two.80.l.sock", Errno::EACCES as i32),
        ("cart-one.80.l.sock", Errno::EACCES as i32),
    ] {
        assert_eq!(ask(Ask::Probe { file }), refused, "{file}");
        assert_eq!(ask(Ask::Connect { file, name: client }), refused, "{file}");
        let free = file.replace(".80.", ".81.");
        assert_eq!(ask(Ask::Bind { file: &free, mapped: false }), refused, "{free}");
        assert_eq!(collector.run(&free).exists(), refused == 0, "{free}");
    }
    // Without a listener of its own, a port is reached by a member of its group.
    let grouped = "shop-one.82.l.sock";
    assert_eq!(ask(Ask::Connect { file: grouped, name: client }), 0);
    let other = Peer::format_client(1, false, end(2), end(80));
    let name = other.as_bytes();
    assert_eq!(ask(Ask::Connect { file: "shop-one.83.l.sock", name }), Errno::ENOENT as i32);
    for file in
        ["../run/shop-two.80.l.sock", "./shop-two.80.l.sock", "shop-one.80.l.sock/../shop-two.80.l.sock", ""]
    {
        assert_eq!(ask(Ask::Probe { file }), Errno::EINVAL as i32, "{file:?}");
    }
}

/// The control socket answers its owner and root, even where somebody has opened its folder and itself to everybody.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn the_control_socket_answers_no_other_user() {
    use agentfs_wire::paths::Paths;
    use std::os::unix::fs::PermissionsExt;
    const ASK: &str = r#"
import socket, sys
control = socket.socket(socket.AF_UNIX)
control.connect(sys.argv[1])
try:
    control.sendall(b'{"id":1,"method":"ping"}\n')
    print(control.makefile().readline(), end='')
except OSError:
    pass
"#;
    if !is_root() {
        return;
    }
    let collector = Collector::start().await;
    let Paths { home, control, .. } = &collector.paths;
    for (path, mode) in [(home, 0o755), (control, 0o666)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let ask = |user: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--clear-groups", "--reuid", user, "--", "/usr/bin/python3", "-c", ASK]).arg(control);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(ask("65534"), "");
    assert!(ask("0").contains("pong"));
}

/// Whether every watcher thread of this process waits for the kernel, all that happened being read.
#[cfg(target_os = "linux")]
fn watchers_have_read_all() -> bool {
    // epoll_wait and epoll_pwait of x86-64, epoll_pwait of AArch64.
    let waiting: &[&str] = if cfg!(target_arch = "aarch64") { &["22"] } else { &["232", "281"] };
    let threads = fs::read_dir("/proc/self/task").unwrap().map(|thread| thread.unwrap().path());
    let mut watchers = threads
        .filter(|thread| {
            fs::read_to_string(thread.join("comm")).is_ok_and(|name| name.starts_with("notify-rs"))
        })
        .peekable();
    assert!(watchers.peek().is_some(), "the watcher has a thread that is called so");
    watchers.all(|thread| {
        let call = fs::read_to_string(thread.join("syscall")).unwrap_or_default();
        call.split(' ').next().is_some_and(|number| waiting.contains(&number))
    })
}

/// Where the queue of hints has overflowed, everything is looked at as soon as the hub gets to it, not at the next
/// reconciliation. One thread: while the test has it, the hub takes no hints.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn lost_hints_heal_before_the_next_reconciliation() {
    use std::time::{Duration, Instant};
    const BEFORE_RECONCILIATION: Duration = Duration::from_millis(800);
    let collector = Collector::start().await;
    let flooded = ["shop-one.sock", "shop-two.sock"].map(|file| collector.run(file));
    let _apps = flooded.each_ref().map(|path| App::bind(path, "app"));
    collector.listening("shop/two", 1).await;
    let mut late = Vec::new();
    // A busy machine may take longer once or twice. Without the guard, it is never sooner.
    for round in 0..5 {
        // A listener that dies gives no hint: reconciliation finds it, and is a second away then.
        let dying = collector.run("shop-dying.sock");
        let app = App::bind(&dying, "dying");
        collector.listening("shop/dying", 1).await;
        app.kill().await;
        eventually("a reconciliation", || async { (!dying.exists()).then_some(()) }).await;
        let since = Instant::now();
        for _ in 0..1_000 {
            for path in &flooded {
                fs::set_permissions(path, fs::metadata(path).unwrap().permissions()).unwrap();
            }
        }
        let name = format!("late{round}");
        late.push(App::bind(&collector.run(&format!("shop-{name}.sock")), "late"));
        while !watchers_have_read_all() {
            std::thread::yield_now();
        }
        collector.listening(&format!("shop/{name}"), 1).await;
        if since.elapsed() < BEFORE_RECONCILIATION {
            return;
        }
    }
    panic!("what the lost hints were about is only found by reconciliation");
}

/// Every process can send notices, but a listener belongs to the instance that its file names.
#[tokio::test(flavor = "multi_thread")]
async fn a_notice_about_a_file_of_another_instance_says_nothing() {
    let collector = Collector::start().await;
    let file = "shop-two.80.sock";
    let _app = App::bind(&collector.run(file), "two");
    collector.listening("shop/two", 1).await;
    for call in [Call::Bind, Call::Listen] {
        collector.notify_as("shop", "one", call, file);
    }
    // A later one that is right: those before it were read.
    collector.notify(Call::Listen, file);
    if cfg!(target_os = "linux") {
        eventually("the pid", || async {
            let instance = collector.instance("shop/two").await?;
            (instance.listeners[0].pid == Some(std::process::id())).then_some(())
        })
        .await;
    }
    assert_eq!(collector.instance("shop/one").await, None);
    assert_eq!(collector.instance("shop/two").await.unwrap().listeners.len(), 1);
}

/// Somebody changes the run dir at the moment when an instance ends: what it leaves is removed a little later.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_removed_at_once_is_removed_later() {
    let collector = Collector::start().await;
    let mut program = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    collector.claim("shop", "one", program.id(), program.id(), |_| {});
    eventually("the instance", || collector.instance("shop/one")).await;
    let file =
        fs::OpenOptions::new().write(true).create(true).truncate(false).open(&collector.paths.run_lock);
    let lock = Flock::lock(file.unwrap(), FlockArg::LockExclusive).map_err(|(_, errno)| errno).unwrap();
    program.kill().unwrap();
    program.wait().unwrap();
    // Time for attempts. On a slow machine the first may come later: then this shows less, but does not fail.
    tokio::time::sleep(std::time::Duration::from_millis(400)).await;
    assert!(collector.run("shop-one.json").exists());
    drop(lock);
    eventually("an empty run dir", || async {
        fs::read_dir(&collector.paths.run).unwrap().next().is_none().then_some(())
    })
    .await;
    collector.gone("shop/one").await;
}
