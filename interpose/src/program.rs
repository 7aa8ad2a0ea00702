//! What kind of program is about to be executed: whether it can load the library, and whether the library works in
//! it. Reads a few hundred bytes; `agentfs_wire::elf` knows the format. Runs in the child of vfork(2): nothing is
//! allocated.
#![expect(unsafe_code, reason = "reads PATH")]

use crate::sys;
use agentfs_wire::elf::{self, Look, Reach};
use agentfs_wire::notice::Why;
use agentfs_wire::text::Text;
use core::ffi::CStr;
use libc::c_int;

/// Bytes that are read at first: the ELF header and some eighteen program headers, or the first line of a script.
const HEAD_BYTES: usize = 1152;
/// Scripts that run scripts, until the kernel gives up (execve(2)).
const INTERPRETERS: u32 = 4;
/// Bytes of the longest path that is looked at along `PATH` or in the first line of a script (execve(2):
/// `BINPRM_BUF_SIZE` is 256). A program with a longer path counts as reachable.
const PATH_BYTES: usize = 512;

/// A path with its NUL.
pub(crate) type Path = Text<PATH_BYTES>;

/// What was found out about a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// There is no such file: the exec will fail.
    Missing,
    /// The library will be loaded, as far as the file says.
    Reachable,
    /// The same, but it needs an option for that ([`Reach::Sanitized`]).
    Sanitized,
    /// It will not, for this reason.
    Beyond(Why),
}

/// Looks at the program of an exec: a path, or a name that is searched for along `PATH` as execvp(3) does.
/// `closely`, while somebody traces; otherwise only what the exec needs is read.
pub(crate) fn look(name: &CStr, closely: bool) -> Program {
    let look = if closely { Look::Close } else { Look::Quick };
    let Ok(text) = name.to_str() else { return Program::Reachable };
    if text.contains('/') {
        return at(name, look);
    }
    for folder in agentfs_wire::text::parts(search_path(), b':') {
        // An empty entry is the working directory.
        let mut path = Path::new();
        if path.push(if folder.is_empty() { "." } else { folder })
            && path.push("/")
            && path.push(text)
            && path.push("\0")
            && let Ok(path) = CStr::from_bytes_with_nul(path.as_bytes())
        {
            match at(path, look) {
                Program::Missing => {}
                found => return found,
            }
        }
    }
    Program::Reachable
}

/// Whether the engine is to serve the program of an exec: it loads no library. `path` becomes the file's path, with its
/// NUL. `searches` for a bare name along `PATH`.
#[cfg(target_os = "linux")]
pub(crate) fn needs_engine(name: &CStr, searches: bool, path: &mut Path) -> bool {
    let Ok(text) = name.to_str() else { return false };
    if text.contains('/') || !searches {
        return path.push(text) && path.push("\0") && is_for_engine(path);
    }
    for folder in agentfs_wire::text::parts(search_path(), b':') {
        *path = Path::new();
        let is_whole = path.push(if folder.is_empty() { "." } else { folder })
            && path.push("/")
            && path.push(text)
            && path.push("\0");
        // As execvp(3): what may not be executed is passed by.
        let is_there = CStr::from_bytes_with_nul(path.as_bytes()).is_ok_and(sys::may_execute);
        if is_whole && is_there {
            return is_for_engine(path);
        }
    }
    false
}

#[cfg(target_os = "linux")]
fn is_for_engine(path: &Path) -> bool {
    CStr::from_bytes_with_nul(path.as_bytes()).is_ok_and(|path| {
        matches!(at(path, Look::Close), Program::Beyond(Why::Static | Why::Go)) && sys::may_execute(path)
    })
}

/// Looks at the program that is open as `fd`.
#[cfg(target_os = "linux")]
pub(crate) fn look_open(fd: c_int, closely: bool) -> Program {
    let mut path = Path::new();
    path.push("/proc/self/fd/");
    path.push_number(u64::try_from(fd).unwrap_or(0));
    path.push("\0");
    let look = if closely { Look::Close } else { Look::Quick };
    CStr::from_bytes_with_nul(path.as_bytes()).map_or(Program::Reachable, |path| at(path, look))
}

/// The folders with programs: `PATH`, else what confstr(3) says.
fn search_path() -> &'static str {
    // SAFETY: the name ends in NUL.
    let value = unsafe { libc::getenv(c"PATH".as_ptr()) };
    if value.is_null() {
        return "/bin:/usr/bin";
    }
    // SAFETY: getenv(3) gives a NUL-terminated string; a program that changes its environment in another
    // thread meanwhile races with execvp(3) itself.
    unsafe { CStr::from_ptr(value) }.to_str().unwrap_or("")
}

fn at(path: &CStr, look: Look) -> Program {
    let mut script = Path::new();
    let mut found = examine(path, look, &mut script);
    for _ in 0..INTERPRETERS {
        if script.as_bytes().is_empty() {
            break;
        }
        let interpreter = core::mem::take(&mut script);
        let Ok(path) = CStr::from_bytes_with_nul(interpreter.as_bytes()) else { break };
        found = match examine(path, look, &mut script) {
            // The script exists: the kernel says that its interpreter does not.
            Program::Missing => return Program::Reachable,
            found => found,
        };
    }
    found
}

