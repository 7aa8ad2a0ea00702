//! "Every program: static, Go, musl, raw system calls": what the library does not reach, the seccomp engine serves.
use agentfs_tests::wait::until;
use agentfs_tests::{Home, Output, Process, artifact, skip};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};
use std::process::Command;

/// The port that every server of these tests binds.
pub(crate) const PORT: u16 = 8080;

/// `server ADDRESS PORT NAME`: says its port, and answers each request with NAME and the client's address. A signal closes
/// the listener; the process goes on. `b` on stdin binds another port and says what came of it.
pub(crate) const SERVER: &str = r#"
    #include <arpa/inet.h>
    #include <errno.h>
    #include <poll.h>
    #include <signal.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <string.h>
    #include <sys/socket.h>
    #include <unistd.h>
    static int listener;
    static void closes(int signal) { (void)signal; close(listener); listener = -1; }
    static int bound(const char *ip, int port, int *fd) {
        struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
        int one = 1;
        inet_aton(ip, &at.sin_addr);
        *fd = socket(AF_INET, SOCK_STREAM, 0);
        setsockopt(*fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        return bind(*fd, (struct sockaddr *)&at, sizeof at) || listen(*fd, 64) ? errno : 0;
    }
    int main(int count, char **words) {
        struct sockaddr_in name;
        socklen_t length = sizeof name;
        setvbuf(stdout, NULL, _IONBF, 0);
        signal(SIGUSR1, closes);
        int error = bound(words[1], atoi(words[2]), &listener);
        if (error) { printf("%s\n", strerror(error)); return 1; }
        getsockname(listener, (struct sockaddr *)&name, &length);
        printf("PORT %d\n", ntohs(name.sin_port));
        for (;;) {
            struct pollfd both[2] = {{.fd = listener, .events = POLLIN}, {.fd = count > 4 ? 0 : -1, .events = POLLIN}};
            if (poll(both, 2, -1) < 0) continue;
            if (both[1].revents) {
                char line[8];
                int fd;
                if (read(0, line, sizeof line) <= 0) return 0;
                error = bound("127.0.0.1", 0, &fd);
                printf("BOUND %s\n", error ? strerror(error) : "well");
            }
            if (!both[0].revents) continue;
            char request[4096], body[256];
            length = sizeof name;
            int fd = accept(listener, (struct sockaddr *)&name, &length);
            if (fd < 0 || read(fd, request, sizeof request) <= 0) { close(fd); continue; }
            int size = sprintf(body, "%s for %s", words[3], inet_ntoa(name.sin_addr));
            dprintf(fd, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", size, body);
            close(fd);
        }
    }
"#;

/// `client ADDRESS PORT`: prints the body of the answer, or why it cannot connect.
pub(crate) const CLIENT: &str = r#"
    #include <arpa/inet.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <string.h>
    #include <sys/socket.h>
    #include <unistd.h>
    int main(int count, char **words) {
        (void)count;
        struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(atoi(words[2]))}, name;
        socklen_t length = sizeof name;
        char answer[4096];
        int fd = socket(AF_INET, SOCK_STREAM, 0), size = 0, part;
        inet_aton(words[1], &at.sin_addr);
        if (connect(fd, (struct sockaddr *)&at, sizeof at)) { perror("connect"); return 1; }
        getpeername(fd, (struct sockaddr *)&name, &length);
        if (name.sin_port != at.sin_port || name.sin_addr.s_addr != at.sin_addr.s_addr) { puts("another peer"); return 1; }
        dprintf(fd, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        while ((part = read(fd, answer + size, sizeof answer - 1 - size)) > 0) size += part;
        answer[size] = 0;
        char *body = strstr(answer, "\r\n\r\n");
        puts(body ? body + 4 : "no answer");
        return 0;
    }
"#;

/// `without WHAT COMMAND…`: runs a command under a filter of its own. What is refused: `spaces` new name spaces, `docker` what
/// Docker's default profile refuses, `memory` that of other processes, `filters` seccomp(2), `linux-…` what such a kernel does not
/// have, `nothing` nothing; `exhausted` is a system without a name space left; `listener` has notifications that nobody needs.
pub(crate) const WITHOUT: &str = r#"
    #define _GNU_SOURCE
    #include <errno.h>
    #include <fcntl.h>
    #include <linux/filter.h>
    #include <linux/seccomp.h>
    #include <sched.h>
    #include <stddef.h>
    #include <stdio.h>
    #include <string.h>
    #include <sys/prctl.h>
    #include <sys/syscall.h>
    #include <unistd.h>
    static struct sock_filter code[64];
    static unsigned short size;
    static void add(unsigned op, unsigned yes, unsigned no, unsigned value) {
        code[size++] = (struct sock_filter){op, yes, no, value};
    }
    static void load(unsigned at) { add(BPF_LD | BPF_W | BPF_ABS, 0, 0, at); }
    /* A call, or one whose argument is or has something. */
    static void refuse(unsigned number, int error) {
        load(offsetof(struct seccomp_data, nr));
        add(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, number);
        add(BPF_RET | BPF_K, 0, 0, error ? SECCOMP_RET_ERRNO | error : SECCOMP_RET_USER_NOTIF);
    }
    static void refuse_if(unsigned number, int error, int argument, unsigned test, unsigned value) {
        load(offsetof(struct seccomp_data, nr));
        add(BPF_JMP | BPF_JEQ | BPF_K, 0, 3, number);
        load(offsetof(struct seccomp_data, args) + 8 * argument);
        add(BPF_JMP | test | BPF_K, 0, 1, value);
        add(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | error);
    }
    int main(int count, char **words) {
        (void)count;
        unsigned flags = 0, spaces = CLONE_NEWUSER | CLONE_NEWNET;
        int docker = !strcmp(words[1], "docker");
        if (docker || !strcmp(words[1], "spaces")) {
            refuse_if(SYS_unshare, EPERM, 0, BPF_JSET, spaces);
            refuse_if(SYS_clone, EPERM, 0, BPF_JSET, spaces);
            refuse(SYS_clone3, ENOSYS);
        }
        if (docker) refuse(SYS_unshare, EPERM), refuse(SYS_pidfd_getfd, EPERM), refuse(SYS_kcmp, EPERM);
        if (!strcmp(words[1], "exhausted")) refuse_if(SYS_unshare, ENOSPC, 0, BPF_JSET, spaces);
        if (!strcmp(words[1], "memory")) {
            refuse(SYS_process_vm_readv, EPERM), refuse(SYS_process_vm_writev, EPERM), refuse(SYS_pidfd_getfd, EPERM);
        }
        if (!strcmp(words[1], "filters")) refuse(SYS_seccomp, EPERM);
        if (!strcmp(words[1], "linux-4.19")) refuse_if(SYS_seccomp, EINVAL, 1, BPF_JSET, SECCOMP_FILTER_FLAG_NEW_LISTENER);
        if (!strncmp(words[1], "linux-5", 7)) {
            /* WAIT_KILLABLE_RECV, SECCOMP_IOCTL_NOTIF_SET_FLAGS, PIDFD_THREAD */
            refuse_if(SYS_seccomp, EINVAL, 1, BPF_JSET, 1 << 5), refuse_if(SYS_ioctl, EINVAL, 1, BPF_JEQ, 0x40082104);
            refuse_if(SYS_pidfd_open, EINVAL, 1, BPF_JSET, O_EXCL);
        }
        /* SO_NETNS_COOKIE */
        if (!strcmp(words[1], "linux-5.13")) refuse_if(SYS_getsockopt, ENOPROTOOPT, 2, BPF_JEQ, 71);
        if (!strcmp(words[1], "listener")) flags = SECCOMP_FILTER_FLAG_NEW_LISTENER, refuse(-1, 0);
        add(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW);
        struct sock_fprog program = {size, code};
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        int fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
        if (fd < 0) { perror("seccomp"); return 66; }
        if (flags) dup2(fd, 99);
        execvp(words[2], words + 2);
        perror(words[2]);
        return 67;
    }
"#;

/// A static program.
pub(crate) fn built(home: &Home, name: &str, source: &str) -> String {
    let file = home.write(&format!("{name}.c"), source);
    let program = home.work().join(name);
    let output = Command::new("cc").args(["-static", "-o"]).arg(&program).arg(&file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    program.display().to_string()
}

/// Starts a server on [`PORT`], and waits until the collector knows its listener.
pub(crate) fn started<'home>(home: &'home Home, instance: &str, server: &str) -> Process<'home> {
    let command = [server, "0.0.0.0", "8080", instance, "stdin"];
    let mut process = home.wrap("shop", instance, &command).open_input().speaking().spawn();
    process.wait_for("PORT 8080");
    home.listener("shop", instance, PORT);
    process
}

/// The supervisors and their helpers, of all homes.
fn supervisors(instance: &str) -> Vec<i32> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let command = std::fs::read_to_string(entry.path().join("cmdline")).ok()?;
        let name = std::fs::read_to_string(entry.path().join("comm")).ok()?;
        let is_it = command.contains(&format!("\0engine-serve\0--app\0shop\0--instance\0{instance}\0"));
        (is_it && name == "agentfs-engine\n").then_some(pid)
    })
    .collect()
}

