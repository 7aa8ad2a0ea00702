//! The control socket: newline-delimited JSON, one [`Request`] per line and one [`Reply`] per line, in the
//! order of the requests. A subscription is answered once; then [`crate::event::Event`] lines follow until
//! the client closes.
use crate::url::UrlStyle;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One request line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the client, returned in the reply.
    #[serde(default)]
    pub id: Value,
    /// One of [`method`].
    pub method: String,
    /// Parameters of the method, an object.
    #[serde(default)]
    pub params: Value,
}

/// One reply line: `result` or `error`, never both.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// The request's id; `null` if the line could not be read.
    pub id: Value,
    /// The result of the method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ControlError>,
}

/// A typed error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ControlError {
    /// For programs.
    pub code: ErrorCode,
    /// For people: what is wrong, with its name.
    pub message: String,
    /// What to do next, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Codes of [`ControlError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The line is not a request.
    BadRequest,
    /// No such method.
    UnknownMethod,
    /// The parameters do not fit the method.
    BadParams,
    /// No such app, instance or route.
    NotFound,
    /// The name is in use or ambiguous.
    Conflict,
    /// The line is longer than the limit.
    TooLarge,
    /// Too many connections.
    Busy,
    /// An error inside the collector.
    Internal,
}

/// Names of the methods, with the types of their parameters and results.
pub mod method {
    /// No parameters → `{"pong": true}`.
    pub const PING: &str = "ping";
    /// No parameters → [`super::DaemonInfo`].
    pub const DAEMON_INFO: &str = "daemon.info";
    /// No parameters → [`super::DaemonInfo`]: reads the home's TLS settings and turns TLS on or off, or
    /// changes its certificates.
    pub const TLS_RELOAD: &str = "tls.reload";
    /// No parameters → `{"stopping": true}`; the collector stops after the reply.
    pub const DAEMON_STOP: &str = "daemon.stop";
    /// No parameters → [`super::Snapshot`].
    pub const LIST: &str = "list";
    /// [`super::RouteParams`] → [`super::RouteInfo`].
    pub const ROUTE_ADD: &str = "route.add";
    /// `{"host": …}` → `{"removed": true}`.
    pub const ROUTE_REMOVE: &str = "route.remove";
    /// No parameters → `{"routes": [RouteInfo]}`.
    pub const ROUTE_LIST: &str = "route.list";
    /// [`super::SubscribeParams`] → [`super::Subscribed`], then events.
    pub const SUBSCRIBE: &str = "subscribe";
    /// Removes dead listeners and companions → [`super::Pruned`].
    pub const PRUNE: &str = "prune";
    /// [`super::EndedParams`]: a command of an instance has ended → `{"removed": bool}`.
    pub const INSTANCE_ENDED: &str = "instance.ended";
    /// [`super::ForwardParams`] → [`super::ForwardInfo`].
    pub const FORWARD_ADD: &str = "forward.add";
    /// `{"listen": …}` → `{"removed": true}`.
    pub const FORWARD_REMOVE: &str = "forward.remove";
    /// No parameters → `{"forwards": [ForwardInfo]}`.
    pub const FORWARD_LIST: &str = "forward.list";
    /// [`super::DrainParams`]: takes an instance out of the routes before its end → [`super::Draining`].
    pub const INSTANCE_DRAIN: &str = "instance.drain";
    /// [`super::DrainAllParams`]: the same for many at once → [`super::Draining`]. Unknown instances
    /// are ignored.
    pub const INSTANCES_DRAIN: &str = "instances.drain";
    /// [`super::InstanceName`] → `{}`, once the collector has looked which programs hold the host's ports: what that instance
    /// must not reach is barred then.
    pub const HOST_LOOK: &str = "host.look";
    /// [`super::SettleParams`] → [`super::Settled`], once everything that the instance's programs reported so far is in the
    /// journal, also binds whose port is still searched for.
    pub const CALLS_SETTLED: &str = "calls.settled";
    /// The counters as Prometheus text → `{"text": …}`.
    pub const METRICS: &str = "metrics";
}

/// The collector itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonInfo {
    /// Its process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// Its home.
    pub home: String,
    /// Its run dir.
    pub run: String,
    /// Addresses that the router listens on.
    pub listen: Vec<String>,
    /// Addresses on which the router speaks TLS.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listen_tls: Vec<String>,
    /// Port to put into URLs.
    pub http_port: u16,
    /// Port to put into `https` URLs, if TLS is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub https_port: Option<u16>,
    /// Unix time in milliseconds when it started.
    pub started_ms: u64,
    /// The process that starts it again if it is killed, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guardian: Option<u32>,
    /// Why the router does not listen, if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router_error: Option<String>,
    /// Why TLS is off although it was turned on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_error: Option<String>,
    /// Address at which it answers questions about names under `localhost`; absent if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<String>,
}

// === impl DaemonInfo ===

