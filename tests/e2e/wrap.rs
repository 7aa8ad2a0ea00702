//! `agentfs wrap` as a wrapper: exit status, signals, stdio and environment pass through untouched.
use agentfs_tests::{Home, artifact};
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::io::Read;
use std::net::{TcpListener, TcpStream};

#[test]
fn the_exit_status_is_the_programs() {
    let home = Home::new();
    for code in [0, 1, 42, 125, 126, 127, 255] {
        let script = format!("exit {code}");
        let output = home.wrap("shop", "one", &["sh", "-c", &script]).output().code(code);
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("", ""), "{}", output.explain());
    }
}

/// A shell sees 128 + the signal, as of the program itself.
#[test]
fn a_signals_death_is_the_programs() {
    let home = Home::new();
    let agentfs = home.agentfs_path().display().to_string();
    for (signal, status) in [("KILL", 137), ("TERM", 143), ("SEGV", 139)] {
        let script = format!("ulimit -c 0; \"$0\" wrap --app shop -- sh -c 'kill -{signal} $$'; echo $?");
        let output = home.program("sh").args(["-c", &script, &agentfs]).output().success();
        assert_eq!(output.stdout.trim(), status.to_string(), "{}", output.explain());
    }
}

#[test]
fn standard_streams_pass_every_byte() {
    let home = Home::new();
    let bytes: Vec<u8> =
        (0..1_000_003_u32).map(|number| number.to_le_bytes()[0] ^ number.to_le_bytes()[1]).collect();
    let input = home.write("input", "");
    std::fs::write(&input, &bytes).unwrap();
    let output = home.work().join("output");
    let script = "\"$0\" wrap --app shop -- cat <\"$1\" >\"$2\" && cmp \"$1\" \"$2\"";
    let shell = home.program("sh").args(["-c", script]).arg(home.agentfs_path()).arg(&input).arg(&output);
    let _ = shell.output().success();
    // Through pipes, with both output streams kept apart and nothing of ours in either.
    let command = ["sh", "-c", "cat; echo aside >&2; echo done"];
    let piped = home.wrap("shop", "one", &command).input(b"in\0put\n").output().success();
    assert_eq!((piped.stdout.as_str(), piped.stderr.as_str()), ("in\0put\ndone\n", "aside\n"));
}

/// A pipe whose reader is gone ends the program by SIGPIPE, as it does without us.
#[test]
fn a_closed_pipe_ends_the_program() {
    let home = Home::new();
    let script = "\"$0\" wrap --app shop -- yes | head -n 1; echo ${PIPESTATUS[0]}";
    let output = home.program("bash").args(["-c", script]).arg(home.agentfs_path()).output().success();
    assert_eq!(output.stdout, "y\n141\n", "{}", output.explain());
}

