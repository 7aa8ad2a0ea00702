//! Identity is the checkout: which commands share a localhost, which are copies, and which folder has a name.
use crate::names::repository;
use agentfs_tests::wait::until;
use agentfs_tests::{Home, Process, artifact, skip};
use agentfs_wire::companion::Companion;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::path::Path;

/// Prints the names of its instance.
pub(crate) const NAMES: [&str; 3] = ["sh", "-c", "printf %s/%s $AGENTFS_APP $AGENTFS_INSTANCE"];

/// `agentfs wrap OPTIONS -- sh -c SCRIPT` in a folder; `$0` is a server.
fn server<'home>(home: &'home Home, folder: &Path, options: &[&str], script: &str) -> Process<'home> {
    let server = artifact::binary("fixture-wait");
    home.agentfs(&["wrap"])
        .args(options.iter().copied())
        .args(["--", "sh", "-c", script])
        .arg(server)
        .directory(folder)
        .spawn()
}

/// A server on a port with a body.
pub(crate) fn serve<'home>(home: &'home Home, folder: &Path, port: u16, body: &str) -> Process<'home> {
    server(home, folder, &[], &format!("FIXTURE_PORT={port} FIXTURE_BODY={body} exec \"$0\""))
}

/// What `wrap` calls the instance of a command in that folder: `APP/INSTANCE`.
pub(crate) fn named(home: &Home, folder: &Path, options: &[&str]) -> String {
    home.agentfs(&["wrap"]).args(options.iter().copied()).arg("--").args(NAMES).directory(folder).text()
}

pub(crate) fn client() -> String {
    artifact::binary("fixture-client").display().to_string()
}

/// What `localhost:PORT` answers to a command that is wrapped in that folder.
pub(crate) fn asked(home: &Home, folder: &Path, port: u16) -> String {
    home.agentfs(&["wrap", "--", &client(), &port.to_string()]).directory(folder).text()
}

pub(crate) fn companion(home: &Home, file: &str) -> Companion {
    serde_json::from_slice(&std::fs::read(home.paths().run.join(file)).unwrap()).unwrap()
}

/// "Two terminals in one worktree (`wrap -- npm run api`, `wrap -- npm run front`) get two localhosts"
#[test]
fn two_terminals_in_one_worktree_share_one_localhost() {
    let home = Home::new();
    let (main, cart) = repository(&home);
    let _other = serve(&home, &main, 5000, "main");
    let api = serve(&home, &cart, 5000, "api");
    home.listener("shop", "feature-cart", 5000);
    assert_eq!(asked(&home, &cart, 5000), "api", "the second terminal reaches the first");
    let _front = serve(&home, &cart, 5001, "front");
    home.listener("shop", "feature-cart", 5001);
    assert_eq!(home.exec("feature-cart.shop", &[&client(), "5001"]).text(), "front");
    let info = home.instance("shop", "feature-cart").unwrap();
    assert_eq!(info.commands.len(), 2, "{info:?}");
    // It lives as long as one of them, under its name.
    let _ = api.terminate();
    until("one command is left", || {
        (home.instance("shop", "feature-cart")?.commands.len() == 1).then_some(())
    });
    assert_eq!(named(&home, &cart, &[]), "shop/feature-cart");
    assert_eq!(asked(&home, &cart, 5001), "front");
}

/// "in a monorepo packages/api and packages/web become two apps"
#[test]
fn the_packages_of_a_monorepo_are_one_app() {
    let home = Home::new();
    let (main, cart) = repository(&home);
    for package in ["api", "web"] {
        home.write(&format!("shop/packages/{package}/package.json"), &format!("{{\"name\": \"{package}\"}}"));
    }
    let _api = serve(&home, &main.join("packages/api"), 5000, "api");
    home.listener("shop", "main", 5000);
    assert_eq!(asked(&home, &main.join("packages/web"), 5000), "api");
    assert_eq!(named(&home, &main, &[]), "shop/main");
    // A package that says so is an app of its own, in each worktree.
    home.write("shop/packages/web/agentfs.toml", "name = \"front\"\n");
    std::fs::create_dir_all(cart.join("packages/web")).unwrap();
    assert_eq!(named(&home, &main.join("packages/web"), &[]), "front/main");
    assert_eq!(named(&home, &cart.join("packages/web"), &[]), "front/feature-cart");
    assert_eq!(named(&home, &cart, &[]), "shop/feature-cart");
}

