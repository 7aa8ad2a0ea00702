//! A request's head: checked as a whole, then written anew for the application. Pure.
//!
//! What two readers could read in two ways is refused, so that nothing can be smuggled past us.
use crate::error::Refusal;
use crate::limits::{HEADER_LINES, HEADER_LINES_INLINE, HOPS};
use crate::message::body::{Body, is_token};
use crate::message::headers::{self, Connection, Kind, put};
use crate::message::rehost::inward;
use crate::message::target::{Target, counts_forwards, max_forwards, may_be_offered, put_offered};
use std::borrow::Cow;
use std::io::Write as _;
use std::mem::MaybeUninit;

/// What the connection must know of a request, after its head was written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    /// `HEAD`: the answer has no body.
    pub(crate) is_head: bool,
    /// Whether the method may be sent twice (RFC 9110 9.2.2).
    pub(crate) idempotent: bool,
    /// HTTP/1.0: no chunks, no interim answers.
    pub(crate) is_http10: bool,
    /// Whether the client wants to go on afterwards.
    pub(crate) keep_alive: bool,
    /// Whether a protocol change is asked for.
    pub(crate) upgrade: bool,
    /// Its body.
    pub(crate) body: Body,
    /// What the client likes to read.
    pub(crate) format: Format,
    /// Whether somebody goes to a page: a browser says so (W3C Fetch Metadata 2.2), another client by asking for HTML.
    pub(crate) navigates: bool,
    /// Whether it asks for the first page, `/`.
    pub(crate) at_root: bool,
}

/// Form of our own pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Html,
    Json,
    Text,
}

/// A request's head, borrowed from the bytes read.
#[derive(Debug)]
pub(crate) struct Request<'head> {
    method: &'head str,
    /// Path and query: origin form, or `*`.
    target: Target<'head>,
    /// Who it is for: the authority of an absolute target, else `Host`. Empty: nobody said.
    pub(crate) host: &'head str,
    headers: &'head [httparse::Header<'head>],
    connection: Connection<'head>,
    wants_trailers: bool,
    passed_routers: u8,
    /// How often an `OPTIONS` or `TRACE` may still be passed on.
    forwards: Option<u32>,
    /// Whether it is a navigation of a browser that would rather go to the `https` URL (W3C Upgrade
    /// Insecure Requests 3.2.1).
    pub(crate) wants_secure: bool,
    pub(crate) facts: Facts,
}

/// Where a request comes from, to tell the application.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin<'connection> {
    /// The client's address.
    pub(crate) address: &'connection str,
    /// `http` or `https`.
    pub(crate) scheme: &'static str,
}

/// Parses the complete head in `bytes` and calls `then` with it.
pub(crate) fn with_request<T>(
    bytes: &[u8],
    then: impl FnOnce(Request<'_>) -> Result<T, Refusal>,
) -> Result<T, Refusal> {
    let mut inline = [const { MaybeUninit::uninit() }; HEADER_LINES_INLINE];
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(bytes, &mut inline) {
        Ok(_) => then(Request::parsed(&parsed)?),
        Err(httparse::Error::TooManyHeaders) => {
            let mut many = vec![httparse::EMPTY_HEADER; HEADER_LINES];
            let mut parsed = httparse::Request::new(&mut many);
            match parsed.parse(bytes) {
                Ok(_) => then(Request::parsed(&parsed)?),
                Err(error) => Err(refusal(error, bytes)),
            }
        }
        Err(httparse::Error::Version) => match as_known_version(bytes) {
            Some(bytes) => with_request(&bytes, then),
            None => Err(refusal(httparse::Error::Version, bytes)),
        },
        Err(error) => Err(refusal(error, bytes)),
    }
}

/// The head as HTTP/1.1 where it is of a later HTTP/1, which means the same to us (RFC 9110 2.5).
fn as_known_version(bytes: &[u8]) -> Option<Vec<u8>> {
    let end = bytes.iter().position(|byte| *byte == b'\r')?;
    let minor = end.checked_sub(1)?;
    let line = bytes.get(..minor)?;
    let later = line.ends_with(b" HTTP/1.") && matches!(bytes[minor], b'2'..=b'9');
    // Two blanks in the line, else what is read after that is not the version.
    if !later || line.iter().filter(|byte| **byte == b' ').count() != 2 {
        return None;
    }
    let mut known = bytes.to_vec();
    known[minor] = b'1';
    Some(known)
}

fn refusal(error: httparse::Error, bytes: &[u8]) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => Refusal::TOO_MANY_HEADERS,
        httparse::Error::Version => {
            let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
            let mut words = line.split(|byte| *byte == b' ').skip(2);
            let (version, more) = (words.next().unwrap_or_default(), words.next());
            let known = version.strip_prefix(b"HTTP/").is_some_and(|number| {
                matches!(number, [major, b'.', minor] if (b'1'..=b'9').contains(major) && minor.is_ascii_digit())
            });
            if known && more.is_none() { Refusal::VERSION } else { Refusal::bad("request line") }
        }
        httparse::Error::HeaderName | httparse::Error::HeaderValue => Refusal::bad("header line"),
        _ => Refusal::bad("request line"),
    }
}

