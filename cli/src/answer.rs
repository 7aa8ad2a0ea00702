//! Which process answers on a port, at a listener or at a socket; for `who`, and for messages about a port. In an
//! instance, `localhost` is the instance's own as far as it listens; outside, it is the host's.
use crate::checkout;
use crate::exit::Exit;
use crate::hint::Failure;
use crate::host_port;
use crate::inside::{self, Meets};
use crate::known::Known;
use crate::members;
use crate::pasted::Local;
use crate::reference;
use crate::settings::Settings;
use agentfs_system::holders::{self, HostListener};
use agentfs_system::process;
use agentfs_wire::control::{ForwardInfo, InstanceInfo, ListenerInfo};
use serde::Serialize;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

/// Who answers.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Answer {
    /// What was asked, or the address of a listener.
    pub(crate) place: String,
    /// The port that the process listens on.
    pub(crate) port: Option<u16>,
    /// The process; absent if it cannot be found.
    pub(crate) pid: Option<u32>,
    /// Its command line.
    pub(crate) command: String,
    /// The app, if the process belongs to an instance.
    pub(crate) app: Option<String>,
    /// The instance.
    pub(crate) instance: Option<String>,
    /// The folder of its checkout, or its working directory.
    pub(crate) directory: Option<String>,
    /// What passes connections on: `router`, `forward` or `route`.
    pub(crate) through: Option<&'static str>,
    /// Whether the one who asks runs in an instance, and the port is not the instance's but the host's.
    pub(crate) host: bool,
}

/// Who answers on a port of this machine, as seen from this process.
///
/// # Errors
/// [`Exit::NotFound`] if nothing listens there, or a connect would be refused.
pub(crate) fn at_port(local: Local, known: &Known, settings: &Settings) -> Result<Answer, Failure> {
    let mut refused = None;
    // `localhost` is both addresses; programs try one after the other.
    for address in local.addresses() {
        match at_address(address, known, settings) {
            Ok(answer) => return Ok(answer),
            // The first answer says most: usually it is about the address that is tried first.
            Err(failure) => drop(refused.get_or_insert(failure)),
        }
    }
    Err(refused.unwrap_or_else(|| nobody(local.address.port(), false, known)))
}

fn at_address(address: SocketAddr, known: &Known, settings: &Settings) -> Result<Answer, Failure> {
    let port = address.port();
    let Some(info) = known.own(settings) else { return listens_at(address, false, known, settings) };
    match inside::meets(info, address, settings) {
        Meets::Own(listener) => Ok(of_listener(&format!("port {port}"), info, listener)),
        Meets::Host => Ok(Answer { host: true, ..listens_at(address, true, known, settings)? }),
        Meets::Refused(why) => Err(refused(address, why, info, known, settings)),
    }
}

/// Whether a connect of this process reaches the router: of an isolated instance it is refused.
///
/// # Errors
/// [`Exit::NotFound`] if it does not.
pub(crate) fn reaches_router(known: &Known, settings: &Settings) -> Result<(), Failure> {
    let (Some(info), Some(daemon)) = (known.own(settings), known.daemon.as_ref()) else { return Ok(()) };
    let address = Local::of_port(daemon.http_port).address;
    match inside::meets(info, address, settings) {
        Meets::Refused(why) => Err(refused(address, why, info, known, settings)),
        Meets::Own(_) | Meets::Host => Ok(()),
    }
}

/// A connect that is refused, though the host may have such a port.
fn refused(
    address: SocketAddr,
    why: &'static str,
    info: &InstanceInfo,
    known: &Known,
    settings: &Settings,
) -> Failure {
    let port = address.port();
    let on_host = listens_at(address, true, known, settings).ok();
    let is_other = |forward: &&ForwardInfo| {
        let listens = forward.listen.rsplit(':').next().and_then(|text| text.parse().ok()) == Some(port);
        listens && (&forward.app, &forward.instance) != (&info.app, &info.instance)
    };
    let holder = match why {
        host_port::HELD_FOR_OTHER => known
            .forwards
            .iter()
            .find(is_other)
            .map(|forward| format!("{}/{}", forward.app, forward.instance)),
        _ => on_host.as_ref().map(Answer::process),
    };
    let message = host_port::refused(port, why, holder.as_deref());
    let failure =
        Failure::new(Exit::NotFound, message.unwrap_or_else(|| format!("localhost:{port} is refused")));
    match on_host {
        Some(answer) => failure.hint(format_args!("on the host, {}", answer.line())),
        None => failure.hint(format_args!("nothing listens on port {port} of the host either")),
    }
}

