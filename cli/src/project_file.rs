//! What `agentfs.toml` says of a folder's instances, apart from the app's name (`checkout`): `isolate` and `main`. Each is
//! searched for in the same way: the nearest file that has it counts, from the folder up to the root of its checkout. A file
//! that cannot be read is an error: it may say which ports are isolated.
use crate::checkout::project_table;
use crate::exit::Exit;
use crate::hint::Failure;
use crate::place::Place;
use std::path::{Path, PathBuf};

/// The file.
const FILE: &str = "agentfs.toml";

/// What it may say.
const KEYS: [&str; 3] = ["name", "isolate", "main"];

/// Which of the host's ports are refused where the instance has no listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Isolation {
    /// All of them.
    pub(crate) all: bool,
    /// Only these.
    pub(crate) ports: Vec<u16>,
}

/// What it says of the host's ports: `isolate = true`, or `isolate = [5432, 6379]`.
///
/// # Errors
/// The value is neither a truth value nor a list of ports, or a file cannot be read.
pub(crate) fn isolation(place: &Place) -> Result<Isolation, Failure> {
    let Some((file, value)) = nearest(place, "isolate")? else { return Ok(Isolation::default()) };
    if let Some(all) = value.as_bool() {
        return Ok(Isolation { all, ports: Vec::new() });
    }
    let ports = value.as_array().and_then(|ports| ports.iter().map(port).collect::<Option<_>>());
    let ports = ports.ok_or_else(|| {
        let message = format!("cannot read `isolate` in {}: it is `{value}`", file.display());
        Failure::new(Exit::Setup, message).hint("write `isolate = true` or `isolate = [5432, 6379]`")
    })?;
    Ok(Isolation { all: false, ports })
}

/// What it says of the port that the instance's host name means: `main = 5173`.
///
/// # Errors
/// The value is not a port, or a file cannot be read.
pub(crate) fn main(place: &Place) -> Result<Option<u16>, Failure> {
    let Some((file, value)) = nearest(place, "main")? else { return Ok(None) };
    port(&value).map(Some).ok_or_else(|| {
        let message = format!("`main` in {} is not a port: it is `{value}`", file.display());
        Failure::new(Exit::Setup, message).hint("write a number, as in `main = 5173`")
    })
}

/// What the files say that agentfs does not know, a line for each file: a misspelt `isolate` isolates nothing.
///
/// # Errors
/// A file cannot be read.
pub(crate) fn unknown(place: &Place) -> Result<Vec<String>, Failure> {
    let mut lines = Vec::new();
    for file in files(place) {
        let Some(table) = read(&file)? else { continue };
        let unknown: Vec<String> =
            table.keys().filter(|key| !KEYS.contains(&key.as_str())).map(|key| format!("`{key}`")).collect();
        if !unknown.is_empty() {
            let (file, known) = (file.display(), KEYS.join("`, `"));
            lines.push(format!(
                "{file} says {}, which has no effect; it may say `{known}`",
                unknown.join(", ")
            ));
        }
    }
    Ok(lines)
}

/// The nearest file that has `key`, with its value.
fn nearest(place: &Place, key: &str) -> Result<Option<(PathBuf, toml::Value)>, Failure> {
    for file in files(place) {
        if let Some(value) = read(&file)?.and_then(|mut table| table.remove(key)) {
            return Ok(Some((file, value)));
        }
    }
    Ok(None)
}

/// Where a file may be, the nearest first. Without a checkout, the search ends at the folder that names the app.
fn files(place: &Place) -> impl Iterator<Item = PathBuf> {
    let top = place.checkout.as_ref().map_or_else(|| place.folder(), |checkout| &checkout.root);
    let folders = place.directory.ancestors().take_while(move |folder| folder.starts_with(top));
    folders.map(|folder| folder.join(FILE))
}

fn read(file: &Path) -> Result<Option<toml::Table>, Failure> {
    project_table(file).map_err(|problem| {
        Failure::new(Exit::Setup, problem).hint("correct the file: it may say which ports are isolated")
    })
}

