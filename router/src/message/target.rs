//! Single values of a request that decide where it goes: its target, `Upgrade`, `Max-Forwards`. Pure.
use crate::error::Refusal;
use crate::message::headers::{self, put};
use crate::message::host::host_name;

/// What a request is for, as its line says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'head> {
    /// Whether a `/` is missing in front.
    pub(super) slash: bool,
    /// Path and query, or `*`.
    pub(super) text: &'head str,
    /// Whether it named the host as well.
    pub(super) absolute: bool,
}

/// Whether an application may be asked to change to the protocol. HTTP/2 in the clear is for one hop, and goes (RFC 9113
/// 3.1), also with a version or a parameter behind its name.
pub(super) fn may_be_offered(protocol: &str) -> bool {
    let name = protocol.split(['/', ';', ' ', '\t']).next().unwrap_or_default();
    !name.eq_ignore_ascii_case("h2c")
}

/// Writes an `Upgrade` header with the protocols of it that may be offered, if any.
pub(super) fn put_offered(out: &mut Vec<u8>, header: &httparse::Header<'_>) {
    let value = std::str::from_utf8(header.value).unwrap_or_default();
    if headers::list(value).all(may_be_offered) {
        put(out, header.name, header.value);
        return;
    }
    let offered: Vec<_> = headers::list(value).filter(|protocol| may_be_offered(protocol)).collect();
    if !offered.is_empty() {
        put(out, header.name, offered.join(", ").as_bytes());
    }
}

/// Whether `Max-Forwards` means something for `method`.
pub(super) fn counts_forwards(method: &str) -> bool {
    matches!(method, "OPTIONS" | "TRACE")
}

/// A `Max-Forwards` (RFC 9110 7.6.2): digits only. More than we can count is as many as we can.
pub(super) fn max_forwards(value: &str) -> Result<u32, Refusal> {
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Refusal::bad("max-forwards"));
    }
    Ok(value.parse().unwrap_or(u32::MAX))
}

// === impl Target ===

impl<'head> Target<'head> {
    /// The target in origin form, and the authority of an absolute one.
    pub(super) fn parse(method: &str, text: &'head str) -> Result<(Self, Option<&'head str>), Refusal> {
        let bad = Refusal::bad("request target");
        // A fragment is for the client alone: nobody sends it (RFC 9110 7.1).
        if text.as_bytes().contains(&b'#') {
            return Err(bad);
        }
        if text.starts_with('/') || (text == "*" && method == "OPTIONS") {
            return Ok((Self { slash: false, text, absolute: false }, None));
        }
        let (scheme, rest) = text.split_once("://").ok_or(bad)?;
        if !["http", "https", "ws", "wss"].iter().any(|known| known.eq_ignore_ascii_case(scheme)) {
            return Err(bad);
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if host_name(authority).is_none() {
            return Err(bad);
        }
        let target = match path {
            "" if method == "OPTIONS" => Self { slash: false, text: "*", absolute: true },
            path => Self { slash: !path.starts_with('/'), text: path, absolute: true },
        };
        Ok((target, Some(authority)))
    }
}
