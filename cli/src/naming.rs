//! Which app and which instance a folder belongs to. Pure: `place` collects the facts, `choice` decides between the
//! instances that run.
use crate::exit::Exit;
use crate::hint::Failure;
use agentfs_wire::host::{MAIN, OWN_APP, is_port_label};
use agentfs_wire::label::{fold, hash5};
use agentfs_wire::limits::{APP_BYTES, INSTANCE_BYTES};
use agentfs_wire::name::is_label;
use std::path::Path;

/// Bytes of the part of a name that tells two folders apart.
const ASIDE_BYTES: usize = 10;

/// What names can be made from, best first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// `--app`
    pub(crate) app: Option<String>,
    /// `--instance`
    pub(crate) instance: Option<String>,
    /// What `agentfs.toml`, the manifest or the folder of the checkout's root says.
    pub(crate) folder: Option<String>,
    /// Branch of a linked worktree, or its folder if no branch is checked out.
    pub(crate) worktree: Option<String>,
    /// File name of the program.
    pub(crate) program: String,
}

/// The names of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Names {
    /// The app.
    pub(crate) app: String,
    /// The instance that the checkout gives: `main`, or a worktree's branch.
    pub(crate) stem: String,
    /// The instance that was asked for.
    pub(crate) given: Option<String>,
}

/// Makes the names.
///
/// # Errors
/// A name given on the command line is not a DNS label, or is reserved.
pub(crate) fn resolve(facts: &Facts) -> Result<Names, Failure> {
    let app = match &facts.app {
        Some(given) => checked("--app", given, APP_BYTES)?,
        None => [&facts.folder, &Some(facts.program.clone())]
            .into_iter()
            .flatten()
            .find_map(|raw| fold(raw, APP_BYTES))
            .unwrap_or_else(|| "app".to_owned()),
    };
    let app = match (app.as_str(), &facts.app) {
        (OWN_APP, None) => format!("{OWN_APP}-app"),
        (OWN_APP, Some(_)) => {
            let failure = Failure::new(Exit::Usage, format_args!("--app `{OWN_APP}` is reserved"));
            return Err(failure.hint(format_args!("--app {OWN_APP}-app")));
        }
        _ => app,
    };
    let stem = facts.worktree.as_ref().and_then(|raw| fold(raw, INSTANCE_BYTES));
    let stem = stem.map_or_else(|| MAIN.to_owned(), no_number);
    let given = match &facts.instance {
        None => None,
        Some(given) if is_port_label(given) => {
            let message = format_args!("--instance `{given}` looks like a port");
            return Err(Failure::new(Exit::Usage, message).hint(format_args!("--instance x{given}")));
        }
        Some(given) => Some(checked("--instance", given, INSTANCE_BYTES)?),
    };
    Ok(Names { app, stem, given })
}

/// The name of copy `number` of the instance `stem`: `blue`, `blue-2`, `blue-3`.
pub(crate) fn numbered(stem: &str, number: u32) -> String {
    if number < 2 { stem.to_owned() } else { with(stem, &number.to_string()) }
}

/// The number of the copy of `stem` that has this name: 1 for the stem itself.
pub(crate) fn number_of(name: &str, stem: &str) -> Option<u32> {
    if name == stem {
        return Some(1);
    }
    let number: u32 = name.rsplit_once('-')?.1.parse().ok()?;
    (number > 1 && numbered(stem, number) == name).then_some(number)
}

/// Names for an instance whose usual name another folder's instance has, best first: with the part of the path that
/// differs, then with a hash of the path.
pub(crate) fn aside(stem: &str, folder: &Path, other: Option<&Path>) -> Vec<String> {
    let others = other.into_iter().flat_map(Path::components).rev().map(Some).chain(std::iter::repeat(None));
    let different = folder.components().rev().zip(others).find(|(own, other)| Some(*own) != *other);
    let part = different.and_then(|(own, _)| fold(&own.as_os_str().to_string_lossy(), ASIDE_BYTES));
    let hash = hash5(&folder.to_string_lossy());
    // A number would look like a copy.
    let parts = part.filter(|part| !is_port_label(part)).into_iter().chain([format!("x{hash}")]);
    parts.map(|part| with(stem, &part)).collect()
}

fn with(stem: &str, suffix: &str) -> String {
    let room = INSTANCE_BYTES.saturating_sub(suffix.len() + 1);
    let head: String = stem.chars().take(room).collect();
    format!("{}-{suffix}", head.trim_end_matches('-'))
}

