//! Which instance a command means that names none: its own, if it runs in one; else the one of its folder, that is, of
//! the checkout around it.
use crate::checkout;
use crate::exit::Exit;
use crate::hint::Failure;
use crate::instance;
use crate::members::Key;
use crate::reference;
use crate::settings::Settings;
use agentfs_wire::control::InstanceInfo;
use agentfs_wire::env;
use std::path::{Path, PathBuf};

/// The instance that this process itself belongs to, if it is one of this home.
pub(crate) fn own(settings: &Settings) -> Option<Key> {
    let text = |name| settings.variable(name)?.into_string().ok();
    let run = settings.variable(env::RUN)?;
    (Path::new(&run) == settings.paths.run).then_some((text(env::APP)?, text(env::INSTANCE)?))
}

/// The instance that is named, or the one that is meant without a name.
///
/// # Errors
/// As for [`reference::one`] and [`find`].
pub(crate) fn choose<'a>(
    name: Option<&str>,
    settings: &Settings,
    all: &'a [InstanceInfo],
) -> Result<&'a InstanceInfo, Failure> {
    match name {
        Some(name) => reference::one(name, all),
        None => find(settings, all),
    }
}

/// The instance that is meant without a name.
///
/// # Errors
/// [`Exit::NotFound`] if nothing runs in this folder, [`Exit::Usage`] if several instances do and none of them is the
/// first of its name.
pub(crate) fn find<'a>(settings: &Settings, all: &'a [InstanceInfo]) -> Result<&'a InstanceInfo, Failure> {
    if let Some((app, instance)) = own(settings)
        && let Some(info) = all.iter().find(|info| info.app == app && info.instance == instance)
    {
        return Ok(info);
    }
    let folder = std::env::current_dir()
        .map_err(|error| Failure::of(format_args!("cannot find the current folder: {error}")))?;
    let places: Vec<(PathBuf, &InstanceInfo)> =
        all.iter().filter_map(|info| Some((place_of(settings, info)?, info))).collect();
    let found = match checkout::find(&folder) {
        Some(checkout) => at(&places, &checkout.root),
        // Without a checkout, the nearest folder in which something runs.
        None => {
            folder.ancestors().map(|folder| at(&places, folder)).find(|at| !at.is_empty()).unwrap_or_default()
        }
    };
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

/// Where an instance belongs: its checkout, or its working directory.
fn place_of(settings: &Settings, info: &InstanceInfo) -> Option<PathBuf> {
    let companion = instance::companion(settings, &info.app, &info.instance);
    let noted = companion.and_then(|companion| companion.checkout);
    noted.or_else(|| {
        let directory = PathBuf::from(info.directory.as_ref()?);
        Some(checkout::find(&directory).map_or(directory, |checkout| checkout.root))
    })
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
