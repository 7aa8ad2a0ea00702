//! Heads of requests: what is read from them, what is refused, what is written.
use super::*;

const ORIGIN: Origin<'_> = Origin { address: "127.0.0.1", scheme: "http" };

fn rewrite(head: &str) -> Result<String, u16> {
    with_request(head.as_bytes(), |request| {
        let mut out = Vec::new();
        request.write(&mut out, ORIGIN, None)?;
        Ok(String::from_utf8(out).unwrap())
    })
    .map_err(|refusal| refusal.status)
}

#[test]
fn a_plain_request_keeps_its_lines() {
    assert_eq!(
        rewrite("GET /a?b HTTP/1.1\r\nhost: shop.localhost:80\r\nX-A: 1\r\n\r\n").unwrap(),
        "GET /a?b HTTP/1.1\r\nhost: shop.localhost:80\r\nX-A: 1\r\nX-Forwarded-For: 127.0.0.1\r\n\
         X-Forwarded-Host: shop.localhost:80\r\nX-Forwarded-Proto: http\r\n\
         Forwarded: for=127.0.0.1;host=\"shop.localhost:80\";proto=http\r\nX-Agentfs-Hops: 1\r\n\r\n"
    );
}

#[test]
fn absolute_targets_win_over_host() {
    for (target, line) in [
        ("http://b.localhost:81/x?y", "GET /x?y HTTP/1.1"),
        ("HTTP://b.localhost:81", "GET / HTTP/1.1"),
        ("http://b.localhost:81?q", "GET /?q HTTP/1.1"),
    ] {
        let out = rewrite(&format!("GET {target} HTTP/1.1\r\nHost: a.localhost\r\n\r\n")).unwrap();
        assert!(out.starts_with(&format!("{line}\r\nHost: b.localhost:81\r\n")), "{out}");
    }
    assert_eq!(rewrite("GET http://u@b.localhost/ HTTP/1.1\r\nHost: a\r\n\r\n"), Err(400));
    assert_eq!(rewrite("GET ftp://b.localhost/ HTTP/1.1\r\nHost: a\r\n\r\n"), Err(400));
    assert_eq!(rewrite("GET x HTTP/1.1\r\nHost: a\r\n\r\n"), Err(400));
}

#[test]
fn a_host_is_always_named() {
    let out = rewrite("GET http://b.localhost/ HTTP/1.0\r\n\r\n").unwrap();
    assert!(out.starts_with("GET / HTTP/1.1\r\nHost: b.localhost\r\n"), "{out}");
    let out = rewrite("GET / HTTP/1.0\r\n\r\n").unwrap();
    assert!(out.starts_with("GET / HTTP/1.1\r\nHost: \r\n"), "{out}");
}

#[test]
fn loops_end() {
    let hops = |count: u8| rewrite(&format!("GET / HTTP/1.1\r\nHost: a\r\nX-Agentfs-Hops: {count}\r\n\r\n"));
    assert!(hops(4).unwrap().contains("X-Agentfs-Hops: 5\r\n"));
    assert_eq!(hops(5), Err(508));
}

