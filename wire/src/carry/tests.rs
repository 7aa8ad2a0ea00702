use super::*;
use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::process::Command as Process;

/// Files by path, with what is in them; `/bin` and `/usr` are the system's.
struct Fake(BTreeMap<&'static str, &'static str>);

const FILES: [(&str, &str); 18] = [
    ("/bin/sh", "\u{7f}"),
    ("/bin/bash", "\u{7f}"),
    ("/bin/zsh", "\u{7f}"),
    ("/usr/bin/env", "\u{7f}"),
    ("/usr/bin/nohup", "\u{7f}"),
    ("/usr/bin/nice", "\u{7f}"),
    ("/usr/bin/time", "\u{7f}"),
    ("/usr/bin/xargs", "\u{7f}"),
    ("/usr/bin/curl", "\u{7f}"),
    ("/usr/bin/python3", "\u{7f}"),
    ("/opt/node", "\u{7f}"),
    ("/app/vite", "#!/usr/bin/env node\n"),
    ("/app/tsx", "#!/usr/bin/env -S node --x y\n"),
    ("/app/pip", "#!/usr/bin/env python3\n"),
    ("/app/run", "#!/bin/sh -e\n"),
    ("/app/with", "#!/usr/bin/env bash\n"),
    ("./near", "#!/usr/bin/env node\n"),
    ("near", ""),
];

impl Files for Fake {
    fn protects(&self, path: &[u8]) -> bool {
        path.starts_with(b"/bin/") || path.starts_with(b"/usr/")
    }
    fn find(&self, name: &[u8], found: &mut Found) -> bool {
        let folders: &[&str] =
            if name.contains(&b'/') { &[""] } else { &["/app/", "/opt/", "/usr/bin/", "/bin/"] };
        folders.iter().any(|folder| {
            let path = [folder.as_bytes(), name].concat();
            let Some(head) = self.0.get(&*String::from_utf8_lossy(&path)) else { return false };
            found.set_path(&[&path]) && {
                found.set_head(|room| {
                    room[..head.len()].copy_from_slice(head.as_bytes());
                    head.len()
                });
                true
            }
        })
    }
    fn is_file(&self, path: &[u8]) -> bool {
        self.0.contains_key(&*String::from_utf8_lossy(path))
    }
}