/// "The same command line that still runs there once more is another copy: `main-2`, `blue-2` (readable, stable,
/// lowest free)."
#[test]
fn the_same_command_once_more_is_a_copy_with_the_lowest_free_number() {
    let home = Home::new();
    let (_, cart) = repository(&home);
    let start = || server(&home, &cart, &[], "exec \"$0\"");
    let _first = start();
    home.listener("shop", "feature-cart", 5000);
    let second = start();
    home.listener("shop", "feature-cart-2", 5000);
    let _third = start();
    home.listener("shop", "feature-cart-3", 5000);
    let _ = second.terminate();
    home.gone("shop", "feature-cart-2");
    let _again = start();
    home.listener("shop", "feature-cart-2", 5000);
    assert_eq!(named(&home, &cart, &[]), "shop/feature-cart");
}

/// "two wraps at one instant in one checkout"
#[test]
fn commands_that_start_at_one_instant_agree() {
    let home = Home::new();
    let (main, _) = repository(&home);
    home.start_daemon();
    let script = |number: usize| format!("exec {} # {number}", ["cat", "tail -f /dev/null"][number % 2]);
    let running: Vec<_> = (0..6)
        .map(|number| {
            let run = home.agentfs(&["wrap", "--", "sh", "-c", &script(number % 3)]).directory(&main);
            run.open_input().spawn()
        })
        .collect();
    let commands = until("six commands run", || {
        let instances = home.snapshot()?.instances;
        let commands = |name: &str| {
            let info = instances.iter().find(|info| info.instance == name)?;
            Some(info.commands.iter().map(|one| one.command.join(" ")).collect::<Vec<_>>())
        };
        let (first, second) = (commands("main")?, commands("main-2")?);
        (first.len() + second.len() == 6 && instances.len() == 2).then_some([first, second])
    });
    for mut of_one in commands {
        of_one.sort();
        let expected: Vec<String> = (0..3).map(|number| format!("sh -c {}", script(number))).collect();
        let mut expected = expected;
        expected.sort();
        assert_eq!(of_one, expected, "each command once");
    }
    drop(running);
}

/// "a closed terminal leaves Postgres as `blue`, the next `wrap` silently becomes `blue-fsr8`"
#[cfg_attr(not(target_os = "linux"), ignore = "only /proc tells who holds a socket")]
#[test]
fn what_a_closed_terminal_left_behind_is_joined_and_named() {
    let home = Home::new();
    let (_, cart) = repository(&home);
    let script = "FIXTURE_PORT=5432 FIXTURE_BODY=left setsid \"$0\" >/dev/null 2>&1 & exec cat";
    let mut closed = home
        .agentfs(&["wrap", "--", "sh", "-c", script])
        .arg(artifact::binary("fixture-wait"))
        .directory(&cart)
        .open_input()
        .spawn();
    // The file is seen before the notice comes that says whose it is.
    let left = until("the listener's process is known", || home.listener("shop", "feature-cart", 5432).pid);
    closed.signal(Signal::SIGHUP);
    closed.wait();
    until("only the orphan is left", || {
        (home.instance("shop", "feature-cart")?.commands.is_empty()).then_some(())
    });
    let next = home.agentfs(&["wrap", "--"]).args(NAMES).directory(&cart).speaking().output().success();
    assert_eq!(next.stdout, "shop/feature-cart", "{}", next.explain());
    let pid = left.to_string();
    let next = next.names(&["5432", "fixture-wait", &format!("pid {pid}"), &format!("kill {pid}")]);
    assert_eq!(next.stderr.lines().count(), 1, "{}", next.explain());
    assert_eq!(asked(&home, &cart, 5432), "left");
    // The command that was named does end it.
    let _ = home.program("sh").args(["-c", &format!("kill {pid}")]).output().success();
    home.gone("shop", "feature-cart");
}

