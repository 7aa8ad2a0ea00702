//! A client of the control socket: one request, one reply; and a raw connection for hostile input.
use agentfs_wire::control::{ControlError, Reply, Request};
use agentfs_wire::event::Event;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Error, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long a reply may take before the connection counts as broken.
const REPLY_TIME: Duration = Duration::from_secs(20);

/// A connection to a control socket.
#[derive(Debug)]
pub struct Control {
    /// Both directions of the one socket.
    stream: BufReader<UnixStream>,
}

// === impl Control ===

impl Control {
    /// Connects to the control socket at `path`.
    ///
    /// # Errors
    /// What connect(2) says: nobody listens.
    pub fn connect(path: &Path) -> std::io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(REPLY_TIME))?;
        stream.set_write_timeout(Some(REPLY_TIME))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Sends a request and reads its reply.
    ///
    /// # Errors
    /// The outer error: the connection broke. The inner one: the collector refused.
    pub fn call(&mut self, method: &str, params: Value) -> std::io::Result<Result<Value, ControlError>> {
        let request = Request { id: json!(1), method: method.to_owned(), params };
        self.send(format!("{}\n", serde_json::to_string(&request)?).as_bytes())?;
        let reply = self.reply()?;
        match (reply.result, reply.error) {
            (Some(result), None) => Ok(Ok(result)),
            (None, Some(error)) => Ok(Err(error)),
            both => Err(Error::new(ErrorKind::InvalidData, format!("a reply has one of both: {both:?}"))),
        }
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// What write(2) says.
    pub fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Reads one reply line.
    ///
    /// # Errors
    /// The connection ended, or the line is no reply.
    pub fn reply(&mut self) -> std::io::Result<Reply> {
        Ok(serde_json::from_str(&self.line()?)?)
    }

    /// Reads one event line of a subscription.
    ///
    /// # Errors
    /// The connection ended, nothing came in time, or the line is no event.
    pub fn event(&mut self) -> std::io::Result<Event> {
        Ok(serde_json::from_str(&self.line()?)?)
    }

    /// Gives up waiting for a line after `time`.
    ///
    /// # Errors
    /// What setsockopt(2) says.
    pub fn set_patience(&mut self, time: Duration) -> std::io::Result<()> {
        self.stream.get_mut().set_read_timeout(Some(time))
    }

    fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(line),
        }
    }
}
