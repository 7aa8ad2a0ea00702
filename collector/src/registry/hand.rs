//! Routes made by hand: what a person may ask for, and what it means. Pure.
use super::key::Key;
use agentfs_wire::control::{ControlError, ErrorCode, Policy, RouteInfo, RouteParams};
use agentfs_wire::name::{app_name, instance_name, is_label};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

/// Host names that are the collector's own.
const RESERVED: [&str; 2] = ["agentfs.localhost", "localhost"];

/// Bytes of a socket's path: `sun_path` without its NUL (unix(7); macOS sys/un.h).
const SOCKET_PATH_BYTES: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// A route made by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HandRoute {
    /// Host name, lower case.
    pub(crate) host: String,
    /// The target as it was given.
    pub(crate) given: String,
    /// What the target means.
    pub(crate) target: RouteTarget,
    /// Whether sub-domains fall back to it.
    pub(crate) wildcard: bool,
    /// How it chooses between several listeners.
    pub(crate) policy: Policy,
    /// Whether client connections are handed into the app.
    pub(crate) handoff: bool,
    /// Whether the app is asked for `localhost`.
    pub(crate) rewrite_host: bool,
}

/// Where a route made by hand leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RouteTarget {
    /// A Unix socket.
    Socket(PathBuf),
    /// A port on loopback.
    Tcp(SocketAddr),
    /// The main listener of an instance, whenever it lives.
    Instance(Key),
    /// What the app's own name means.
    App(String),
}

// === impl HandRoute ===

impl HandRoute {
    /// Checks what was asked for.
    ///
    /// # Errors
    /// [`ErrorCode::BadParams`] or [`ErrorCode::Conflict`], saying what is wrong with which part.
    pub(crate) fn parse(params: &RouteParams) -> Result<Self, ControlError> {
        let host = params.host.trim().trim_end_matches('.').to_ascii_lowercase();
        let below_localhost = host.strip_suffix(".localhost");
        if RESERVED.contains(&host.as_str()) || host == "localhost.localhost" {
            return Err(error(
                ErrorCode::Conflict,
                format!("`{host}` is reserved for agentfs"),
                "choose another name",
            ));
        }
        if host.len() > 253 || !below_localhost.is_some_and(|rest| rest.split('.').all(is_host_label)) {
            return Err(error(
                ErrorCode::BadParams,
                format!("`{}` is not a host name below `.localhost`", params.host),
                "use letters, digits, `-` and dots, as in `myapp.localhost`",
            ));
        }
        let target = parse_target(&params.target)?;
        let (wildcard, policy) = (params.wildcard, params.policy);
        if policy != Policy::default() && !matches!(target, RouteTarget::Instance(_) | RouteTarget::App(_)) {
            return Err(error(
                ErrorCode::BadParams,
                format!("`{}` is a single place, so a policy has nothing to choose", params.target),
                "use a policy for a route to an app or an instance",
            ));
        }
        if params.handoff && matches!(target, RouteTarget::Tcp(_)) {
            return Err(error(
                ErrorCode::BadParams,
                format!("cannot hand connections to `{}`: it is a port of the host", params.target),
                "use hand-off for a route to an app, an instance or a listener of one",
            ));
        }
        if params.handoff && params.rewrite_host {
            return Err(error(
                ErrorCode::BadParams,
                "a connection that is handed into the app cannot be rewritten".to_owned(),
                "use `--rewrite-host` or `--handoff`",
            ));
        }
        let (given, handoff, rewrite_host) = (params.target.clone(), params.handoff, params.rewrite_host);
        Ok(Self { host, given, target, wildcard, policy, handoff, rewrite_host })
    }

    /// How it is told to a client. `url` is given by whoever knows the router's port.
    pub(crate) fn info(&self, url: Option<String>) -> RouteInfo {
        RouteInfo {
            host: self.host.clone(),
            target: self.given.clone(),
            wildcard: self.wildcard,
            url,
            policy: self.policy,
            handoff: self.handoff,
            rewrite_host: self.rewrite_host,
        }
    }
}

fn is_host_label(label: &str) -> bool {
    label.len() <= 63 && is_label(label)
}

fn parse_target(text: &str) -> Result<RouteTarget, ControlError> {
    if text.starts_with('/') {
        if text.len() > SOCKET_PATH_BYTES || text.contains('\0') {
            return Err(error(
                ErrorCode::BadParams,
                format!("`{text}` cannot be the path of a socket: the limit is {SOCKET_PATH_BYTES} bytes"),
                "use a shorter path, through a link if necessary",
            ));
        }
        return Ok(RouteTarget::Socket(PathBuf::from(text)));
    }
    if text.starts_with("./") || text.starts_with("../") || text.ends_with(".sock") {
        return Err(error(
            ErrorCode::BadParams,
            format!("`{text}` is not an absolute path"),
            "the collector has another working directory: use the full path of the socket",
        ));
    }
    if let Some((host, port)) = text.rsplit_once(':') {
        let port: u16 = port.parse().ok().filter(|port| *port != 0).ok_or_else(|| unknown_target(text))?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let ip = match host {
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            _ => host.parse().map_err(|_| unknown_target(text))?,
        };
        if !is_loopback(ip) {
            return Err(error(
                ErrorCode::BadParams,
                format!("`{ip}` is not a loopback address"),
                format!(
                    "a route can only lead to this machine; use {} or {}",
                    Ipv4Addr::LOCALHOST,
                    Ipv6Addr::LOCALHOST
                ),
            ));
        }
        return Ok(RouteTarget::Tcp(SocketAddr::new(ip, port)));
    }
    let text_below = text.strip_suffix(".localhost").unwrap_or(text);
    let pair = match (text_below.split_once('/'), text_below.split_once('.')) {
        (Some((app, instance)), _) => Some((app, instance)),
        (None, Some((instance, app))) => Some((app, instance)),
        (None, None) => None,
    };
    match pair {
        Some((app, instance)) if app_name(app).is_some() && instance_name(instance).is_some() => {
            Ok(RouteTarget::Instance(Key { app: app.to_owned(), instance: instance.to_owned() }))
        }
        None if app_name(text_below).is_some() => Ok(RouteTarget::App(text_below.to_owned())),
        _ => Err(unknown_target(text)),
    }
}

