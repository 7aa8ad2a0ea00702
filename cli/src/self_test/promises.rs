//! The promises, in the order in which they build on one another. Each starts its own programs on the stage
//! and compares what they print with what TCP would have shown. Each uses its own instance names: the name of
//! a program that was just killed is in use until its last process is gone.
use super::stage::{How, Program, Stage};
use super::verdict::{Broken, Seen};
use crate::program;
use agentfs_wire::limits::SOCKET_PATH_BYTES;
use std::ffi::OsStr;
use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::path::Path;

/// A promise, and the function that tests it: what was seen, or why it is broken.
type Promise = (&'static str, fn(&Stage) -> Result<Seen, Broken>);

/// Every promise.
pub(super) const ALL: [Promise; 14] = [
    ("bind", bind),
    ("connect", connect),
    ("two at once", two_instances),
    ("port in use", twice),
    ("port 0", port_zero),
    ("IPv6", version_6),
    ("*.localhost", names),
    ("host's ports", host),
    ("empty env", empty_environment),
    ("SIGKILL", after_kill),
    ("long names", long_names),
    ("deep home", deep_home),
    ("python3", python),
    ("node", node),
];

/// A server on the given port that handles one request after the other.
const PYTHON: &str = r#"
import socket, sys, threading
server = socket.socket()
server.bind(("127.0.0.1", int(sys.argv[1])))
server.listen()
def serve():
    while True:
        connection = server.accept()[0]
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\npython")
        connection.close()
threading.Thread(target=serve, daemon=True).start()
print("listening %s:%d" % server.getsockname(), flush=True)
sys.stdin.read()
"#;

/// The same.
const NODE: &str = r#"
require("http").createServer((_, answer) => answer.end("node")).listen(+process.argv[1], "127.0.0.1", function () {
  console.log("listening " + this.address().address + ":" + this.address().port);
});
process.stdin.on("end", () => process.exit()).resume();
"#;

/// "bind on a loopback address: a socket of the instance", and `getsockname` answers as TCP would.
fn bind(stage: &Stage) -> Result<Seen, Broken> {
    let port = stage.port();
    let wanted = local(port);
    let (_server, address) = serve(stage, How::Wrapped("check/bind"), &wanted, "one")?;
    expect("getsockname", &address, &wanted)?;
    let wildcard = format!("0.0.0.0:{}", other(port));
    let (_wide, address) = serve(stage, How::Wrapped("check/wide"), &wildcard, "wide")?;
    expect("getsockname", &address, &wildcard)?;
    holds(format!("{wanted}, which the host uses too, and {wildcard}"))
}

/// `accept`, `connect`, `getsockname` and `getpeername` of both ends.
fn connect(stage: &Stage) -> Result<Seen, Broken> {
    let target = local(stage.port());
    let (_server, _) = serve(stage, How::Wrapped("check/connect"), &target, "one")?;
    let answer = ask(stage, How::Inside("check/connect"), &target)?;
    expect("getpeername of the client", &answer.peer, &target)?;
    expect("the answer", &answer.text, "one")?;
    expect("getsockname of the accepted socket", &answer.servers_own, &target)?;
    expect("getpeername of the accepted socket", &answer.servers_peer, &answer.local)?;
    let client: SocketAddr = answer.local.parse().map_err(|_| format!("the client is `{}`", answer.local))?;
    if !client.ip().is_loopback() || client.port() == 0 {
        return Err(format!("getsockname of the client is {client}").into());
    }
    holds(format!("both ends report {client} and {target}"))
}

/// The same port twice at the same time, each under its name.
fn two_instances(stage: &Stage) -> Result<Seen, Broken> {
    let target = local(stage.port());
    let (_one, _) = serve(stage, How::Wrapped("check/one"), &target, "one")?;
    let (_two, _) = serve(stage, How::Wrapped("check/two"), &target, "two")?;
    for name in ["one", "two"] {
        expect("localhost", &ask(stage, How::Inside(&format!("check/{name}")), &target)?.text, name)?;
        let host = format!("{name}.check.localhost");
        let (status, body) = stage.get(&host)?;
        let first = body.split(' ').next().unwrap_or_default();
        if (status, first) != (200, name) {
            return Err(format!("http://{host}/ answers {status} `{body:.60}`").into());
        }
    }
    holds(format!("both listen on {target}; each is reached by localhost and by http://NAME.check.localhost"))
}

/// EADDRINUSE within an instance.
fn twice(stage: &Stage) -> Result<Seen, Broken> {
    let target = local(stage.port());
    let (_server, _) = serve(stage, How::Wrapped("check/twice"), &target, "one")?;
    match stage.probe(How::Inside("check/twice"), &["bind", &target])?.finish() {
        Ok(()) => Err(format!("{target} was bound twice in one instance").into()),
        Err(why) if why.contains("in use") => {
            holds("a second bind in the same instance fails, as it does natively")
        }
        Err(why) => Err(why.into()),
    }
}

fn port_zero(stage: &Stage) -> Result<Seen, Broken> {
    let (_server, address) = serve(stage, How::Wrapped("check/zero"), "127.0.0.1:0", "zero")?;
    if address.ends_with(":0") {
        return Err(format!("getsockname answers {address}").into());
    }
    expect("its answer", &ask(stage, How::Inside("check/zero"), &address)?.text, "zero")?;
    holds(format!("gave {address}"))
}

fn version_6(stage: &Stage) -> Result<Seen, Broken> {
    if let Err(error) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) {
        return Ok(Seen::NotTried(format!("this machine has no ::1: {error}")));
    }
    let target = format!("[::1]:{}", stage.port());
    let (_server, address) = serve(stage, How::Wrapped("check/six"), &target, "six")?;
    expect("getsockname", &address, &target)?;
    let answer = ask(stage, How::Inside("check/six"), &target)?;
    expect("getpeername", &answer.peer, &target)?;
    expect("the answer", &answer.text, "six")?;
    holds(format!("{} and {target}", answer.local))
}

