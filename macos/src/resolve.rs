//! What to start instead of a program that macOS protects: the interpreter that a script asks `env` for, a shell
//! that is not the system's, or a copy made by `agentfs mac-tools`. The interposer's exec hooks use the same
//! rules ([`agentfs_wire::script`]). Pure over [`Files`].
use agentfs_wire::script::{self, Start, Words};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// What must be known about files.
pub trait Files {
    /// The first [`script::HEAD_BYTES`] bytes of a file; fewer if it is shorter, none if it cannot be read.
    fn head(&self, path: &Path) -> Vec<u8>;
    /// Whether the file exists and may be executed.
    fn is_program(&self, path: &Path) -> bool;
    /// The path without links; the path itself if it does not exist.
    fn canonical(&self, path: &Path) -> PathBuf;
}

/// What the user prefers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Preferences<'a> {
    /// `PATH`
    pub search_path: Option<&'a OsStr>,
    /// `AGENTFS_SHELL` and `npm_config_script_shell`.
    pub shells: [Option<&'a OsStr>; 2],
    /// The folder of the copies of `agentfs mac-tools` (see [`crate::tools`]).
    pub tools: Option<&'a Path>,
}

/// A program and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// What is executed.
    pub path: PathBuf,
    /// Its arguments, its own name first.
    pub arguments: Vec<OsString>,
}

/// What to start for `program`: itself if it is not protected, or if there is nothing better.
pub fn resolve(files: &dyn Files, preferences: &Preferences<'_>, program: Program) -> Program {
    let mut program = program;
    for _ in 0..script::SCRIPTS {
        let real = files.canonical(&program.path);
        let head = files.head(&program.path);
        let next = match script::look(real.as_os_str().as_bytes(), &head) {
            Start::Plain => None,
            Start::System => substitute(files, preferences, &real)
                .map(|path| Program { path, arguments: program.arguments.clone() }),
            Start::Script(line) => {
                let interpreter = Path::new(OsStr::from_bytes(line.interpreter));
                substitute(files, preferences, interpreter)
                    .map(|path| through(&program, path, line.interpreter, line.words))
            }
            Start::Find { name, words } => {
                find(files, preferences.search_path, name).map(|path| through(&program, path, name, words))
            }
        };
        match next {
            Some(next) => program = next,
            None => break,
        }
    }
    program
}

/// The path of the script as its interpreter gets it.
fn through(script: &Program, path: PathBuf, name: &[u8], words: Words<'_>) -> Program {
    let text = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    let mut arguments = vec![text(name)];
    arguments.extend(words.map(text));
    arguments.push(script.path.clone().into_os_string());
    arguments.extend(script.arguments.iter().skip(1).cloned());
    Program { path, arguments }
}

/// What may be started instead of a program of the system.
fn substitute(files: &dyn Files, preferences: &Preferences<'_>, path: &Path) -> Option<PathBuf> {
    let copy = preferences.tools.map(|tools| crate::tools::link_of(tools, path));
    let shells = preferences.shells.map(|shell| shell.map(OsStr::as_bytes));
    let shells = script::candidates(path.as_os_str().as_bytes(), shells)
        .map(|found| Path::new(OsStr::from_bytes(found.folder)).join(OsStr::from_bytes(found.name)));
    copy.into_iter()
        .chain(shells)
        .filter(|path| files.is_program(path))
        .find(|path| !script::is_system(files.canonical(path).as_os_str().as_bytes()))
}

