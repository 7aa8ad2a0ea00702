//! Which instance a command means. One that names none means its own, if it runs in one; else the one of its folder, that
//! is, of the checkout around it.
use crate::answer;
use crate::checkout;
use crate::client::Client;
use crate::exit::Exit;
use crate::hint::Failure;
use crate::instance;
use crate::known::{self, Known};
use crate::pasted::{self, Pasted};
use crate::place::{self, Place};
use crate::printer::Printer;
use crate::reference;
use crate::settings::Settings;
use agentfs_wire::companion::Companion;
use agentfs_wire::control::{DaemonInfo, InstanceInfo, Snapshot, method};
use serde_json::json;
use std::path::{Path, PathBuf};

/// What to do about a name that is not that of an instance.
const NAME_ONE: &str = "name an instance, as in APP/INSTANCE; `agentfs ps` shows all";

/// The instance that is named, or the one that is meant without a name. With `told`, an app whose `main` is not running
/// may be its only fork, and that is told there.
///
/// # Errors
/// As for [`named`] and [`find`].
pub(crate) fn choose<'a>(
    name: Option<&str>,
    settings: &Settings,
    client: &mut Client,
    snapshot: &'a Snapshot,
    told: Option<&Printer>,
) -> Result<&'a InstanceInfo, Failure> {
    if let (Some(printer), Some(name)) = (told, name)
        && let Some(info) = only_fork(name, snapshot, printer)
    {
        return Ok(info);
    }
    match name {
        Some(name) => named(name, settings, client, snapshot),
        None => find(settings, &snapshot.instances),
    }
}

/// The only fork of an app whose `main` is not running, where `name` is that app. It is told that this one is taken.
pub(crate) fn only_fork<'a>(
    name: &str,
    snapshot: &'a Snapshot,
    printer: &Printer,
) -> Option<&'a InstanceInfo> {
    let info = reference::only_fork(name, &snapshot.instances)?;
    let InstanceInfo { app, instance, .. } = info;
    printer.warn(&format!(
        "{app}/main is not running; `{name}` is taken as {app}/{instance}, the only instance of {app} that is"
    ));
    Some(info)
}

/// The instance that is named, also by a URL.
///
/// # Errors
/// The errors of [`reference::one`]. [`Exit::Usage`] if a URL does not lead to an instance; the message says where it leads.
pub(crate) fn named<'a>(
    text: &str,
    settings: &Settings,
    client: &mut Client,
    snapshot: &'a Snapshot,
) -> Result<&'a InstanceInfo, Failure> {
    let line: Vec<String> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    let all = &snapshot.instances;
    match pasted::read(text) {
        None => reference::one(text, &line, all),
        Some(Pasted::Host { name, port, .. }) => {
            if let Some(port) = port {
                router_port(text, port, settings, client)?;
            }
            reference::by_host(text, &name, &line, &snapshot.routes, all)
        }
        Some(Pasted::Local(local)) => {
            let known = Known::ask(client, settings)?;
            let answer = answer::at_port(local, &known, settings)?;
            let found = all.iter().find(|info| {
                (Some(&info.app), Some(&info.instance)) == (answer.app.as_ref(), answer.instance.as_ref())
            });
            found.ok_or_else(|| {
                Failure::new(Exit::Usage, format_args!("`{text}` is not an instance: {}", answer.line()))
                    .hint(NAME_ONE)
            })
        }
        Some(Pasted::Foreign) => Err(reference::unknown(text, all)),
    }
}

/// Checks that the port of a URL is the router's: elsewhere, the host name says nothing about who answers.
///
/// # Errors
/// [`Exit::Usage`] with what the port is.
pub(crate) fn router_port(
    text: &str,
    port: u16,
    settings: &Settings,
    client: &mut Client,
) -> Result<(), Failure> {
    let daemon: DaemonInfo = client.call(method::DAEMON_INFO, json!({}))?;
    if known::is_router(&daemon, port) {
        return Ok(());
    }
    let known = Known::ask(client, settings)?;
    let what = answer::described(port, &known, settings);
    let message = format!("`{text}` is not the URL of an instance: port {port} is not the router's; {what}");
    let failure = Failure::new(Exit::Usage, message);
    Err(match daemon.http_port {
        0 => failure.hint(NAME_ONE),
        http => failure.hint(format_args!("the router listens on port {http}; `agentfs ps` shows all URLs")),
    })
}

