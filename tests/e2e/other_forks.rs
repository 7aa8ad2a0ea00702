//! "Nothing of another fork, ever": a port without a listener of the instance is the host's, but not where another fork is
//! behind it.
use agentfs_tests::wait::until;
use agentfs_tests::{Home, Process, artifact};
use nix::sys::signal::Signal;
use std::fs;
use std::path::PathBuf;

/// An HTTP server of the host: says its port, then answers every request with its second argument. The first is the port,
/// 0 for any.
const HOST: &str = r#"
import socket, sys
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", int(sys.argv[1])))
listener.listen()
print(f"PORT {listener.getsockname()[1]}", flush=True)
while True:
    connection, _ = listener.accept()
    connection.recv(1000)
    body = sys.argv[2]
    connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
    connection.close()
"#;

/// A repository `shop` with the worktrees `blue` and `green`; the folder of each.
fn repository(home: &Home) -> [PathBuf; 3] {
    home.write("shop/.git/HEAD", "ref: refs/heads/main\n");
    for name in ["blue", "green"] {
        let admin = home.write(&format!("shop/.git/worktrees/{name}/HEAD"), "ref: refs/heads/x\n");
        let admin = admin.parent().unwrap();
        fs::write(admin.join("commondir"), "../..\n").unwrap();
        home.write(&format!("{name}/.git"), &format!("gitdir: {}\n", admin.display()));
    }
    ["shop", "blue", "green"].map(|name| home.work().join(name))
}

/// Starts a server of the host in a folder; its port.
fn host<'home>(home: &'home Home, folder: &std::path::Path, port: u16, body: &str) -> (Process<'home>, u16) {
    let server = home.program("python3").args(["-c", HOST, &port.to_string(), body]).directory(folder);
    let mut server = server.spawn();
    server.wait_for("PORT");
    let port = server.stdout().trim().strip_prefix("PORT ").unwrap().parse().unwrap();
    (server, port)
}

fn client(port: u16) -> [String; 2] {
    [artifact::binary("fixture-client").display().to_string(), port.to_string()]
}

/// Whether a connect to `port` is refused in a new instance in `folder`, which lives no longer than its client.
fn refused(home: &Home, instance: &str, folder: &std::path::Path, port: u16, more: &[&str]) -> bool {
    let names = ["wrap", "--app", "shop", "--instance", instance];
    let run = home.agentfs(&names).args(more).arg("--").args(client(port)).directory(folder).output();
    assert!(run.status.success() || run.stderr.contains("refused"), "{}", run.explain());
    !run.status.success()
}

/// D1: "`wrap -- npx playwright test` in worktree *blue* with `reuseExistingServer`, main running unwrapped: tested main."
#[test]
fn a_fork_does_not_reach_a_program_without_agentfs_in_another_checkout() {
    let home = Home::new();
    let [shop, blue, green] = repository(&home);
    let elsewhere = home.write("other/file", "").parent().unwrap().to_owned();
    fs::create_dir(shop.join("api")).unwrap();
    let (mut main, port) = host(&home, &shop.join("api"), 0, "main");
    for _ in 0..5 {
        assert!(refused(&home, "blue", &blue, port, &[]), "the first call of a new instance");
    }
    // Its own checkout's program, and what belongs to no fork, is the host's as ever.
    for (instance, folder) in [("main", &shop), ("other", &elsewhere)] {
        assert!(!refused(&home, instance, folder, port, &[]), "{instance}");
    }
    assert!(!refused(&home, "blue", &blue, port, &["--allow-host", &port.to_string()]));
    // Told, with what is behind the port.
    let told = home.agentfs(&["trace", "--json", "--since", "1m", "--app", "shop"]).spawn();
    let pid = main.pid().to_string();
    until("the trace says why", || {
        let text = told.stdout();
        let line = text.lines().find(|line| line.contains("other_checkout"))?.to_owned();
        assert!(line.contains("python3 (pid ") && line.contains(&pid), "{line}");
        Some(())
    });
    drop(told);
    // A program that starts while the instance lives, and one that ends.
    let running = home.wrap("shop", "green", &["cat"]).directory(&green).open_input().spawn();
    until("green is known", || home.instance("shop", "green"));
    let (second, late) = host(&home, &shop, 0, "main");
    let asks = |port| home.exec("shop/green", &client(port)).output().status.success();
    assert!(!asks(late) && !asks(port));
    main.signal(Signal::SIGKILL);
    main.wait();
    let (third, _) = host(&home, &elsewhere, port, "a database");
    assert_eq!(home.exec("shop/green", &client(port)).text(), "a database");
    drop((running, second, third));
}