/// The supervisor of an instance of this home.
pub(crate) fn supervisor(home: &Home, instance: &str) -> i32 {
    until("there is a supervisor", || {
        supervisors(instance).into_iter().find(|pid| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let own = format!("AGENTFS_HOME={}", home.paths().home.display());
            environment.split(|byte| *byte == 0).any(|entry| entry == own.as_bytes())
        })
    })
}

#[test]
fn static_servers_of_two_instances_have_one_port() {
    let home = Home::new();
    let (server, client) = (built(&home, "server", SERVER), built(&home, "client", CLIENT));
    let (_blue, _green) = (started(&home, "blue", &server), started(&home, "green", &server));
    home.assert_host_is_free();
    for instance in ["blue", "green"] {
        let own = format!("{instance} for 127.0.0.1");
        home.expect_body(&format!("{instance}.shop.localhost"), &own);
        let name = format!("shop/{instance}");
        for command in [
            vec![client.as_str(), "127.0.0.1", "8080"],
            vec!["sh", "-c", "\"$0\" 127.0.0.1 8080", client.as_str()],
            vec!["env", "-i", client.as_str(), "127.0.0.1", "8080"],
            vec!["curl", "-s", "http://localhost:8080"],
        ] {
            let output = home.exec(&name, &command).output().success();
            assert_eq!(output.stdout.trim_end(), own, "{}", output.explain());
        }
        let listener = home.listener("shop", instance, PORT);
        let owner = listener.pid.map(|pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap());
        assert_eq!(owner.as_deref(), Some("server\n"), "{listener:?}");
    }
    // Nobody else: a port without a listener is the host's, and nothing listens there.
    let output = home.exec("shop/blue", &[client.as_str(), "127.0.0.1", "8081"]).output().code(1);
    assert!(output.stderr.contains("refused"), "{}", output.explain());
}

