//! A request of HTTP/2 as the rules see it: with the lines that say the same in HTTP/1. Pure, but for the key.
use crate::error::Refusal;
use crate::limits::{HEADER_LINES, REQUEST_LINE_BYTES};
use crate::message::request::Request;
use crate::message::websocket::base64;
use h2::ext::Protocol;
use http::request::Parts;
use http::{Method, header};
use httparse::Header;
use std::hash::{BuildHasher as _, RandomState};

/// What a request needs besides what its client sent, kept while the rules look at it.
#[derive(Debug, Default)]
pub(super) struct Additions {
    /// All its cookies: one header in HTTP/1 (RFC 9113 8.2.3).
    cookies: Vec<u8>,
    /// Its `Sec-WebSocket-Key`: HTTP/2 has none of its own; it only tells WebSocket from something that was cached.
    pub(super) key: Option<String>,
}

// === impl Additions ===

impl Additions {
    /// Of a request with this head.
    pub(super) fn of(head: &Parts) -> Self {
        let mut cookies = Vec::new();
        let mut values = head.headers.get_all(header::COOKIE).iter().peekable();
        while let Some(cookie) = values.next() {
            cookies.extend_from_slice(cookie.as_bytes());
            cookies.extend_from_slice(if values.peek().is_some() { b"; " } else { b"" });
        }
        let protocol = head.extensions.get::<Protocol>();
        let websocket = protocol.is_some_and(|protocol| protocol.as_str().eq_ignore_ascii_case("websocket"));
        Self { cookies, key: websocket.then(key) }
    }

    /// Calls `then` with the request whose head is `head`. Its framing is ours: a length where the client named one,
    /// else chunks; none where it has `ended`.
    pub(super) fn with_request<T>(
        &self,
        head: &Parts,
        ended: bool,
        then: impl FnOnce(Request<'_>) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let protocol = head.extensions.get::<Protocol>();
        let method = match (&head.method, protocol) {
            (&Method::CONNECT, Some(_)) => "GET",
            (&Method::CONNECT, None) => return Err(Refusal::CONNECT),
            (method, _) => method.as_str(),
        };
        let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
        // As long as the line that would say the same.
        if method.len() + target.len() + "  HTTP/1.1".len() > REQUEST_LINE_BYTES {
            return Err(Refusal::LINE_TOO_LONG);
        }
        if !head.uri.scheme_str().is_none_or(|scheme| matches!(scheme, "http" | "https")) {
            return Err(Refusal::bad("scheme: it is neither http nor https"));
        }
        if target.bytes().any(|byte| byte.is_ascii_control()) {
            return Err(Refusal::bad("request target"));
        }
        if head.headers.len() > HEADER_LINES {
            return Err(Refusal::TOO_MANY_HEADERS);
        }
        let mut lines = Vec::with_capacity(head.headers.len() + 4);
        if let Some(host) = host(head)? {
            lines.push(Header { name: "Host", value: host });
        }
        let mut framed = ended;
        for (name, value) in &head.headers {
            match *name {
                header::HOST | header::COOKIE => continue,
                header::SEC_WEBSOCKET_KEY if protocol.is_some() => continue,
                // What follows is a tunnel, and no body: the application would wait for one.
                header::CONTENT_LENGTH if protocol.is_some() => {
                    return Err(Refusal::bad("content-length: an extended CONNECT has no body"));
                }
                header::CONTENT_LENGTH => framed = true,
                _ => {}
            }
            lines.push(Header { name: name.as_str(), value: value.as_bytes() });
        }
        if !self.cookies.is_empty() {
            lines.push(Header { name: "cookie", value: &self.cookies });
        }
        if let Some(protocol) = protocol {
            lines.push(Header { name: "Connection", value: b"Upgrade" });
            lines.push(Header { name: "Upgrade", value: protocol.as_str().as_bytes() });
        } else if !framed {
            lines.push(Header { name: "Transfer-Encoding", value: b"chunked" });
        }
        if let Some(key) = &self.key {
            lines.push(Header { name: "Sec-WebSocket-Key", value: key.as_bytes() });
        }
        let request = Request::check(method, target, 1, &lines)?;
        // Its bytes would be the application's next request.
        if protocol.is_some() && !request.facts.upgrade {
            return Err(Refusal::bad("protocol: an application cannot be asked to change to it"));
        }
        then(request)
    }
}

/// Who a request is for.
fn host(head: &Parts) -> Result<Option<&[u8]>, Refusal> {
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let host = hosts.next().map(http::HeaderValue::as_bytes);
    if hosts.next().is_some() {
        return Err(Refusal::bad("second host"));
    }
    let authority = head.uri.authority().map(|authority| authority.as_str().as_bytes());
    match (authority, host) {
        // Two that differ: whom to believe (RFC 9113 8.3.1)?
        (Some(authority), Some(host)) if !host.eq_ignore_ascii_case(authority) => {
            Err(Refusal::bad("host: it differs from the authority"))
        }
        (authority, host) => Ok(authority.or(host)),
    }
}

/// A `Sec-WebSocket-Key`: 16 random bytes in base64 (RFC 6455 4.1).
fn key() -> String {
    let half = || RandomState::new().hash_one(0_u8).to_be_bytes();
    base64(&[half(), half()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_form_of_keys() {
        let key = key();
        assert!(key.len() == 24 && key.ends_with("=="), "{key}");
        // The last letter holds two bits.
        assert!("AQgw".contains(key.as_bytes()[21] as char), "{key}");
    }
}
