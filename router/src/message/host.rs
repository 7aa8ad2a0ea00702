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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_and_a_port() {
        for (host, name) in [
            ("shop.localhost", "shop.localhost"),
            ("Shop.localhost.:4280", "Shop.localhost"),
            ("a:65535", "a"),
            ("a:", "a"),
            ("a~b_c-1", "a~b_c-1"),
            ("127.0.0.1:80", "127.0.0.1"),
            ("[::1]", "[::1]"),
            ("[::ffff:127.0.0.1]:80", "[::ffff:127.0.0.1]"),
        ] {
            assert_eq!(host_name(host), Some(name), "{host}");
        }
        for host in [
            "",
            ".",
            ":80",
            "a b",
            "a/b",
            "u@a",
            "a:b",
            "a:+1",
            "a:80:80",
            "a:123456",
            "a:0000080",
            "[]",
            "[]:80",
            "[::1",
            "[::g]",
            "[::1]80",
            "[::1]x:80",
            "[::1]:x",
            "::1",
        ] {
            assert_eq!(host_name(host), None, "{host}");
        }
        let long = "a".repeat(255);
        assert_eq!(host_name(&long), Some(long.as_str()));
        assert_eq!(host_name(&format!("{long}a")), None);
    }
}