impl DaemonInfo {
    /// How its URLs are written.
    pub fn urls(&self) -> UrlStyle {
        UrlStyle { http_port: self.http_port, https_port: self.https_port }
    }
}

/// Everything that the registry knows, as of one journal number.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Number of the last event that it contains.
    pub sequence: u64,
    /// Every instance, by app and name.
    pub instances: Vec<InstanceInfo>,
    /// Routes added by hand.
    pub routes: Vec<RouteInfo>,
}

/// One instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceInfo {
    /// App.
    pub app: String,
    /// Instance.
    pub instance: String,
    /// The host name that means this instance.
    pub host: String,
    /// URL of its main listener. Without a router it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Working directory, if known.
    pub directory: Option<String>,
    /// Its first command that is running, or that was, if known.
    pub command: Vec<String>,
    /// The process of `agentfs wrap`, if it is running: it is the program itself, or (`agentfs trace --
    /// COMMAND`) the process beside it.
    pub wrap_pid: Option<u32>,
    /// Its running commands, oldest first. An older collector does not list them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<CommandInfo>,
    /// Known living processes.
    pub pids: Vec<u32>,
    /// Unix time in milliseconds when it started, or was first seen.
    pub started_ms: u64,
    /// Its listeners, main one first.
    pub listeners: Vec<ListenerInfo>,
    /// Whether the host name of its app leads to it: it is `main` or a copy, or its sockets were made by hand. An older
    /// collector does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub has_app_name: Option<bool>,
}

/// A running command of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandInfo {
    /// The command and its arguments.
    pub command: Vec<String>,
    /// Its working directory.
    pub directory: String,
    /// As [`InstanceInfo::wrap_pid`].
    pub wrap_pid: u32,
    /// Unix time in milliseconds when it was started.
    pub started_ms: u64,
}

/// One listener.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListenerInfo {
    /// Address as the program bound it, `0.0.0.0:8080`; empty for a socket made by hand.
    pub address: String,
    /// Port, 0 for a socket made by hand.
    pub port: u16,
    /// Path of the socket.
    pub socket: String,
    /// URL of this listener. Without a router it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Whether it is the instance's main listener.
    pub main: bool,
    /// Process that listens, if known.
    pub pid: Option<u32>,
    /// Unix time in milliseconds when it came up.
    pub since_ms: u64,
    /// Requests that the router sent to it.
    pub requests: u64,
    /// Requests per second, over the last five to ten seconds.
    #[serde(default)]
    pub requests_per_second: f64,
}

/// How a route with several listeners chooses between them. With each policy, listeners that refused last
/// time come last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// In turn.
    #[default]
    RoundRobin,
    /// The one with the fewest requests and upgraded connections in progress, in turn among equals.
    LeastConnections,
    /// The first that answers: the app's oldest.
    First,
}

/// Whether an option is off: older collectors know nothing of it.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_false(option: &bool) -> bool {
    !option
}

/// Adds a route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteParams {
    /// Host name, `myapp.localhost`.
    pub host: String,
    /// Path of a socket, `host:port` on loopback, or `APP/INSTANCE`.
    pub target: String,
    /// Whether subdomains without their own route use it.
    #[serde(default)]
    pub wildcard: bool,
    /// Whether to replace an existing route of that name.
    #[serde(default)]
    pub replace: bool,
    /// How to choose between several listeners.
    #[serde(default)]
    pub policy: Policy,
    /// Whether a connection is handed to the app once its first request is known to be for this route.
    #[serde(default)]
    pub handoff: bool,
    /// Whether the app is asked for `localhost` instead of the host name, and its answers are led back.
    #[serde(default, skip_serializing_if = "is_false")]
    pub rewrite_host: bool,
}

/// A route added by hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteInfo {
    /// Host name.
    pub host: String,
    /// Target as given.
    pub target: String,
    /// Whether subdomains without their own route use it.
    #[serde(default)]
    pub wildcard: bool,
    /// URL. Without a router it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// How it chooses between several listeners.
    #[serde(default)]
    pub policy: Policy,
    /// Whether connections are handed to the app.
    #[serde(default)]
    pub handoff: bool,
    /// Whether the app is asked for `localhost` instead of the host name. An older collector does not say, and does not.
    #[serde(default)]
    pub rewrite_host: bool,
}

/// What to stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscribeParams {
    /// Events after this number; absent: only new ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// Events not older than this (Unix milliseconds); looks back in the journal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<u64>,
    /// Only this app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// Only this instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Ask wrapped processes for every call (connect, accept, passes), not only for listeners.
    #[serde(default)]
    pub calls: bool,
    /// Ask the router for every request.
    #[serde(default)]
    pub requests: bool,
}

/// First answer to a subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscribed {
    /// Number of the last event so far.
    pub sequence: u64,
}

/// Asks whether everything of an instance is in the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettleParams {
    /// App.
    pub app: String,
    /// Instance.
    pub instance: String,
    /// Only events that are not older than this count (Unix milliseconds).
    pub since_ms: u64,
}

