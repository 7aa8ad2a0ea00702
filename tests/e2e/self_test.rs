//! `agentfs doctor --self-test`: holds on a machine where everything is as it should be, and names what is not.
use agentfs_tests::Home;
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Seconds that the self-test gets here: the suite runs in parallel on small machines.
const TIME: &str = "25";

fn checks(text: &str) -> Vec<Value> {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("no JSON ({error}): {text}"))
}

fn found<'checks>(checks: &'checks [Value], name: &str) -> (bool, &'checks str) {
    let check = checks.iter().find(|check| check["name"] == name);
    let check = check.unwrap_or_else(|| panic!("there is no check {name}: {checks:?}"));
    (check["ok"].as_bool().unwrap(), check["found"].as_str().unwrap())
}

/// "Somebody with a Mac verifies it in five minutes: `agentfs doctor --self-test`."
#[test]
fn the_self_test_holds_and_leaves_nothing() {
    let home = Home::new();
    let output = home.agentfs(&["doctor", "--self-test", "--json", "--timeout", TIME]).output().success();
    let checks = checks(&output.stdout);
    for name in
        ["bind", "connect", "two at once", "port in use", "port 0", "host's ports", "SIGKILL", "deep home"]
    {
        assert!(found(&checks, name).0, "{name}: {}", output.explain());
    }
    assert!(checks.iter().all(|check| check["ok"] == true), "{}", output.explain());
    let (_, python) = found(&checks, "python3");
    assert!(!python.contains("not tried"), "the suite needs python3: {python}");
    let (_, cleaned) = found(&checks, "cleaned up");
    let folder = cleaned.split(' ').next().unwrap();
    assert!(folder.contains("/afst.") && !Path::new(folder).exists(), "{cleaned}");
    assert!(home.daemon().is_none(), "the user's own collector is not started");
}

#[test]
fn a_library_that_cannot_be_loaded_fails_the_self_test() {
    // Root's programs load a library that all of root's homes share: not one to spoil.
    let home = Home::of_user("nobody");
    let checks_of = |text: &str| checks(text);
    let before = checks_of(&home.agentfs(&["doctor", "--json"]).output().success().stdout);
    let library = Path::new(found(&before, "interposer").1).to_owned();
    assert!(library.starts_with(&home.paths().home), "{}", library.display());
    let length = std::fs::metadata(&library).unwrap().len();
    std::fs::write(&library, vec![0; usize::try_from(length).unwrap()]).unwrap();
    let output = home.agentfs(&["doctor", "--self-test"]).output().code(1);
    let line = output.stdout.lines().find(|line| line.contains("loader")).unwrap_or_default();
    assert!(line.starts_with("FAIL") && line.contains("do not load the interposer"), "{}", output.explain());
    assert!(output.stdout.contains("not run"), "{}", output.explain());
}

#[test]
fn a_run_dir_that_cannot_be_used_fails_the_self_test() {
    let home = Home::new();
    std::fs::write(&home.paths().run, "").unwrap();
    let output = home.agentfs(&["doctor", "--self-test"]).output().code(1);
    let line = output.stdout.lines().find(|line| line.contains("folders")).unwrap_or_default();
    assert!(line.starts_with("FAIL") && line.contains("run"), "{}", output.explain());
}

/// A program that the library is kept out of, as macOS does with its own: the host's port gives it away.
#[test]
fn a_program_that_is_not_intercepted_is_named() {
    let home = Home::new();
    let path = std::env::var("PATH").unwrap();
    let script = format!(
        "#!/bin/sh\nunset LD_PRELOAD DYLD_INSERT_LIBRARIES\nPATH='{path}' AGENTFS_NO_INTERPOSE=1 exec python3 \"$@\"\n"
    );
    let python = home.write("bin/python3", &script);
    std::fs::set_permissions(&python, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{path}", python.parent().unwrap().display());
    let arguments = ["doctor", "--self-test", "--json", "--timeout", TIME];
    let output = home.agentfs(&arguments).env("PATH", path).output().code(1);
    let checks = checks(&output.stdout);
    let (ok, why) = found(&checks, "python3");
    assert!(!ok && why.contains("not intercepted") && why.contains("bin/python3"), "{}", output.explain());
    let failed: Vec<_> = checks.iter().filter(|check| check["ok"] == false).collect();
    assert_eq!(failed.len(), 1, "{}", output.explain());
}

#[test]
fn the_self_test_gives_up_in_time() {
    let home = Home::new();
    // Whatever it waits for, the first request included, is not within a second here.
    let node = home.write("bin/node", "#!/bin/sh\nexec sleep 600\n");
    std::fs::set_permissions(&node, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", node.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let output =
        home.agentfs(&["doctor", "--self-test", "--timeout", "5"]).env("PATH", path).output().code(1);
    let line = output.stdout.lines().find(|line| line.contains("node ")).unwrap_or_default();
    assert!(line.starts_with("FAIL") && line.contains("--timeout"), "{}", output.explain());
    assert!(output.stdout.contains("ok    cleaned up"), "{}", output.explain());
}

/// The tool is macOS's; here it is a script with its words.
#[test]
fn the_doctor_tells_of_protected_programs() {
    let home = Home::new();
    let tool = home.write("bin/csrutil", "#!/bin/sh\necho \"System Integrity Protection $1: enabled.\"\n");
    std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", tool.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let output = home.agentfs(&["doctor", "--json"]).env("PATH", path).output().success();
    let checks = checks(&output.stdout);
    let (ok, words) = found(&checks, "SIP");
    assert!(ok && words.contains("Apple's own programs"), "{words}");
}

/// Within an instance the host is still the host.
#[test]
fn the_self_test_holds_in_a_wrapped_shell() {
    let home = Home::new();
    let binary = home.agentfs_path().display().to_string();
    let command = [&binary, "doctor", "--self-test", "--timeout", TIME];
    let _ = home.wrap("shop", "one", &command).output().success();
}
