//! `agentfs stop`: chooses instances and ends them (`stopping`).
use crate::args::StopArguments;
use crate::autostart;
use crate::exit::Exit;
use crate::here;
use crate::hint::Failure;
use crate::printer::Printer;
use crate::reference;
use crate::settings::Settings;
use crate::stopping;
use agentfs_wire::control::{InstanceInfo, Snapshot, method};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

/// Runs the command.
///
/// # Errors
/// An instance is not found or cannot be stopped.
pub(crate) fn run(
    arguments: &StopArguments,
    settings: &Settings,
    printer: &Printer,
) -> Result<Exit, Failure> {
    let Some(mut client) = autostart::where_needed(settings)? else {
        if arguments.all {
            printer.talk("nothing is running");
            return Ok(Exit::Success);
        }
        return Err(reference::nothing_runs(arguments.instances.first().map(String::as_str)));
    };
    let snapshot: Snapshot = client.call(method::LIST, json!({}))?;
    let all = &snapshot.instances;
    let mut wanted: BTreeMap<(&str, &str), &InstanceInfo> = BTreeMap::new();
    let chosen: Vec<&InstanceInfo> = if arguments.all {
        all.iter().collect()
    } else if arguments.instances.is_empty() {
        vec![here::find(settings, all)?]
    } else {
        let mut chosen = Vec::new();
        for name in &arguments.instances {
            let app = name.to_ascii_lowercase();
            let of_app: Vec<&InstanceInfo> = all.iter().filter(|info| info.app == app).collect();
            // Elsewhere an app alone is its `main`. Who ends an app ends all of it, and reads what was ended.
            if of_app.is_empty() {
                chosen.push(here::named(name, settings, &mut client, &snapshot)?);
            }
            chosen.extend(of_app);
        }
        chosen
    };
    wanted.extend(chosen.into_iter().map(|info| ((info.app.as_str(), info.instance.as_str()), info)));
    if wanted.is_empty() {
        printer.talk("nothing is running");
        return Ok(Exit::Success);
    }
    let instances: Vec<&InstanceInfo> = wanted.into_values().collect();
    stopping::end(&mut client, &instances, Duration::from_secs(arguments.timeout), settings, printer)?;
    for InstanceInfo { app, instance, .. } in instances {
        printer.talk(&format!("{app}/{instance} has stopped"));
    }
    Ok(Exit::Success)
}
