//! The host that a request names. Pure.

/// The name in a `Host` value: without port and without one trailing dot. `None` when it is no host.
pub(crate) fn host_name(host: &str) -> Option<&str> {
    let (name, port) = match host.strip_prefix('[') {
        Some(literal) => {
            let end = literal.find(']')? + 1;
            let inside = &host[1..end];
            if inside.is_empty()
                || !inside.bytes().all(|byte| byte.is_ascii_hexdigit() || b":.".contains(&byte))
            {
                return None;
            }
            (&host[..=end], &host[end + 1..])
        }
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let digits = port.strip_prefix(':').unwrap_or(port);
    if (!port.is_empty() && !port.starts_with(':'))
        || !digits.bytes().all(|byte| byte.is_ascii_digit())
        || digits.len() > 5
    {
        return None;
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    (!name.is_empty() && name.len() <= 255 && (name.starts_with('[') || name.bytes().all(valid)))
        .then_some(name)
}
