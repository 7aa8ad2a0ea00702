//! Heads between HTTP/2 and HTTP/1. Pure.
use super::outbound::Outbound;
use crate::error::Refusal;
use crate::io::inflow::Inflow;
use crate::limits::{HEADER_LINES, REQUEST_LINE_BYTES};
use crate::message::headers::{self, Kind, kind, put};
use crate::message::request::Facts;
use crate::message::response;
use crate::pages::Cause;
use bytes::Bytes;
use h2::ext::Protocol;
use http::{HeaderName, HeaderValue, Uri};
use hyper::body::Body;
use hyper::{Method, Request, Response};
use std::hash::{BuildHasher as _, RandomState};

/// Writes `request` as the HTTP/1 head that says the same. Its framing is ours: a length where the
/// client named one, else chunks.
pub(super) fn write_head(request: &Request<Inflow>, out: &mut Vec<u8>) -> Result<(), Refusal> {
    let protocol = request.extensions().get::<Protocol>();
    let method = match (request.method(), protocol) {
        (&Method::CONNECT, Some(_)) => "GET",
        (&Method::CONNECT, None) => return Err(Refusal::CONNECT),
        (method, _) => method.as_str(),
    };
    out.extend_from_slice(method.as_bytes());
    out.push(b' ');
    out.extend_from_slice(request.uri().path_and_query().map_or("/", |target| target.as_str()).as_bytes());
    out.extend_from_slice(b" HTTP/1.1");
    if out.len() > REQUEST_LINE_BYTES {
        return Err(Refusal::LINE_TOO_LONG);
    }
    out.extend_from_slice(b"\r\n");
    if !request.uri().scheme_str().is_none_or(|scheme| matches!(scheme, "http" | "https")) {
        return Err(Refusal::bad("scheme: it is neither http nor https"));
    }
    let headers = request.headers();
    let authority = request.uri().authority().map(|authority| authority.as_str().as_bytes());
    if headers.get_all(http::header::HOST).iter().nth(1).is_some() {
        return Err(Refusal::bad("second host"));
    }
    match authority {
        // Two that differ: whom to believe (RFC 9113 8.3.1)?
        Some(authority) => {
            let same = |host: &http::HeaderValue| host.as_bytes().eq_ignore_ascii_case(authority);
            if !headers.get_all(http::header::HOST).iter().all(same) {
                return Err(Refusal::bad("host: it differs from the authority"));
            }
            put(out, "Host", authority);
        }
        None => {
            for host in headers.get_all(http::header::HOST) {
                put(out, "Host", host.as_bytes());
            }
        }
    }
    let mut framed = request.body().is_end_stream();
    let mut cookies = false;
    for (name, value) in headers {
        match *name {
            http::header::HOST => {}
            http::header::COOKIE => cookies = true,
            http::header::SEC_WEBSOCKET_KEY if protocol.is_some() => {}
            http::header::CONTENT_LENGTH => {
                framed = true;
                put(out, name.as_str(), value.as_bytes());
            }
            _ => put(out, name.as_str(), value.as_bytes()),
        }
    }
    if cookies {
        // One header in HTTP/1 (RFC 9113 8.2.3).
        out.extend_from_slice(b"cookie: ");
        for (index, cookie) in headers.get_all(http::header::COOKIE).iter().enumerate() {
            out.extend_from_slice(if index > 0 { b"; " } else { b"" });
            out.extend_from_slice(cookie.as_bytes());
        }
        out.extend_from_slice(b"\r\n");
    }
    if let Some(protocol) = protocol {
        put(out, "Connection", b"Upgrade");
        put(out, "Upgrade", protocol.as_str().as_bytes());
        if protocol.as_str().eq_ignore_ascii_case("websocket") {
            put(out, "Sec-WebSocket-Key", key().as_bytes());
        }
    } else if !framed {
        put(out, "Transfer-Encoding", b"chunked");
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// The head that an application gets, as a request of HTTP/2. Says the same as `head`, which is ours.
pub(super) fn onward(head: &[u8]) -> Result<Request<()>, Cause> {
    let bad = |_| Cause::Request(Refusal::bad("head"));
    let mut lines = vec![httparse::EMPTY_HEADER; HEADER_LINES];
    let mut parsed = httparse::Request::new(&mut lines);
    parsed.parse(head).map_err(|_| Cause::Request(Refusal::bad("head")))?;
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(parsed.method.unwrap_or_default().as_bytes())
        .map_err(|_| Cause::Request(Refusal::bad("method")))?;
    let mut authority = None;
    for line in &*parsed.headers {
        match kind(line.name) {
            Kind::Host => authority = Some(line.value),
            // Its word would not come through: hyper passes no interim answers.
            Kind::Expect => {}
            Kind::Connection | Kind::TransferEncoding | Kind::Upgrade | Kind::HopByHop => {}
            _ => {
                let named = HeaderName::from_bytes(line.name.as_bytes()).map_err(drop).map_err(bad)?;
                let value = HeaderValue::from_bytes(line.value).map_err(drop).map_err(bad)?;
                request.headers_mut().try_append(named, value).map_err(drop).map_err(bad)?;
            }
        }
    }
    let target = parsed.path.unwrap_or("/");
    let uri = Uri::builder().scheme("http").authority(authority.unwrap_or_default()).path_and_query(target);
    *request.uri_mut() = uri.build().map_err(drop).map_err(bad)?;
    Ok(request)
}

/// A `Sec-WebSocket-Key`: 16 random bytes in base64 (RFC 6455 4.1). HTTP/2 has none of its own; it
/// only tells WebSocket from something that was cached.
fn key() -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let half = || u128::from(RandomState::new().hash_one(0_u8));
    let random = half() << 64 | half();
    // 128 bits are 21 letters of six and one of two, and `==` fills up.
    let letter = |index: u32| {
        let bits = if index < 21 { random >> (122 - 6 * index) } else { random << 4 } & 63;
        char::from(LETTERS[usize::try_from(bits).unwrap_or_default()])
    };
    (0..22).map(letter).chain("==".chars()).collect()
}

/// A page of ours, written as HTTP/1.
pub(super) fn page(bytes: &[u8], facts: &Facts) -> Response<Outbound> {
    let end = bytes.windows(4).position(|mark| mark == b"\r\n\r\n").map_or(bytes.len(), |at| at + 4);
    let (head, body) = bytes.split_at(end);
    match response::read(head, facts) {
        Ok((_, response)) => response.map(|()| Outbound::Page(Bytes::copy_from_slice(body))),
        // Our own pages are well formed.
        Err(_) => {
            let mut response = Response::new(Outbound::Empty);
            *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
            response
        }
    }
}

/// Trailer lines, up to and with the empty one, as headers; those that may not be trailers are left out.
pub(super) fn trailers(lines: &[u8]) -> http::HeaderMap {
    let mut trailers = http::HeaderMap::new();
    headers::trailers(lines, |name, value| {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_bytes(value)) {
            // More than a map holds are left out.
            let _ = trailers.try_append(name, value);
        }
    });
    trailers
}

/// Writes trailers behind the last chunk.
pub(super) fn write_trailers(trailers: &http::HeaderMap, out: &mut Vec<u8>) {
    for (name, value) in trailers {
        if headers::may_trail(name.as_str()) {
            put(out, name.as_str(), value.as_bytes());
        }
    }
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

    #[test]
    fn trailers_pass_unless_they_frame() {
        let headers = trailers(b"Grpc-Status: 0\r\nContent-Length: 5\r\nX-Sum:  a b \r\n\r\n");
        assert_eq!(headers.len(), 2);
        assert_eq!(headers["x-sum"], "a b");
        let mut out = Vec::new();
        write_trailers(&headers, &mut out);
        assert_eq!(out, b"grpc-status: 0\r\nx-sum: a b\r\n");
    }
}
