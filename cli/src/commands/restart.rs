//! `agentfs restart`: stops an instance and becomes its program again.
use crate::args::{RestartArguments, WrapArguments};
use crate::autostart;
use crate::client::Client;
use crate::commands::wrap;
use crate::exit::Exit;
use crate::here;
use crate::hint::Failure;
use crate::instance;
use crate::printer::Printer;
use crate::program;
use crate::reference;
use crate::settings::Settings;
use crate::stopping;
use agentfs_wire::companion::Companion;
use agentfs_wire::control::{ForwardInfo, ForwardParams, InstanceInfo, Snapshot, method};
use serde::Deserialize;
use serde_json::json;
use std::time::Duration;

/// Answer to `forward.list`.
#[derive(Debug, Deserialize)]
struct Forwards {
    /// Every forward.
    forwards: Vec<ForwardInfo>,
}

/// Runs the command. Returns only if the program could not be started.
///
/// # Errors
/// The instance is not found, was made by hand, or cannot be stopped; its folder or program is gone.
pub(crate) fn run(
    arguments: &RestartArguments,
    settings: &Settings,
    printer: &Printer,
) -> Result<Exit, Failure> {
    let name = arguments.instance.as_deref();
    let Some(mut client) = autostart::where_needed(settings)? else {
        return Err(reference::nothing_runs(name));
    };
    let snapshot: Snapshot = client.call(method::LIST, json!({}))?;
    let info = here::choose(name, settings, &snapshot.instances)?;
    let shown = format!("{}/{}", info.app, info.instance);
    if here::own(settings).is_some_and(|own| own == (info.app.clone(), info.instance.clone())) {
        return Err(Failure::of(format_args!("{shown} cannot restart itself"))
            .hint("run `agentfs restart` outside the instance"));
    }
    let companion = instance::companion(settings, &info.app, &info.instance);
    let Some(companion) = companion.filter(|companion| !companion.command.is_empty()) else {
        return Err(Failure::of(format_args!("{shown} was not started by agentfs"))
            .hint("stop it and start it as you did before"));
    };
    let forwards = forwards_of(&mut client, info)?;
    // Everything that can fail comes before the stop.
    std::env::set_current_dir(&companion.directory).map_err(|error| {
        let folder = companion.directory.display();
        Failure::of(format_args!("cannot use the folder of {shown}, {folder}: {error}"))
            .hint(format_args!("{shown} is still running"))
    })?;
    let program = companion.command.first().cloned().unwrap_or_default();
    let _ = program::find(program.as_ref(), settings.search_path.as_deref())
        .map_err(|failure| failure.hint(format_args!("{shown} is still running")))?;
    let (command, folder) = (companion.command.join(" "), companion.directory.display().to_string());
    stopping::end(&mut client, &[info], Duration::from_secs(arguments.timeout), settings, printer)?;
    drop(client);
    printer.note(&format!("restarting {shown}: {command}  (in {folder})"));
    wrap::run(again(companion, forwards), settings, printer)
}

/// The command line of `wrap` that starts the same again.
fn again(companion: Companion, forwards: Vec<ForwardParams>) -> WrapArguments {
    let rules = companion.rules;
    WrapArguments {
        app: Some(companion.app),
        instance: Some(companion.instance),
        isolate: rules.isolate,
        // Ports that were exposed are forwards by now.
        expose: Vec::new(),
        only: rules.only,
        except: rules.except,
        no_interpose: rules.no_interpose,
        port: rules.port,
        forwards,
        command: companion.command.into_iter().map(Into::into).collect(),
    }
}

/// The forwards of an instance, as they are asked for.
fn forwards_of(client: &mut Client, info: &InstanceInfo) -> Result<Vec<ForwardParams>, Failure> {
    let Forwards { forwards } = client.call(method::FORWARD_LIST, json!({}))?;
    let own = forwards.into_iter().filter(|it| (&it.app, &it.instance) == (&info.app, &info.instance));
    let params = own.map(|forward| ForwardParams {
        app: forward.app,
        instance: forward.instance,
        listen: forward.port.map(|_| forward.listen),
        port: forward.port,
        handoff: forward.handoff,
        lan: forward.lan,
    });
    Ok(params.collect())
}