/// Finds a program as env(1) does, by execvp(3).
fn find(files: &dyn Files, search_path: Option<&OsStr>, name: &[u8]) -> Option<PathBuf> {
    let name = Path::new(OsStr::from_bytes(name));
    if name.as_os_str().as_bytes().contains(&b'/') {
        return files.is_program(name).then(|| name.to_owned());
    }
    std::env::split_paths(search_path?)
        .map(
            |folder| {
                if folder.as_os_str().is_empty() { Path::new(".").join(name) } else { folder.join(name) }
            },
        )
        .find(|path| files.is_program(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Files by path; one that begins with `->` is a link.
    struct Fake(BTreeMap<&'static str, &'static str>);

    impl Files for Fake {
        fn head(&self, path: &Path) -> Vec<u8> {
            let real = self.canonical(path);
            self.0.get(real.to_str().unwrap()).map_or_else(Vec::new, |text| text.as_bytes().to_vec())
        }
        fn is_program(&self, path: &Path) -> bool {
            self.0.contains_key(self.canonical(path).to_str().unwrap())
        }
        fn canonical(&self, path: &Path) -> PathBuf {
            let link = self.0.get(path.to_str().unwrap()).and_then(|text| text.strip_prefix("->"));
            link.map_or_else(|| path.to_owned(), PathBuf::from)
        }
    }

    const SYSTEM: [(&str, &str); 6] = [
        ("/bin/sh", "MACH"),
        ("/bin/bash", "MACH"),
        ("/bin/zsh", "MACH"),
        ("/usr/bin/env", "MACH"),
        ("/usr/bin/perl", "MACH"),
        ("/usr/bin/python3", "MACH"),
    ];

    /// What `command` becomes on a system with some more files.
    fn started(more: &[(&'static str, &'static str)], shells: [Option<&str>; 2], command: &str) -> String {
        let files = Fake(SYSTEM.iter().chain(more).copied().collect());
        let arguments: Vec<OsString> = command.split(' ').map(OsString::from).collect();
        let preferences = Preferences {
            search_path: Some(OsStr::new("/opt/homebrew/bin:/home/shims:/usr/bin:/bin")),
            shells: shells.map(|shell| shell.map(OsStr::new)),
            tools: Some(Path::new("/t")),
        };
        let program = Program { path: PathBuf::from(&arguments[0]), arguments };
        let found = resolve(&files, &preferences, program);
        let words: Vec<&str> = found.arguments.iter().map(|word| word.to_str().unwrap()).collect();
        format!("{}: {}", found.path.display(), words.join(" "))
    }

    const NODE: (&str, &str) = ("/opt/homebrew/bin/node", "MACH");
    const BASH: (&str, &str) = ("/opt/homebrew/bin/bash", "MACH");

    #[test]
    fn scripts_reach_their_interpreters() {
        let none = [None, None];
        let tool = ("/home/tool", "#!/usr/bin/env node\n");
        assert_eq!(
            started(&[NODE, tool], none, "/home/tool a b"),
            "/opt/homebrew/bin/node: node /home/tool a b"
        );
        let flags = ("/home/tool", "#!/usr/bin/env -S node --x  -y\n");
        assert_eq!(
            started(&[NODE, flags], none, "/home/tool a"),
            "/opt/homebrew/bin/node: node --x -y /home/tool a"
        );
        assert_eq!(started(&[tool], none, "/home/tool a"), "/home/tool: /home/tool a", "no node at all");
        let sh = ("/home/run", "#!/bin/sh -e\n");
        assert_eq!(started(&[sh], none, "/home/run a"), "/home/run: /home/run a", "no other shell");
        assert_eq!(
            started(&[BASH, sh], none, "/home/run a"),
            "/opt/homebrew/bin/bash: /bin/sh -e /home/run a"
        );
        assert_eq!(
            started(&[BASH, ("/my/dash", "MACH"), sh], [None, Some("/my/dash")], "/home/run"),
            "/my/dash: /bin/sh -e /home/run"
        );
        let other = ("/home/run", "#!/opt/homebrew/bin/bash\n");
        assert_eq!(started(&[BASH, other], none, "/home/run"), "/home/run: /home/run");
        let perl = ("/home/run", "#!/usr/bin/perl -w\n");
        assert_eq!(
            started(&[perl], none, "/home/run"),
            "/home/run: /home/run",
            "another perl is another program"
        );
    }

    #[test]
    fn a_shim_is_a_script_for_a_script() {
        let tool = ("/home/tool", "#!/usr/bin/env ruby\n");
        let shim = ("/home/shims/ruby", "#!/usr/bin/env bash\n");
        assert_eq!(
            started(&[tool, shim, BASH], [None, None], "/home/tool a"),
            "/opt/homebrew/bin/bash: bash /home/shims/ruby /home/tool a"
        );
        // Without another bash, the system's: as env would have found it.
        assert_eq!(
            started(&[tool, shim], [None, None], "/home/tool a"),
            "/bin/bash: bash /home/shims/ruby /home/tool a"
        );
        let circle = ("/home/shims/ruby", "#!/usr/bin/env ruby\n");
        let turns = started(&[tool, circle], [None, None], "/home/tool");
        assert_eq!(turns.matches("ruby").count(), 5, "it ends after four turns: {turns}");
    }

    #[test]
    fn a_shell_of_the_system_is_replaced_under_its_own_name() {
        assert_eq!(started(&[BASH], [None, None], "/bin/sh -c x"), "/opt/homebrew/bin/bash: /bin/sh -c x");
        let link = ("/home/sh", "->/bin/sh");
        assert_eq!(started(&[BASH, link], [None, None], "/home/sh"), "/opt/homebrew/bin/bash: /home/sh");
        assert_eq!(started(&[BASH], [None, None], "/bin/zsh"), "/bin/zsh: /bin/zsh");
        // A choice that is a link to the system's own shell does not count.
        let fake = ("/my/bash", "->/bin/bash");
        assert_eq!(started(&[fake], [Some("/my/bash"), None], "/bin/sh"), "/bin/sh: /bin/sh");
    }

    #[test]
    fn a_copy_goes_before_everything() {
        let copy = ("/t/at/usr/bin/perl", "->/t/0123/perl");
        let file = ("/t/0123/perl", "MACH");
        assert_eq!(
            started(&[copy, file], [None, None], "/usr/bin/perl x"),
            "/t/at/usr/bin/perl: /usr/bin/perl x"
        );
        let script = ("/home/run", "#!/usr/bin/perl -w\n");
        assert_eq!(
            started(&[copy, file, script], [None, None], "/home/run"),
            "/t/at/usr/bin/perl: /usr/bin/perl -w /home/run"
        );
        assert_eq!(
            started(&[copy], [None, None], "/usr/bin/perl"),
            "/usr/bin/perl: /usr/bin/perl",
            "dangling"
        );
    }
}
