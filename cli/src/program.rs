//! Finds the program that is to be started, as execvp(3) would, and looks whether the library can be
//! loaded into it. Reads a few hundred bytes of it at most.
use crate::exit::Exit;
use crate::hint::Failure;
use nix::unistd::{AccessFlags, access};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Where programs are looked for when `PATH` is not set, as in execvp(3).
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// Scripts that run scripts, until the kernel gives up (execve(2)).
const INTERPRETERS: usize = 4;

/// Bytes of a file's beginning that tell what it is; the kernel reads as many for `#!`.
const HEAD_BYTES: usize = 256;

/// Whether the library can be loaded into a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// It is, as far as one can see.
    Loads,
    /// The program is linked statically: no loader runs. Its children may load the library.
    Static,
    /// The program is for another kind of machine, 32 bit say: its loader only complains.
    OtherMachine,
}

/// Finds the program called `name`.
///
/// # Errors
/// 127 where there is none, 126 where there is one that cannot be executed.
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
            .hint("is it installed, and its folder in PATH?"),
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
            failure.hint("the interpreter that its first line names is missing")
        }
        _ => failure,
    }
}

/// Whether the library can be loaded into the program at `path`.
pub(crate) fn reach(path: &Path) -> Reach {
    let mut path = path.to_owned();
    for _ in 0..INTERPRETERS {
        let Ok(file) = File::open(&path) else { return Reach::Loads };
        let mut head = Vec::new();
        if (&file).take(u64::try_from(HEAD_BYTES).unwrap_or(0)).read_to_end(&mut head).is_err() {
            return Reach::Loads;
        }
        match interpreter(&head) {
            Some(next) => path = next,
            None => return judge(&head, |buffer, offset| file.read_exact_at(buffer, offset).is_ok()),
        }
    }
    Reach::Loads
}

/// The interpreter of a script: the first word behind `#!`.
fn interpreter(head: &[u8]) -> Option<PathBuf> {
    let line = head.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let word = line.trim_ascii_start().split(|byte| matches!(byte, b' ' | b'\t' | b'\r')).next()?;
    (!word.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(word)))
}

/// Reads an ELF file's header (elf(5)). `read` fills a buffer from an offset.
fn judge(head: &[u8], read: impl Fn(&mut [u8], u64) -> bool) -> Reach {
    const PT_INTERP: u32 = 3;
    const MOST_HEADERS: u16 = 64;
    if !head.starts_with(b"\x7fELF") {
        return Reach::Loads;
    }
    let little = head.get(5) == Some(&1);
    if head.get(4) != Some(&2)
        || little != cfg!(target_endian = "little")
        || u16_at(head, 18) != Some(MACHINE)
    {
        return Reach::OtherMachine;
    }
    let (Some(start), Some(size), Some(count)) = (u64_at(head, 32), u16_at(head, 54), u16_at(head, 56))
    else {
        return Reach::Loads;
    };
    for index in 0..count.min(MOST_HEADERS) {
        let mut header = [0; 56];
        let Some(offset) = start.checked_add(u64::from(index) * u64::from(size)) else { break };
        if !read(&mut header, offset) {
            return Reach::Loads;
        }
        let kind = header.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes));
        // Any loader: the library needs so little of libc that musl's loads it too.
        if kind == Some(PT_INTERP) {
            return Reach::Loads;
        }
    }
    Reach::Static
}

/// `e_machine` of programs that can load our library.
const MACHINE: u16 = if cfg!(target_arch = "x86_64") {
    62
} else if cfg!(target_arch = "aarch64") {
    183
} else if cfg!(target_arch = "riscv64") {
    243
} else {
    0
};

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_ne_bytes(*bytes))
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
        Ok(_) if access(path, AccessFlags::X_OK).is_err() => Found::Denied("permission denied"),
        Ok(_) => Found::Yes,
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Found::Denied("permission denied"),
        Err(_) => Found::Missing,
    }
}

fn denied(path: &Path, why: &str) -> Failure {
    let failure = Failure::new(Exit::NotExecutable, format_args!("cannot execute {}: {why}", path.display()));
    if why == "permission denied" {
        failure.hint(format_args!("`chmod +x {}` makes a script executable", path.display()))
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
    fn the_interpreter_of_a_script_is_its_first_word() {
        let word = |head: &str| interpreter(head.as_bytes());
        assert_eq!(word("#!/bin/sh\necho"), Some("/bin/sh".into()));
        assert_eq!(word("#! /usr/bin/env python3\n"), Some("/usr/bin/env".into()));
        assert_eq!(word("#!\n"), None);
        assert_eq!(word("echo #!/bin/sh"), None);
    }

    /// A 64-bit program of this machine with one program header, behind which its interpreter stands.
    fn elf(kind: u32, interpreter: &[u8]) -> Vec<u8> {
        let mut file = vec![0; 120];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[18..20].copy_from_slice(&MACHINE.to_ne_bytes());
        file[32..40].copy_from_slice(&64_u64.to_ne_bytes());
        file[54..56].copy_from_slice(&56_u16.to_ne_bytes());
        file[56..58].copy_from_slice(&1_u16.to_ne_bytes());
        file[64..68].copy_from_slice(&kind.to_ne_bytes());
        file[72..80].copy_from_slice(&120_u64.to_ne_bytes());
        file[96..104].copy_from_slice(&(interpreter.len() as u64).to_ne_bytes());
        file.extend_from_slice(interpreter);
        file
    }

    fn judged(file: &[u8]) -> Reach {
        judge(file, |buffer, offset| {
            let start = usize::try_from(offset).unwrap();
            let part = start.checked_add(buffer.len()).and_then(|end| file.get(start..end));
            part.is_some_and(|part| {
                buffer.copy_from_slice(part);
                true
            })
        })
    }

    #[test]
    fn an_elf_header_tells_who_can_load_us() {
        assert_eq!(judged(&elf(3, b"/lib64/ld-linux-x86-64.so.2\0")), Reach::Loads);
        assert_eq!(judged(&elf(3, b"/lib/ld-musl-x86_64.so.1\0")), Reach::Loads);
        assert_eq!(judged(&elf(1, b"")), Reach::Static);
        let mut narrow = elf(3, b"/lib/ld-linux.so.2\0");
        narrow[4] = 1;
        assert_eq!(judged(&narrow), Reach::OtherMachine);
        assert_eq!(judged(b"MZ"), Reach::Loads);
        for length in 0..120 {
            let _ = judged(&elf(3, b"/lib64/ld-linux-x86-64.so.2\0")[..length]);
        }
        assert_eq!(reach(Path::new("/bin/sh")), Reach::Loads);
    }
}
