//! What `agentfs.toml` says of the host's ports: `isolate = true`, or `isolate = [5432, 6379]`.
use crate::checkout::Checkout;
use crate::exit::Exit;
use crate::hint::Failure;
use std::fs;
use std::path::Path;

/// The file.
const FILE: &str = "agentfs.toml";

/// Which of the host's ports are refused where the instance has no listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Isolation {
    /// All of them.
    pub(crate) all: bool,
    /// Only these.
    pub(crate) ports: Vec<u16>,
}

/// What the nearest `agentfs.toml` says that mentions it, from `folder` up to the root of its checkout.
///
/// # Errors
/// The value is neither a truth value nor a list of ports.
pub(crate) fn of(folder: &Path, checkout: Option<&Checkout>) -> Result<Isolation, Failure> {
    let top = checkout.map_or(folder, |checkout| checkout.root.as_path());
    for folder in folder.ancestors() {
        let file = folder.join(FILE);
        // A missing file says nothing; a broken one is reported by whoever reads the name in it.
        let table = fs::read_to_string(&file).ok().and_then(|text| text.parse::<toml::Table>().ok());
        if let Some(value) = table.as_ref().and_then(|table| table.get("isolate")) {
            return read(value).ok_or_else(|| {
                let message = format!("cannot read `isolate` in {}: it is `{value}`", file.display());
                Failure::new(Exit::Usage, message).hint("write `isolate = true` or `isolate = [5432, 6379]`")
            });
        }
        if folder == top {
            break;
        }
    }
    Ok(Isolation::default())
}

fn read(value: &toml::Value) -> Option<Isolation> {
    if let Some(all) = value.as_bool() {
        return Some(Isolation { all, ports: Vec::new() });
    }
    let port = |value: &toml::Value| u16::try_from(value.as_integer()?).ok().filter(|port| *port > 0);
    Some(Isolation { all: false, ports: value.as_array()?.iter().map(port).collect::<Option<_>>()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_file_that_says_it_counts() {
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("web");
        fs::create_dir(&inner).unwrap();
        let checkout = Checkout { root: root.path().into(), repository: None, link: None, branch: None };
        let of = || of(&inner, Some(&checkout));
        assert_eq!(of().unwrap(), Isolation::default());
        fs::write(root.path().join(FILE), "isolate = true").unwrap();
        assert_eq!(of().unwrap(), Isolation { all: true, ports: vec![] });
        fs::write(inner.join(FILE), "name = 'web'").unwrap();
        assert!(of().unwrap().all);
        fs::write(inner.join(FILE), "isolate = [5432, 6379]").unwrap();
        assert_eq!(of().unwrap(), Isolation { all: false, ports: vec![5432, 6379] });
        for wrong in ["'yes'", "[0]", "[65536]", "['80']", "5432", "[-1]"] {
            fs::write(inner.join(FILE), format!("isolate = {wrong}")).unwrap();
            let failure = of().unwrap_err();
            assert!(failure.message.contains("web/agentfs.toml"), "{failure:?}");
        }
    }
}
