//! `agentfs route`: host names added by hand.
use crate::args::{PolicyArgument, RouteAction, RouteArguments};
use crate::autostart;
use crate::client::Client;
use crate::display;
use crate::exit::Exit;
use crate::here;
use crate::hint::Failure;
use crate::pasted::{self, Pasted, port_label};
use crate::printer::Printer;
use crate::settings::Settings;
use agentfs_wire::control::{Policy, RouteInfo, RouteParams, Snapshot, method};
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::Path;

/// Answer to `route.list`.
#[derive(Debug, Deserialize)]
struct Routes {
    /// Every route.
    routes: Vec<RouteInfo>,
}

/// Runs the command.
///
/// # Errors
/// What the collector answers, or that it does not answer.
pub(crate) fn run(
    arguments: &RouteArguments,
    settings: &Settings,
    printer: &Printer,
) -> Result<Exit, Failure> {
    let mut client = autostart::ensure(settings)?;
    let (listed, removed) = match &arguments.action {
        Some(RouteAction::List { json }) => (Some(*json), None),
        Some(RouteAction::Remove { name }) => (None, Some(name)),
        None => (arguments.list.then_some(arguments.json), arguments.remove.as_ref()),
    };
    if let Some(as_json) = listed {
        return list(&mut client, as_json, printer);
    }
    if let Some(name) = removed {
        let host = host(name);
        let _: Value = client.call(method::ROUTE_REMOVE, json!({ "host": host }))?;
        printer.talk(&format!("removed the route {host}"));
        return Ok(Exit::Success);
    }
    let (Some(name), Some(target)) = (&arguments.name, &arguments.target) else {
        return Err(Failure::new(Exit::Usage, "a route needs a name and a target"));
    };
    // The collector takes it, too.
    let snapshot: Snapshot = client.call(method::LIST, json!({}))?;
    let _ = here::only_fork(target, &snapshot, printer);
    let params = RouteParams {
        host: host(name),
        target: target_of(target, settings, &mut client)?,
        wildcard: arguments.wildcard,
        replace: arguments.replace,
        policy: arguments.policy.into(),
        handoff: arguments.handoff,
        rewrite_host: arguments.rewrite_host,
    };
    let route: RouteInfo = client.call(method::ROUTE_ADD, params)?;
    if arguments.rewrite_host && !route.rewrite_host {
        return Err(Failure::of(
            "the route was added, but the running collector is older and does not rewrite the host",
        )
        .hint("restart it with `agentfs daemon stop`, then add the route again with --replace"));
    }
    if arguments.json {
        printer.data(&format!("{}\n", json(&route)?))?;
    } else {
        printer.talk(&format!("{} → {}", route.url.as_ref().unwrap_or(&route.host), route.target));
    }
    Ok(Exit::Success)
}

fn list(client: &mut Client, as_json: bool, printer: &Printer) -> Result<Exit, Failure> {
    let Routes { routes } = client.call(method::ROUTE_LIST, json!({}))?;
    if as_json {
        printer.data(&format!("{}\n", json(&routes)?))?;
        return Ok(Exit::Success);
    }
    if routes.is_empty() {
        printer.talk("no routes; add one with `agentfs route NAME TARGET`");
        return Ok(Exit::Success);
    }
    let mut rows = vec![["NAME", "TARGET", "URL", "POLICY", "HOST", "HANDOFF"].map(str::to_owned).to_vec()];
    for route in routes {
        let name = if route.wildcard { format!("*.{}", route.host) } else { route.host };
        let handoff = if route.handoff { "yes" } else { "no" };
        // The host that the app is asked for.
        let host = if route.rewrite_host { "localhost" } else { "given" };
        rows.push(vec![
            name,
            route.target,
            route.url.unwrap_or_else(|| "-".to_owned()),
            policy_name(route.policy).to_owned(),
            host.to_owned(),
            handoff.to_owned(),
        ]);
    }
    printer.data(&display::table(&rows))?;
    Ok(Exit::Success)
}

