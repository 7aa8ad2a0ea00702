//! Answers of our own: the index, what is unknown, what does not answer, what was refused. Pure.
//!
//! HTML for browsers, JSON for programs that ask for it, text for the rest. All names come from
//! outside and are escaped; a foreign host learns nothing about what runs here.
use crate::error::{Failure, Refusal};
use crate::limits::PAGE_NAMES;
use crate::message::request::{Facts, Format};
use crate::table::{Entry, LastSeen, Lookup, Route, Table};
use agentfs_wire::text::visible;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// When to ask again after a 503, in seconds.
const RETRY_SECONDS: u32 = 2;
const RETRY: &str = "Retry-After: 2\r\n";

/// The same for people: the page asks by itself.
const REFRESH: &str = "<meta http-equiv=\"refresh\" content=\"2\">";

/// How to answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reply {
    pub(crate) facts: Facts,
    /// Whether the connection ends with it.
    pub(crate) close: bool,
}

/// What the reader of a page may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sees {
    /// Names, and whether they answer: every user of this machine.
    Names,
    /// Also folders, command lines and paths: the collector's own user and root.
    Everything,
}

/// Why a known name got no answer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cause {
    /// Nothing listens.
    NoListener,
    /// Nothing listens yet.
    Starting,
    /// The router has no connection left for it.
    NoRoom,
    /// The application ended the connection without a word.
    Silent,
    /// Its answer is no HTTP.
    Garbage(&'static str),
    /// The request's body turned out wrong.
    Request(Refusal),
}

impl From<Failure> for Cause {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::ClientBody(what) => Self::Request(Refusal::bad(what)),
            Failure::ClientSlow => Self::Request(Refusal::TIMEOUT),
            Failure::Garbage(what) => Self::Garbage(what),
            Failure::OtherProtocol => Self::Garbage("answer: it speaks HTTP/2 only; try again"),
            Failure::Silent
            | Failure::Unread
            | Failure::Undelivered
            | Failure::ClientGone
            | Failure::Truncated => Self::Silent,
        }
    }
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The reason phrase of the statuses that we send.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        414 => "URI Too Long",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        508 => "Loop Detected",
        _ => "Error",
    }
}

/// Methods that the router passes on: all that there are, without CONNECT.
const METHODS: &str = "Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE\r\n";

/// What the router itself says to `OPTIONS` or `TRACE` (RFC 9110 7.6.2). `request`: what came, to be sent back.
pub(crate) fn last_hop(out: &mut Vec<u8>, reply: Reply, request: Option<&[u8]>) -> u16 {
    match request {
        Some(request) => write(out, reply, 200, "message/http", &String::from_utf8_lossy(request)),
        None => write_with(out, reply, 200, "text/plain; charset=utf-8", METHODS, ""),
    }
}

fn write(out: &mut Vec<u8>, reply: Reply, status: u16, media: &str, body: &str) -> u16 {
    let lines = match status {
        405 => "Allow: GET, HEAD\r\n",
        503 => RETRY,
        _ => "",
    };
    write_with(out, reply, status, media, lines, body)
}

/// `lines` are further headers.
fn write_with(out: &mut Vec<u8>, reply: Reply, status: u16, media: &str, lines: &str, body: &str) -> u16 {
    let connection = match (reply.close, reply.facts.is_http10) {
        (true, _) => "Connection: close\r\n",
        (false, true) => "Connection: keep-alive\r\n",
        (false, false) => "",
    };
    let head = format!(
        "HTTP/1.1 {status} {}\r\nContent-Type: {media}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
         X-Content-Type-Options: nosniff\r\nVary: Accept\r\n{lines}{connection}\r\n",
        reason(status),
        body.len()
    );
    out.extend_from_slice(head.as_bytes());
    if !reply.facts.is_head {
        out.extend_from_slice(body.as_bytes());
    }
    status
}

/// For whom a URL lies elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moved {
    /// For all: this port has nothing else to say.
    ForAll,
    /// For this client, which asked for TLS by `Upgrade-Insecure-Requests`.
    ForThisClient,
}

