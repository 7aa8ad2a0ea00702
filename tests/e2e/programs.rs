//! Real programs from Debian, unmodified: nginx, Redis, PostgreSQL, HAProxy. Two of each on the same port.
use agentfs_tests::skip::skipped;
use agentfs_tests::wait::until;
use agentfs_tests::{Home, Process};
use nix::sys::signal::Signal;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

const COPIES: [&str; 2] = ["one", "two"];

#[test]
fn nginx() {
    let home = Home::new();
    let _running = COPIES.map(|copy| start_nginx(&home, copy));
    for copy in COPIES {
        for port in [8080, 8081] {
            home.listener("shop", copy, port);
            home.expect_body(&format!("{port}.{copy}.shop.localhost"), &format!("{copy} {port}"));
            let url = format!("http://localhost:{port}/");
            let inside = home.exec(&format!("shop/{copy}"), &["curl", "--silent", "--show-error", &url]);
            assert_eq!(inside.text(), format!("{copy} {port}"));
        }
        let sixth = home.exec(&format!("shop/{copy}"), &["curl", "-sS", "http://[::1]:8080/"]);
        assert_eq!(sixth.text(), format!("{copy} 8080"));
    }
    home.assert_host_is_free();
}

/// nginx forks workers, re-reads its configuration in place and keeps its listeners while doing so.
#[test]
fn nginx_reloads() {
    let home = Home::new();
    let running = start_nginx(&home, "one");
    home.listener("shop", "one", 8080);
    home.expect_body("8080.one.shop.localhost", "one 8080");
    write_nginx(&home, "one", "reloaded");
    let master = std::fs::read_to_string(home.work().join("one/nginx.pid")).unwrap();
    let _ = home.program("kill").args(["-HUP", master.trim()]).output().success();
    until("the reloaded answer", || {
        (home.get("8080.one.shop.localhost").body == "reloaded 8080").then_some(())
    });
    let ended = running.terminate();
    let _ = ended.success();
    home.gone("shop", "one");
}

fn write_nginx(home: &Home, copy: &str, word: &str) -> String {
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {copy}/{kind};"))
        .join(" ");
    let configuration = format!(
        "daemon off; worker_processes 2; pid {copy}/nginx.pid; error_log stderr info;\n\
         events {{}}\n\
         http {{ access_log off; {temporary}\n\
         server {{ listen 8080; listen [::]:8080; return 200 '{word} 8080'; }}\n\
         server {{ listen 127.0.0.1:8081 reuseport; return 200 '{word} 8081'; }} }}\n"
    );
    home.write(&format!("{copy}/nginx.conf"), &configuration).display().to_string()
}

fn start_nginx<'home>(home: &'home Home, copy: &str) -> Process<'home> {
    let configuration = write_nginx(home, copy, copy);
    let prefix = home.work().display().to_string();
    home.wrap("shop", copy, &["nginx", "-e", "stderr", "-p", &prefix, "-c", &configuration]).spawn()
}

#[test]
fn redis() {
    let home = Home::new();
    let mut running = COPIES.map(|copy| {
        std::fs::create_dir(home.work().join(copy)).unwrap();
        let folder = home.work().join(copy).display().to_string();
        home.wrap("cache", copy, &["redis-server", "--port", "6379", "--dir", &folder, "--save", ""]).spawn()
    });
    for (copy, process) in COPIES.into_iter().zip(&mut running) {
        process.wait_for("Ready to accept connections");
        home.listener("cache", copy, 6379);
        assert_eq!(redis_cli(&home, copy, &["SET", "who", copy]), "OK");
    }
    for copy in COPIES {
        assert_eq!(redis_cli(&home, copy, &["GET", "who"]), copy);
        // The child that saves inherits the listener, closes it, and must not take it away.
        assert_eq!(redis_cli(&home, copy, &["BGSAVE"]), "Background saving started");
        until("the end of the save", || {
            redis_cli(&home, copy, &["INFO", "persistence"])
                .contains("rdb_bgsave_in_progress:0")
                .then_some(())
        });
        assert_eq!(redis_cli(&home, copy, &["GET", "who"]), copy);
        // Protected mode refuses clients that do not come from loopback.
        assert_eq!(redis_cli(&home, copy, &["CONFIG", "GET", "protected-mode"]), "protected-mode\nyes");
        // A listener is a plain Unix socket for programs outside, too.
        let socket = home.listener("cache", copy, 6379).socket;
        assert_eq!(home.program("redis-cli").args(["-s", &socket, "GET", "who"]).text().trim(), copy);
    }
    home.assert_host_is_free();
    for process in running {
        let _ = process.terminate().success();
    }
    for copy in COPIES {
        home.gone("cache", copy);
    }
}

fn redis_cli(home: &Home, copy: &str, command: &[&str]) -> String {
    let exec = home.exec(&format!("cache/{copy}"), &["redis-cli", "-h", "localhost", "-p", "6379"]);
    exec.args(command).text().replace('\r', "").trim().to_owned()
}

