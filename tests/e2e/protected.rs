//! "Programs that macOS protects lose the library as they start; what they start has it again." Here stand-ins of `sh`,
//! `env`, `nohup` and others drop `LD_PRELOAD` and every `AGENTFS_…` variable and become the real programs, which start
//! others without hooks, as those of macOS do. Debug builds treat programs of the folder in `AGENTFS_STAND_INS` as protected.
#![cfg(target_os = "linux")]
use agentfs_tests::{Home, Run, skip};
use agentfs_wire::env;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

/// Becomes the program that REAL names. It is static, so no library is loaded into it.
const STAND_IN: &str = r#"
    #include <string.h>
    #include <unistd.h>
    extern char **environ;
    int main(int count, char **arguments) {
        char **to = environ;
        for (char **from = environ; *from; from++)
            if (strncmp(*from, "LD_PRELOAD=", 11) && strncmp(*from, "AGENTFS_", 8)) *to++ = *from;
        *to = 0;
        (void)count;
        execv(REAL, arguments);
        return 126;
    }
"#;

/// Says whether the library is loaded, and its arguments.
const PROBE: &str = r#"
import os, sys
loaded = "agentfs_interpose" in open("/proc/self/maps").read()
print("in" if loaded and os.environ.get("AGENTFS_INSTANCE") else "OUT", *sys.argv[1:], flush=True)
"#;

/// Shells that a Mac's `sh`, `bash` and `zsh` may be, and how they are called.
const SHELLS: [(&str, &str); 4] = [("sh", "bash"), ("sh", "dash"), ("zsh", "zsh"), ("sh", "busybox")];

/// What stands for the programs of the system.
struct StandIns {
    folder: PathBuf,
}

// === impl StandIns ===

impl StandIns {
    fn new(home: &Home) -> Self {
        let folder = home.work().join("sys");
        std::fs::create_dir(&folder).unwrap();
        let these = Self { folder };
        for name in ["env", "nohup", "nice", "xargs", "timeout"] {
            these.add(home, name, &format!("/usr/bin/{name}"));
        }
        these.add(home, "sh", "/usr/bin/dash");
        these
    }

    fn add(&self, home: &Home, name: &str, real: &str) {
        let source = home.write("stand-in.c", STAND_IN);
        let path = self.folder.join(name);
        let real = format!("-DREAL=\"{real}\"");
        let output =
            Command::new("cc").args(["-static", "-O1", &real, "-o"]).arg(&path).arg(source).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// A script in the work folder, started by a protected program.
    fn script(&self, home: &Home, name: &str, line: &str, body: &str) -> PathBuf {
        let path = home.write(name, &format!("#!{}\n{body}", line.replace("SYS", &self.path())));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn path(&self) -> String {
        self.folder.display().to_string()
    }

    /// A command with the stand-ins first in its `PATH`.
    fn with<'home>(&self, home: &Home, run: Run<'home>) -> Run<'home> {
        let path = format!("{}:{}:/usr/bin:/bin", self.path(), home.work().join("bin").display());
        run.env(env::STAND_INS, self.path()).env("PATH", path)
    }
}

/// `agentfs wrap`, without the seccomp engine, which would serve the stand-ins: macOS has none.
fn wrap<'home>(home: &'home Home, instance: &str, command: &[impl AsRef<str>]) -> Run<'home> {
    let words = ["wrap", "--app", "shop", "--instance", instance, "--engine", "preload", "--"];
    home.agentfs(&words).args(command.iter().map(AsRef::as_ref))
}

/// The same for `agentfs exec`.
fn exec<'home>(home: &'home Home, command: &[impl AsRef<str>]) -> Run<'home> {
    let words = ["exec", "--engine", "preload", "shop/one", "--"];
    home.agentfs(&words).args(command.iter().map(AsRef::as_ref))
}

/// What each text says of the programs that it starts, one line each.
const TEXTS: &[(&str, &str)] = &[
    ("probe a 'b c'", "in a b c"),
    ("A=1 probe a", "in a"),
    ("exec probe a", "in a"),
    ("probe a; probe b", "in a\nin b"),
    ("true && probe a || probe b", "in a"),
    ("if true; then probe a; fi", "in a"),
    ("probe a & wait", "in a"),
    ("(probe a); { probe b; }", "in a\nin b"),
    ("probe \"$1\" \"$0\"", "in one zero"),
    ("# why\nprobe ${LINENO:-2}", "in 2"),
    ("cat <<E >/dev/null\nprobe it's\nE\npython3 bin/probe.py a", "in a"),
    ("x=$(python3 bin/probe.py a); echo $x", "in a"),
    ("nohup probe a 2>/dev/null", "in a"),
    ("nohup nice -n 1 probe a 2>/dev/null", "in a"),
    ("env A=1 probe a", "in a"),
    ("env -i PATH=\"$PATH\" python3 bin/probe.py a", "in a"),
    ("timeout 9 probe a", "in a"),
    ("echo a b | xargs -n1 probe", "in a\nin b"),
    ("sh -c 'probe a; probe \"$0\"' zero", "in a\nin zero"),
    ("sh -c \"probe a\"", "in a"),
    ("sh -ec 'sh -c \"probe a\"'", "in a"),
    ("./bin/script a", "script ./bin/script a\nin a 3 ./bin/script"),
    ("sh bin/script a", "script bin/script a\nin a 3 bin/script"),
    ("script a", "script SYS/script a\nin a 3 SYS/script"),
    ("cd bin; ./probe.py; python3 probe.py a", "in\nin a"),
];