/// "an explicit `--instance x` twice silently becomes `x-dqjj`"; "joins it from its own folder, else an error that
/// names who has it"
#[test]
fn a_given_name_means_exactly_that_instance() {
    let home = Home::new();
    let (main, cart) = repository(&home);
    let running = server(&home, &main, &["--instance", "demo"], "FIXTURE_BODY=demo exec \"$0\"");
    home.listener("shop", "demo", 5000);
    assert_eq!(named(&home, &main, &["--instance", "demo"]), "shop/demo");
    assert_eq!(named(&home, &main, &[]), "shop/main", "a name of its own is not the folder's usual instance");
    let refused =
        home.agentfs(&["wrap", "--instance", "demo", "--", "true"]).directory(&cart).output().code(125);
    let pid = running.pid().to_string();
    let _ = refused.names(&["`demo`", &main.display().to_string(), "fixture-wait", &pid, "--replace"]);
    let new = ["wrap", "--new", "--instance", "demo", "--", "true"];
    let _ = home.agentfs(&new).directory(&main).output().code(125).names(&["already running"]);
    // `--replace` stops whoever has it.
    assert_eq!(named(&home, &cart, &["--instance", "demo", "--replace"]), "shop/demo");
    let mut running = running;
    running.wait();
}

/// `--instance NAME --replace` stops whoever has the name: told, if that is another folder's.
#[test]
fn what_was_stopped_for_a_name_is_told() {
    let home = Home::new();
    let (main, cart) = repository(&home);
    let _running = server(&home, &main, &["--instance", "demo"], "exec \"$0\"");
    home.listener("shop", "demo", 5000);
    let replace = ["wrap", "--instance", "demo", "--replace", "--"];
    let told = home.agentfs(&replace).args(NAMES).directory(&cart).speaking().output().success();
    let _ = told.names(&["stopped shop/demo, which was running in", &main.display().to_string()]);
}

/// "`--new` and `--join` decide explicitly"
#[test]
fn new_and_join_decide() {
    let home = Home::new();
    let (main, _) = repository(&home);
    let nothing = home.agentfs(&["wrap", "--join", "--", "true"]).directory(&main).output().code(125);
    let _ = nothing.names(&["no running instance of this folder"]);
    let _first = server(&home, &main, &[], "exec \"$0\"");
    home.listener("shop", "main", 5000);
    assert_eq!(named(&home, &main, &["--new"]), "shop/main-2");
    assert_eq!(named(&home, &main, &["--join"]), "shop/main");
    // Even the same command line: the port is taken then, as natively.
    let second = server(&home, &main, &["--join"], "exec \"$0\"").finish();
    assert!(!second.status.success() && second.stderr.contains("in use"), "{}", second.explain());
    // A plain `--replace` stops the folder's instance, whatever runs in it.
    let _next = server(&home, &main, &["--replace"], "FIXTURE_PORT=5001 exec \"$0\"");
    home.listener("shop", "main", 5001);
    let info = home.instance("shop", "main").unwrap();
    assert_eq!(info.listeners.len(), 1, "{info:?}");
}

/// "`wrap` inside an instance follows the same rule": in its own checkout it joins, in another one it makes that
/// checkout's instance.
#[test]
fn a_wrap_inside_an_instance_follows_the_same_rule() {
    let home = Home::new();
    let (main, cart) = repository(&home);
    let _first = server(&home, &main, &[], "exec \"$0\"");
    home.listener("shop", "main", 5000);
    let agentfs = home.agentfs_path().display().to_string();
    let script = "exec \"$0\" wrap -- sh -c 'printf %s/%s $AGENTFS_APP $AGENTFS_INSTANCE'";
    for (instance, folder, expected) in
        [("shop/main", &main, "shop/main"), ("shop/main", &cart, "shop/feature-cart")]
    {
        let inside = home.exec(instance, &["sh", "-c", script, &agentfs]).directory(folder).text();
        assert_eq!(inside, expected);
    }
    // Inside a copy it is the copy, not the first.
    let _second = server(&home, &main, &[], "exec \"$0\"");
    home.listener("shop", "main-2", 5000);
    let inside = home.exec("shop/main-2", &["sh", "-c", script, &agentfs]).directory(&main).text();
    assert_eq!(inside, "shop/main-2");
    let itself = home.exec("shop/main", &[&agentfs, "wrap", "--replace", "--", "true"]).directory(&main);
    let _ = itself.output().code(125).names(&["part of"]);
}