/// Another URL for the same.
pub(crate) fn redirect(out: &mut Vec<u8>, reply: Reply, moved: Moved, url: &str) -> u16 {
    let (status, vary) = match moved {
        Moved::ForAll => (308, ""),
        Moved::ForThisClient => (307, "Vary: Upgrade-Insecure-Requests\r\n"),
    };
    let lines = format!("Location: {url}\r\n{vary}");
    write_with(out, reply, status, "text/plain; charset=utf-8", &lines, &format!("{url}\n"))
}

/// A line of text.
pub(crate) fn plain(out: &mut Vec<u8>, reply: Reply, status: u16, text: &str) -> u16 {
    write(out, reply, status, "text/plain; charset=utf-8", text)
}

/// The metrics.
pub(crate) fn metrics(out: &mut Vec<u8>, reply: Reply, text: &str) -> u16 {
    write(out, reply, 200, "text/plain; version=0.0.4; charset=utf-8", text)
}

/// A request that was refused before anything was known about it.
pub(crate) fn refused(out: &mut Vec<u8>, refusal: Refusal) {
    let text = refusal_text(refusal);
    // The method is what is wrong: say which are right (RFC 9110 15.5.6).
    let lines = match refusal.status {
        405 => METHODS,
        503 => RETRY,
        _ => "",
    };
    let head = format!(
        "HTTP/1.1 {} {}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n{lines}\
         Connection: close\r\n\r\n{text}",
        refusal.status,
        reason(refusal.status),
        text.len()
    );
    out.extend_from_slice(head.as_bytes());
}

fn refusal_text(refusal: Refusal) -> String {
    match refusal.status {
        400 => format!("agentfs: malformed {}\n", refusal.what),
        _ => format!("agentfs: {}\n", refusal.what),
    }
}

/// A name or address that is none of ours.
pub(crate) fn foreign(out: &mut Vec<u8>, reply: Reply) -> u16 {
    plain(out, reply, 404, "agentfs: this host name is not served here; use a name below .localhost\n")
}

/// What runs.
pub(crate) fn index(out: &mut Vec<u8>, reply: Reply, sees: Sees, table: &Table) -> u16 {
    let live = Live::of(table, sees);
    let fields = json!({ "live": live.json() });
    page(out, reply, 200, "What is running", "", &live, fields)
}

/// A name below `.localhost` that nothing has.
pub(crate) fn unknown(out: &mut Vec<u8>, reply: Reply, sees: Sees, host: &str, table: &Table) -> u16 {
    let live = Live::of(table, sees);
    let fields = json!({ "error": "unknown_host", "host": host, "live": live.json() });
    page(out, reply, 404, &format!("No app or instance is named {host}"), "", &live, fields)
}

/// A known name that gave no answer. Returns the status.
pub(crate) fn failed(
    out: &mut Vec<u8>,
    reply: Reply,
    sees: Sees,
    entry: &Entry,
    cause: Cause,
    now_ms: u64,
) -> u16 {
    let host = &entry.host;
    let (status, error, title) = match cause {
        Cause::Request(refusal) => {
            return plain(out, reply, refusal.status, &refusal_text(refusal));
        }
        Cause::NoListener => (502, "no_listener", format!("{host} is known, but nothing listens")),
        Cause::Starting => {
            let age = duration(now_ms.saturating_sub(entry.starting.unwrap_or(now_ms)));
            (503, "starting", format!("{host} was started {age} ago and does not listen yet"))
        }
        Cause::NoRoom => {
            (503, "no_room", format!("too many requests are in progress; none can be sent to {host} now"))
        }
        Cause::Silent => (502, "no_answer", format!("{host} closed the connection without an answer")),
        Cause::Garbage(what) => (502, "bad_answer", format!("{host} answered with a malformed {what}")),
    };
    let seen = entry.dead.clone().unwrap_or_else(|| LastSeen {
        socket: entry.upstreams.first().map(|upstream| upstream.socket.to_string()).unwrap_or_default(),
        ..LastSeen::default()
    });
    let seen = match sees {
        Sees::Everything => seen,
        Sees::Names => LastSeen { when_ms: seen.when_ms, ..LastSeen::default() },
    };
    let shown = |text: &str| (sees == Sees::Everything).then(|| text.to_owned());
    let mut facts = String::new();
    let age = (seen.when_ms > 0).then(|| format!("{} ago", duration(now_ms.saturating_sub(seen.when_ms))));
    let next = (status == 503).then(|| format!("retry in {RETRY_SECONDS} s; this page reloads itself"));
    let start = (!seen.command.is_empty()).then(|| format!("agentfs wrap -- {}", seen.command));
    for (label, value) in [
        ("socket", Some(&seen.socket)),
        ("last seen", age.as_ref()),
        ("started in", Some(&seen.directory)),
        ("start it with", start.as_ref()),
        ("next", next.as_ref()),
    ] {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            let _ = writeln!(facts, "{label}: {}", visible(value));
        }
    }
    let fields = json!({
        "error": error,
        "host": host,
        "socket": shown(&seen.socket),
        "last_seen_ms": (seen.when_ms > 0).then_some(seen.when_ms),
        "command": shown(&seen.command),
        "directory": shown(&seen.directory),
        "message": title,
    });
    page(out, reply, status, &title, &facts, &Live::default(), fields)
}

