//! How events, listeners and tables look to a person. Pure.
use crate::duration;
use agentfs_wire::event::{Event, EventKind, HANDED_OVER};
use agentfs_wire::text::visible;
use agentfs_wire::url::UrlStyle;
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
pub(crate) fn listener_line(
    event: &Event,
    urls: UrlStyle,
    user_home: Option<&Path>,
    fork: bool,
) -> Option<String> {
    if event.kind != EventKind::ListenerUp {
        return None;
    }
    let app = event.app.as_deref()?;
    // The journal has the host name; the port is the router's of this moment.
    let host = event.url.as_deref()?;
    let own = event.instance.as_deref().filter(|_| fork).map(|instance| own_host(host, app, instance));
    let url = urls.url(own.as_deref().unwrap_or(host));
    let socket =
        event.socket.as_deref().map_or_else(String::new, |path| format!("  ({})", short(path, user_home)));
    Some(match event.address.as_deref() {
        Some(address) if !address.is_empty() => format!("{app}  {address} → {url}{socket}"),
        _ => format!("{app} → {url}{socket}"),
    })
}

/// A host name of an instance by the instance's own name instead of the app's alone.
fn own_host(host: &str, app: &str, instance: &str) -> String {
    let own = crate::instance::host(app, instance);
    match host.strip_suffix(&format!("{app}.localhost")) {
        Some("") => own,
        Some(port) if port.trim_end_matches('.').parse::<u16>().is_ok() => format!("{port}{own}"),
        _ => host.to_owned(),
    }
}

/// One line of `agentfs trace`: time, instance, program, call, address, what became of it.
pub(crate) fn trace_line(event: &Event) -> String {
    let who = match (event.app.as_deref(), event.instance.as_deref()) {
        (Some(app), Some(instance)) => format!("{app}/{instance}"),
        (Some(app), None) => app.to_owned(),
        _ => "-".to_owned(),
    };
    if event.kind == EventKind::Request
        && let Some(method) = &event.method
    {
        return visible(request_line(event, &who, method).trim_end()).to_string();
    }
    let program = match (event.program.as_deref(), event.pid) {
        (Some(program), Some(pid)) => format!("{program}[{pid}]"),
        (None, Some(pid)) => format!("[{pid}]"),
        (Some(program), None) => program.to_owned(),
        (None, None) => "-".to_owned(),
    };
    let call = match (event.call.as_deref(), event.fd) {
        (Some(call), Some(fd)) if fd >= 0 => format!("{call} {fd}"),
        (Some(call), _) => call.to_owned(),
        (None, _) => kind_word(event.kind).to_owned(),
    };
    let address = event.address.as_deref().unwrap_or("");
    let line = format!(
        "{}  {who:WHO_WIDTH$}  {program:PROGRAM_WIDTH$}  {call:CALL_WIDTH$}  {address:ADDRESS_WIDTH$}  {}",
        duration::time_of_day(event.time_ms),
        outcome(event),
    );
    visible(line.trim_end()).to_string()
}

