//! "Limits told before they hurt": what the seccomp engine takes from a program, what it lacks on a system, and what it meets
//! in files and descriptors. Each is told, and the program runs.
use crate::engine::{CLIENT, PORT, SERVER, WITHOUT, built, supervisor};
use agentfs_tests::wait::until;
use agentfs_tests::{Home, processes, skip};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

/// Becomes another program.
const RUNS: &str = r#"
    #include <unistd.h>
    int main(int count, char **words) { (void)count; execvp(words[1], words + 1); return 66; }
"#;

/// Listens when it has no descriptor left.
const FULL: &str = r#"
    #include <arpa/inet.h>
    #include <errno.h>
    #include <fcntl.h>
    #include <stdio.h>
    #include <string.h>
    #include <sys/resource.h>
    #include <sys/socket.h>
    static const char *said(int result) { return result < 0 ? strerror(errno) : "well"; }
    int main(void) {
        struct rlimit few = {32, 32};
        struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(8080), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        int one = socket(AF_INET, SOCK_STREAM, 0), two = socket(AF_INET, SOCK_STREAM, 0);
        setrlimit(RLIMIT_NOFILE, &few);
        while (open("/dev/null", O_RDONLY) >= 0);
        puts(said(bind(one, (struct sockaddr *)&at, sizeof at)));
        puts(said(listen(one, 5)));
        puts(said(connect(two, (struct sockaddr *)&at, sizeof at)));
        puts(said(accept(one, NULL, NULL)));
        puts(said(socket(AF_INET, SOCK_STREAM, 0)));
        return 0;
    }
"#;

/// "sudo and ping in what a served program starts."
#[test]
fn an_ordinary_user_is_told_that_no_rights_are_gained() {
    if !skip::is_root() {
        return;
    }
    let home = Home::of_user("nobody");
    let runs = built(&home, "runs", RUNS);
    let command = [runs.as_str(), "grep", "NoNewPrivs", "/proc/self/status"];
    let loud =
        home.agentfs(&["-v", "wrap", "--app", "shop", "--"]).args(command).speaking().output().success();
    assert_eq!(loud.stdout, "NoNewPrivs:\t1\n");
    assert!(loud.stderr.contains("cannot gain rights, so sudo and ping"), "{}", loud.explain());
    // The rest of the instance keeps its rights.
    let script = "\"$0\" true; grep NoNewPrivs /proc/self/status";
    let tree = home.wrap("shop", "one", &["sh", "-c", script, &runs]).output().success();
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let own = own.lines().find(|line| line.starts_with("NoNewPrivs")).unwrap();
    assert_eq!(tree.stdout.trim_end(), own);
    let doctor = home.agentfs(&["doctor"]).output().stdout.clone();
    assert!(doctor.contains("cannot gain rights, so sudo and ping"), "{doctor}");
}

/// What older kernels lack makes calls slower, or takes the port space; programs are served all the same.
#[test]
fn older_kernels_serve_programs() {
    let home = Home::new();
    let (server, client) = (built(&home, "server", SERVER), built(&home, "client", CLIENT));
    let without = built(&home, "without", WITHOUT);
    let agentfs = home.agentfs_path().display().to_string();
    for (what, sockets) in [
        ("linux-5.18", "sockets of a port space"),
        ("linux-5.13", "stand-ins (Linux before 5.14 does not say"),
    ] {
        let instance = &what.replace('.', "-");
        let wrap = [what, &agentfs, "wrap", "--app", "shop", "--instance", instance, "--"];
        let words = [&wrap[..], &[&server, "0.0.0.0", "8080", what]].concat();
        let mut process = home.program(&without).args(words).spawn();
        process.wait_for("PORT 8080");
        home.listener("shop", instance, PORT);
        assert!(!processes::listens_on(process.pid(), PORT), "{what}");
        let name = format!("shop/{instance}");
        let exec = [what, &agentfs, "exec", &name, "--", &client, "127.0.0.1", "8080"];
        let output = home.program(&without).args(exec).output().success();
        assert_eq!(output.stdout, format!("{what} for 127.0.0.1\n"));
        let table = home.agentfs(&["ps"]).output().success().stdout.clone();
        assert!(table.contains(&format!("{name}: seccomp engine, {sockets}")), "{table}");
    }
}