/// `*.localhost` is loopback in wrapped programs, whatever the system's resolver says.
fn names(stage: &Stage) -> Result<Seen, Broken> {
    let target = local(stage.port());
    let (_server, _) = serve(stage, How::Wrapped("check/names"), &target, "one")?;
    let name = format!("any.thing.localhost:{}", stage.port());
    let answer = ask(stage, How::Inside("check/names"), &name)?;
    if let Some(address) = answer.resolved.iter().find(|address| !address.ip().is_loopback()) {
        return Err(format!("{name} resolves to {address}").into());
    }
    expect("the answer", &answer.text, "one")?;
    holds(format!("{name} is loopback inside"))
}

/// Ports that an instance does not serve are the host's, unless it is isolated.
fn host(stage: &Stage) -> Result<Seen, Broken> {
    let target = local(stage.port());
    expect("localhost", &ask(stage, How::Wrapped("check/host"), &target)?.text, "host")?;
    match stage.probe(How::Isolated("check/alone"), &["get", &target])?.finish() {
        Ok(()) => return Err(format!("an isolated instance reaches the host's {target}").into()),
        Err(why) if why.contains("refused") => {}
        Err(why) => return Err(why.into()),
    }
    holds(format!("the host's {target} is reached, but not with --isolate"))
}

/// A program that gives its children no environment keeps them in the instance.
fn empty_environment(stage: &Stage) -> Result<Seen, Broken> {
    let target = local(stage.port());
    let words = ["spawn", "replace", "serve", &target, "bare"];
    let (_server, address) = listening(stage.probe(How::Wrapped("check/bare"), &words)?)?;
    expect("getsockname", &address, &target)?;
    expect("the answer", &ask(stage, How::Inside("check/bare"), &target)?.text, "bare")?;
    holds("a child without an environment, and what it executed, stayed in the instance")
}

/// A port of a killed server refuses connections and is free at once.
fn after_kill(stage: &Stage) -> Result<Seen, Broken> {
    let target = local(stage.port());
    let program = stage.probe(How::Isolated("check/killed"), &["restart", &target])?;
    let (program, killed) = program.or_why(|program| program.value("killed"))?;
    let (program, bound) = program.or_why(|program| program.value("bound"))?;
    program.finish()?;
    if !killed.contains("refused") {
        return Err(format!("a connection to {target} after its server was killed: {killed}").into());
    }
    expect("the port after that", &bound, &target)?;
    holds(format!("{target} refuses connections and can be bound again at once"))
}

/// Names of the maximum length fit into the path of a socket.
fn long_names(stage: &Stage) -> Result<Seen, Broken> {
    let name = "an-app-of-exactly-24-byt/an-instance-of-20-by";
    let target = "127.0.0.1:65535";
    let (_server, address) = serve(stage, How::Wrapped(name), target, "long")?;
    expect("getsockname", &address, target)?;
    expect("the answer", &ask(stage, How::Inside(name), target)?.text, "long")?;
    holds(format!("{name} listens on {target}"))
}

/// If the path of a home is too long for sockets, they are below /tmp.
fn deep_home(stage: &Stage) -> Result<Seen, Broken> {
    let target = local(stage.port());
    let (_server, address) = serve(stage, How::Deep("check/one"), &target, "deep")?;
    expect("getsockname", &address, &target)?;
    expect("the answer", &ask(stage, How::InsideDeep("check/one"), &target)?.text, "deep")?;
    let paths = stage.deep_home();
    let length = paths.home.join("run").as_os_str().len();
    holds(format!(
        "a run dir of {length} bytes (paths have at most {SOCKET_PATH_BYTES}) becomes {}",
        paths.base.display()
    ))
}

fn python(stage: &Stage) -> Result<Seen, Broken> {
    installed(stage, "python3", &["-c", PYTHON], "python")
}

fn node(stage: &Stage) -> Result<Seen, Broken> {
    installed(stage, "node", &["-e", NODE], "node")
}

