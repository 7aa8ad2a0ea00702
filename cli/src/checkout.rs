//! What the files around the working directory say: the git checkout, its branch, what names the app. Only reads
//! files: starting git would take longer than all the rest of `wrap`.
use agentfs_system::git::{self, Git};
use serde_json::Value;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Bytes of a manifest that are read. A longer one is ignored.
const MANIFEST_BYTES: u64 = 1024 * 1024;

/// The git checkout around a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Checkout {
    /// Its folder.
    pub(crate) root: PathBuf,
    /// Name of the folder of the repository's main checkout: the same for all its worktrees.
    pub(crate) repository: Option<String>,
    /// The branch that is checked out, if any. Unknown if git's folder cannot be read.
    pub(crate) branch: Option<String>,
    /// What a linked worktree is linked to; `None` for a main checkout.
    pub(crate) link: Option<Link>,
}

/// What a linked worktree is linked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// Git's folder of the worktree, which stays when the worktree is moved.
    pub(crate) folder: PathBuf,
    /// The main checkout; `None` if the repository is bare.
    pub(crate) main: Option<PathBuf>,
    /// Unix milliseconds when the worktree was made. One that was removed and made again may have the same folders.
    pub(crate) made_ms: Option<u64>,
}

/// What names an app.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AppName {
    /// The name, as it is written there.
    pub(crate) raw: Option<String>,
    /// The file that has it, or the folder that is called so.
    pub(crate) from: Option<PathBuf>,
    /// The folder of `agentfs.toml`, where that is above the checkout or there is no checkout.
    pub(crate) root: Option<PathBuf>,
    /// What is wrong with `agentfs.toml`.
    pub(crate) problem: Option<String>,
}

/// The checkout around `folder`, if any.
pub(crate) fn find(folder: &Path) -> Option<Checkout> {
    folder.ancestors().find_map(read)
}

/// What names the app of `folder`: `agentfs.toml` at or above it, else the manifest or the folder of the checkout's
/// root. A linked worktree is named by what its main checkout has in the same place, so that all share one app.
pub(crate) fn app_name(folder: &Path, checkout: Option<&Checkout>) -> AppName {
    let main = checkout.and_then(|checkout| checkout.link.as_ref()?.main.as_deref().zip(Some(checkout)));
    let (seen, root) = match (main, checkout) {
        (Some((main, linked)), _) => {
            (main.join(folder.strip_prefix(&linked.root).unwrap_or(Path::new(""))), main.to_owned())
        }
        (None, Some(checkout)) => (folder.to_owned(), checkout.root.clone()),
        (None, None) => (folder.to_owned(), folder.to_owned()),
    };
    let mut found = AppName::default();
    for above in seen.ancestors() {
        let file = above.join("agentfs.toml");
        let name = match own_name(&file) {
            Ok(None) => continue,
            Ok(Some(name)) => name,
            Err(problem) => {
                found.problem.get_or_insert(problem);
                continue;
            }
        };
        let is_above = checkout.is_none() || (root.starts_with(above) && root != above);
        if is_above && checkout.is_none_or(|checkout| checkout.link.is_none()) {
            found.root = Some(above.to_owned());
        }
        match name {
            Some(name) => return AppName { raw: Some(name), from: Some(file), ..found },
            // Without a name it still says where the app's root is, if git does not.
            None if checkout.is_none() => return of_root(above, None, found),
            None => found.root = None,
        }
    }
    of_root(&root, checkout, found)
}

/// The name in the manifest of a root, else the repository's or the root's own.
fn of_root(root: &Path, checkout: Option<&Checkout>, found: AppName) -> AppName {
    for (file, name) in READERS {
        let file = root.join(file);
        if let Some(name) = text(&file).and_then(|text| name(&text)) {
            return AppName { raw: Some(name), from: Some(file), ..found };
        }
    }
    let raw = checkout.and_then(|checkout| checkout.repository.clone()).or_else(|| name_of(root));
    AppName { raw, from: Some(root.to_owned()), ..found }
}

/// How the name is found in the text of a manifest.
type NameReader = fn(&str) -> Option<String>;