/// Runs a static server (`$0`) and one of the library (`$2`), lets clients of both kinds (`$1`, curl) ask both, and binds their ports
/// again.
pub(crate) const ONE_LOCALHOST: &str = r#"
        "$0" 0.0.0.0 8080 static & FIXTURE_BODY=other FIXTURE_PORT=8081 "$2" &
        while ! curl -fs http://localhost:8080 || ! curl -fs http://localhost:8081; do sleep 0.05; done >/dev/null 2>&1
        echo; curl -s http://127.0.0.1:8080; echo; "$1" 127.0.0.1 8080; "$1" 127.0.0.1 8081
        "$0" 0.0.0.0 8081 again; "$0" 127.0.0.1 8080 again
        FIXTURE_PORT=8080 "$2" 2>/dev/null || echo taken
        kill %1 %2
    "#;

/// What [`ONE_LOCALHOST`] prints.
pub(crate) fn assert_one_localhost(output: &Output<'_>) {
    let lines: Vec<&str> = output.stdout.lines().collect();
    let expected = ["static for 127.0.0.1", "static for 127.0.0.1", "other"];
    assert!(lines.windows(3).any(|window| window == expected), "{}", output.explain());
    assert_eq!(output.stdout.matches("Address already in use").count(), 2, "{}", output.explain());
    assert!(lines.contains(&"taken"), "{}", output.explain());
}

