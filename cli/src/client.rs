//! The client's end of the control socket: one blocking connection, JSON lines both ways.
use crate::hint::Failure;
use agentfs_wire::control::{Reply, Request, SubscribeParams, Subscribed, method};
use agentfs_wire::event::Event;
use agentfs_wire::limits::CONTROL_LINE_BYTES;
use agentfs_wire::paths::Paths;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// How long an ordinary reply may take. The collector answers in microseconds; one that takes this long is
/// stuck.
pub(crate) const REPLY_TIME: Duration = Duration::from_secs(10);

/// A connection to the collector.
#[derive(Debug)]
pub(crate) struct Client {
    stream: BufReader<UnixStream>,
    next: u64,
}

/// A request that was sent.
#[derive(Debug)]
pub(crate) struct Asked {
    id: u64,
    method: &'static str,
}

/// A subscription.
#[derive(Debug)]
pub(crate) struct Events {
    stream: BufReader<UnixStream>,
    /// The part of a line that has arrived.
    line: Vec<u8>,
}

/// Result of waiting for an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// An event.
    Event(Box<Event>),
    /// None within the time.
    Quiet,
    /// The collector has gone.
    Closed,
}

// === impl Client ===

impl Client {
    /// Connects to the collector of a home.
    ///
    /// # Errors
    /// What the system says; `NotFound` and `ConnectionRefused` mean that no collector is running.
    pub(crate) fn connect(paths: &Paths) -> io::Result<Self> {
        Self::connect_within(paths, REPLY_TIME)
    }

    /// Connects to the collector of a home. Connecting and each reply take at most `time`.
    ///
    /// # Errors
    /// As for [`Self::connect`]; `WouldBlock` if the collector does not accept in time.
    pub(crate) fn connect_within(paths: &Paths, time: Duration) -> io::Result<Self> {
        let address = UnixAddr::new(&paths.control)?;
        let own = socket(AddressFamily::Unix, SockType::Stream, SockFlag::empty(), None)?;
        fcntl(&own, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        let stream = UnixStream::from(own);
        // This limits connect(2) too, which waits while the backlog is full.
        stream.set_write_timeout(Some(time))?;
        connect(stream.as_raw_fd(), &address)?;
        stream.set_read_timeout(Some(time))?;
        Ok(Self { stream: BufReader::new(stream), next: 1 })
    }

    /// Connects, or reports that no collector is running.
    ///
    /// # Errors
    /// [`Exit::NotFound`](crate::exit::Exit::NotFound) where none does.
    pub(crate) fn require(paths: &Paths) -> Result<Self, Failure> {
        Self::connect(paths).map_err(|error| {
            let message = match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                    "no collector is running".to_owned()
                }
                _ => format!("cannot connect to {}: {error}", paths.control.display()),
            };
            Failure::new(crate::exit::Exit::NotFound, message).hint("run `agentfs daemon start`")
        })
    }

    /// Calls a method.
    ///
    /// # Errors
    /// What the collector answers, or that it does not answer.
    pub(crate) fn call<R: DeserializeOwned>(
        &mut self,
        method: &'static str,
        params: impl Serialize,
    ) -> Result<R, Failure> {
        let asked = self.ask(method, params)?;
        self.answer(&asked)
    }

    /// Sends a request and does not wait: the collector works on it while we do something else, and several requests
    /// are answered in their order.
    ///
    /// # Errors
    /// The collector has gone.
    pub(crate) fn ask(&mut self, method: &'static str, params: impl Serialize) -> Result<Asked, Failure> {
        let params = serde_json::to_value(params).map_err(|error| lost(method, &error.into()))?;
        let id = self.send(method, params).map_err(|error| lost(method, &error))?;
        Ok(Asked { id, method })
    }

    /// Waits for the answer to a request. Answers to earlier ones that nobody has waited for are dropped.
    ///
    /// # Errors
    /// What the collector answers, or that it does not answer.
    pub(crate) fn answer<R: DeserializeOwned>(&mut self, asked: &Asked) -> Result<R, Failure> {
        let Asked { id, method } = *asked;
        let reply = self.receive(id).map_err(|error| lost(method, &error))?;
        let value = match (reply.result, reply.error) {
            (_, Some(error)) => return Err(error.into()),
            (result, None) => result.unwrap_or(Value::Null),
        };
        serde_json::from_value(value)
            .map_err(|error| Failure::of(format_args!("cannot read the answer to {method}: {error}")))
    }

    /// Turns the connection into a subscription.
    ///
    /// # Errors
    /// As for [`Self::call`].
    pub(crate) fn subscribe(mut self, params: &SubscribeParams) -> Result<Events, Failure> {
        let _: Subscribed = self.call(method::SUBSCRIBE, params)?;
        self.stream.get_ref().set_read_timeout(None).map_err(|error| lost(method::SUBSCRIBE, &error))?;
        Ok(Events { stream: self.stream, line: Vec::new() })
    }

    /// Checks whether the collector answers.
    ///
    /// # Errors
    /// `UnexpectedEof`, `ConnectionReset` or `BrokenPipe` if the collector goes away; else what the system
    /// says.
    pub(crate) fn ping(&mut self) -> io::Result<()> {
        let id = self.send(method::PING, Value::Null)?;
        self.receive(id).map(drop)
    }

    /// Writes one request. Returns its number.
    fn send(&mut self, method: &str, params: Value) -> io::Result<u64> {
        let id = self.next;
        self.next += 1;
        let request = Request { id: id.into(), method: method.to_owned(), params };
        let mut line = serde_json::to_vec(&request)?;
        line.push(b'\n');
        self.stream.get_mut().write_all(&line)?;
        Ok(id)
    }

    /// Reads the reply to the request with this number.
    fn receive(&mut self, id: u64) -> io::Result<Reply> {
        loop {
            let mut answer = Vec::new();
            let limit = u64::try_from(CONTROL_LINE_BYTES).unwrap_or(u64::MAX);
            if (&mut self.stream).take(limit).read_until(b'\n', &mut answer)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let reply: Reply = serde_json::from_slice(&answer)?;
            // One without a number is about a line that could not be read.
            if reply.id.as_u64().is_none_or(|replied| replied >= id) {
                return Ok(reply);
            }
        }
    }
}

