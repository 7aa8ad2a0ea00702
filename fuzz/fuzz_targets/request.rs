//! The router's request heads: the end is found at the same byte however a head arrives; whatever is accepted is
//! written so that it reads again as the same request (host, method, path, framing): nothing is smuggled.
#![no_main]

/// The router's pure parts, as they are.
#[path = "../../router/src/message"]
mod message {
    #[expect(dead_code, reason = "used in part")]
    pub(crate) mod body;
    #[expect(dead_code, reason = "used in part")]
    pub(crate) mod head;
    #[expect(dead_code, reason = "used in part")]
    pub(crate) mod headers;
    pub(crate) mod host;
    #[expect(dead_code, reason = "used in part")]
    pub(crate) mod rehost;
    #[expect(dead_code, reason = "used in part")]
    pub(crate) mod request;
    pub(crate) mod target;
}
#[expect(dead_code, reason = "used in part")]
#[path = "../../router/src/error.rs"]
mod error;
#[expect(dead_code, reason = "used in part")]
#[path = "../../router/src/limits.rs"]
mod limits;

use libfuzzer_sys::fuzz_target;
use message::body::{Body, Part};
use message::head::{Head, Scanner};
use message::request::{Origin, with_request};

const ORIGIN: Origin<'_> = Origin { address: "127.0.0.1", scheme: "http" };

/// What the router decides by.
type Read = (String, String, String, String, bool, bool);

fn read(head: &[u8]) -> Result<(Read, Vec<u8>), u16> {
    with_request(head, |request| {
        let mut out = Vec::new();
        request.write(&mut out, ORIGIN, None)?;
        let facts = request.facts;
        // An absolute target without a path is one with `/` (RFC 9112 3.2.1).
        let slash = if request.path().starts_with(['?', '#']) { "/" } else { "" };
        let read = (
            request.method().to_owned(),
            format!("{slash}{}", request.path()),
            request.host.to_owned(),
            format!("{:?}", facts.body),
            facts.is_head,
            facts.upgrade,
        );
        Ok((read, out))
    })
    .map_err(|refusal| refusal.status)
}

fuzz_target!(|input: (u8, &[u8])| {
    let (cut, bytes) = input;
    let whole = Scanner::default().scan(bytes, true);
    let mut scanner = Scanner::default();
    let first = scanner.scan(&bytes[..usize::from(cut).min(bytes.len())], true);
    assert_eq!(if first == Head::Partial { scanner.scan(bytes, true) } else { first }, whole);
    let Head::Complete(end) = whole else { return };
    let Ok((first, out)) = read(&bytes[..end]) else { return };
    assert_eq!(Scanner::default().scan(&out, true), Head::Complete(out.len()), "{}", out.escape_ascii());
    let hops = b"X-Agentfs-Hops: ";
    let at = out.windows(hops.len()).rposition(|part| part == hops).expect("the router counts its hops");
    let mut again = out[..at].to_vec();
    again.extend_from_slice(b"\r\n");
    match read(&again) {
        Ok((second, _)) => assert_eq!(first, second, "{}", out.escape_ascii()),
        Err(status) => panic!("{status}: {}", out.escape_ascii()),
    }
    assert_eq!(chunked(&[&bytes[end..]]), {
        let (front, back) = bytes[end..].split_at(usize::from(cut).min(bytes.len() - end));
        chunked(&[front, back])
    });
});

/// Where a chunked body ends, `None` where it does not; 0 where it is malformed.
fn chunked(parts: &[&[u8]]) -> Option<usize> {
    let mut body = Body::CHUNKED;
    let mut taken = 0;
    for part in parts {
        let mut rest = *part;
        while !rest.is_empty() {
            let (Part::Pass(used) | Part::Trailers(used)) = match body.take(rest, |_| {}) {
                Ok(used) => used,
                Err(_) => return Some(0),
            };
            taken += used;
            if body.is_finished() {
                return Some(taken);
            }
            assert!(used > 0, "a body that goes on takes every byte");
            rest = &rest[used..];
        }
    }
    None
}