#[test]
fn only_h2c_is_taken_out_of_an_upgrade() {
    for (lines, written) in [
        ("Upgrade: h2c, websocket\r\n", "Upgrade: websocket\r\n"),
        ("Upgrade: websocket,H2C,chat/2\r\n", "Upgrade: websocket, chat/2\r\n"),
        ("Upgrade: h2c\r\nUpgrade: websocket\r\n", "Upgrade: websocket\r\n"),
        ("Upgrade: a,b\r\nUpgrade: c\r\n", "Upgrade: a,b\r\nUpgrade: c\r\n"),
        ("Upgrade: h2c\r\n", ""),
        ("Upgrade: h2c;q=1, H2C/1, h2c-2\r\n", "Upgrade: h2c-2\r\n"),
    ] {
        let out =
            rewrite(&format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\n{lines}\r\n")).unwrap();
        assert!(
            out.starts_with(&format!(
                "GET / HTTP/1.1\r\nHost: a\r\n{written}{}",
                match written {
                    "" => "X-Forwarded-For",
                    _ => "Connection: Upgrade\r\n",
                }
            )),
            "{lines}: {out}"
        );
    }
}

#[test]
fn forwards_count_down() {
    let passed = |method: &str, value: &str| {
        rewrite(&format!("{method} / HTTP/1.1\r\nHost: a\r\nMax-Forwards: {value}\r\n\r\n"))
    };
    for (method, value, written) in [
        ("OPTIONS", "5", "4"),
        ("TRACE", "001", "0"),
        ("TRACE", "99999999999999999999", "4294967294"),
        ("GET", "5", "5"),
        ("GET", "x", "x"),
    ] {
        let out = passed(method, value).unwrap();
        assert!(out.contains(&format!("\r\nMax-Forwards: {written}\r\n")), "{method} {value}: {out}");
    }
    for value in ["", "-1", "+1", "x", "1, 2", "1\r\nMax-Forwards: 1"] {
        assert_eq!(passed("OPTIONS", value), Err(400), "{value:?}");
    }
}

#[test]
fn versions() {
    let out = rewrite("GET / HTTP/1.2\r\nHost: a\r\n\r\n").unwrap();
    assert!(out.starts_with("GET / HTTP/1.1\r\nHost: a\r\n"), "{out}");
    for (line, status) in [
        ("GET /", 400),
        ("GET / HTTP/2.0", 505),
        ("GET / HTTP/9.9", 505),
        ("GET / HTTP/0.9", 400),
        ("GET / HTTP/1.10", 400),
        ("GET / HTTP/1.x", 400),
        ("GET / x HTTP/1.2", 400),
        ("GET / x HTTP/1.1", 400),
    ] {
        assert_eq!(rewrite(&format!("{line}\r\nHost: a\r\n\r\n")), Err(status), "{line}");
    }
}

/// The request of a head whose lines end in `|`, which may hold any byte, given to `then`.
fn looked_at<T>(lines: &[u8], then: impl FnOnce(Request<'_>) -> T) -> Result<T, Refusal> {
    let head = lines.split(|byte| *byte == b'|').collect::<Vec<_>>().join(b"\r\n".as_slice());
    with_request(&head, |request| Ok(then(request)))
}

fn facts(lines: &str) -> Facts {
    looked_at(lines.as_bytes(), |request| request.facts)
        .unwrap_or_else(|refusal| panic!("{lines}: {refusal:?}"))
}

fn refused(lines: &[u8]) -> (u16, &'static str) {
    let refusal = looked_at(lines, |_| ()).expect_err(&String::from_utf8_lossy(lines));
    (refusal.status, refusal.what)
}

#[test]
fn it_is_said_what_is_wrong() {
    for line in ["b ad: x", "X: a\0b"] {
        assert_eq!(refused(format!("GET / HTTP/1.1|{line}||").as_bytes()), (400, "header line"), "{line}");
    }
    assert_eq!(refused(b"GET HTTP/1.1||"), (400, "request line"));
    let many = |count: usize| format!("GET / HTTP/1.1|Host: a|{}|", "X: y|".repeat(count - 1));
    assert_eq!(refused(many(HEADER_LINES + 1).as_bytes()).0, 431);
    assert!(facts(&many(HEADER_LINES)).keep_alive);
}

#[test]
fn bytes_that_are_not_text_matter_only_where_they_are_read() {
    for name in ["Accept", "Sec-Fetch-Mode", "Upgrade-Insecure-Requests", "Max-Forwards", "X-A", "Forwarded"]
    {
        let head = [b"GET / HTTP/1.1|Host: a|".as_slice(), name.as_bytes(), b": \xff||"].concat();
        assert!(looked_at(&head, |_| ()).is_ok(), "{name}");
    }
    for name in ["Host", "Connection", "TE", "Upgrade", "Transfer-Encoding", "X-Agentfs-Hops"] {
        let head = [b"GET / HTTP/1.1|".as_slice(), name.as_bytes(), b": \xff||"].concat();
        assert_eq!(refused(&head), (400, "header value"), "{name}");
    }
    assert_eq!(refused(b"OPTIONS / HTTP/1.1|Host: a|Max-Forwards: \xff||"), (400, "header value"));
}

#[test]
fn framing_is_said_once() {
    let body = |version: u8, lines: &str| {
        looked_at(format!("POST / HTTP/1.{version}|Host: a|{lines}|").as_bytes(), |request| {
            request.facts.body
        })
        .map_err(|refusal| refusal.status)
    };
    for (lines, expected) in [
        ("", Ok(Body::NONE)),
        ("Content-Length: 7|", Ok(Body::Length(7))),
        ("Transfer-Encoding: Chunked|", Ok(Body::CHUNKED)),
        ("Content-Length: 7|Content-Length: 7|", Err(400)),
        ("Transfer-Encoding: chunked|Transfer-Encoding: chunked|", Err(400)),
        ("Transfer-Encoding: chunked|Content-Length: 7|", Err(400)),
        ("Transfer-Encoding: gzip|", Err(501)),
        ("Transfer-Encoding: gzip, chunked|", Err(501)),
        ("Transfer-Encoding: chunked, gzip|", Err(400)),
        ("Transfer-Encoding: xchunked|", Err(400)),
        ("Transfer-Encoding: Identity|", Err(400)),
        ("Transfer-Encoding: g{zip|", Err(400)),
        ("Transfer-Encoding: ,|", Err(400)),
    ] {
        assert_eq!(body(1, lines), expected, "{lines}");
    }
    assert_eq!(body(0, "Transfer-Encoding: chunked|"), Err(400));
    assert_eq!(body(0, "Content-Length: 7|"), Ok(Body::Length(7)));
}

#[test]
fn connections_go_on_if_both_want_it() {
    for (version, line, expected) in [
        (1, "X: y", true),
        (1, "Connection: close", false),
        (1, "Connection: keep-alive, close", false),
        (0, "X: y", false),
        (0, "Connection: keep-alive", true),
        (0, "Connection: close", false),
        (0, "Connection: keep-alive, close", false),
    ] {
        let lines = format!("GET / HTTP/1.{version}|Host: a|{line}||");
        assert_eq!(facts(&lines).keep_alive, expected, "{lines}");
    }
}

#[test]
fn clients_say_what_they_like_to_read() {
    for (accept, format) in [
        ("text/html,application/json", Format::Html),
        ("application/xhtml+xml ;q=0.9", Format::Html),
        ("image/png, application/json;q=1, text/html", Format::Json),
        ("*/*", Format::Text),
        ("text/htm", Format::Text),
    ] {
        let facts = facts(&format!("GET / HTTP/1.1|Host: a|Accept: {accept}||"));
        assert_eq!((facts.format, facts.navigates), (format, format == Format::Html), "{accept}");
    }
}

#[test]
fn navigations_are_told_from_other_requests() {
    for (method, lines, expected) in [
        ("GET", "", false),
        ("GET", "Accept: text/html|", true),
        ("GET", "Accept: text/html|Sec-Fetch-Mode: cors|", false),
        ("GET", "Sec-Fetch-Mode: navigate|", true),
        ("HEAD", "Sec-Fetch-Mode: navigate|", false),
        ("POST", "Accept: text/html|", false),
    ] {
        let facts = facts(&format!("{method} / HTTP/1.1|Host: a|{lines}|"));
        assert_eq!(facts.navigates, expected, "{method} {lines}");
        assert_eq!(facts.is_head, method == "HEAD", "{method}");
    }
    for (method, value, expected) in [
        ("GET", "1", true),
        ("HEAD", "1", true),
        ("POST", "1", false),
        ("GET", "0", false),
        ("GET", "", false),
    ] {
        let head = format!("{method} / HTTP/1.1|Host: a|Upgrade-Insecure-Requests: {value}||");
        assert_eq!(looked_at(head.as_bytes(), |request| request.wants_secure).unwrap(), expected, "{head}");
    }
}

#[test]
fn the_line_says_method_and_path() {
    for (line, method, path) in [
        ("GET /a?b", "GET", "/a?b"),
        ("PUT http://a.localhost", "PUT", "/"),
        ("GET http://a.localhost/x", "GET", "/x"),
        ("GET http://a.localhost?q", "GET", "/?q"),
        ("OPTIONS *", "OPTIONS", "*"),
        ("OPTIONS http://a.localhost", "OPTIONS", "*"),
    ] {
        let seen = looked_at(format!("{line} HTTP/1.1|Host: a||").as_bytes(), |request| {
            (request.method().to_owned(), request.path().into_owned())
        });
        assert_eq!(seen.unwrap(), (method.to_owned(), path.to_owned()), "{line}");
    }
    for line in ["GET *", "OPTIONS x", "GET /#a", "OPTIONS **"] {
        assert_eq!(
            refused(format!("{line} HTTP/1.1|Host: a||").as_bytes()),
            (400, "request target"),
            "{line}"
        );
    }
    let out = rewrite("OPTIONS http://b.localhost HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert!(out.starts_with("OPTIONS * HTTP/1.1\r\nHost: b.localhost\r\n"), "{out}");
}

#[test]
fn the_last_hop_is_known_and_shows_what_came() {
    let head = "TRACE /a HTTP/1.1|Host: a|Cookie: b|X-A: 1|Max-Forwards: 0||";
    let (ends, trace) = looked_at(head.as_bytes(), |request| (request.ends_here(), request.trace())).unwrap();
    assert!(ends);
    assert_eq!(
        String::from_utf8(trace).unwrap(),
        "TRACE /a HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nMax-Forwards: 0\r\n\r\n"
    );
    for lines in ["Max-Forwards: 1|", ""] {
        let head = format!("TRACE / HTTP/1.0|{lines}|");
        let (ends, trace) =
            looked_at(head.as_bytes(), |request| (request.ends_here(), request.trace())).unwrap();
        assert!(!ends && trace.starts_with(b"TRACE / HTTP/1.0\r\n"), "{lines}");
    }
}

#[test]
fn what_is_for_one_connection_goes() {
    let out = rewrite(
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: X-One\r\nX-ONE: 1\r\nX-Two: 2\r\nAccept: x\r\n\
         Expect: 100-continue\r\n\r\n",
    )
    .unwrap();
    assert!(
        out.starts_with(
            "POST / HTTP/1.1\r\nHost: a\r\nX-Two: 2\r\nAccept: x\r\nExpect: 100-continue\r\nX-Forwarded-For"
        ),
        "{out}"
    );
    // HTTP/1.0 has no interim answers.
    let out = rewrite("POST / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\n\r\n").unwrap();
    assert!(!out.contains("Expect"), "{out}");
    for (lines, wanted) in [
        ("TE: gzip, Trailers\r\n", true),
        ("TE: trailers\r\nTE: gzip\r\n", true),
        ("TE: gzip\r\n", false),
        ("", false),
    ] {
        let out = rewrite(&format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: TE\r\n{lines}\r\n")).unwrap();
        assert_eq!(out.contains("\r\nTE: trailers\r\nConnection: TE\r\n"), wanted, "{lines}: {out}");
        assert_eq!(out.matches("TE: ").count(), usize::from(wanted), "{lines}: {out}");
    }
}
