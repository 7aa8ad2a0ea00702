//! Trailers between HTTP/2 and HTTP/1. Pure.
use crate::message::headers::{Kind, kind, put};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Trailer lines, up to and with the empty one, as headers; those that may not be trailers are left out.
pub(super) fn read(lines: &[u8]) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    let text = lines.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    for line in text {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let parsed = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value));
        if let (Ok(name), Ok(value)) = parsed
            && may_trail(&name)
            && trailers.try_append(name, value).is_err()
        {
            break;
        }
    }
    trailers
}

/// Writes trailers behind the last chunk.
pub(super) fn write(trailers: &HeaderMap, out: &mut Vec<u8>) {
    for (name, value) in trailers {
        if may_trail(name) {
            put(out, name.as_str(), value.as_bytes());
        }
    }
}

/// Whether a header may stand behind the body: none that frames or routes (RFC 9110 6.5.1).
fn may_trail(name: &HeaderName) -> bool {
    matches!(kind(name.as_str()), Kind::Other | Kind::Accept)
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
