//! Events as JSON: one flat object, of which each kind uses some fields. Programs rely on the names and the order of
//! fields; the golden lines test them. An older reader accepts a new field, but not a new kind.
use super::{Call, Event, EventKind, Listener, Request, RequestEnd, What, Who};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;

/// The `outcome` for [`RequestEnd::HandedOver`].
const HANDED_OVER: &str = "handed_over";

/// The `status` for [`RequestEnd::ClientLeft`].
const CLIENT_LEFT: u16 = 0;

type Text<'a> = Option<Cow<'a, str>>;

/// Every field that an event can have.
#[derive(Serialize, Deserialize)]
struct Line<'a> {
    sequence: u64,
    time_ms: u64,
    kind: EventKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    app: Text<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Text<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    program: Text<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    call: Text<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fd: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Text<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Text<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Text<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Text<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    errno: Text<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    socket: Text<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Text<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Text<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Text<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Text<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    missed: Option<u64>,
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Line::of(self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let line = Line::deserialize(deserializer)?;
        let kind = line.kind;
        let (sequence, time_ms) = (line.sequence, line.time_ms);
        match line.what() {
            Ok(what) => Ok(Self { sequence, time_ms, what }),
            Err(Missing(field)) => Err(D::Error::custom(format_args!("{kind:?} without `{field}`"))),
        }
    }
}

