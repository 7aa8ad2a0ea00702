//! What the files around the working directory say: the nearest manifest's name, the git checkout, its
//! branch. Only reads files: starting git would take longer than all the rest of `wrap`.
use serde_json::Value;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Bytes of a manifest that are read. A longer one is ignored.
const MANIFEST_BYTES: u64 = 1024 * 1024;

/// The git checkout around a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Checkout {
    /// Its folder.
    pub(crate) root: PathBuf,
    /// Name of the folder of the repository's main checkout: the same for all its worktrees.
    pub(crate) repository: Option<String>,
    /// Whether it is a linked worktree.
    pub(crate) linked: bool,
    /// The branch that is checked out, if any.
    pub(crate) branch: Option<String>,
}

/// The checkout around `folder`, if any.
pub(crate) fn find(folder: &Path) -> Option<Checkout> {
    folder.ancestors().find_map(read)
}

/// The name in the nearest manifest, from `folder` up to the root of its checkout.
pub(crate) fn manifest_name(folder: &Path, checkout: Option<&Checkout>) -> Option<String> {
    up_to_root(folder, checkout)
        .find_map(|folder| READERS.iter().find_map(|(file, name)| name(&text(&folder.join(file))?)))
}

/// `main = PORT` of the nearest agentfs.toml that has it, from `folder` up to the root of its checkout. `Err`: the file
/// whose `main` is not a port.
pub(crate) fn main_port(folder: &Path, checkout: Option<&Checkout>) -> Result<Option<u16>, PathBuf> {
    for folder in up_to_root(folder, checkout) {
        let file = folder.join(OWN_FILE);
        let table = text(&file).and_then(|text| text.parse::<toml::Table>().ok());
        if let Some(main) = table.as_ref().and_then(|table| table.get("main")) {
            let port = main.as_integer().and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
            return port.map(Some).ok_or(file);
        }
    }
    Ok(None)
}

/// `folder` and those above it, up to the root of its checkout; without a checkout, only `folder`.
fn up_to_root<'a>(folder: &'a Path, checkout: Option<&'a Checkout>) -> impl Iterator<Item = &'a Path> {
    let top = checkout.map_or(folder, |checkout| checkout.root.as_path());
    folder.ancestors().take_while(move |folder| folder.starts_with(top))
}

/// The project file of agentfs itself.
const OWN_FILE: &str = "agentfs.toml";

/// How the name is found in the text of a manifest.
type NameReader = fn(&str) -> Option<String>;

const READERS: [(&str, NameReader); 4] = [
    (OWN_FILE, |text| toml_name(text, &[])),
    ("package.json", json_name),
    ("Cargo.toml", |text| toml_name(text, &["package"])),
    ("pyproject.toml", |text| toml_name(text, &["project"]).or_else(|| toml_name(text, &["tool", "poetry"]))),
];

fn json_name(text: &str) -> Option<String> {
    let value: Value = serde_json::from_str(text).ok()?;
    usable(value.get("name")?.as_str()?)
}

fn toml_name(text: &str, tables: &[&str]) -> Option<String> {
    let root: toml::Table = text.parse().ok()?;
    let mut table = &root;
    for name in tables {
        table = table.get(*name)?.as_table()?;
    }
    usable(table.get("name")?.as_str()?)
}

