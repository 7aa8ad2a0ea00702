//! What a Unix socket name means to us: a listener of the run dir, or the client end of a connection.
use crate::config::Config;
use crate::rawaddr::{UnixName, unix_text};
use crate::sys;
use agentfs_wire::address::{Endpoint, Scope};
use agentfs_wire::name::{FileName, Kind, SocketName};
use agentfs_wire::peer::Peer;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use libc::c_int;

/// A rewritten listener, read from its name in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listener {
    /// The port that the program bound.
    pub(crate) port: u16,
    /// The address that the program bound.
    pub(crate) scope: Scope,
    /// Whether the program's socket is an IPv6 one.
    pub(crate) v6_socket: bool,
    /// Whether it is a member of a `SO_REUSEPORT` group.
    pub(crate) shared: bool,
}

/// What a Unix socket name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// A rewritten listener, or a connection that it accepted.
    Listener(Listener),
    /// The client end of a connection.
    Peer(Peer),
    /// A Unix socket without a name.
    Unnamed,
    /// A Unix socket of the program's own.
    Foreign,
    /// Not a Unix socket.
    NotUnix,
}

// === impl Listener ===

impl Listener {
    /// The address as the program bound it.
    pub(crate) fn endpoint(self) -> Endpoint {
        self.present(Endpoint { ip: self.scope.ip(), port: self.port })
    }

    /// An address as this listener's socket shows it: mapped where the socket is an IPv6 one.
    pub(crate) fn present(self, endpoint: Endpoint) -> Endpoint {
        if self.v6_socket { endpoint.mapped() } else { endpoint }
    }

    /// The address that is shown for a client if its own name does not say which one it used.
    pub(crate) fn loopback(self) -> IpAddr {
        match self.scope {
            Scope::V4(ip) => IpAddr::V4(ip),
            Scope::AnyV4 | Scope::AnyDual => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Scope::AnyV6 | Scope::LoopbackV6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
        }
    }
}

/// Reads a name from the kernel.
pub(crate) fn meaning(config: &Config, name: &[u8]) -> Meaning {
    if sys::family_of(name) != libc::AF_UNIX {
        return Meaning::NotUnix;
    }
    let text = unix_text(name);
    if text.is_empty() {
        return Meaning::Unnamed;
    }
    if let Some(peer) = crate::client_names::read(config, text) {
        return Meaning::Peer(peer);
    }
    let Some((file, mapped)) = file_of(config.run(), text) else { return Meaning::Foreign };
    match SocketName::parse(file).map(|name| name.kind) {
        Ok(Kind::Listener { port, scope, worker }) => Meaning::Listener(Listener {
            port,
            scope,
            v6_socket: mapped || scope.is_v6(),
            shared: worker.is_some(),
        }),
        _ => Meaning::Foreign,
    }
}

/// The file name of a path in the run dir, and whether the path has a double slash before it.
pub(crate) fn file_of<'a>(run: &[u8], path: &'a [u8]) -> Option<(&'a str, bool)> {
    let rest = path.strip_prefix(run)?.strip_prefix(b"/")?;
    let (file, mapped) = match rest.strip_prefix(b"/") {
        Some(file) => (file, true),
        None => (rest, false),
    };
    Some((core::str::from_utf8(file).ok()?, mapped))
}

/// The socket name of a file in the run dir.
pub(crate) fn path_of(config: &Config, file: &[u8], mapped: bool) -> UnixName {
    UnixName::path(&[config.run(), if mapped { b"//" } else { b"/" }, file])
}

/// The file name of one of this instance's sockets.
pub(crate) fn own_file(config: &Config, kind: Kind) -> FileName {
    SocketName { app: config.app, instance: config.instance, kind }.format()
}

