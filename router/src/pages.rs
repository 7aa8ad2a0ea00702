//! Answers of our own: the index, what is unknown, what does not answer, what was refused. Pure.
//!
//! HTML for browsers, JSON for programs that ask for it, text for the rest. All names come from
//! outside and are escaped; a foreign host learns nothing about what runs here.
mod list;

use crate::error::{Failure, Refusal};
use crate::message::request::{Facts, Format};
use crate::table::{Entry, LastSeen, Table};
use agentfs_wire::text::visible;
use list::Live;
pub(crate) use list::Sees;
use serde_json::{Value, json};
use std::fmt::Write as _;
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
    /// It speaks another protocol.
    NotHttp,
    /// The request's body turned out wrong.
    Request(Refusal),
}

impl From<Failure> for Cause {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::ClientBody(what) => Self::Request(Refusal::bad(what)),
            Failure::ClientSlow => Self::Request(Refusal::TIMEOUT),
            Failure::Garbage(what) => Self::Garbage(what),
            Failure::NotHttp => Self::NotHttp,
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
        300 => "Multiple Choices",
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
    table: &Table,
) -> u16 {
    let (host, now_ms) = (&entry.host, now_ms());
    let siblings = Live::siblings(table, sees, entry);
    let (status, error, title) = match cause {
        Cause::Request(refusal) => {
            return plain(out, reply, refusal.status, &refusal_text(refusal));
        }
        Cause::NoListener => (502, "no_listener", nothing_listens(entry, &siblings)),
        Cause::Starting => {
            let age = duration(now_ms.saturating_sub(entry.starting.unwrap_or(now_ms)));
            (503, "starting", format!("{host} was started {age} ago and does not listen yet"))
        }
        Cause::NoRoom => {
            (503, "no_room", format!("too many requests are in progress; none can be sent to {host} now"))
        }
        Cause::NotHttp => (
            502,
            "bad_answer",
            format!("{host} answered with a malformed status line: it does not speak HTTP"),
        ),
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
    let next = (status == 503).then(|| match reply.facts.format {
        Format::Html => format!("retry in {RETRY_SECONDS} s; this page reloads itself"),
        Format::Text | Format::Json => format!("retry in {RETRY_SECONDS} s"),
    });
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
        "siblings": siblings.json(),
    });
    page(out, reply, status, &title, &facts, &siblings, fields)
}

/// Why a name without a listener has none.
fn nothing_listens(entry: &Entry, siblings: &Live) -> String {
    let host = &entry.host;
    match entry.declared {
        _ if siblings.is_empty() => format!("{host} is known, but nothing listens"),
        Some(port) => format!("{host} is its port {port}, where nothing listens; other ports do"),
        None => format!("{host} has no port that speaks HTTP, as far as is known"),
    }
}

/// The name of an app whose `main` is not running. It never leads to a fork; the page names those that run.
pub(crate) fn forks_only(out: &mut Vec<u8>, reply: Reply, sees: Sees, entry: &Entry, table: &Table) -> u16 {
    let host = &entry.host;
    let app = host.strip_suffix(".localhost").unwrap_or(host);
    let title = format!("{host} is the instance main of {app}, which is not running");
    let live = Live::instances(table, sees, host);
    let mut facts = String::new();
    if let Some(seen) = entry.dead.as_ref().filter(|_| sees == Sees::Everything) {
        for (label, value) in [
            ("started in", seen.directory.clone()),
            ("start it with", format!("agentfs wrap -- {}", seen.command)),
        ] {
            if !seen.command.is_empty() {
                let _ = writeln!(facts, "{label}: {}", visible(&value));
            }
        }
    }
    // Only a browser does.
    let reloads = if reply.facts.format == Format::Html { "this page reloads itself; " } else { "" };
    let _ = writeln!(facts, "next: {reloads}the instances below are running");
    let fields =
        json!({ "error": "main_not_running", "host": host, "running": live.json(), "message": title });
    page(out, reply, 503, &title, &facts, &live, fields)
}

/// A name that means one of several ports, and nobody knows which has the pages: a person chooses. Which one answers is
/// remembered.
pub(crate) fn choice(out: &mut Vec<u8>, reply: Reply, sees: Sees, entry: &Entry, table: &Table) -> u16 {
    let host = &entry.host;
    let title = format!("{host} has several ports; choose one");
    let ports = Live::ports(table, sees, host);
    let facts = format!(
        "next: the port that answers with a page has {host} from then on; `main = PORT` in agentfs.toml or \
         `wrap --main PORT` decides it\n"
    );
    let fields = json!({ "error": "several_ports", "host": host, "ports": ports.json(), "message": title });
    page(out, reply, 300, &title, &facts, &ports, fields)
}

fn duration(ms: u64) -> String {
    match ms / 1000 {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
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

    #[test]
    fn names_are_one_line_and_obeyed_by_no_terminal() {
        let live = Live::of_one("a", "http://a/", "x\x1b[2J\n");
        assert_eq!(text("t", "", &live), "agentfs: t\n  http://a/  x\\u{1b}[2J\\n\n");
        let seen = LastSeen { directory: "/a\nnext: b\x1b]0;\u{202e}".into(), ..LastSeen::default() };
        let entry = Entry { dead: Some(seen), ..Entry::new("shop.localhost".to_owned()) };
        let answer_to = |sees, format| {
            let facts = Facts {
                is_head: false,
                idempotent: true,
                is_http10: false,
                keep_alive: false,
                upgrade: false,
                body: crate::message::body::Body::Length(0),
                format,
                navigates: false,
                at_root: true,
            };
            let mut out = Vec::new();
            failed(
                &mut out,
                Reply { facts, close: true },
                sees,
                &entry,
                Cause::NoListener,
                &Table::new(Vec::new(), 80),
            );
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
