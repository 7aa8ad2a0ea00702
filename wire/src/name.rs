//! The codec of file names in the run dir: the socket's own name is the state.
//!
//! ```text
//! {app}-{instance}.sock                              main listener, or one made by hand
//! {app}-{instance}.{port}[.{scope}][.w{n}].sock      rewritten listener; w{n}: SO_REUSEPORT member
//! {app}-{instance}.{port}[.{scope}].group            marks that such members exist (regular file)
//! {app}-{instance}.json                              companion (regular file)
//! ```
//!
//! `scope` is absent for `0.0.0.0`, `d` for `[::]` of both families, `6` for `[::]` of IPv6 only,
//! `l` for `127.0.0.1`, `l` and six hexadecimal digits for the rest of `127/8`, `l6` for `[::1]`, `h` and eight
//! hexadecimal digits for an IPv4 address of the host's own, which has no members.
//! The last dash separates app and instance. A dash inside an instance is written `_`, which no DNS label
//! has. `parse(format(x)) == x` for every name.
//!
//! An IPv6 socket that is bound to an IPv4-mapped address occupies the IPv4 port, so it has the IPv4 file
//! name. But its path has a double slash before the file name. The kernel returns a path as it was spelled at
//! bind (unix(7), tested on Linux), so the spelling shows the socket's family. The file is the same: two
//! binds of one port collide in the kernel, whatever their families.
use crate::address::Scope;
use crate::limits::{APP_BYTES, FILE_NAME_BYTES, INSTANCE_BYTES, REUSEPORT_WORKERS};
use crate::text::{Text, cut, cut_last, parse_hex, parse_number, parts};
use core::fmt;
use core::net::Ipv4Addr;

/// An app or instance name: a DNS label, at most `N` bytes.
pub type AppName = Text<APP_BYTES>;
/// The instance's part.
pub type InstanceName = Text<INSTANCE_BYTES>;
/// A file name in the run dir.
pub type FileName = Text<FILE_NAME_BYTES>;

/// What a file in the run dir stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SocketName {
    /// The app, a DNS label.
    pub app: AppName,
    /// The instance, a DNS label (with dashes, not underscores).
    pub instance: InstanceName,
    /// What the file is.
    pub kind: Kind,
}

/// The kinds of file in the run dir.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `{app}-{instance}.sock`
    Main,
    /// A rewritten TCP listener.
    Listener {
        /// The port that the program bound.
        port: u16,
        /// The address that the program bound.
        scope: Scope,
        /// Its place in a `SO_REUSEPORT` group.
        worker: Option<u8>,
    },
    /// The mark of a `SO_REUSEPORT` group.
    Group {
        /// The port that the group shares.
        port: u16,
        /// The address that the group shares.
        scope: Scope,
    },
    /// The instance's companion file.
    Companion,
}

/// Why a file name is not one of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// It does not end in `.sock`, `.group` or `.json`.
    Suffix,
    /// It has no dash between app and instance.
    NoDash,
    /// The app is not a DNS label of at most [`APP_BYTES`] bytes.
    App,
    /// The instance is not a DNS label of at most [`INSTANCE_BYTES`] bytes.
    Instance,
    /// The port, the scope or the member number is malformed.
    Address,
}

// === impl SocketName ===

impl SocketName {
    /// Reads a file name.
    ///
    /// # Errors
    /// [`NameError`] says which part is malformed.
    pub fn parse(file: &str) -> Result<Self, NameError> {
        let (stem, suffix) = cut_last(file, b'.').ok_or(NameError::Suffix)?;
        let (names, address) = match cut(stem, b'.') {
            Some((names, address)) => (names, Some(address)),
            None => (stem, None),
        };
        let kind = match (suffix, address) {
            ("sock", None) => Kind::Main,
            ("json", None) => Kind::Companion,
            ("sock", Some(address)) => {
                let (port, scope, worker) = parse_address(address).ok_or(NameError::Address)?;
                Kind::Listener { port, scope, worker }
            }
            ("group", Some(address)) => match parse_address(address) {
                Some((port, scope, None)) => Kind::Group { port, scope },
                _ => return Err(NameError::Address),
            },
            _ => return Err(NameError::Suffix),
        };
        let (app, instance) = cut_last(names, b'-').ok_or(NameError::NoDash)?;
        let app = app_name(app).ok_or(NameError::App)?;
        let instance = instance_from_file(instance).ok_or(NameError::Instance)?;
        Ok(Self { app, instance, kind })
    }

