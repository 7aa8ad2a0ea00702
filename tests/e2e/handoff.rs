//! "Zero-hop hand-off: the default wherever the address decides the app": a forwarded connection is the program's
//! own TCP connection, and where it cannot be, its bytes are passed on without losing one.
use agentfs_fixtures::SERVERS;
use agentfs_tests::wait::until;
use agentfs_tests::{Home, artifact};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The port of every server here, in its instance.
const PORT: u16 = 5432;

/// Says first who is connected to what, then gives everything back, and a word when the client has ended its side.
const PYTHON_THREADS: &str = r#"
import socket, threading
def serve(connection):
    peer, own = connection.getpeername(), connection.getsockname()
    assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_DOMAIN) == socket.AF_INET
    assert connection.getblocking() and not connection.get_inheritable()
    connection.sendall(b"%s:%d %s:%d\n" % (peer[0].encode(), peer[1], own[0].encode(), own[1]))
    while data := connection.recv(65536):
        connection.sendall(data)
    connection.sendall(b"end")
    connection.close()
listener = socket.create_server(("", 5432))
while True:
    connection, address = listener.accept()
    assert address == connection.getpeername(), address
    threading.Thread(target=serve, args=(connection,)).start()
"#;

const PYTHON_ASYNCIO: &str = r#"
import asyncio
async def serve(reader, writer):
    peer, own = (writer.get_extra_info(name) for name in ("peername", "sockname"))
    writer.write(b"%s:%d %s:%d\n" % (peer[0].encode(), peer[1], own[0].encode(), own[1]))
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.write(b"end")
    writer.close()
async def main():
    async with await asyncio.start_server(serve, "0.0.0.0", 5432) as server:
        await server.serve_forever()
asyncio.run(main())
"#;

/// On a socket for both families, as Node's are.
const NODE: &str = r#"
require('net').createServer({allowHalfOpen: true}, socket => {
    const plain = address => { if (!address.startsWith('::ffff:')) throw address; return address.slice(7) };
    socket.write(`${plain(socket.remoteAddress)}:${socket.remotePort} ` +
        `${plain(socket.localAddress)}:${socket.localPort}\n`);
    socket.pipe(socket, {end: false});
    socket.on('end', () => socket.end('end'));
    socket.on('error', () => {});
}).listen(5432, '::');
"#;

/// poll(2) on a blocking listener, a child for each connection.
const PYTHON_FORKS: &str = r#"
import os, select, signal, socket
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
listener = socket.create_server(("127.0.0.1", 5432))
poll = select.poll()
poll.register(listener, select.POLLIN)
while True:
    poll.poll()
    connection, _ = listener.accept()
    if os.fork() == 0:
        listener.close()
        peer, own = connection.getpeername(), connection.getsockname()
        connection.sendall(b"%s:%d %s:%d\n" % (peer[0].encode(), peer[1], own[0].encode(), own[1]))
        while data := connection.recv(65536):
            connection.sendall(data)
        connection.sendall(b"end")
        os._exit(0)
    connection.close()
"#;

/// A forward of all ports of an instance.
struct Forward<'home> {
    home: &'home Home,
    address: String,
}

// === impl Forward ===

impl<'home> Forward<'home> {
    fn of(home: &'home Home, app: &str, instance: &str) -> Self {
        let added = home.call("forward.add", json!({ "app": app, "instance": instance }));
        Self { home, address: added["listen"].as_str().unwrap().to_owned() }
    }

    /// A connection to a port, once the forward serves it.
    fn connect(&self, port: u16) -> TcpStream {
        let address: SocketAddr = format!("{}:{port}", self.address).parse().unwrap();
        let stream = until(&format!("a forward at {address}"), || TcpStream::connect(address).ok());
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    fn info(&self) -> Value {
        let list = self.home.call("forward.list", json!({}));
        let forwards = list["forwards"].as_array().unwrap();
        forwards.iter().find(|forward| forward["listen"] == self.address).unwrap().clone()
    }

    /// Asserts that all connections were counted, and that at least one was handed over: a busy machine may let
    /// some of them miss their time, which the exchanged bytes must not show.
    fn has_handed(&self, connections: u64) {
        until("connections that were handed over", || {
            let (all, handed) = self.counts();
            (all == connections && handed > 0).then_some(())
        });
    }

    /// Connections so far, and those that the program got itself.
    fn counts(&self) -> (u64, u64) {
        let info = self.info();
        (info["connections"].as_u64().unwrap(), info["handed"].as_u64().unwrap())
    }
}

/// An app name that no other run of these tests has on this machine: an instance's own address comes from it.
fn app() -> String {
    format!("h{}", std::process::id())
}

/// What the program says of a connection: the client's address and its own.
fn introduction(stream: &TcpStream) -> (String, BufReader<&TcpStream>) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    (line.trim_end().to_owned(), reader)
}