#[test]
fn signals_reach_the_program() {
    let home = Home::new();
    let mut running = home.wrap("shop", "one", &artifact::python("signals.py")).spawn();
    running.wait_for("READY");
    for (signal, name) in [
        (Signal::SIGINT, "SIGINT"),
        (Signal::SIGHUP, "SIGHUP"),
        (Signal::SIGUSR1, "SIGUSR1"),
        (Signal::SIGUSR2, "SIGUSR2"),
        (Signal::SIGWINCH, "SIGWINCH"),
    ] {
        running.signal(signal);
        running.wait_for(name);
    }
    let output = running.terminate().code(7);
    let names: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(names, ["READY", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGTERM"]);
}

/// `wrap` becomes the program: what is sent to the whole job arrives once, and whoever started it is its parent.
#[test]
fn the_program_has_the_process_of_wrap() {
    let home = Home::new();
    let script = "set -m; \"$0\" wrap --app shop -- \"$@\" >out & until grep -q READY out 2>/dev/null; do :; done\n\
        [ \"$(ps -o ppid= -p $! | tr -d ' ')\" = $$ ] && echo own; kill -TERM -$!; wait $!; echo $?; cat out";
    let shell = home.program("bash").args(["-c", script]).arg(home.agentfs_path());
    let output = shell.args(artifact::python("signals.py")).output().success();
    assert_eq!(output.stdout, "own\n7\nREADY\nSIGTERM\n", "{}", output.explain());
}

/// SIGKILL of what was started is SIGKILL of the program: nothing is left behind that holds its port.
#[test]
fn killing_wrap_kills_the_program() {
    let home = Home::new();
    let server = artifact::binary("fixture-wait").display().to_string();
    let mut running = home.wrap("shop", "one", &[&server]).spawn();
    let pid = agentfs_tests::wait::until("it listens", || home.listener("shop", "one", 5000).pid);
    running.signal(Signal::SIGKILL);
    running.wait();
    assert!(!agentfs_tests::processes::is_alive(i32::try_from(pid).unwrap()));
    home.gone("shop", "one");
}

/// What a program sees: the documented variables, and everything else as it was.
#[test]
fn the_environment_is_as_documented() {
    let home = Home::new();
    let environment = |text: &str| -> BTreeMap<String, String> {
        let lines = text.split('\0').filter_map(|line| line.split_once('='));
        lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    let before = environment(&home.program("env").arg("-0").env("PORT", "1234").text());
    let after = environment(&home.wrap("shop", "one", &["env", "-0"]).env("PORT", "1234").text());
    let run = home.paths().run.display().to_string();
    let expected = BTreeMap::from([
        ("AGENTFS_APP", "shop".to_owned()),
        ("AGENTFS_INSTANCE", "one".to_owned()),
        ("AGENTFS_RUN", run.clone()),
        ("AGENTFS_SOCKET", format!("{run}/shop-one.sock")),
        ("PORT", "1234".to_owned()),
    ]);
    for (name, value) in expected {
        assert_eq!(after.get(name), Some(&value), "{name}");
    }
    let host = &after["AGENTFS_HOSTNAME"];
    assert!(host.ends_with(".localhost"), "{host}");
    assert!(after["AGENTFS_URL"].starts_with(&format!("http://{host}")), "{}", after["AGENTFS_URL"]);
    assert!(after[artifact::PRELOAD].contains(&after["AGENTFS_INTERPOSE"]));
    for (name, value) in &before {
        assert!(
            name == "_" || after.get(name) == Some(value),
            "{name} was {value:?}, is {:?}",
            after.get(name)
        );
    }
    let ours = [artifact::PRELOAD, "_"];
    let added: Vec<&String> = after
        .keys()
        .filter(|name| {
            !before.contains_key(*name) && !name.starts_with("AGENTFS_") && !ours.contains(&name.as_str())
        })
        .collect();
    assert!(added.is_empty(), "{added:?}");
}

#[test]
fn a_library_that_was_preloaded_stays() {
    let home = Home::new();
    let library = if cfg!(target_os = "macos") { "/usr/lib/libz.dylib" } else { "libm.so.6" };
    let script = format!("printf %s \"${}\"", artifact::PRELOAD);
    let output = home.wrap("shop", "one", &["sh", "-c", &script]);
    let text = output.env(artifact::PRELOAD, library).text();
    assert!(text.starts_with(&format!("{library}:/")), "{text}");
}

#[test]
fn a_port_is_set_only_when_asked_for() {
    let home = Home::new();
    let show = ["sh", "-c", "printf %s \"${PORT-none}\""];
    assert_eq!(home.wrap("shop", "one", &show).text(), "none");
    let asked = home.agentfs(&["wrap", "--app", "shop", "--port", "4567", "--"]).args(show);
    assert_eq!(asked.text(), "4567");
}

/// "Children inherit the instance through fork, vfork, posix_spawn and every exec form, also when the
/// program passes its own environment."
#[test]
fn a_child_with_an_environment_of_its_own_stays_inside() {
    let home = Home::new();
    let server = artifact::binary("fixture-wait").display().to_string();
    let _running = home.wrap("shop", "one", &["env", "-i", "FIXTURE_BODY=clean", &server]).spawn();
    home.listener("shop", "one", 5000);
    home.expect_body("one.shop.localhost", "clean");
    let spawned =
        "require('child_process').spawn(process.argv[1], [], {env: {FIXTURE_BODY: 'node'}, stdio: 'ignore'})";
    let _node = home.wrap("shop", "two", &["node", "-e", spawned, &server]).spawn();
    home.listener("shop", "two", 5000);
    home.expect_body("two.shop.localhost", "node");
    home.assert_host_is_free();
}

/// No descriptor of ours stays open in the program, and its working directory and umask are its own.
#[test]
fn nothing_of_ours_is_left_in_the_program() {
    let home = Home::new();
    let script = "import os; print(sorted(os.listdir('/dev/fd'))); print(os.getcwd(), oct(os.umask(0)))";
    let bare = home.program(artifact::PYTHON).args(["-c", script]).text();
    assert_eq!(home.wrap("shop", "one", &[artifact::PYTHON, "-c", script]).text(), bare);
}

/// The README's first command.
#[test]
fn a_directory_listing_is_served_by_name() {
    let home = Home::new();
    home.write("shop/hello.txt", "hello");
    let folder = home.work().join("shop");
    let wrap = home.agentfs(&["wrap", "--", "python3", "-m", "http.server", "8080"]).directory(&folder);
    let _running = wrap.spawn();
    let instance = agentfs_tests::wait::until("an instance listens", || {
        home.snapshot()?.instances.into_iter().find(|info| !info.listeners.is_empty())
    });
    let answer = home.get(&instance.host);
    assert!(answer.status == 200 && answer.body.contains("hello.txt"), "{answer:?}");
    let url = instance.url.unwrap();
    let curl = home.program("curl").args(["--silent", "--show-error", "--fail", &url]);
    assert!(curl.text().contains("hello.txt"), "{url}");
}

/// "`cargo install` must give a binary that works after the clone is deleted": the one file is enough.
#[test]
fn the_binary_alone_is_enough() {
    let home = Home::new();
    let copy = home.work().join("elsewhere");
    std::fs::copy(home.agentfs_path(), &copy).unwrap();
    let server = artifact::python("threading_server.py");
    let wrap = home.program(&copy).args(["wrap", "--app", "shop", "--instance", "one", "--"]).args(&server);
    let _running = wrap.body("moved").spawn();
    home.listener("shop", "one", 8080);
    home.expect_body("one.shop.localhost", "moved");
}

/// A server that gives up its privileges before it binds, or after, is reached all the same.
#[test]
fn a_program_that_changes_its_user_stays_inside() {
    if !agentfs_tests::skip::is_root() {
        // Only root can change its user; there is nothing to be promised to others.
        return;
    }
    let home = Home::new();
    // Somebody else must be able to read it, wherever the sources are.
    let server = home.root().join("server.py");
    std::fs::copy(agentfs_fixtures::folder().join("python/threading_server.py"), &server).unwrap();
    std::fs::set_permissions(home.root(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
    let script = "import os, runpy, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534); runpy.run_path(sys.argv[1])";
    let drop = [artifact::PYTHON, "-c", script, &server.display().to_string()];
    let copies = ["one", "two"];
    let _running = copies.map(|copy| home.wrap("shop", copy, &drop).body(copy).spawn());
    for copy in copies {
        home.listener("shop", copy, 8080);
        home.expect_body(&format!("{copy}.shop.localhost"), copy);
    }
    home.assert_host_is_free();
}

/// Answers every connection with the client's address, as the program sees it.
const SAYS_WHO: &str = r#"
import socket, sys
listener = socket.create_server(("", int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True)
print("LISTENS", flush=True)
while True:
    connection, peer = listener.accept()
    connection.sendall(peer[0].encode())
    connection.close()
"#;

/// "`--expose PORT` keeps one listener on real TCP as well": `localhost` is both addresses, and some programs try one.
/// A port that is named twice is opened once.
#[test]
fn an_exposed_port_is_reached_by_both_addresses_of_localhost() {
    let home = Home::new();
    let free = |address: &str| Some(TcpListener::bind((address, 0)).ok()?.local_addr().ok()?.port());
    let has_v6 = free("::1").is_some();
    let port = free("127.0.0.1").unwrap();
    let text = port.to_string();
    let arguments =
        ["wrap", "--app", "shop", "--instance", "one", "--expose", &text, "--expose", &text, "--"];
    let mut server = home.agentfs(&arguments).args(["python3", "-c", SAYS_WHO, &text]).spawn();
    server.wait_for("LISTENS");
    let who = |address: &str| {
        let mut said = String::new();
        let mut stream = TcpStream::connect((address, port)).unwrap();
        stream.read_to_string(&mut said).unwrap();
        said
    };
    assert_eq!(who("127.0.0.1"), "::ffff:127.0.0.1");
    if has_v6 {
        assert_eq!(who("::1"), "::1");
    } else {
        agentfs_tests::skip::skipped("this machine has no IPv6, so only the IPv4 address is opened");
    }
    // A further command of the instance shares it.
    let _ = home.agentfs(&arguments).arg("true").output().success();
    // Whoever has the port keeps it, and the program of another instance is not started.
    let other = ["wrap", "--app", "shop", "--instance", "two", "--expose", &text, "--", "true"];
    let second = home.agentfs(&other).output().code(125);
    assert!(second.stderr.contains("already in use"), "{}", second.explain());
    let _ = server.terminate();
}

/// A command that cannot expose its port leaves nothing open in the instance that it joined.
#[test]
fn a_port_that_is_exposed_in_part_is_closed_again() {
    let home = Home::new();
    let Ok(held) = TcpListener::bind("[::1]:0") else {
        agentfs_tests::skip::skipped("this machine has no IPv6, so only the IPv4 address is opened");
        return;
    };
    let port = held.local_addr().unwrap().port().to_string();
    let _running = home.wrap("shop", "one", &["cat"]).open_input().spawn();
    agentfs_tests::wait::until("it runs", || home.instance("shop", "one"));
    let expose = ["wrap", "--app", "shop", "--instance", "one", "--expose", &port, "--", "true"];
    let _ = home.agentfs(&expose).output().code(125).names(&["already in use"]);
    assert_eq!(home.agentfs(&["forward", "list", "--json"]).text().trim(), "[]");
}
