//! Where the system has no network name space for the engine, ports of the host's loopback stand in for those of an instance.
use crate::engine::{CLIENT, ONE_LOCALHOST, PORT, SERVER, WITHOUT, assert_one_localhost, built};
use agentfs_tests::wait::until;
use agentfs_tests::{Home, Process, artifact, processes, skip};

/// Connects one socket again and again, until somebody listens.
const RETRIES: &str = r#"
    #include <arpa/inet.h>
    #include <stdio.h>
    #include <sys/socket.h>
    #include <unistd.h>
    int main(void) {
        struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(8080), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        int fd = socket(AF_INET, SOCK_STREAM, 0), tries = 0, size;
        char answer[4096];
        while (connect(fd, (struct sockaddr *)&at, sizeof at)) {
            if (!tries++) puts("WAITS"), fflush(stdout);
            usleep(10000);
        }
        dprintf(fd, "GET / HTTP/1.1\r\n\r\n");
        while ((size = read(fd, answer, sizeof answer)) > 0) fwrite(answer, 1, size, stdout);
        return 0;
    }
"#;

/// The programs of these tests.
struct Programs {
    server: String,
    client: String,
    /// Starts a command without name spaces.
    without: String,
    agentfs: String,
}

impl Programs {
    fn build(home: &Home) -> Self {
        Self {
            server: built(home, "server", SERVER),
            client: built(home, "client", CLIENT),
            without: built(home, "without", WITHOUT),
            agentfs: home.agentfs_path().display().to_string(),
        }
    }

    /// Starts a server in an instance that has no name space.
    fn start<'home>(&self, home: &'home Home, instance: &str, at: (&str, &str)) -> Process<'home> {
        self.start_without("spaces", home, instance, at)
    }

    /// The same without something else.
    fn start_without<'home>(
        &self,
        what: &str,
        home: &'home Home,
        instance: &str,
        (ip, port): (&str, &str),
    ) -> Process<'home> {
        let wrap = [&self.agentfs, "wrap", "--app", "shop", "--instance", instance, "--"];
        let server = [&self.server, ip, port, instance];
        let words = [&[what][..], &wrap, &server].concat();
        let mut process = home.program(&self.without).args(words).speaking().spawn();
        process.wait_for(&format!("PORT {port}"));
        process
    }
}

#[test]
fn two_instances_have_one_port() {
    expect_two_instances("spaces");
}

/// Docker's default profile refuses pidfd_getfd(2) too.
#[test]
fn two_instances_have_one_port_in_a_container() {
    expect_two_instances("docker");
}

fn expect_two_instances(what: &str) {
    let home = Home::new();
    let programs = Programs::build(&home);
    let any = ("0.0.0.0", "8080");
    let [blue, green] = ["blue", "green"].map(|instance| programs.start_without(what, &home, instance, any));
    for server in [&blue, &green] {
        assert!(!processes::listens_on(server.pid(), PORT), "{}", server.stderr());
        assert!(!server.stderr().contains("warning"), "{}", server.stderr());
    }
    for instance in ["blue", "green"] {
        home.listener("shop", instance, PORT);
        let own = format!("{instance} for 127.0.0.1");
        home.expect_body(&format!("{instance}.shop.localhost"), &own);
        for command in [
            vec![programs.client.as_str(), "127.0.0.1", "8080"],
            vec![programs.client.as_str(), "127.0.0.3", "8080"],
            vec!["curl", "-s", "http://localhost:8080"],
        ] {
            let name = format!("shop/{instance}");
            let exec = [&[what, &programs.agentfs, "exec", &name, "--"][..], &command].concat();
            let output = home.program(&programs.without).args(exec).output().success();
            assert_eq!(output.stdout.trim_end(), own, "{}", output.explain());
        }
    }
    let output = home.exec("shop/blue", &[programs.client.as_str(), "127.0.0.1", "8081"]).output().code(1);
    assert!(output.stderr.contains("refused"), "{}", output.explain());
    let again =
        home.exec("shop/blue", &[programs.server.as_str(), "127.0.0.1", "8080", "again"]).output().code(1);
    assert_eq!(again.stdout, "Address already in use\n", "{}", again.explain());
}

/// "Which one is in use, and why, is in `trace`, `ps` and `doctor`."
#[test]
fn which_sockets_are_in_use_is_told() {
    let home = Home::new();
    let programs = Programs::build(&home);
    let refused = ("spaces", "blue", "Operation not permitted", "in a container, allow");
    let exhausted = ("exhausted", "green", "No space left on device", "user.max_net_namespaces");
    for (what, instance, why, hint) in [refused, exhausted] {
        let server = programs.start_without(what, &home, instance, ("127.0.0.1", "8080"));
        home.listener("shop", instance, PORT);
        let table = home.agentfs(&["ps"]).output().success().stdout;
        let line = format!(
            "shop/{instance}: seccomp engine, stand-ins (the system gives no network name space: {why}"
        );
        assert!(table.contains(&line), "{table}");
        let trace = home.agentfs(&["trace", "--since", "1m", "--app", "shop"]).spawn();
        until("the trace says so", || trace.stdout().contains("on stand-ins, because").then_some(()));
        let doctor = home.program(&programs.without).args([what, &programs.agentfs, "doctor"]).output();
        assert!(doctor.stdout.contains("serves static programs and Go on stand-ins"), "{}", doctor.explain());
        assert!(doctor.stdout.contains(why) && doctor.stdout.contains(hint), "{}", doctor.explain());
        drop(server);
    }
    let _usual = crate::engine::started(&home, "usual", &programs.server);
    let all: serde_json::Value =
        serde_json::from_str(&home.agentfs(&["ps", "--json"]).output().success().stdout).unwrap();
    let usual = all.as_array().unwrap().iter().find(|one| one["instance"] == "usual").unwrap();
    assert_eq!(usual["engine"]["engine"], "seccomp");
    assert_eq!((&usual["engine"]["sockets"], &usual["engine"]["why"]), (&"port_space".into(), &().into()));
}

