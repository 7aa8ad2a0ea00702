//! The library that goes into wrapped programs: carried inside this binary, unpacked once per content.
use crate::exit::Exit;
use crate::hint::{Failure, io_hint};
use crate::settings::Settings;
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The library itself, built by `build.rs`.
pub(crate) const BYTES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/interpose.bin"));

/// Its content hash, the name of its folder: versions live side by side.
const HASH: &str = env!("AGENTFS_INTERPOSE_HASH");

/// Its file name, without a version: it identifies preload entries of other versions.
pub(crate) const FILE: &str = env!("AGENTFS_INTERPOSE_FILE");

/// Where root's programs load it from. Some change their user (`su`, `setpriv`, service managers) and load it
/// again. By then they cannot enter root's home, and the loader would complain on their stderr.
const ROOTS_FOLDER: &str = "/tmp/agentfs-0.lib";

/// Mode of a private folder.
const PRIVATE: u32 = 0o700;
/// Mode of a folder that everybody may read.
const READABLE: u32 = 0o755;

/// Unpacks the library if necessary and returns its path. If somebody else owns the folder from which root's
/// programs should load it, calls `warn`: they then load it from root's home, as long as they can enter it.
///
/// # Errors
/// It cannot be written, or only to places from which the loader would not load it.
pub(crate) fn unpack(settings: &Settings, warn: impl FnOnce(&str)) -> Result<PathBuf, Failure> {
    let own = settings.paths.lib.clone();
    if settings.uid == 0 && loads_from(Path::new(ROOTS_FOLDER)) {
        let private = unpack_to(&own, settings.uid, PRIVATE)?;
        return match readable(Path::new(ROOTS_FOLDER)) {
            Ok(path) => Ok(path),
            Err(failure) if loads_from(&own) => {
                warn(&format!("{}; programs that change their user will not load it", failure.message));
                Ok(private)
            }
            Err(failure) => Err(failure),
        };
    }
    let common = PathBuf::from(format!("/tmp/agentfs-{}", settings.uid));
    // The loader splits its list at blanks and colons and expands `$` (ld.so(8)). If the home's path has one
    // of them, the library is unpacked elsewhere.
    let folder = if loads_from(&own) {
        own
    } else {
        own_folder(&common, settings.uid, PRIVATE).map_err(|error| cannot(&common, &error))?;
        common.join("lib")
    };
    unpack_to(&folder, settings.uid, PRIVATE)
}

/// The library in a folder that everybody may read and only root may write to.
fn readable(folder: &Path) -> Result<PathBuf, Failure> {
    own_folder(folder, 0, READABLE).map_err(|error| cannot(folder, &error))?;
    unpack_to(folder, 0, READABLE)
}

fn unpack_to(folder: &Path, uid: u32, mode: u32) -> Result<PathBuf, Failure> {
    let path = folder.join(HASH).join(FILE);
    if !is_unpacked(&path, uid) {
        let written =
            write(&path, mode).and_then(|()| if mode == READABLE { open_to_all(&path) } else { Ok(()) });
        written.map_err(|error| cannot(&path, &error))?;
    }
    Ok(path)
}

/// Whether the loader takes a path as one entry and may map files there.
fn loads_from(folder: &Path) -> bool {
    let clean = folder.to_str().is_some_and(|text| !text.contains([' ', ':', ';', '$', '\n', '\t']));
    clean && !is_noexec(folder)
}

#[cfg(target_os = "linux")]
fn is_noexec(folder: &Path) -> bool {
    use nix::sys::statvfs::{FsFlags, statvfs};
    // The folder may not exist yet; its first existing parent is on the same file system.
    let found = folder.ancestors().find_map(|folder| statvfs(folder).ok());
    found.is_some_and(|found| found.flags().contains(FsFlags::ST_NOEXEC))
}

#[cfg(not(target_os = "linux"))]
fn is_noexec(_folder: &Path) -> bool {
    false
}

/// The hash in the path stands for the content; the size shows whether the file is complete.
fn is_unpacked(path: &Path, uid: u32) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| {
        found.is_file() && found.uid() == uid && u64::try_from(BYTES.len()) == Ok(found.len())
    })
}

/// Gives a library and its two folders the modes that they were meant to have, whatever the umask is.
fn open_to_all(path: &Path) -> io::Result<()> {
    path.ancestors().take(3).try_for_each(|path| fs::set_permissions(path, Permissions::from_mode(READABLE)))
}

fn write(path: &Path, mode: u32) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(mode).create(folder)?;
    let temporary = folder.join(format!(".{FILE}.{}", std::process::id()));
    let mut options = OpenOptions::new();
    let written = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o755)
        .open(&temporary)
        .and_then(|mut file| file.write_all(BYTES))
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Makes a folder below /tmp that only we can write to, or refuses an existing one that is not ours.
fn own_folder(folder: &Path, uid: u32, mode: u32) -> io::Result<()> {
    match DirBuilder::new().mode(mode).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        other => return other,
    }
    let found = fs::symlink_metadata(folder)?;
    if !found.is_dir() || found.uid() != uid || found.mode() & 0o777 & !mode != 0 {
        return Err(io::Error::other(format!("it exists but is not a folder of ours (mode {mode:o})")));
    }
    Ok(())
}

fn cannot(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Setup, format_args!("cannot unpack the interposer to {}: {error}", path.display()))
        .hint(io_hint(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_the_loader_would_split_is_not_used() {
        for folder in ["/home/my name/.agentfs/lib", "/home/a:b/lib", "/home/$ORIGIN/lib"] {
            assert!(!loads_from(Path::new(folder)), "{folder}");
        }
        assert!(loads_from(Path::new("/not-there/lib")));
    }

    #[test]
    fn a_place_that_somebody_else_has_taken_is_not_used() {
        if nix::unistd::geteuid().is_root() {
            let outer = tempfile::tempdir().unwrap();
            let folder = outer.path().join("agentfs-0.lib");
            fs::create_dir(&folder).unwrap();
            std::os::unix::fs::chown(&folder, Some(54_321), None).unwrap();
            assert!(readable(&folder).is_err());
            let link = outer.path().join("link");
            std::os::unix::fs::symlink(outer.path(), &link).unwrap();
            assert!(readable(&link).is_err());
            assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
            assert!(readable(&outer.path().join("free")).is_ok());
        } else {
            #[expect(clippy::print_stderr, reason = "the test runner shows it")]
            {
                eprintln!("skipped: only root can try this");
            }
        }
    }

    #[test]
    fn a_library_cut_short_is_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hash").join(FILE);
        let uid = nix::unistd::geteuid().as_raw();
        assert!(!is_unpacked(&path, uid));
        write(&path, PRIVATE).unwrap();
        assert!(is_unpacked(&path, uid) && !is_unpacked(&path, uid + 1));
        fs::write(&path, "x").unwrap();
        assert!(!is_unpacked(&path, uid));
        write(&path, PRIVATE).unwrap();
        assert_eq!(fs::read(&path).unwrap(), BYTES);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_common_folder_must_be_ours_alone() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("agentfs");
        let uid = nix::unistd::geteuid().as_raw();
        own_folder(&folder, uid, PRIVATE).unwrap();
        own_folder(&folder, uid, PRIVATE).unwrap();
        assert!(own_folder(&folder, uid + 1, PRIVATE).is_err());
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(own_folder(&folder, uid, PRIVATE).is_err());
    }
}
