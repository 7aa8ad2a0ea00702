//! What `wrap` does and says about instances that are running: stops one, says why a name is not the usual one, names
//! what was left behind.
use crate::choice::{Renamed, Request};
use crate::claim::{self, Claim};
use crate::client::Client;
use crate::exit::Exit;
use crate::hint::Failure;
use crate::instance;
use crate::orphans::{self, Orphan};
use crate::place::Place;
use crate::printer::Printer;
use crate::settings::Settings;
use crate::stopping;
use agentfs_wire::companion::Companion;
use agentfs_wire::control::{InstanceInfo, Snapshot, method};
use serde_json::json;

/// Stops the instance that this one takes the place of, if it is running.
///
/// # Errors
/// It cannot be stopped, or this command is part of it.
pub(super) fn replace(
    settings: &Settings,
    printer: &Printer,
    client: Option<&mut Client>,
    place: &Place,
    request: &Request<'_>,
    wanted: &Companion,
) -> Result<(), Failure> {
    let Some(name) = claim::running(&settings.paths, place, request, wanted) else { return Ok(()) };
    let app = &wanted.app;
    if request.inside == Some(&name) {
        let message = format_args!("--replace would stop {app}/{name}, which this command is part of");
        return Err(Failure::new(Exit::Setup, message).hint("run it outside of the instance"));
    }
    let Some(client) = client else {
        return Err(Failure::new(Exit::Setup, "--replace needs the collector, but none answers")
            .hint("run `agentfs daemon start` to see why"));
    };
    let snapshot: Snapshot = client.call(method::LIST, json!({})).map_err(|error| error.exit(Exit::Setup))?;
    let companion = instance::companion(settings, app, &name);
    let is_meant = |info: &&InstanceInfo| (&info.app, &info.instance) == (app, &name);
    let running: Vec<&InstanceInfo> = snapshot.instances.iter().filter(is_meant).collect();
    stopping::end(client, &running, stopping::TIMEOUT, settings, printer)
        .map_err(|error| error.exit(Exit::Setup))?;
    // Whoever asks for a name may not know whose it is.
    match companion.filter(|companion| !place.owns(companion)) {
        Some(other) => {
            printer.note(&format!("stopped {app}/{name}, which was running in {}", other.folder().display()));
        }
        None => printer.talk(&format!("{app}/{name} has stopped")),
    }
    Ok(())
}

/// Says what the instance is called, where that is not as usual.
pub(super) fn tell_name(printer: &Printer, claim: &Claim) {
    let Companion { app, instance, .. } = &claim.companion;
    if let Some(other) = &claim.other_checkout {
        let (other, above) = (other.display(), claim.companion.folder().display());
        printer.note(&format!(
            "joined {app}/{instance}, which was started in {other}: {above}/agentfs.toml makes both one app"
        ));
    }
    match &claim.choice.renamed {
        None if claim.choice.joins => printer.detail(&format!("joined {app}/{instance}")),
        None => {}
        Some(Renamed::Copy(stem)) => printer.note(&format!(
            "this is {app}/{instance}, another copy: the same command is running in {app}/{stem}"
        )),
        Some(Renamed::New(stem)) => {
            printer.note(&format!("this is {app}/{instance}, a new instance beside {app}/{stem}"));
        }
        Some(Renamed::Aside(stem, holder)) => printer.note(&format!(
            "this is {app}/{instance}, because {app}/{stem} belongs to {holder}"
        )),
        Some(Renamed::Kept(stem)) => printer.note(&format!(
            "this is {app}/{instance}, which is running in this folder; it becomes {app}/{stem} once all of it has ended"
        )),
    }
}

/// Names what commands that have ended left behind on the instance's ports. If that is nothing, they are forgotten.
pub(super) fn tell_orphans(settings: &Settings, printer: &Printer, claim: &mut Claim) {
    if !claim.has_ended_commands {
        return;
    }
    let found = orphans::of(&settings.paths, &claim.companion);
    if found.is_empty()
        && let Err(error) = claim.forget_ended(&settings.paths)
    {
        printer.detail(&format!("cannot rewrite the companion: {error}"));
    }
    let Companion { app, instance, .. } = &claim.companion;
    for orphan in found {
        let Orphan { pid, command, ports } = orphan;
        let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
        printer.warn(&format!(
            "port {} of {app}/{instance} is held by `{command}` (pid {pid}), left behind by a command that has ended; \
             to end it: kill {pid}",
            ports.join(", ")
        ));
    }
}