fn unknown_target(text: &str) -> ControlError {
    error(
        ErrorCode::BadParams,
        format!("`{text}` is not a valid target"),
        "use the path of a socket, `127.0.0.1:PORT` or `APP/INSTANCE`",
    )
}

fn error(code: ErrorCode, message: String, hint: impl Into<String>) -> ControlError {
    ControlError { code, message, hint: Some(hint.into()) }
}

/// Whether `ip` is one that only programs of this machine can reach.
fn is_loopback(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback(),
        IpAddr::V6(ip) => ip == Ipv6Addr::LOCALHOST || ip.to_ipv4_mapped().is_some_and(|ip| ip.is_loopback()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(host: &str, target: &str) -> Result<HandRoute, ErrorCode> {
        let params = RouteParams { host: host.into(), target: target.into(), ..RouteParams::default() };
        HandRoute::parse(&params).map_err(|error| error.code)
    }

    #[test]
    fn targets_read_as_documented() {
        let target = |text| parse("a.localhost", text).map(|route| route.target);
        assert_eq!(target("/run/app.sock"), Ok(RouteTarget::Socket("/run/app.sock".into())));
        assert_eq!(target("localhost:3000"), Ok(RouteTarget::Tcp("127.0.0.1:3000".parse().unwrap())));
        assert_eq!(target("[::1]:3000"), Ok(RouteTarget::Tcp("[::1]:3000".parse().unwrap())));
        let key = Key { app: "shop".into(), instance: "cart".into() };
        assert_eq!(target("shop/cart"), Ok(RouteTarget::Instance(key.clone())));
        assert_eq!(target("cart.shop"), Ok(RouteTarget::Instance(key.clone())));
        assert_eq!(target("cart.shop.localhost"), Ok(RouteTarget::Instance(key)));
        assert_eq!(target("shop"), Ok(RouteTarget::App("shop".into())));
        for bad in ["", "./app.sock", "app.sock", "10.0.0.1:80", "127.0.0.1:0", "127.0.0.1:x", "a/b/c", "A/b"]
        {
            assert_eq!(target(bad), Err(ErrorCode::BadParams), "{bad}");
        }
        let longest = format!("/{}", "p".repeat(SOCKET_PATH_BYTES - 1));
        assert!(parse("a.localhost", &longest).is_ok());
        assert_eq!(parse("a.localhost", &format!("{longest}p")), Err(ErrorCode::BadParams));
    }

    #[test]
    fn a_policy_needs_a_choice() {
        let parse = |target: &str| {
            HandRoute::parse(&RouteParams {
                host: "a.localhost".into(),
                target: target.into(),
                wildcard: false,
                replace: false,
                policy: Policy::First,
                handoff: false,
                rewrite_host: false,
            })
        };
        assert_eq!(parse("shop").unwrap().policy, Policy::First);
        assert!(parse("shop/cart").is_ok());
        for target in ["/x.sock", "127.0.0.1:80"] {
            assert_eq!(parse(target).unwrap_err().code, ErrorCode::BadParams, "{target}");
        }
    }

    #[test]
    fn nothing_is_handed_to_a_port_of_the_host() {
        let parse = |target: &str| {
            HandRoute::parse(&RouteParams {
                host: "a.localhost".into(),
                target: target.into(),
                wildcard: false,
                replace: false,
                policy: Policy::default(),
                handoff: true,
                rewrite_host: false,
            })
        };
        let refused = parse("127.0.0.1:80").unwrap_err();
        assert!(refused.code == ErrorCode::BadParams && refused.message.contains("127.0.0.1:80"));
        for target in ["shop", "shop/cart", "/run/shop-cart.80.sock"] {
            assert!(parse(target).unwrap().handoff, "{target}");
        }
    }

    #[test]
    fn what_is_handed_over_cannot_be_rewritten() {
        let params = |handoff| RouteParams {
            host: "a.localhost".into(),
            target: "shop".into(),
            wildcard: false,
            replace: false,
            policy: Policy::default(),
            handoff,
            rewrite_host: true,
        };
        let refused = HandRoute::parse(&params(true)).unwrap_err();
        assert!(refused.code == ErrorCode::BadParams && refused.message.contains("handed"), "{refused}");
        let route = HandRoute::parse(&params(false)).unwrap();
        assert!(route.rewrite_host && route.info(None).rewrite_host);
    }

    #[test]
    fn hosts_are_names_below_localhost() {
        assert_eq!(parse("MyApp.localhost.", "shop").unwrap().host, "myapp.localhost");
        for own in ["localhost", "localhost.", "localhost.localhost", "agentfs.localhost"] {
            assert_eq!(parse(own, "shop"), Err(ErrorCode::Conflict), "{own}");
        }
        for bad in
            ["", "shop", "shop.example.com", "a b.localhost", ".localhost", "a..localhost", "é.localhost"]
        {
            assert_eq!(parse(bad, "shop").unwrap_err(), ErrorCode::BadParams, "{bad}");
        }
        assert_eq!(parse("agentfs.localhost", "shop").unwrap_err(), ErrorCode::Conflict);
    }
}