/// "Truncated or foreign ELF, script without interpreter, interpreter loop": what becomes of it does not depend on the engine.
#[test]
fn what_is_no_program_ends_as_without_the_engine() {
    let home = Home::new();
    let runs = std::fs::read(built(&home, "runs", RUNS)).unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = home.work().join(name);
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path.display().to_string()
    };
    let mut foreign = runs.clone();
    // e_machine: 0xf7 is BPF, which nothing runs.
    foreign[18] = 0xf7;
    let circle = home.work().join("circle").display().to_string();
    let files = [
        file("short", &runs[..40]),
        file("head", &runs[..64]),
        file("half", &runs[..runs.len() / 2]),
        file("foreign", &foreign),
        file("empty", b""),
        file("lost", b"#!/no/such/interpreter\n"),
        file("nothing", b"#!\n"),
        file("circle", format!("#!{circle}\n").as_bytes()),
    ];
    for path in &files {
        let run = |engine: &str| {
            let output = home.agentfs(&["wrap", "--app", "shop", "--engine", engine, "--", path]).output();
            (output.status, output.stdout.clone(), output.stderr.clone())
        };
        let expected = run("preload");
        for engine in ["seccomp", "auto"] {
            let found = run(engine);
            assert_eq!((found.0, &found.1), (expected.0, &expected.1), "{path}: {found:?} {expected:?}");
            assert!(!found.2.contains("panicked"), "{path}: {}", found.2);
        }
    }
    home.gone("shop", "main");
}

/// "Descriptors exhausted in program."
#[test]
fn a_program_without_descriptors_is_served() {
    let home = Home::new();
    let (full, without) = (built(&home, "full", FULL), built(&home, "without", WITHOUT));
    let agentfs = home.agentfs_path().display().to_string();
    for what in ["nothing", "spaces", "docker"] {
        let wrap = [what, &agentfs, "wrap", "--app", "shop", "--instance", what, "--", &full];
        let output = home.program(&without).args(wrap).output().success();
        let expected = "well\nwell\nwell\nToo many open files\nToo many open files\n";
        assert_eq!(output.stdout, expected, "{what}");
    }
}

/// "… or in the supervisor": connections wait, and the supervisor does not run hot; when there is room they go on.
#[test]
fn a_supervisor_without_descriptors_lets_clients_wait() {
    let home = Home::new();
    let server = built(&home, "server", SERVER);
    let agentfs = home.agentfs_path().display().to_string();
    let command = ["wrap", "--app", "shop", "--instance", "one", "--", &server, "127.0.0.1", "8080", "one"];
    let script = "ulimit -n 48; exec \"$@\"";
    let mut process = home.program("sh").args(["-c", script, "sh", &agentfs]).args(command).spawn();
    process.wait_for("PORT 8080");
    let file = home.listener("shop", "one", PORT).socket;
    let mut clients: Vec<_> =
        (0..60).map(|_| std::os::unix::net::UnixStream::connect(&file).unwrap()).collect();
    let pid = supervisor(&home, "one");
    let ticks = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let rest = stat.rsplit(") ").next().unwrap().split(' ');
        let fields: Vec<u64> = rest.map(|word| word.parse().unwrap_or(0)).collect();
        // utime and stime are the fields 14 and 15 of proc(5); the state is the third.
        fields[11] + fields[12]
    };
    let descriptors = || std::fs::read_dir(format!("/proc/{pid}/fd")).map(Iterator::count).unwrap_or(0);
    until("it has no room", || (descriptors() >= 46).then_some(()));
    let (before, start) = (ticks(), Instant::now());
    until("half a second is over", || (start.elapsed() >= Duration::from_millis(500)).then_some(()));
    let used = ticks() - before;
    assert!(used <= 10, "{used} ticks in half a second");
    clients.clear();
    home.expect_body("one.shop.localhost", "one for 127.0.0.1");
    assert!(processes::is_alive(pid) && process.is_running());
}
