//! "Bad input: each a clear message, the right exit status, and never a broken or changed wrapped
//! program."
use agentfs_tests::control::Control;
use agentfs_tests::wait::until;
use agentfs_tests::{Home, artifact};
use agentfs_wire::control::ErrorCode;
use agentfs_wire::name::is_label;
use nix::unistd::{Gid, Uid, chown};
use serde_json::json;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;

#[test]
fn no_command_is_a_usage_error() {
    let home = Home::new();
    for arguments in [&["wrap"][..], &["wrap", "--"], &[]] {
        let output = home.agentfs(arguments).output().code(2);
        assert!(output.stderr.contains("Usage"), "{}", output.explain());
    }
}

#[cfg(not(target_os = "macos"))]
#[test]
fn tools_of_macos_are_not_copied_elsewhere() {
    let home = Home::new();
    let _ =
        home.agentfs(&["mac-tools", "sh"]).output().code(1).names(&["mac-tools is only for macOS", "hint:"]);
}

#[test]
fn a_command_that_does_not_exist_is_127() {
    let home = Home::new();
    let _ = home.wrap("shop", "one", &["no-such-program"]).output().code(127).names(&["no-such-program"]);
    let _ = home.wrap("shop", "one", &["./no/such/file"]).output().code(127).names(&["./no/such/file"]);
    home.start_daemon();
    home.gone("shop", "one");
}

#[test]
fn a_command_that_is_not_executable_is_126() {
    let home = Home::new();
    let file = home.write("data.txt", "not a program\n").display().to_string();
    let _ = home.wrap("shop", "one", &[&file]).output().code(126).names(&["data.txt"]);
    let folder = home.work().display().to_string();
    let _ = home.wrap("shop", "one", &[&folder]).output().code(126).names(&["work"]);
}

/// The program must run, or not be started at all; never with half of what it was promised.
#[test]
fn a_run_dir_that_is_a_file_is_named() {
    let home = Home::new();
    std::fs::write(home.paths().home.join("run"), "a file").unwrap();
    let output = home.wrap("shop", "one", &["echo", "started"]).output();
    refused_clearly(&output, "run");
}

#[test]
fn a_run_dir_of_somebody_else_is_named() {
    let home = Home::new();
    let run = home.paths().home.join("run");
    std::fs::create_dir(&run).unwrap();
    if Uid::effective().is_root() {
        chown(&run, Some(Uid::from_raw(65534)), Some(Gid::from_raw(65534))).unwrap();
    } else {
        // Nobody but root can give a folder away: borrow one that is root's.
        std::fs::remove_dir(&run).unwrap();
        symlink("/usr", &run).unwrap();
    }
    refused_clearly(&home.wrap("shop", "one", &["echo", "started"]).output(), "run");
}

#[cfg_attr(not(target_os = "linux"), ignore = "there is no /proc")]
#[test]
fn a_home_that_cannot_be_written_is_named() {
    let home = Home::new();
    // The kernel makes no folder there for anybody, as on a read-only disk.
    let output = home.wrap("shop", "one", &["echo", "started"]).env("AGENTFS_HOME", "/proc/agentfs").output();
    refused_clearly(&output, "/proc/agentfs");
}

/// A file system of four pages that is full, in a mount name space of its own.
#[cfg_attr(not(target_os = "linux"), ignore = "there are no mount name spaces")]
#[test]
fn a_full_disk_is_named() {
    let home = Home::new();
    let unshare: &[&str] =
        if Uid::effective().is_root() { &["--mount"] } else { &["--mount", "--map-root-user"] };
    let full = home.work().join("full");
    std::fs::create_dir(&full).unwrap();
    let script = "mount -t tmpfs -o size=16k none \"$1\" || exit 66\n\
        cat /dev/zero >\"$1/ballast\" 2>/dev/null\n\
        export AGENTFS_HOME=\"$1/home\"\n\
        \"$0\" wrap --app shop -- echo started\n\
        status=$?\n\
        # The collector that it began to start may have found room. Nobody else sees this disk, and without room\n\
        # that collector could not be met and stopped.\n\
        { rm \"$1/ballast\"; \"$0\" daemon start; \"$0\" daemon stop; } >/dev/null 2>&1\n\
        exit $status";
    let output = home.program("unshare").args(unshare).args(["sh", "-c", script]);
    let output = output.arg(home.agentfs_path()).arg(&full).output();
    assert_ne!(
        output.status.code(),
        Some(66),
        "this machine allows no mount name space: {}",
        output.explain()
    );
    refused_clearly(&output, "full/home");
}

