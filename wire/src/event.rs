//! Journal events, numbered. A subscription gets one JSON object per line; `json` defines the format.
mod json;

/// The kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// [`What::InstanceStarted`]
    InstanceStarted,
    /// [`What::InstanceEnded`]
    InstanceEnded,
    /// [`What::ListenerUp`]
    ListenerUp,
    /// [`What::ListenerDown`]
    ListenerDown,
    /// [`What::ListenerRenamed`]
    ListenerRenamed,
    /// [`What::Call`]
    Call,
    /// [`What::ProcessExited`]
    ProcessExited,
    /// [`What::RouteAdded`]
    RouteAdded,
    /// [`What::RouteRemoved`]
    RouteRemoved,
    /// [`What::CollectorStarted`]
    CollectorStarted,
    /// [`What::Request`] and [`What::RequestsMissed`]
    Request,
    /// [`What::Warning`]
    Warning,
    /// [`What::Lagged`]
    Lagged,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Number in the journal, from 1, without gaps within one collector's life.
    pub sequence: u64,
    /// Unix time in milliseconds.
    pub time_ms: u64,
    /// What happened.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// An instance was claimed or first seen.
    InstanceStarted {
        /// The instance.
        of: Who,
        /// The process of `agentfs wrap`, if the instance was started by it.
        pid: Option<u32>,
        /// Its command line.
        command: Option<String>,
    },
    /// An instance has no processes and no listeners any more.
    InstanceEnded {
        /// The instance.
        of: Who,
    },
    /// A listener accepts connections.
    ListenerUp(Listener),
    /// A listener is gone.
    ListenerDown(Listener),
    /// A listener has another host name, because another port is its instance's face.
    ListenerRenamed(Listener),
    /// An intercepted call.
    Call(Box<Call>),
    /// A known process ended.
    ProcessExited {
        /// Its instance.
        of: Who,
        /// The process.
        pid: u32,
    },
    /// A route was added by hand.
    RouteAdded {
        /// Its host name.
        host: String,
        /// Its target, as given.
        target: String,
    },
    /// A route was removed by hand.
    RouteRemoved {
        /// Its host name.
        host: String,
    },
    /// The collector started; the state before that was rebuilt from the run dir.
    CollectorStarted {
        /// Its process.
        pid: u32,
    },
    /// A request went through the router. Sent only to subscriptions that ask for requests; not kept and not
    /// numbered: `sequence` is that of the last event before it.
    Request(Box<Request>),
    /// Requests that a subscription asked for but did not get.
    RequestsMissed {
        /// How many.
        missed: u64,
    },
    /// Something in the collector failed.
    Warning {
        /// The message, for people.
        text: String,
    },
    /// The subscriber was too slow, or asked for events that are no longer kept.
    Lagged {
        /// How many events it missed.
        missed: u64,
    },
}

/// An instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// Its app.
    pub app: String,
    /// Its name.
    pub instance: String,
}

/// A listener that started or ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its instance.
    pub of: Who,
    /// The process that listens, if known.
    pub pid: Option<u32>,
    /// The address that the program bound, `127.0.0.1:8080`. A socket made by hand has none.
    pub address: Option<String>,
    /// Path of its socket.
    pub socket: String,
    /// Its host name.
    pub host: String,
}

/// An intercepted call. Its fields are strings, not enums: a newer library may have other values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The instance that called.
    pub of: Who,
    /// The process, if known.
    pub pid: Option<u32>,
    /// For a connect to a port of the host: the process that `wrap` or `exec` became and that started this one, if known.
    pub command: Option<u32>,
    /// Name of the process.
    pub program: Option<String>,
    /// `bind`, `listen`, `accept`, `connect`, `exec` or `start`.
    pub call: String,
    /// Descriptor of the call.
    pub fd: Option<i32>,
    /// Address as the program named it, `127.0.0.1:8080`.
    pub address: Option<String>,
    /// The other end.
    pub peer: Option<String>,
    /// `rewritten`, `passed` or `refused`.
    pub outcome: String,
    /// Why it was passed or refused, in snake case (see `notice::Why`).
    pub why: Option<String>,
    /// Name of the errno, `EADDRINUSE`.
    pub errno: Option<String>,
    /// Path of the listener's socket.
    pub socket: Option<String>,
    /// The program that `exec` or `start` is about; for a `bind` that failed with `EADDRINUSE`, who has the port, for
    /// people.
    pub file: Option<String>,
}

/// A request that went through the router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The instance that answered, if it was one.
    pub of: Option<Who>,
    /// Its method.
    pub method: String,
    /// Its host name.
    pub host: String,
    /// Path and query, cut if they are long.
    pub path: String,
    /// How it ended.
    pub end: RequestEnd,
    /// Microseconds from the request's head to the end of the answer.
    pub duration_us: u64,
    /// Bytes of the answer's body.
    pub bytes: u64,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestEnd {
    /// Answered with this status.
    Answered(u16),
    /// The client left before the answer.
    ClientLeft,
    /// The client's connection was handed to the app: the answer and later requests on the connection are not
    /// known.
    HandedOver,
}

// === impl Event ===

impl Event {
    /// Its kind.
    pub fn kind(&self) -> EventKind {
        self.what.kind()
    }
}

// === impl What ===

impl What {
    /// Its kind.
    pub fn kind(&self) -> EventKind {
        match self {
            Self::InstanceStarted { .. } => EventKind::InstanceStarted,
            Self::InstanceEnded { .. } => EventKind::InstanceEnded,
            Self::ListenerUp(_) => EventKind::ListenerUp,
            Self::ListenerDown(_) => EventKind::ListenerDown,
            Self::ListenerRenamed(_) => EventKind::ListenerRenamed,
            Self::Call(_) => EventKind::Call,
            Self::ProcessExited { .. } => EventKind::ProcessExited,
            Self::RouteAdded { .. } => EventKind::RouteAdded,
            Self::RouteRemoved { .. } => EventKind::RouteRemoved,
            Self::CollectorStarted { .. } => EventKind::CollectorStarted,
            Self::Request(_) | Self::RequestsMissed { .. } => EventKind::Request,
            Self::Warning { .. } => EventKind::Warning,
            Self::Lagged { .. } => EventKind::Lagged,
        }
    }

    /// The instance concerned.
    pub fn of(&self) -> Option<&Who> {
        match self {
            Self::InstanceStarted { of, .. }
            | Self::InstanceEnded { of }
            | Self::ProcessExited { of, .. } => Some(of),
            Self::ListenerUp(listener) | Self::ListenerDown(listener) | Self::ListenerRenamed(listener) => {
                Some(&listener.of)
            }
            Self::Call(call) => Some(&call.of),
            Self::Request(request) => request.of.as_ref(),
            Self::RouteAdded { .. }
            | Self::RouteRemoved { .. }
            | Self::CollectorStarted { .. }
            | Self::RequestsMissed { .. }
            | Self::Warning { .. }
            | Self::Lagged { .. } => None,
        }
    }
}

// === impl Who ===

impl Who {
    /// The instance of that name.
    pub fn new(app: impl Into<String>, instance: impl Into<String>) -> Self {
        Self { app: app.into(), instance: instance.into() }
    }
}