/// A request: time, instance, method, status, duration, size, what was asked for.
fn request_line(event: &Event, who: &str, method: &str) -> String {
    let status = match event.status.unwrap_or(0) {
        _ if event.outcome.as_deref() == Some(HANDED_OVER) => "into".to_owned(),
        0 => "gone".to_owned(),
        status => status.to_string(),
    };
    format!(
        "{}  {who:WHO_WIDTH$}  {method:METHOD_WIDTH$}  {status:>4}  {:>DURATION_WIDTH$}  {:>SIZE_WIDTH$}  {}{}",
        duration::time_of_day(event.time_ms),
        time_taken(event.duration_us.unwrap_or(0)),
        size(event.bytes.unwrap_or(0)),
        event.url.as_deref().unwrap_or(""),
        event.path.as_deref().unwrap_or(""),
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

fn outcome(event: &Event) -> String {
    let mut text = String::new();
    let mut add = |part: &str| {
        if !text.is_empty() {
            text.push_str("  ");
        }
        text.push_str(part);
    };
    if let Some(outcome) = &event.outcome {
        let why = event.why.as_deref().filter(|why| why != outcome).map(reason);
        let errno = event.errno.as_deref();
        let reason = [why.as_deref(), errno].into_iter().flatten().collect::<Vec<_>>().join(", ");
        if reason.is_empty() {
            add(&format!("→ {outcome}"));
        } else {
            add(&format!("→ {outcome} ({reason})"));
        }
    }
    if let Some(peer) = event.peer.as_deref().filter(|peer| !peer.is_empty()) {
        let word = if event.call.as_deref() == Some("connect") { "as" } else { "from" };
        add(&format!("{word} {peer}"));
    }
    if let Some(socket) = event.socket.as_deref().filter(|socket| !socket.is_empty()) {
        add(socket.rsplit('/').next().unwrap_or(socket));
    }
    if let Some(url) = &event.url {
        add(url);
    }
    if let Some(detail) = &event.detail {
        add(detail);
    }
    if let Some(missed) = event.missed {
        let what = if event.kind == EventKind::Request { "requests" } else { "events" };
        add(&format!("{missed} {what} missed"));
    }
    text
}

/// Why a call was left alone or refused.
fn reason(why: &str) -> String {
    match why {
        "cannot_reach_static" => "cannot reach: linked statically".to_owned(),
        "cannot_reach_go" => "cannot reach: a Go program, its system calls are its own".to_owned(),
        "cannot_reach_machine" => "cannot reach: for another kind of machine".to_owned(),
        "cannot_reach_rights" => "cannot reach: changes its user or gains rights".to_owned(),
        "cannot_reach_out_of_sight" => "cannot reach: the library is not in its file system".to_owned(),
        why => why.replace('_', " "),
    }
}

fn kind_word(kind: EventKind) -> &'static str {
    match kind {
        EventKind::InstanceStarted => "started",
        EventKind::InstanceEnded => "ended",
        EventKind::ListenerUp => "up",
        EventKind::ListenerDown => "down",
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

/// Rows as columns that are as wide as their widest cell; the last one is as long as it is. Cells are made visible.
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

    fn call() -> Event {
        Event {
            time_ms: 3_723_004,
            pid: Some(4711),
            program: Some("python3".to_owned()),
            call: Some("bind".to_owned()),
            fd: Some(3),
            address: Some("0.0.0.0:8080".to_owned()),
            outcome: Some("rewritten".to_owned()),
            why: Some("rewritten".to_owned()),
            socket: Some("/h/run/shop-blue.8080.sock".to_owned()),
            ..Event::new(EventKind::Call).of("shop", "blue")
        }
    }

    #[test]
    fn a_call_is_one_aligned_line() {
        assert_eq!(
            trace_line(&call()),
            "01:02:03.004  shop/blue             python3[4711]       bind 3      0.0.0.0:8080           → rewritten  shop-blue.8080.sock"
        );
        let passed = Event {
            call: Some("connect".to_owned()),
            address: Some("127.0.0.1:5432".to_owned()),
            outcome: Some("passed".to_owned()),
            why: Some("no_listener".to_owned()),
            errno: Some("ECONNREFUSED".to_owned()),
            socket: None,
            ..call()
        };
        assert!(
            trace_line(&passed).ends_with("→ passed (no listener, ECONNREFUSED)"),
            "{}",
            trace_line(&passed)
        );
    }

    #[test]
    fn other_events_say_what_they_are() {
        let lagged = Event { missed: Some(12), ..Event::new(EventKind::Lagged) };
        assert!(trace_line(&lagged).contains("lagged") && trace_line(&lagged).ends_with("12 events missed"));
        let ended = Event::new(EventKind::InstanceEnded).of("shop", "blue");
        assert!(trace_line(&ended).ends_with("ended"), "{}", trace_line(&ended));
    }

    #[test]
    fn a_request_is_one_line() {
        let event = Event {
            time_ms: 3_723_004,
            method: Some("GET".to_owned()),
            url: Some("shop.localhost".to_owned()),
            path: Some("/a?b\x1b[2J".to_owned()),
            status: Some(200),
            duration_us: Some(1234),
            bytes: Some(45_678),
            ..Event::new(EventKind::Request).of("shop", "blue")
        };
        assert_eq!(
            trace_line(&event),
            "01:02:03.004  shop/blue             GET       200  1.23 ms  45.7 kB  shop.localhost/a?b\\u{1b}[2J"
        );
        let gone = Event { status: Some(0), duration_us: Some(999), bytes: None, ..event };
        assert!(trace_line(&gone).contains("GET      gone   999 µs      0 B  shop"), "{}", trace_line(&gone));
        let missed = Event { missed: Some(3), ..Event::new(EventKind::Request) };
        assert!(trace_line(&missed).ends_with("3 requests missed"), "{}", trace_line(&missed));
        assert_eq!((time_taken(12_345_678), size(9_999_999)), ("12.3 s".to_owned(), "10.0 MB".to_owned()));
    }

    #[test]
    fn a_listener_is_told_with_its_url() {
        let event = Event {
            address: Some("0.0.0.0:8080".to_owned()),
            url: Some("shop.localhost".to_owned()),
            socket: Some("/home/ada/.agentfs/run/shop-k3f9.8080.sock".to_owned()),
            ..Event::new(EventKind::ListenerUp).of("shop", "k3f9")
        };
        let urls = UrlStyle { http_port: 4280, https_port: None };
        assert_eq!(
            listener_line(&event, urls, Some(Path::new("/home/ada")), false).unwrap(),
            "shop  0.0.0.0:8080 → http://shop.localhost:4280  (~/.agentfs/run/shop-k3f9.8080.sock)"
        );
        assert_eq!(listener_line(&call(), urls, None, false), None);
        assert_eq!(own_host("shop.localhost", "shop", "cart"), "cart.shop.localhost");
        assert_eq!(own_host("81.shop.localhost", "shop", "cart"), "81.cart.shop.localhost");
        assert_eq!(own_host("cart.shop.localhost", "shop", "cart"), "cart.shop.localhost");
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