#[test]
fn what_a_protected_program_starts_is_in_the_instance() {
    let home = Home::new();
    let system = StandIns::new(&home);
    system.script(&home, "bin/probe", "SYS/env python3", PROBE);
    system.script(&home, "bin/probe.py", "/usr/bin/python3", PROBE);
    // dash of Debian has no LINENO.
    let body = "echo script \"$0\" \"$@\"\npython3 bin/probe.py \"$1\" ${LINENO:-3} ${BASH_SOURCE:-$0}\n";
    system.script(&home, "bin/script", "SYS/sh -e", body);
    let found = home.work().join("bin").display().to_string();
    for (name, real) in SHELLS {
        let Some(path) = installed(real) else {
            skip::skipped(&format!("{real} is not installed"));
            continue;
        };
        system.add(&home, name, &path);
        let shell = format!("{}/{name}", system.path());
        for (text, expected) in TEXTS {
            let expected = format!("{expected}\n").replace("SYS", &found);
            let direct = [shell.as_str(), "-c", text, "zero", "one"];
            let output = system.with(&home, wrap(&home, "one", &direct)).output().success();
            assert_eq!(output.stdout, expected, "{real}: {text}\n{}", output.explain());
            // From a program, by exec and by posix_spawn.
            for code in [
                "import os, sys; os.execvp(sys.argv[1], sys.argv[1:])",
                "import os, sys; os.execve(sys.argv[1], sys.argv[1:], {'PATH': os.environ['PATH']})",
                "import os, sys; os.waitpid(os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ), 0)",
            ] {
                let command = [&["/usr/bin/python3", "-c", code], direct.as_slice()].concat();
                let output = system.with(&home, wrap(&home, "one", &command)).output().success();
                assert_eq!(output.stdout, expected, "{real}: {text}\n{code}\n{}", output.explain());
            }
        }
    }
}

/// The stand-ins do what they are for: without the change everything is lost.
#[test]
fn a_protected_program_that_is_not_known_as_one_loses_the_library() {
    let home = Home::new();
    let system = StandIns::new(&home);
    system.script(&home, "bin/probe", "SYS/env python3", PROBE);
    for command in [&["sys/sh", "-c", "probe a"][..], &["bin/probe", "a"]] {
        let run = system.with(&home, wrap(&home, "one", command)).unset(env::STAND_INS);
        let output = run.output().success();
        assert_eq!(output.stdout, "OUT a\n", "{}", output.explain());
    }
}

/// Serves one line on the port that it is given.
const SERVER: &str = r#"
const http = require("http"), [text, port] = process.argv.slice(2);
http.createServer((_, answer) => answer.end(text + "\n")).listen(Number(port), () => console.log("READY"));
"#;

/// Two copies on one port, each started by a script runner: `npm run dev` runs `sh -c "serve …"`, and `serve` is a
/// script for env(1), as every tool in node_modules/.bin.
#[test]
fn servers_of_script_runners_are_in_their_instances() {
    let home = Home::new();
    let system = StandIns::new(&home);
    system.script(&home, "node_modules/.bin/serve", "SYS/env node", SERVER);
    home.write(
        "package.json",
        r#"{"scripts": {"dev": "serve $NAME 8080", "both": "echo x && serve $NAME 8080"}}"#,
    );
    home.write("Makefile", "dev:\n\tserve $(NAME) 8080\nboth:\n\techo x; serve $(NAME) 8080 & wait\n");
    home.write("Procfile", "web: serve $NAME 8080\n");
    let runner = home.write(
        "procfile.py",
        "import subprocess\nfor line in open('Procfile'):\n    subprocess.run(['sh', '-c', line.split(':', 1)[1].strip()])\n",
    );
    let (shell, runner) = (format!("SHELL={}/sh", system.path()), runner.display().to_string());
    let bin = home.work().join("node_modules/.bin").display().to_string();
    let mut tried = 0;
    for command in [
        vec!["npm", "run", "dev"],
        vec!["npm", "run", "both"],
        vec!["pnpm", "run", "dev"],
        vec!["yarn", "run", "dev"],
        vec!["make", &shell, "dev"],
        vec!["make", &shell, "both"],
        vec!["/usr/bin/python3", &runner],
        vec!["nf", "--procfile", "Procfile", "start"],
        vec!["sh", "-c", "serve $NAME 8080 & wait"],
    ] {
        let Some(program) = installed(command[0]) else {
            skip::skipped(&format!("{} is not installed", command[0]));
            continue;
        };
        let command: Vec<&str> =
            std::iter::once(program.as_str()).chain(command[1..].iter().copied()).collect();
        let running = ["one", "two"].map(|name| {
            let run = system.with(&home, wrap(&home, name, &command));
            let path = format!("{}:{bin}:/usr/bin:/bin", system.path());
            let mut process = run.env("NAME", name).env("PATH", path).spawn();
            process.wait_for("READY");
            process
        });
        for name in ["one", "two"] {
            home.expect_body(&format!("{name}.shop.localhost"), &format!("{name}\n"));
        }
        for process in &running {
            process.signal_group(nix::sys::signal::Signal::SIGTERM);
        }
        for (process, name) in running.into_iter().zip(["one", "two"]) {
            process.finish();
            home.gone("shop", name);
        }
        tried += 1;
    }
    assert!(tried >= 3);
}