/// Up to which event a subscriber of an instance has to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// Number of the last such event; 0: there is none.
    pub sequence: u64,
}

/// What prune did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pruned {
    /// Files removed.
    pub removed: Vec<String>,
    /// Files that were left because they are not ours or still alive, with the reason.
    pub left: Vec<String>,
}

/// Names the command that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedParams {
    /// App.
    pub app: String,
    /// Instance.
    pub instance: String,
    /// The process of `agentfs` that started it; absent: all commands of the instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrap_pid: Option<u32>,
}

/// Takes an instance out of the routes, so that it gets no request any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainParams {
    /// App.
    pub app: String,
    /// Instance.
    pub instance: String,
    /// After this many milliseconds it is routed again, if it is still running.
    pub hold_ms: u64,
}

/// Names one instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceName {
    /// App.
    pub app: String,
    /// Instance.
    pub instance: String,
}

/// Takes instances out of the routes, all at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainAllParams {
    /// Which instances.
    pub instances: Vec<InstanceName>,
    /// Instances that are still running after this many milliseconds are routed again.
    pub hold_ms: u64,
}

/// What instances that are out of the routes have in progress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draining {
    /// Requests of the router that are not completely answered (without event streams and upgraded
    /// connections, which have no end), plus connections of forwards that wait for an answer.
    pub requests: usize,
}

/// Opens an instance to raw TCP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardParams {
    /// App.
    pub app: String,
    /// Instance.
    pub instance: String,
    /// Port of the instance; absent: all ports, on the instance's own address in 127/8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Address and port to listen on; absent: any free port of 127.0.0.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen: Option<String>,
    /// Whether connections are handed to the program; absent: only if it listens on the same port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handoff: Option<bool>,
    /// Whether the address may be one that other machines can reach.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lan: bool,
}

/// A forward.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardInfo {
    /// Listening address and port; only the address if all ports are served.
    pub listen: String,
    /// App.
    pub app: String,
    /// Instance.
    pub instance: String,
    /// Port of the instance; absent: all ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Connections so far.
    pub connections: u64,
    /// Connections that were handed to the program.
    #[serde(default)]
    pub handed: u64,
    /// Whether other machines can reach it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lan: bool,
    /// Whether connections are handed to the program, if that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handoff: Option<bool>,
    /// Whether it was there before it was asked for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub existed: bool,
}

/// Reads one request line.
///
/// # Errors
/// [`ErrorCode::BadRequest`] with what is wrong and where.
pub fn parse_request(line: &[u8]) -> Result<Request, ControlError> {
    serde_json::from_slice(line).map_err(|error| ControlError {
        code: ErrorCode::BadRequest,
        message: format!("the line is not a request: {error}"),
        hint: Some(r#"send {"id":1,"method":"ping"} and a newline"#.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_read_as_documented() {
        let request = parse_request(br#"{"id":7,"method":"ping"}"#).unwrap();
        assert_eq!((request.id, request.method.as_str()), (Value::from(7), method::PING));
        assert_eq!(parse_request(b"garbage").unwrap_err().code, ErrorCode::BadRequest);
    }

    /// A client recognises its reply by the id.
    #[test]
    fn a_large_number_as_an_id_stays_what_it_is() {
        let text = br#"{"id":266666666666666666666666666666666666666666666666666,"method":"ping"}"#;
        let request = parse_request(text).unwrap();
        assert_eq!(parse_request(&serde_json::to_vec(&request).unwrap()).unwrap().id, request.id);
    }

    /// "Walk the matrix": a collector or client of another age, and a file of routes written by one.
    #[test]
    fn a_route_reads_and_writes_as_older_ones_did() {
        let old = r#"{"host":"a.localhost","target":"shop","wildcard":false,"replace":false,"policy":"round_robin","handoff":false}"#;
        let mut params: RouteParams = serde_json::from_str(old).unwrap();
        assert!(!params.rewrite_host);
        assert_eq!(serde_json::to_string(&params).unwrap(), old);
        params.rewrite_host = true;
        let new = serde_json::to_string(&params).unwrap();
        assert_eq!(new, old.replace("\"handoff\":false", "\"handoff\":false,\"rewrite_host\":true"));
        let old = r#"{"host":"a.localhost","target":"shop","url":"http://a.localhost"}"#;
        let info: RouteInfo = serde_json::from_str(old).unwrap();
        assert!(!info.rewrite_host);
        assert_eq!(
            serde_json::to_string(&RouteInfo { rewrite_host: true, ..info }).unwrap(),
            r#"{"host":"a.localhost","target":"shop","wildcard":false,"url":"http://a.localhost","policy":"round_robin","handoff":false,"rewrite_host":true}"#
        );
    }

    #[test]
    fn a_reply_has_one_of_result_and_error() {
        let reply = Reply { id: Value::from(1), result: Some(Value::from(true)), error: None };
        assert_eq!(serde_json::to_string(&reply).unwrap(), r#"{"id":1,"result":true}"#);
    }
}
