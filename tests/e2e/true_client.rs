//! "the true client address reaches the app in proxy mode as well": the router connects in its client's name to what
//! the library listens on, and no app sees a request of one machine under the address of another.
use super::handover::{Client, RAW};
use agentfs_tests::wait::until;
use agentfs_tests::{Home, Process};
use serde_json::json;
use std::net::Shutdown;

const PORT: u16 = 8080;

/// Clients of several addresses of this machine, one after the other, over kept connections; the program answers
/// with its peer. A later client of an address uses a connection of an earlier one again, unless that one's answer was
/// there before the router had put the connection back.
#[cfg(target_os = "linux")]
const CLIENTS: &str = r#"
import http.client, json, sys
port = int(sys.argv[1])
def client(address):
    connection = http.client.HTTPConnection("127.0.0.1", port, source_address=(address, 0))
    connection.connect()
    return connection
def ask(connection):
    connection.request("GET", "/", headers={"Host": "one.shop.localhost"})
    return connection.getresponse().read().decode().split(" ")[0]
def own(connection):
    return "%s:%d" % connection.sock.getsockname()
addresses = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
first = [client(address) for address in addresses]
for _ in range(20):
    for connection in first:
        assert ask(connection) == own(connection), (ask(connection), own(connection))
known = {address: {own(connection)} for address, connection in zip(addresses, first)}
for _ in range(20):
    for address in addresses:
        connection = client(address)
        known[address].add(own(connection))
        for _ in range(2):
            peer = ask(connection)
            assert peer in known[address], (peer, known[address])
        connection.close()
print("all as it should be")
"#;

/// A server on the socket that an app may make by itself, which the library leaves alone: it answers with its peer.
const BY_HAND: &str = r#"
import os, socket
listener = socket.socket(socket.AF_UNIX)
listener.bind(os.environ["AGENTFS_SOCKET"])
listener.listen()
while True:
    connection, peer = listener.accept()
    assert peer == connection.getpeername(), peer
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    text = b"peer " + repr(peer).encode()
    connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(text) + text)
    connection.close()
"#;

fn raw(home: &Home) -> Process<'_> {
    let running = home.wrap("shop", "one", &["python3", "-c", RAW, "", "accept"]).spawn();
    home.listener("shop", "one", PORT);
    running
}

/// Connections that the router made to apps.
fn connects(home: &Home) -> u64 {
    let metrics = home.call("metrics", json!({}));
    let text = metrics["text"].as_str().unwrap();
    let name = "agentfs_router_upstream_connects_total ";
    text.lines().find_map(|line| line.strip_prefix(name)).unwrap().parse().unwrap()
}

fn get(client: &mut Client) -> String {
    client.send("GET / HTTP/1.1\r\nHost: one.shop.localhost\r\n\r\n");
    client.answer().1.split(' ').next().unwrap().to_owned()
}

/// Loopback has a whole network of addresses here.
#[cfg(target_os = "linux")]
#[test]
fn each_machine_has_connections_of_its_own_and_few() {
    let home = Home::new();
    let _running = raw(&home);
    let port = home.router_port().to_string();
    let said = home.program("python3").args(["-c", CLIENTS, &port]).text();
    assert_eq!(said, "all as it should be\n");
    let connects = connects(&home);
    assert!((3..=30).contains(&connects), "{connects} connections for 63 clients at three addresses");
}

/// A connection that changes its protocol is made for its client alone, and shows its very port.
#[test]
fn an_upgraded_connection_has_its_clients_port() {
    let home = Home::new();
    let _running = raw(&home);
    let mut first = Client::to(&home);
    let own = first.stream.local_addr().unwrap().to_string();
    assert_eq!(get(&mut first), own);
    let mut second = Client::to(&home);
    // The first one's, unless its answer was there before the router had put it back.
    let kept = get(&mut second);
    assert!([own, second.stream.local_addr().unwrap().to_string()].contains(&kept), "{kept}");
    let before = connects(&home);
    let mut client = Client::to(&home);
    client.send("GET / HTTP/1.1\r\nHost: one.shop.localhost\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
    assert!(client.head().starts_with("HTTP/1.1 101 "));
    let line = format!("{}\n", client.stream.local_addr().unwrap());
    assert_eq!(client.take(line.len()), line);
    client.send("both ways");
    assert_eq!(client.take(9), "both ways");
    assert_eq!(connects(&home), before + 1);
    // What was kept is kept still.
    assert_eq!(get(&mut second), kept);
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.rest(), "end");
}

/// A program that made its socket by itself sees no name: it would not know what to make of it.
#[test]
fn a_socket_that_was_made_by_hand_sees_no_name() {
    let home = Home::new();
    let _running = home.wrap("shop", "one", &["python3", "-c", BY_HAND]).spawn();
    let answer =
        until("the program answers", || Some(home.get("one.shop.localhost")).filter(|it| it.status == 200));
    assert_eq!(answer.body, "peer ''");
}