/// "Mixed trees are one instance with one localhost."
#[test]
fn static_programs_and_others_reach_one_another() {
    let home = Home::new();
    let (server, client) = (built(&home, "server", SERVER), built(&home, "client", CLIENT));
    let other = artifact::c_fixture("threaded.c").display().to_string();
    let output = home.wrap("shop", "one", &["bash", "-c", ONE_LOCALHOST, &server, &client, &other]).output();
    assert_one_localhost(&output);
}

#[test]
fn a_port_is_free_again_when_its_server_is_killed_or_closes_it() {
    let home = Home::new();
    let (server, client) = (built(&home, "server", SERVER), built(&home, "client", CLIENT));
    let refused = || home.exec("shop/one", &[client.as_str(), "127.0.0.1", "8080"]).output().code(1);
    // Keeps the instance.
    let _other = home.wrap("shop", "one", &[server.as_str(), "0.0.0.0", "8081", "other"]).spawn();
    home.listener("shop", "one", 8081);
    let killed = started(&home, "one", &server);
    killed.signal(Signal::SIGKILL);
    let _ = killed.finish().signal(Signal::SIGKILL);
    assert!(refused().stderr.contains("refused"));
    let closes = started(&home, "one", &server);
    closes.signal(Signal::SIGUSR1);
    until("the listener is gone", || {
        let instance = home.instance("shop", "one")?;
        instance.listeners.iter().all(|listener| listener.port != PORT).then_some(())
    });
    assert!(refused().stderr.contains("refused"));
    let _again = started(&home, "one", &server);
    home.expect_body("8080.one.shop.localhost", "one for 127.0.0.1");
}

#[test]
fn the_rules_of_an_instance_hold() {
    let home = Home::new();
    let (server, client) = (built(&home, "server", SERVER), built(&home, "client", CLIENT));
    let mut host = home.program(&server).args(["127.0.0.1", "0", "host"]).spawn();
    host.wait_for("PORT");
    let port = host.stdout().trim().strip_prefix("PORT ").unwrap().to_owned();
    let ask = |more: &[&str]| {
        let run =
            home.agentfs(&["wrap", "--app", "shop"]).args(more).args(["--", &client, "127.0.0.1", &port]);
        run.output()
    };
    assert_eq!(ask(&[]).success().stdout, "host for 127.0.0.1\n");
    assert!(ask(&["--isolate"]).code(1).stderr.contains("refused"));
    let _ = ask(&["--isolate", "--allow-host", &port]).success();
    // A port that stays the host's is taken there.
    let run =
        home.agentfs(&["wrap", "--app", "shop", "--except", &port, "--", &server, "127.0.0.1", &port, "x"]);
    assert_eq!(run.output().code(1).stdout, "Address already in use\n");
    let mut own = home.wrap("shop", "own", &[server.as_str(), "127.0.0.1", &port, "own"]).spawn();
    own.wait_for("PORT");
    let own = home.exec("shop/own", &[client.as_str(), "127.0.0.1", &port]).output().success();
    assert_eq!(own.stdout, "own for 127.0.0.1\n");
}

