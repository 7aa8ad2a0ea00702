//! `wrap` on a terminal: our words on stderr, Ctrl-C, stop and continue, job control, window size.
use agentfs_tests::{Home, Output, artifact};
use serde_json::{Value, json};

/// Plays `script` on a terminal that runs `command`.
fn play<'home>(home: &'home Home, command: &[&str], script: &[Value]) -> Output<'home> {
    let mut terminal = artifact::python("terminal.py");
    terminal.extend(command.iter().map(|word| (*word).to_owned()));
    let lines: Vec<String> = script.iter().map(Value::to_string).collect();
    let run = home.program(artifact::PYTHON).args(&terminal[1..]).input(lines.join("\n").as_bytes());
    run.speaking().env("TERM", "dumb").env("PS1", "$ ").env("FIXTURE_BODY", "body").output()
}

#[test]
fn a_terminal_sees_where_the_program_listens() {
    let home = Home::new();
    let agentfs = home.agentfs_path().display().to_string();
    let server = artifact::python("threading_server.py");
    let mut command = vec![agentfs.as_str(), "wrap", "--app", "shop", "--instance", "one", "--"];
    command.extend(server.iter().map(String::as_str));
    let script =
        [json!(["expect", "0.0.0.0:8080"]), json!(["expect", ".localhost"]), json!(["send", "\u{3}"])];
    let output = play(&home, &command, &script);
    assert!(output.stdout.contains("http://"), "{}", output.explain());
    assert_ne!(output.status.code(), Some(99), "{}", output.explain());
}

/// One Ctrl-C is one SIGINT: the terminal sends it to the whole foreground group already.
#[test]
fn control_c_reaches_the_program_once() {
    let home = Home::new();
    let agentfs = home.agentfs_path().display().to_string();
    let program = artifact::python("signals.py");
    let mut command = vec![agentfs.as_str(), "wrap", "--app", "shop", "--"];
    command.extend(program.iter().map(String::as_str));
    let wait = json!(["expect", "SIGINT"]);
    let script = [
        json!(["expect", "READY"]),
        json!(["send", "\u{3}"]),
        wait.clone(),
        json!(["send", "\u{3}"]),
        wait,
        json!(["send", "\u{1c}"]),
    ];
    let output = play(&home, &command, &script);
    assert_eq!(output.stdout.matches("SIGINT").count(), 2, "{}", output.explain());
    // Ctrl-\ is SIGQUIT, which the program does not catch: it dies of it, and so is it reported.
    assert_ne!(output.status.code(), Some(99), "{}", output.explain());
    assert_ne!(output.status.code(), Some(0), "{}", output.explain());
}

/// Ctrl-Z stops the job, `fg` continues it, and the shell sees the exit status.
#[test]
fn a_shell_stops_and_continues_the_program() {
    let home = Home::new();
    let line = format!(
        "{} wrap --app shop -- {}\n",
        home.agentfs_path().display(),
        artifact::python("signals.py").join(" ")
    );
    let script = [
        json!(["send", line]),
        json!(["expect", "READY"]),
        json!(["send", "\u{1a}"]),
        json!(["expect", "Stopped"]),
        json!(["send", "fg\n"]),
        json!(["expect", "SIGCONT"]),
        json!(["send", "\u{3}"]),
        json!(["expect", "SIGINT"]),
        json!(["send", "\u{1a}"]),
        json!(["expect", "Stopped"]),
        json!(["send", "bg; kill -TERM %1; wait %1; echo status=$?\n"]),
        json!(["expect", "status=7"]),
        json!(["send", "exit 5\n"]),
    ];
    let output = play(&home, &["bash", "--norc", "--noprofile", "-i"], &script);
    let _ = output.code(5);
}

/// The program is on the terminal itself, not on a pipe of ours.
#[test]
fn the_program_has_the_terminal() {
    let home = Home::new();
    let agentfs = home.agentfs_path().display().to_string();
    let script = "import os, sys; print([os.isatty(fd) for fd in range(3)], os.tcgetpgrp(0) == os.getpgrp()); \
        print('typed', input())";
    let command = [agentfs.as_str(), "wrap", "--app", "shop", "--", artifact::PYTHON, "-c", script];
    let steps = [
        json!(["expect", "[True, True, True] True"]),
        json!(["send", "a word\n"]),
        json!(["expect", "typed a word"]),
    ];
    let _ = play(&home, &command, &steps).success();
}
