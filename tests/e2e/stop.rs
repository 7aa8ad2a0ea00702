//! "`stop` returns when every process and every name of the instance is gone, and says what it had to kill."
//! Each test makes a process that is hard to find or to end, in a shell script that writes down its number.
use agentfs_tests::processes::is_alive;
use agentfs_tests::wait::until;
use agentfs_tests::{Home, Process, artifact, skip};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

/// Port of `fixture-wait`.
const PORT: u16 = 5000;

/// A server in `shop/one`, and beside it what `script` starts (`$0` is the server's path). The script writes the
/// numbers of its processes to the file `pids`.
fn beside<'home>(home: &'home Home, script: &str) -> (Process<'home>, Vec<i32>) {
    let server = artifact::binary("fixture-wait").display().to_string();
    let script = format!("{script}\necho done >>pids\nexec \"$0\"");
    let running = home.wrap("shop", "one", &["sh", "-c", &script, &server]).spawn();
    home.listener("shop", "one", PORT);
    (running, pids(home))
}

fn pids(home: &Home) -> Vec<i32> {
    until("the script has written down its processes", || {
        let text = std::fs::read_to_string(home.work().join("pids")).ok()?;
        let mut words: Vec<&str> = text.split_whitespace().collect();
        words.iter().position(|word| *word == "done").map(|done| words.remove(done))?;
        words.into_iter().map(|word| word.parse().ok()).collect()
    })
}

/// The run dir's entries of `shop/one`.
fn files(home: &Home) -> Vec<String> {
    let entries = std::fs::read_dir(&home.paths().run).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("shop-one.")).collect()
}

/// Stops `shop/one`, and checks at the moment of its return that nothing of it is left.
fn stop_and_expect_nothing(home: &Home, pids: &[i32]) -> String {
    let stopped = home.agentfs(&["stop", "shop/one", "--timeout", "2"]).speaking().output().success();
    let left: Vec<&i32> = pids.iter().filter(|pid| is_alive(**pid)).collect();
    assert!(left.is_empty(), "living after stop: {left:?}\n{}", stopped.explain());
    assert_eq!(files(home), [""; 0], "{}", stopped.explain());
    assert!(home.instance("shop", "one").is_none(), "{}", stopped.explain());
    home.expect_nothing("one.shop.localhost");
    stopped.stderr
}

/// "`stop` returns 0 while processes live": the program wrote a title over its environment, as databases do.
#[cfg_attr(not(target_os = "linux"), ignore = "environments are read in /proc")]
#[test]
fn a_process_with_a_title_over_its_environment_is_stopped() {
    let home = Home::new();
    let title = r#"perl -e '$0 = "worker " x 2000; open F, ">>pids"; print F "$$\n"; close F; sleep 1 while 1' &
        until grep -q . pids; do :; done"#;
    let (running, pids) = beside(&home, title);
    assert_eq!(pids.len(), 1);
    stop_and_expect_nothing(&home, &pids);
    running.finish();
}

/// A daemon with a session of its own that ended its parents and cleaned its environment.
#[cfg_attr(not(target_os = "linux"), ignore = "there is no setsid")]
#[test]
fn a_daemon_with_a_session_of_its_own_is_stopped() {
    let home = Home::new();
    let daemon = "(setsid sh -c 'env -i sleep 1000 & echo $! >>pids' &)\n until grep -q . pids; do :; done";
    let (running, pids) = beside(&home, daemon);
    assert_eq!(pids.len(), 1);
    stop_and_expect_nothing(&home, &pids);
    running.finish();
}

/// A child with an environment of its own, beyond the library's reach, whose parent ends first.
#[cfg_attr(not(target_os = "linux"), ignore = "links statically")]
#[test]
fn a_static_child_with_a_clean_environment_is_stopped() {
    let home = Home::new();
    let source = home.write("quiet.c", "#include <unistd.h>\nint main(void) { for (;;) pause(); }\n");
    let program = home.work().join("quiet");
    let compiled = home.program("cc").arg("-static").arg("-o").arg(&program).arg(&source).output();
    let _ = compiled.success();
    let script = "env -i ./quiet & echo $! >>pids";
    let (running, pids) = beside(&home, script);
    stop_and_expect_nothing(&home, &pids);
    running.finish();
}

/// What had to be killed is named with its command, also where nobody looks at a terminal.
#[test]
fn what_had_to_be_killed_is_named() {
    let home = Home::new();
    let stubborn = "sh -c 'trap \"\" TERM; echo $$ >>pids; while :; do sleep 1; done' stubborn &\n\
        until grep -q . pids; do :; done";
    let (running, pids) = beside(&home, stubborn);
    let said = stop_and_expect_nothing(&home, &pids);
    assert!(said.contains(&format!("killed pid {}", pids[0])) && said.contains("stubborn"), "{said}");
    running.finish();
    let _ = home.agentfs(&["stop", "shop/one"]).output().code(3).names(&["shop/one"]);
}