/// "A supervisor that is killed: the program's fate is clean, explained."
#[test]
fn a_killed_supervisor_is_told_and_the_next_program_has_another() {
    let home = Home::new();
    let server = built(&home, "server", SERVER);
    let mut process = started(&home, "one", &server);
    process.write(b"b\n");
    process.wait_for("BOUND well");
    let _ = kill(Pid::from_raw(supervisor(&home, "one")), Signal::SIGKILL);
    let trace = home.agentfs(&["trace", "--json", "--since", "1m", "--app", "shop"]).spawn();
    until("the trace says so", || trace.stdout().contains("engine_ended").then_some(()));
    until("wrap says so", || {
        process.stderr().contains("supervisor of the seccomp engine was killed").then_some(())
    });
    until("the listener is gone", || home.instance("shop", "one")?.listeners.is_empty().then_some(()));
    let table = home.agentfs(&["ps"]).output().success().stdout.clone();
    assert!(table.contains("shop/one: seccomp engine, ended (the supervisor was killed"), "{table}");
    process.write(b"b\n");
    process.wait_for("BOUND Function not implemented");
    assert!(process.is_running());
    let _next = started(&home, "one", &server);
    home.expect_body("one.shop.localhost", "one for 127.0.0.1");
    let _ = process.terminate();
}

/// Without the process that makes its sockets, a supervisor ends too, rather than let programs take the host's ports.
#[test]
fn a_killed_helper_ends_the_supervisor() {
    let home = Home::new();
    let server = built(&home, "server", SERVER);
    let mut process = started(&home, "one", &server);
    let pid = supervisor(&home, "one");
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let helper: i32 = children.split_ascii_whitespace().next().unwrap().parse().unwrap();
    let _ = kill(Pid::from_raw(helper), Signal::SIGKILL);
    until("it has ended", || (!agentfs_tests::processes::is_alive(pid)).then_some(()));
    until("wrap says so", || process.stderr().contains("was killed").then_some(()));
    process.write(b"b\n");
    process.wait_for("BOUND Function not implemented");
    let _next = started(&home, "one", &server);
    let _ = process.terminate();
}

#[test]
fn a_new_collector_knows_the_listeners() {
    let home = Home::new();
    let server = built(&home, "server", SERVER);
    let process = started(&home, "one", &server);
    home.kill_daemon();
    home.start_daemon();
    until("its process is known", || {
        let listener = home.listener("shop", "one", PORT);
        (listener.pid == u32::try_from(process.pid()).ok()).then_some(())
    });
    home.expect_body("one.shop.localhost", "one for 127.0.0.1");
}