/// Refused: non-zero, the path named, and the program not started. Going on without us would be allowed
/// as well, if the program then runs unchanged and somebody is told.
fn refused_clearly(output: &agentfs_tests::Output<'_>, path: &str) {
    assert!(output.stderr.contains(path), "{}", output.explain());
    assert!(!output.stderr.contains("panicked"), "{}", output.explain());
    if output.status.success() {
        assert_eq!(output.stdout, "started\n", "{}", output.explain());
    } else {
        assert_eq!((output.status.code(), output.stdout.as_str()), (Some(125), ""), "{}", output.explain());
    }
}

/// A home that is too long for a socket path gets its sockets below /tmp, and the program works.
#[test]
fn a_long_home_works() {
    works_in_home(&format!("a-folder-with-quite-a-long-name/{}/home", "deep/".repeat(20)));
}

/// As macOS's /tmp and /var are: the kernel keeps the name that was bound, watchers tell the real one.
#[test]
fn a_home_below_a_link_works() {
    let home = Home::new();
    std::fs::create_dir(home.work().join("real")).unwrap();
    symlink("real", home.work().join("link")).unwrap();
    let linked = home.work().join("link/home");
    let server = artifact::binary("fixture-wait").display().to_string();
    let running = home.wrap("shop", "one", &[&server]).env("AGENTFS_HOME", &linked).spawn();
    // By both names it is one home with one collector.
    let list = |folder: &str| {
        let list = home.agentfs(&["ps", "--json"]).env("AGENTFS_HOME", home.work().join(folder));
        list.output().success().stdout
    };
    until("its listener is known by both names of the home", || {
        (list("link/home").contains("127.0.0.1:5000") && list("real/home").contains("127.0.0.1:5000"))
            .then_some(())
    });
    let _ = running.terminate();
    let _ = home.agentfs(&["daemon", "stop"]).env("AGENTFS_HOME", &linked).output().success();
}

/// LD_PRELOAD splits at blanks and colons.
#[test]
fn a_home_with_blanks_and_colons_works() {
    works_in_home("my home: a b");
}

fn works_in_home(name: &str) {
    let home = Home::new();
    let other = home.work().join(name);
    let other_text = other.display().to_string();
    let server = artifact::binary("fixture-wait").display().to_string();
    let client = artifact::binary("fixture-client").display().to_string();
    let script = "\"$0\" & server=$!; until \"$1\" 5000 2>/dev/null; do :; done; kill $server";
    let wrap = |copy| {
        home.wrap("shop", copy, &["sh", "-c", script, &server, &client])
            .env("AGENTFS_HOME", &other_text)
            .body(copy)
    };
    // Both at once, so that neither can be served by a listener on the host.
    let running = ["one", "two"].map(|copy| wrap(copy).spawn());
    let outputs = running.map(agentfs_tests::Process::finish);
    for (output, copy) in outputs.into_iter().zip(["one", "two"]) {
        let output = output.success();
        assert_eq!(output.stdout, copy, "{}", output.explain());
        assert!(!output.stderr.contains("ld.so"), "{}", output.explain());
    }
    let list = home.agentfs(&["ps", "--json"]).env("AGENTFS_HOME", &other_text).output().success();
    assert!(!list.stdout.is_empty());
    let _ = home.agentfs(&["daemon", "stop"]).env("AGENTFS_HOME", &other_text).output().success();
}

/// A file that is no socket, a stale socket, links that lead nowhere or in a circle: none is an instance,
/// none disturbs a neighbour, and nothing but a stale socket is ever removed.
#[test]
fn files_that_are_no_listeners_are_ignored() {
    let home = Home::new();
    home.start_daemon();
    let run = &home.paths().run;
    std::fs::write(run.join("shop-file.sock"), "no socket").unwrap();
    std::fs::create_dir(run.join("shop-folder.sock")).unwrap();
    symlink("/nowhere", run.join("shop-dangling.sock")).unwrap();
    symlink(run.join("shop-circle.sock"), run.join("shop-circle.sock")).unwrap();
    symlink("/etc/passwd", run.join("shop-passwd.sock")).unwrap();
    std::fs::write(run.join("shop-broken.json"), "{ not json").unwrap();
    std::fs::write(run.join("nonsense"), "no name of ours").unwrap();
    drop(UnixListener::bind(run.join("shop-stale.sock")).unwrap());
    let _running = home.wrap("shop", "real", &artifact::python("threading_server.py")).body("real").spawn();
    home.listener("shop", "real", 8080);
    home.expect_body("real.shop.localhost", "real");
    for ghost in ["file", "folder", "dangling", "circle", "passwd", "stale", "broken"] {
        let status = home.get(&format!("{ghost}.shop.localhost")).status;
        assert!([404, 502, 503].contains(&status), "{ghost}: {status}");
    }
    let pruned = home.agentfs(&["prune"]).output().success();
    assert!(!run.join("shop-stale.sock").exists(), "{}", pruned.explain());
    for kept in ["shop-file.sock", "shop-folder.sock", "shop-passwd.sock", "nonsense"] {
        assert!(run.join(kept).symlink_metadata().is_ok(), "{kept} was removed: {}", pruned.explain());
    }
    assert!(std::path::Path::new("/etc/passwd").exists());
    home.expect_body("real.shop.localhost", "real");
}

