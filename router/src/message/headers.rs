//! Which header means what to a proxy. Pure.
//!
//! Knows the hop-by-hop headers (RFC 9110 7.6.1), those that frame a message, and those that we set
//! ourselves and therefore believe from nobody.

/// Counts the routers that a request came through, so that a loop ends. A header of our own, since
/// applications change their answers when they see `Via`.
pub(crate) const HOPS: &str = "X-Agentfs-Hops";

/// What a header is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    Te,
    Upgrade,
    Expect,
    Accept,
    MaxForwards,
    /// For one connection only; never passed on.
    HopByHop,
    /// Says where a request came from: ours replaces it.
    Forwarding,
    /// [`HOPS`].
    Hops,
    /// `Sec-Fetch-Mode`: what a browser wants the answer for.
    FetchMode,
    /// `Upgrade-Insecure-Requests`: a browser's navigation, better over TLS.
    WantsSecure,
    /// Passed on as it is.
    Other,
}

/// What the header `name` is.
pub(crate) fn kind(name: &str) -> Kind {
    let is = |known: &str| name.eq_ignore_ascii_case(known);
    match name.len() {
        2 if is("te") => Kind::Te,
        4 if is("host") => Kind::Host,
        6 if is("accept") => Kind::Accept,
        6 if is("expect") => Kind::Expect,
        7 if is("upgrade") => Kind::Upgrade,
        // Claims about where a request came from, each of which some framework believes. Who the user is, or below which
        // path an application lies, is said by a proxy in front of us, and passes.
        9 if is("forwarded") || alike(name, "x-real-ip") || alike(name, "client-ip") => Kind::Forwarding,
        10 if is("connection") => Kind::Connection,
        10 if is("keep-alive") => Kind::HopByHop,
        11 if alike(name, "x-client-ip") => Kind::Forwarding,
        12 if is("max-forwards") => Kind::MaxForwards,
        12 if alike(name, "x-url-scheme") => Kind::Forwarding,
        14 if is("content-length") => Kind::ContentLength,
        14 if is("http2-settings") => Kind::HopByHop,
        14 if alike(name, HOPS) => Kind::Hops,
        14 if is("sec-fetch-mode") => Kind::FetchMode,
        17 if is("transfer-encoding") => Kind::TransferEncoding,
        14 if alike(name, "true-client-ip") => Kind::Forwarding,
        15 if alike(name, "x-forwarded-for") || alike(name, "x-forwarded-ssl") => Kind::Forwarding,
        15 if alike(name, "front-end-https") => Kind::Forwarding,
        16 if alike(name, "x-forwarded-host") || alike(name, "x-forwarded-port") => Kind::Forwarding,
        17 if alike(name, "x-forwarded-proto") => Kind::Forwarding,
        18 if alike(name, "x-forwarded-scheme") || alike(name, "x-forwarded-server") => Kind::Forwarding,
        20 if alike(name, "x-forwarded-protocol") => Kind::Forwarding,
        25 if is("upgrade-insecure-requests") => Kind::WantsSecure,
        _ if name.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("proxy-")) => Kind::HopByHop,
        _ => Kind::Other,
    }
}

/// Whether the header `name` may stand behind a body. What frames, routes, modifies or authenticates a message, or says
/// how to read it, may not (RFC 9110 6.5.1; the list of RFC 7230 4.1.2).
pub(crate) fn may_trail(name: &str) -> bool {
    const NEVER: [&str; 24] = [
        "age",
        "authorization",
        "cache-control",
        "content-encoding",
        "content-range",
        "content-type",
        "cookie",
        "date",
        "expires",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "location",
        "pragma",
        "range",
        "retry-after",
        "set-cookie",
        "set-cookie2",
        "trailer",
        "vary",
        "warning",
        "www-authenticate",
    ];
    matches!(kind(name), Kind::Other | Kind::FetchMode)
        && !NEVER.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// Whether the header `name` may say who somebody is or what he may do, so that it is not shown (RFC 9110 9.3.8).
pub(crate) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["auth", "cookie", "token", "secret", "password", "session", "key", "jwt"]
        .iter()
        .any(|word| name.contains(word))
}

/// Calls `keep` with each of the trailer `lines` that may be one: name and value.
pub(crate) fn trailers<'lines>(lines: &'lines [u8], mut keep: impl FnMut(&'lines str, &'lines [u8])) {
    for line in lines.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        if let Ok(name) = std::str::from_utf8(&line[..colon])
            && may_trail(name)
        {
            keep(name, line[colon + 1..].trim_ascii());
        }
    }
}

