//! Creates the folders of one AGENTFS_HOME and refuses folders that are not ours. Has no state. Called by the
//! collector at its start, and by `agentfs wrap`, which needs a run dir even before a collector runs.
use crate::error::{Error, FolderReason};
use agentfs_wire::paths::Paths;
use std::fs::{self, DirBuilder, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

/// Permission bits of our folders: no access for others.
pub const PRIVATE: u32 = 0o700;

/// Creates home, base and run dir if they are missing, and checks those that exist.
///
/// # Errors
/// [`Error::Folder`] for a folder that is a file, a foreign link or somebody else's; [`Error::File`] if it
/// cannot be created.
pub fn prepare(paths: &Paths) -> Result<(), Error> {
    make_parents(&paths.home)?;
    make(&paths.home)?;
    check_home(&paths.home)?;
    if paths.is_short() {
        if let Some(parent) = paths.base.parent() {
            make(parent)?;
            check_private(parent)?;
        }
        make(&paths.base)?;
        check_private(&paths.base)?;
        point(paths)?;
    }
    for folder in [&paths.run, &paths.keep] {
        make(folder)?;
        check_private(folder)?;
    }
    Ok(())
}

/// Whether the file of `metadata` belongs to us.
pub fn is_ours(metadata: &Metadata) -> bool {
    metadata.uid() == nix::unistd::geteuid().as_raw()
}

fn make_parents(home: &Path) -> Result<(), Error> {
    match home.parent() {
        Some(parent) => fs::create_dir_all(parent).map_err(|source| error("create", parent, source)),
        None => Ok(()),
    }
}

fn make(folder: &Path) -> Result<(), Error> {
    match DirBuilder::new().mode(PRIVATE).create(folder) {
        Ok(()) => Ok(()),
        // The checks judge what exists.
        Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(source) => Err(error("create", folder, source)),
    }
}

/// The user may have made the home: others may read it if the user wants, but not write to it.
fn check_home(home: &Path) -> Result<(), Error> {
    let metadata = fs::metadata(home).map_err(|source| error("read", home, source))?;
    owned_folder(home, &metadata)?;
    let mode = metadata.mode() & 0o7777;
    if mode & 0o002 != 0 {
        return Err(refuse(home, FolderReason::Writable { mode }));
    }
    Ok(())
}

/// A folder of sockets: not a link, ours, and closed to others.
fn check_private(folder: &Path) -> Result<(), Error> {
    let own = fs::symlink_metadata(folder).map_err(|source| error("read", folder, source))?;
    if own.is_symlink() && !is_ours(&own) {
        return Err(refuse(folder, FolderReason::ForeignLink));
    }
    let metadata = match fs::metadata(folder) {
        Ok(metadata) => metadata,
        Err(_) if own.is_symlink() => return Err(refuse(folder, FolderReason::ForeignLink)),
        Err(source) => return Err(error("read", folder, source)),
    };
    owned_folder(folder, &metadata)?;
    if metadata.mode() & 0o777 != PRIVATE {
        fs::set_permissions(folder, Permissions::from_mode(PRIVATE))
            .map_err(|source| error("close to others", folder, source))?;
    }
    Ok(())
}

fn owned_folder(folder: &Path, metadata: &Metadata) -> Result<(), Error> {
    if !metadata.is_dir() {
        return Err(refuse(folder, FolderReason::NotAFolder));
    }
    if !is_ours(metadata) {
        return Err(refuse(folder, FolderReason::Foreign { owner: metadata.uid() }));
    }
    Ok(())
}

/// Makes `home/run` a link to the short run dir, so that people find the sockets where the
/// documentation says.
fn point(paths: &Paths) -> Result<(), Error> {
    let link = paths.home.join("run");
    match std::os::unix::fs::symlink(&paths.run, &link) {
        Ok(()) => return Ok(()),
        Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {}
        Err(source) => return Err(error("link", &link, source)),
    }
    match fs::read_link(&link) {
        Ok(target) if target == paths.run => Ok(()),
        Ok(_) => Err(refuse(&link, FolderReason::ForeignLink)),
        Err(_) => Err(refuse(&link, FolderReason::NotAFolder)),
    }
}

fn refuse(path: &Path, reason: FolderReason) -> Error {
    Error::Folder { path: path.to_owned(), reason }
}

fn error(action: &'static str, path: &Path, source: io::Error) -> Error {
    Error::File { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(home: &Path) -> Paths {
        Paths::new(&home.canonicalize().unwrap(), nix::unistd::geteuid().as_raw())
    }

    #[test]
    fn folders_are_made_private() {
        let home = tempfile::tempdir_in("/tmp").unwrap();
        let paths = paths(home.path());
        prepare(&paths).unwrap();
        prepare(&paths).unwrap();
        assert_eq!(fs::metadata(&paths.run).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_run_dir_that_is_open_to_others_is_closed() {
        let home = tempfile::tempdir_in("/tmp").unwrap();
        let paths = paths(home.path());
        fs::create_dir(&paths.run).unwrap();
        fs::set_permissions(&paths.run, Permissions::from_mode(0o777)).unwrap();
        prepare(&paths).unwrap();
        assert_eq!(fs::metadata(&paths.run).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_run_dir_that_is_a_file_or_a_dangling_link_is_refused() {
        let home = tempfile::tempdir_in("/tmp").unwrap();
        let paths = paths(home.path());
        fs::write(&paths.run, "").unwrap();
        let message = prepare(&paths).unwrap_err().to_string();
        assert!(message.contains("run") && message.contains("not a folder"), "{message}");
        fs::remove_file(&paths.run).unwrap();
        std::os::unix::fs::symlink("/nowhere", &paths.run).unwrap();
        assert!(matches!(prepare(&paths), Err(Error::Folder { reason: FolderReason::ForeignLink, .. })));
    }

    #[test]
    fn a_link_to_a_folder_of_somebody_else_is_refused() {
        if nix::unistd::geteuid().is_root() {
            let home = tempfile::tempdir_in("/tmp").unwrap();
            let other = tempfile::tempdir_in("/tmp").unwrap();
            nix::unistd::chown(other.path(), Some(12_345.into()), None).unwrap();
            let paths = paths(home.path());
            std::os::unix::fs::symlink(other.path(), &paths.run).unwrap();
            let message = prepare(&paths).unwrap_err().to_string();
            assert!(message.contains("12345"), "{message}");
        } else {
            #[expect(clippy::print_stderr, reason = "the test runner shows it")]
            {
                eprintln!("skipped: only root can try this");
            }
        }
    }

    #[test]
    fn a_deep_home_leads_to_a_short_run_dir() {
        let outer = tempfile::tempdir_in("/tmp").unwrap();
        let home = outer.path().join("a-very-deep-folder-for-a-home-that-no-socket-path-could-hold");
        fs::create_dir(&home).unwrap();
        let paths = paths(&home);
        assert!(paths.is_short());
        prepare(&paths).unwrap();
        prepare(&paths).unwrap();
        assert_eq!(fs::read_link(home.join("run")).unwrap(), paths.run);
        fs::remove_dir_all(&paths.base).unwrap();
    }

    #[test]
    fn a_home_of_somebody_else_is_refused() {
        if nix::unistd::geteuid().is_root() {
            let home = tempfile::tempdir_in("/tmp").unwrap();
            nix::unistd::chown(home.path(), Some(12_345.into()), None).unwrap();
            let error = prepare(&paths(home.path())).unwrap_err();
            let foreign = FolderReason::Foreign { owner: 12_345 };
            assert!(matches!(error, Error::Folder { reason, .. } if reason == foreign), "{error}");
            assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0, "nothing was made in it");
        } else {
            #[expect(clippy::print_stderr, reason = "the test runner shows it")]
            {
                eprintln!("skipped: only root can try this");
            }
        }
    }
}