impl From<PolicyArgument> for Policy {
    fn from(policy: PolicyArgument) -> Self {
        match policy {
            PolicyArgument::RoundRobin => Self::RoundRobin,
            PolicyArgument::LeastConnections => Self::LeastConnections,
            PolicyArgument::First => Self::First,
        }
    }
}

/// The policy of the request.
fn policy_name(policy: Policy) -> &'static str {
    match policy {
        Policy::RoundRobin => "round-robin",
        Policy::LeastConnections => "least-connections",
        Policy::First => "first",
    }
}

fn json(value: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|error| Failure::of(format_args!("cannot write JSON: {error}")))
}

/// A host name: `myapp` is `myapp.localhost`.
fn host(name: &str) -> String {
    // As a browser shows it.
    if let Some(Pasted::Host { name, .. }) = pasted::read(name) {
        return format!("{name}.localhost");
    }
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    if name.contains('.') { name } else { format!("{name}.localhost") }
}

/// The target for the collector. A URL is the instance that has it, or the app.
fn target_of(target: &str, settings: &Settings, client: &mut Client) -> Result<String, Failure> {
    let Some(Pasted::Host { name, port, .. }) = pasted::read(target) else { return absolute(target) };
    if let Some(port) = port {
        here::router_port(target, port, settings, client)?;
    }
    let (rest, label) = port_label(&name);
    if label.is_some() {
        let message = format!("`{target}` is one port of an instance; a route leads to its main one");
        return Err(Failure::new(Exit::Usage, message)
            .hint("name the instance, or the path of the port's socket: `agentfs ps --json` has it"));
    }
    Ok(match rest.rsplit_once('.') {
        Some((instance, app)) => format!("{app}/{instance}"),
        None => rest.to_owned(),
    })
}

/// A target that is not a URL. Paths are absolute, because the collector has another working directory.
fn absolute(target: &str) -> Result<String, Failure> {
    let looks_like_path = target.starts_with(['/', '.', '~'])
        || Path::new(target).extension().is_some_and(|suffix| suffix == "sock")
        || (target.contains('/') && Path::new(target).exists());
    if !looks_like_path {
        return Ok(target.to_owned());
    }
    let path = std::path::absolute(target)
        .map_err(|error| Failure::new(Exit::Usage, format_args!("cannot use the path {target}: {error}")))?;
    // Removes `.` and `..` and follows links in the folder, but not the socket itself: it may be a link that
    // changes.
    let folder = path.parent().and_then(|folder| folder.canonicalize().ok());
    let path = match (folder, path.file_name()) {
        (Some(folder), Some(name)) => folder.join(name),
        _ => path,
    };
    path.into_os_string()
        .into_string()
        .map_err(|_| Failure::new(Exit::Usage, format_args!("the path {target} is not UTF-8 text")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_is_a_host_below_localhost() {
        assert_eq!(host("MyApp"), "myapp.localhost");
        assert_eq!(host("myapp.localhost."), "myapp.localhost");
        assert_eq!(host("http://myapp.localhost:4280/x"), "myapp.localhost");
        assert_eq!(host("myapp.localhost:4280/x"), "myapp.localhost");
    }

    #[test]
    fn paths_become_absolute_and_names_stay() {
        for name in ["shop/blue", "127.0.0.1:8080", "blue.shop"] {
            assert_eq!(absolute(name).unwrap(), name);
        }
        let here = std::env::current_dir().unwrap().canonicalize().unwrap();
        assert_eq!(absolute("./app.sock").unwrap(), here.join("app.sock").to_str().unwrap());
        assert_eq!(absolute("app.sock").unwrap(), here.join("app.sock").to_str().unwrap());
        assert_eq!(
            absolute("/tmp/../tmp/x.sock").unwrap(),
            Path::new("/tmp").canonicalize().unwrap().join("x.sock").to_str().unwrap()
        );
    }
}