/// A process that became another user cannot be signalled: `stop` fails, and names it.
#[cfg_attr(not(target_os = "linux"), ignore = "whether programs gain rights is read in /proc")]
#[test]
fn what_cannot_be_stopped_is_named_and_the_status_says_so() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if !skip::is_root() || !status.contains("NoNewPrivs:\t0") {
        skip::skipped("only root can make a program that becomes root");
        return;
    }
    let home = Home::of_user("nobody");
    let source = home.write(
        "root.c",
        "#include <unistd.h>\nint main(void) { if (setuid(0)) return 1; for (;;) pause(); }\n",
    );
    let program = home.work().join("becomes-root");
    let compiled = Command::new("cc").arg("-o").arg(&program).arg(&source).status().unwrap();
    assert!(compiled.success());
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o4755)).unwrap();
    let script = "./becomes-root & echo $! >>pids; echo done >>pids; while :; do sleep 0.1; done";
    let running = home.wrap("shop", "one", &["sh", "-c", script]).spawn();
    let root = pids(&home)[0];
    until("it has become root", || {
        std::fs::read_to_string(format!("/proc/{root}/status")).ok()?.contains("Uid:\t0\t0").then_some(())
    });
    let stopped = home.agentfs(&["stop", "shop/one", "--timeout", "1"]).output().code(1);
    let _ = stopped.names(&["shop/one", &format!("pid {root} (./becomes-root"), "not permitted"]);
    assert!(is_alive(root));
    kill(Pid::from_raw(root), Signal::SIGKILL).unwrap();
    running.finish();
    home.gone("shop", "one");
}

/// A daemon of root's instance that became another user and lost its parents proves with the secret that it belongs to it.
#[cfg_attr(not(target_os = "linux"), ignore = "environments are read in /proc")]
#[test]
fn a_daemon_that_became_another_user_is_stopped() {
    if !skip::is_root() {
        return;
    }
    let home = Home::new();
    // Everything but `sleep` has ended when `su` returns.
    let daemon = "su nobody -s /bin/sh -c 'setsid sh -c \"sleep 1000 & echo \\$!\"' >>pids";
    let (running, pids) = beside(&home, daemon);
    assert_eq!(pids.len(), 1);
    stop_and_expect_nothing(&home, &pids);
    running.finish();
}

/// A name is free when `stop` returns, also for somebody who takes it while the old one is still being looked at.
#[test]
fn the_name_is_free_when_stop_returns() {
    let home = Home::new();
    let server = artifact::binary("fixture-wait").display().to_string();
    for round in ["first", "second", "third"] {
        let running = home.wrap("shop", "one", std::slice::from_ref(&server)).body(round).spawn();
        home.listener("shop", "one", PORT);
        home.expect_body("one.shop.localhost", round);
        stop_and_expect_nothing(&home, &[running.pid()]);
        running.finish();
    }
}

/// `stop` without a name means the instance of the folder; in a folder where nothing runs it says so.
#[test]
fn stop_without_a_name_means_the_instance_of_the_folder() {
    let home = Home::new();
    let server = artifact::binary("fixture-wait").display().to_string();
    for folder in ["one", "two", "three"] {
        std::fs::create_dir_all(home.work().join(folder).join("deep")).unwrap();
    }
    let start = |name: &str| {
        home.wrap("shop", name, std::slice::from_ref(&server)).directory(&home.work().join(name)).spawn()
    };
    let [one, _two] = ["one", "two"].map(start);
    ["one", "two"].iter().for_each(|name| drop(home.listener("shop", name, PORT)));
    let stop = |folder: &str| home.agentfs(&["stop"]).directory(&home.work().join(folder)).output();
    let _ = stop("three").code(3).names(&["three", "shop/one", "shop/two"]);
    let _ = stop("one/deep").success();
    one.finish();
    assert!(home.instance("shop", "one").is_none() && home.instance("shop", "two").is_some());
    let _ = stop("one").code(3).names(&["shop/two"]);
}

/// A command of the instance that stops its own instance ends it all the same.
#[test]
fn an_instance_can_stop_itself() {
    let home = Home::new();
    let server = artifact::binary("fixture-wait").display().to_string();
    let running = home.wrap("shop", "one", std::slice::from_ref(&server)).spawn();
    home.listener("shop", "one", PORT);
    let agentfs = home.agentfs_path().display().to_string();
    let _ = home.exec("shop/one", &[agentfs.as_str(), "stop"]).output().success();
    running.finish();
    home.gone("shop", "one");
    until("its files are removed", || files(&home).is_empty().then_some(()));
}
