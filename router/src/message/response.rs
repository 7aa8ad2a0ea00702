//! A response's head: read leniently, since it is the developer's own application, and written anew
//! for the client. Pure.
use crate::limits::{HEADER_LINES, HEADER_LINES_INLINE};
use crate::message::body::Body;
use crate::message::head::FRAME_HEAD;
use crate::message::headers::{self, Connection, Kind, put};
use crate::message::request::Facts;
use std::mem::MaybeUninit;

/// What the exchange must know of a response, after its head was written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    /// Status code.
    pub(crate) status: u16,
    /// 1xx other than 101: the final answer is still to come.
    pub(crate) interim: bool,
    /// 101.
    pub(crate) switched: bool,
    /// How the application sends the body.
    pub(crate) body: Body,
    /// How the client gets it.
    pub(crate) coding: Coding,
    /// Whether the application's connection can be used again.
    pub(crate) reusable: bool,
    /// Whether the client's connection can.
    pub(crate) keep_alive: bool,
    /// Whether it is an event stream or another protocol, which have no end of their own.
    pub(crate) long_lived: bool,
    /// Whether it is a page for people.
    pub(crate) is_page: bool,
}

/// What happens to a body on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    /// Passed as it is.
    Same,
    /// Chunks taken off, for HTTP/1.0.
    Unchunk,
    /// Chunks put on, where the application would end it by closing.
    Chunk,
}

/// Whether what begins with `bytes` can become an answer of HTTP/1, or the first frame of HTTP/2. All else will never
/// be a head, however long one waits: a greeting of another protocol.
pub(crate) fn may_begin(bytes: &[u8]) -> bool {
    const BEGINNING: &[u8] = b"HTTP/1.";
    let count = bytes.len().min(BEGINNING.len());
    bytes[..count] == BEGINNING[..count] || (bytes[0] == 0 && bytes.len() < FRAME_HEAD)
}

// === impl Answer ===

impl Answer {
    /// Whether an `Upgrade` header belongs to it.
    fn names_protocols(&self) -> bool {
        self.switched || self.status == 426
    }
}

/// Parses the complete head in `bytes`, and writes what the client gets to `out`. An interim answer
/// to an HTTP/1.0 client writes nothing.
pub(crate) fn rewrite(
    bytes: &[u8],
    request: &Facts,
    close: bool,
    out: &mut Vec<u8>,
) -> Result<Answer, &'static str> {
    with_response(bytes, |parsed| {
        let (answer, framing) = check(parsed, request, close)?;
        if !(answer.interim && request.is_http10) {
            write_head(parsed, request, &answer, &framing, out);
        }
        Ok(answer)
    })
}

/// Parses the complete head in `bytes` for a client that speaks HTTP/2.
pub(crate) fn read(
    bytes: &[u8],
    request: &Facts,
) -> Result<(Answer, http::response::Response<()>), &'static str> {
    with_response(bytes, |parsed| {
        let (answer, framing) = check(parsed, request, false)?;
        let mut response = http::Response::new(());
        *response.status_mut() = http::StatusCode::from_u16(answer.status).map_err(|_| "status line")?;
        let headers = response.headers_mut();
        headers.reserve(parsed.headers.len());
        let mut broken = false;
        each_header(parsed, &answer, &framing, |name, value| {
            let named = http::HeaderName::from_bytes(name.as_bytes());
            match (named, http::HeaderValue::from_bytes(value)) {
                // HTTP/2 has no such header (RFC 9113 8.2.2), and 101 is none of its statuses.
                (Ok(http::header::UPGRADE), _) => {}
                (Ok(name), Ok(value)) => broken |= headers.try_append(name, value).is_err(),
                _ => broken = true,
            }
        });
        if broken { Err("header line") } else { Ok((answer, response)) }
    })
}

