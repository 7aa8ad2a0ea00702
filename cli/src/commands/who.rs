//! `agentfs who`: which process of which fork answers on a port or at a URL, as seen from where it is run. At a host name
//! it is what the router would ask, and nobody where the router would answer itself.
use crate::answer::{Answer, at_port, of_listener, of_socket, on_host, reaches_router};
use crate::args::WhoArguments;
use crate::autostart;
use crate::exit::Exit;
use crate::here;
use crate::hint::Failure;
use crate::host_name::{Meaning, meaning, of_app};
use crate::known::Known;
use crate::pasted::{self, Local, Pasted};
use crate::printer::Printer;
use crate::reference;
use crate::settings::Settings;
use agentfs_wire::control::{InstanceInfo, ListenerInfo, RouteInfo};
use agentfs_wire::host::OWN_APP;

/// Runs the command.
///
/// # Errors
/// [`Exit::NotFound`] if nothing answers there; [`Exit::Usage`] if it is neither a port nor a URL.
pub(crate) fn run(arguments: &WhoArguments, settings: &Settings, printer: &Printer) -> Result<Exit, Failure> {
    // Without a collector, ports of the host are still known.
    let known = match autostart::where_needed(settings)? {
        Some(mut client) => Known::ask(&mut client, settings)?,
        None => Known::default(),
    };
    let answers = match arguments.place.as_deref() {
        None => {
            let info = here::find(settings, &known.instances)?;
            info.listeners.iter().map(|listener| of_listener(&listener.address, info, listener)).collect()
        }
        Some(place) => find(place, &known, settings)?,
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

fn find(place: &str, known: &Known, settings: &Settings) -> Result<Vec<Answer>, Failure> {
    if let Some(local) = Local::read(place) {
        return Ok(vec![at_port(local, known, settings)?]);
    }
    match pasted::read(place) {
        // Another port of `localhost` is not the router's, whatever name is before it.
        Some(Pasted::Host { port: Some(port), .. }) if is_other(port, known, settings) => {
            Ok(vec![at_port(Local::of_port(port), known, settings)?])
        }
        Some(Pasted::Host { name, .. }) => {
            reaches_router(known, settings)?;
            at_host(place, &name, known, settings)
        }
        _ => Err(Failure::new(
            Exit::Usage,
            format_args!("`{place}` is not a port of this machine or a URL of an app"),
        )
        .hint("write 3000, 127.0.0.1:3000 or http://blue.shop.localhost")),
    }
}

/// Whether a port is not the router's, as seen from this process.
fn is_other(port: u16, known: &Known, settings: &Settings) -> bool {
    let is_own = |info: &InstanceInfo| info.listeners.iter().any(|listener| listener.port == port);
    !known.is_router(port) || known.own(settings).is_some_and(is_own)
}

/// Who answers at a host name below `.localhost`: every listener that the router may choose.
fn at_host(place: &str, name: &str, known: &Known, settings: &Settings) -> Result<Vec<Answer>, Failure> {
    if let Some(daemon) = known.daemon.as_ref().filter(|_| name == OWN_APP) {
        let router = on_host(Local::of_port(daemon.http_port), known, settings)?;
        return Ok(vec![Answer { place: place.to_owned(), ..router }]);
    }
    let (found, port) = match meaning(name, &known.routes, &known.instances) {
        Meaning::Route(route) => return by_route(place, route, known, settings),
        Meaning::Instances(found, port) => (found, port),
        Meaning::NoMain(app) => return Err(no_main(name, &app, known)),
        Meaning::Nothing => return Err(reference::unknown(place, &known.instances)),
    };
    Ok(with(Some("router"), of_instances(place, &found, port)?))
}

/// The listeners that requests for these instances go to.
fn of_instances(place: &str, found: &[&InstanceInfo], port: Option<u16>) -> Result<Vec<Answer>, Failure> {
    let answers = found.iter().flat_map(|info| {
        let chosen = chosen(info, port);
        chosen.into_iter().map(|listener| of_listener(place, info, listener))
    });
    let mut answers: Vec<Answer> = answers.collect();
    // A copy of another command of `main` has another face: it does not answer in place of this one.
    let face = answers.first().and_then(|first| first.port);
    answers.retain(|answer| answer.port == face);
    match found.first() {
        Some(info) if answers.is_empty() => {
            let name = format!("{}/{}", info.app, info.instance);
            let what = match (port, info.listeners.is_empty()) {
                (Some(port), _) => format!("{name} does not listen on port {port}"),
                (None, true) => format!("{name} does not listen on any port yet"),
                (None, false) => format!("no port of {name} has its host name"),
            };
            let ports: Vec<String> = info.listeners.iter().map(|it| it.port.to_string()).collect();
            let failure = Failure::new(Exit::NotFound, format_args!("nobody answers at {place}: {what}"));
            Err(if ports.is_empty() {
                failure.hint(format_args!("run `agentfs wait {name}` to wait for it"))
            } else {
                failure.hint(format_args!("it listens on {}", ports.join(", ")))
            })
        }
        _ => Ok(answers),
    }
}

/// The listeners of an instance that have its host name, or the one for a port: workers share one port.
fn chosen(info: &InstanceInfo, port: Option<u16>) -> Vec<&ListenerInfo> {
    let face = info.listeners.iter().find(|listener| listener.main).map(|listener| listener.port);
    let Some(port) = port.or(face) else { return Vec::new() };
    let mut found: Vec<&ListenerInfo> =
        info.listeners.iter().filter(|listener| listener.port == port).collect();
    if port == 0 {
        found.truncate(1);
    }
    found
}

/// The router answers itself: the name never means a fork.
fn no_main(name: &str, app: &str, known: &Known) -> Failure {
    let forks: Vec<&InstanceInfo> = known.instances.iter().filter(|info| info.app == app).collect();
    let shown: Vec<String> = forks
        .iter()
        .map(|info| info.url.clone().unwrap_or_else(|| format!("{}/{}", info.app, info.instance)))
        .collect();
    Failure::new(
        Exit::NotFound,
        format_args!(
            "nobody answers at {name}.localhost: it is the instance main of {app}, which is not running"
        ),
    )
    .hint(format_args!("running: {}", shown.join(", ")))
}

fn by_route(
    place: &str,
    route: &RouteInfo,
    known: &Known,
    settings: &Settings,
) -> Result<Vec<Answer>, Failure> {
    let target = route.target.as_str();
    let answers = if let Some(local) = Local::read(target) {
        // The router asks, which is not in an instance.
        vec![Answer { place: place.to_owned(), ..on_host(local, known, settings)? }]
    } else if target.starts_with('/') {
        let listens = |info: &&InstanceInfo| info.listeners.iter().any(|it| it.socket == target);
        match known.instances.iter().find(listens) {
            Some(info) => info
                .listeners
                .iter()
                .filter(|listener| listener.socket == target)
                .map(|listener| of_listener(place, info, listener))
                .collect(),
            None => vec![of_socket(place, target, known, settings)],
        }
    } else {
        let target = target.strip_suffix(".localhost").unwrap_or(target);
        if target.contains(['/', '.']) {
            of_instances(place, &[reference::one(target, &[], &known.instances)?], None)?
        } else {
            let found = of_app(target, &known.instances);
            if found.is_empty() {
                return Err(no_main(target, target, known));
            }
            of_instances(place, &found, None)?
        }
    };
    Ok(with(Some("route"), answers))
}

fn with(through: Option<&'static str>, answers: Vec<Answer>) -> Vec<Answer> {
    answers.into_iter().map(|answer| Answer { through, ..answer }).collect()
}
