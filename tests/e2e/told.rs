//! What agentfs says on stderr, also without a terminal; and that it holds nothing of the program's for it.
use agentfs_tests::wait::until;
use agentfs_tests::{Home, artifact};
use nix::sys::signal::Signal;

const PORT: u16 = 5000;

fn server() -> String {
    artifact::binary("fixture-wait").display().to_string()
}

/// "Without a terminal, `wrap` prints no URL … a coding agent sees nothing."
#[test]
fn a_listener_is_told_without_a_terminal() {
    let home = Home::new();
    let running = home.wrap("shop", "one", &[server()]).speaking().spawn();
    home.listener("shop", "one", PORT);
    let line = until("the listener is told", || running.stderr().lines().next().map(str::to_owned));
    assert!(line.starts_with("agentfs: shop  127.0.0.1:5000 → http://"), "{line}");
    let ended = running.terminate();
    assert_eq!((ended.stdout.as_str(), ended.stderr.lines().count()), ("", 1), "{}", ended.explain());
}

/// "`-q` or `AGENTFS_QUIET=1` for silence", also for what is started inside.
#[test]
fn quiet_is_silent() {
    let home = Home::new();
    let nested = "\"$0\" wrap --new -- sh -c 'echo $AGENTFS_QUIET'; exec \"$1\"";
    let agentfs = home.agentfs_path().display().to_string();
    for (number, options, variable) in [(1, &["-q"][..], "0"), (2, &[], "1")] {
        let instance = format!("q{number}");
        let run = home.agentfs(options).args([
            "wrap",
            "--app",
            "shop",
            "--instance",
            &instance,
            "--",
            "sh",
            "-c",
            nested,
        ]);
        let running = run.arg(&agentfs).arg(server()).env("AGENTFS_QUIET", variable).spawn();
        home.listener("shop", &instance, PORT);
        let ended = running.terminate();
        let own = ended.stderr.lines().filter(|line| line.starts_with("agentfs: ")).count();
        assert_eq!((own, ended.stdout.trim()), (0, variable), "{}", ended.explain());
    }
}

/// "no word that it was renamed"
#[test]
fn a_copy_says_what_it_is_called() {
    let home = Home::new();
    let _first = home.agentfs(&["wrap", "--app", "shop", "--", "cat"]).open_input().spawn();
    until("the first one runs", || home.instance("shop", "main"));
    let second =
        home.agentfs(&["wrap", "--app", "shop", "--", "cat"]).input(b"").speaking().output().success();
    assert_eq!(second.stdout, "");
    let _ = second.names(&["shop/main-2", "another copy", "shop/main"]);
    let new = ["wrap", "--app", "shop", "--new", "--", "true"];
    let new = home.agentfs(&new).speaking().output().success();
    let _ = new.names(&["shop/main-2, a new instance beside shop/main"]);
}

/// "Under `exec` only warnings."
#[cfg(target_os = "linux")]
#[test]
fn warnings_are_told_without_a_terminal_and_exec_tells_nothing_else() {
    let home = Home::new();
    let program = home.write("static.c", "int main(void) { return 0; }\n");
    let built = home.work().join("static");
    let compiler = home.program("cc").args(["-static", "-o"]).arg(&built).arg(&program);
    let _ = compiler.output().success();
    let _running = home.wrap("shop", "one", &[server()]).spawn();
    home.listener("shop", "one", PORT);
    let word = "cannot be intercepted";
    for run in [
        home.agentfs(&["wrap", "--app", "shop", "--instance", "two", "--engine", "preload", "--"]),
        home.agentfs(&["exec", "--engine", "preload", "shop/one", "--"]),
    ] {
        let output = run.arg(&built).speaking().output().success();
        assert_eq!(output.stderr.matches(word).count(), 1, "{}", output.explain());
        assert!(output.stderr.starts_with("agentfs: warning: ") && output.stdout.is_empty());
    }
    let script = "FIXTURE_PORT=5001 \"$0\" & echo ready; read line; kill $!";
    let mut quiet = home.exec("shop/one", &["sh", "-c", script, &server()]).open_input().speaking().spawn();
    home.listener("shop", "one", 5001);
    quiet.wait_for("ready");
    quiet.write(b"\n");
    let quiet = quiet.finish();
    assert_eq!(quiet.stderr, "", "{}", quiet.explain());
}

/// "`x=$(agentfs wrap -- cmd 2>&1)` returns as without": what was told is in there, and whoever waits for the end of the
/// pipe sees it with the program's.
#[test]
fn a_pipe_ends_with_the_program() {
    let home = Home::new();
    let agentfs = home.agentfs_path().display().to_string();
    let log = home.work().join("log");
    let program = "\"$0\" & read line; kill $!; echo bye";
    let script = format!(
        "x=$(\"$0\" wrap --app shop -- sh -c '{program}' \"$1\" 2>&1 | tee \"$2\"); printf %s \"$x\""
    );
    let run = home.program("sh").args(["-c", &script, &agentfs, &server()]).arg(&log).open_input();
    let mut running = run.speaking().spawn();
    until("the listener is told", || {
        std::fs::read_to_string(&log).ok()?.contains("127.0.0.1:5000 → http://").then_some(())
    });
    running.write(b"\n");
    let ended = running.finish().success();
    assert!(ended.stdout.starts_with("agentfs: shop  127.0.0.1:5000") && ended.stdout.ends_with("bye"));
    // `timeout` kills what `wrap` became, which knows nothing of an announcer.
    let script = "timeout -s KILL 0.5 \"$0\" wrap --app shop -- \"$1\" 2>&1 | cat";
    let _ = home.program("sh").args(["-c", script, &agentfs, &server()]).speaking().output().success();
}