fn with_response<T>(
    bytes: &[u8],
    then: impl FnOnce(&httparse::Response<'_, '_>) -> Result<T, &'static str>,
) -> Result<T, &'static str> {
    let mut config = httparse::ParserConfig::default();
    config
        .allow_spaces_after_header_name_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true);
    let mut inline = [const { MaybeUninit::uninit() }; HEADER_LINES_INLINE];
    let mut parsed = httparse::Response::new(&mut []);
    match config.parse_response_with_uninit_headers(&mut parsed, bytes, &mut inline) {
        Ok(_) => then(&parsed),
        Err(httparse::Error::TooManyHeaders) => {
            let mut many = vec![httparse::EMPTY_HEADER; HEADER_LINES];
            let mut parsed = httparse::Response::new(&mut many);
            config.parse_response(&mut parsed, bytes).map_err(|_| "head")?;
            then(&parsed)
        }
        // A later HTTP/1 means the same to us (RFC 9110 2.5).
        Err(httparse::Error::Version)
            if let Some([b'2'..=b'9', rest @ ..]) = bytes.strip_prefix(b"HTTP/1.") =>
        {
            let known = [b"HTTP/1.1", rest].concat();
            with_response(&known, then)
        }
        Err(_) => Err("head"),
    }
}

/// What a head says about its connection and its body.
#[derive(Debug)]
struct Framing<'head> {
    connection: Connection<'head>,
    /// Whether it names a transfer coding.
    coded: bool,
}