#[test]
fn the_supervisor_ends_with_its_last_program() {
    let home = Home::new();
    let server = built(&home, "server", SERVER);
    let process = started(&home, "one", &server);
    let pid = supervisor(&home, "one");
    let _ = home.agentfs(&["stop", "shop/one"]).output().success();
    drop(process);
    until("it has ended", || (!agentfs_tests::processes::is_alive(pid)).then_some(()));
    for folder in [home.paths().run.clone(), home.paths().base.join("engine")] {
        let left: Vec<_> = std::fs::read_dir(&folder).unwrap().flatten().map(|file| file.path()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn a_program_with_a_filter_of_its_own_is_served() {
    let home = Home::new();
    let (server, client) = (built(&home, "server", SERVER), built(&home, "client", CLIENT));
    let without = built(&home, "without", WITHOUT);
    let command = [without.as_str(), "nothing", &server, "0.0.0.0", "8080", "own"];
    let mut process = home.wrap("shop", "one", &command).spawn();
    process.wait_for("PORT");
    home.listener("shop", "one", PORT);
    home.assert_host_is_free();
    let output = home.exec("shop/one", &[client.as_str(), "127.0.0.1", "8080"]).output().success();
    assert_eq!(output.stdout, "own for 127.0.0.1\n");
}

/// A container's network is its own: others reach its ports there. A sandbox without a network is served.
#[test]
fn ports_of_a_container_are_its_own() {
    let home = Home::new();
    let (server, client) = (built(&home, "server", SERVER), built(&home, "client", CLIENT));
    let unshare: &[&str] =
        if Uid::effective().is_root() { &["--net"] } else { &["--net", "--map-root-user"] };
    let run = |instance: &str, network: &str, address: &str| {
        let script = format!(
            "ip link set lo up || exit 66\n{network}\n\"$0\" 0.0.0.0 8080 {instance} & server=$!\n\
            until \"$1\" {address} 8080 2>/dev/null; do sleep 0.1; done; kill $server"
        );
        let command = [&["unshare"], unshare, &["sh", "-c", &script, &server, &client]].concat();
        let words = ["wrap", "--app", "shop", "--instance", instance, "--engine", "seccomp", "--"];
        home.agentfs(&words).args(&command).output().success().stdout
    };
    let stdout = run("sandbox", "", "127.0.0.1");
    assert_eq!(stdout, "PORT 8080\nsandbox for 127.0.0.1\n");
    let other = "ip link add v0 type veth peer name v1 || exit 66\n\
        ip address add 10.9.8.7/24 dev v0; ip link set v0 up; ip link set v1 up";
    let stdout = run("container", other, "10.9.8.7");
    assert_eq!(stdout, "PORT 8080\ncontainer for 10.9.8.7\n");
}

/// Where the engine cannot be, the program runs, and that is told once.
#[test]
fn a_program_runs_where_the_system_forbids_the_engine() {
    let home = Home::new();
    let (client, without) = (built(&home, "client", CLIENT), built(&home, "without", WITHOUT));
    let agentfs = home.agentfs_path().display().to_string();
    for (what, why) in [
        ("filters", "does not allow a seccomp filter"),
        ("listener", "the kernel allows only one"),
        ("memory", "does not let the engine read its memory"),
        ("linux-4.19", "does not allow a seccomp filter: Invalid argument"),
    ] {
        let instance = what.replace('.', "-");
        let wrap = [
            what,
            &agentfs,
            "wrap",
            "--app",
            "shop",
            "--instance",
            &instance,
            "--",
            &client,
            "127.0.0.1",
            "1",
        ];
        let output = home.program(&without).args(wrap).speaking().output().code(1);
        let told = output.stderr.lines().filter(|line| line.contains("uses the host's ports")).count();
        assert_eq!(told, 1, "{}", output.explain());
        assert!(output.stderr.contains(why), "{}", output.explain());
        assert!(output.stderr.contains("connect: Connection refused"), "{}", output.explain());
    }
}

/// The kernel allows one filter with notifications in a line of programs. A nested `wrap` of the same instance inherits it; one
/// of another instance is not served, says so, and does not meet the outer instance.
#[test]
fn a_nested_wrap_never_meets_the_outer_instance() {
    let home = Home::new();
    let (server, client) = (built(&home, "server", SERVER), built(&home, "client", CLIENT));
    let without = built(&home, "without", WITHOUT);
    let agentfs = home.agentfs_path().display().to_string();
    let _outer = started(&home, "outer", &server);
    let nested = |instance: &str| {
        // The static program in the middle has the filter.
        let inner =
            [&agentfs, "wrap", "--app", "shop", "--instance", instance, "--", &client, "127.0.0.1", "8080"];
        let command = [&[without.as_str(), "nothing"][..], &inner].concat();
        home.exec("shop/outer", &command).speaking().output()
    };
    let same = nested("outer").success();
    assert_eq!(
        (same.stdout.as_str(), same.stderr.as_str()),
        ("outer for 127.0.0.1\n", ""),
        "{}",
        same.explain()
    );
    let other = nested("inner").code(1);
    assert!(other.stderr.contains("the kernel allows only one"), "{}", other.explain());
    assert!(other.stderr.contains("connect: Connection refused"), "{}", other.explain());
}

#[test]
fn an_ordinary_user_needs_no_rights() {
    if !skip::is_root() {
        return;
    }
    let home = Home::of_user("nobody");
    let (server, client) = (built(&home, "server", SERVER), built(&home, "client", CLIENT));
    let mut process = home.wrap("shop", "one", &[server.as_str(), "0.0.0.0", "80", "low"]).spawn();
    process.wait_for("PORT 80");
    home.listener("shop", "one", 80);
    let output = home.exec("shop/one", &[client.as_str(), "127.0.0.1", "80"]).output().success();
    assert_eq!(output.stdout, "low for 127.0.0.1\n");
    home.expect_body("one.shop.localhost", "low for 127.0.0.1");
}
