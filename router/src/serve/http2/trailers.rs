//! Trailers between HTTP/2 and HTTP/1. Pure.
use crate::message::headers::{may_trail, put, trailers};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Trailer lines, up to and with the empty one, as headers; those that may not be trailers are left out.
pub(super) fn read(lines: &[u8]) -> HeaderMap {
    let mut map = HeaderMap::new();
    trailers(lines, |name, value| {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_bytes(value)) {
            // More than a map holds are left out.
            let _ = map.try_append(name, value);
        }
    });
    map
}

/// Writes trailers behind the last chunk.
pub(super) fn write(trailers: &HeaderMap, out: &mut Vec<u8>) {
    for (name, value) in trailers {
        if may_trail(name.as_str()) {
            put(out, name.as_str(), value.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailers_pass_unless_they_frame() {
        let headers = read(b"Grpc-Status: 0\r\nContent-Length: 5\r\nX-Sum:  a b \r\n\r\n");
        assert_eq!(headers.len(), 2);
        assert_eq!(headers["x-sum"], "a b");
        let mut out = Vec::new();
        write(&headers, &mut out);
        assert_eq!(out, b"grpc-status: 0\r\nx-sum: a b\r\n");
    }
}