fn no_number(label: String) -> String {
    if !is_port_label(&label) {
        return label;
    }
    let head: String = label.chars().take(INSTANCE_BYTES - 1).collect();
    format!("x{head}")
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
        let names = resolve(facts).unwrap();
        (names.app, names.given.unwrap_or(names.stem))
    }

    #[test]
    fn the_most_telling_fact_names_the_app() {
        let mut facts = facts();
        assert_eq!(names(&facts).0, "python3");
        facts.folder = Some("@acme/Shop Front".to_owned());
        assert_eq!(names(&facts).0, "acme-shop-front");
        facts.app = Some("other".to_owned());
        assert_eq!(names(&facts).0, "other");
    }

    #[test]
    fn a_worktree_names_the_instance() {
        let mut facts = facts();
        assert_eq!(names(&facts).1, "main");
        facts.worktree = Some("feature/cart".to_owned());
        assert_eq!(names(&facts).1, "feature-cart");
        facts.instance = Some("blue".to_owned());
        assert_eq!(names(&facts).1, "blue");
    }

    #[test]
    fn a_given_name_is_never_folded_silently() {
        for given in ["My App", "-x", "", "a-name-that-is-far-too-long-for-us", "größe"] {
            let failure = resolve(&Facts { app: Some(given.to_owned()), ..facts() }).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage);
            assert!(failure.message.contains("--app"), "{failure}");
        }
        let failure = resolve(&Facts { app: Some("My App".to_owned()), ..facts() }).unwrap_err();
        assert_eq!(failure.hint.as_deref(), Some("--app my-app"));
    }

    /// An app called `agentfs` would take the router's own host names. An instance named by a number would mean
    /// a port.
    #[test]
    fn names_that_would_mean_something_else_in_a_url_are_not_used() {
        let folder = Facts { folder: Some("agentfs".to_owned()), ..facts() };
        assert_eq!(names(&folder).0, "agentfs-app");
        assert_eq!(
            resolve(&Facts { app: folder.folder, ..facts() }).unwrap_err().hint.as_deref(),
            Some("--app agentfs-app")
        );
        assert_eq!(names(&Facts { worktree: Some("1234".to_owned()), ..facts() }).1, "x1234");
        let digits = "7".repeat(INSTANCE_BYTES);
        let name = names(&Facts { worktree: Some(digits.clone()), ..facts() }).1;
        assert_eq!(name, format!("x{}", &digits[1..]));
        let failure = resolve(&Facts { instance: Some("8080".to_owned()), ..facts() }).unwrap_err();
        assert_eq!((failure.exit, failure.hint.as_deref()), (Exit::Usage, Some("--instance x8080")));
    }

    #[test]
    fn copies_and_neighbours_have_labels_that_fit() {
        assert_eq!((numbered("blue", 1), numbered("blue", 2)), ("blue".to_owned(), "blue-2".to_owned()));
        for stem in ["x", "feature-cart", "fourteen-chars-x-y-z", "a-b-c-d-e-f-g-h-i-j"] {
            let longer = [vec![numbered(stem, 999)], aside(stem, Path::new("/a/b"), None)].concat();
            for name in longer {
                assert!(is_label(&name) && name.len() <= INSTANCE_BYTES, "{name}");
            }
        }
    }

    #[test]
    fn a_neighbour_is_named_by_the_part_of_the_path_that_differs() {
        let first = |folder: &str, other: &str| {
            aside("main", Path::new(folder), Some(Path::new(other))).first().unwrap().clone()
        };
        assert_eq!(first("/home/ada/b/shop", "/home/ada/a/shop"), "main-b");
        assert_eq!(first("/w/cart-2", "/w/cart"), "main-cart-2");
        assert_eq!(first("/shop", "/a/shop"), first("/shop", "/b/shop"), "it has no part of its own");
        let number = first("/w/2", "/w/1");
        assert!(number.starts_with("main-x"), "a number would look like a copy: {number}");
    }

    #[test]
    fn a_copy_is_told_from_a_name_that_ends_in_a_number() {
        assert_eq!(number_of("blue", "blue"), Some(1));
        assert_eq!(number_of("blue-12", "blue"), Some(12));
        for name in ["blue-1", "blue-02", "blue-x", "blue-2-2", "red-2", "bluer", "blu", ""] {
            assert_eq!(number_of(name, "blue"), None, "{name}");
        }
        let long = "a".repeat(INSTANCE_BYTES);
        assert_eq!(number_of(&numbered(&long, 10), &long), Some(10));
    }
}