#[test]
fn a_second_collector_says_who_is_first() {
    let home = Home::new();
    let first = home.start_daemon();
    let second = home.agentfs(&["daemon", "run"]).output();
    assert!(!second.status.success(), "{}", second.explain());
    let second = second.names(&[&first.pid.to_string()]);
    assert!(!second.stderr.contains("panicked"), "{}", second.explain());
    assert_eq!(home.daemon().map(|daemon| daemon.pid), Some(first.pid));
    // Asking for one that is there is no error.
    let _ = home.agentfs(&["daemon", "start"]).output().success();
    assert_eq!(home.daemon().map(|daemon| daemon.pid), Some(first.pid));
}

/// File names are bytes: a folder's name need not be text.
#[cfg(target_os = "linux")]
#[test]
fn a_folder_whose_name_is_not_text_is_a_folder() {
    use std::os::unix::ffi::OsStrExt as _;
    let home = Home::new();
    let folder = home.work().join(std::ffi::OsStr::from_bytes(b"shop-\xff"));
    fs::create_dir(&folder).unwrap();
    let server = agentfs_tests::artifact::binary("fixture-wait").display().to_string();
    let _running = home.wrap("shop", "one", &[server]).body("one").directory(&folder).spawn();
    home.listener("shop", "one", 5000);
    home.expect_body("one.shop.localhost", "one");
    let listed = home.agentfs(&["ps", "--json"]).output().success();
    assert!(listed.stdout.contains("shop-"), "{}", listed.explain());
    let named = home.agentfs(&["wrap", "--", "true"]).directory(&folder).output().success();
    assert_eq!(named.stderr, "", "{}", named.explain());
}

/// A running collector has read its addresses: other ones are not passed over without a word.
#[test]
fn an_address_that_comes_too_late_is_said() {
    let home = Home::new();
    home.start_daemon();
    let port = home.router_port();
    let start = || home.agentfs(&["-v", "daemon", "start"]);
    let late = start().env("AGENTFS_ROUTER", "127.0.0.1:9").output().success();
    assert!(late.stderr.contains("AGENTFS_ROUTER=127.0.0.1:9 does not change"), "{}", late.explain());
    for same in [format!("127.0.0.1:{port}"), "127.0.0.1:0".to_owned()] {
        let output = start().env("AGENTFS_ROUTER", &same).output().success();
        assert!(!output.stderr.contains("does not change"), "{}", output.explain());
    }
}

/// Many commands that all need a collector bring up exactly one.
#[test]
fn collectors_that_start_at_once_leave_one() {
    let home = Home::new();
    let started: Vec<_> = (0..8).map(|_| home.agentfs(&["daemon", "start"]).spawn()).collect();
    for process in started {
        let _ = process.finish().success();
    }
    let daemon = home.daemon().unwrap();
    let both: BTreeSet<i32> =
        [daemon.pid, daemon.guardian.unwrap()].map(|pid| i32::try_from(pid).unwrap()).into();
    until("one collector and its guardian", || {
        let left: BTreeSet<i32> = home.processes().into_iter().map(|(pid, _)| pid).collect();
        (left == both).then_some(())
    });
}

#[test]
fn a_name_that_is_no_label_becomes_one_or_is_refused() {
    let home = Home::new();
    let show = "printf '%s %s' $AGENTFS_APP $AGENTFS_INSTANCE";
    for (app, instance) in [
        ("My App!", "feature/cart"),
        ("größe", "日本"),
        ("a-name-that-is-much-longer-than-any-label-of-ours", "another-one-that-is-too-long-by-far"),
        ("../../etc", ".."),
    ] {
        let output = home.wrap(app, instance, &["sh", "-c", show]).output();
        if output.status.success() {
            let (app, instance) = output.stdout.split_once(' ').unwrap();
            assert!(is_label(app) && is_label(instance), "{}", output.explain());
        } else {
            assert!(output.stderr.contains(app) || output.stderr.contains(instance), "{}", output.explain());
        }
    }
    let empty = home.wrap("", "one", &["true"]).output();
    assert!(!empty.status.success() && !empty.stderr.is_empty(), "{}", empty.explain());
}

