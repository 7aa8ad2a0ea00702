//! Where a listener is. Pure.
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Where a listener is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A Unix socket.
    Unix(PathBuf),
    /// A TCP address, loopback in all that agentfs makes by itself.
    Tcp(SocketAddr),
}

// === impl Target ===

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => path.display().fmt(formatter),
            Self::Tcp(address) => address.fmt(formatter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_shown_as_it_is_typed() {
        assert_eq!(Target::Unix("/run/a b.sock".into()).to_string(), "/run/a b.sock");
        for address in ["127.0.0.1:80", "[::1]:8080"] {
            assert_eq!(Target::Tcp(address.parse().unwrap()).to_string(), address);
        }
    }
}
