//! How events, listeners and tables look to a person. Pure.
use crate::duration;
use agentfs_wire::event::{Call, Event, EventKind, Listener, Request, RequestEnd, What, Who};
use agentfs_wire::text::visible;
use agentfs_wire::url::UrlStyle;
use std::borrow::Cow;
use std::path::Path;

/// Columns of a trace line before the free part, in characters.
const WHO_WIDTH: usize = 20;
const PROGRAM_WIDTH: usize = 18;
const CALL_WIDTH: usize = 10;
const ADDRESS_WIDTH: usize = 21;

/// Columns of a request.
const METHOD_WIDTH: usize = 7;
const DURATION_WIDTH: usize = 7;
const SIZE_WIDTH: usize = 7;

/// `shop  0.0.0.0:8080 → http://shop.localhost  (~/.agentfs/run/shop-k3f9.8080.sock)`
pub(crate) fn listener_line(event: &Event, urls: UrlStyle, user_home: Option<&Path>) -> Option<String> {
    let (What::ListenerUp(listener) | What::ListenerRenamed(listener)) = &event.what else { return None };
    let Listener { of: Who { app, .. }, address, socket, host, .. } = listener;
    // The journal has the host name; the port is the router's current one. Without a router there is no URL.
    let url = urls.url(host).map_or_else(String::new, |url| format!(" → {url}"));
    let address = address.as_ref().map_or_else(String::new, |address| format!("  {address}"));
    Some(format!("{app}{address}{url}  ({})", short(socket, user_home)))
}

/// `shop: cannot bind 127.0.0.1:3000: port 3000 is node api.js (pid 812) of taskboard/blue`, for a bind that failed
/// because its port is in use.
pub(crate) fn taken_line(call: &Call) -> Option<String> {
    if call.call != "bind" || call.errno.as_deref() != Some("EADDRINUSE") {
        return None;
    }
    let address = call.address.as_deref().unwrap_or("its port");
    let holder = call.file.as_deref()?;
    Some(format!("{}: cannot bind {address}: {holder}", call.of.app))
}

/// What `wrap` says when the supervisor of the seccomp engine was killed.
pub(crate) fn engine_line(call: &Call) -> Option<String> {
    (call.why.as_deref() == Some("engine_ended"))
        .then(|| format!("{}/{}: {}", call.of.app, call.of.instance, reason("engine_ended")))
}

/// One line of `agentfs trace`: time, instance, program, call, address, result.
pub(crate) fn trace_line(event: &Event) -> String {
    let time = duration::time_of_day(event.time_ms);
    let who = event.what.of().map_or_else(|| "-".to_owned(), |of| format!("{}/{}", of.app, of.instance));
    let columns = match &event.what {
        What::Request(request) => request_columns(request),
        what => columns(what).line(),
    };
    // Names, commands and paths come from outside: they must not break the line or control the terminal.
    let line = format!("{time}  {who:WHO_WIDTH$}  {columns}");
    visible(line.trim_end()).to_string()
}

/// The part of a trace line after time and instance.
#[derive(Default)]
struct Columns<'a> {
    program: Option<&'a str>,
    pid: Option<u32>,
    /// The call, or another word for the event.
    call: &'a str,
    fd: Option<i32>,
    address: Option<&'a str>,
    /// The other parts. Empty ones are left out.
    rest: Vec<Cow<'a, str>>,
}