fn duration(ms: u64) -> String {
    match ms / 1000 {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

/// Live names for a page.
#[derive(Default)]
struct Live {
    /// Name, URL and title.
    names: Vec<(String, String, String)>,
    /// How many there are besides.
    more: usize,
}

impl Live {
    fn of(table: &Table, sees: Sees) -> Self {
        let live = |route: &&Route| !route.entry.upstreams.is_empty() && !is_said_twice(table, &route.entry);
        let mut routes: Vec<_> = table.routes().filter(live).collect();
        routes.sort_by(|left, right| left.entry.host.cmp(&right.entry.host));
        let more = routes.len().saturating_sub(PAGE_NAMES);
        routes.truncate(PAGE_NAMES);
        let names = routes.into_iter().map(|route| {
            let host = route.entry.host.clone();
            let url = format!("{}/", table.url(&host));
            // It may be a path.
            let title = if sees == Sees::Everything { route.entry.title.clone() } else { String::new() };
            (host, url, title)
        });
        Self { names: names.collect(), more }
    }

    fn json(&self) -> Value {
        self.names
            .iter()
            .map(|(host, url, title)| json!({ "host": host, "url": url, "title": title }))
            .collect()
    }
}

/// Whether `PORT.NAME` leads where `NAME` does, so that a list need not have both.
fn is_said_twice(table: &Table, entry: &Entry) -> bool {
    let Some((port, name)) = entry.host.split_once('.') else { return false };
    if port.parse::<u16>().is_err() {
        return false;
    }
    let Lookup::Found(other) = table.lookup(name) else { return false };
    let (ours, theirs) = (&entry.upstreams, &other.entry.upstreams);
    ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(ours, theirs)| Arc::ptr_eq(ours, theirs))
}

fn page(
    out: &mut Vec<u8>,
    reply: Reply,
    status: u16,
    title: &str,
    facts: &str,
    live: &Live,
    fields: Value,
) -> u16 {
    match reply.facts.format {
        Format::Json => write(out, reply, status, "application/json", &format!("{fields}\n")),
        Format::Text => write(out, reply, status, "text/plain; charset=utf-8", &text(title, facts, live)),
        Format::Html => {
            write(out, reply, status, "text/html; charset=utf-8", &html(title, facts, live, status == 503))
        }
    }
}

fn text(title: &str, facts: &str, live: &Live) -> String {
    let mut text = format!("agentfs: {title}\n{facts}");
    for (_, url, title) in &live.names {
        let _ = writeln!(text, "{}", format!("  {url}  {}", visible(title)).trim_end());
    }
    if live.more > 0 {
        let _ = writeln!(text, "  and {} more", live.more);
    }
    text
}

fn html(title: &str, facts: &str, live: &Live, refresh: bool) -> String {
    let title = escape(title);
    let refresh = if refresh { REFRESH } else { "" };
    let mut html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">{refresh}<link rel=\"icon\" href=\"data:,\"><title>{title}</title><style>\
         body{{font:16px/1.5 system-ui,sans-serif;max-width:48rem;margin:4rem auto;padding:0 1rem;\
         color:#222;background:#fff}}\
         td{{padding:.2rem 1rem .2rem 0;vertical-align:top}}code{{font-size:.95em;overflow-wrap:anywhere}}\
         @media(prefers-color-scheme:dark){{body{{color:#ddd;background:#181818}}a{{color:#8bf}}}}\
         </style><h1>{title}</h1>"
    );
    if !facts.is_empty() {
        html.push_str("<table>");
        for (label, value) in facts.lines().filter_map(|line| line.split_once(": ")) {
            let _ = write!(html, "<tr><td>{}<td><code>{}</code>", escape(label), escape(value));
        }
        html.push_str("</table>");
    }
    if !live.names.is_empty() {
        html.push_str("<table>");
        for (host, url, title) in &live.names {
            let (host, url, title) = (escape(host), escape(url), escape(&visible(title).to_string()));
            let _ = write!(html, "<tr><td><a href=\"{url}\">{host}</a><td>{title}");
        }
        html.push_str("</table>");
    }
    if live.more > 0 {
        let _ = write!(html, "<p>and {} more", live.more);
    }
    html.push_str("<p>agentfs</html>\n");
    html
}