thread_local! {
    /// The protected programs that were reported.
    static LOST: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

fn variables(each: &mut dyn FnMut(&[u8], &[u8])) {
    each(b"L", b"/l x'y");
    each(b"A", b"1");
}

/// What the variables look like in texts, and as words for env(1).
const EXPORT: &str = r"export L='/l x'\''y' A='1'; ";
const ASSIGN: &str = r"L='/l x'\''y' A='1' ";
const WORDS: &str = "L=/l x'y|A=1";

/// What is started for a command whose words are divided by `|`: the program, and the arguments.
fn carried(line: &str) -> Option<String> {
    let files = Fake(FILES.into());
    let words: Vec<&[u8]> = line.split('|').map(str::as_bytes).collect();
    let mut program = Found::new();
    assert!(files.find(words[0], &mut program), "{line}");
    let argument = |index: usize| words.get(index).copied();
    let lost =
        |path: &[u8]| LOST.with_borrow_mut(|lost| lost.push(String::from_utf8(path.to_vec()).unwrap()));
    let command =
        Command { program: &program, argument: &argument, variables: &variables, files: &files, lost: &lost };
    let strings = RefCell::new(vec![Vec::new()]);
    let changed = command.carry(&mut |piece| match piece {
        Piece::Bytes(bytes) => strings.borrow_mut().last_mut().unwrap().extend_from_slice(bytes),
        Piece::End => strings.borrow_mut().push(Vec::new()),
    });
    let mut strings = strings.into_inner();
    assert_eq!(strings.pop().unwrap(), b"", "a string is not complete");
    assert_eq!(changed, !strings.is_empty());
    let strings: Vec<String> = strings.into_iter().map(|string| String::from_utf8(string).unwrap()).collect();
    changed.then(|| strings.join("|"))
}

fn text(text: &str) -> String {
    let mut written = Vec::new();
    assert!(carry_text(text.as_bytes(), &variables, &Fake(FILES.into()), &mut |bytes| {
        written.extend_from_slice(bytes);
    }));
    String::from_utf8(written).unwrap()
}

#[track_caller]
fn becomes(line: &str, expected: &str) {
    let expected = expected.replace("EXPORT", EXPORT).replace("ASSIGN", ASSIGN).replace("WORDS", WORDS);
    assert_eq!(carried(line).as_deref(), Some(expected.as_str()), "{line}");
}

#[test]
fn the_text_of_a_shell_sets_the_variables() {
    becomes("sh|-c|node x", "/bin/sh|sh|-c|ASSIGNnode x");
    becomes("/bin/sh|-c|node x; y", "/bin/sh|/bin/sh|-c|EXPORTnode x; y");
    becomes("sh|-ec|a && b|zero|one", "/bin/sh|sh|-ec|EXPORTa && b|zero|one");
    becomes("bash|-eo|pipefail|-c|a; b", "/bin/bash|bash|-eo|pipefail|-c|EXPORTa; b");
    becomes("zsh|-lc|--|exec node x", "/bin/zsh|zsh|-lc|--|EXPORTexec node x");
    becomes("sh|-c|", "/bin/sh|sh|-c|EXPORT");
    becomes("sh|-c|cd x", "/bin/sh|sh|-c|EXPORTcd x");
    becomes("sh|-c|# why\nnode x", "/bin/sh|sh|-c|EXPORT# why\nnode x");
    becomes("sh|-c|cat <<E\n$x\nE\n", "/bin/sh|sh|-c|EXPORTcat <<E\n$x\nE\n");
    for line in ["sh", "sh|-i", "sh|-s|a", "bash|--help", "curl|x", "node|sh|-c|x"] {
        assert_eq!(carried(line), None, "{line}");
    }
}

#[test]
fn a_text_is_changed_once() {
    for given in ["node x", "a; b"] {
        let once = text(given);
        assert!(!carry_text(once.as_bytes(), &variables, &Fake(FILES.into()), &mut |_| panic!("{once}")));
        assert_eq!(carried(&format!("sh|-c|{once}")), None);
    }
    assert_eq!(text("L=1 a"), format!("{ASSIGN}L=1 a"));
}

#[test]
fn a_script_is_started_by_its_interpreter() {
    becomes("/app/vite|a", "/opt/node|node|/app/vite|a");
    becomes("vite|a", "/opt/node|node|/app/vite|a");
    becomes("/app/tsx|a", "/opt/node|node|--x|y|/app/tsx|a");
    becomes("/app/run|a", "/bin/sh|/bin/sh|-c|-e|EXPORT. \"$0\"|/app/run|a");
    becomes("/app/with|a", "/bin/bash|bash|-c|EXPORT. \"$0\"|/app/with|a");
    becomes("sh|/app/run|a", "/bin/sh|sh|-c|EXPORT. \"$0\"|/app/run|a");
    becomes("sh|-x|near|a", "/bin/sh|sh|-c|-x|EXPORT. \"./$0\"|near|a");
    becomes("bash|--posix|--|near", "/bin/bash|bash|--posix|-c|--|EXPORT. \"./$0\"|near");
    for line in ["/app/pip|a", "sh|missing"] {
        assert_eq!(carried(line), None, "{line}");
    }
}

#[test]
fn programs_that_start_others_are_seen_through() {
    becomes("env|node|x", "/usr/bin/env|env|WORDS|node|x");
    becomes("env|-i|B=2|node|x", "/usr/bin/env|env|-i|B=2|WORDS|node|x");
    becomes("nohup|node|x", "/usr/bin/nohup|nohup|/usr/bin/env|WORDS|node|x");
    becomes("nohup|nice|-n|5|node|x", "/usr/bin/nohup|nohup|nice|-n|5|/usr/bin/env|WORDS|node|x");
    becomes("nohup|env|B=2|node", "/usr/bin/nohup|nohup|env|B=2|WORDS|node");
    becomes("env|nohup|node", "/usr/bin/env|env|nohup|/usr/bin/env|WORDS|node");
    becomes("nohup|sh|-c|a; b", "/usr/bin/nohup|nohup|sh|-c|EXPORTa; b");
    becomes("nohup|/app/vite|a", "/usr/bin/nohup|nohup|/usr/bin/env|WORDS|/opt/node|/app/vite|a");
    becomes("env|vite|a", "/usr/bin/env|env|WORDS|/opt/node|/app/vite|a");
    becomes("nohup|/app/run|a", "/usr/bin/nohup|nohup|/bin/sh|-c|-e|EXPORT. \"$0\"|/app/run|a");
    becomes("xargs|-n1|node", "/usr/bin/xargs|xargs|-n1|/usr/bin/env|WORDS|node");
    let chain = vec!["nohup"; 20].join("|");
    for line in
        ["env", "env|B=1", "nohup|curl|x", "nohup|missing", "env|-S|node x", "time", &format!("{chain}|node")]
    {
        assert_eq!(carried(line), None, "{line}");
    }
}

#[test]
fn commands_in_a_text_keep_the_variables() {
    let is = |given: &str, expected: &str| {
        let words = r"'L=/l x'\''y' 'A=1' ";
        let expected = expected.replace("EXPORT", EXPORT).replace("ASSIGN", ASSIGN).replace("WORDS", words);
        assert_eq!(text(given), expected, "{given}");
    };
    is("vite --port 80", "ASSIGN'/opt/node' '/app/vite' --port 80");
    is("B=2 'vite' \"$x\"", "ASSIGNB=2 '/opt/node' '/app/vite' \"$x\"");
    is("tsx x && vite; y", "EXPORT'/opt/node' '--x' 'y' '/app/tsx' x && '/opt/node' '/app/vite'; y");
    is("exec vite", "EXPORTexec '/opt/node' '/app/vite'");
    is("if x; then vite & fi; wait", "EXPORTif x; then '/opt/node' '/app/vite' & fi; wait");
    is("nohup node x >f 2>&1 &", "EXPORTnohup '/usr/bin/env' WORDSnode x >f 2>&1 &");
    is("env B=$x node x", "ASSIGNenv B=$x WORDSnode x");
    is("nohup $x", "ASSIGNnohup '/usr/bin/env' WORDS$x");
    is(
        "sh -c vite",
        r"ASSIGNsh -c 'L='\''/l x'\''\'\'''\''y'\'' A='\''1'\'' '\''/opt/node'\'' '\''/app/vite'\'''",
    );
    is("sh -c \"$x\"", r#"ASSIGNsh -c 'export L='\''/l x'\''\'\'''\''y'\'' A='\''1'\''; '"$x""#);
    is(
        "sh -e near a",
        r#"ASSIGNsh -c -e 'export L='\''/l x'\''\'\'''\''y'\'' A='\''1'\''; . "./$0"' near a"#,
    );
    is("./near a", "ASSIGN'/opt/node' './near' a");
    // After these, names and paths may mean something else.
    is("cd x; ./near; vite", "EXPORTcd x; ./near; '/opt/node' '/app/vite'");
    is("PATH=x vite", "ASSIGNPATH=x vite");
    is("export PATH=x; vite", "EXPORTexport PATH=x; vite");
    is(". ./x; vite", "EXPORT. ./x; vite");
    is("vite() { x; }; vite", "EXPORTvite() { x; }; vite");
    is("echo vite; curl vite; pip", "EXPORTecho vite; curl vite; pip");
    is("x $(vite)", "EXPORTx $(vite)");
    is("vite | x", "EXPORT'/opt/node' '/app/vite' | x");
}

#[test]
fn what_the_variables_cannot_reach_is_named() {
    let lost = |line: &str| {
        LOST.with_borrow_mut(Vec::clear);
        carried(line);
        LOST.with_borrow(|lost| lost.join(" "))
    };
    for (line, expected) in [
        ("curl|x", "/usr/bin/curl"),
        ("nohup|curl|x", "/usr/bin/curl"),
        ("env|A=1|curl", "/usr/bin/curl"),
        ("sh|-c|node x; curl y && python3 z; echo curl", "/usr/bin/curl /usr/bin/python3"),
        ("sh|-c|sh -c curl", "/usr/bin/curl"),
        ("pip|x", "/usr/bin/python3"),
        ("sh", "/bin/sh"),
        ("zsh|-i", "/bin/zsh"),
        ("node|x", ""),
        ("env", ""),
        ("sh|-c|vite", ""),
        ("run", ""),
    ] {
        assert_eq!(lost(line), expected, "{line}");
    }
}

/// Nothing but the variables changes: what the shells of this machine write for a text, and how they end.
#[test]
fn real_shells_do_the_same_with_it() {
    let texts = [
        "echo one; echo two",
        "echo $LINENO\necho $LINENO",
        "# why\necho \"$0\" \"$@\"",
        "cat <<E\n$1 '\nE\necho x",
        "printf '%s\\n' \"a'b\" 'c\"d' \\$e",
        "false || echo x; exit 3",
        "false",
        "for x in 1 2; do echo $x; done; case $1 in o*) echo o;; esac",
        "f() { echo f \"$@\"; }; f 1",
        "echo $(echo a; echo ')') `echo b`",
        "true && { echo x; } | cat",
        "exec printf '%s\\n' x",
        "missing-program",
        "if",
        "echo 'a",
        "kill -9 $$",
        "printf '%s' \"$-\" | tr -d c",
        "env -i B=2 sh -c 'echo \"$B\"'",
        "nice nohup sh -c \"echo 'a b' \\\"\\$0\\\"\" zero",
        "",
    ];
    for shell in ["bash", "dash", "zsh", "busybox", "ksh"] {
        let applet: &[&str] = if shell == "busybox" { &["sh"] } else { &[] };
        if Process::new(shell).args(applet).args(["-c", ":"]).output().is_err() {
            continue;
        }
        for given in texts {
            let of = |text: &str| {
                let output =
                    Process::new(shell).args(applet).args(["-c", text, "zero", "one", "t w o"]).output();
                let output = output.unwrap();
                (output.status, String::from_utf8(output.stdout).unwrap(), output.stderr.is_empty())
            };
            assert_eq!(of(&text(given)), of(given), "{shell} -c {given:?}\n{}", text(given));
        }
    }
}

proptest! {
    /// Texts of every kind: the text itself is in what is written, and only words of ours are added.
    #[test]
    fn any_text_is_kept(given in "[a-z '\"$(){};&|<>#\\\\\n=/.`-]{0,60}") {
        let written = text(&given);
        prop_assert!(written.starts_with(EXPORT) || written.starts_with(ASSIGN));
        if !["vite", "near", "run", "tsx", "sh", "nohup", "nice", "time", "env", "with", "bash", "xargs"]
            .iter().any(|name| given.contains(name)) {
            prop_assert!(written.ends_with(&given), "{written}");
        }
    }

    #[test]
    fn any_bytes_are_read(given in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut written = Vec::new();
        carry_text(&given, &variables, &Fake(BTreeMap::new()), &mut |bytes| written.extend_from_slice(bytes));
        prop_assert!(written.ends_with(&given));
    }
}
