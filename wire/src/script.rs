//! What macOS starts for a script, and what can be started instead of a program of the system. Pure, without
//! allocation, so that the interposer's exec hooks and `agentfs wrap` decide the same.
//!
//! macOS removes every `DYLD_…` variable when it starts one of its own programs (System Integrity
//! Protection). So a script that begins with `#!/usr/bin/env node` loses the interposer before `node` starts.
//! Starting `node` directly keeps it.
//!
//! Rules of XNU's `exec_shell_imgact` (bsd/kern/kern_exec.c): the line ends at a newline or a `#` and must
//! end within [`HEAD_BYTES`]. Its words are separated by blanks and passed one by one (Linux passes the rest
//! as one). The interpreter must not be a script itself.

/// Bytes of a script that must hold its first line (`IMG_SHSIZE`). A file with a longer line is not a script
/// for the kernel.
pub const HEAD_BYTES: usize = 512;

/// Depth of scripts that start scripts. Deeper chains are left to the system.
pub const SCRIPTS: usize = 4;

/// Folders of the system's own programs, which SIP protects.
const SYSTEM: [&[u8]; 5] = [b"/bin/", b"/sbin/", b"/usr/", b"/System/", b"/Library/Apple/"];

/// Parts of these folders that are not protected (`/System/Library/Sandbox/rootless.conf`).
const NOT_SYSTEM: [&[u8]; 2] = [b"/usr/local/", b"/System/Volumes/Data/"];

/// Where Homebrew and MacPorts put programs: Apple silicon, Intel, MacPorts.
pub const FOLDERS: [&[u8]; 3] = [b"/opt/homebrew/bin", b"/usr/local/bin", b"/opt/local/bin"];

/// Shells that may replace `sh`, best first. Called as `sh`, each follows POSIX.
const POSIX: [&[u8]; 2] = [b"bash", b"dash"];

/// Whether SIP protects a program because of where it is. `path` is absolute and without links.
pub fn is_system(path: &[u8]) -> bool {
    SYSTEM.iter().any(|folder| path.starts_with(folder))
        && !NOT_SYSTEM.iter().any(|folder| path.starts_with(folder))
}

/// The last part of a path.
pub fn file_name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

/// The kind of a program, judged by its path and its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start<'a> {
    /// Not protected.
    Plain,
    /// A program of the system.
    System,
    /// A script whose interpreter is a program of the system.
    Script(Line<'a>),
    /// A script that uses the system's `env` to find `name`.
    Find {
        /// A name without a slash, or a path.
        name: &'a [u8],
        /// What follows it in the line.
        words: Words<'a>,
    },
}

/// Judges the program at `path`, whose first bytes are `head` (only [`HEAD_BYTES`] of them are used).
pub fn look<'a>(path: &[u8], head: &'a [u8]) -> Start<'a> {
    look_where(path, head, is_system)
}

/// The same, where `is_protected` says which programs are the system's.
pub fn look_where<'a>(path: &[u8], head: &'a [u8], is_protected: impl Fn(&[u8]) -> bool) -> Start<'a> {
    if is_protected(path) && !head.starts_with(b"#!") {
        return Start::System;
    }
    let Some(line) = Line::parse(head) else { return Start::Plain };
    if !is_protected(line.interpreter) {
        return Start::Plain;
    }
    if file_name(line.interpreter) != b"env" {
        return Start::Script(line);
    }
    match sought(line.words) {
        Some((name, words)) => Start::Find { name, words },
        None => Start::Script(line),
    }
}

/// The program that env(1) should find. `None` if there is anything else: options, variables.
fn sought(words: Words<'_>) -> Option<(&[u8], Words<'_>)> {
    let mut words = words;
    let mut name = words.next()?;
    if let Some(rest) = name.strip_prefix(b"-S") {
        name = if rest.is_empty() { words.next()? } else { rest };
    }
    // `-S` has its own quotes and escapes.
    let plain = !name.starts_with(b"-") && !name.iter().any(|byte| b"='\"\\$".contains(byte));
    plain.then_some((name, words))
}