/// A field that this kind of event must have, but this event lacks.
struct Missing(&'static str);

// === impl Line ===

impl<'a> Line<'a> {
    fn of(event: &'a Event) -> Self {
        let text = |text: &'a str| Some(Cow::Borrowed(text));
        let maybe = |text: &'a Option<String>| text.as_deref().map(Cow::Borrowed);
        let of = event.what.of();
        let mut line = Self {
            app: of.and_then(|of| text(&of.app)),
            instance: of.and_then(|of| text(&of.instance)),
            ..Self::empty(event.sequence, event.time_ms, event.kind())
        };
        match &event.what {
            What::InstanceStarted { pid, command, .. } => {
                line.pid = *pid;
                line.detail = maybe(command);
            }
            What::InstanceEnded { .. } => {}
            What::ListenerUp(listener) | What::ListenerDown(listener) | What::ListenerRenamed(listener) => {
                line.pid = listener.pid;
                line.address = maybe(&listener.address);
                line.socket = text(&listener.socket);
                line.url = text(&listener.host);
            }
            What::Call(call) => {
                line.pid = call.pid;
                line.command = call.command;
                line.program = maybe(&call.program);
                line.call = text(&call.call);
                line.fd = call.fd;
                line.address = maybe(&call.address);
                line.peer = maybe(&call.peer);
                line.outcome = text(&call.outcome);
                line.why = maybe(&call.why);
                line.errno = maybe(&call.errno);
                line.socket = maybe(&call.socket);
                line.detail = maybe(&call.file);
            }
            What::ProcessExited { pid, .. } | What::CollectorStarted { pid } => line.pid = Some(*pid),
            What::RouteAdded { host, target } => {
                line.url = text(host);
                line.detail = text(target);
            }
            What::RouteRemoved { host } => line.url = text(host),
            What::Request(request) => {
                line.method = text(&request.method);
                line.url = text(&request.host);
                line.path = text(&request.path);
                match request.end {
                    RequestEnd::Answered(status) => line.status = Some(status),
                    RequestEnd::ClientLeft => line.status = Some(CLIENT_LEFT),
                    RequestEnd::HandedOver => line.outcome = text(HANDED_OVER),
                }
                line.duration_us = Some(request.duration_us);
                line.bytes = Some(request.bytes);
            }
            What::Warning { text: warning } => line.detail = text(warning),
            What::RequestsMissed { missed } | What::Lagged { missed } => line.missed = Some(*missed),
        }
        line
    }

    fn empty(sequence: u64, time_ms: u64, kind: EventKind) -> Self {
        Self {
            sequence,
            time_ms,
            kind,
            app: None,
            instance: None,
            pid: None,
            command: None,
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

    /// The event of the line. Fields that do not belong to its kind are ignored.
    fn what(self) -> Result<What, Missing> {
        let who = match (self.app, self.instance) {
            (Some(app), Some(instance)) => Ok(Who::new(app, instance)),
            (None, _) => Err(Missing("app")),
            (_, None) => Err(Missing("instance")),
        };
        let maybe = |text: Text<'a>| text.map(Cow::into_owned);
        let need = |text: Text<'a>, field| maybe(text).ok_or(Missing(field));
        let pid = self.pid.ok_or(Missing("pid"));
        Ok(match self.kind {
            EventKind::InstanceStarted => {
                What::InstanceStarted { of: who?, pid: self.pid, command: maybe(self.detail) }
            }
            EventKind::InstanceEnded => What::InstanceEnded { of: who? },
            EventKind::ListenerUp | EventKind::ListenerDown | EventKind::ListenerRenamed => {
                let listener = Listener {
                    of: who?,
                    pid: self.pid,
                    address: maybe(self.address),
                    socket: need(self.socket, "socket")?,
                    host: need(self.url, "url")?,
                };
                match self.kind {
                    EventKind::ListenerUp => What::ListenerUp(listener),
                    EventKind::ListenerRenamed => What::ListenerRenamed(listener),
                    _ => What::ListenerDown(listener),
                }
            }
            EventKind::Call => What::Call(Box::new(Call {
                of: who?,
                pid: self.pid,
                command: self.command,
                program: maybe(self.program),
                call: need(self.call, "call")?,
                fd: self.fd,
                address: maybe(self.address),
                peer: maybe(self.peer),
                outcome: need(self.outcome, "outcome")?,
                why: maybe(self.why),
                errno: maybe(self.errno),
                socket: maybe(self.socket),
                file: maybe(self.detail),
            })),
            EventKind::ProcessExited => What::ProcessExited { of: who?, pid: pid? },
            EventKind::RouteAdded => {
                What::RouteAdded { host: need(self.url, "url")?, target: need(self.detail, "detail")? }
            }
            EventKind::RouteRemoved => What::RouteRemoved { host: need(self.url, "url")? },
            EventKind::CollectorStarted => What::CollectorStarted { pid: pid? },
            EventKind::Request => match (self.method, self.missed) {
                (None, Some(missed)) => What::RequestsMissed { missed },
                (method, _) => What::Request(Box::new(Request {
                    of: who.ok(),
                    method: need(method, "method")?,
                    host: need(self.url, "url")?,
                    path: need(self.path, "path")?,
                    end: match (self.outcome.as_deref(), self.status) {
                        (Some(HANDED_OVER), _) => RequestEnd::HandedOver,
                        (_, Some(CLIENT_LEFT)) => RequestEnd::ClientLeft,
                        (_, Some(status)) => RequestEnd::Answered(status),
                        (_, None) => return Err(Missing("status")),
                    },
                    duration_us: self.duration_us.ok_or(Missing("duration_us"))?,
                    bytes: self.bytes.ok_or(Missing("bytes"))?,
                })),
            },
            EventKind::Warning => What::Warning { text: need(self.detail, "detail")? },
            EventKind::Lagged => What::Lagged { missed: self.missed.ok_or(Missing("missed"))? },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// One event of each kind and form, as collectors write them.
    const GOLDEN: &str = include_str!("golden.jsonl");

    /// Old lines can be read, and new lines have the old format.
    #[test]
    fn events_are_written_as_they_always_were() {
        let mut forms = BTreeSet::new();
        for line in GOLDEN.lines() {
            let event: Event = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert_eq!(serde_json::to_string(&event).unwrap(), line);
            let end = match &event.what {
                What::Request(request) => Some(match request.end {
                    RequestEnd::Answered(_) => "answered",
                    RequestEnd::ClientLeft => "left",
                    RequestEnd::HandedOver => "handed over",
                }),
                What::RequestsMissed { .. } => Some("missed"),
                _ => None,
            };
            forms.insert((format!("{:?}", event.kind()), end));
        }
        assert_eq!(forms.len(), 12 + 4, "a line for every kind, and for every end of a request: {forms:?}");
    }

    #[test]
    fn what_a_later_version_adds_is_no_hindrance() {
        let line = r#"{"sequence":1,"time_ms":2,"kind":"warning","detail":"full disk","added":[1,{}]}"#;
        let event: Event = serde_json::from_str(line).unwrap();
        let what = What::Warning { text: "full disk".to_owned() };
        assert_eq!(event, Event { sequence: 1, time_ms: 2, what });
    }

    #[test]
    fn what_is_missing_is_named() {
        for (rest, field) in [
            (r#""kind":"listener_up","app":"shop","instance":"main","url":"x""#, "socket"),
            (r#""kind":"call","app":"shop","call":"bind","outcome":"passed""#, "instance"),
            (r#""kind":"request","method":"GET","url":"x","path":"/","duration_us":1,"bytes":1"#, "status"),
            (r#""kind":"process_exited","app":"shop","instance":"main""#, "pid"),
        ] {
            let line = format!(r#"{{"sequence":1,"time_ms":2,{rest}}}"#);
            let error = serde_json::from_str::<Event>(&line).unwrap_err().to_string();
            assert!(error.contains(&format!("without `{field}`")), "{error}");
        }
    }
}
