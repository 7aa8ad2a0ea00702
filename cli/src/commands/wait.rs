//! `agentfs wait`: returns as soon as an instance can be reached. Asks the collector again and again, so that it also waits
//! for an instance that has not started, and outlives a collector that is killed.
use crate::args::WaitArguments;
use crate::autostart;
use crate::client::Client;
use crate::exit::Exit;
use crate::here;
use crate::hint::Failure;
use crate::pasted;
use crate::printer::Printer;
use crate::reference;
use crate::settings::Settings;
use agentfs_home::{Probe, Prober};
use agentfs_wire::control::{Snapshot, method};
use serde_json::json;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Pause between two attempts.
const PAUSE: Duration = Duration::from_millis(50);

/// How long one answer to a GET may take.
const ANSWER_TIME: Duration = Duration::from_secs(5);

/// Bytes of the first line of an answer.
const LINE_BYTES: u64 = 4096;

/// Runs the command.
///
/// # Errors
/// [`Exit::Timeout`] with what is missing; a name that means several instances; no collector.
pub(crate) fn run(
    arguments: &WaitArguments,
    settings: &Settings,
    printer: &Printer,
) -> Result<Exit, Failure> {
    let path = arguments.http.as_deref().map(request_path).transpose()?;
    let deadline = Instant::now() + arguments.timeout;
    let mut client = None;
    loop {
        let missing = match attempt(&mut client, path.as_deref(), arguments, settings, deadline)? {
            Ok(reached) => {
                printer.talk(&format!("{reached} can be reached"));
                return Ok(Exit::Success);
            }
            Err(missing) => missing,
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let seconds = arguments.timeout.as_secs_f32();
            let message = format!("waited {seconds} s, but {}", missing.message);
            let hint = missing.hint.unwrap_or_else(|| "run `agentfs ps` to see what is running".to_owned());
            return Err(Failure::new(Exit::Timeout, message).hint(hint));
        }
        std::thread::park_timeout(PAUSE.min(left));
    }
}

/// What can be reached, or what is missing.
type Attempt = Result<String, Failure>;

fn attempt(
    client: &mut Option<Client>,
    path: Option<&str>,
    arguments: &WaitArguments,
    settings: &Settings,
    deadline: Instant,
) -> Result<Attempt, Failure> {
    let connection = match client.take() {
        Some(client) => client,
        None => autostart::ensure(settings)?,
    };
    let connection = client.insert(connection);
    let Ok(snapshot) = connection.call::<Snapshot>(method::LIST, json!({})) else {
        // Killed a moment ago: the next attempt connects to the next one.
        *client = None;
        return Ok(Err(Failure::of("the collector does not answer")));
    };
    let name = arguments.instance.as_deref();
    let missing = |failure: Failure| match failure.exit {
        Exit::NotFound => Ok(Err(failure)),
        _ => Err(failure),
    };
    // The instance `main` may be about to start: that is what is waited for.
    let instance = match here::choose(name, settings, connection, &snapshot, None) {
        Ok(instance) => instance,
        Err(failure) => return missing(failure),
    };
    let port = arguments.port.or_else(|| pasted::port_of(name?));
    let listener = match reference::listener(instance, port) {
        Ok(listener) => listener,
        Err(failure) => return missing(failure),
    };
    let socket = Path::new(&listener.socket);
    let what = format!("port {} of {}/{}", listener.port, instance.app, instance.instance);
    if Prober::default().probe(socket) != Probe::Live {
        return Ok(Err(Failure::of(format_args!("{what} does not accept connections"))));
    }
    let Some(path) = path else { return Ok(Ok(what)) };
    let time = ANSWER_TIME.min(deadline.saturating_duration_since(Instant::now())).max(PAUSE);
    Ok(match get(socket, &instance.host, path, time) {
        Ok(status @ 200..400) => Ok(format!("{what} (GET {path} is answered with {status})")),
        Ok(status) => Err(Failure::of(format_args!("{what} answers GET {path} with {status}"))),
        Err(error) => Err(Failure::of(format_args!("{what} does not answer GET {path}: {error}"))),
    })
}

/// The status of the answer to a GET.
fn get(socket: &Path, host: &str, path: &str, time: Duration) -> std::io::Result<u16> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(time))?;
    stream.set_write_timeout(Some(time))?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\nUser-Agent: agentfs\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut line = Vec::new();
    BufReader::new(stream).take(LINE_BYTES).read_until(b'\n', &mut line)?;
    status(&line).ok_or_else(|| std::io::Error::other("its answer is not HTTP"))
}

/// The status in the first line of an answer: `HTTP/1.1 200 OK`.
fn status(line: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(line).ok()?.strip_prefix("HTTP/1.")?;
    let status: u16 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
    (100..600).contains(&status).then_some(status)
}

/// A path as it goes into a request line: it begins with a slash and has no blanks.
fn request_path(path: &str) -> Result<String, Failure> {
    if path.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        return Err(Failure::new(Exit::Usage, format_args!("`{path}` is not the path of a URL"))
            .hint("write it as in a URL, with %20 for a blank: /health"));
    }
    Ok(if path.starts_with('/') { path.to_owned() } else { format!("/{path}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_and_paths_are_read() {
        assert_eq!(status(b"HTTP/1.1 204 No Content\r\n"), Some(204));
        assert_eq!(status(b"HTTP/1.0 503\r\n"), Some(503));
        for line in [&b"SSH-2.0-OpenSSH\r\n"[..], b"", b"HTTP/1.1 x\r\n", b"HTTP/1.1 999 x\r\n", b"\xff"] {
            assert_eq!(status(line), None);
        }
        assert_eq!(request_path("health").unwrap(), "/health");
        assert!(request_path("/a b").is_err() && request_path("/a\r\nX: y").is_err());
    }
}
