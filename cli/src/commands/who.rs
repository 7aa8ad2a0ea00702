//! `agentfs who`: which process of which fork answers on a port or at a URL, as seen from where it is run. In an instance,
//! `localhost` is the instance's own as far as it listens; outside, it is the host's.
use crate::args::WhoArguments;
use crate::autostart;
use crate::checkout;
use crate::exit::Exit;
use crate::here;
use crate::hint::Failure;
use crate::instance;
use crate::members;
use crate::place;
use crate::printer::Printer;
use crate::reference;
use crate::settings::Settings;
use agentfs_home::holders::{self, HostListener};
use agentfs_wire::control::{
    DaemonInfo, ForwardInfo, InstanceInfo, ListenerInfo, RouteInfo, Snapshot, method,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Who answers.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Answer {
    /// What was asked, or the address of a listener.
    place: String,
    /// The port that the process listens on.
    port: Option<u16>,
    /// The process; absent if it cannot be found.
    pid: Option<u32>,
    /// Its command line.
    command: String,
    /// The app, if the process belongs to an instance.
    app: Option<String>,
    /// The instance.
    instance: Option<String>,
    /// The folder of its checkout, or its working directory.
    directory: Option<String>,
    /// What passes connections on: `router`, `forward` or `route`.
    through: Option<&'static str>,
}

/// Everything that the collector knows.
#[derive(Debug, Default)]
struct Known {
    instances: Vec<InstanceInfo>,
    routes: Vec<RouteInfo>,
    forwards: Vec<ForwardInfo>,
    daemon: Option<DaemonInfo>,
}

/// Answer to `forward.list`.
#[derive(Debug, Deserialize)]
struct Forwards {
    /// Every forward.
    forwards: Vec<ForwardInfo>,
}

/// Runs the command.
///
/// # Errors
/// [`Exit::NotFound`] if nothing answers there; [`Exit::Usage`] if it is neither a port nor a URL.
pub(crate) fn run(arguments: &WhoArguments, settings: &Settings, printer: &Printer) -> Result<Exit, Failure> {
    let known = ask(settings)?;
    let answers = match arguments.place.as_deref() {
        None => {
            let info = here::find(settings, &known.instances)?;
            info.listeners.iter().map(|listener| of_listener(&listener.address, info, listener)).collect()
        }
        Some(place) => vec![find(place, &known, settings)?],
    };
    let text = if arguments.json {
        let text = serde_json::to_string(&answers);
        text.map_err(|error| Failure::of(format_args!("cannot write JSON: {error}")))?
    } else {
        answers.iter().map(Answer::line).collect::<Vec<_>>().join("\n")
    };
    if !text.is_empty() {
        printer.data(&format!("{text}\n"))?;
    }
    Ok(Exit::Success)
}

fn ask(settings: &Settings) -> Result<Known, Failure> {
    // Without a collector, ports of the host are still known.
    let Some(mut client) = autostart::where_needed(settings)? else { return Ok(Known::default()) };
    let Snapshot { instances, routes, .. } = client.call(method::LIST, json!({}))?;
    let Forwards { forwards } = client.call(method::FORWARD_LIST, json!({}))?;
    let daemon = client.call(method::DAEMON_INFO, json!({}))?;
    Ok(Known { instances, routes, forwards, daemon: Some(daemon) })
}

fn find(place: &str, known: &Known, settings: &Settings) -> Result<Answer, Failure> {
    let lower = place.to_ascii_lowercase();
    if let Some((host, port)) = reference::host_of(&lower) {
        return at_host(place, host, port, known, settings);
    }
    let Some(address) = local(&lower) else {
        return Err(Failure::new(
            Exit::Usage,
            format_args!("`{place}` is not a port of this machine or a URL of an app"),
        )
        .hint("write 3000, 127.0.0.1:3000 or http://blue.shop.localhost"));
    };
    let port = address.port();
    let own = place::own(settings);
    let own =
        own.and_then(|(app, name)| known.instances.iter().find(|it| it.app == app && it.instance == name));
    if let Some(info) = own {
        if let Some(listener) = info.listeners.iter().find(|listener| listener.port == port) {
            return Ok(of_listener(&format!("port {port}"), info, listener));
        }
        let rules = instance::companion(settings, &info.app, &info.instance).map(|companion| companion.rules);
        if rules.is_some_and(|rules| rules.isolate) {
            let message = format!("{}/{} does not listen on port {port}", info.app, info.instance);
            return Err(Failure::new(Exit::NotFound, message)
                .hint("it is isolated, so connections to the host's port are refused"));
        }
    }
    let mut listeners = holders::of_port(port);
    listeners.retain(|listener| listener.serves(address.ip()));
    // As TCP does: the address itself before a wildcard.
    listeners.sort_by_key(|listener| listener.address.ip().is_unspecified());
    match listeners.first() {
        Some(listener) => Ok(of_host(port, listener, known, settings)),
        None => Err(nobody(port, own.is_some(), known)),
    }
}

/// An address of this machine: `3000`, `localhost:3000`, `127.0.0.1:3000`, or a URL with such a host.
fn local(text: &str) -> Option<SocketAddr> {
    let (rest, default) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
        (Some(rest), _) => (rest, Some(80)),
        (_, Some(rest)) => (rest, Some(443)),
        _ => (text, None),
    };
    let rest = if default.is_some() { rest.split(['/', '?', '#']).next()? } else { rest };
    let home = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let usable = |port: u16| (port != 0).then_some(port);
    if let Ok(port) = rest.parse::<u16>() {
        return Some(SocketAddr::new(home, usable(port)?));
    }
    if let Ok(address) = rest.parse::<SocketAddr>() {
        return usable(address.port()).map(|_| address);
    }
    let named = rest.strip_prefix("localhost");
    let port = match named.unwrap_or(rest).strip_prefix(':') {
        Some(port) => port.parse().ok()?,
        None if named == Some("") => default?,
        None => return None,
    };
    usable(port).map(|port| SocketAddr::new(home, port))
}

