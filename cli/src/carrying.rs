//! Brings the variables of an instance past programs that lose them when they start, as macOS's own do. Only looks at
//! files; [`agentfs_wire::carry`] decides. On Linux no program loses them, but tests have some that stand for those.
use crate::environment::PRELOAD;
use agentfs_wire::carry::{Command, Files, Found, Piece};
use agentfs_wire::env;
use nix::unistd::{AccessFlags, access};
use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// What was found out about a command.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Carried {
    /// What to start instead: the program and its arguments.
    pub(crate) instead: Option<(PathBuf, Vec<OsString>)>,
    /// Whether something else is to be started, if there are variables.
    pub(crate) changes: bool,
    /// Protected programs of the command that the library does not get into and that may use ports, each once.
    pub(crate) lost: Vec<PathBuf>,
}

/// Programs of macOS that connect to ports, or run what does: clients, interpreters, shells whose commands are not known.
/// A number behind the name is a version.
const CLIENTS: [&str; 30] = [
    "ab",
    "bash",
    "csh",
    "curl",
    "dash",
    "ftp",
    "git",
    "java",
    "ksh",
    "make",
    "nc",
    "nscurl",
    "openssl",
    "osascript",
    "perl",
    "php",
    "python",
    "ruby",
    "scp",
    "sftp",
    "sh",
    "ssh",
    "swift",
    "tclsh",
    "tcsh",
    "telnet",
    "wish",
    "xcodebuild",
    "xcrun",
    "zsh",
];

/// Looks at a program and its arguments. Without a variable that loads libraries nothing is started instead.
pub(crate) fn look(path: &Path, arguments: &[OsString], variables: &[(OsString, OsString)]) -> Carried {
    let Some(files) = Disk::of(variables) else { return Carried::default() };
    let mut program = Found::new();
    if !files.find(path.as_os_str().as_bytes(), &mut program) {
        return Carried::default();
    }
    let preload = variables.iter().filter(|(name, _)| name == PRELOAD);
    let ours =
        variables.iter().filter(|(name, _)| name.as_bytes().starts_with(b"AGENTFS_") && name != env::SECRET);
    let set = |each: &mut dyn FnMut(&[u8], &[u8])| {
        for (name, value) in preload.clone().chain(ours.clone()) {
            each(name.as_bytes(), value.as_bytes());
        }
    };
    let lost = RefCell::new(Vec::new());
    let report = |path: &[u8]| {
        let path = PathBuf::from(OsStr::from_bytes(path));
        let mut lost = lost.borrow_mut();
        if is_client(&path) && !lost.contains(&path) {
            lost.push(path);
        }
    };
    let argument = |index: usize| arguments.get(index).map(|argument| argument.as_bytes());
    let command =
        Command { program: &program, argument: &argument, variables: &set, files: &files, lost: &report };
    let mut strings = Vec::new();
    let mut string = Vec::new();
    let changes = command.carry(&mut |piece| match piece {
        Piece::Bytes(bytes) => string.extend_from_slice(bytes),
        Piece::End => strings.push(OsString::from_vec(std::mem::take(&mut string))),
    });
    let mut strings = strings.into_iter();
    let loads = preload.clone().next().is_some();
    let instead = if changes && loads { strings.next() } else { None };
    let instead = instead.map(|path| (PathBuf::from(path), strings.collect()));
    Carried { instead, changes, lost: lost.into_inner() }
}

fn is_client(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    CLIENTS.contains(&name.trim_end_matches(|letter: char| letter.is_ascii_digit() || letter == '.'))
}

/// Files as they are, and programs along the `PATH` of the command.
struct Disk<'a> {
    search_path: Option<&'a OsStr>,
    /// The folder of programs that stand for those of macOS.
    #[cfg(not(target_os = "macos"))]
    stand_ins: &'a OsStr,
}

// === impl Disk ===

impl<'a> Disk<'a> {
    /// `None` where no program loses variables.
    fn of(variables: &'a [(OsString, OsString)]) -> Option<Self> {
        let variable = |wanted: &str| {
            variables.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_os_str())
        };
        #[cfg(not(target_os = "macos"))]
        let stand_ins = variable(env::STAND_INS).filter(|_| cfg!(debug_assertions))?;
        Some(Self {
            search_path: variable("PATH"),
            #[cfg(not(target_os = "macos"))]
            stand_ins,
        })
    }
}

impl Files for Disk<'_> {
    #[cfg(target_os = "macos")]
    fn protects(&self, path: &[u8]) -> bool {
        agentfs_wire::script::is_system(path)
    }

    #[cfg(not(target_os = "macos"))]
    fn protects(&self, path: &[u8]) -> bool {
        Path::new(OsStr::from_bytes(path)).starts_with(self.stand_ins)
    }

    fn find(&self, name: &[u8], found: &mut Found) -> bool {
        let name = Path::new(OsStr::from_bytes(name));
        if name.as_os_str().as_bytes().contains(&b'/') {
            return take(name, found);
        }
        let mut folders = self.search_path.into_iter().flat_map(std::env::split_paths);
        folders.any(|folder| {
            // An empty one is the working directory.
            let folder = if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder };
            take(&folder.join(name), found)
        })
    }

    fn is_file(&self, path: &[u8]) -> bool {
        Path::new(OsStr::from_bytes(path)).is_file()
    }
}

/// Takes the program at a path, and its first bytes.
fn take(path: &Path, found: &mut Found) -> bool {
    // Opening a FIFO would wait for a writer.
    if !path.is_file() || access(path, AccessFlags::X_OK).is_err() {
        return false;
    }
    let takes = found.set_path(&[path.as_os_str().as_bytes()]);
    if let Ok(mut file) = File::open(path) {
        found.set_head(|room| file.read(room).unwrap_or(0));
    }
    takes
}

#[cfg(all(test, not(target_os = "macos")))]
mod tests {
    use super::*;

    fn variables(stand_ins: &Path) -> Vec<(OsString, OsString)> {
        let path = format!("{}:/usr/bin:/bin", stand_ins.display());
        [
            (PRELOAD, "/l"),
            (env::STAND_INS, stand_ins.to_str().expect("a temporary path is text")),
            (env::SECRET, "x"),
            ("PATH", path.as_str()),
        ]
        .map(|(name, value)| (name.into(), value.into()))
        .to_vec()
    }

    fn words(line: &[&str]) -> Vec<OsString> {
        line.iter().map(OsString::from).collect()
    }

    #[test]
    fn a_protected_shell_is_given_the_variables() {
        let folder = tempfile::tempdir().unwrap();
        let (sh, curl) = (folder.path().join("sh"), folder.path().join("curl"));
        for path in [&sh, &curl] {
            std::fs::copy("/bin/sh", path).unwrap();
        }
        let variables = variables(folder.path());
        let carried = look(&sh, &words(&["sh", "-c", "a; curl x; curl y"]), &variables);
        let (path, arguments) = carried.instead.unwrap();
        assert_eq!(path, sh);
        let text = format!(
            "export {PRELOAD}='/l' AGENTFS_STAND_INS='{}'; a; curl x; curl y",
            folder.path().display()
        );
        assert_eq!(arguments, words(&["sh", "-c", &text]));
        assert_eq!(carried.lost, vec![curl.clone()]);
        let alone = look(&curl, &words(&["curl"]), &variables);
        assert_eq!((alone.instead, alone.lost), (None, vec![curl]));
        assert_eq!(look(&sh, &words(&["sh", "-c", "a"]), &variables[3..]), Carried::default());
        assert_eq!(look(Path::new("/bin/sh"), &words(&["sh", "-c", "a"]), &variables), Carried::default());
    }
}