/// Who has a port of the host.
///
/// # Errors
/// [`Exit::NotFound`] if nothing listens there.
pub(crate) fn on_host(local: Local, known: &Known, settings: &Settings) -> Result<Answer, Failure> {
    let mut missing = None;
    for address in local.addresses() {
        match listens_at(address, false, known, settings) {
            Ok(answer) => return Ok(answer),
            Err(failure) => drop(missing.get_or_insert(failure)),
        }
    }
    Err(missing.unwrap_or_else(|| nobody(local.address.port(), false, known)))
}

fn listens_at(
    address: SocketAddr,
    inside: bool,
    known: &Known,
    settings: &Settings,
) -> Result<Answer, Failure> {
    let mut listeners = holders::of_port(address.port());
    listeners.retain(|listener| listener.serves(address.ip()));
    // As TCP does: the address itself before a wildcard.
    listeners.sort_by_key(|listener| listener.address.ip().is_unspecified());
    match listeners.first() {
        Some(listener) => Ok(of_host(address.port(), listener, known, settings)),
        None => Err(nobody(address.port(), inside, known)),
    }
}

/// What a port of the host is, in words: for a message about it.
pub(crate) fn described(port: u16, known: &Known, settings: &Settings) -> String {
    let found = on_host(Local::of_port(port), known, settings);
    found.map_or_else(|failure| failure.message, |answer| answer.line())
}

/// A listener of an instance.
pub(crate) fn of_listener(place: &str, info: &InstanceInfo, listener: &ListenerInfo) -> Answer {
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
        ..Answer::default()
    }
}

/// Who has a socket that somebody made.
pub(crate) fn of_socket(place: &str, socket: &str, known: &Known, settings: &Settings) -> Answer {
    let held = holders::of_sockets(&BTreeSet::from([socket.to_owned()]));
    let pid = held.into_values().flatten().next();
    of_process(place, None, pid, known, settings)
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
        let through = known.is_router(port).then_some("router");
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
    let folder = pid.and_then(process::folder);
    let folder = folder.map(|folder| checkout::find(&folder).map_or(folder, |checkout| checkout.root));
    Answer {
        place: place.to_owned(),
        port,
        command: pid.map(members::command).unwrap_or_default(),
        pid,
        app,
        instance,
        directory: folder.map(|folder| folder.display().to_string()),
        ..Answer::default()
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
    /// `node api.js (pid 812)`
    fn process(&self) -> String {
        match (self.pid, self.command.as_str()) {
            (Some(pid), "") => format!("a process (pid {pid})"),
            (Some(pid), command) => format!("{command} (pid {pid})"),
            (None, _) if self.app.is_some() => "a process that cannot be found".to_owned(),
            (None, _) => "a process of another user".to_owned(),
        }
    }

    /// `port 3000 is node api.js (pid 812) of taskboard/blue, through a forward`
    pub(crate) fn line(&self) -> String {
        let process = self.process();
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
        let host = if self.host { ", the host's" } else { "" };
        let line = format!("{} is {process}{of}{through}{host}", self.place);
        agentfs_wire::text::visible(&line).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            ..Answer::default()
        };
        assert_eq!(answer.line(), "port 3000 is node api.js (pid 812) of taskboard/blue");
        let forwarded = Answer { through: Some("forward"), ..answer };
        assert_eq!(
            forwarded.line(),
            "port 3000 is node api.js (pid 812) of taskboard/blue, through a forward"
        );
        let bare = Answer { app: None, instance: None, through: None, ..forwarded };
        assert_eq!(bare.line(), "port 3000 is node api.js (pid 812), not wrapped, in /w");
        let host = Answer { host: true, ..bare };
        assert_eq!(host.line(), "port 3000 is node api.js (pid 812), not wrapped, in /w, the host's");
    }
}