/// Who answers at a host name below `.localhost`.
fn at_host(
    place: &str,
    host: &str,
    port: Option<u16>,
    known: &Known,
    settings: &Settings,
) -> Result<Answer, Failure> {
    let whole = format!("{host}.localhost");
    if let Some(route) = known.routes.iter().find(|route| route.host == whole) {
        return by_route(place, route, known, settings);
    }
    let info = match known.instances.iter().find(|info| info.host == whole) {
        Some(info) => info,
        None => reference::one(host, &known.instances)?,
    };
    let listener = reference::listener(info, port)?;
    Ok(Answer { through: Some("router"), ..of_listener(place, info, listener) })
}

fn by_route(place: &str, route: &RouteInfo, known: &Known, settings: &Settings) -> Result<Answer, Failure> {
    let answer = if let Some(address) = local(&route.target) {
        let listeners = holders::of_port(address.port());
        match listeners.iter().find(|listener| listener.serves(address.ip())) {
            Some(listener) => of_host(address.port(), listener, known, settings),
            None => return Err(nobody(address.port(), false, known)),
        }
    } else if route.target.starts_with('/') {
        let held = holders::of_sockets(&BTreeSet::from([route.target.clone()]));
        let pid = held.into_values().flatten().next();
        of_process(place, None, pid, known, settings)
    } else {
        let info = reference::one(&route.target, &known.instances)?;
        of_listener(place, info, reference::listener(info, None)?)
    };
    Ok(Answer { place: place.to_owned(), through: Some("route"), ..answer })
}

fn of_listener(place: &str, info: &InstanceInfo, listener: &ListenerInfo) -> Answer {
    let held =
        || holders::of_sockets(&BTreeSet::from([listener.socket.clone()])).into_values().flatten().next();
    let pid = listener.pid.or_else(held);
    Answer {
        place: place.to_owned(),
        port: Some(listener.port).filter(|port| *port != 0),
        command: pid.map(members::command).unwrap_or_default(),
        pid,
        app: Some(info.app.clone()),
        instance: Some(info.instance.clone()),
        directory: info.directory.clone(),
        through: None,
    }
}

/// Who has a port of the host.
fn of_host(port: u16, listener: &HostListener, known: &Known, settings: &Settings) -> Answer {
    let place = format!("port {port}");
    let collector = known.daemon.as_ref().filter(|daemon| listener.pids.contains(&daemon.pid));
    let Some(daemon) = collector else {
        return of_process(&place, Some(port), listener.pids.first().copied(), known, settings);
    };
    let forward = known.forwards.iter().find(|forward| match forward.listen.parse::<SocketAddr>() {
        Ok(address) => address == SocketAddr::new(listener.address.ip().to_canonical(), port),
        Err(_) => forward.listen.parse::<IpAddr>().is_ok_and(|ip| ip == listener.address.ip().to_canonical()),
    });
    let Some(forward) = forward else {
        let router = port == daemon.http_port || daemon.https_port == Some(port);
        let through = router.then_some("router");
        let command = "the router of agentfs".to_owned();
        return Answer {
            place,
            port: Some(port),
            pid: Some(daemon.pid),
            command,
            through,
            ..Answer::default()
        };
    };
    let of = |info: &&InstanceInfo| (&info.app, &info.instance) == (&forward.app, &forward.instance);
    let inside = forward.port.unwrap_or(port);
    let target = known.instances.iter().find(of);
    let there = target.and_then(|info| Some((info, reference::listener(info, Some(inside)).ok()?)));
    let answer = match there {
        Some((info, listener)) => of_listener(&place, info, listener),
        // The forward is there, but nothing listens behind it.
        None => Answer {
            place,
            port: Some(inside),
            app: Some(forward.app.clone()),
            instance: Some(forward.instance.clone()),
            ..Answer::default()
        },
    };
    Answer { through: Some("forward"), ..answer }
}