/// Eight megabytes there and back at the same time, then the end of one side only.
fn exchange(stream: &TcpStream, megabytes: usize) {
    let (line, mut reader) = introduction(stream);
    let expected = format!("{} {}", stream.local_addr().unwrap(), stream.peer_addr().unwrap());
    assert_eq!(line, expected, "client and dialled address");
    let body: Vec<u8> = (0..megabytes << 20).map(|index| u8::try_from(index * 7 % 251).unwrap()).collect();
    let mut back = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut stream = stream;
            stream.write_all(&body).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        });
        reader.read_to_end(&mut back).unwrap();
    });
    assert!(back.strip_suffix(b"end") == Some(&*body), "{} bytes came back", back.len());
}

fn mirrors(instance: &str, command: &[&str]) {
    let home = Home::new();
    let app = app();
    let _running = home.wrap(&app, instance, command).spawn();
    home.listener(&app, instance, PORT);
    let forward = Forward::of(&home, &app, instance);
    for _ in 0..3 {
        exchange(&forward.connect(PORT), 8);
    }
    forward.has_handed(3);
}

#[test]
fn python_threads_get_the_connection() {
    mirrors("threads", &["python3", "-c", PYTHON_THREADS]);
}

#[test]
fn asyncio_gets_the_connection() {
    mirrors("asyncio", &["python3", "-c", PYTHON_ASYNCIO]);
}

#[test]
fn node_gets_the_connection() {
    mirrors("node", &["node", "-e", NODE]);
}

#[test]
fn forked_children_get_the_connection() {
    mirrors("forks", &["python3", "-c", PYTHON_FORKS]);
}

/// Every server of the model: threads, event loops (level and edge triggered), forked and reuse-port workers.
#[test]
fn every_server_answers_over_its_own_connection() {
    let home = Home::new();
    let app = app();
    for (index, server) in SERVERS.iter().enumerate() {
        let instance = format!("model-{index}");
        let command = artifact::server_command(server);
        let running = home.wrap(&app, &instance, &command).body(server.name).spawn();
        let listener = home.listener(&app, &instance, server.port);
        let forward = Forward::of(&home, &app, &instance);
        for _ in 0..8 {
            let mut stream = forward.connect(server.port);
            stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(
                answer.starts_with("HTTP/1.") && answer.contains(server.name),
                "{}: {answer}",
                server.name
            );
        }
        // A listener on [::1] alone takes no connection of IPv4.
        if listener.address.starts_with("[::1]") {
            assert_eq!(forward.counts(), (8, 0), "{}", server.name);
        } else {
            forward.has_handed(8);
        }
        drop(running);
    }
}

/// Workers that have changed their user, with the listener of a master that has not.
#[test]
fn nginx_workers_get_the_connection() {
    let home = Home::new();
    let app = app();
    let configuration = home.write(
        "nginx.conf",
        "daemon off; worker_processes 2; pid nginx.pid; error_log stderr;\n\
         events {}\n\
         http { access_log off; client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f;\n\
         uwsgi_temp_path u; scgi_temp_path s;\n\
         server { listen 5432; return 200 '$remote_addr:$remote_port $server_addr:$server_port'; } }\n",
    );
    let prefix = home.work().display().to_string();
    let configuration = configuration.display().to_string();
    let _running =
        home.wrap(&app, "nginx", &["nginx", "-e", "stderr", "-p", &prefix, "-c", &configuration]).spawn();
    home.listener(&app, "nginx", PORT);
    let forward = Forward::of(&home, &app, "nginx");
    for _ in 0..10 {
        let mut stream = forward.connect(PORT);
        let expected = format!("{} {}", stream.local_addr().unwrap(), stream.peer_addr().unwrap());
        for last in [false, true] {
            let connection = if last { "close" } else { "keep-alive" };
            write!(stream, "GET / HTTP/1.1\r\nHost: x\r\nConnection: {connection}\r\n\r\n").unwrap();
        }
        let mut answers = String::new();
        stream.read_to_string(&mut answers).unwrap();
        assert_eq!(answers.matches(&expected).count(), 2, "{answers}");
    }
    forward.has_handed(10);
}