/// "no process of ours holds the program's pipes after the program's end", not even where nobody reads what we have to
/// say.
#[test]
fn an_announcer_that_nobody_reads_ends_with_the_program() {
    let home = Home::new();
    let fifo = home.work().join("fifo");
    let _ = home.program("mkfifo").arg(&fifo).output().success();
    let _reader = std::fs::File::options().read(true).write(true).open(&fifo).unwrap();
    let agentfs = home.agentfs_path().display().to_string();
    // Filled up to the last byte: then every writer waits.
    let fill = "dd if=/dev/zero of=\"$1\" oflag=nonblock";
    let program = format!("{fill} bs=4096 2>/dev/null; {fill} bs=1 2>/dev/null; exec \"$0\"");
    let script =
        format!("exec \"$0\" -v wrap --app shop --instance one -- sh -c '{program}' \"$1\" \"$2\" 2>\"$2\"");
    let running = home.program("sh").args(["-c", &script, &agentfs, &server()]).arg(&fifo).spawn();
    home.listener("shop", "one", PORT);
    let announcer = || home.processes().into_iter().find(|(_, command)| command.contains(" tell "));
    assert!(announcer().is_some(), "{:?}", home.processes());
    let _ = running.terminate();
    until("the announcer has ended", || announcer().is_none().then_some(()));
}

/// Other descriptors that we were given are for the program alone: it may close them to say that it is ready. Neither
/// the announcer nor a collector that we start keeps them.
#[test]
fn nothing_of_ours_keeps_what_the_program_was_given() {
    let home = Home::new();
    let agentfs = home.agentfs_path().display().to_string();
    let program = "exec 3>&-; exec \"$0\"";
    // `cat` ends when the last copy of descriptor 3 is closed, while the program runs on.
    let script = format!(
        "{{ \"$0\" wrap --app shop --instance one -- sh -c '{program}' \"$1\" 3>&1 >/dev/null & }} | cat; echo closed; wait"
    );
    let mut running = home.program("bash").args(["-c", &script, &agentfs, &server()]).speaking().spawn();
    running.wait_for("closed");
    home.listener("shop", "one", PORT);
}

/// "an announcer of an ended `wrap -v` prints a later instance's lines on its own stderr, 3 of 3."
#[test]
fn an_announcer_ends_with_its_command() {
    let home = Home::new();
    let start = |port: &str| {
        let run = home.agentfs(&["-v", "wrap", "--app", "shop", "--instance", "one", "--", &server()]);
        let running = run.env("FIXTURE_PORT", port).spawn();
        until("it is told", || running.stderr().contains(&format!(":{port} →")).then_some(()));
        running
    };
    for turn in 0..3 {
        let mut first = start("6000");
        first.signal(Signal::SIGKILL);
        first.wait();
        // The next one takes the name at once.
        let second = start("5000");
        assert!(!first.stderr().contains(":5000"), "turn {turn}: {}", first.stderr());
        let _ = second.terminate();
        home.gone("shop", "one");
    }
}

/// The same where something of the ended command keeps the instance alive, and the next one joins it.
#[test]
fn an_announcer_of_an_ended_command_leaves_its_instance_to_others() {
    let home = Home::new();
    let script = "FIXTURE_PORT=6000 \"$0\" & exec cat";
    let mut first =
        home.wrap("shop", "one", &["sh", "-c", script, &server()]).speaking().open_input().spawn();
    until("it is told", || first.stderr().contains(":6000 →").then_some(()));
    first.signal(Signal::SIGKILL);
    first.wait();
    let second = home.wrap("shop", "one", &[server()]).speaking().spawn();
    until("it is told", || second.stderr().contains(":5000 →").then_some(()));
    assert!(!first.stderr().contains(":5000"), "{}", first.stderr());
}

/// Of two commands in one instance, each tells of its own listeners.
#[cfg_attr(not(target_os = "linux"), ignore = "only /proc tells who started a process")]
#[test]
fn each_terminal_tells_of_its_own_listeners() {
    let home = Home::new();
    let start = |port: &str| {
        let command = ["sh", "-c", "FIXTURE_PORT=$1 \"$0\" & wait", &server(), port].map(str::to_owned);
        let running = home.wrap("shop", "one", &command).speaking().spawn();
        home.listener("shop", "one", port.parse().unwrap());
        until("it is told", || running.stderr().contains(&format!(":{port} →")).then_some(()));
        running
    };
    let (first, second) = (start("5000"), start("5001"));
    assert!(!first.stderr().contains(":5001"), "{}", first.stderr());
    assert!(!second.stderr().contains(":5000"), "{}", second.stderr());
}