#[test]
fn garbage_on_the_control_socket_is_answered() {
    let home = Home::new();
    home.start_daemon();
    for (line, code) in [
        (&b"garbage\n"[..], ErrorCode::BadRequest),
        (b"{\"id\":1}\n", ErrorCode::BadRequest),
        (b"\xff\xfe\x00\n", ErrorCode::BadRequest),
        (b"{\"id\":1,\"method\":\"no.such\"}\n", ErrorCode::UnknownMethod),
        (b"{\"id\":1,\"method\":\"route.add\",\"params\":{\"host\":7}}\n", ErrorCode::BadParams),
        (
            b"{\"id\":1,\"method\":\"route.remove\",\"params\":{\"host\":\"no.localhost\"}}\n",
            ErrorCode::NotFound,
        ),
    ] {
        let mut control = home.control().unwrap();
        control.send(line).unwrap();
        let reply = control.reply().unwrap();
        let error = reply.error.unwrap_or_else(|| panic!("no error for {:?}", String::from_utf8_lossy(line)));
        assert_eq!(error.code, code, "{:?}: {error:?}", String::from_utf8_lossy(line));
        // The connection goes on.
        assert!(control.call("ping", json!({})).unwrap().is_ok());
    }
    // A blank line is no request, and no reason to complain.
    let mut control = home.control().unwrap();
    control.send(b"\n  \n").unwrap();
    assert!(control.call("ping", json!({})).unwrap().is_ok());
    // Half a line and an end.
    home.control().unwrap().send(b"{\"id\":").unwrap();
    assert!(home.control().unwrap().call("ping", json!({})).unwrap().is_ok());
}

#[test]
fn a_line_without_end_is_too_large() {
    let home = Home::new();
    home.start_daemon();
    let mut control = home.control().unwrap();
    let part = vec![b'x'; 1 << 20];
    let mut sent = 0;
    while sent <= agentfs_wire::limits::CONTROL_LINE_BYTES + part.len() && control.send(&part).is_ok() {
        sent += part.len();
    }
    assert_eq!(control.reply().unwrap().error.unwrap().code, ErrorCode::TooLarge);
    assert!(home.control().unwrap().call("ping", json!({})).unwrap().is_ok());
}

#[test]
fn more_control_connections_than_the_limit_are_told_so() {
    let home = Home::new();
    home.start_daemon();
    let mut busy = None;
    let mut held: Vec<Control> = Vec::new();
    for _ in 0..=agentfs_wire::limits::CONTROL_CONNECTIONS {
        let mut control = home.control().unwrap();
        // Answered or refused: either way a line comes.
        let _ = control.send(b"{\"id\":1,\"method\":\"ping\"}\n");
        let reply = control.reply().unwrap();
        if let Some(error) = reply.error {
            busy = Some(error.code);
            break;
        }
        held.push(control);
    }
    assert_eq!(busy, Some(ErrorCode::Busy));
    drop(held);
    until("a free place", || home.control()?.call("ping", json!({})).ok()?.ok());
}

/// Each `wrap` that reports its listeners has a subscription: they do not keep commands from the collector.
#[test]
fn subscriptions_do_not_count_as_connections() {
    let home = Home::new();
    home.start_daemon();
    let held: Vec<Control> = (0..=agentfs_wire::limits::CONTROL_CONNECTIONS)
        .map(|_| {
            let mut control = home.control().unwrap();
            let _ = control.call("subscribe", json!({})).unwrap().unwrap();
            control
        })
        .collect();
    let _ = home.control().unwrap().call("ping", json!({})).unwrap().unwrap();
    drop(held);
}

#[test]
fn garbage_notices_are_dropped() {
    let home = Home::new();
    let daemon = home.start_daemon();
    let socket = UnixDatagram::unbound().unwrap();
    socket.set_nonblocking(true).unwrap();
    for seed in 0..400_usize {
        let datagram: Vec<u8> = (0..seed % 600).map(|at| (at * 31 + seed * 17).to_le_bytes()[0]).collect();
        // A full queue drops, which is as good.
        let _ = socket.send_to(&datagram, &home.paths().notice);
        let _ = socket.send_to(&[&[1_u8][..], &datagram].concat(), &home.paths().notice);
    }
    let _running = home.wrap("shop", "one", &artifact::python("threading_server.py")).body("one").spawn();
    home.listener("shop", "one", 8080);
    assert_eq!(home.daemon().map(|now| now.pid), Some(daemon.pid));
}