/// The first line of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// The interpreter.
    pub interpreter: &'a [u8],
    /// What is passed to it before the script's own path.
    pub words: Words<'a>,
}

/// Words between blanks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Words<'a>(&'a [u8]);

// === impl Line ===

impl<'a> Line<'a> {
    /// Reads the first line of a file. `None`: it is not a script.
    pub fn parse(head: &'a [u8]) -> Option<Self> {
        let line = head.get(..head.len().min(HEAD_BYTES))?.strip_prefix(b"#!")?;
        let end = line.iter().position(|byte| matches!(byte, b'\n' | b'#'))?;
        let mut words = Words(line.get(..end)?);
        let interpreter = words.next().filter(|word| !word.contains(&0))?;
        Some(Self { interpreter, words })
    }
}

// === impl Words ===

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
        let start = self.0.iter().position(|byte| !is_blank(byte))?;
        let rest = self.0.get(start..)?;
        let end = rest.iter().position(is_blank).unwrap_or(rest.len());
        self.0 = rest.get(end..)?;
        rest.get(..end)
    }
}

/// A program that may be started instead of one of the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// Its folder; empty if `name` is a full path.
    pub folder: &'a [u8],
    /// Its file name, or its path.
    pub name: &'a [u8],
}

/// What may be started instead of the system's shell at `path`, best first: shells of its kind that the user
/// chose, then those in [`FOLDERS`]. Nothing for other programs, because another `python3` or `make` would
/// not be the same program.
pub fn candidates<'a>(path: &'a [u8], chosen: [Option<&'a [u8]>; 2]) -> impl Iterator<Item = Candidate<'a>> {
    let name = file_name(path);
    let known = matches!(name, b"sh" | b"bash" | b"dash" | b"zsh" | b"ksh" | b"tcsh" | b"csh");
    let fits = move |shell: &[u8]| {
        let shell = file_name(shell);
        shell == name || (name == b"sh" && matches!(shell, b"bash" | b"dash" | b"zsh" | b"ksh"))
    };
    let own = chosen
        .into_iter()
        .flatten()
        .filter(move |shell| shell.starts_with(b"/") && fits(shell) && !is_system(shell))
        .map(|shell| Candidate { folder: b"", name: shell });
    let posix = POSIX.into_iter().filter(move |_| name == b"sh");
    let found = FOLDERS.into_iter().flat_map(move |folder| {
        core::iter::once(name).chain(posix.clone()).map(move |name| Candidate { folder, name })
    });
    own.chain(found).filter(move |_| known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(line: &str) -> Option<Vec<String>> {
        let line = Line::parse(line.as_bytes())?;
        let all = core::iter::once(line.interpreter).chain(line.words);
        Some(all.map(|word| String::from_utf8(word.to_vec()).unwrap()).collect())
    }

    #[test]
    fn a_line_is_read_as_the_kernel_does() {
        let is = |line: &str, expected: &[&str]| assert_eq!(words(line).unwrap(), expected, "{line}");
        is("#!/bin/sh\necho", &["/bin/sh"]);
        is("#! \t/usr/bin/env  node --a\t-b \n", &["/usr/bin/env", "node", "--a", "-b"]);
        is("#!/bin/sh -e # why\n", &["/bin/sh", "-e"]);
        for line in ["", "#", "#!", "#!\n", "#!  \n", "#!/bin/sh", "# !/bin/sh\n", "#!#\n", "#!/b\0in/sh\n"] {
            assert_eq!(words(line), None, "{line:?}");
        }
        let long = format!("#!/{}\n", "x".repeat(HEAD_BYTES - 4));
        assert!(words(&long).is_some());
        assert_eq!(words(&format!("#!/x{}", &long[3..])), None);
    }

    #[test]
    fn what_sip_protects_is_told_by_its_folder() {
        for path in ["/bin/sh", "/usr/bin/env", "/usr/libexec/x", "/sbin/md5", "/System/x/y"] {
            assert!(is_system(path.as_bytes()), "{path}");
        }
        for path in
            ["/usr/local/bin/node", "/opt/homebrew/bin/bash", "/binary", "bin/sh", "/System/Volumes/Data/x"]
        {
            assert!(!is_system(path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn env_is_seen_through() {
        let sought = |line: &str| match look(b"/home/x", line.as_bytes()) {
            Start::Find { name, words } => {
                let rest: Vec<&str> = words.map(|word| core::str::from_utf8(word).unwrap()).collect();
                format!("{} {}", core::str::from_utf8(name).unwrap(), rest.join(" ")).trim().to_owned()
            }
            other => format!("{other:?}").split('(').next().unwrap().to_owned(),
        };
        for (line, expected) in [
            ("#!/usr/bin/env node\n", "node"),
            ("#!/usr/bin/env node --x y\n", "node --x y"),
            ("#!/usr/bin/env -S node --x\n", "node --x"),
            ("#!/usr/bin/env -Snode --x\n", "node --x"),
            ("#!/usr/bin/env /opt/x/node\n", "/opt/x/node"),
            ("#!/usr/bin/env\n", "Script"),
            ("#!/usr/bin/env -i node\n", "Script"),
            ("#!/usr/bin/env -S\n", "Script"),
            ("#!/usr/bin/env -S \"node\" x\n", "Script"),
            ("#!/usr/bin/env A=1 node\n", "Script"),
            ("#!/bin/sh\n", "Script"),
            ("#!/opt/homebrew/bin/env node\n", "Plain"),
            ("#!/opt/homebrew/bin/bash\n", "Plain"),
            ("echo\n", "Plain"),
        ] {
            assert_eq!(sought(line), expected, "{line}");
        }
        assert_eq!(look(b"/bin/sh", b"\xcf\xfa\xed\xfe"), Start::System);
        assert_eq!(look(b"/opt/homebrew/bin/bash", b"\xcf\xfa\xed\xfe"), Start::Plain);
        assert!(matches!(look(b"/usr/bin/x", b"#!/usr/bin/perl\n"), Start::Script(_)));
    }

    #[test]
    fn only_shells_have_substitutes_and_the_users_choice_comes_first() {
        let all = |path: &str, chosen: [Option<&str>; 2]| -> Vec<String> {
            candidates(path.as_bytes(), chosen.map(|shell| shell.map(str::as_bytes)))
                .map(|found| {
                    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                    let (folder, name) = (text(found.folder), text(found.name));
                    if folder.is_empty() { name } else { format!("{folder}/{name}") }
                })
                .collect()
        };
        assert_eq!(all("/usr/bin/python3", [None, None]), Vec::<String>::new());
        assert_eq!(
            all("/bin/zsh", [Some("/my/bash"), Some("/my/zsh")]),
            ["/my/zsh", "/opt/homebrew/bin/zsh", "/usr/local/bin/zsh", "/opt/local/bin/zsh"]
        );
        let sh = all("/bin/sh", [Some("/my/bash"), Some("/bin/zsh")]);
        assert_eq!(
            sh[..4],
            ["/my/bash", "/opt/homebrew/bin/sh", "/opt/homebrew/bin/bash", "/opt/homebrew/bin/dash"]
        );
        assert_eq!(sh.len(), 10);
        assert!(!all("/bin/sh", [Some("bash"), Some("/my/fish")]).iter().any(|path| path.contains("fish")));
    }

    proptest! {
        #[test]
        fn any_beginning_is_read(head in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = look(b"/x", &head);
            let mut script = b"#!/usr/bin/env ".to_vec();
            script.extend_from_slice(&head);
            let _ = look(b"/x", &script);
        }
    }
}