fn usable(name: &str) -> Option<String> {
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

fn read(root: &Path) -> Option<Checkout> {
    let git = root.join(".git");
    let (folder, linked) = if git.is_dir() {
        (git, None)
    } else {
        let pointer = text(&git)?;
        let folder = root.join(pointer.trim().strip_prefix("gitdir:")?.trim());
        // A submodule has such a file too, but no common folder: it is its own checkout.
        let common = text(&folder.join("commondir")).map(|common| folder.join(common.trim()));
        (folder, common)
    };
    let head = text(&folder.join("HEAD"))?;
    let branch = head.trim().strip_prefix("ref: refs/heads/").map(str::to_owned);
    let repository = match &linked {
        None => name_of(root),
        Some(common) => common.canonicalize().ok().and_then(|common| repository_name(&common)),
    };
    Some(Checkout { root: root.to_owned(), repository, linked: linked.is_some(), branch })
}

/// The name of the repository in the folder `common`: `shop/.git`, `shop/.bare` or `shop.git`.
fn repository_name(common: &Path) -> Option<String> {
    let name = name_of(common)?;
    if name.starts_with('.') {
        return name_of(common.parent()?);
    }
    Some(name.strip_suffix(".git").unwrap_or(&name).to_owned())
}

fn name_of(folder: &Path) -> Option<String> {
    Some(folder.file_name()?.to_string_lossy().into_owned())
}

fn text(path: &Path) -> Option<String> {
    // A FIFO with that name must not block us.
    if !fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    let length = File::open(path).ok()?.take(MANIFEST_BYTES + 1).read_to_string(&mut text).ok()?;
    (u64::try_from(length).ok()? <= MANIFEST_BYTES).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// `shop` on main, with the worktree `cart` on `feature/cart` and the detached one `loose`.
    fn repository() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let git = root.path().join("shop/.git");
        write(&git.join("HEAD"), "ref: refs/heads/main\n");
        for (name, head) in [("cart", "ref: refs/heads/feature/cart\n"), ("loose", "0123456789abcdef\n")] {
            let admin = git.join("worktrees").join(name);
            write(&admin.join("HEAD"), head);
            write(&admin.join("commondir"), "../..\n");
            write(&root.path().join(name).join(".git"), &format!("gitdir: {}\n", admin.display()));
        }
        root
    }

    #[test]
    fn a_worktree_knows_its_repository_and_branch() {
        let root = repository();
        let main = find(&root.path().join("shop")).unwrap();
        assert_eq!((main.repository.as_deref(), main.branch.as_deref()), (Some("shop"), Some("main")));
        assert!(!main.linked);
        fs::create_dir_all(root.path().join("cart/deep/down")).unwrap();
        let cart = find(&root.path().join("cart/deep/down")).unwrap();
        assert_eq!(
            (cart.repository.as_deref(), cart.branch.as_deref()),
            (Some("shop"), Some("feature/cart"))
        );
        assert!(cart.linked && cart.root.ends_with("cart"));
        let loose = find(&root.path().join("loose")).unwrap();
        assert_eq!((loose.branch, loose.linked), (None, true));
    }

    #[test]
    fn bare_repositories_and_submodules_have_names_too() {
        assert_eq!(repository_name(Path::new("/srv/shop.git")).as_deref(), Some("shop"));
        assert_eq!(repository_name(Path::new("/srv/shop/.bare")).as_deref(), Some("shop"));
        let root = tempfile::tempdir().unwrap();
        let admin = root.path().join("outer/.git/modules/sub");
        write(&admin.join("HEAD"), "ref: refs/heads/main\n");
        write(&root.path().join("outer/sub/.git"), "gitdir: ../.git/modules/sub\n");
        let sub = find(&root.path().join("outer/sub")).unwrap();
        assert_eq!((sub.repository.as_deref(), sub.linked), (Some("sub"), false));
    }

    #[test]
    fn the_nearest_manifest_with_a_name_counts() {
        let root = repository();
        let shop = root.path().join("shop");
        write(&shop.join("package.json"), r#"{"name": "@acme/shop"}"#);
        write(&shop.join("api/Cargo.toml"), "[workspace]\nmembers = []\n");
        write(&shop.join("web/pyproject.toml"), "[tool.poetry]\nname = 'web'\n");
        write(&shop.join("web/Cargo.toml"), "broken = = \n");
        let name = |folder: &str| {
            let folder = shop.join(folder);
            manifest_name(&folder, find(&folder).as_ref())
        };
        assert_eq!(name("api").as_deref(), Some("@acme/shop"));
        assert_eq!(name("web").as_deref(), Some("web"));
        write(&shop.join("web/agentfs.toml"), "name = 'front'\n");
        assert_eq!(name("web").as_deref(), Some("front"));
    }

    #[test]
    fn the_nearest_agentfs_toml_says_the_main_port() {
        let root = repository();
        let shop = root.path().join("shop");
        let port = |folder: &str| {
            let folder = shop.join(folder);
            main_port(&folder, find(&folder).as_ref())
        };
        fs::create_dir_all(shop.join("web/src")).unwrap();
        write(&root.path().join("agentfs.toml"), "main = 1\n");
        assert_eq!(port("web"), Ok(None), "it is outside of the checkout");
        write(&shop.join("agentfs.toml"), "main = 3000\n");
        write(&shop.join("web/agentfs.toml"), "name = 'front'\n");
        assert_eq!((port(""), port("web/src")), (Ok(Some(3000)), Ok(Some(3000))));
        write(&shop.join("web/agentfs.toml"), "main = 5173\n");
        assert_eq!(port("web/src"), Ok(Some(5173)));
        for bad in ["'5173'", "0", "65536", "-1", "true"] {
            let file = shop.join("web/agentfs.toml");
            write(&file, &format!("main = {bad}\n"));
            assert_eq!(port("web"), Err(file), "{bad}");
        }
    }

    #[test]
    fn without_a_checkout_only_the_folder_itself_counts() {
        let root = tempfile::tempdir().unwrap();
        write(&root.path().join("package.json"), r#"{"name": "outer"}"#);
        fs::create_dir(root.path().join("inner")).unwrap();
        assert_eq!(manifest_name(&root.path().join("inner"), None), None);
        assert_eq!(manifest_name(root.path(), None).as_deref(), Some("outer"));
    }
}