/// A thousand connections at once, each answered, whichever way it goes.
#[test]
fn a_thousand_connections_lose_nothing() {
    let home = Home::new();
    let app = app();
    let _running = home.wrap(&app, "many", &["python3", "-c", PYTHON_ASYNCIO]).spawn();
    home.listener(&app, "many", PORT);
    let forward = Forward::of(&home, &app, "many");
    drop(forward.connect(PORT));
    let answered = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..20 {
            let (forward, answered) = (&forward, &answered);
            scope.spawn(move || {
                let open: Vec<TcpStream> = (0..50).map(|_| forward.connect(PORT)).collect();
                for (number, mut stream) in open.iter().enumerate() {
                    let text = format!("{thread} {number} ").repeat(100);
                    stream.write_all(text.as_bytes()).unwrap();
                    stream.shutdown(Shutdown::Write).unwrap();
                    let (line, mut reader) = introduction(stream);
                    assert!(line.starts_with(&stream.local_addr().unwrap().to_string()), "{line}");
                    let mut back = String::new();
                    reader.read_to_string(&mut back).unwrap();
                    assert_eq!(back.strip_suffix("end"), Some(&*text));
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(answered.into_inner(), 1000);
    let (connections, handed) = forward.counts();
    assert_eq!(connections, 1001);
    assert!(handed > 500, "only {handed} of them were handed over");
}

/// A connection that a program did not take in time comes to it all the same, once, with all of its bytes.
#[test]
fn a_program_that_accepts_late_gets_the_bytes() {
    let home = Home::new();
    let app = app();
    let script = "
import socket, sys
listener = socket.create_server(('', 5432))
listener.settimeout(1)
sys.stdin.readline()
connection, address = listener.accept()
text = b''
while data := connection.recv(100):
    text += data
print('got', text.decode(), address[1], flush=True)
try:
    print('another', listener.accept(), flush=True)
except TimeoutError:
    print('no other', flush=True)
";
    let mut running = home.wrap(&app, "late", &["python3", "-c", script]).open_input().spawn();
    home.listener(&app, "late", PORT);
    let forward = Forward::of(&home, &app, "late");
    let mut stream = forward.connect(PORT);
    stream.write_all(b"every byte").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    // The collector waits a quarter of a second for a greeting; then the bytes are behind a second connection.
    let tag = format!("@afs1/P/{}/", stream.local_addr().unwrap());
    until("the connection that passes bytes", || {
        std::fs::read_to_string("/proc/net/unix").unwrap().contains(&tag).then_some(())
    });
    running.write(b"go\n");
    running.wait_for(&format!("got every byte {}", stream.local_addr().unwrap().port()));
    running.wait_for("no other");
    assert_eq!(forward.counts(), (1, 0));
}

/// "programs whose accept goes past our hook": they see no byte that is not the client's.
#[test]
fn a_program_that_accepts_by_a_raw_call_sees_only_the_clients_bytes() {
    let home = Home::new();
    let app = app();
    let script = concat!(
        kernel!(),
        "
import os, socket
listener = socket.create_server(('', 5432))
accept4 = {'x86_64': 288, 'aarch64': 242}[platform.machine()]
while True:
    fd = kernel(accept4, listener.fileno())
    if fd < 0:
        raise OSError(-fd, 'accept4')
    data = os.read(fd, 100)
    if data:
        os.write(fd, b'read ' + data)
    os.close(fd)
"
    );
    let _running = home.wrap(&app, "raw", &["python3", "-c", script]).spawn();
    home.listener(&app, "raw", PORT);
    let forward = Forward::of(&home, &app, "raw");
    for _ in 0..3 {
        let mut stream = forward.connect(PORT);
        stream.write_all(b"mine").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "read mine");
    }
    assert_eq!(forward.counts(), (3, 0));
}

/// "killing the collector mid-connection (handed connections must survive)"
#[test]
fn a_connection_that_was_handed_over_outlives_the_collector() {
    let home = Home::new();
    let app = app();
    let _running = home.wrap(&app, "outlive", &["python3", "-c", PYTHON_ASYNCIO]).spawn();
    home.listener(&app, "outlive", PORT);
    let forward = Forward::of(&home, &app, "outlive");
    let stream = forward.connect(PORT);
    let (_, mut reader) = introduction(&stream);
    until("it is handed over", || (forward.counts() == (1, 1)).then_some(()));
    home.kill_daemon();
    (&stream).write_all(b"still here").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "still hereend");
}

/// A forward from another port passes bytes, because the program would see that port; `--handoff` does not mind,
/// and `--proxy` passes them always.
#[test]
fn the_port_that_is_dialled_decides() {
    let home = Home::new();
    let app = app();
    let _running = home.wrap(&app, "ports", &["python3", "-c", PYTHON_THREADS]).spawn();
    home.listener(&app, "ports", PORT);
    let target = format!("{app}/ports:{PORT}");
    for (option, handed) in [(None, 0), (Some("--handoff"), 1), (Some("--proxy"), 0)] {
        let mut arguments = vec!["forward", "--json", &target];
        arguments.extend(option);
        let added: Value = serde_json::from_str(&home.agentfs(&arguments).text()).unwrap();
        let listen = added["listen"].as_str().unwrap().to_owned();
        let stream = TcpStream::connect(&listen).unwrap();
        let (line, _) = introduction(&stream);
        let (client, own) = line.split_once(' ').unwrap();
        assert_eq!(client, stream.local_addr().unwrap().to_string(), "{option:?}");
        assert_eq!(own, if handed == 1 { listen.clone() } else { format!("127.0.0.1:{PORT}") }, "{option:?}");
        // The program may answer before its connection is counted.
        let count = |name: &str| {
            let list = home.call("forward.list", json!({}));
            let mut all = list["forwards"].as_array().unwrap().iter();
            all.find(|one| one["listen"] == *listen).unwrap()[name].as_u64().unwrap()
        };
        agentfs_tests::wait::until(&format!("the connection is counted, {option:?}"), || {
            (count("connections") == 1 && count("handed") == handed).then_some(())
        });
    }
    let _ = home.agentfs(&["forward", "--handoff", "--proxy", &target]).output().code(2);
}

/// "a hostile local user must not be able to inject a connection": who is neither of our user nor root hands nothing
/// over, even where the run dir were open to him.
#[test]
fn another_user_cannot_hand_anything_over() {
    // Only root can be other users.
    if !agentfs_tests::skip::is_root() {
        return;
    }
    let home = Home::of_user("nobody");
    let app = app();
    let running = home.wrap(&app, "hostile", &["python3", "-c", PYTHON_THREADS]).spawn();
    let socket = home.listener(&app, "hostile", PORT).socket;
    // The collector would close its folders again.
    home.kill_daemon();
    // Root is trusted, so somebody else is: `daemon`. The folders are opened for him, which agentfs never does.
    let open = |path: &Path| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
    Path::new(&socket).ancestors().take_while(|path| path.starts_with(home.root())).for_each(open);
    let script = "
import array, os, socket, sys
mine = socket.create_server(('127.0.0.1', 0))
client = socket.create_connection(mine.getsockname())
connection, _ = mine.accept()
token, writer = os.pipe()
os.write(writer, b'.')
carrier = socket.socket(socket.AF_UNIX)
carrier.bind(b'\\0afs1/H/%s:%d/1.%d' % (b'127.0.0.1', client.getsockname()[1], os.getpid()))
carrier.connect(sys.argv[1])
rights = array.array('i', [connection.fileno(), token])
carrier.sendmsg([b'H'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
carrier.settimeout(30)
client.settimeout(0.5)
print('on the carrier', carrier.recv(100) != b'')
try:
    print('on the connection', client.recv(100))
except TimeoutError:
    print('nothing on the connection')
";
    let said = std::process::Command::new("setpriv")
        .args([
            "--reuid",
            "daemon",
            "--regid",
            "daemon",
            "--clear-groups",
            "/usr/bin/python3",
            "-c",
            script,
            &socket,
        ])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&said.stdout);
    let expected = "on the carrier True\nnothing on the connection\n";
    assert_eq!(text, expected, "{}", String::from_utf8_lossy(&said.stderr));
    drop(running);
}