fn columns(what: &What) -> Columns<'_> {
    let columns = Columns { call: kind_word(what.kind()), ..Columns::default() };
    match what {
        What::InstanceStarted { pid, command, .. } => {
            Columns { pid: *pid, rest: vec![command.as_deref().unwrap_or("").into()], ..columns }
        }
        What::InstanceEnded { .. } | What::Request(_) => columns,
        What::ListenerUp(Listener { pid, address, socket, host, .. })
        | What::ListenerDown(Listener { pid, address, socket, host, .. })
        | What::ListenerRenamed(Listener { pid, address, socket, host, .. }) => {
            let rest = vec![file_name(socket).into(), host.into()];
            Columns { pid: *pid, address: address.as_deref(), rest, ..columns }
        }
        What::Call(call) => Columns {
            program: call.program.as_deref(),
            pid: call.pid,
            call: &call.call,
            fd: call.fd.filter(|fd| *fd >= 0),
            address: call.address.as_deref(),
            rest: vec![
                outcome(call).into(),
                peer(call).into(),
                file_name(call.socket.as_deref().unwrap_or("")).into(),
                call.file.as_deref().unwrap_or("").into(),
            ],
        },
        What::ProcessExited { pid, .. } | What::CollectorStarted { pid } => {
            Columns { pid: Some(*pid), ..columns }
        }
        What::RouteAdded { host, target } => Columns { rest: vec![host.into(), target.into()], ..columns },
        What::RouteRemoved { host } => Columns { rest: vec![host.into()], ..columns },
        What::Warning { text } => Columns { rest: vec![text.into()], ..columns },
        What::RequestsMissed { missed } => {
            Columns { rest: vec![format!("{missed} requests missed").into()], ..columns }
        }
        What::Lagged { missed } => {
            Columns { rest: vec![format!("{missed} events missed").into()], ..columns }
        }
    }
}

// === impl Columns ===

impl Columns<'_> {
    fn line(&self) -> String {
        let program = match (self.program, self.pid) {
            (Some(program), Some(pid)) => format!("{program}[{pid}]"),
            (None, Some(pid)) => format!("[{pid}]"),
            (Some(program), None) => program.to_owned(),
            (None, None) => "-".to_owned(),
        };
        let call = self.fd.map_or_else(|| self.call.to_owned(), |fd| format!("{} {fd}", self.call));
        let address = self.address.unwrap_or("");
        let rest: Vec<&str> = self.rest.iter().map(AsRef::as_ref).filter(|part| !part.is_empty()).collect();
        format!("{program:PROGRAM_WIDTH$}  {call:CALL_WIDTH$}  {address:ADDRESS_WIDTH$}  {}", rest.join("  "))
    }
}

/// Method, status, duration, size, URL.
fn request_columns(request: &Request) -> String {
    let status = match request.end {
        RequestEnd::Answered(status) => status.to_string(),
        RequestEnd::ClientLeft => "gone".to_owned(),
        RequestEnd::HandedOver => "into".to_owned(),
    };
    format!(
        "{:METHOD_WIDTH$}  {status:>4}  {:>DURATION_WIDTH$}  {:>SIZE_WIDTH$}  {}{}",
        request.method,
        time_taken(request.duration_us),
        size(request.bytes),
        request.host,
        request.path,
    )
}

/// Microseconds for people: three digits.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn time_taken(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..1_000_000 => digits(micros as f64 / 1e3, "ms"),
        _ => digits(micros as f64 / 1e6, "s"),
    }
}

/// Bytes for people: three digits.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => digits(bytes as f64 / 1e3, "kB"),
        1_000_000..1_000_000_000 => digits(bytes as f64 / 1e6, "MB"),
        _ => digits(bytes as f64 / 1e9, "GB"),
    }
}

fn digits(number: f64, unit: &str) -> String {
    match number {
        ..9.995 => format!("{number:.2} {unit}"),
        ..99.95 => format!("{number:.1} {unit}"),
        _ => format!("{number:.0} {unit}"),
    }
}

/// The outcome of a call, and the reasons.
fn outcome(call: &Call) -> String {
    let why = call.why.as_deref().filter(|why| *why != call.outcome).map(reason);
    let reasons: Vec<&str> = [why.as_deref(), call.errno.as_deref()].into_iter().flatten().collect();
    match reasons.join(", ") {
        reasons if reasons.is_empty() => format!("→ {}", call.outcome),
        reasons => format!("→ {} ({reasons})", call.outcome),
    }
}

