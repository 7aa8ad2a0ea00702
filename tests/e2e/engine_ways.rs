//! Ways past libc's usual functions: programs that are started by a descriptor or with very many arguments, system calls by
//! their numbers, io_uring.
use crate::engine::{CLIENT, SERVER, built, started};
use agentfs_tests::{Home, artifact};
use std::process::Command;

/// `starter HOW FILE ARGUMENTS…`: becomes the program by a call that names no file, or with 5,000 arguments more.
const STARTER: &str = r#"
    #define _GNU_SOURCE
    #include <errno.h>
    #include <fcntl.h>
    #include <libgen.h>
    #include <spawn.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <string.h>
    #include <sys/mman.h>
    #include <sys/syscall.h>
    #include <sys/sendfile.h>
    #include <sys/wait.h>
    #include <unistd.h>
    extern char **environ;
    int main(int count, char **words) {
        char *how = words[1], *file = words[2], **arguments = words + 2, path[64];
        int fd = open(file, O_RDONLY | (strstr(how, "kept") ? 0 : O_CLOEXEC)), status;
        pid_t pid;
        if (strstr(how, "memory")) {
            int copy = memfd_create("program", MFD_CLOEXEC);
            while (sendfile(copy, fd, NULL, 1 << 20) > 0);
            fd = copy;
        }
        sprintf(path, "/proc/self/fd/%d", fd);
        if (strstr(how, "fexecve")) fexecve(fd, arguments, environ);
        if (!strcmp(how, "empty")) execveat(fd, "", arguments, environ, AT_EMPTY_PATH);
        if (!strcmp(how, "number")) syscall(SYS_execveat, fd, "", arguments, environ, AT_EMPTY_PATH);
        if (!strcmp(how, "below")) {
            char *folder = dirname(strdup(file)), *name = basename(strdup(file));
            fd = open(folder, O_DIRECTORY | O_CLOEXEC);
            execveat(fd, name, arguments, environ, 0);
        }
        if (strstr(how, "spawn")) {
            errno = posix_spawn(&pid, path, NULL, NULL, arguments, environ);
            if (!errno) { waitpid(pid, &status, 0); return WEXITSTATUS(status); }
        }
        if (!strcmp(how, "many")) {
            arguments = calloc(count + 5000, sizeof *arguments);
            memcpy(arguments, words + 2, (count - 2) * sizeof *arguments);
            for (int i = 0; i < 5000; i++) arguments[count - 2 + i] = "more";
            execv(file, arguments);
        }
        perror(how);
        return 66;
    }
"#;