/// Writes those of the trailer `lines` that may be one, and the line that ends them.
pub(crate) fn put_trailers(lines: &[u8], out: &mut Vec<u8>) {
    trailers(lines, |name, value| put(out, name, value));
    out.extend_from_slice(b"\r\n");
}

/// As `eq_ignore_ascii_case`, and `_` is `-`: CGI and WSGI applications cannot tell them apart.
fn alike(name: &str, known: &str) -> bool {
    name.bytes()
        .zip(known.bytes())
        .all(|(ours, theirs)| ours.eq_ignore_ascii_case(&theirs) || (ours == b'_' && theirs == b'-'))
}

/// Whether a `Content-Type` is that of a page.
pub(crate) fn is_html(media: &[u8]) -> bool {
    let media = media.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    media.eq_ignore_ascii_case(b"text/html") || media.eq_ignore_ascii_case(b"application/xhtml+xml")
}

/// The members of a comma-separated list, without blanks and empty ones.
pub(crate) fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(|member| member.trim_matches([' ', '\t'])).filter(|member| !member.is_empty())
}

/// What all `Connection` headers of a message say.
#[derive(Debug, Default)]
pub(crate) struct Connection<'head> {
    pub(crate) close: bool,
    pub(crate) keep_alive: bool,
    pub(crate) upgrade: bool,
    /// Other headers named, which are for this connection only.
    pub(crate) named: Vec<&'head str>,
}

impl<'head> Connection<'head> {
    /// Adds one header's value.
    pub(crate) fn add(&mut self, value: &'head str) {
        for option in list(value) {
            if option.eq_ignore_ascii_case("close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case("keep-alive") {
                self.keep_alive = true;
            } else if option.eq_ignore_ascii_case("upgrade") {
                self.upgrade = true;
            } else {
                self.named.push(option);
            }
        }
    }

    /// Whether the header `name`, which is [`Kind::Other`], is for this connection only.
    pub(crate) fn names(&self, name: &str) -> bool {
        self.named.iter().any(|named| named.eq_ignore_ascii_case(name))
    }
}