    /// Writes the file name. The result always fits: the limits of the parts add up to it.
    pub fn format(&self) -> FileName {
        let mut text = FileName::new();
        text.push(self.app.as_str());
        text.push("-");
        for byte in self.instance.as_bytes() {
            let byte = [if *byte == b'-' { b'_' } else { *byte }];
            text.push(core::str::from_utf8(&byte).unwrap_or(""));
        }
        match self.kind {
            Kind::Main => text.push(".sock"),
            Kind::Companion => text.push(".json"),
            Kind::Listener { port, scope, worker } => {
                push_address(&mut text, port, scope);
                if let Some(worker) = worker {
                    text.push(".w");
                    text.push_number(worker.into());
                }
                text.push(".sock")
            }
            Kind::Group { port, scope } => {
                push_address(&mut text, port, scope);
                text.push(".group")
            }
        };
        text
    }

    /// The same instance's file of another kind.
    pub fn with(&self, kind: Kind) -> Self {
        Self { app: self.app, instance: self.instance, kind }
    }
}

impl fmt::Display for SocketName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.format().as_str())
    }
}

// === impl NameError ===

impl fmt::Display for NameError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Suffix => "the name does not end in .sock, .group or .json",
            Self::NoDash => "the name has no dash between app and instance",
            Self::App => "the app is not a DNS label of at most 24 bytes",
            Self::Instance => "the instance is not a DNS label of at most 20 bytes",
            Self::Address => "the port, scope or member number is malformed",
        })
    }
}

impl core::error::Error for NameError {}