/// The other end of a call's connection.
fn peer(call: &Call) -> String {
    match call.peer.as_deref() {
        None | Some("") => String::new(),
        Some(peer) if call.call == "connect" => format!("as {peer}"),
        Some(peer) => format!("from {peer}"),
    }
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Why a call was left alone or refused.
fn reason(why: &str) -> String {
    match why {
        "cannot_reach_static" => "cannot intercept: statically linked".to_owned(),
        "cannot_reach_go" => "cannot intercept: Go programs make their own system calls".to_owned(),
        "cannot_reach_machine" => "cannot intercept: built for another kind of machine".to_owned(),
        "cannot_reach_rights" => "cannot intercept: changes its user or gains rights".to_owned(),
        "cannot_reach_out_of_sight" => "cannot intercept: the library is not in its file system".to_owned(),
        "engine" => "served by the seccomp engine".to_owned(),
        "engine_stand_ins" => "served by the seccomp engine on stand-ins, because the system gives no network name space".to_owned(),
        "engine_ended" => "the supervisor of the seccomp engine was killed: programs that it served can no longer bind or connect; \
                           restart them"
            .to_owned(),
        "unreadable" => "the seccomp engine may not read the program's memory".to_owned(),
        "io_uring" => "bind, listen and connect by io_uring would reach the host".to_owned(),
        why => why.replace('_', " "),
    }
}

fn kind_word(kind: EventKind) -> &'static str {
    match kind {
        EventKind::InstanceStarted => "started",
        EventKind::InstanceEnded => "ended",
        EventKind::ListenerUp => "up",
        EventKind::ListenerDown => "down",
        EventKind::ListenerRenamed => "renamed",
        EventKind::Call => "call",
        EventKind::ProcessExited => "exited",
        EventKind::RouteAdded => "route",
        EventKind::RouteRemoved => "unroute",
        EventKind::CollectorStarted => "collector",
        EventKind::Request => "request",
        EventKind::Warning => "warning",
        EventKind::Lagged => "lagged",
    }
}

/// A path with the user's folder written as `~`.
pub(crate) fn short(path: &str, user_home: Option<&Path>) -> String {
    let below = user_home
        .filter(|home| home.as_os_str().len() > 1)
        .and_then(|home| Path::new(path).strip_prefix(home).ok());
    match below {
        Some(below) if below.as_os_str().is_empty() => "~".to_owned(),
        Some(below) => format!("~/{}", below.display()),
        None => path.to_owned(),
    }
}