fn port(value: &toml::Value) -> Option<u16> {
    u16::try_from(value.as_integer()?).ok().filter(|port| *port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkout::{AppName, Checkout};
    use std::fs;

    fn place(folder: &Path, root: Option<&Path>) -> Place {
        let checkout =
            root.map(|root| Checkout { root: root.into(), repository: None, link: None, branch: None });
        Place { directory: folder.into(), checkout, app: AppName::default() }
    }

    #[test]
    fn the_nearest_file_that_says_it_counts() {
        let root = tempfile::tempdir().unwrap();
        let shop = root.path().join("shop");
        fs::create_dir_all(shop.join("web/src")).unwrap();
        let write = |folder: &Path, text: &str| fs::write(folder.join(FILE), text).unwrap();
        let of = |folder: &str| {
            let place = place(&shop.join(folder), Some(&shop));
            (isolation(&place).unwrap(), main(&place).unwrap())
        };
        let ports = |ports: &[u16]| Isolation { all: false, ports: ports.to_vec() };
        write(root.path(), "main = 1\nisolate = true\n");
        assert_eq!(of("web"), (Isolation::default(), None), "it is outside of the checkout");
        write(&shop, "main = 3000\nisolate = [5432]\n");
        write(&shop.join("web"), "name = 'front'\n");
        assert_eq!((of(""), of("web/src")), ((ports(&[5432]), Some(3000)), (ports(&[5432]), Some(3000))));
        write(&shop.join("web"), "isolate = true\n");
        assert_eq!(of("web/src"), (Isolation { all: true, ports: vec![] }, Some(3000)));
        write(&shop.join("web"), "main = 5173\nisolate = [5432, 6379]\n");
        assert_eq!(of("web/src"), (ports(&[5432, 6379]), Some(5173)));
    }

    #[test]
    fn a_folder_that_names_the_app_is_the_top_where_it_is_not_inside_the_checkout() {
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("shop/web");
        fs::create_dir_all(&inner).unwrap();
        fs::write(root.path().join(FILE), "main = 3000\n").unwrap();
        let mut place = place(&inner, None);
        assert_eq!(main(&place).unwrap(), None);
        place.app.root = Some(root.path().into());
        assert_eq!(main(&place).unwrap(), Some(3000));
        // In a checkout, a folder of it may name an app of its own, but the search goes on to the root.
        place.checkout =
            Some(Checkout { root: root.path().into(), repository: None, link: None, branch: None });
        place.app.root = Some(inner);
        assert_eq!(main(&place).unwrap(), Some(3000));
    }

    #[test]
    fn a_bad_value_is_named_with_its_file() {
        let root = tempfile::tempdir().unwrap();
        let place = place(root.path(), Some(root.path()));
        let write = |text: String| fs::write(root.path().join(FILE), text).unwrap();
        for bad in ["'5173'", "0", "65536", "-1", "true"] {
            write(format!("main = {bad}\n"));
            let failure = main(&place).unwrap_err();
            assert!(failure.message.contains("agentfs.toml") && failure.exit == Exit::Setup, "{failure:?}");
        }
        for bad in ["'yes'", "[0]", "[65536]", "['80']", "5432", "[-1]"] {
            write(format!("isolate = {bad}"));
            let failure = isolation(&place).unwrap_err();
            assert!(failure.message.contains("agentfs.toml") && failure.exit == Exit::Setup, "{failure:?}");
        }
    }
    /// "broken TOML, wrong types, unreadable file"
    #[test]
    fn a_file_that_cannot_be_read_is_an_error_and_an_unknown_word_is_told() {
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("inner");
        fs::create_dir(&inner).unwrap();
        let place = place(&inner, Some(root.path()));
        for bad in [&b"isolate = true\nx = = \n"[..], b"isolate = true # \xff\n", &[b'#'; (1 << 20) + 1]] {
            fs::write(root.path().join(FILE), bad).unwrap();
            let failures =
                [isolation(&place).unwrap_err(), main(&place).unwrap_err(), unknown(&place).unwrap_err()];
            for failure in failures {
                assert!(
                    failure.message.contains("agentfs.toml") && failure.exit == Exit::Setup,
                    "{failure:?}"
                );
            }
        }
        fs::write(root.path().join(FILE), "x = 1\n\ny = = 2\n").unwrap();
        assert!(main(&place).unwrap_err().message.contains("line 3: "));
        fs::write(root.path().join(FILE), "isolated = true\nname = 'x'\n[agentfs]\nmain = 3\n").unwrap();
        let told = unknown(&place).unwrap();
        assert!(
            told.len() == 1 && told[0].contains("`agentfs`, `isolated`, which has no effect"),
            "{told:?}"
        );
        fs::remove_file(root.path().join(FILE)).unwrap();
        nix::unistd::mkfifo(&root.path().join(FILE), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!((isolation(&place).unwrap(), main(&place).unwrap()), (Isolation::default(), None));
    }
}
