//! "localhost:PORT in here is that fork": each client fixture, run inside either of two instances, gets
//! the content of its own; nothing is reached from an instance that has no such listener.
use agentfs_fixtures::{CLIENTS, client, server};
use agentfs_tests::wait::until;
use agentfs_tests::{Home, artifact};

macro_rules! clients {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            own_content(stringify!($name));
        })*

        #[test]
        fn every_client_of_the_model_has_a_test() {
            let tested = [$(stringify!($name)),*];
            assert_eq!(CLIENTS.iter().map(|client| client.name).collect::<Vec<_>>(), tested);
        }
    };
}

clients! { python_urllib python_asyncio node_fetch c_nonblocking rust_std java_http php_stream php_curl php_sockets }

fn own_content(name: &str) {
    let home = Home::new();
    let server = server("rust_threads");
    let command = artifact::client_command(&client(name), server.port);
    let copies = ["one", "two"];
    let _running =
        copies.map(|copy| home.wrap("shop", copy, &artifact::server_command(&server)).body(copy).spawn());
    for copy in copies {
        home.listener("shop", copy, server.port);
        assert_eq!(home.exec(&format!("shop/{copy}"), &command).text(), copy, "{name} inside shop/{copy}");
    }
}

/// "connect to a loopback address on port P: the instance's own listener if it has one, else the host's
/// (a shared database), unless --isolate."
#[test]
fn a_port_that_the_instance_does_not_have_is_the_hosts() {
    let home = Home::new();
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let database = std::thread::spawn(move || {
        use std::io::Write;
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"shared database").unwrap();
    });
    let script = format!(
        "import socket; print(socket.create_connection(('localhost', {port})).recv(99).decode(), end='')"
    );
    assert_eq!(home.wrap("shop", "one", &["python3", "-c", &script]).text(), "shared database");
    database.join().unwrap();
}

#[test]
fn an_isolated_instance_does_not_reach_the_host() {
    let home = Home::new();
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = format!("import socket; print(socket.socket().connect_ex(('127.0.0.1', {port})))");
    let isolated = home.agentfs(&["wrap", "--isolate", "--app", "shop", "--", "python3", "-c", &script]);
    assert_eq!(isolated.text().trim(), libc::ECONNREFUSED.to_string());
}

/// "The same port twice: EADDRINUSE, as natively, within an instance; never across instances."
#[test]
fn the_same_port_twice_in_one_instance_is_in_use() {
    let home = Home::new();
    let server = artifact::binary("fixture-wait").display().to_string();
    let _running = home.wrap("shop", "one", &[&server]).body("one").spawn();
    home.listener("shop", "one", 5000);
    let second = home.exec("shop/one", &[&server]).body("second").output().code(1);
    let _ = second.names(&["Address already in use"]);
    home.expect_body("one.shop.localhost", "one");
}

/// "Ports under 1024 need no privilege."
#[test]
fn port_80_is_for_everyone() {
    let home = Home::of_user("nobody");
    let copies = ["one", "two"];
    let script = "import http.server, os\n\
        class H(http.server.BaseHTTPRequestHandler):\n\
        \x20   def do_GET(self): self.send_response(200); self.end_headers(); self.wfile.write(os.environ['FIXTURE_BODY'].encode())\n\
        http.server.HTTPServer(('', 80), H).serve_forever()";
    let _running =
        copies.map(|copy| home.wrap("shop", copy, &[artifact::PYTHON, "-c", script]).body(copy).spawn());
    for copy in copies {
        home.listener("shop", copy, 80);
        home.expect_body(&format!("{copy}.shop.localhost"), copy);
    }
}

/// What a program joins later goes by the instance's rules, not by its own environment's.
#[test]
fn exec_takes_over_the_rules_of_its_instance() {
    let home = Home::new();
    let host = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = host.local_addr().unwrap().port();
    let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let script = "
import errno, os, socket, sys
server, client = socket.socket(), socket.socket()
def number(call, port):
    try:
        call(('127.0.0.1', int(port)))
        return 0
    except OSError as error:
        return error.errno
bound = number(server.bind, sys.argv[2])
inode = str(os.fstat(server.fileno()).st_ino)
server.listen()
where = 'host' if inode in open('/proc/net/tcp').read().split() else 'instance'
print(number(client.connect, sys.argv[1]), bound, where)
";
    let (port, free) = (port.to_string(), free.to_string());
    let command = ["python3", "-c", script, &port, &free];
    let refused = format!("{} 0 instance\n", libc::ECONNREFUSED);
    for (name, flags, expected) in [
        ("plain", &[][..], "0 0 instance\n"),
        ("alone", &["--isolate"], refused.as_str()),
        ("except", &["--except", free.as_str()], "0 0 host\n"),
        ("only", &["--only", "1"], "0 0 host\n"),
    ] {
        let wrap = home.agentfs(&["wrap", "--app", "shop", "--instance", name]).args(flags);
        let mut running = wrap.args(["--", "python3", "-c", script, &port, &free]).output().success().stdout;
        assert_eq!(running, expected, "wrap {name}");
        let held = home.agentfs(&["wrap", "--app", "shop", "--instance", name]).args(flags);
        let mut held = held.args(["--", "sh", "-c", "echo HELD; read line"]).open_input().spawn();
        held.wait_for("HELD");
        until("the instance is known", || home.instance("shop", name));
        let instance = format!("shop/{name}");
        for environment in ["", free.as_str()] {
            running = home.exec(&instance, &command).env("AGENTFS_EXCEPT", environment).text();
            assert_eq!(running, expected, "exec {name}, AGENTFS_EXCEPT={environment}");
        }
        held.write(b"\n");
        let _ = held.finish().success();
    }
}

/// A port that another program of the host has on the wildcard is free in the instance, also on the host's own
/// addresses, which `get-port`, `portfinder` and `detect-port` try; who listens there is reached from the instance.
#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "finds an address of the host by /proc")]
fn a_port_of_the_host_is_free_on_its_own_addresses() {
    let home = Home::new();
    let held = std::net::TcpListener::bind(("0.0.0.0", 0)).unwrap();
    let port = held.local_addr().unwrap().port();
    let script = format!(
        "
import socket
lines = [line.split() for line in open('/proc/net/fib_trie')]
own = [before[1] for before, line in zip(lines, lines[1:]) if line == ['/32', 'host', 'LOCAL']]
own = [ip for ip in own if not ip.startswith('127.')]
for ip in own[:1]:
    probe = socket.create_server((ip, {port}))
    assert probe.getsockname() == (ip, {port}), probe.getsockname()
    client = socket.create_connection((ip, {port}))
    accepted, peer = probe.accept()
    assert peer == client.getsockname() and accepted.getsockname() == (ip, {port})
    client.sendall(b'own')
    assert accepted.recv(9) == b'own'
    probe.close()
    wildcard = socket.create_server(('0.0.0.0', {port}))
    try:
        socket.create_server((ip, {port}))
        print('both')
    except OSError as error:
        assert error.errno == 98, error
print('free', end='')
"
    );
    assert_eq!(home.wrap("shop", "one", &["python3", "-c", &script]).text(), "free");
}