/// PostgreSQL refuses to run as root, forks a process a connection, closes the listener in each, and
/// starts helpers that talk over sockets of their own.
#[cfg_attr(not(target_os = "linux"), ignore = "looks for PostgreSQL where Debian has it")]
#[test]
fn postgresql() {
    let home = Home::of_user("postgres");
    let programs = postgresql_programs();
    let running = COPIES.map(|copy| {
        let folder = home.work().join(copy).display().to_string();
        let initdb = home.program(format!("{programs}/initdb"));
        let _ = initdb.args(["-D", &folder, "-U", "postgres", "-A", "trust", "--no-sync"]).output().success();
        let settings = ["unix_socket_directories=", "fsync=off", "shared_buffers=16MB"];
        let mut command = vec![format!("{programs}/postgres"), "-D".to_owned(), folder];
        for setting in settings {
            command.extend(["-c".to_owned(), setting.to_owned()]);
        }
        home.wrap("database", copy, &command).spawn()
    });
    for copy in COPIES {
        home.listener("database", copy, 5432);
        until("the database accepts", || {
            let output = home.exec(&format!("database/{copy}"), &[format!("{programs}/pg_isready")]);
            output.args(["-h", "localhost", "-p", "5432"]).output().status.success().then_some(())
        });
        psql(&home, &programs, copy, &format!("create table who as select '{copy}' as name"));
    }
    for copy in COPIES {
        assert_eq!(psql(&home, &programs, copy, "select name from who"), copy);
        let address = psql(&home, &programs, copy, "select host(inet_client_addr()), inet_server_port()");
        assert!(["127.0.0.1|5432", "::1|5432"].contains(&address.as_str()), "{address}");
    }
    home.assert_host_is_free();
    for process in running {
        process.signal(Signal::SIGINT);
        let _ = process.finish().success();
    }
    for copy in COPIES {
        home.gone("database", copy);
    }
}

fn psql(home: &Home, programs: &str, copy: &str, statement: &str) -> String {
    let exec = home.exec(&format!("database/{copy}"), &[format!("{programs}/psql")]);
    let exec = exec.args(["-h", "localhost", "-p", "5432", "-U", "postgres", "-XAt", "-c", statement]);
    exec.text().trim().to_owned()
}

/// Debian keeps each major version's programs in a folder of its own, off the PATH.
fn postgresql_programs() -> String {
    let versions = std::fs::read_dir("/usr/lib/postgresql").expect("`./test --setup` installs PostgreSQL");
    let mut folders: Vec<_> = versions.map(|version| version.unwrap().path().join("bin")).collect();
    folders.retain(|folder| folder.join("initdb").exists());
    folders.sort();
    folders.pop().expect("a version with initdb is installed").display().to_string()
}

/// `disable frontend` dissolves a listener by connect(2) to AF_UNSPEC: the port is kept and refuses until `enable
/// frontend` listens again.
#[cfg_attr(not(target_os = "linux"), ignore = "there, connect to AF_UNSPEC does not stop a listener")]
#[test]
fn haproxy_disables_a_frontend() {
    if which("haproxy").is_none() {
        skipped("haproxy is not installed; `./test --setup` installs it");
        return;
    }
    let home = Home::new();
    let _running = COPIES.map(|copy| start_haproxy(&home, copy));
    for copy in COPIES {
        home.listener("shop", copy, 8080);
        assert_eq!(ask_haproxy(&home, copy), Some(copy.to_owned()));
    }
    for _ in 0..3 {
        order(&home, "one", "disable frontend front");
        assert_eq!(ask_haproxy(&home, "one"), None);
        assert_eq!(ask_haproxy(&home, "two"), Some("two".to_owned()));
        let taken = "import socket; print(socket.socket().bind(('127.0.0.1', 8080)))";
        let bind = home.exec("shop/one", &["python3", "-c", taken]).output().code(1);
        assert!(bind.stderr.contains("Address already in use"), "{}", bind.explain());
        order(&home, "one", "enable frontend front");
        assert_eq!(ask_haproxy(&home, "one"), Some("one".to_owned()));
    }
    home.assert_host_is_free();
}

fn start_haproxy<'home>(home: &'home Home, copy: &str) -> Process<'home> {
    let configuration = format!(
        "global\n  stats socket {} level admin\n\
         defaults\n  mode http\n  timeout connect 5s\n  timeout client 5s\n  timeout server 5s\n\
         frontend front\n  bind 127.0.0.1:8080\n  http-request return status 200 content-type text/plain string {copy}\n",
        home.work().join(format!("{copy}.admin")).display()
    );
    let file = home.write(&format!("{copy}.cfg"), &configuration).display().to_string();
    let program = which("haproxy").unwrap_or_default();
    home.wrap("shop", copy, &[program.as_str(), "-db", "-f", &file]).spawn()
}

/// What the instance's HAProxy answers, or nothing where its port refuses.
fn ask_haproxy(home: &Home, copy: &str) -> Option<String> {
    /// curl(1): the connection was refused.
    const REFUSED: i32 = 7;
    let output = home.exec(&format!("shop/{copy}"), &["curl", "--silent", "http://127.0.0.1:8080/"]).output();
    if output.status.code() == Some(REFUSED) {
        return None;
    }
    Some(output.success().stdout)
}

/// Gives an order at HAProxy's own socket.
fn order(home: &Home, copy: &str, words: &str) {
    let mut stream = UnixStream::connect(home.work().join(format!("{copy}.admin"))).unwrap();
    writeln!(stream, "{words}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer.trim(), "", "{words}");
}

/// Where a program is, `sbin` included.
fn which(program: &str) -> Option<String> {
    let path = std::env::var("PATH").unwrap_or_default();
    let found = path.split(':').chain(["/usr/sbin", "/sbin"]).map(|folder| format!("{folder}/{program}"));
    found.into_iter().find(|path| std::path::Path::new(path).exists())
}