// === impl Facts ===

impl Facts {
    /// Of a request about which nothing is known.
    pub(crate) const OF_PAGES: Self = Self {
        is_head: false,
        idempotent: false,
        is_http10: false,
        keep_alive: true,
        upgrade: false,
        body: Body::NONE,
        format: Format::Text,
        navigates: false,
        at_root: false,
    };
}

// === impl Request ===

impl<'head> Request<'head> {
    fn parsed<'buffer: 'head>(parsed: &'head httparse::Request<'_, 'buffer>) -> Result<Self, Refusal> {
        match (parsed.method, parsed.path, parsed.version) {
            (Some(method), Some(path), Some(version)) => Self::check(method, path, version, parsed.headers),
            _ => Err(Refusal::bad("head")),
        }
    }

    /// A request with this head, in HTTP/1.`version`, if it is one that may be passed on.
    pub(crate) fn check(
        method: &'head str,
        path: &'head str,
        version: u8,
        headers: &'head [httparse::Header<'head>],
    ) -> Result<Self, Refusal> {
        if method == "CONNECT" {
            return Err(Refusal::CONNECT);
        }
        let is_http10 = version == 0;
        let (mut host, mut length, mut coding, mut upgrade) = (None, None, None, false);
        let mut forwards = None;
        let mut connection = Connection::default();
        let mut wants_trailers = false;
        let mut wants_secure = false;
        let mut passed_routers = 0;
        let mut format = Format::Text;
        let mut mode = None;
        for header in headers {
            let kind = headers::kind(header.name);
            if matches!(kind, Kind::Other | Kind::HopByHop | Kind::Forwarding | Kind::Expect) {
                continue;
            }
            if kind == Kind::ContentLength {
                if length.is_some() {
                    return Err(Refusal::bad("second content-length"));
                }
                length = Some(headers::content_length(header.value).ok_or(Refusal::bad("content-length"))?);
                continue;
            }
            let Ok(value) = std::str::from_utf8(header.value) else {
                match kind {
                    Kind::Accept | Kind::FetchMode | Kind::WantsSecure => continue,
                    Kind::MaxForwards if !counts_forwards(method) => continue,
                    _ => return Err(Refusal::bad("header value")),
                }
            };
            match kind {
                Kind::Host if host.replace(value).is_some() => return Err(Refusal::bad("second host")),
                Kind::TransferEncoding if coding.replace(value).is_some() => {
                    return Err(Refusal::bad("second transfer-encoding"));
                }
                Kind::Connection => connection.add(value),
                Kind::Te => {
                    wants_trailers |=
                        headers::list(value).any(|coding| coding.eq_ignore_ascii_case("trailers"))
                }
                Kind::Upgrade => upgrade |= headers::list(value).any(may_be_offered),
                Kind::MaxForwards if !counts_forwards(method) => {}
                Kind::MaxForwards if forwards.replace(max_forwards(value)?).is_some() => {
                    return Err(Refusal::bad("second max-forwards"));
                }
                Kind::Hops => passed_routers = value.parse().unwrap_or(HOPS),
                Kind::Accept => format = Format::of(value),
                Kind::FetchMode => mode = Some(value),
                Kind::WantsSecure => wants_secure = value == "1" && matches!(method, "GET" | "HEAD"),
                _ => {}
            }
        }
        if host.is_none() && !is_http10 {
            return Err(Refusal::bad("host: it is missing"));
        }
        let body = match (coding, length) {
            (None, None) => Body::NONE,
            (None, Some(length)) => Body::Length(length),
            (Some(_), Some(_)) => return Err(Refusal::bad("framing: both a length and a coding")),
            (Some(_), None) if is_http10 => return Err(Refusal::bad("transfer-encoding in HTTP/1.0")),
            (Some(coding), None) => coded(coding)?,
        };
        let (target, authority) = Target::parse(method, path)?;
        let upgrade = connection.upgrade && !is_http10 && upgrade;
        let facts = Facts {
            is_head: method == "HEAD",
            idempotent: matches!(method, "GET" | "HEAD" | "OPTIONS" | "PUT" | "DELETE" | "TRACE"),
            is_http10,
            keep_alive: if is_http10 {
                connection.keep_alive && !connection.close
            } else {
                !connection.close
            },
            upgrade,
            body,
            format,
            navigates: method == "GET" && mode.map_or(format == Format::Html, |mode| mode == "navigate"),
            at_root: matches!(target.text.split('?').next(), Some("" | "/")),
        };
        let host = authority.or(host).unwrap_or_default();
        Ok(Self {
            method,
            target,
            host,
            headers,
            connection,
            wants_trailers,
            passed_routers,
            forwards,
            wants_secure,
            facts,
        })
    }

    /// Path and query.
    pub(crate) fn path(&self) -> Cow<'head, str> {
        let text = self.target.text;
        if self.target.slash { Cow::Owned(format!("/{text}")) } else { Cow::Borrowed(text) }
    }

    /// The method.
    pub(crate) fn method(&self) -> &'head str {
        self.method
    }

    /// Whether it may not be passed on any further.
    pub(crate) fn ends_here(&self) -> bool {
        self.forwards == Some(0)
    }

    /// The head as it came, without what is secret: the answer to `TRACE` (RFC 9110 9.3.8).
    pub(crate) fn trace(&self) -> Vec<u8> {
        let version = if self.facts.is_http10 { "HTTP/1.0" } else { "HTTP/1.1" };
        let mut out = format!("{} {} {version}\r\n", self.method, self.path()).into_bytes();
        for header in self.headers.iter().filter(|header| !headers::is_secret(header.name)) {
            put(&mut out, header.name, header.value);
        }
        out.extend_from_slice(b"\r\n");
        out
    }

    /// Writes the head that the application gets.
    /// `local`: what it is to take itself for, where that is not the host that the client named.
    pub(crate) fn write(
        &self,
        out: &mut Vec<u8>,
        origin: Origin<'_>,
        local: Option<&str>,
    ) -> Result<(), Refusal> {
        if self.passed_routers >= HOPS {
            return Err(Refusal::LOOP);
        }
        out.extend_from_slice(self.method.as_bytes());
        out.push(b' ');
        if self.target.slash {
            out.push(b'/');
        }
        out.extend_from_slice(self.target.text.as_bytes());
        out.extend_from_slice(b" HTTP/1.1\r\n");
        let mut names_host = false;
        for header in self.headers {
            let pass = match headers::kind(header.name) {
                Kind::Host => {
                    let given = if self.target.absolute { self.host.as_bytes() } else { header.value };
                    put(out, header.name, local.map_or(given, str::as_bytes));
                    names_host = true;
                    false
                }
                Kind::ContentLength | Kind::TransferEncoding => true,
                Kind::Upgrade => {
                    if self.facts.upgrade {
                        put_offered(out, header);
                    }
                    false
                }
                Kind::MaxForwards if let Some(forwards) = self.forwards => {
                    put(out, header.name, forwards.saturating_sub(1).to_string().as_bytes());
                    false
                }
                Kind::Expect => !self.facts.is_http10,
                Kind::Connection | Kind::Te | Kind::HopByHop | Kind::Forwarding | Kind::Hops => false,
                Kind::Other
                    if let Some(local) = local
                        && let Some(value) = inward(header.name, header.value, self.host, local) =>
                {
                    put(out, header.name, value.as_bytes());
                    false
                }
                Kind::Accept | Kind::MaxForwards | Kind::FetchMode | Kind::WantsSecure | Kind::Other => {
                    self.connection.named.is_empty() || !self.connection.names(header.name)
                }
            };
            if pass {
                put(out, header.name, header.value);
            }
        }
        // HTTP/1.0 may leave it out; what goes out is HTTP/1.1, which may not (RFC 9112 3.2).
        if !names_host {
            put(out, "Host", local.unwrap_or(self.host).as_bytes());
        }
        match (self.facts.upgrade, self.wants_trailers) {
            (true, _) => out.extend_from_slice(b"Connection: Upgrade\r\n"),
            (false, true) => out.extend_from_slice(b"TE: trailers\r\nConnection: TE\r\n"),
            (false, false) => {}
        }
        put(out, "X-Forwarded-For", origin.address.as_bytes());
        put(out, "X-Forwarded-Host", self.host.as_bytes());
        put(out, "X-Forwarded-Proto", origin.scheme.as_bytes());
        let node = if origin.address.contains(':') { ("\"[", "]\"") } else { ("", "") };
        // Writing into memory cannot fail.
        let _ = write!(
            out,
            "Forwarded: for={}{}{};host=\"{}\";proto={}\r\n{}: {}\r\n\r\n",
            node.0,
            origin.address,
            node.1,
            self.host,
            origin.scheme,
            headers::HOPS,
            self.passed_routers + 1
        );
        Ok(())
    }
}

fn coded(coding: &str) -> Result<Body, Refusal> {
    if coding.eq_ignore_ascii_case("chunked") {
        return Ok(Body::CHUNKED);
    }
    // Something that looks like `chunked` to one reader and not to another is an attempt to be read in two
    // ways; all else is a coding that we do not take apart.
    let looks_alike = |name: &str| {
        let lower = name.to_ascii_lowercase();
        lower.contains("chunk") || lower == "identity" || !name.bytes().all(is_token)
    };
    match headers::list(coding).next() {
        Some(first) if !looks_alike(first) => Err(Refusal::CODING),
        _ => Err(Refusal::bad("transfer-encoding")),
    }
}

// === impl Format ===

impl Format {
    /// The first of HTML and JSON that an `Accept` names; programs that name neither get text.
    fn of(accept: &str) -> Self {
        headers::list(accept)
            .map(|range| range.split(';').next().unwrap_or_default().trim_end())
            .find_map(|range| match range {
                "text/html" | "application/xhtml+xml" => Some(Self::Html),
                "application/json" => Some(Self::Json),
                _ => None,
            })
            .unwrap_or(Self::Text)
    }
}

#[cfg(test)]
mod tests;