/// A server in a language whose interpreter is installed on this machine.
fn installed(stage: &Stage, name: &str, arguments: &[&str], text: &str) -> Result<Seen, Broken> {
    let Ok(path) = program::find(OsStr::new(name), stage.search_path()) else {
        return Ok(Seen::NotTried(format!("{name} is not in PATH")));
    };
    if cfg!(target_os = "macos") && is_apples(&path) {
        let path = path.display();
        return Ok(Seen::NotTried(format!(
            "macOS protects Apple's {path}; one from Homebrew is not protected"
        )));
    }
    let target = local(stage.port());
    let instance = format!("check/{name}");
    let port = stage.port().to_string();
    let mut command = vec![path.as_os_str()];
    command.extend(arguments.iter().map(OsStr::new));
    command.push(OsStr::new(&port));
    let started = listening(stage.start(How::Wrapped(&instance), &command)?);
    let (_server, address) = started.map_err(|broken| blame(broken, &path))?;
    expect("getsockname", &address, &target)?;
    let answer = ask(stage, How::Inside(&instance), &target)?;
    expect("the answer", &answer.text, text)?;
    holds(path.display().to_string())
}

// --- what the promises share

/// What a client saw.
struct Answer {
    resolved: Vec<SocketAddr>,
    local: String,
    peer: String,
    text: String,
    /// The server's own address, and its client's, as the server sees them.
    servers_own: String,
    servers_peer: String,
}

/// Starts a server. Returns its program and the address that it reports.
fn serve(stage: &Stage, how: How<'_>, address: &str, text: &str) -> Result<(Program, String), Broken> {
    listening(stage.probe(how, &["serve", address, text])?)
}

fn listening(program: Program) -> Result<(Program, String), Broken> {
    let started = program.or_why(Program::listening);
    let (program, address) = started.map_err(intercepted)?;
    Ok((program, address.to_string()))
}

/// Every port here is in use on the host: a program that gets this error was not intercepted.
fn intercepted(why: String) -> Broken {
    if !why.to_lowercase().contains("in use") {
        return why.into();
    }
    let hint = "run `agentfs doctor` to check whether the interposer can be loaded; docs/macos.md says what else keeps it out";
    Broken {
        why: format!("its calls are not intercepted: it got the host's port: {why}"),
        hint: Some(hint.to_owned()),
    }
}

/// Adds the program's path, because the program itself may be at fault.
fn blame(broken: Broken, path: &Path) -> Broken {
    Broken { why: format!("{}: {}", path.display(), broken.why), ..broken }
}

fn ask(stage: &Stage, how: How<'_>, target: &str) -> Result<Answer, Broken> {
    let program = stage.probe(how, &["get", target])?;
    let (program, resolved) = program.or_why(|program| program.value("resolved"))?;
    let (program, local) = program.or_why(|program| program.value("local"))?;
    let (program, peer) = program.or_why(|program| program.value("peer"))?;
    let (program, body) = program.or_why(|program| program.value("body"))?;
    program.finish()?;
    let mut words = body.split(' ').map(str::to_owned);
    let mut word = || words.next().unwrap_or_default();
    let resolved = resolved.split(',').map(str::parse::<SocketAddr>).collect::<Result<Vec<_>, _>>();
    let resolved =
        resolved.map_err(|_| format!("a client resolved {target} to something that is not an address"))?;
    Ok(Answer { resolved, local, peer, text: word(), servers_own: word(), servers_peer: word() })
}

/// Whether a program is in a folder that System Integrity Protection protects from the library.
fn is_apples(path: &Path) -> bool {
    ["/usr/bin", "/bin", "/System"].iter().any(|folder| path.starts_with(folder))
}

fn local(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// Another port, never 0.
fn other(port: u16) -> u16 {
    if port == u16::MAX { port - 1 } else { port + 1 }
}

fn expect(what: &str, found: &str, wanted: &str) -> Result<(), Broken> {
    if found == wanted { Ok(()) } else { Err(format!("{what} is `{found}`, not `{wanted}`").into()) }
}

fn holds(found: impl Into<String>) -> Result<Seen, Broken> {
    Ok(Seen::Holds(found.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_means_that_nobody_intercepted() {
        let broken = intercepted("cannot bind 127.0.0.1:4: Address already in use (os error 98)".to_owned());
        assert!(broken.why.contains("not intercepted") && broken.hint.is_some());
        let broken = intercepted("cannot find the program `x`".to_owned());
        assert!(!broken.why.contains("not intercepted") && broken.hint.is_none());
    }

    #[test]
    fn apples_programs_are_known_by_their_folders() {
        assert!(is_apples(Path::new("/usr/bin/python3")) && is_apples(Path::new("/System/Library/x")));
        assert!(
            !is_apples(Path::new("/usr/local/bin/node")) && !is_apples(Path::new("/opt/homebrew/bin/node"))
        );
    }

    #[test]
    fn a_difference_is_shown() {
        assert_eq!(expect("x", "a", "a"), Ok(()));
        assert_eq!(expect("x", "a", "b").unwrap_err().why, "x is `a`, not `b`");
    }
}
