//! Journal events: numbered, one JSON object a line on a subscription.
use serde::{Deserialize, Serialize};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// An instance was claimed or first seen.
    InstanceStarted,
    /// An instance has neither process nor listener left.
    InstanceEnded,
    /// A listener accepts connections.
    ListenerUp,
    /// A listener is gone.
    ListenerDown,
    /// An intercepted call; `call`, `outcome` and `why` say which.
    Call,
    /// A known process ended.
    ProcessExited,
    /// A route was added by hand.
    RouteAdded,
    /// A route was removed by hand.
    RouteRemoved,
    /// The collector started; everything before it is rebuilt from the run dir.
    CollectorStarted,
    /// A request went through the router. Told only to subscriptions that ask for requests, not kept and
    /// not numbered: `sequence` is that of the last event before it.
    Request,
    /// Something of ours failed; `detail` says what.
    Warning,
    /// The subscriber was too slow, or asked for events that are gone; `missed` says how many.
    Lagged,
}

/// [`Event::outcome`] of a request with which the client's connection went into the app: its answer, and what else
/// comes over the connection, is not known. It has no status.
pub const HANDED_OVER: &str = "handed_over";

/// One event. Absent fields do not apply to the kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Number in the journal, from 1, without gaps within one collector's life.
    pub sequence: u64,
    /// Unix time in milliseconds.
    pub time_ms: u64,
    /// What happened.
    pub kind: EventKind,
    /// The app concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// The instance concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The process concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Name of the process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// `bind`, `listen`, `accept`, `connect`, `exec` or `start`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
    /// Descriptor of the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fd: Option<i32>,
    /// Address as the program named it, `127.0.0.1:8080`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The other end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// `rewritten`, `passed` or `refused`; of a request [`HANDED_OVER`], where it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// Why a call was passed or refused, in snake case (see `notice::Why`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Name of the errno, `EADDRINUSE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno: Option<String>,
    /// Path of the listener's socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<String>,
    /// URL or host name concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Method of a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Path and query of a request, cut short where it is long. Its host name is in `url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Status of the answer; 0 when the client left before. Absent where the connection was handed over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Microseconds from the request's head to the end of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_us: Option<u64>,
    /// Bytes of the answer's body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Events missed, for [`EventKind::Lagged`]; in an otherwise empty [`EventKind::Request`], requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed: Option<u64>,
}

// === impl Event ===

impl Event {
    /// An event of `kind` with nothing else filled in; the journal gives number and time.
    pub fn new(kind: EventKind) -> Self {
        Self {
            sequence: 0,
            time_ms: 0,
            kind,
            app: None,
            instance: None,
            pid: None,
            program: None,
            call: None,
            fd: None,
            address: None,
            peer: None,
            outcome: None,
            why: None,
            errno: None,
            socket: None,
            url: None,
            detail: None,
            method: None,
            path: None,
            status: None,
            duration_us: None,
            bytes: None,
            missed: None,
        }
    }

    /// The event with its instance filled in.
    #[must_use]
    pub fn of(mut self, app: &str, instance: &str) -> Self {
        self.app = Some(app.to_owned());
        self.instance = Some(instance.to_owned());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One event of each kind and form, as collectors write them.
    const GOLDEN: &str = include_str!("event/golden.jsonl");

    /// Old data reads, and new data reads as the old.
    #[test]
    fn events_are_written_as_they_always_were() {
        for line in GOLDEN.lines() {
            let event: Event = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert_eq!(serde_json::to_string(&event).unwrap(), line);
        }
    }

    #[test]
    fn what_a_later_version_adds_is_no_hindrance() {
        let line = r#"{"sequence":1,"time_ms":2,"kind":"warning","detail":"full disk","added":[1,{}]}"#;
        let event: Event = serde_json::from_str(line).unwrap();
        assert_eq!((event.kind, event.detail.as_deref()), (EventKind::Warning, Some("full disk")));
    }
}