/// Looks at one file. If it is a script, `script` becomes the path of its interpreter, with a NUL.
fn examine(path: &CStr, look: Look, script: &mut Path) -> Program {
    // A FIFO without a writer must not hold us up.
    let fd = match sys::open(path, libc::O_RDONLY | libc::O_NONBLOCK, 0) {
        Ok(fd) => fd,
        Err(libc::ENOENT | libc::ENOTDIR) => return Program::Missing,
        Err(_) => return Program::Reachable,
    };
    let mut head = [0_u8; HEAD_BYTES];
    let length = sys::read(fd.number(), &mut head).unwrap_or(0);
    let head = head.get(..length).unwrap_or(&[]);
    let reach = elf::reach(look, |offset, buffer| read(fd.number(), head, offset, buffer));
    let gains_rights = look == Look::Close && reach.is_some() && gains_rights(fd.number());
    if let Some(Ok(word)) = elf::interpreter(head).map(core::str::from_utf8)
        && !(script.push(word) && script.push("\0"))
    {
        *script = Path::new();
    }
    match reach {
        Some(Reach::OtherMachine) => Program::Beyond(Why::OtherMachine),
        Some(Reach::Go) => Program::Beyond(Why::Go),
        Some(Reach::Static) => Program::Beyond(Why::Static),
        _ if gains_rights => Program::Beyond(Why::GainsRights),
        Some(Reach::Sanitized) => Program::Sanitized,
        _ => Program::Reachable,
    }
}

/// Fills a buffer from an offset: from the bytes that were read before, else from the file.
fn read(fd: c_int, head: &[u8], offset: u64, buffer: &mut [u8]) -> usize {
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    let Some(known) = head.get(start..start.saturating_add(buffer.len())) else {
        return beyond(fd, offset, buffer);
    };
    for (to, from) in buffer.iter_mut().zip(known) {
        *to = *from;
    }
    known.len()
}

#[cfg(target_os = "linux")]
fn beyond(fd: c_int, offset: u64, buffer: &mut [u8]) -> usize {
    sys::read_at(fd, offset, buffer).unwrap_or(0)
}

#[cfg(target_os = "linux")]
fn gains_rights(fd: c_int) -> bool {
    sys::gains_rights(fd)
}

/// There are no programs in this format on macOS.
#[cfg(not(target_os = "linux"))]
fn beyond(_fd: c_int, _offset: u64, _buffer: &mut [u8]) -> usize {
    0
}

/// There are no programs in this format on macOS.
#[cfg(not(target_os = "linux"))]
fn gains_rights(_fd: c_int) -> bool {
    false
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn programs_are_told_apart() {
        assert_eq!(look(c"/proc/self/exe", true), Program::Reachable);
        assert_eq!(look(c"sh", true), Program::Reachable);
        assert_eq!(look(c"/no/such/program", true), Program::Missing);
        assert_eq!(look(c"no-such-program", true), Program::Reachable);
    }

    #[test]
    fn a_script_is_what_its_interpreter_is() {
        let folder = std::env::temp_dir().join(format!("agentfs-program-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = |name: &str| std::ffi::CString::new(folder.join(name).as_os_str().as_bytes()).unwrap();
        // Not of this machine, whichever this is.
        std::fs::write(folder.join("narrow"), b"\x7fELF\x01\x01").unwrap();
        std::fs::write(folder.join("script"), format!("#! {}/narrow -x\n", folder.display())).unwrap();
        std::fs::write(folder.join("outer"), format!("#!{}/script\n", folder.display())).unwrap();
        std::fs::write(folder.join("circle"), format!("#!{}/circle\n", folder.display())).unwrap();
        std::fs::write(folder.join("lost"), "#!/no/such/interpreter\n").unwrap();
        for name in ["narrow", "script", "outer"] {
            assert_eq!(look(&path(name), false), Program::Beyond(Why::OtherMachine), "{name}");
        }
        for name in ["circle", "lost"] {
            assert_eq!(look(&path(name), true), Program::Reachable, "{name}");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn rights_that_a_program_gains_are_seen() {
        let file = std::env::temp_dir().join(format!("agentfs-rights-{}", std::process::id()));
        std::fs::copy("/proc/self/exe", &file).unwrap();
        let set = |mode| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let path = std::ffi::CString::new(file.as_os_str().as_bytes()).unwrap();
        // Our own user and group are no gain.
        set(0o6755);
        assert_eq!(look(&path, true), Program::Reachable);
        // Only root can give a file away, and only where the system heeds the bits they count.
        if std::os::unix::fs::chown(&file, Some(65_534), Some(65_534)).is_ok() && !sys::no_new_rights() {
            set(0o4755);
            assert_eq!(look(&path, true), Program::Beyond(Why::GainsRights));
            assert_eq!(look(&path, false), Program::Reachable);
            set(0o755);
            assert_eq!(look(&path, true), Program::Reachable);
        }
        std::fs::remove_file(file).unwrap();
    }
}