const READERS: [(&str, NameReader); 3] = [
    ("package.json", json_name),
    ("Cargo.toml", |text| toml_name(text, &["package"])),
    ("pyproject.toml", |text| toml_name(text, &["project"]).or_else(|| toml_name(text, &["tool", "poetry"]))),
];

/// The name in `agentfs.toml`: `Ok(None)` if there is no such file, `Ok(Some(None))` if it has no name.
///
/// # Errors
/// What is wrong with the file.
fn own_name(file: &Path) -> Result<Option<Option<String>>, String> {
    let Some(table) = project_table(file)? else { return Ok(None) };
    let Some(value) = table.get("name") else { return Ok(Some(None)) };
    match value.as_str().and_then(usable) {
        Some(name) => Ok(Some(Some(name))),
        None => Err(format!("`name` in {} is not a name: it is `{value}`", file.display())),
    }
}

/// What `agentfs.toml` says; `None` if there is no such file.
///
/// # Errors
/// What is wrong with the file.
pub(crate) fn project_table(file: &Path) -> Result<Option<toml::Table>, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("cannot read {}: {error}", file.display());
    match fs::metadata(file) {
        Ok(metadata) if metadata.is_file() => {}
        // A folder that may not be entered hides its files from everybody else as well.
        _ => return Ok(None),
    }
    let text = match read_text(file) {
        Ok(Some(text)) => text,
        Ok(None) => return Err(wrong(&format_args!("it is longer than {MANIFEST_BYTES} bytes"))),
        Err(error) => return Err(wrong(&error)),
    };
    text.parse().map(Some).map_err(|error: toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        wrong(&format_args!("line {line}: {}", error.message()))
    })
}

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
    let Git { folder, common } = git::at(root)?;
    let Some(head) = git::text(&folder.join("HEAD")) else { return lost(root, folder) };
    let branch = head.trim().strip_prefix("ref: refs/heads/").map(str::to_owned);
    // A submodule has no common folder: it is its own checkout.
    let Some(common) = common else {
        return Some(Checkout { root: root.to_owned(), repository: name_of(root), branch, link: None });
    };
    let common = common.canonicalize().ok();
    let link = Link {
        made_ms: made_ms(&folder),
        folder: folder.canonicalize().unwrap_or(folder),
        main: common.as_deref().and_then(main_checkout),
    };
    let repository = common.as_deref().and_then(repository_name);
    Some(Checkout { root: root.to_owned(), repository, branch, link: Some(link) })
}

/// A linked worktree whose git folder `folder` cannot be read: its repository was moved, or is closed to us. It is not part
/// of a checkout above it, which may be another fork's.
fn lost(root: &Path, folder: PathBuf) -> Option<Checkout> {
    if root.join(".git").is_dir() || folder.parent()?.file_name()? != "worktrees" {
        return None;
    }
    let repository = repository_name(folder.parent()?.parent()?);
    let link = Link { folder, main: None, made_ms: None };
    Some(Checkout { root: root.to_owned(), repository, branch: None, link: Some(link) })
}