/// A process of the host, which may belong to an instance (`--no-interpose`, a static program).
fn of_process(
    place: &str,
    port: Option<u16>,
    pid: Option<u32>,
    known: &Known,
    settings: &Settings,
) -> Answer {
    let member = pid.and_then(|pid| {
        let by_collector = known.instances.iter().find(|info| info.pids.contains(&pid));
        by_collector
            .map(|info| (info.app.clone(), info.instance.clone()))
            .or_else(|| members::instance_of(pid, &settings.paths.run))
    });
    let (app, instance) = member.unzip();
    let folder = pid.and_then(members::folder);
    let folder = folder.map(|folder| checkout::find(&folder).map_or(folder, |checkout| checkout.root));
    Answer {
        place: place.to_owned(),
        port,
        command: pid.map(members::command).unwrap_or_default(),
        pid,
        app,
        instance,
        directory: folder.map(|folder| folder.display().to_string()),
        through: None,
    }
}

/// Nothing listens there; who has the port inside is named.
fn nobody(port: u16, inside: bool, known: &Known) -> Failure {
    let listens = |info: &&InstanceInfo| info.listeners.iter().any(|listener| listener.port == port);
    let message = if inside {
        format!("nothing listens on port {port}, neither in this instance nor on the host")
    } else {
        format!("nothing listens on port {port} of the host")
    };
    let failure = Failure::new(Exit::NotFound, message);
    match reference::listed(known.instances.iter().filter(listens)) {
        Some(list) => failure.hint(format_args!(
            "instances with a port {port} of their own: {list}; use `agentfs exec INSTANCE -- COMMAND` or `agentfs url INSTANCE --port {port}`"
        )),
        None => failure,
    }
}

// === impl Answer ===

impl Answer {
    /// `port 3000 is node api.js (pid 812) of taskboard/blue, through a forward`
    fn line(&self) -> String {
        let process = match (self.pid, self.command.as_str()) {
            (Some(pid), "") => format!("a process (pid {pid})"),
            (Some(pid), command) => format!("{command} (pid {pid})"),
            (None, _) if self.app.is_some() => "a process that cannot be found".to_owned(),
            (None, _) => "a process of another user".to_owned(),
        };
        let of = match (&self.app, &self.instance, &self.directory) {
            (Some(app), Some(instance), _) => format!(" of {app}/{instance}"),
            (_, _, Some(folder)) if self.through != Some("router") => {
                format!(", not wrapped, in {folder}")
            }
            _ => String::new(),
        };
        let through = match self.through {
            Some("router") if self.app.is_none() => "",
            Some("router") => ", through the router",
            Some("forward") => ", through a forward",
            Some(_) => ", through a route",
            None => "",
        };
        let line = format!("{} is {process}{of}{through}", self.place);
        agentfs_wire::text::visible(&line).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_this_machine_are_read() {
        for (text, address) in [
            ("3000", "127.0.0.1:3000"),
            (":3000", "127.0.0.1:3000"),
            ("localhost:3000", "127.0.0.1:3000"),
            ("127.0.0.2:3000", "127.0.0.2:3000"),
            ("[::1]:3000", "[::1]:3000"),
            ("http://localhost/x:9", "127.0.0.1:80"),
            ("https://localhost", "127.0.0.1:443"),
            ("http://127.0.0.1:8080/a?b", "127.0.0.1:8080"),
        ] {
            assert_eq!(local(text), Some(address.parse().unwrap()), "{text}");
        }
        for text in
            ["", "0", "localhost", "65536", "example.com:80", "http://example.com/", "localhost:x", "shop"]
        {
            assert_eq!(local(text), None, "{text}");
        }
    }

    #[test]
    fn an_answer_reads_as_a_sentence() {
        let text = |text: &str| Some(text.to_owned());
        let answer = Answer {
            place: "port 3000".to_owned(),
            port: Some(3000),
            pid: Some(812),
            command: "node api.js".to_owned(),
            app: text("taskboard"),
            instance: text("blue"),
            directory: text("/w"),
            through: None,
        };
        assert_eq!(answer.line(), "port 3000 is node api.js (pid 812) of taskboard/blue");
        let forwarded = Answer { through: Some("forward"), ..answer };
        assert_eq!(
            forwarded.line(),
            "port 3000 is node api.js (pid 812) of taskboard/blue, through a forward"
        );
        let bare = Answer { app: None, instance: None, through: None, ..forwarded };
        assert_eq!(bare.line(), "port 3000 is node api.js (pid 812), not wrapped, in /w");
    }
}