/// D1: "`forward blue:3000 3000`, then green's API dies: `exec green -- curl localhost:3000` answers from **blue's
/// database**, status 0, no word."
#[test]
fn a_forward_of_one_fork_is_not_another_forks_port() {
    let home = Home::new();
    let server = artifact::binary("fixture-wait").display().to_string();
    let _blue = home.wrap("shop", "blue", &[&server]).body("blue").spawn();
    home.listener("shop", "blue", 5000);
    // A free port of the host.
    let (probe, port) = host(&home, &home.work(), 0, "nobody");
    drop(probe);
    let listen = port.to_string();
    let _ = home.agentfs(&["forward", "shop/blue:5000", &listen]).output().success();
    let [program, number] = client(port);
    let command = ["sh", "-c", "while read line; do \"$0\" \"$1\"; done", &program, &number];
    let mut green = home.wrap("shop", "green", &command).open_input().speaking().spawn();
    until("green is known", || home.instance("shop", "green"));
    let asks = |instance: &str| home.exec(instance, &client(port)).speaking().output();
    let refused = format!("warning: localhost:{port} is refused: agentfs holds it for shop/blue; ");
    // Who ran the program is told, also where a child of it asked, and nobody else.
    let script = ["sh", "-c", "\"$0\" \"$1\"; exit 7", &program, &number];
    for command in [&client(port).each_ref().map(String::as_str)[..], &script] {
        let mut run = home.exec("shop/green", command).speaking().spawn();
        run.wait();
        // It may be told a moment after the program's end.
        until("the caller is told", || run.stderr().contains(&refused).then_some(()));
        let run = run.finish();
        assert!(!run.status.success() && run.stderr.matches("localhost:").count() == 1, "{}", run.explain());
    }
    assert!(!green.stderr().contains("localhost:"), "{}", green.stderr());
    green.write(b"\n");
    until("its terminal is told", || green.stderr().contains(&refused).then_some(()));
    assert_eq!(home.program(&client(port)[0]).arg(&listen).text(), "blue", "outside of instances");
    assert_eq!(asks("shop/blue").success().stdout, "blue", "its own");
    let _ = home.agentfs(&["forward", "--remove", &format!("127.0.0.1:{port}")]).output().success();
    let (free, _) = host(&home, &home.work(), port, "a database");
    let reached = asks("shop/green").success();
    assert_eq!((reached.stdout.as_str(), reached.stderr.as_str()), ("a database", ""));
    let reached = format!("localhost:{port} is the host's: python3 (pid ");
    until("its terminal is told", || green.stderr().contains(&reached).then_some(()));
    green.write(b"\n");
    green.close_input();
    let told = green.finish().success().stderr;
    assert_eq!(told.matches("localhost:").count(), 2, "each once: {told}");
    drop(free);
}