/// The broker knows one secret for each instance, so every command of it has that one.
#[cfg_attr(not(target_os = "linux"), ignore = "only Linux has a broker")]
#[test]
fn a_command_that_joins_has_the_secret_of_the_instance() {
    if !skip::is_root() {
        return;
    }
    let home = Home::new();
    let (main, _) = repository(&home);
    let _running = serve(&home, &main, 5000, "main");
    home.listener("shop", "main", 5000);
    let secret =
        home.agentfs(&["wrap", "--", "sh", "-c", "printf %s $AGENTFS_SECRET"]).directory(&main).text();
    assert_eq!(secret, companion(&home, "shop-main.json").secret.unwrap().reveal());
}

/// A command that joins goes by the rules of the instance.
#[test]
fn a_command_that_joins_has_the_rules_of_the_instance() {
    let home = Home::new();
    let (main, _) = repository(&home);
    let _running = server(&home, &main, &["--isolate", "--except", "7001,7002"], "exec \"$0\"");
    home.listener("shop", "main", 5000);
    let show = ["sh", "-c", "printf '%s %s' \"$AGENTFS_ISOLATE\" \"$AGENTFS_EXCEPT\""];
    let rules = |options: &[&str]| {
        let run = home.agentfs(&["wrap"]).args(options.iter().copied()).arg("--").args(show);
        run.directory(&main).text()
    };
    assert_eq!(rules(&[]), "1 7001,7002");
    assert_eq!(rules(&["--except", "7003"]), "1 7003", "its own ports, if it says so");
    assert_eq!(rules(&["--new"]), " ");
}

/// `trace -- COMMAND` joins too, and still shows only its own command.
#[cfg_attr(not(target_os = "linux"), ignore = "only /proc tells who started a process")]
#[test]
fn a_traced_command_that_joins_shows_only_its_own_calls() {
    let home = Home::new();
    let (main, _) = repository(&home);
    let script = "\"$0\" & echo ready; read line; FIXTURE_PORT=5001 \"$0\" & wait";
    let run = home.agentfs(&["wrap", "--", "sh", "-c", script]).arg(artifact::binary("fixture-wait"));
    let mut running = run.directory(&main).open_input().spawn();
    home.listener("shop", "main", 5000);
    let script = "echo ready; read line; exec \"$0\" 5001";
    let run = home.agentfs(&["trace", "--", "sh", "-c", script]).arg(client());
    let mut traced = run.directory(&main).open_input().spawn();
    traced.wait_for("ready");
    running.write(b"\n");
    home.listener("shop", "main", 5001);
    traced.write(b"\n");
    let traced = traced.finish().success();
    let lines = |word: &str| traced.stderr.lines().filter(|line| line.contains(word)).count();
    assert!(lines("connect") > 0, "{}", traced.explain());
    assert_eq!((lines("listen"), lines("fixture-wait")), (0, 0), "{}", traced.explain());
}

/// "`agentfs name` explains what the folder would be called and why"
#[test]
fn name_says_what_a_folder_is_called_and_why() {
    let home = Home::new();
    let (_, cart) = repository(&home);
    let json = |arguments: &[&str]| -> Value {
        let run = home.agentfs(&["name", "--json"]).args(arguments.iter().copied()).directory(&cart);
        serde_json::from_str(&run.text()).unwrap()
    };
    let before = json(&[]);
    assert_eq!(
        (&before["app"], &before["instance"], &before["joins"]),
        (&"shop".into(), &"feature-cart".into(), &false.into())
    );
    assert!(before["instance_from"].as_str().unwrap().contains("branch feature/cart"), "{before}");
    assert!(before["app_from"].as_str().unwrap().ends_with("/shop"), "{before}");
    assert!(!home.paths().run.exists(), "it starts nothing and writes nothing");
    let _running = home.agentfs(&["wrap", "--", "cat"]).directory(&cart).open_input().spawn();
    until("it runs", || home.instance("shop", "feature-cart"));
    assert_eq!(json(&[])["joins"], true);
    let copy = json(&["--", "cat"]);
    assert_eq!((&copy["instance"], &copy["joins"]), (&"feature-cart-2".into(), &false.into()));
    let text = home.agentfs(&["name"]).directory(&cart).text();
    for word in ["shop", "feature-cart", "branch feature/cart", "feature-cart.shop.localhost", "join it"] {
        assert!(text.contains(word), "{text}");
    }
}