/// Where a program is, unless it is to be found among the stand-ins.
fn installed(name: &str) -> Option<String> {
    if name == "sh" || name.starts_with('/') {
        return Some(name.to_owned());
    }
    let folders = std::env::var_os("PATH")?;
    let mut paths = std::env::split_paths(&folders).map(|folder| folder.join(name));
    paths.find(|path| path.exists()).map(|path| path.display().to_string())
}

/// Answers every connection with one line.
const ONE_LINE: &str = r#"
import socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("LISTENS", flush=True)
while True:
    stream, _ = listener.accept()
    stream.recv(1000)
    stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nfork\n")
    stream.close()
"#;

/// `agentfs exec shop -- curl localhost:8080` with macOS's own curl: the port of the host is the instance's while it runs.
#[test]
fn a_client_that_loses_the_library_reaches_the_instance_all_the_same() {
    let home = Home::new();
    let system = StandIns::new(&home);
    system.add(&home, "curl", "/usr/bin/curl");
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let _server = {
        let mut server = wrap(&home, "one", &["python3", "-c", ONE_LINE, &port.to_string()]).spawn();
        server.wait_for("LISTENS");
        home.listener("shop", "one", port);
        server
    };
    let url = format!("http://localhost:{port}/");
    let text = format!("echo x; curl -s {url}");
    let exec = |command: &[&str]| system.with(&home, exec(&home, command));
    for (command, expected) in [
        (&["curl", "-s", &url][..], "fork\n"),
        (&["sh", "-c", &text], "x\nfork\n"),
        (&["nohup", "curl", "-s", &url], "fork\n"),
    ] {
        let output = exec(command).speaking().output().success();
        assert_eq!(output.stdout, expected, "{}", output.explain());
        let said = format!("port {port} of this machine is shop/one while the command runs");
        assert!(output.stderr.contains(&said), "{}", output.explain());
        assert_eq!(home.agentfs(&["forward", "list", "--json"]).text().trim(), "[]");
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "the port is open on the host");
    }
    // The status is the command's own, and what does not use ports needs none.
    let _ = exec(&["curl", "--no-such-option"]).output().code(2);
    system.add(&home, "ls", "/usr/bin/ls");
    let output = exec(&["ls", "/dev/null"]).speaking().output().success();
    assert!(!output.stderr.contains("of this machine"), "{}", output.explain());
    // What is not the instance's is never asked, and the reason is told.
    let other = TcpListener::bind(("127.0.0.1", port)).unwrap();
    other.set_nonblocking(true).unwrap();
    let output = exec(&["curl", "-s", &url]).output().code(125);
    let output = output.names(&["sys/curl", "shop/one", "already in use", "http://one.shop.localhost"]);
    assert_eq!(output.stdout, "");
    assert_eq!(other.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "it was asked");
    assert_eq!(home.agentfs(&["forward", "list", "--json"]).text().trim(), "[]");
    drop(other);
    let isolated = ["exec", "--isolate", "shop/one", "--", "curl", "-s", &url];
    let _ = system.with(&home, home.agentfs(&isolated)).output().code(125).names(&["cannot be isolated"]);
    // A wrapped command has no ports to hold yet: it is warned of.
    let text = format!("curl -s {url} || echo none");
    let output = system.with(&home, wrap(&home, "two", &["sh", "-c", &text])).speaking().output().success();
    assert_eq!(output.stdout, "none\n", "{}", output.explain());
    assert!(output.stderr.contains("sys/curl uses the host's ports"), "{}", output.explain());
}