/// Whether `text` is a DNS label (RFC 1035 2.3.1, digits first allowed by RFC 1123 2.1) in lower case.
pub fn is_label(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// `text` as an app name, or `None` if it is not a label or too long.
pub fn app_name(text: &str) -> Option<AppName> {
    if is_label(text) { AppName::of(text) } else { None }
}

/// `text` as an instance name, or `None` if it is not a label or too long.
pub fn instance_name(text: &str) -> Option<InstanceName> {
    if is_label(text) { InstanceName::of(text) } else { None }
}

fn instance_from_file(text: &str) -> Option<InstanceName> {
    let mut name = InstanceName::new();
    for byte in text.bytes() {
        let byte = [if byte == b'_' { b'-' } else { byte }];
        if !name.push(core::str::from_utf8(&byte).ok()?) {
            return None;
        }
    }
    is_label(name.as_str()).then_some(name)
}

fn push_address(text: &mut FileName, port: u16, scope: Scope) {
    text.push(".");
    text.push_number(port.into());
    match scope {
        Scope::AnyV4 => {}
        Scope::AnyDual => {
            text.push(".d");
        }
        Scope::AnyV6 => {
            text.push(".6");
        }
        Scope::LoopbackV6 => {
            text.push(".l6");
        }
        Scope::V4(Ipv4Addr::LOCALHOST) => {
            text.push(".l");
        }
        Scope::V4(ip) if !ip.is_loopback() => {
            text.push(".h");
            text.push_hex(u64::from(u32::from(ip)), 8);
        }
        Scope::V4(ip) => {
            text.push(".l");
            text.push_hex(u64::from(u32::from(ip) & 0x00ff_ffff), 6);
        }
    }
}

fn parse_address(text: &str) -> Option<(u16, Scope, Option<u8>)> {
    let mut parts = parts(text, b'.');
    let port = u16::try_from(parse_number(parts.next()?, u64::from(u16::MAX))?).ok()?;
    let mut scope = Scope::AnyV4;
    let mut worker = None;
    let mut part = parts.next();
    if let Some(tag) = part
        && !tag.starts_with('w')
    {
        scope = match tag {
            "d" => Scope::AnyDual,
            "6" => Scope::AnyV6,
            "l" => Scope::V4(Ipv4Addr::LOCALHOST),
            "l6" => Scope::LoopbackV6,
            _ if tag.starts_with('h') => {
                let ip = Ipv4Addr::from(u32::try_from(parse_hex(tag.strip_prefix('h')?, 8)?).ok()?);
                if ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast() {
                    return None;
                }
                Scope::V4(ip)
            }
            _ => {
                let low = u32::try_from(parse_hex(tag.strip_prefix('l')?, 6)?).ok()?;
                let ip = Ipv4Addr::from(0x7f00_0000 | low);
                if ip == Ipv4Addr::LOCALHOST {
                    return None;
                }
                Scope::V4(ip)
            }
        };
        part = parts.next();
    }
    if let Some(tag) = part {
        if matches!(scope, Scope::V4(ip) if !ip.is_loopback()) {
            return None;
        }
        let number = parse_number(tag.strip_prefix('w')?, u64::from(REUSEPORT_WORKERS - 1))?;
        worker = Some(u8::try_from(number).ok()?);
    }
    if port == 0 || parts.next().is_some() {
        return None;
    }
    Some((port, scope, worker))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{RUN_DIR_BYTES, SOCKET_PATH_BYTES};
    use proptest::prelude::*;

    fn parse(file: &str) -> SocketName {
        SocketName::parse(file).unwrap_or_else(|error| panic!("{file}: {error}"))
    }

    #[test]
    fn the_last_dash_divides_a_hand_made_name() {
        let name = parse("my-app-abc123.sock");
        assert_eq!((name.app.as_str(), name.instance.as_str(), name.kind), ("my-app", "abc123", Kind::Main));
    }

    #[test]
    fn a_dash_in_an_instance_is_an_underscore_in_the_file() {
        let name = parse("shop-feature_cart.8080.sock");
        assert_eq!(name.instance.as_str(), "feature-cart");
        assert_eq!(name.kind, Kind::Listener { port: 8080, scope: Scope::AnyV4, worker: None });
    }

    #[test]
    fn malformed_names_are_refused() {
        for file in [
            "",
            ".sock",
            "a.sock",
            "-.sock",
            "a-.sock",
            "-b.sock",
            "A-b.sock",
            "a-b",
            "a-b.txt",
            "a-b.0.sock",
            "a-b.65536.sock",
            "a-b.080.sock",
            "a-b.80.x.sock",
            "a-b.80.l000001.sock",
            "a-b.80.w64.sock",
            "a-b.80.w01.sock",
            "a-b.80.d.w1.x.sock",
            "a-b..sock",
            "a-b.80.w1.group",
            "a-b.group",
            "a-b.80.json",
            "a b-c.sock",
            "a-é.sock",
            "a-b.80.w1.d.sock",
            "a-_b.sock",
        ] {
            assert!(SocketName::parse(file).is_err(), "{file}");
        }
    }

    #[test]
    fn the_usual_address_has_the_shortest_tag() {
        let name = parse("shop-main.80.l.w1.sock");
        let scope = Scope::V4(Ipv4Addr::LOCALHOST);
        assert_eq!(name.kind, Kind::Listener { port: 80, scope, worker: Some(1) });
        assert_eq!(name.to_string(), "shop-main.80.l.w1.sock");
    }

    #[test]
    fn it_is_said_what_is_malformed() {
        for (file, words) in [
            ("a-b.txt", "does not end in .sock"),
            ("a.sock", "no dash"),
            ("A-b.sock", "the app"),
            ("a-b!.sock", "the instance"),
            ("a-b.x.sock", "malformed"),
        ] {
            let message = SocketName::parse(file).unwrap_err().to_string();
            assert!(message.contains(words), "{file}: {message}");
        }
    }

    #[test]
    fn an_address_of_the_host_has_a_name() {
        let name = SocketName::parse("shop-main.80.hc0000202.sock").unwrap();
        let scope = Scope::V4(Ipv4Addr::new(192, 0, 2, 2));
        assert_eq!(name.kind, Kind::Listener { port: 80, scope, worker: None });
        assert_eq!(name.format().as_str(), "shop-main.80.hc0000202.sock");
        for tag in ["h7f000001", "h00000000", "he0000001", "hffffffff", "h1", "hc0000202.w1", "hC0000202"] {
            assert!(SocketName::parse(&format!("shop-main.80.{tag}.sock")).is_err(), "{tag}");
        }
    }

    fn scopes() -> impl Strategy<Value = Scope> {
        prop_oneof![
            Just(Scope::AnyV4),
            Just(Scope::AnyDual),
            Just(Scope::AnyV6),
            Just(Scope::LoopbackV6),
            Just(Scope::V4(Ipv4Addr::LOCALHOST)),
            (0_u32..=0x00ff_ffff).prop_map(|low| Scope::V4(Ipv4Addr::from(0x7f00_0000 | low))),
        ]
    }

    fn kinds() -> impl Strategy<Value = Kind> {
        prop_oneof![
            Just(Kind::Main),
            Just(Kind::Companion),
            (1_u16.., scopes(), proptest::option::of(0..REUSEPORT_WORKERS))
                .prop_map(|(port, scope, worker)| Kind::Listener { port, scope, worker }),
            (1_u16.., scopes()).prop_map(|(port, scope)| Kind::Group { port, scope }),
        ]
    }

    proptest! {
        #[test]
        fn parse_undoes_format(app in "[a-z0-9]([a-z0-9-]{0,22}[a-z0-9])?", instance in "[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?", kind in kinds()) {
            let name = SocketName { app: app_name(&app).unwrap(), instance: instance_name(&instance).unwrap(), kind };
            let file = name.format();
            prop_assert!(file.as_bytes().len() + 2 + RUN_DIR_BYTES <= SOCKET_PATH_BYTES);
            prop_assert_eq!(SocketName::parse(file.as_str()), Ok(name));
        }

        #[test]
        fn format_undoes_parse(file in "[a-z0-9_.-]{0,40}\\.(sock|group|json)") {
            if let Ok(name) = SocketName::parse(&file) {
                let again = name.format();
                prop_assert_eq!(again.as_str(), &file);
            }
        }

        #[test]
        fn parse_never_panics(file in "\\PC{0,120}") {
            let _ = SocketName::parse(&file);
        }
    }
}