/// "(a) the port was never this instance's own": also where its collector was killed meanwhile.
#[test]
fn a_port_whose_own_listener_is_gone_is_not_the_hosts() {
    let home = Home::new();
    let other = home.write("other/file", "").parent().unwrap().to_owned();
    let (listening, port) = host(&home, &other, 0, "of the host");
    let mut green = home.wrap("shop", "green", &["cat"]).open_input().spawn();
    until("green is known", || home.instance("shop", "green"));
    let asks = |instance: &str| home.exec(instance, &client(port)).output();
    assert_eq!(asks("shop/green").success().stdout, "of the host", "it had no such port yet");
    let mut server = home.exec("shop/green", &["python3", "-c", HOST, &port.to_string(), "green"]).spawn();
    server.wait_for("PORT");
    home.listener("shop", "green", port);
    assert_eq!(asks("shop/green").success().stdout, "green");
    server.signal(Signal::SIGKILL);
    server.wait();
    for _ in 0..20 {
        assert!(!asks("shop/green").status.success());
    }
    home.kill_daemon();
    assert!(!asks("shop/green").status.success());
    assert!(!asks("shop/green").status.success(), "with a new collector");
    // Another instance, and a new one with that name, have had no such port.
    assert!(!refused(&home, "blue", &other, port, &[]));
    green.close_input();
    green.wait();
    home.gone("shop", "green");
    assert!(!refused(&home, "green", &other, port, &[]));
    drop(listening);
}

/// "A loopback connect without own listener goes to the host only if (a) the port was never this instance's own": nor
/// where it is its own at the other loopback address, which a program may try first for `localhost`.
#[test]
fn a_port_that_is_own_at_one_loopback_address_is_not_the_hosts_at_the_other() {
    let home = Home::new();
    let (_listening, port) = host(&home, &home.work(), 0, "of the host");
    let asks = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])))";
    let reaches = |address: &str| {
        let run = home.exec("shop/green", &["python3", "-c", asks, address, &port.to_string()]).output();
        assert!(run.status.success() || run.stderr.contains("ConnectionRefusedError"), "{}", run.explain());
        run.status.success()
    };
    let _green = home.wrap("shop", "green", &["cat"]).open_input().spawn();
    until("green is known", || home.instance("shop", "green"));
    assert!(reaches("127.0.0.1"), "it has no such port yet");
    let server = ["python3", "-m", "http.server", "--bind", "::1", &port.to_string()];
    let _server = home.exec("shop/green", &server).spawn();
    home.listener("shop", "green", port);
    assert!(reaches("::1") && !reaches("127.0.0.1"));
}

/// "a page of the collector's that is missing, torn or old": nothing is barred, nothing breaks, and the collector writes
/// it again.
#[test]
fn a_page_that_is_no_page_bars_nothing() {
    let home = Home::new();
    let (_listening, port) = host(&home, &home.work(), 0, "of the host");
    let _green = home.wrap("shop", "green", &["cat"]).open_input().spawn();
    until("green is known", || home.instance("shop", "green"));
    let page = home.paths().barred.clone();
    let connect = format!(
        "import urllib.request as u; print(u.urlopen('http://localhost:{port}').read().decode(), end='')"
    );
    for content in [&b""[..], b"afsbar1", b"afsbar1\n\x01", &[0; 5000], &[0xff; 5000]] {
        let shell = format!("cat > {}; exec python3 -c \"$0\"", page.display());
        let run = home.exec("shop/green", &["sh", "-c", &shell, &connect]).input(content).output();
        assert_eq!(run.success().stdout, "of the host");
    }
    let shell = format!("rm {}; exec python3 -c \"$0\"", page.display());
    let run = home.exec("shop/green", &["sh", "-c", &shell, &connect]).output();
    assert_eq!(run.success().stdout, "of the host");
    let is_whole = || fs::read(&page).is_ok_and(|bytes| bytes.starts_with(b"afsbar1\n")).then_some(());
    until("the page is back", is_whole);
    fs::write(&page, "torn").unwrap();
    until("the page is whole again", is_whole);
}