// === impl Events ===

impl Events {
    /// A second handle of the connection, to end the wait for events.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn stopper(&self) -> io::Result<UnixStream> {
        self.stream.get_ref().try_clone()
    }

    /// Waits for the next event, for ever or for `time`.
    ///
    /// # Errors
    /// A line is not an event, or the connection fails.
    pub(crate) fn next(&mut self, time: Option<Duration>) -> Result<Next, Failure> {
        // A zero timeout means "for ever" to the system.
        let time = time.map(|time| time.max(Duration::from_millis(1)));
        self.stream.get_ref().set_read_timeout(time).map_err(|error| lost("event", &error))?;
        match self.stream.read_until(b'\n', &mut self.line) {
            Ok(0) => Ok(Next::Closed),
            Ok(_) => {
                let event = serde_json::from_slice(&self.line);
                self.line.clear();
                let event =
                    event.map_err(|error| Failure::of(format_args!("cannot read an event: {error}")))?;
                Ok(Next::Event(Box::new(event)))
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Ok(Next::Quiet),
                io::ErrorKind::ConnectionReset => Ok(Next::Closed),
                _ => Err(lost("event", &error)),
            },
        }
    }
}

fn lost(what: &str, error: &io::Error) -> Failure {
    let message = match error.kind() {
        io::ErrorKind::UnexpectedEof => format!("the collector closed the connection ({what})"),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            format!("the collector does not answer ({what})")
        }
        _ => format!("cannot talk to the collector ({what}): {error}"),
    };
    Failure::of(message).hint(
        "run `agentfs daemon status` to see whether it is running; its log is collector.log in AGENTFS_HOME",
    )
}