/// The instance that is meant without a name.
///
/// # Errors
/// [`Exit::NotFound`] if nothing runs in this folder, [`Exit::Usage`] if several instances do and none of them is the
/// first of its name.
pub(crate) fn find<'a>(settings: &Settings, all: &'a [InstanceInfo]) -> Result<&'a InstanceInfo, Failure> {
    if let Some((app, instance)) = place::own(settings)
        && let Some(info) = all.iter().find(|info| info.app == app && info.instance == instance)
    {
        return Ok(info);
    }
    let place = Place::current();
    let folder = &place.directory;
    if folder.as_os_str().is_empty() {
        return Err(Failure::of("cannot find the current folder: it was removed"));
    }
    let found = in_place(&place, settings, all);
    match first_of(&found) {
        Some(only) => Ok(only),
        None if found.is_empty() => {
            let folder = folder.display();
            let failure = Failure::new(Exit::NotFound, format_args!("no instance is running in {folder}"));
            Err(match reference::listed(all.iter()) {
                Some(list) => failure.hint(format_args!("name one: {list}")),
                None => failure.hint("start something with `agentfs wrap -- COMMAND`"),
            })
        }
        None => {
            let list = reference::listed(found.iter().copied()).unwrap_or_default();
            let message = format!("{} instances are running in this folder", found.len());
            Err(Failure::new(Exit::Usage, message).hint(format_args!("choose one of {list}")))
        }
    }
}

/// The instances that `wrap` would join here, or copies of them. If there are none: what runs in the same checkout, or
/// without one, in the nearest folder above.
fn in_place<'a>(place: &Place, settings: &Settings, all: &'a [InstanceInfo]) -> Vec<&'a InstanceInfo> {
    let companion = |info: &InstanceInfo| instance::companion(settings, &info.app, &info.instance);
    let known: Vec<(Option<Companion>, &InstanceInfo)> =
        all.iter().map(|info| (companion(info), info)).collect();
    // A worktree that was removed had this folder: what still runs of it is another fork's.
    let is_replaced = |companion: Option<&Companion>| companion.is_some_and(|one| place.replaced(one));
    let owned = known.iter().filter(|(companion, _)| companion.as_ref().is_some_and(|one| place.owns(one)));
    let owned: Vec<&InstanceInfo> = owned.map(|(_, info)| *info).collect();
    if !owned.is_empty() {
        return owned;
    }
    let places: Vec<(PathBuf, &InstanceInfo)> = known
        .iter()
        .filter(|(companion, _)| !is_replaced(companion.as_ref()))
        .filter_map(|(companion, info)| Some((place_of(companion.as_ref(), info)?, *info)))
        .collect();
    match &place.checkout {
        Some(checkout) => at(&places, &checkout.root),
        None => {
            let above = place.directory.ancestors().map(|folder| at(&places, folder));
            above.into_iter().find(|at| !at.is_empty()).unwrap_or_default()
        }
    }
}

/// Where an instance belongs: its checkout, or its folder.
fn place_of(companion: Option<&Companion>, info: &InstanceInfo) -> Option<PathBuf> {
    if let Some(companion) = companion {
        return Some(companion.checkout.clone().unwrap_or_else(|| companion.folder().to_owned()));
    }
    let directory = PathBuf::from(info.directory.as_ref()?);
    Some(checkout::find(&directory).map_or(directory, |checkout| checkout.root))
}

fn at<'a>(places: &[(PathBuf, &'a InstanceInfo)], folder: &Path) -> Vec<&'a InstanceInfo> {
    let same = |place: &Path| place == folder || place.canonicalize().is_ok_and(|place| place == folder);
    places.iter().filter(|(place, _)| same(place)).map(|(_, info)| *info).collect()
}

/// The only instance, or the one of which all others are further copies: `blue` of `blue`, `blue-2` and `blue-3`.
fn first_of<'a>(found: &[&'a InstanceInfo]) -> Option<&'a InstanceInfo> {
    let is_copy = |info: &InstanceInfo, first: &InstanceInfo| {
        let number = info.instance.strip_prefix(&first.instance).and_then(|rest| rest.strip_prefix('-'));
        info.app == first.app && number.is_some_and(|number| number.parse::<u32>().is_ok())
    };
    let is_first = |first: &&&'a InstanceInfo| {
        found
            .iter()
            .all(|info| info.instance == first.instance && info.app == first.app || is_copy(info, first))
    };
    found.iter().find(is_first).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn further_copies_do_not_make_a_folder_ambiguous() {
        let all: Vec<InstanceInfo> =
            ["blue", "blue-2", "blue-x"].map(|name| reference::tests::info("shop", name)).into();
        assert_eq!(first_of(&[&all[1], &all[0]]).unwrap().instance, "blue");
        assert_eq!(first_of(&[&all[1]]).unwrap().instance, "blue-2");
        assert!(first_of(&[&all[0], &all[2]]).is_none() && first_of(&[]).is_none());
    }
}