/// "`isolate = true | [5432, 6379]` in agentfs.toml"
#[test]
fn the_project_says_which_ports_are_isolated() {
    let home = Home::new();
    let (_one, first) = host(&home, &home.work(), 0, "one");
    let (_two, second) = host(&home, &home.work(), 0, "two");
    let toml = home.write("shop/agentfs.toml", &format!("isolate = [{first}]\n"));
    let shop = toml.parent().unwrap();
    let in_shop = |port, more: &[&str]| refused(&home, "one", shop, port, more);
    assert!(in_shop(first, &[]) && !in_shop(second, &[]));
    assert!(!in_shop(first, &["--allow-host", &first.to_string()]));
    fs::write(&toml, "isolate = true\n").unwrap();
    assert!(in_shop(first, &[]) && in_shop(second, &[]));
    fs::write(&toml, "isolate = 'yes'\n").unwrap();
    let wrong = home.wrap("shop", "one", &["true"]).directory(shop).output().code(125);
    assert!(wrong.stderr.contains("agentfs.toml") && wrong.stderr.contains("isolate"), "{}", wrong.explain());
}

/// The nearest agentfs.toml counts for every command: also for one that joins, and where the file has changed since.
#[test]
fn a_command_that_joins_is_isolated_as_its_own_folder_says() {
    let home = Home::new();
    let (_host, port) = host(&home, &home.work(), 0, "host");
    let [shop, ..] = repository(&home);
    let running = home.wrap("shop", "one", &["cat"]).directory(&shop).open_input().spawn();
    until("it runs", || home.instance("shop", "one"));
    let web = home.write("shop/web/agentfs.toml", &format!("isolate = [{port}]\n"));
    let web = web.parent().unwrap();
    assert!(refused(&home, "one", web, port, &[]) && !refused(&home, "one", &shop, port, &[]));
    let exec = |folder| home.exec("shop/one", &client(port)).directory(folder).output().status.success();
    assert!(!exec(web) && exec(&shop));
    fs::write(shop.join("agentfs.toml"), "isolate = true\n").unwrap();
    assert!(refused(&home, "one", &shop, port, &[]) && !exec(&shop));
    // A restart that could not start it again does not stop it.
    fs::write(shop.join("agentfs.toml"), "isolate = 'yes'\n").unwrap();
    let restart = home.agentfs(&["restart", "shop/one"]).output().code(1);
    let _ = restart.names(&["isolate", "agentfs.toml", "still running"]);
    assert!(home.instance("shop", "one").is_some());
    drop(running);
}

/// A file that cannot be read may isolate ports. In a linked worktree it is another file than the one that names the app.
#[test]
fn an_agentfs_toml_that_cannot_be_read_starts_nothing() {
    let home = Home::new();
    let [shop, blue, _] = repository(&home);
    home.write("blue/agentfs.toml", "isolate = true\nx = = \n");
    home.write("shop/agentfs.toml", "isolate = true\nx = = \n");
    let web = home.write("shop/web/agentfs.toml", "name = 'front'\n");
    for folder in [&blue, &shop, web.parent().unwrap()] {
        let wrong = home.agentfs(&["wrap", "--", "true"]).directory(folder).output().code(125);
        let wrong = wrong.names(&["agentfs.toml", "line 2: "]);
        assert_eq!(wrong.stderr.matches("cannot read").count(), 1, "{}", wrong.explain());
    }
    let misspelt = home.write("blue/agentfs.toml", "name = 3\nisolated = true\n");
    fs::copy(&misspelt, shop.join("agentfs.toml")).unwrap();
    let told = home.agentfs(&["wrap", "--", "true"]).directory(&blue).speaking().output().success();
    let _ = told.names(&["`isolated`, which has no effect", "`name` in", "is not a name: it is `3`"]);
    fs::remove_file(&misspelt).unwrap();
    let _ = home.program("mkfifo").arg(&misspelt).output().success();
    let _ = home.agentfs(&["wrap", "--", "true"]).directory(&blue).output().success();
}
