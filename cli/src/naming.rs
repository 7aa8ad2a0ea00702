//! Which app and which instance a command belongs to. Pure: `checkout` collects the facts.
use crate::exit::Exit;
use crate::hint::Failure;
use agentfs_wire::host::{OWN_APP, is_port_label};
use agentfs_wire::label::{fold, fold_instance};
use agentfs_wire::limits::{APP_BYTES, INSTANCE_BYTES};
use agentfs_wire::name::is_label;

/// Characters of a random instance name.
const ID_BYTES: usize = 4;

/// What names can be made from, best first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// `--app`
    pub(crate) app: Option<String>,
    /// `--instance`
    pub(crate) instance: Option<String>,
    /// `name` of the nearest manifest.
    pub(crate) manifest: Option<String>,
    /// Name of the folder of the main checkout.
    pub(crate) repository: Option<String>,
    /// Branch of a linked worktree, or its folder if no branch is checked out.
    pub(crate) worktree: Option<String>,
    /// File name of the program.
    pub(crate) program: String,
}

/// The names for a new instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Names {
    /// The app.
    pub(crate) app: String,
    /// The instance.
    pub(crate) instance: String,
}

/// Makes the names. `seed` is random.
///
/// # Errors
/// A name given on the command line is not a DNS label.
pub(crate) fn resolve(facts: &Facts, seed: u64) -> Result<Names, Failure> {
    let app = match &facts.app {
        Some(given) => checked("--app", given, APP_BYTES)?,
        None => [&facts.manifest, &facts.repository]
            .into_iter()
            .flatten()
            .chain([&facts.program])
            .find_map(|raw| fold(raw, APP_BYTES))
            .unwrap_or_else(|| "app".to_owned()),
    };
    if app == OWN_APP {
        let message = format_args!("an app cannot be named `{OWN_APP}`: that host name is agentfs's own");
        return Err(Failure::new(Exit::Usage, message).hint("choose another name with --app"));
    }
    let instance = match (&facts.instance, &facts.worktree) {
        (Some(given), _) if is_port_label(given) => {
            let message = format_args!("--instance `{given}` would be a port in a host name");
            return Err(Failure::new(Exit::Usage, message).hint("use a name with a letter"));
        }
        (Some(given), _) => checked("--instance", given, INSTANCE_BYTES)?,
        (None, Some(worktree)) => fold_instance(worktree, INSTANCE_BYTES).unwrap_or_else(|| random_id(seed)),
        (None, None) => random_id(seed),
    };
    Ok(Names { app, instance })
}

/// A random name. It begins with a letter, so that it cannot look like a port in a host name.
pub(crate) fn random_id(seed: u64) -> String {
    const LETTERS: &[u8] = b"bcdfghjkmnpqrstvwxyz";
    const ALL: &[u8] = b"23456789bcdfghjkmnpqrstvwxyz";
    let mut rest = seed;
    let mut take = |from: &[u8]| {
        let count = u64::try_from(from.len()).unwrap_or(1);
        let index = usize::try_from(rest % count).unwrap_or(0);
        rest /= count;
        from.get(index).copied().map_or('x', char::from)
    };
    let mut id = String::from(take(LETTERS));
    while id.len() < ID_BYTES {
        id.push(take(ALL));
    }
    id
}

/// The instance name with a random id added, for a name that is in use.
pub(crate) fn with_id(instance: &str, seed: u64) -> String {
    let room = INSTANCE_BYTES - ID_BYTES - 1;
    let head: String = instance.chars().take(room).collect();
    format!("{}-{}", head.trim_end_matches('-'), random_id(seed))
}

fn checked(flag: &str, given: &str, max: usize) -> Result<String, Failure> {
    if is_label(given) && given.len() <= max {
        return Ok(given.to_owned());
    }
    let failure = Failure::new(
        Exit::Usage,
        format_args!("{flag} `{given}` is not a DNS label of at most {max} bytes (a-z, 0-9, inner dashes)"),
    );
    Err(match fold(given, max) {
        Some(folded) => failure.hint(format_args!("{flag} {folded}")),
        None => failure,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts { program: "python3".to_owned(), ..Facts::default() }
    }

    fn names(facts: &Facts) -> (String, String) {
        let names = resolve(facts, 7).unwrap();
        (names.app, names.instance)
    }

    #[test]
    fn the_most_telling_fact_names_the_app() {
        let mut facts = facts();
        assert_eq!(names(&facts).0, "python3");
        facts.repository = Some("Shop Front".to_owned());
        assert_eq!(names(&facts).0, "shop-front");
        facts.manifest = Some("@acme/shop".to_owned());
        assert_eq!(names(&facts).0, "acme-shop");
        facts.app = Some("other".to_owned());
        assert_eq!(names(&facts).0, "other");
    }

    #[test]
    fn a_worktree_names_the_instance() {
        let mut facts = facts();
        assert_eq!(names(&facts).1, random_id(7));
        facts.worktree = Some("feature/cart".to_owned());
        assert_eq!(names(&facts).1, "feature-cart");
        facts.instance = Some("blue".to_owned());
        assert_eq!(names(&facts).1, "blue");
    }

    #[test]
    fn names_that_mean_something_else_are_refused() {
        let own = resolve(&Facts { manifest: Some("agentfs".to_owned()), ..facts() }, 7).unwrap_err();
        assert!(own.exit == Exit::Usage && own.message.contains("`agentfs`"), "{own}");
        let port = resolve(&Facts { instance: Some("2024".to_owned()), ..facts() }, 7).unwrap_err();
        assert!(port.exit == Exit::Usage && port.message.contains("`2024`"), "{port}");
        let branch = names(&Facts { worktree: Some("2024".to_owned()), ..facts() }).1;
        assert!(branch.starts_with("2024-") && branch.len() > 5, "{branch}");
    }

    #[test]
    fn a_given_name_is_never_folded_silently() {
        for given in ["My App", "-x", "", "a-name-that-is-far-too-long-for-us", "größe"] {
            let failure = resolve(&Facts { app: Some(given.to_owned()), ..facts() }, 7).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage);
            assert!(failure.message.contains("--app"), "{failure}");
        }
        let failure = resolve(&Facts { app: Some("My App".to_owned()), ..facts() }, 7).unwrap_err();
        assert_eq!(failure.hint.as_deref(), Some("--app my-app"));
    }

    #[test]
    fn ids_are_labels_that_are_no_numbers() {
        for seed in [0, 1, u64::MAX, 0x1234_5678_9abc_def0] {
            let id = random_id(seed);
            assert!(is_label(&id) && id.len() == ID_BYTES && id.parse::<u16>().is_err(), "{id}");
            for name in ["x", "feature-cart", "fourteen-chars-x-y-z"] {
                let longer = with_id(name, seed);
                assert!(is_label(&longer) && longer.len() <= INSTANCE_BYTES, "{longer}");
            }
        }
    }
}
