//! Finds the program to start, as execvp(3) would, and checks whether it can load the library. Reads at most
//! a few hundred bytes of it.
use crate::exit::Exit;
use crate::hint::Failure;
use agentfs_wire::elf::{self, Look, Reach};
use agentfs_wire::env;
use agentfs_wire::notice::Why;
use nix::unistd::{AccessFlags, access};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Where to search for programs if `PATH` is not set, as in execvp(3).
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// Depth of scripts that run scripts at which the kernel gives up (execve(2)).
const INTERPRETERS: usize = 4;

/// Bytes of a file's beginning that the kernel reads for `#!` (execve(2)).
const HEAD_BYTES: u64 = 256;

/// The path of this binary. If the file was replaced, the path of the new one.
pub(crate) fn own_binary() -> std::io::Result<PathBuf> {
    let path = std::env::current_exe()?;
    let text = path.to_string_lossy();
    // proc_pid_exe(5): the kernel marks a removed file like this.
    Ok(text.strip_suffix(" (deleted)").map_or_else(|| path.clone(), PathBuf::from))
}

/// Finds the program called `name`.
///
/// # Errors
/// 127 if it is not found, 126 if it cannot be executed.
pub(crate) fn find(name: &OsStr, search_path: Option<&OsStr>) -> Result<PathBuf, Failure> {
    if name.is_empty() {
        return Err(Failure::new(Exit::NoProgram, "cannot run an empty command"));
    }
    let shown = Path::new(name).display();
    if name.as_bytes().contains(&b'/') {
        return match executable(Path::new(name)) {
            Found::Yes => Ok(PathBuf::from(name)),
            Found::Missing => Err(Failure::new(Exit::NoProgram, format_args!("cannot find {shown}"))),
            Found::Denied(why) => Err(denied(Path::new(name), why)),
        };
    }
    let default = OsString::from(DEFAULT_PATH);
    let mut refused = None;
    for folder in std::env::split_paths(search_path.unwrap_or(&default)) {
        // An empty entry is the working directory.
        let folder = if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder };
        let path = folder.join(name);
        match executable(&path) {
            Found::Yes => return Ok(path),
            Found::Missing => {}
            Found::Denied(why) => refused = refused.or(Some((path, why))),
        }
    }
    Err(match refused {
        Some((path, why)) => denied(&path, why),
        None => Failure::new(Exit::NoProgram, format_args!("cannot find the program `{shown}`"))
            .hint("check that it is installed and that its folder is in PATH"),
    })
}

/// Why a program that was found could not be started.
pub(crate) fn cannot_start(path: &Path, error: &std::io::Error) -> Failure {
    let exit = match error.kind() {
        std::io::ErrorKind::NotFound => Exit::NoProgram,
        _ => Exit::NotExecutable,
    };
    let failure = Failure::new(exit, format_args!("cannot execute {}: {error}", path.display()));
    match error.kind() {
        std::io::ErrorKind::NotFound if path.exists() => {
            failure.hint("install the interpreter that its first line names")
        }
        _ => failure,
    }
}

/// Why the calls of the program at `path` cannot be intercepted; `None` if they seem to be.
pub(crate) fn beyond_reach(path: &Path) -> Option<Why> {
    let (file, reach) = reach(path)?;
    match reach {
        Reach::Static => Some(Why::Static),
        Reach::Go => Some(Why::Go),
        Reach::OtherMachine => Some(Why::OtherMachine),
        Reach::Loads | Reach::Sanitized => gains_rights(&file).then_some(Why::GainsRights),
    }
}

/// Adds what the program at `path` needs to run with the library: an option for AddressSanitizer, after the
/// program's own options.
pub(crate) fn settle(path: &Path, variables: &mut Vec<(OsString, OsString)>) {
    if !matches!(reach(path), Some((_, Reach::Sanitized))) {
        return;
    }
    let mut options = OsString::new();
    variables.retain_mut(|(key, value)| {
        let own = key == env::ASAN_OPTIONS;
        if own && !value.is_empty() {
            options = std::mem::take(value);
            options.push(":");
        }
        !own
    });
    options.push(env::ASAN_ANY_ORDER);
    variables.push((env::ASAN_OPTIONS.into(), options));
}

/// The file that is really started for `path` (for a script, its interpreter), and whether it can load the
/// library.
fn reach(path: &Path) -> Option<(File, Reach)> {
    let mut path = path.to_owned();
    for _ in 0..INTERPRETERS {
        let file = File::open(&path).ok()?;
        let mut head = Vec::new();
        (&file).take(HEAD_BYTES).read_to_end(&mut head).ok()?;
        if let Some(word) = elf::interpreter(&head) {
            path = PathBuf::from(OsStr::from_bytes(word));
            continue;
        }
        let reach = elf::reach(Look::Close, |offset, buffer| file.read_at(buffer, offset).unwrap_or(0))?;
        return Some((file, reach));
    }
    None
}