/// Rows as columns, each as wide as its widest cell; the last column is not padded. Control characters in
/// cells are escaped.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let seen = |row: &Vec<String>| row.iter().map(|cell| visible(cell).to_string()).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(seen).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let line: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(what: What) -> Event {
        Event { sequence: 1, time_ms: 3_723_004, what }
    }

    fn bind() -> Call {
        Call {
            of: Who::new("shop", "blue"),
            pid: Some(4711),
            command: None,
            program: Some("python3".to_owned()),
            call: "bind".to_owned(),
            fd: Some(3),
            address: Some("0.0.0.0:8080".to_owned()),
            peer: None,
            outcome: "rewritten".to_owned(),
            why: Some("rewritten".to_owned()),
            errno: None,
            socket: Some("/h/run/shop-blue.8080.sock".to_owned()),
            file: None,
        }
    }

    fn of_call(call: Call) -> Event {
        event(What::Call(Box::new(call)))
    }

    #[test]
    fn a_call_is_one_aligned_line() {
        assert_eq!(
            trace_line(&of_call(bind())),
            "01:02:03.004  shop/blue             python3[4711]       bind 3      0.0.0.0:8080           → rewritten  shop-blue.8080.sock"
        );
        let passed = of_call(Call {
            call: "connect".to_owned(),
            address: Some("127.0.0.1:5432".to_owned()),
            outcome: "passed".to_owned(),
            why: Some("no_listener".to_owned()),
            errno: Some("ECONNREFUSED".to_owned()),
            socket: None,
            ..bind()
        });
        assert!(
            trace_line(&passed).ends_with("→ passed (no listener, ECONNREFUSED)"),
            "{}",
            trace_line(&passed)
        );
        let accepted = of_call(Call {
            call: "accept".to_owned(),
            peer: Some("127.0.0.1:5000".to_owned()),
            socket: None,
            ..bind()
        });
        assert!(trace_line(&accepted).ends_with("→ rewritten  from 127.0.0.1:5000"));
    }

    #[test]
    fn other_events_say_what_they_are() {
        let of = || Who::new("shop", "blue");
        for (what, line) in [
            (What::Lagged { missed: 12 }, "lagged                             12 events missed"),
            (What::InstanceEnded { of: of() }, "ended"),
            (What::ProcessExited { of: of(), pid: 7 }, "[7]                 exited"),
            (
                What::RouteAdded { host: "my.localhost".to_owned(), target: "shop/blue".to_owned() },
                "route                              my.localhost  shop/blue",
            ),
        ] {
            let shown = trace_line(&event(what));
            assert!(shown.ends_with(line), "{shown}");
        }
    }

    #[test]
    fn a_request_is_one_line() {
        let request = Request {
            of: Some(Who::new("shop", "blue")),
            method: "GET".to_owned(),
            host: "shop.localhost".to_owned(),
            path: "/a?b\x1b[2J".to_owned(),
            end: RequestEnd::Answered(200),
            duration_us: 1234,
            bytes: 45_678,
        };
        let line = |request: &Request| trace_line(&event(What::Request(Box::new(request.clone()))));
        assert_eq!(
            line(&request),
            "01:02:03.004  shop/blue             GET       200  1.23 ms  45.7 kB  shop.localhost/a?b\\u{1b}[2J"
        );
        let gone = Request { end: RequestEnd::ClientLeft, duration_us: 999, bytes: 0, ..request };
        assert!(line(&gone).contains("GET      gone   999 µs      0 B  shop"), "{}", line(&gone));
        let missed = trace_line(&event(What::RequestsMissed { missed: 3 }));
        assert!(missed.ends_with("3 requests missed"), "{missed}");
        assert_eq!((time_taken(12_345_678), size(9_999_999)), ("12.3 s".to_owned(), "10.0 MB".to_owned()));
    }

    #[test]
    fn a_listener_is_told_with_its_url() {
        let listener = Listener {
            of: Who::new("shop", "k3f9"),
            pid: None,
            address: Some("0.0.0.0:8080".to_owned()),
            socket: "/home/ada/.agentfs/run/shop-k3f9.8080.sock".to_owned(),
            host: "shop.localhost".to_owned(),
        };
        let event = event(What::ListenerUp(listener));
        let urls = UrlStyle { http_port: 4280, https_port: None };
        assert_eq!(
            listener_line(&event, urls, Some(Path::new("/home/ada"))).unwrap(),
            "shop  0.0.0.0:8080 → http://shop.localhost:4280  (~/.agentfs/run/shop-k3f9.8080.sock)"
        );
        let no_router = UrlStyle { http_port: 0, https_port: None };
        assert_eq!(
            listener_line(&event, no_router, Some(Path::new("/home/ada"))).unwrap(),
            "shop  0.0.0.0:8080  (~/.agentfs/run/shop-k3f9.8080.sock)"
        );
        assert_eq!(listener_line(&of_call(bind()), urls, None), None);
    }

    #[test]
    fn columns_are_as_wide_as_needed() {
        let rows = [vec!["A".to_owned(), "B".to_owned()], vec!["long".to_owned(), "→".to_owned()]];
        assert_eq!(table(&rows), "A     B\nlong  →\n");
        let rows = [vec!["a\nb".to_owned(), "c\x1b[2J".to_owned()]];
        assert_eq!(table(&rows), "a\\nb  c\\u{1b}[2J\n");
    }

    #[test]
    fn only_the_users_own_folder_is_shortened() {
        let home = Some(Path::new("/home/ada"));
        assert_eq!(short("/home/ada/x", home), "~/x");
        assert_eq!(short("/home/adam/x", home), "/home/adam/x");
        assert_eq!(short("/x", Some(Path::new("/"))), "/x");
    }
}
