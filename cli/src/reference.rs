//! How people name instances: `APP/INSTANCE`, `INSTANCE.APP[.localhost]`, `APP`. Pure.
use crate::exit::Exit;
use crate::hint::Failure;
use agentfs_wire::control::InstanceInfo;

/// Candidates that an error message lists.
const LISTED: usize = 8;

/// The failure for `text` if nothing is running.
pub(crate) fn nothing_runs(text: &str) -> Failure {
    Failure::new(Exit::NotFound, format_args!("no instance `{text}` is running"))
        .hint("nothing is running; start something with `agentfs wrap -- COMMAND`")
}

/// The instances that `text` names: if it names only an app, all its instances.
///
/// # Errors
/// [`Exit::NotFound`] if there is none; the hint lists what is running.
pub(crate) fn matching<'a>(text: &str, all: &'a [InstanceInfo]) -> Result<Vec<&'a InstanceInfo>, Failure> {
    let name = text.strip_suffix(".localhost").unwrap_or(text);
    let pair = name.split_once('/').or_else(|| name.rsplit_once('.').map(|(instance, app)| (app, instance)));
    let found: Vec<&InstanceInfo> = match pair {
        Some((app, instance)) => {
            all.iter().filter(|info| info.app == app && info.instance == instance).collect()
        }
        None => all.iter().filter(|info| info.app == name).collect(),
    };
    if found.is_empty() {
        return Err(match listed(all.iter()) {
            Some(list) => Failure::new(Exit::NotFound, format_args!("no instance `{text}` is running"))
                .hint(format_args!("running: {list}")),
            None => nothing_runs(text),
        });
    }
    Ok(found)
}

/// The one instance that `text` names.
///
/// # Errors
/// [`Exit::NotFound`] if there is none, [`Exit::Usage`] if there are several.
pub(crate) fn one<'a>(text: &str, all: &'a [InstanceInfo]) -> Result<&'a InstanceInfo, Failure> {
    let found = matching(text, all)?;
    match found.as_slice() {
        [only] => Ok(only),
        several => {
            let failure =
                Failure::new(Exit::Usage, format_args!("`{text}` matches {} instances", several.len()));
            let list = listed(several.iter().copied()).unwrap_or_default();
            Err(failure.hint(format_args!("choose one of {list}")))
        }
    }
}

fn listed<'a>(all: impl Iterator<Item = &'a InstanceInfo>) -> Option<String> {
    let mut names: Vec<String> = all.map(|info| format!("{}/{}", info.app, info.instance)).collect();
    names.sort();
    let more = names.len().saturating_sub(LISTED);
    names.truncate(LISTED);
    if more > 0 {
        names.push(format!("and {more} more"));
    }
    (!names.is_empty()).then(|| names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<InstanceInfo> {
        [("shop", "blue"), ("shop", "feature-cart"), ("api", "k3f9")]
            .into_iter()
            .map(|(app, instance)| InstanceInfo {
                app: app.to_owned(),
                instance: instance.to_owned(),
                host: String::new(),
                url: None,
                directory: None,
                command: Vec::new(),
                wrap_pid: None,
                commands: Vec::new(),
                pids: Vec::new(),
                started_ms: 0,
                listeners: Vec::new(),
            })
            .collect()
    }

    #[test]
    fn every_form_of_a_name_is_understood() {
        let all = all();
        for text in ["shop/feature-cart", "feature-cart.shop", "feature-cart.shop.localhost"] {
            assert_eq!(one(text, &all).unwrap().instance, "feature-cart", "{text}");
        }
        for text in ["api", "api.localhost"] {
            assert_eq!(one(text, &all).unwrap().instance, "k3f9", "{text}");
        }
        assert_eq!(matching("shop", &all).unwrap().len(), 2);
    }

    #[test]
    fn a_name_that_fails_lists_what_there_is() {
        let all = all();
        let several = one("shop", &all).unwrap_err();
        assert_eq!(several.exit, Exit::Usage);
        assert_eq!(several.hint.as_deref(), Some("choose one of shop/blue, shop/feature-cart"));
        let none = one("shop/red", &all).unwrap_err();
        assert_eq!(none.exit, Exit::NotFound);
        assert!(none.hint.unwrap().contains("api/k3f9"));
        assert!(one("x", &[]).unwrap_err().hint.is_some());
    }
}
