//! What people paste: a URL of a browser, with or without its scheme, or an address of this machine. Pure.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What a text names, if it is a URL, a host name below `.localhost`, or an address of this machine with a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pasted {
    /// A host name below `.localhost`.
    Host {
        /// Without `.localhost`, in lower case: `blue.shop`, `5173.shop`.
        name: String,
        /// The port that is written behind it.
        port: Option<u16>,
        /// Whether it can only be a URL: it has a scheme, or something behind the host.
        is_url: bool,
    },
    /// An address of this machine: `localhost:3000`, `http://127.0.0.1:8080/x`.
    Local(Local),
    /// A URL of something else.
    Foreign,
}

/// A port of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Local {
    /// Its address.
    pub(crate) address: SocketAddr,
    /// Whether `localhost` was named, or nothing: then `::1` is meant as well.
    pub(crate) both: bool,
}

/// Reads a text. `None`: it is none of these, so it may be the name of an instance.
pub(crate) fn read(text: &str) -> Option<Pasted> {
    let text = text.to_ascii_lowercase();
    let (rest, usual) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
        (Some(rest), _) => (rest, Some(80)),
        (_, Some(rest)) => (rest, Some(443)),
        _ => (text.as_str(), None),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let authority = authority.rsplit('@').next().unwrap_or(authority);
    let (host, port) = divide(authority)?;
    let host = host.trim_end_matches('.');
    let local = if host == "localhost" {
        Some(IpAddr::V4(Ipv4Addr::LOCALHOST))
    } else {
        host.trim_start_matches('[').trim_end_matches(']').parse().ok()
    };
    match (host.strip_suffix(".localhost"), local, port.or(usual)) {
        (Some(name), ..) => {
            Some(Pasted::Host { name: name.to_owned(), port, is_url: usual.is_some() || !path.is_empty() })
        }
        (None, Some(ip), Some(port)) => {
            let address = SocketAddr::new(ip, port);
            Some(Pasted::Local(Local { address, both: host == "localhost" }))
        }
        (None, None, _) if usual.is_some() => Some(Pasted::Foreign),
        _ => None,
    }
}

/// Host and port. `None`: what follows the colon is not a port.
fn divide(authority: &str) -> Option<(&str, Option<u16>)> {
    let after_brackets = authority.rfind(']').map_or(0, |at| at + 1);
    match authority.get(after_brackets..)?.rfind(':') {
        None => Some((authority, None)),
        Some(at) => {
            let (host, port) = authority.split_at(after_brackets + at);
            let port = port.strip_prefix(':')?.parse().ok().filter(|port| *port != 0)?;
            Some((host, Some(port)))
        }
    }
}

/// The port of an instance that a URL or a host name begins with.
pub(crate) fn port_of(text: &str) -> Option<u16> {
    match read(text) {
        Some(Pasted::Host { name, .. }) => port_label(&name).1,
        _ => None,
    }
}

/// Divides a host name that begins with a port: `5173.blue.shop` is port 5173 of `blue.shop`.
pub(crate) fn port_label(name: &str) -> (&str, Option<u16>) {
    match name.split_once('.') {
        Some((label, rest)) if label.parse::<u16>().is_ok() => (rest, label.parse().ok()),
        _ => (name, None),
    }
}

// === impl Local ===

impl Local {
    /// A port of `localhost`.
    pub(crate) fn of_port(port: u16) -> Self {
        Self { address: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port), both: true }
    }

    /// Reads `3000`, `:3000`, or what [`read`] reads as an address of this machine.
    pub(crate) fn read(text: &str) -> Option<Self> {
        if let Ok(port) = text.strip_prefix(':').unwrap_or(text).parse::<u16>() {
            return (port != 0).then(|| Self::of_port(port));
        }
        match read(text) {
            Some(Pasted::Local(local)) => Some(local),
            _ => None,
        }
    }

    /// The addresses that a client tries.
    pub(crate) fn addresses(self) -> Vec<SocketAddr> {
        let second = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), self.address.port());
        if self.both { vec![self.address, second] } else { vec![self.address] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_with_and_without_a_scheme() {
        let host = |name: &str, port, is_url| Some(Pasted::Host { name: name.to_owned(), port, is_url });
        for (text, expected) in [
            ("http://feature-cart.shop.localhost:4280/", host("feature-cart.shop", Some(4280), true)),
            ("https://blue.shop.localhost/cart?item=1#top", host("blue.shop", None, true)),
            ("http://user:word@Blue.Shop.localhost.:80", host("blue.shop", Some(80), true)),
            ("blue.shop.localhost:7777/x", host("blue.shop", Some(7777), true)),
            ("blue.shop.localhost?x", host("blue.shop", None, true)),
            ("blue.shop.localhost:5432", host("blue.shop", Some(5432), false)),
            ("5173.blue.shop.localhost", host("5173.blue.shop", None, false)),
            ("http://example.com/", Some(Pasted::Foreign)),
            ("shop", None),
            ("shop/blue", None),
            ("blue.shop", None),
            ("shop:5432", None),
            ("blue.shop.localhost:x", None),
            ("blue.shop.localhost:0", None),
            ("localhost", None),
            ("", None),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
        assert_eq!(port_label("5173.blue.shop"), ("blue.shop", Some(5173)));
        assert_eq!((port_label("blue.shop"), port_label("shop")), (("blue.shop", None), ("shop", None)));
    }

    #[test]
    fn addresses_of_this_machine_are_read() {
        for (text, address) in [
            ("3000", "127.0.0.1:3000"),
            (":3000", "127.0.0.1:3000"),
            ("localhost:3000", "127.0.0.1:3000"),
            ("localhost:3000/x:9", "127.0.0.1:3000"),
            ("127.0.0.2:3000", "127.0.0.2:3000"),
            ("[::1]:3000", "[::1]:3000"),
            ("http://localhost/x:9", "127.0.0.1:80"),
            ("https://localhost", "127.0.0.1:443"),
            ("http://127.0.0.1:8080/a?b", "127.0.0.1:8080"),
        ] {
            assert_eq!(Local::read(text).unwrap().address, address.parse().unwrap(), "{text}");
        }
        assert_eq!(Local::read("localhost:3000"), Some(Local::of_port(3000)));
        assert_eq!(Local::read("3000").unwrap().addresses().len(), 2);
        assert_eq!(Local::read("127.0.0.1:3000").unwrap().addresses().len(), 1);
        for text in ["0", "localhost:x", "127.0.0.1", "example.com:80", "::1", "localhost:65536", "shop", ""]
        {
            assert_eq!(Local::read(text), None, "{text}");
        }
    }
}