/// "a router port that is taken": said, and everything but the router works.
#[test]
fn a_taken_router_port_is_said() {
    let home = Home::new();
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let words = [port.to_string(), format!("pid {}", std::process::id())];
    // The second time it runs already, and goes on to say why no URL works.
    for _ in 0..2 {
        let start = home.agentfs(&["daemon", "start"]).env("AGENTFS_ROUTER", &address).output().code(1);
        let _ = start.names(&words.each_ref().map(String::as_str));
    }
    let server = artifact::binary("fixture-wait").display().to_string();
    let client = artifact::binary("fixture-client").display().to_string();
    let _running = home.wrap("shop", "one", &[&server]).body("one").env("AGENTFS_ROUTER", &address).spawn();
    let exec = || home.exec("shop/one", &[&client, "5000"]).env("AGENTFS_ROUTER", &address).output();
    until("localhost works without a router", || (exec().stdout == "one").then_some(()));
    if let Some(daemon) = home.daemon() {
        assert!(daemon.router_error.is_some() || daemon.http_port != port, "{daemon:?}");
    }
}

/// A stranger's socket at the place of the control socket, a folder, an unreadable file.
#[test]
fn a_control_socket_that_is_none_is_replaced_or_named() {
    let home = Home::new();
    std::fs::write(&home.paths().control, "a file").unwrap();
    let output = home.agentfs(&["daemon", "start"]).output();
    assert!(output.status.success() || output.stderr.contains("collector.sock"), "{}", output.explain());
    let _ = home.agentfs(&["wrap", "--app", "shop", "--", "true"]).output();
}

/// A collector that hangs must not hold up the program: the notice socket exists, nobody reads it.
#[test]
fn a_collector_that_does_not_read_changes_nothing() {
    let home = Home::new();
    let daemon = home.start_daemon();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(daemon.pid).unwrap());
    let server = artifact::binary("fixture-wait").display().to_string();
    let client = artifact::binary("fixture-client").display().to_string();
    let script = "read line\n\"$0\" & server=$!; until \"$1\" 5000 2>/dev/null; do :; done; kill $server";
    let shell = home.wrap("shop", "one", &["sh", "-c", script, &server, &client]).body("one").open_input();
    let mut shell = shell.spawn();
    until("the instance is claimed", || home.instance("shop", "one"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
    shell.write(b"go\n");
    until("the program's answer", || (shell.stdout() == "one").then_some(()));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGCONT).unwrap();
    assert_eq!(shell.finish().success().stdout, "one");
}

/// The unpacked library is damaged: it is replaced, by a new file, because programs that run have the old one mapped.
#[test]
fn a_damaged_library_is_replaced() {
    // Not root's: all homes of root share one, and with it all programs that root has wrapped on this machine.
    let home = Home::of_user("nobody");
    let server = home.root().join("fixture-wait");
    artifact::copy(&artifact::binary("fixture-wait"), &server);
    let server = [server.display().to_string()];
    let _first = home.wrap("shop", "first", &server).body("first").spawn();
    home.listener("shop", "first", 5000);
    let library = home.wrap("shop", "show", &["sh", "-c", "printf %s \"$AGENTFS_INTERPOSE\""]).text();
    assert!(Path::new(&library).starts_with(home.root()), "{library} may be in use by others");
    let whole = fs::metadata(&library).unwrap().len();
    for (instance, damage) in [
        // In place: `first` has it mapped, and would end by SIGBUS if it were cut short, if only for a moment.
        ("longer", "printf x >> \"$0\""),
        ("shorter", "head -c 1000 \"$0\" > \"$0.cut\" && mv \"$0.cut\" \"$0\""),
    ] {
        let _ = home.program("sh").args(["-c", damage, &library]).output().success();
        let damaged = File::open(&library).unwrap();
        let before = damaged.metadata().unwrap();
        assert_ne!(before.len(), whole);
        let _running = home.wrap("shop", instance, &server).body(instance).spawn();
        home.listener("shop", instance, 5000);
        home.expect_body(&format!("{instance}.shop.localhost"), instance);
        let (old, new) = (damaged.metadata().unwrap(), fs::metadata(&library).unwrap());
        assert_eq!((old.len(), old.mtime_nsec()), (before.len(), before.mtime_nsec()), "written in place");
        assert_eq!((new.ino() == old.ino(), new.len()), (false, whole), "{damage}");
        home.expect_body("first.shop.localhost", "first");
    }
}
