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
    let top = checkout.map_or(folder, |checkout| checkout.root.as_path());
    for folder in folder.ancestors() {
        if let Some(name) = READERS.iter().find_map(|(file, name)| name(&text(&folder.join(file))?)) {
            return Some(name);
        }
        if folder == top {
            break;
        }
    }
    None
}

/// How the name is found in the text of a manifest.
type NameReader = fn(&str) -> Option<String>;

const READERS: [(&str, NameReader); 4] = [
    ("agentfs.toml", |text| toml_name(text, &[])),
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
    fn without_a_checkout_only_the_folder_itself_counts() {
        let root = tempfile::tempdir().unwrap();
        write(&root.path().join("package.json"), r#"{"name": "outer"}"#);
        fs::create_dir(root.path().join("inner")).unwrap();
        assert_eq!(manifest_name(&root.path().join("inner"), None), None);
        assert_eq!(manifest_name(root.path(), None).as_deref(), Some("outer"));
    }
}