/// Programs of the library, which the engine reaches through its bridges and fronts, have the same localhost.
#[test]
fn programs_of_the_library_are_reached_and_reach() {
    for what in ["spaces", "docker"] {
        expect_one_localhost(what);
    }
}

fn expect_one_localhost(what: &str) {
    let home = Home::new();
    let programs = Programs::build(&home);
    let other = artifact::c_fixture("threaded.c").display().to_string();
    let words = [what, &programs.agentfs, "wrap", "--app", "shop", "--", "bash", "-c", ONE_LOCALHOST];
    let words = [&words[..], &[&programs.server, &programs.client, &other]].concat();
    let output = home.program(&programs.without).args(words).output();
    assert_one_localhost(&output);
}

#[test]
fn an_ordinary_user_has_low_ports_too() {
    if !skip::is_root() {
        return;
    }
    let home = Home::of_user("nobody");
    let programs = Programs::build(&home);
    let _server = programs.start(&home, "low", ("0.0.0.0", "80"));
    home.listener("shop", "low", 80);
    let output = home.exec("shop/low", &[programs.client.as_str(), "127.0.0.1", "80"]).output().success();
    assert_eq!(output.stdout, "low for 127.0.0.1\n");
    home.expect_body("low.shop.localhost", "low for 127.0.0.1");
}

/// A program that the library would reach, with `--engine seccomp`: names, and connections that do not wait.
#[test]
fn python_sees_the_ports_that_it_asked_for() {
    let home = Home::new();
    let programs = Programs::build(&home);
    let script = r#"
import asyncio, socket
def pair(server, client):
    seen, _ = server.accept()
    names = seen.getsockname()[:2], client.getpeername()[:2], client.getsockname() == seen.getpeername()
    seen.close(), client.close()
    return names
any = socket.create_server(("", 8080))
print(any.getsockname(), pair(any, socket.create_connection(("localhost", 8080))))
six = socket.create_server(("::", 8081), family=socket.AF_INET6, dualstack_ipv6=True)
print(six.getsockname()[:2], pair(six, socket.create_connection(("::1", 8081))))
print(pair(six, socket.create_connection(("127.0.0.1", 8081))))
free = socket.create_server(("127.0.0.1", 0))
port = free.getsockname()[1]
print(port != 0, pair(free, socket.create_connection(("127.0.0.1", port)))[0][1] == port)
async def main():
    async def answer(reader, writer):
        writer.write(await reader.read(5)); writer.close()
    async with await asyncio.start_server(answer, "127.0.0.1", 8082):
        reader, writer = await asyncio.open_connection("localhost", 8082)
        writer.write(b"hello")
        print(await reader.read(), writer.get_extra_info("peername"))
asyncio.run(main())
"#;
    let file = home.write("names.py", script).display().to_string();
    let python = artifact::python("names.py");
    let expected = "('0.0.0.0', 8080) (('127.0.0.1', 8080), ('127.0.0.1', 8080), True)\n\
        ('::', 8081) (('::1', 8081), ('::1', 8081), True)\n\
        (('::ffff:127.0.0.1', 8081), ('127.0.0.1', 8081), False)\n\
        True True\n\
        b'hello' ('127.0.0.1', 8082)\n";
    for what in ["spaces", "docker"] {
        let words = [what, &programs.agentfs, "wrap", "--app", "shop", "--engine", "seccomp", "--"];
        let words = [&words[..], &[python[0].as_str(), &file]].concat();
        let output = home.program(&programs.without).args(words).output().success();
        assert_eq!(output.stdout, expected, "{}", output.explain());
    }
}

#[test]
fn a_socket_that_was_refused_finds_the_listener_later() {
    let home = Home::new();
    let programs = Programs::build(&home);
    let retries = built(&home, "retries", RETRIES);
    for what in ["nothing", "spaces", "docker"] {
        let wrap = [what, &programs.agentfs, "wrap", "--app", "shop", "--instance", what, "--", &retries];
        let mut client = home.program(&programs.without).args(wrap).spawn();
        client.wait_for("WAITS");
        let _server = programs.start_without(what, &home, what, ("127.0.0.1", "8080"));
        client.wait_for(&format!("{what} for 127.0.0.1"));
    }
}
