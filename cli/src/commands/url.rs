//! `agentfs url`: prints the URL of an instance, and nothing else.
use crate::args::UrlArguments;
use crate::autostart;
use crate::exit::Exit;
use crate::here;
use crate::hint::Failure;
use crate::pasted;
use crate::printer::Printer;
use crate::reference;
use crate::settings::Settings;
use agentfs_wire::control::{DaemonInfo, Snapshot, method};
use serde_json::json;

/// Runs the command.
///
/// # Errors
/// The instance or its listener is not found, or no router listens.
pub(crate) fn run(arguments: &UrlArguments, settings: &Settings, printer: &Printer) -> Result<Exit, Failure> {
    let name = arguments.instance.as_deref();
    let Some(mut client) = autostart::where_needed(settings)? else {
        return Err(reference::nothing_runs(name));
    };
    let snapshot: Snapshot = client.call(method::LIST, json!({}))?;
    let instance = here::choose(name, settings, &mut client, &snapshot, Some(printer))?;
    let port = arguments.port.or_else(|| pasted::port_of(name?));
    let listener = reference::listener(instance, port)?;
    let Some(url) = &listener.url else {
        let info: DaemonInfo = client.call(method::DAEMON_INFO, json!({}))?;
        let why = info.router_error.unwrap_or_else(|| "it has no address".to_owned());
        return Err(Failure::of(format_args!("no URL works because the router does not listen: {why}"))
            .hint("free the port or set AGENTFS_ROUTER to another; then run `agentfs daemon stop` and `agentfs daemon start`"));
    };
    printer.data(&format!("{url}\n"))?;
    let others: Vec<String> = instance
        .listeners
        .iter()
        .filter(|other| other.port != listener.port)
        .filter_map(|other| Some(format!("--port {} is {}", other.port, other.url.as_ref()?)))
        .collect();
    if port.is_none() && !others.is_empty() {
        printer.talk(&format!("this is port {}; {}", listener.port, others.join(", ")));
    }
    Ok(Exit::Success)
}