fn check<'head>(
    parsed: &'head httparse::Response<'_, '_>,
    request: &Facts,
    close: bool,
) -> Result<(Answer, Framing<'head>), &'static str> {
    let (Some(status @ 100..), Some(version)) = (parsed.code, parsed.version) else {
        return Err("status line");
    };
    let mut length = None;
    let mut coding = None;
    let mut long_lived = status == 101;
    let mut is_html = false;
    let mut connection = Connection::default();
    for header in &*parsed.headers {
        match headers::kind(header.name) {
            Kind::ContentLength => {
                let value = std::str::from_utf8(header.value).unwrap_or("?");
                for member in value.split(',') {
                    let member = headers::content_length(member.trim().as_bytes()).ok_or("content-length")?;
                    if length.replace(member).is_some_and(|other| other != member) {
                        return Err("content-length: two that differ");
                    }
                }
            }
            Kind::TransferEncoding => {
                let value = std::str::from_utf8(header.value).map_err(|_| "transfer-encoding")?;
                if coding.replace(value).is_some() {
                    return Err("transfer-encoding: two of them");
                }
            }
            Kind::Connection => connection.add(std::str::from_utf8(header.value).unwrap_or_default()),
            Kind::Other if header.name.eq_ignore_ascii_case("content-type") => {
                long_lived |= header.value.starts_with(b"text/event-stream");
                is_html |= headers::is_html(header.value);
            }
            _ => {}
        }
    }
    let interim = (100..200).contains(&status) && status != 101;
    if status == 101 && !request.upgrade {
        return Err("status: 101 though nobody asked for it");
    }
    let empty = request.is_head || status < 200 || matches!(status, 204 | 304);
    let body = match (empty, coding, length) {
        (true, ..) => Body::NONE,
        (false, Some(coding), _) if coding.eq_ignore_ascii_case("chunked") => Body::CHUNKED,
        (false, Some(coding), _) if coding.eq_ignore_ascii_case("identity") => {
            length.map_or(Body::UntilClose, Body::Length)
        }
        (false, Some(_), _) => return Err("transfer-encoding: only chunked can be passed on"),
        (false, None, Some(length)) => Body::Length(length),
        (false, None, None) => Body::UntilClose,
    };
    let answer = Answer {
        status,
        interim,
        switched: status == 101,
        body,
        coding: match body {
            Body::Chunked(_) if request.is_http10 => Coding::Unchunk,
            Body::UntilClose if !request.is_http10 => Coding::Chunk,
            _ => Coding::Same,
        },
        reusable: body != Body::UntilClose
            && !connection.close
            && (version == 1 || connection.keep_alive)
            // Both at once is a sign of confusion: believe the coding, but not what follows.
            && !(coding.is_some() && length.is_some()),
        keep_alive: request.keep_alive
            && !close
            && !(request.is_http10 && matches!(body, Body::Chunked(_) | Body::UntilClose)),
        long_lived,
        is_page: is_html && (200..300).contains(&status),
    };
    // `identity` frames nothing: the length does, and has to reach the client.
    let coded = coding.is_some_and(|coding| !coding.eq_ignore_ascii_case("identity"));
    Ok((answer, Framing { connection, coded }))
}

/// Calls `put` with each header that the client gets.
fn each_header(
    parsed: &httparse::Response<'_, '_>,
    answer: &Answer,
    framing: &Framing<'_>,
    mut put: impl FnMut(&str, &[u8]),
) {
    let Framing { connection, coded } = framing;
    let mut length_written = false;
    for header in &*parsed.headers {
        let pass = match headers::kind(header.name) {
            Kind::ContentLength => {
                // None beside a coding, none in an interim answer, and never twice.
                let once = !length_written && !coded && answer.status >= 200 && answer.status != 204;
                if once {
                    length_written = true;
                    let first = header.value.split(|byte| *byte == b',').next().unwrap_or_default();
                    put(header.name, first.trim_ascii());
                }
                false
            }
            Kind::TransferEncoding | Kind::Connection | Kind::Te | Kind::HopByHop => false,
            Kind::Upgrade => answer.names_protocols(),
            _ => connection.named.is_empty() || !connection.names(header.name),
        };
        if !pass {
            continue;
        }
        if header.value.contains(&b'\n') {
            let unfolded: Vec<u8> =
                header.value.iter().map(|byte| if b"\r\n".contains(byte) { b' ' } else { *byte }).collect();
            put(header.name, &unfolded);
        } else {
            put(header.name, header.value);
        }
    }
}

fn write_head(
    parsed: &httparse::Response<'_, '_>,
    request: &Facts,
    answer: &Answer,
    framing: &Framing<'_>,
    out: &mut Vec<u8>,
) {
    let digit = |divisor: u16| b'0' + u8::try_from(answer.status / divisor % 10).unwrap_or_default();
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(&[digit(100), digit(10), digit(1), b' ']);
    out.extend_from_slice(parsed.reason.unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    each_header(parsed, answer, framing, |name, value| put(out, name, value));
    let chunked = !request.is_http10
        && match answer.body {
            Body::Chunked(_) | Body::UntilClose => true,
            // What a GET would have got (RFC 9112 6.1).
            Body::Length(_) => request.is_head && framing.coded,
        };
    if chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    if answer.names_protocols() {
        out.extend_from_slice(b"Connection: Upgrade\r\n");
    } else if answer.interim {
        // It says nothing about the connection.
    } else if !answer.keep_alive {
        out.extend_from_slice(b"Connection: close\r\n");
    } else if request.is_http10 {
        out.extend_from_slice(b"Connection: keep-alive\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::request::Format;

    const GET: Facts = Facts {
        is_head: false,
        idempotent: true,
        is_http10: false,
        keep_alive: true,
        upgrade: false,
        body: Body::NONE,
        format: Format::Text,
        navigates: false,
        at_root: false,
    };

    fn run(head: &str, request: &Facts) -> Result<(Answer, String), &'static str> {
        let mut out = Vec::new();
        let answer = rewrite(head.as_bytes(), request, false, &mut out)?;
        Ok((answer, String::from_utf8(out).unwrap()))
    }

    #[test]
    fn hop_by_hop_lines_go() {
        let head = "HTTP/1.1 200 Fine\r\nConnection: X-A, keep-alive\r\nX-A: 1\r\nX-B: 2\r\nKeep-Alive: timeout=5\r\n\
                    Upgrade: h2\r\nDate: now\r\nContent-Length: 5\r\n\r\n";
        let (answer, out) = run(head, &GET).unwrap();
        assert_eq!(out, "HTTP/1.1 200 Fine\r\nX-B: 2\r\nDate: now\r\nContent-Length: 5\r\n\r\n");
        assert!(answer.reusable && answer.keep_alive && answer.body == Body::Length(5));
    }

    #[test]
    fn a_later_version_is_read_as_1_1() {
        let (answer, out) = run("HTTP/1.2 200 OK\r\nTE: x\r\nContent-Length: 1\r\n\r\n", &GET).unwrap();
        assert_eq!(out, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n");
        assert!(answer.reusable);
    }

    #[test]
    fn bodies_fit_the_client() {
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let (answer, out) = run(chunked, &GET).unwrap();
        assert_eq!((answer.coding, out.as_str()), (Coding::Same, chunked));
        let (answer, out) = run(chunked, &Facts { is_http10: true, ..GET }).unwrap();
        assert_eq!(
            (answer.coding, out.as_str()),
            (Coding::Unchunk, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        );
        let (answer, out) = run("HTTP/1.0 200 OK\r\n\r\n", &GET).unwrap();
        assert_eq!((answer.coding, answer.reusable, out.as_str()), (Coding::Chunk, false, chunked));
        let (answer, out) =
            run("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", &Facts { is_head: true, ..GET }).unwrap();
        assert_eq!((answer.body, out.as_str()), (Body::NONE, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"));
    }

    #[test]
    fn nonsense_is_refused() {
        for head in [
            "hello\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.1 101 Switching\r\n\r\n",
            "HTTP/1.10 200 OK\r\n\r\n",
            "HTTP/1.1 099 Low\r\n\r\n",
        ] {
            assert!(run(head, &GET).is_err(), "{head}");
        }
    }

    #[test]
    fn what_can_become_an_answer_is_told_from_other_protocols() {
        for bytes in [b"H".as_slice(), b"HTTP/1.", b"HTTP/1.1 200 OK\r\n", b"\0", b"\0\0\x12\x04\0\0\0\0"] {
            assert!(may_begin(bytes), "{bytes:?}");
        }
        for bytes in [b"h".as_slice(), b"HTTP/2", b"SSH-2.0", b"220 mail", b"\0\0\x12\x04\0\0\0\0\0", b"\x01"]
        {
            assert!(!may_begin(bytes), "{bytes:?}");
        }
    }

    #[test]
    fn protocols_are_named_where_they_change() {
        let upgrade = Facts { upgrade: true, ..GET };
        let switching = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: chat\r\n\r\n";
        let (answer, out) = run(switching, &upgrade).unwrap();
        assert_eq!(out, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: chat\r\nConnection: Upgrade\r\n\r\n");
        assert!(answer.switched && answer.long_lived && !answer.interim && answer.body == Body::NONE);
        let (answer, out) =
            run("HTTP/1.1 426 Upgrade Required\r\nUpgrade: chat\r\nContent-Length: 0\r\n\r\n", &GET).unwrap();
        assert_eq!(
            out,
            "HTTP/1.1 426 Upgrade Required\r\nUpgrade: chat\r\nContent-Length: 0\r\nConnection: Upgrade\r\n\r\n"
        );
        assert!(!answer.switched && !answer.long_lived && !answer.interim);
    }

    #[test]
    fn interim_answers_have_neither_length_nor_connection() {
        let head = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nContent-Length: 5\r\n\r\n";
        let (answer, out) = run(head, &Facts { keep_alive: false, ..GET }).unwrap();
        assert_eq!(out, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
        assert!(answer.interim && answer.body == Body::NONE && !answer.long_lived);
        let (answer, out) = run(head, &Facts { is_http10: true, ..GET }).unwrap();
        assert!(answer.interim && out.is_empty(), "{out}");
    }

    #[test]
    fn some_answers_have_no_body() {
        for (status, request, body) in [
            (200, GET, Body::Length(5)),
            (201, GET, Body::Length(5)),
            (204, GET, Body::NONE),
            (304, GET, Body::NONE),
            (404, GET, Body::Length(5)),
            (200, Facts { is_head: true, ..GET }, Body::NONE),
        ] {
            let (answer, out) =
                run(&format!("HTTP/1.1 {status} X\r\nContent-Length: 5\r\n\r\n"), &request).unwrap();
            assert_eq!(answer.body, body, "{status}");
            // The length tells what a GET would get; 204 has none (RFC 9110 8.6).
            assert_eq!(out.contains("Content-Length: 5\r\n"), status != 204, "{out}");
        }
    }

    #[test]
    fn the_length_is_written_once_and_not_beside_a_coding() {
        for (lines, written) in [
            ("Content-Length: 5, 5\r\n", "Content-Length: 5\r\n"),
            ("Content-Length: 5\r\nContent-Length: 5\r\n", "Content-Length: 5\r\n"),
            ("Transfer-Encoding: identity\r\nContent-Length: 5\r\n", "Content-Length: 5\r\n"),
            ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "Transfer-Encoding: chunked\r\n"),
            ("Transfer-Encoding: identity\r\n", "Transfer-Encoding: chunked\r\n"),
        ] {
            let (_, out) = run(&format!("HTTP/1.1 200 OK\r\n{lines}\r\n"), &GET).unwrap();
            assert_eq!(out, format!("HTTP/1.1 200 OK\r\n{written}\r\n"), "{lines}");
        }
    }

    #[test]
    fn connections_are_used_again_only_where_their_end_is_sure() {
        for (head, reusable) in [
            ("1.1 200 OK\r\nContent-Length: 5", true),
            ("1.1 200 OK\r\nTransfer-Encoding: chunked", true),
            ("1.1 200 OK\r\nX: y", false),
            ("1.1 200 OK\r\nContent-Length: 5\r\nConnection: close", false),
            ("1.1 200 OK\r\nConnection: close", false),
            ("1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked", false),
            ("1.0 200 OK\r\nContent-Length: 5", false),
            ("1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive", true),
            ("1.0 200 OK\r\nConnection: keep-alive", false),
        ] {
            let (answer, _) = run(&format!("HTTP/{head}\r\n\r\n"), &GET).unwrap();
            assert_eq!(answer.reusable, reusable, "{head}");
        }
    }

    #[test]
    fn clients_of_http_1_0_keep_a_connection_whose_body_has_a_length() {
        let old = Facts { is_http10: true, ..GET };
        for (line, coding, keep_alive) in [
            ("Content-Length: 5\r\n", Coding::Same, true),
            ("", Coding::Same, false),
            ("Transfer-Encoding: chunked\r\n", Coding::Unchunk, false),
        ] {
            let (answer, out) = run(&format!("HTTP/1.1 200 OK\r\n{line}\r\n"), &old).unwrap();
            assert_eq!((answer.coding, answer.keep_alive), (coding, keep_alive), "{line}");
            let connection = if keep_alive { "keep-alive" } else { "close" };
            assert!(out.ends_with(&format!("\r\nConnection: {connection}\r\n\r\n")), "{out}");
        }
    }

    #[test]
    fn the_media_type_tells_pages_and_streams() {
        for (status, lines, is_page, long_lived) in [
            (200, "Content-Type: text/html; charset=utf-8\r\n", true, false),
            (299, "Content-Type: text/html\r\n", true, false),
            (404, "Content-Type: text/html\r\n", false, false),
            (200, "Content-Type: text/event-stream\r\n", false, true),
            (200, "Content-Type: text/plain\r\n", false, false),
            (200, "X-Type: text/html\r\nX-Other: text/event-stream\r\n", false, false),
            (200, "", false, false),
        ] {
            let (answer, _) = run(&format!("HTTP/1.1 {status} X\r\n{lines}\r\n"), &GET).unwrap();
            assert_eq!((answer.is_page, answer.long_lived), (is_page, long_lived), "{status} {lines}");
        }
    }

    #[test]
    fn clients_of_http_2_get_what_it_knows() {
        let read = |lines: &str| super::read(format!("HTTP/1.1 426 X\r\n{lines}\r\n").as_bytes(), &GET);
        let (answer, response) =
            read("Upgrade: chat\r\nConnection: upgrade\r\nX-A: 1\r\nX-A: 2\r\n").unwrap();
        assert_eq!((answer.status, response.status().as_u16()), (426, 426));
        let headers: Vec<_> =
            response.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        assert_eq!(headers, [("x-a", b"1".as_slice()), ("x-a", b"2")]);
        // A name that no client takes, with another header behind it.
        let long = "x".repeat(1 << 16);
        assert_eq!(read(&format!("{long}: 1\r\nX-A: 1\r\n")).err(), Some("header line"));
    }
}