/// The file of a rewritten socket that is bound, as the kernel has it.
pub(crate) fn file_of_socket(config: &Config, fd: c_int) -> Option<FileName> {
    let name = sys::own_name(fd).ok()?;
    let (file, _) = file_of(config.run(), unix_text(name.bytes()))?;
    FileName::of(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = "/h/run";

    fn listener(scope: Scope, v6_socket: bool) -> Listener {
        Listener { port: 80, scope, v6_socket, shared: false }
    }

    fn of_path(path: &str) -> Meaning {
        meaning(&Config::of_shop(RUN), UnixName::path(&[path.as_bytes()]).bytes())
    }

    #[test]
    fn a_name_of_the_run_dir_is_a_listener() {
        let shared = Listener { shared: true, ..listener(Scope::AnyV4, false) };
        for (path, expected) in [
            ("/h/run/shop-one.80.l.sock", listener(Scope::V4(Ipv4Addr::LOCALHOST), false)),
            ("/h/run//shop-one.80.l.sock", listener(Scope::V4(Ipv4Addr::LOCALHOST), true)),
            ("/h/run/shop-one.80.sock", listener(Scope::AnyV4, false)),
            ("/h/run/shop-one.80.d.sock", listener(Scope::AnyDual, true)),
            ("/h/run/shop-one.80.6.sock", listener(Scope::AnyV6, true)),
            ("/h/run/shop-one.80.l6.sock", listener(Scope::LoopbackV6, true)),
            ("/h/run/shop-one.80.w1.sock", shared),
        ] {
            assert_eq!(of_path(path), Meaning::Listener(expected), "{path}");
        }
    }

    #[test]
    fn other_names_are_told_apart() {
        assert_eq!(of_path("/h/run/shop-one.sock"), Meaning::Foreign);
        assert_eq!(of_path("/h/run/shop-one.json"), Meaning::Foreign);
        assert_eq!(of_path("/h/other/shop-one.80.l.sock"), Meaning::Foreign);
        let config = Config::of_shop(RUN);
        assert_eq!(meaning(&config, &crate::header::unix_header(2)), Meaning::Unnamed);
        assert_eq!(meaning(&config, &[]), Meaning::NotUnix);
        let inet = crate::rawaddr::Encoded::of(Endpoint { ip: Ipv4Addr::LOCALHOST.into(), port: 80 });
        assert_eq!(meaning(&config, inet.bytes()), Meaning::NotUnix);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_client_end_of_a_connection_is_a_peer() {
        let end = |port| Endpoint { ip: Ipv4Addr::LOCALHOST.into(), port };
        let name = Peer::format_client(7, false, end(50_000), end(80));
        let raw = UnixName::abstract_name(name.as_bytes());
        let config = Config::of_shop(RUN);
        assert_eq!(meaning(&config, raw.bytes()), Meaning::Peer(Peer::parse(name.as_bytes()).unwrap()));
        assert_eq!(meaning(&config, UnixName::abstract_name(b"\0other").bytes()), Meaning::Foreign);
    }

    #[test]
    fn own_names_read_back() {
        let config = Config::of_shop(RUN);
        for (scope, mapped) in [(Scope::AnyV4, false), (Scope::AnyV4, true), (Scope::LoopbackV6, false)] {
            let file = own_file(&config, Kind::Listener { port: 80, scope, worker: None });
            let name = path_of(&config, file.as_bytes(), mapped);
            let expected = listener(scope, mapped || scope == Scope::LoopbackV6);
            assert_eq!(meaning(&config, name.bytes()), Meaning::Listener(expected));
        }
    }

    #[test]
    fn a_listener_shows_its_address_as_its_socket_does() {
        let text = |listener: Listener| listener.endpoint().ip.to_string();
        assert_eq!(text(listener(Scope::AnyV4, false)), "0.0.0.0");
        assert_eq!(text(listener(Scope::AnyV4, true)), "::ffff:0.0.0.0");
        assert_eq!(text(listener(Scope::AnyDual, true)), "::");
        assert_eq!(listener(Scope::AnyV4, false).endpoint().port, 80);
        for (scope, expected) in [
            (Scope::V4(Ipv4Addr::new(127, 0, 0, 2)), "127.0.0.2"),
            (Scope::AnyV4, "127.0.0.1"),
            (Scope::AnyDual, "127.0.0.1"),
            (Scope::AnyV6, "::1"),
            (Scope::LoopbackV6, "::1"),
        ] {
            assert_eq!(listener(scope, false).loopback().to_string(), expected);
        }
    }

    #[test]
    fn the_spelling_tells_the_family() {
        assert_eq!(file_of(b"/h/run", b"/h/run/a-b.80.l.sock"), Some(("a-b.80.l.sock", false)));
        assert_eq!(file_of(b"/h/run", b"/h/run//a-b.80.l.sock"), Some(("a-b.80.l.sock", true)));
        assert_eq!(file_of(b"/h/run", b"/h/runs/a-b.80.l.sock"), None);
        assert_eq!(file_of(b"/h/run", b"/tmp/x"), None);
    }

    #[test]
    fn a_bound_socket_shows_its_file() {
        let run = std::path::Path::new("/tmp").join(format!("agentfs-names-{}", std::process::id()));
        std::fs::create_dir(&run).unwrap();
        let config = Config::of_shop(run.to_str().unwrap());
        let own = std::os::unix::net::UnixListener::bind(run.join("shop-one.80.l.sock")).unwrap();
        let deeper = run.with_extension("d");
        let foreign = std::os::unix::net::UnixListener::bind(&deeper).unwrap();
        let inet = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (own, foreign, inet) = {
            use std::os::fd::AsRawFd as _;
            let of = |fd| file_of_socket(&config, fd);
            (of(own.as_raw_fd()), of(foreign.as_raw_fd()), of(inet.as_raw_fd()))
        };
        std::fs::remove_file(&deeper).unwrap();
        std::fs::remove_dir_all(&run).unwrap();
        assert_eq!(own.unwrap().as_str(), "shop-one.80.l.sock");
        assert!(foreign.is_none() && inet.is_none());
    }
}
