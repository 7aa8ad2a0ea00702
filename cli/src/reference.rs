//! How people name instances: `APP/INSTANCE`, `INSTANCE.APP[.localhost]`, `APP`, or a URL of one. Pure.
use crate::exit::Exit;
use crate::hint::Failure;
use agentfs_wire::control::{InstanceInfo, ListenerInfo};
use agentfs_wire::host::{MAIN, copy_number};
use std::collections::BTreeSet;

/// Candidates that an error message lists.
const LISTED: usize = 8;

/// The failure for `text`, or for no name, if nothing is running.
pub(crate) fn nothing_runs(text: Option<&str>) -> Failure {
    let message = match text {
        Some(text) => format!("no instance `{text}` is running"),
        None => "nothing is running".to_owned(),
    };
    Failure::new(Exit::NotFound, message)
        .hint("nothing is running; start something with `agentfs wrap -- COMMAND`")
}

/// What a URL names: its host, and the port of an instance if the host begins with one. `None`: it is not a URL of an
/// app.
pub(crate) fn host_of(url: &str) -> Option<(&str, Option<u16>)> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"))?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let host = authority.rsplit('@').next().unwrap_or(authority);
    let host = host.split_once(':').map_or(host, |(host, _)| host).trim_end_matches('.');
    let name = host.strip_suffix(".localhost")?;
    Some(match name.split_once('.') {
        Some((label, rest)) if label.parse::<u16>().is_ok() => (rest, label.parse().ok()),
        _ => (name, None),
    })
}

/// The instances that `text` names: if it names only an app, all its instances. A URL or a host name names what it leads
/// to: that of an app is the instance `main`, or copies of it, or sockets made by hand, and never another fork.
///
/// # Errors
/// [`Exit::NotFound`] if there is none; the hint lists what is running.
pub(crate) fn matching<'a>(text: &str, all: &'a [InstanceInfo]) -> Result<Vec<&'a InstanceInfo>, Failure> {
    let lower = text.to_ascii_lowercase();
    let host = host_of(&lower).map(|(host, _)| host).or_else(|| lower.strip_suffix(".localhost"));
    let name = host.unwrap_or(&lower);
    let pair = name.split_once('/').or_else(|| name.rsplit_once('.').map(|(instance, app)| (app, instance)));
    let found: Vec<&InstanceInfo> = match pair {
        Some((app, instance)) => {
            all.iter().filter(|info| info.app == app && info.instance == instance).collect()
        }
        None if host.is_some() => of_app_host(name, all),
        None => all.iter().filter(|info| info.app == name).collect(),
    };
    if found.is_empty() {
        return Err(match listed(all.iter()) {
            Some(list) => Failure::new(Exit::NotFound, format_args!("no instance `{text}` is running"))
                .hint(format_args!("running: {list}")),
            None => nothing_runs(Some(text)),
        });
    }
    Ok(found)
}

/// The instances that the host name of an app leads to; if `main` is one of them, only that.
fn of_app_host<'a>(app: &str, all: &'a [InstanceInfo]) -> Vec<&'a InstanceInfo> {
    let is_by_hand = |info: &InstanceInfo| info.command.is_empty() && info.directory.is_none();
    let leads =
        |info: &&InstanceInfo| info.app == app && (copy_number(&info.instance).is_some() || is_by_hand(info));
    let found: Vec<&InstanceInfo> = all.iter().filter(leads).collect();
    let main = found.iter().find(|info| info.instance == MAIN).copied();
    main.map_or(found, |main| vec![main])
}

/// The one instance that `text` names.
///
/// # Errors
/// [`Exit::NotFound`] if there is none, [`Exit::Usage`] if there are several.
pub(crate) fn one<'a>(text: &str, all: &'a [InstanceInfo]) -> Result<&'a InstanceInfo, Failure> {
    let found = matching(text, all)?;
    match found.as_slice() {
        [only] => Ok(only),
        several => {
            let failure =
                Failure::new(Exit::Usage, format_args!("`{text}` matches {} instances", several.len()));
            let list = listed(several.iter().copied()).unwrap_or_default();
            Err(failure.hint(format_args!("choose one of {list}")))
        }
    }
}

