//! `agentfs probe`: the small programs that `doctor --self-test` starts. They use only the standard library's
//! sockets, like any other program, and know nothing of agentfs. They print what they find, one `WORD VALUE`
//! per line. If the system refuses something, they exit with its message.
use crate::args::{ProbeAction, ProbeArguments};
use crate::exit::Exit;
use crate::hint::Failure;
use crate::printer::Printer;
use crate::program::own_binary;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long the other end may take for each step.
const PATIENCE: Duration = Duration::from_secs(10);

/// Most bytes of a request or an answer that are read.
const MESSAGE_BYTES: u64 = 64 * 1024;

/// Runs the program.
///
/// # Errors
/// What the system refuses.
pub(crate) fn run(arguments: &ProbeArguments, printer: &Printer) -> Result<Exit, Failure> {
    match &arguments.action {
        ProbeAction::Serve { address, text } => serve(*address, text, printer),
        ProbeAction::Get { target } => get(target, printer),
        ProbeAction::Bind { address } => {
            let listener = listen(*address)?;
            say(printer, "bound", own_address(&listener)?)?;
            Ok(Exit::Success)
        }
        ProbeAction::Restart { address } => restart(*address, printer),
        ProbeAction::Spawn { arguments } => {
            let status = anew(arguments)?.status().map_err(|error| cannot("start a child", &error))?;
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            let code = code.or_else(|| u8::try_from(128 + status.signal()?).ok());
            Ok(Exit::Program(code.unwrap_or(1)))
        }
        ProbeAction::Replace { arguments } => Err(cannot("execute", &anew(arguments)?.exec())),
    }
}

/// Answers every request with `text` and the two addresses that it sees. Ends when standard input ends, so it
/// never outlives the process that started it.
fn serve(address: SocketAddr, text: &str, printer: &Printer) -> Result<Exit, Failure> {
    let listener = listen(address)?;
    say(printer, "listening", own_address(&listener)?)?;
    let body = text.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let body = body.clone();
            // A client that goes away is not an error.
            std::thread::spawn(move || answer(stream, &body));
        }
    });
    io::copy(&mut io::stdin(), &mut io::sink()).map_err(|error| cannot("read standard input", &error))?;
    Ok(Exit::Success)
}

fn answer(mut stream: TcpStream, text: &str) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let (local, peer) = (stream.local_addr()?, stream.peer_addr()?);
    let mut lines = BufReader::new(&stream).take(MESSAGE_BYTES);
    let mut line = String::new();
    while lines.read_line(&mut line)? > 2 {
        line.clear();
    }
    let body = format!("{text} {local} {peer}");
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes())
}

fn get(target: &str, printer: &Printer) -> Result<Exit, Failure> {
    let addresses: Vec<SocketAddr> =
        target.to_socket_addrs().map_err(|error| cannot(&format!("resolve {target}"), &error))?.collect();
    let list: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
    say(printer, "resolved", list.join(","))?;
    let mut stream = TcpStream::connect(addresses.as_slice())
        .map_err(|error| cannot(&format!("connect to {target}"), &error))?;
    let failed = |error: io::Error| cannot(&format!("talk to {target}"), &error);
    say(printer, "local", stream.local_addr().map_err(failed)?)?;
    say(printer, "peer", stream.peer_addr().map_err(failed)?)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    // In one write: a server may answer and close after the first.
    let request = format!("GET / HTTP/1.1\r\nHost: {target}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let mut answer = String::new();
    stream.take(MESSAGE_BYTES).read_to_string(&mut answer).map_err(failed)?;
    say(printer, "body", answer.rsplit("\r\n\r\n").next().unwrap_or_default())?;
    Ok(Exit::Success)
}

/// A server is killed; its port refuses, and can be bound again at once.
fn restart(address: SocketAddr, printer: &Printer) -> Result<Exit, Failure> {
    let binary = own_binary().map_err(|error| cannot("find this program", &error))?;
    let mut command = Command::new(binary);
    command.args(["probe", "serve"]).arg(address.to_string()).arg("first");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|error| cannot("start a server", &error))?;
    let mut line = String::new();
    if let Some(output) = child.stdout.take() {
        BufReader::new(output).read_line(&mut line).map_err(|error| cannot("read its output", &error))?;
    }
    let reached = TcpStream::connect(address);
    // It is our own child, so we wait for it whatever kill returns.
    let _ = child.kill();
    child.wait().map_err(|error| cannot("wait for a server", &error))?;
    reached.map_err(|error| cannot(&format!("connect to the server on {address}"), &error))?;
    let after = match TcpStream::connect(address) {
        Ok(_) => "accepted".to_owned(),
        Err(error) => error.kind().to_string(),
    };
    say(printer, "killed", after)?;
    say(printer, "bound", own_address(&listen(address)?)?)?;
    Ok(Exit::Success)
}

/// This program with other arguments and an empty environment.
fn anew(arguments: &[OsString]) -> Result<Command, Failure> {
    let binary = own_binary().map_err(|error| cannot("find this program", &error))?;
    let mut command = Command::new(binary);
    command.arg("probe").args(arguments).env_clear();
    Ok(command)
}

fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).map_err(|error| cannot(&format!("bind {address}"), &error))
}

fn own_address(listener: &TcpListener) -> Result<SocketAddr, Failure> {
    listener.local_addr().map_err(|error| cannot("ask a listener for its address", &error))
}

fn say(printer: &Printer, word: &str, value: impl std::fmt::Display) -> Result<(), Failure> {
    printer.data(&format!("{word} {value}\n")).map(drop)
}

fn cannot(action: &str, error: &io::Error) -> Failure {
    Failure::of(format_args!("cannot {action}: {error}"))
}
