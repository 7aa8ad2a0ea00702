//! Between the name of a route and the `localhost` that an application takes itself for. Pure.
//!
//! For routes with `--rewrite-host`: what the client says about where it is becomes `localhost` on the way in, and what
//! the application says about where it is becomes the route's name on the way out. Bodies pass as they are.

/// Two names for one place, in an exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rehost {
    /// `localhost:PORT`, or `localhost`.
    local: Box<str>,
    /// What the client calls it, with its port.
    host: Box<str>,
    /// `http` or `https`: how the client came.
    scheme: &'static str,
}

/// The value of an `Origin` or `Referer` that names `host`, naming `local` instead.
pub(crate) fn inward(name: &str, value: &[u8], host: &str, local: &str) -> Option<String> {
    if !name.eq_ignore_ascii_case("origin") && !name.eq_ignore_ascii_case("referer") {
        return None;
    }
    let (_, authority, rest) = parts(std::str::from_utf8(value).ok()?)?;
    // Applications that look for `localhost` speak plain HTTP there.
    authority.eq_ignore_ascii_case(host).then(|| format!("http://{local}{rest}"))
}

/// Scheme with `//`, authority, and the rest of a URL; the scheme may be missing.
fn parts(url: &str) -> Option<(&str, &str, &str)> {
    let start = url.find("//")? + 2;
    let scheme = &url[..start];
    if !["http://", "https://", "//"].iter().any(|known| known.eq_ignore_ascii_case(scheme)) {
        return None;
    }
    let rest = &url[start..];
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    Some((scheme, &rest[..end], &rest[end..]))
}

// === impl Rehost ===

impl Rehost {
    pub(crate) fn new(local: &str, host: &str, scheme: &'static str) -> Self {
        Self { local: local.into(), host: host.into(), scheme }
    }

    /// Rewrites the answer's `head`, which is complete.
    pub(crate) fn rewrite_head(&self, head: &mut Vec<u8>) {
        let mut rewritten = Vec::with_capacity(head.len());
        for line in head.split_inclusive(|byte| *byte == b'\n') {
            let colon = line.iter().position(|byte| *byte == b':');
            let value = colon.and_then(|colon| {
                let name = std::str::from_utf8(&line[..colon]).ok()?;
                self.outward(name, line[colon + 1..].trim_ascii()).map(|value| (name, value))
            });
            match value {
                Some((name, value)) => crate::message::headers::put(&mut rewritten, name, value.as_bytes()),
                None => rewritten.extend_from_slice(line),
            }
        }
        *head = rewritten;
    }

    /// The value of a header of an answer, where it has to be another one for the client.
    pub(crate) fn outward(&self, name: &str, value: &[u8]) -> Option<String> {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        let value = || std::str::from_utf8(value).ok();
        match name.len() {
            7 if is("refresh") => {
                // `5; url=http://localhost:3000/`, with or without quotes.
                let value = value()?;
                let start = value.to_ascii_lowercase().find("url=")? + "url=".len();
                let quoted = value[start..].starts_with(['"', '\'']);
                let (before, url) = value.split_at(start + usize::from(quoted));
                self.url(url).map(|url| format!("{before}{url}"))
            }
            8 if is("location") => self.url(value()?),
            10 if is("set-cookie") => self.cookie(value()?),
            16 if is("content-location") => self.url(value()?),
            27 if is("access-control-allow-origin") => self.url(value()?),
            _ => None,
        }
    }

    /// A URL of the application's own, as the client knows it.
    fn url(&self, url: &str) -> Option<String> {
        let (scheme, authority, rest) = parts(url)?;
        let scheme = if scheme == "//" { "//".to_owned() } else { format!("{}://", self.scheme) };
        self.is_own(authority).then(|| format!("{scheme}{}{rest}", self.host))
    }

    /// A cookie for `localhost` alone, which a browser that came by another name would refuse, is one for that name.
    fn cookie(&self, cookie: &str) -> Option<String> {
        let is_domain = |attribute: &&str| {
            attribute.split_once('=').is_some_and(|(name, domain)| {
                let domain = domain.trim().trim_start_matches('.');
                name.trim().eq_ignore_ascii_case("domain")
                    && (domain.eq_ignore_ascii_case("localhost") || domain == "127.0.0.1")
            })
        };
        // The first part is the cookie itself, whatever it is called.
        let mut parts = cookie.split(';');
        let first = parts.next().unwrap_or_default();
        parts.clone().any(|part| is_domain(&part)).then(|| {
            let kept: Vec<_> = parts.filter(|part| !is_domain(part)).collect();
            std::iter::once(first).chain(kept).collect::<Vec<_>>().join(";")
        })
    }

