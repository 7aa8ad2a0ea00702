//! "static, musl and 32-bit programs, set-uid ones: they must run, without us if need be, and trace says so". What the
//! library does not reach the engine serves, except programs for another machine and those that gain rights.
use agentfs_tests::{Home, Output};
use nix::unistd::{Gid, Uid, chown};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

/// Says something, starts a child of the usual kind, and ends with a status of its own.
const PROGRAM: &str = r#"
    #include <stdio.h>
    #include <stdlib.h>
    int main(void) {
        puts("own");
        fflush(stdout);
        return system("test -n \"$AGENTFS_INSTANCE\" || exit 4; exit 3") >> 8;
    }
"#;

/// What Go's linker leaves in a program, linked with libc or not: a note with the build id.
const GO_NOTE: &str = r#"
    __asm__(".pushsection .note.go.buildid,\"a\",@note; .long 4, 8, 4; .asciz \"Go\\0\"; .ascii \"an/id/go\"; .popsection");
"#;

/// … and a section, which stays where the id is left out.
const GO_SECTION: &str = r#"
    __attribute__((section(".go.buildinfo"), used)) static char information[32] = "\377 Go buildinf:";
"#;

/// A 32-bit program that needs no 32-bit libraries: write(1, "own\n", 4), exit(3).
const NARROW: &str = r#"
    __asm__(".globl _start\n_start: mov $4, %eax; mov $1, %ebx; mov $text, %ecx; mov $4, %edx; int $0x80;"
            "mov $1, %eax; mov $3, %ebx; int $0x80; text: .ascii \"own\\n\"");
"#;

fn compiled(home: &Home, compiler: &str, name: &str, flags: &[&str], source: &str) -> String {
    let file = home.write(&format!("{name}.c"), source);
    let program = home.work().join(name);
    let output = Command::new(compiler).args(flags).arg("-o").arg(&program).arg(&file).output();
    let output = output.unwrap_or_else(|error| panic!("{compiler}: {error}; ./test --setup installs it"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    program.display().to_string()
}

/// Runs a program in every way: it does what it does without us, and trace says once that the engine serves it. Without the
/// engine, a warning says why it is not reached.
fn expect_served(program: &str, home: &Home) {
    expect_traced(program, home, "engine");
    let served = home.agentfs(&["-v", "wrap", "--app", "shop", "--", program]).speaking().output();
    assert!(!served.stderr.contains("cannot be intercepted"), "{}", served.explain());
    let arguments = ["-v", "wrap", "--app", "shop", "--engine", "preload", "--", program];
    let warned = home.agentfs(&arguments).speaking().output();
    let lines: Vec<&str> =
        warned.stderr.lines().filter(|line| line.contains("cannot be intercepted")).collect();
    assert!(lines.len() == 1 && lines[0].contains(program), "{}", warned.explain());
}

/// Runs a program in every way: it does what it does without us, and trace says once why it is not reached.
fn expect_unreached(program: &str, home: &Home, why: &str) {
    expect_traced(program, home, why);
    let warned =
        home.program(home.agentfs_path()).args(["-v", "wrap", "--app", "shop", "--", program]).output();
    let lines: Vec<&str> =
        warned.stderr.lines().filter(|line| line.contains("cannot be intercepted")).collect();
    assert!(lines.len() == 1 && lines[0].contains(program), "{}", warned.explain());
    let words = home.agentfs(&["trace", "--app", "shop", "--", program]).output();
    assert_eq!(words.stderr.matches("(cannot intercept: ").count(), 1, "{}", words.explain());
}

fn expect_traced(program: &str, home: &Home, why: &str) {
    let native = home.program("sh").args(["-c", "AGENTFS_INSTANCE=x \"$0\"; echo $?", program]).text();
    for shell in [false, true] {
        let command: &[&str] = if shell { &["sh", "-c", "\"$0\"; exit $?", program] } else { &[program] };
        let output = home.wrap("shop", "one", command).output();
        assert_eq!(whole(&output), native, "{}", output.explain());
        assert_eq!(output.stderr, "", "{}", output.explain());
        let traced = home.agentfs(&["trace", "--json", "--app", "shop", "--"]).args(command).output();
        let events = traced.stderr.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let said: Vec<Value> = events
            .filter(|event| event["call"] == "exec" && event["detail"].as_str() == Some(program))
            .collect();
        assert_eq!(said.len(), 1, "{said:?}\n{}", traced.explain());
        assert_eq!(said[0]["why"].as_str().unwrap_or("none"), why, "{}", traced.explain());
    }
}

/// stdout, and the status as a shell prints it.
fn whole(output: &Output<'_>) -> String {
    format!("{}{}\n", output.stdout, output.status.code().unwrap_or(-1))
}

#[test]
fn static_programs_are_served() {
    let home = Home::new();
    let program = compiled(&home, "cc", "fixed", &["-static"], PROGRAM);
    expect_served(&program, &home);
    let program = compiled(&home, "cc", "fixed-pie", &["-static-pie"], PROGRAM);
    expect_served(&program, &home);
    // A script that such a program runs.
    let script = home.write("script", &format!("#!{program}\n"));
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    expect_served(&script.display().to_string(), &home);
}

#[test]
fn go_programs_are_served_however_they_are_linked() {
    let home = Home::new();
    for (name, flags, mark) in [
        ("go-note", &[][..], GO_NOTE),
        ("go-section", &[], GO_SECTION),
        ("go-static", &["-static"], GO_NOTE),
        ("go-stripped", &["-s"], GO_NOTE),
    ] {
        let program = compiled(&home, "cc", name, flags, &format!("{PROGRAM}{mark}"));
        expect_served(&program, &home);
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn narrow_programs_run_and_are_named() {
    let home = Home::new();
    let program = compiled(&home, "cc", "narrow", &["-m32", "-nostdlib", "-static"], NARROW);
    expect_unreached(&program, &home, "cannot_reach_machine");
    // Found along PATH by libc itself.
    let path = format!("{}:{}", home.work().display(), std::env::var("PATH").unwrap());
    let traced = home.agentfs(&["trace", "--json", "--app", "shop", "--", "env", "narrow"]);
    let output = traced.env("PATH", path).output();
    assert_eq!(output.stderr.matches("cannot_reach_machine").count(), 1, "{}", output.explain());
}

/// The loader of a set-uid program ignores libraries.
#[test]
fn set_user_programs_run_and_are_named() {
    let home = Home::new();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    if !status.contains("NoNewPrivs:\t0") {
        agentfs_tests::skip::skipped("no program gains rights here, so none is beyond reach for that");
        return;
    }
    // Only root can make one of another user.
    if agentfs_tests::skip::is_root() {
        let program = compiled(&home, "cc", "setuid", &[], PROGRAM);
        chown(program.as_str(), Some(Uid::from_raw(65_534)), Some(Gid::from_raw(65_534))).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o4755)).unwrap();
        expect_unreached(&program, &home, "cannot_reach_rights");
    }
}

/// musl's loader loads the library; such a program is within reach.
#[test]
fn musl_programs_are_reached() {
    let home = Home::new();
    let program = compiled(&home, "musl-gcc", "musl", &[], PROGRAM);
    let traced = home.agentfs(&["trace", "--json", "--app", "shop", "--", "sh", "-c", "\"$0\"", &program]);
    let output = traced.output().code(3);
    assert_eq!(output.stdout, "own\n", "{}", output.explain());
    assert!(!output.stderr.contains("cannot_reach"), "{}", output.explain());
    let program = compiled(&home, "musl-gcc", "musl-static", &["-static"], PROGRAM);
    expect_served(&program, &home);
}