/// A server by system calls alone: `number` by libc's function for them, else by the instruction. Answers one request.
const NUMBERS: &str = r#"
    #define _GNU_SOURCE
    #include <arpa/inet.h>
    #include <errno.h>
    #include <linux/io_uring.h>
    #include <stdio.h>
    #include <string.h>
    #include <sys/socket.h>
    #include <sys/syscall.h>
    #include <unistd.h>
    int main(void) {
        struct io_uring_params ring = {0};
        struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(8080)};
        char request[4096];
        int listener = syscall(SYS_socket, AF_INET, SOCK_STREAM, 0), one = 1;
        setvbuf(stdout, NULL, _IONBF, 0);
        printf("RING %s\n", syscall(SYS_io_uring_setup, 8, &ring) < 0 ? strerror(errno) : "well");
        syscall(SYS_setsockopt, listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        if (syscall(SYS_bind, listener, &at, sizeof at)) { perror("bind"); return 1; }
        syscall(SYS_listen, listener, 64);
        puts("PORT 8080");
        for (;;) {
            int fd = syscall(SYS_accept4, listener, NULL, NULL, 0);
            if (read(fd, request, sizeof request) > 0)
                dprintf(fd, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 7\r\n\r\nnumbers");
            close(fd);
        }
    }
"#;

/// A program that loads libraries.
fn loading(home: &Home, name: &str, source: &str) -> String {
    let file = home.write(&format!("{name}.c"), source);
    let program = home.work().join(name);
    let output = Command::new("cc").arg("-o").arg(&program).arg(&file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    program.display().to_string()
}

#[test]
fn however_a_static_program_is_started_it_is_served() {
    let home = Home::new();
    let (server, client) = (built(&home, "server", SERVER), built(&home, "client", CLIENT));
    let starter = loading(&home, "starter", STARTER);
    let _server = started(&home, "one", &server);
    let ways = [
        "fexecve",
        "fexecve-kept",
        "fexecve-memory",
        "empty",
        "number",
        "below",
        "spawn",
        "spawn-memory",
        "many",
    ];
    for how in ways {
        let command = [starter.as_str(), how, &client, "127.0.0.1", "8080"];
        let output = home.exec("shop/one", &command).output().success();
        assert_eq!(output.stdout.trim_end(), "one for 127.0.0.1", "{how}: {}", output.explain());
    }
}

/// The launcher's own descriptor of the program is not left in it.
#[test]
fn a_program_that_is_started_by_a_descriptor_gets_no_other() {
    const LIST: &str = r#"
        #include <fcntl.h>
        #include <stdio.h>
        int main(void) { for (int fd = 3; fd < 64; fd++) if (fcntl(fd, F_GETFD) >= 0) printf("%d ", fd); return 0; }
    "#;
    let home = Home::new();
    let (starter, list) = (loading(&home, "starter", STARTER), built(&home, "list", LIST));
    for how in ["fexecve", "fexecve-kept", "fexecve-memory"] {
        let command = [starter.as_str(), how, &list];
        let native = home.program(&starter).args([how, &list]).output().success();
        let wrapped = home.wrap("shop", how, &command).output().success();
        assert_eq!(wrapped.stdout, native.stdout, "{how}");
    }
}

/// "Nothing takes the host's port unseen."
#[test]
fn system_calls_by_number_are_the_instance_s_own() {
    let home = Home::new();
    let numbers = loading(&home, "numbers", NUMBERS);
    for (engine, ring) in [("preload", "Function not implemented"), ("seccomp", "well")] {
        let wrap = ["wrap", "--app", "shop", "--instance", engine, "--engine", engine, "--", &numbers];
        let mut server = home.agentfs(&wrap).spawn();
        server.wait_for("PORT 8080");
        home.listener("shop", engine, 8080);
        home.assert_host_is_free();
        home.expect_body(&format!("{engine}.shop.localhost"), "numbers");
        // The system may give nobody a ring (`kernel.io_uring_disabled`).
        if !server.stdout().contains("RING Operation not permitted") {
            assert!(server.stdout().contains(&format!("RING {ring}")), "{engine}: {}", server.stdout());
        }
        let trace = home.agentfs(&["trace", "--json", "--since", "1m", "--app", "shop"]).spawn();
        agentfs_tests::wait::until("the trace tells of the ring", || {
            let told = trace.stdout();
            let line = told.lines().find(|line| {
                line.contains("io_uring_setup") && line.contains(&format!("\"instance\":\"{engine}\""))
            });
            line.map(|_| ())
        });
    }
}

/// "Shell → make → Go → Python → node are one instance with one localhost", and a Python of the library beside them. Below the
/// Go program, everything has its filter.
#[test]
fn a_tree_of_five_kinds_of_program_has_one_localhost() {
    let home = Home::new();
    let gate = home.work().join("gate");
    let built = Command::new("go")
        .args(["build", "-o"])
        .arg(&gate)
        .arg(agentfs_fixtures::folder().join("go/gate.go"))
        .env("CGO_ENABLED", "0")
        .env("GO111MODULE", "off")
        .env("GOCACHE", artifact::profile_folder().join("go-cache"))
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let fixture = |file: &str| agentfs_fixtures::folder().join(file).display().to_string();
    let (tree, node) = (fixture("python/tree.py"), fixture("node/tree.js"));
    let makefile = format!(
        "all: below beside\n\
         below:\n\t@./gate python3 {tree} python 8081 http://localhost:8080/get/8083 node {node} node 8082 \
         http://127.0.0.1:8080/,http://localhost:8081/,http://localhost:8080/get/8082,http://localhost:8083/\n\
         beside:\n\t@python3 {tree} beside 8083 \
         http://localhost:8080/,http://localhost:8080/get/8083,http://localhost:8080/end\n"
    );
    let _ = home.write("Makefile", &makefile);
    let output = home.wrap("shop", "one", &["sh", "-c", "make -j2"]).output().success();
    let mut lines: Vec<&str> = output.stdout.lines().map(str::trim_end).collect();
    lines.sort_unstable();
    let expected = ["beside asked: go beside", "node asked: go python node beside", "python asked: beside"];
    assert_eq!(lines, expected, "{}", output.explain());
}