/// The listener of an instance on `port`; without a port, its main one.
///
/// # Errors
/// [`Exit::NotFound`] if there is none; the hint lists what there is.
pub(crate) fn listener(info: &InstanceInfo, port: Option<u16>) -> Result<&ListenerInfo, Failure> {
    let name = format!("{}/{}", info.app, info.instance);
    let found = match port {
        Some(port) => info.listeners.iter().find(|listener| listener.port == port),
        None => info.listeners.first(),
    };
    found.ok_or_else(|| {
        let ports: BTreeSet<u16> = info.listeners.iter().map(|listener| listener.port).collect();
        let list: Vec<String> = ports.iter().map(u16::to_string).collect();
        match port {
            Some(port) if !list.is_empty() => {
                Failure::new(Exit::NotFound, format_args!("{name} does not listen on port {port}"))
                    .hint(format_args!("it listens on {}", list.join(", ")))
            }
            _ => Failure::new(Exit::NotFound, format_args!("{name} does not listen on any port yet"))
                .hint(format_args!("run `agentfs wait {name}` to wait for it")),
        }
    })
}

/// The names of instances, for a hint; `None` if there are none.
pub(crate) fn listed<'a>(all: impl Iterator<Item = &'a InstanceInfo>) -> Option<String> {
    let mut names: Vec<String> = all.map(|info| format!("{}/{}", info.app, info.instance)).collect();
    names.sort();
    let more = names.len().saturating_sub(LISTED);
    names.truncate(LISTED);
    if more > 0 {
        names.push(format!("and {more} more"));
    }
    (!names.is_empty()).then(|| names.join(", "))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn info(app: &str, instance: &str) -> InstanceInfo {
        InstanceInfo {
            app: app.to_owned(),
            instance: instance.to_owned(),
            host: String::new(),
            url: None,
            directory: None,
            command: Vec::new(),
            wrap_pid: None,
            commands: Vec::new(),
            pids: Vec::new(),
            started_ms: 0,
            listeners: Vec::new(),
        }
    }

    fn all() -> Vec<InstanceInfo> {
        [("shop", "blue"), ("shop", "feature-cart"), ("api", "k3f9")]
            .map(|(app, instance)| info(app, instance))
            .into()
    }

    #[test]
    fn the_host_name_of_an_app_is_never_another_fork() {
        let started = |name: &str| InstanceInfo { command: vec!["x".to_owned()], ..info("shop", name) };
        let forks = [started("blue")];
        assert!(one("http://shop.localhost:4280/", &forks).is_err());
        assert_eq!(one("shop", &forks).unwrap().instance, "blue", "without a host name, the only one");
        let all = [started("blue"), started("main"), started("main-2"), info("shop", "by-hand")];
        assert_eq!(one("shop.localhost", &all).unwrap().instance, "main");
        assert_eq!(one("http://5173.shop.localhost", &all).unwrap().instance, "main");
        assert_eq!(one("shop.localhost", &all[2..3]).unwrap().instance, "main-2");
        assert_eq!(one("shop.localhost", &all[3..]).unwrap().instance, "by-hand");
        assert_eq!(matching("shop", &all).unwrap().len(), 4);
    }

    #[test]
    fn a_pasted_url_names_its_instance() {
        let all = all();
        for text in [
            "http://feature-cart.shop.localhost:4280/",
            "https://feature-cart.shop.localhost/cart?item=1#top",
            "http://user:word@Feature-Cart.Shop.localhost.:80",
            "http://5173.feature-cart.shop.localhost:4280",
        ] {
            assert_eq!(one(text, &all).unwrap().instance, "feature-cart", "{text}");
        }
        assert_eq!(host_of("http://5173.blue.shop.localhost/"), Some(("blue.shop", Some(5173))));
        for text in ["http://localhost:3000/", "http://example.com/", "http://127.0.0.1:80/", "shop"] {
            assert_eq!(host_of(text), None, "{text}");
        }
        assert!(one("http://localhost:3000/", &all).is_err());
    }

    #[test]
    fn every_form_of_a_name_is_understood() {
        let all = all();
        for text in ["shop/feature-cart", "feature-cart.shop", "feature-cart.shop.localhost"] {
            assert_eq!(one(text, &all).unwrap().instance, "feature-cart", "{text}");
        }
        for text in ["api", "api.localhost"] {
            assert_eq!(one(text, &all).unwrap().instance, "k3f9", "{text}");
        }
        assert_eq!(matching("shop", &all).unwrap().len(), 2);
    }

    #[test]
    fn a_name_that_fails_lists_what_there_is() {
        let all = all();
        let several = one("shop", &all).unwrap_err();
        assert_eq!(several.exit, Exit::Usage);
        assert_eq!(several.hint.as_deref(), Some("choose one of shop/blue, shop/feature-cart"));
        let none = one("shop/red", &all).unwrap_err();
        assert_eq!(none.exit, Exit::NotFound);
        assert!(none.hint.unwrap().contains("api/k3f9"));
        assert!(one("x", &[]).unwrap_err().hint.is_some());
    }
}