/// A `Content-Length`: digits only (RFC 9110 8.6).
pub(crate) fn content_length(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.len() <= 18 && value.iter().all(u8::is_ascii_digit);
    digits.then(|| value.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

/// Writes `name: value` as one line.
pub(crate) fn put(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_told_apart() {
        for (name, expected) in [
            ("HOST", Kind::Host),
            ("Content-length", Kind::ContentLength),
            ("Proxy-Authorization", Kind::HopByHop),
            ("proxy-", Kind::HopByHop),
            ("Keep-Alive", Kind::HopByHop),
            ("HTTP2-Settings", Kind::HopByHop),
            ("X_Forwarded-For", Kind::Forwarding),
            ("X_Forwarded_Host", Kind::Forwarding),
            ("X_Forwarded_Proto", Kind::Forwarding),
            ("x-agentfs-hops", Kind::Hops),
            ("X-Forwarded-Port", Kind::Forwarding),
            ("x_real_ip", Kind::Forwarding),
            ("True-Client-IP", Kind::Forwarding),
            ("X-Forwarded-Prefix", Kind::Other),
            ("X-Forwarded-User", Kind::Other),
            ("MAX-FORWARDS", Kind::MaxForwards),
            ("Hosts", Kind::Other),
        ] {
            assert_eq!(kind(name), expected, "{name}");
        }
    }

    /// Every name that means something, in each spelling that some application takes for it, and names next to it.
    #[test]
    fn every_name_means_what_it_says() {
        for (names, expected) in [
            (&["te"][..], Kind::Te),
            (&["host"], Kind::Host),
            (&["accept"], Kind::Accept),
            (&["expect"], Kind::Expect),
            (&["upgrade"], Kind::Upgrade),
            (&["connection"], Kind::Connection),
            (&["max-forwards"], Kind::MaxForwards),
            (&["content-length"], Kind::ContentLength),
            (&["transfer-encoding"], Kind::TransferEncoding),
            (&["sec-fetch-mode"], Kind::FetchMode),
            (&["upgrade-insecure-requests"], Kind::WantsSecure),
            (&["keep-alive", "http2-settings", "proxy-connection", "proxy-authenticate"], Kind::HopByHop),
            (&["forwarded"], Kind::Forwarding),
        ] {
            for name in names {
                assert_eq!(kind(name), expected, "{name}");
                assert_eq!(kind(&name.to_ascii_uppercase()), expected, "{name}");
                assert_eq!(kind(&format!("{name}x")) == expected, name.starts_with("proxy-"), "{name}x");
                assert_eq!(kind(&format!("x{}", &name[1..])), Kind::Other, "{name}");
            }
        }
        for name in [
            "x-real-ip",
            "client-ip",
            "x-client-ip",
            "x-url-scheme",
            "true-client-ip",
            "x-forwarded-for",
            "x-forwarded-ssl",
            "front-end-https",
            "x-forwarded-host",
            "x-forwarded-port",
            "x-forwarded-proto",
            "x-forwarded-scheme",
            "x-forwarded-server",
            "x-forwarded-protocol",
        ] {
            for spelt in [name.to_owned(), name.replace('-', "_"), name.to_ascii_uppercase()] {
                assert_eq!(kind(&spelt), Kind::Forwarding, "{spelt}");
            }
            // A dash for a letter is another name.
            for other in [format!("{name}x"), name.replacen(['r', 'l'], "-", 1), name.replacen('-', "x", 1)] {
                assert_eq!(kind(&other), Kind::Other, "{other}");
            }
        }
        assert_eq!(kind("X_Agentfs_Hops"), Kind::Hops);
        assert_eq!(kind("proxy"), Kind::Other);
    }

    #[test]
    fn what_may_be_secret_is_known_by_its_name() {
        for name in
            ["Authorization", "COOKIE", "X-Api-Key", "x-csrf-token", "X-Session", "X-JWT", "X-Password"]
        {
            assert!(is_secret(name), "{name}");
        }
        for name in ["Accept", "Host", "X-Trace", "User-Agent", ""] {
            assert!(!is_secret(name), "{name}");
        }
    }

    #[test]
    fn trailers_that_may_not_be_are_left_out() {
        let mut out = Vec::new();
        put_trailers(b"X-Sum: 1 \r\nHost: evil\r\nno colon\r\nETag:\t\"a\"\r\nSet-Cookie: b\r\n", &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "X-Sum: 1\r\nETag: \"a\"\r\n\r\n");
        let mut out = Vec::new();
        put_trailers(b"", &mut out);
        assert_eq!(out, b"\r\n");
    }

    #[test]
    fn lists_and_what_connection_says() {
        assert_eq!(list(" a, ,\tb\t,c d,").collect::<Vec<_>>(), ["a", "b", "c d"]);
        assert_eq!(list("").count(), 0);
        let mut connection = Connection::default();
        connection.add("Keep-Alive, X-One");
        assert_eq!((connection.close, connection.keep_alive, connection.upgrade), (false, true, false));
        connection.add("UPGRADE");
        assert_eq!((connection.close, connection.upgrade), (false, true));
        connection.add("x-two,close");
        assert!(connection.close && connection.names("x-ONE") && connection.names("X-Two"));
        assert!(!connection.names("close") && !connection.names("x-three"));
    }

    #[test]
    fn trailers_neither_frame_nor_route() {
        for name in ["Grpc-Status", "ETag", "Server-Timing", "X-Sum"] {
            assert!(may_trail(name), "{name}");
        }
        for name in [
            "HOST",
            "content-length",
            "Transfer-Encoding",
            "Connection",
            "Keep-Alive",
            "TE",
            "Upgrade",
            "Trailer",
            "Max-Forwards",
            "Expect",
            "X-Forwarded-For",
            "X-Agentfs-Hops",
            "Set-Cookie",
            "Content-Type",
        ] {
            assert!(!may_trail(name), "{name}");
        }
    }

    #[test]
    fn lengths_are_digits_only() {
        assert_eq!(content_length(b"0012"), Some(12));
        assert_eq!(content_length(b"0"), Some(0));
        assert_eq!(content_length(b"9876543210"), Some(9_876_543_210));
        assert_eq!(content_length(b"999999999999999999"), Some(999_999_999_999_999_999));
        for value in ["", "+5", "5, 5", "5 5", "0x5", "-1", "9999999999999999999"] {
            assert_eq!(content_length(value.as_bytes()), None, "{value}");
        }
    }

    #[test]
    fn pages_are_known_by_their_media_type() {
        for media in ["text/html", " Text/HTML ; charset=utf-8", "application/xhtml+xml", "text/html;"] {
            assert!(is_html(media.as_bytes()), "{media}");
        }
        for media in ["", "text/plain", "text/html2", "application/json; a=text/html", ";text/html"] {
            assert!(!is_html(media.as_bytes()), "{media}");
        }
    }

    #[test]
    fn lines_may_be_short() {
        let mut out = Vec::new();
        put(&mut out, "a", b"");
        put(&mut out, "B", b"c");
        assert_eq!(out, b"a: \r\nB: c\r\n");
    }
}