/// When the worktree with git's folder `folder` was made: git writes this file then, and never again.
fn made_ms(folder: &Path) -> Option<u64> {
    let made = fs::metadata(folder.join("commondir")).and_then(|file| file.modified()).ok()?;
    u64::try_from(made.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}

/// The main checkout of the repository in the folder `common`, unless the repository is bare.
fn main_checkout(common: &Path) -> Option<PathBuf> {
    let config = git::text(&common.join("config")).unwrap_or_default();
    let is_bare = config.lines().any(|line| line.replace(char::is_whitespace, "") == "bare=true");
    (common.file_name()? == ".git" && !is_bare).then(|| common.parent().map(Path::to_owned))?
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
    read_text(path).ok()?
}

/// The text of a file, `None` if it is too long.
fn read_text(path: &Path) -> io::Result<Option<String>> {
    let mut text = String::new();
    let length = File::open(path)?.take(MANIFEST_BYTES + 1).read_to_string(&mut text)?;
    Ok(u64::try_from(length).is_ok_and(|length| length <= MANIFEST_BYTES).then_some(text))
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
        assert_eq!(main.link, None);
        fs::create_dir_all(root.path().join("cart/deep/down")).unwrap();
        let cart = find(&root.path().join("cart/deep/down")).unwrap();
        assert_eq!(
            (cart.repository.as_deref(), cart.branch.as_deref()),
            (Some("shop"), Some("feature/cart"))
        );
        let link = cart.link.unwrap();
        assert!(cart.root.ends_with("cart") && link.folder.ends_with("shop/.git/worktrees/cart"));
        assert_eq!(link.main.unwrap(), root.path().canonicalize().unwrap().join("shop"));
        let loose = find(&root.path().join("loose")).unwrap();
        assert!(loose.branch.is_none() && loose.link.is_some());
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
        assert_eq!((sub.repository.as_deref(), sub.link), (Some("sub"), None));
    }

    fn name(folder: &Path) -> Option<String> {
        app_name(folder, find(folder).as_ref()).raw
    }

    /// "a monorepo's packages are one app"
    #[test]
    fn the_root_of_the_checkout_names_the_app_unless_agentfs_toml_does() {
        let root = repository();
        let shop = root.path().join("shop");
        write(&shop.join("api/package.json"), r#"{"name": "api"}"#);
        assert_eq!(name(&shop.join("api")).as_deref(), Some("shop"));
        write(&shop.join("Cargo.toml"), "[workspace]\nmembers = []\n");
        write(&shop.join("pyproject.toml"), "broken = = \n");
        assert_eq!(name(&shop.join("api")).as_deref(), Some("shop"));
        write(&shop.join("package.json"), r#"{"name": "@acme/shop"}"#);
        assert_eq!(name(&shop.join("api")).as_deref(), Some("@acme/shop"));
        write(&shop.join("web/agentfs.toml"), "name = 'front'\n");
        assert_eq!(name(&shop.join("web/deep")).as_deref(), Some("front"));
        assert_eq!(name(&shop.join("api")).as_deref(), Some("@acme/shop"));
    }

    /// "for a linked worktree the app comes from what the main checkout would give"
    #[test]
    fn a_worktree_has_the_app_of_its_main_checkout() {
        let root = repository();
        let (shop, cart) = (root.path().join("shop"), root.path().join("cart"));
        write(&cart.join("package.json"), r#"{"name": "renamed"}"#);
        assert_eq!(name(&cart).as_deref(), Some("shop"));
        write(&shop.join("package.json"), r#"{"name": "market"}"#);
        write(&shop.join("web/agentfs.toml"), "name = 'front'\n");
        fs::create_dir_all(cart.join("web")).unwrap();
        assert_eq!(name(&cart).as_deref(), Some("market"));
        assert_eq!(name(&cart.join("web")).as_deref(), Some("front"));
        // Nothing is checked out in a bare repository, so the worktree names itself.
        write(&shop.join(".git/config"), "[core]\n\tbare = true\n");
        assert_eq!(name(&cart).as_deref(), Some("renamed"));
    }

    #[test]
    fn agentfs_toml_above_is_the_root_without_git() {
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("outer/inner");
        fs::create_dir_all(&inner).unwrap();
        write(&root.path().join("outer/package.json"), r#"{"name": "outside"}"#);
        let alone = app_name(&inner, None);
        assert_eq!((alone.raw.as_deref(), alone.root), (Some("inner"), None));
        write(&root.path().join("outer/agentfs.toml"), "main = 80\n");
        let marked = app_name(&inner, None);
        assert_eq!(marked.raw.as_deref(), Some("outside"));
        assert_eq!(marked.root.unwrap(), root.path().join("outer"));
        write(&root.path().join("outer/agentfs.toml"), "name = 'joint'\n");
        assert_eq!(app_name(&inner, None).raw.as_deref(), Some("joint"));
    }

    #[test]
    fn a_broken_agentfs_toml_is_named_and_left_out() {
        let root = repository();
        let file = root.path().join("shop/agentfs.toml");
        write(&file, "name = shop\n");
        let found = app_name(&root.path().join("shop"), find(&root.path().join("shop")).as_ref());
        assert_eq!(found.raw.as_deref(), Some("shop"));
        assert!(found.problem.unwrap().contains("agentfs.toml"));
    }
}
