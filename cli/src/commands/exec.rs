//! `agentfs exec`: becomes a program inside a running instance.
use crate::args::ExecArguments;
use crate::autostart;
use crate::exit::Exit;
use crate::hint::Failure;
use crate::printer::Printer;
use crate::settings::Settings;
use crate::{environment, instance, interposer, program, protection, reference, supervise};
use agentfs_wire::control::{Snapshot, method};
use serde_json::json;

/// Runs the command. Returns only if the program could not be started.
///
/// # Errors
/// The instance or the program is not found, or the program cannot be started.
pub(crate) fn run(
    arguments: &ExecArguments,
    settings: &Settings,
    printer: &Printer,
) -> Result<Exit, Failure> {
    let Some(mut client) = autostart::where_needed(settings)? else {
        return Err(reference::nothing_runs(&arguments.instance));
    };
    let snapshot: Snapshot = client.call(method::LIST, json!({}))?;
    let target = reference::one(&arguments.instance, &snapshot.instances)?;
    let name = arguments.command.first().cloned().unwrap_or_default();
    let path = program::find(&name, settings.search_path.as_deref())?;
    let library = interposer::unpack(settings, |text| printer.warn(text))?;
    let start = protection::prepare(settings, printer, path, &arguments.command);
    let unreached = program::beyond_reach(&start.path);
    if let Some(why) = unreached {
        instance::tell_unreached(settings, &target.app, &target.instance, &start.path, why);
    }
    let companion = instance::companion(settings, &target.app, &target.instance);
    let (rules, secret) = companion.map(|companion| (companion.rules, companion.secret)).unwrap_or_default();
    let isolate = arguments.isolate || rules.isolate;
    let engine = instance::preload(settings, printer, &start.path, library, isolate, unreached);
    let engine = start.adjust(engine);
    let place = (target.host.clone(), target.url.clone());
    let mut plan = instance::plan(settings, &target.app, &target.instance, place, engine)?;
    plan.secret = secret;
    plan.only = rules.only;
    plan.except = rules.except;
    plan.isolated = rules.isolated;
    plan.allow_host = rules.allow_host;
    // The instance's rules, whatever our own environment says.
    let mut variables = environment::build(&environment::without_ports(&settings.environment), &plan);
    program::settle(&start.path, &mut variables);
    instance::look_at_host(&mut client, &target.app, &target.instance);
    drop(client);
    let error = supervise::replace(&start.path, &start.arguments, &variables);
    Err(program::cannot_start(&start.path, &error))
}