/// Whether executing a file changes the user or the group, or gains capabilities (execve(2)): then the loader
/// ignores our library (ld.so(8), secure-execution mode).
#[cfg(target_os = "linux")]
fn gains_rights(file: &File) -> bool {
    use std::os::unix::fs::MetadataExt;
    let Ok(metadata) = file.metadata() else { return false };
    let (user, group) = (nix::unistd::geteuid(), nix::unistd::getegid());
    // Without group execute permission, the set-gid bit has another meaning (inode(7)).
    let gains = (metadata.mode() & 0o4000 != 0 && metadata.uid() != user.as_raw())
        || (metadata.mode() & 0o2010 == 0o2010 && metadata.gid() != group.as_raw())
        || (!user.is_root()
            && rustix::fs::fgetxattr(file, c"security.capability", &mut [0_u8; 64][..])
                .is_ok_and(|size| size > 0));
    gains && !nix::sys::prctl::get_no_new_privs().unwrap_or(false)
}

/// macOS: dyld ignores the library in protected programs; `protection` checks that.
#[cfg(not(target_os = "linux"))]
fn gains_rights(_file: &File) -> bool {
    false
}

enum Found {
    Yes,
    Missing,
    Denied(&'static str),
}

fn executable(path: &Path) -> Found {
    use std::io::ErrorKind;
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => Found::Denied("it is a folder"),
        // A FIFO or a device: even opening it to check it is not allowed.
        Ok(found) if !found.is_file() => Found::Denied("it is not a regular file"),
        Ok(_) if access(path, AccessFlags::X_OK).is_err() => Found::Denied("permission denied"),
        Ok(_) => Found::Yes,
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Found::Denied("permission denied"),
        Err(_) => Found::Missing,
    }
}

fn denied(path: &Path, why: &str) -> Failure {
    let failure = Failure::new(Exit::NotExecutable, format_args!("cannot execute {}: {why}", path.display()));
    if why == "permission denied" {
        failure.hint(format_args!("to make a script executable, run `chmod +x {}`", path.display()))
    } else {
        failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn programs_are_found_as_a_shell_finds_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("plain"), "").unwrap();
        fs::write(path("run"), "").unwrap();
        fs::set_permissions(path("run"), Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(path("sub")).unwrap();
        let search = OsString::from(format!("/nowhere:{}", folder.path().display()));
        let exit = |name: &str| find(OsStr::new(name), Some(&search)).map_err(|failure| failure.exit);
        assert_eq!(exit("run"), Ok(path("run")));
        assert_eq!(exit("plain"), Err(Exit::NotExecutable));
        assert_eq!(exit("sub"), Err(Exit::NotExecutable));
        assert_eq!(exit("missing"), Err(Exit::NoProgram));
        assert_eq!(exit(""), Err(Exit::NoProgram));
        assert_eq!(exit("/nowhere/at-all"), Err(Exit::NoProgram));
        assert_eq!(exit(path("plain").to_str().unwrap()), Err(Exit::NotExecutable));
    }

    #[test]
    fn what_is_beyond_reach_is_seen_through_scripts() {
        assert_eq!(beyond_reach(Path::new("/bin/sh")), None);
        assert_eq!(beyond_reach(Path::new("/no/such/program")), None);
        let folder = tempfile::tempdir().unwrap();
        let narrow = folder.path().join("narrow");
        fs::write(&narrow, b"\x7fELF\x01\x01").unwrap();
        assert_eq!(beyond_reach(&narrow), Some(Why::OtherMachine));
        let script = folder.path().join("script");
        fs::write(&script, format!("#!{} -x\n", narrow.display())).unwrap();
        assert_eq!(beyond_reach(&script), Some(Why::OtherMachine));
        let circle = folder.path().join("circle");
        fs::write(&circle, format!("#!{}\n", circle.display())).unwrap();
        assert_eq!(beyond_reach(&circle), None);
    }

    /// The kernel says the same of a script whose interpreter is missing as of a missing program.
    #[test]
    fn a_missing_interpreter_is_told_from_a_refused_one() {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("script");
        fs::write(&script, "#!/no/such/interpreter\n").unwrap();
        fs::set_permissions(&script, Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find(script.as_os_str(), None).map_err(|failure| failure.exit), Ok(script.clone()));
        for (kind, expected) in [
            (std::io::ErrorKind::NotFound, Exit::NoProgram),
            (std::io::ErrorKind::PermissionDenied, Exit::NotExecutable),
        ] {
            assert_eq!(cannot_start(&script, &kind.into()).exit, expected, "{kind}");
        }
    }
}