    /// Whether `authority` is what the application takes itself for.
    fn is_own(&self, authority: &str) -> bool {
        let port = self.local.strip_prefix("localhost").unwrap_or_default();
        let names = ["localhost", "127.0.0.1", "[::1]"];
        names.iter().any(|name| {
            let rest = authority.get(..name.len()).filter(|start| start.eq_ignore_ascii_case(name));
            rest.is_some_and(|start| authority[start.len()..] == *port)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_the_route_names_localhost() {
        let inward =
            |name: &str, value: &str| inward(name, value.as_bytes(), "a.localhost:4280", "localhost:3000");
        for (value, rewritten) in [
            ("http://a.localhost:4280", Some("http://localhost:3000")),
            ("https://A.localhost:4280/x?y#z", Some("http://localhost:3000/x?y#z")),
            ("http://a.localhost", None),
            ("http://evil.com", None),
            ("http://a.localhost:4280.evil.com/", None),
            ("http://evil.com/http://a.localhost:4280", None),
            ("null", None),
            ("ftp://a.localhost:4280", None),
        ] {
            assert_eq!(inward("Origin", value).as_deref(), rewritten, "{value}");
            assert_eq!(inward("referer", value).as_deref(), rewritten, "{value}");
            assert_eq!(inward("X-Origin", value), None);
        }
    }

    #[test]
    fn what_names_localhost_names_the_route() {
        let names = Rehost::new("localhost:3000", "a.localhost:4280", "https");
        for (line, rewritten) in [
            ("Location: http://localhost:3000/x?y", "Location: https://a.localhost:4280/x?y"),
            ("Location: http://127.0.0.1:3000", "Location: https://a.localhost:4280"),
            ("location: //[::1]:3000/x", "location: //a.localhost:4280/x"),
            ("Location: /x//localhost:3000", "Location: /x//localhost:3000"),
            ("Location: http://localhost:3001/", "Location: http://localhost:3001/"),
            ("Location: http://localhost/", "Location: http://localhost/"),
            ("Location: http://localhost:3000.evil.com/", "Location: http://localhost:3000.evil.com/"),
            ("Content-Location: http://localhost:3000/x", "Content-Location: https://a.localhost:4280/x"),
            ("Refresh: 5; URL=\"http://localhost:3000/\"", "Refresh: 5; URL=\"https://a.localhost:4280/\""),
            (
                "Access-Control-Allow-Origin: http://localhost:3000",
                "Access-Control-Allow-Origin: https://a.localhost:4280",
            ),
            ("Access-Control-Allow-Origin: *", "Access-Control-Allow-Origin: *"),
            (
                "Set-Cookie: domain=localhost; Path=/; Domain=.localhost; Secure",
                "Set-Cookie: domain=localhost; Path=/; Secure",
            ),
            ("Set-Cookie: a=b; Domain=other.localhost", "Set-Cookie: a=b; Domain=other.localhost"),
            ("X-Url: http://localhost:3000/", "X-Url: http://localhost:3000/"),
        ] {
            let mut head = format!("HTTP/1.1 200 OK\r\n{line}\r\nX-A: 1\r\n\r\n").into_bytes();
            names.rewrite_head(&mut head);
            assert_eq!(
                String::from_utf8(head).unwrap(),
                format!("HTTP/1.1 200 OK\r\n{rewritten}\r\nX-A: 1\r\n\r\n")
            );
        }
    }

    #[test]
    fn the_port_of_http_is_not_written() {
        let names = Rehost::new("localhost", "a.localhost", "http");
        assert_eq!(names.url("http://localhost/x").as_deref(), Some("http://a.localhost/x"));
        assert_eq!(names.url("http://localhost:80/x"), None);
    }

    #[test]
    fn other_headers_of_the_same_length_stay() {
        let names = Rehost::new("localhost:3000", "a.localhost:4280", "https");
        let url = b"http://localhost:3000/";
        for (name, other, value) in [
            ("Refresh", "X-Fresh", b"5; url=http://localhost:3000/".as_slice()),
            ("Location", "X-Locate", url),
            ("Set-Cookie", "Set-Cookir", b"a=b; Domain=localhost"),
            ("Content-Location", "Content-Locatiom", url),
            ("Access-Control-Allow-Origin", "Access-Control-Allow-Origim", url),
        ] {
            assert!(names.outward(name, value).is_some(), "{name}");
            assert_eq!(names.outward(other, value), None, "{other}");
        }
    }
}
