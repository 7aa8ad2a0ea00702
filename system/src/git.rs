//! The git checkout in a folder, from its files (gitrepository-layout(5)): starting git would take longer than all the
//! rest of a command.
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Bytes of one of git's small files that are read. A longer one is ignored.
const FILE_BYTES: u64 = 1024 * 1024;

/// A checkout's folders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Git {
    /// Its own folder: `.git`, or for a linked worktree and a submodule the one that its `.git` names.
    pub folder: PathBuf,
    /// The folder that all worktrees of the repository share, as a linked worktree names it. A submodule has none.
    pub common: Option<PathBuf>,
}

/// The checkout whose root is `root`.
pub fn at(root: &Path) -> Option<Git> {
    let git = root.join(".git");
    if git.is_dir() {
        return Some(Git { folder: git, common: None });
    }
    let pointer = text(&git)?;
    let folder = root.join(pointer.trim().strip_prefix("gitdir:")?.trim());
    let common = text(&folder.join("commondir")).map(|common| folder.join(common.trim()));
    Some(Git { folder, common })
}

/// The text of a regular file that is not too long. A FIFO with that name does not block.
pub fn text(path: &Path) -> Option<String> {
    if !fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    let length = File::open(path).ok()?.take(FILE_BYTES + 1).read_to_string(&mut text).ok()?;
    u64::try_from(length).is_ok_and(|length| length <= FILE_BYTES).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linked_worktree_names_both_folders() {
        let root = tempfile::tempdir().unwrap();
        let admin = root.path().join("shop/.git/worktrees/cart");
        fs::create_dir_all(&admin).unwrap();
        fs::create_dir(root.path().join("cart")).unwrap();
        assert_eq!(at(&root.path().join("cart")), None);
        fs::write(root.path().join("cart/.git"), format!("gitdir: {}\n", admin.display())).unwrap();
        let alone = Git { folder: admin.clone(), common: None };
        assert_eq!(at(&root.path().join("cart")), Some(alone), "as a submodule");
        fs::write(admin.join("commondir"), "../..\n").unwrap();
        let cart = at(&root.path().join("cart")).unwrap();
        assert_eq!(
            cart.common.unwrap().canonicalize().unwrap(),
            root.path().canonicalize().unwrap().join("shop/.git")
        );
        let shop = at(&root.path().join("shop")).unwrap();
        assert_eq!(shop, Git { folder: root.path().join("shop/.git"), common: None });
    }

    #[test]
    fn what_is_no_regular_file_is_not_read() {
        let root = tempfile::tempdir().unwrap();
        let fifo = root.path().join(".git");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!((text(&fifo), at(root.path())), (None, None));
        fs::write(root.path().join("long"), vec![b'a'; 1024 * 1024 + 1]).unwrap();
        assert_eq!(text(&root.path().join("long")), None);
    }
}