/// `text` so that it is nothing but text in HTML, also within quotes.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::listener::Upstream;
    use agentfs_wire::control::Policy;

    #[test]
    fn a_list_has_no_second_name_of_the_same() {
        let upstream = |name: &str| {
            Arc::new(Upstream::new(
                crate::upstream::target::Target::Unix(name.into()),
                "shop".into(),
                "one".into(),
                80,
            ))
        };
        let entry = |host: &str, upstream: &Arc<Upstream>| Entry {
            host: host.to_owned(),
            wildcard: false,
            upstreams: vec![Arc::clone(upstream)],
            policy: Policy::default(),
            handoff: None,
            rewrite_host: false,
            dead: None,
            starting: None,
            title: String::new(),
        };
        let (main, other) = (upstream("/main"), upstream("/other"));
        let hosts = ["shop.localhost", "80.shop.localhost", "81.shop.localhost", "82.gone.localhost"];
        let entries =
            hosts.iter().zip([&main, &main, &other, &other]).map(|(host, upstream)| entry(host, upstream));
        let names = Live::of(&Table::new(entries.collect(), 80), Sees::Names).names;
        let names: Vec<_> = names.iter().map(|(host, ..)| host.as_str()).collect();
        assert_eq!(names, ["81.shop.localhost", "82.gone.localhost", "shop.localhost"]);
    }

    #[test]
    fn names_are_one_line_and_obeyed_by_no_terminal() {
        let live = Live { names: vec![("a".into(), "http://a/".into(), "x\x1b[2J\n".into())], more: 0 };
        assert_eq!(text("t", "", &live), "agentfs: t\n  http://a/  x\\u{1b}[2J\\n\n");
        let seen = LastSeen { directory: "/a\nnext: b\x1b]0;\u{202e}".into(), ..LastSeen::default() };
        let entry = Entry {
            host: "shop.localhost".to_owned(),
            wildcard: false,
            upstreams: Vec::new(),
            policy: Policy::default(),
            handoff: None,
            rewrite_host: false,
            dead: Some(seen),
            starting: None,
            title: String::new(),
        };
        let answer_to = |sees, format| {
            let facts = Facts {
                is_head: false,
                idempotent: true,
                is_http10: false,
                keep_alive: false,
                upgrade: false,
                body: crate::message::body::Body::Length(0),
                format,
            };
            let mut out = Vec::new();
            failed(&mut out, Reply { facts, close: true }, sees, &entry, Cause::NoListener, 1);
            String::from_utf8(out).unwrap()
        };
        let answer = |format| answer_to(Sees::Everything, format);
        let plain = answer(Format::Text);
        assert!(plain.ends_with("started in: /a\\nnext: b\\u{1b}]0;\\u{202e}\n"), "{plain}");
        assert!(!answer(Format::Html).contains("<td>next"));
        assert!(answer(Format::Json).contains(r#""directory":"/a\nnext: b\u001b]0;"#));
        for format in [Format::Text, Format::Html, Format::Json] {
            let names = answer_to(Sees::Names, format);
            assert!(names.contains("shop.localhost is known") && !names.contains("/a"), "{names}");
        }
        assert!(answer_to(Sees::Names, Format::Json).contains(r#""directory":null"#));
    }

    #[test]
    fn names_cannot_become_markup() {
        assert_eq!(escape("<a href=\"x\">'&"), "&lt;a href=&quot;x&quot;&gt;&#39;&amp;");
    }
}
