//! How a program enters: its own process finds or starts the supervisor of its instance, installs the filter, and sends its
//! descriptor there. Then it becomes the program.
use crate::limits::{ANSWER, BACKLOG, ENTRY_TRIES, FILE_TIME, MESSAGE_BYTES};
use crate::port_space::PortSpace;
use crate::protocol::{Answer, Ask, Member, Sockets};
use crate::stand_ins::StandIns;
use crate::supervisor::{Places, entry_files};
use crate::sys::{exec, options, seccomp};
use crate::{filter, kernel};
use agentfs_home::{PRIVATE, RunLock};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, bind, connect, listen, recv, sendmsg, socket_with, sockopt,
};
use rustix::process::{PTracer, set_ptracer};
use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::SystemTime;

/// Where a program enters.
#[derive(Debug)]
pub struct Entry<'a> {
    /// The instance.
    pub places: &'a Places,
    /// Its rules.
    pub member: &'a Member,
    /// The instance that this process is in already, by its environment.
    pub outer: Option<&'a Places>,
}

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entered {
    /// The program's calls are answered by the supervisor.
    Served(Sockets),
    /// A program above has a filter of the same instance, which this program inherits.
    Inherited(Sockets),
    /// A program above has a filter of another instance, or of somebody else. There can be only one, so this program is not
    /// served.
    Occupied,
}

/// Why a program cannot be served. It can be started all the same.
#[derive(Debug)]
pub enum Refusal {
    /// The system has neither a name space for us nor stand-ins.
    PortSpace(io::Error),
    /// The system does not let us install a filter.
    Filter(io::Error),
    /// The system does not let the supervisor read our memory.
    Memory(io::Error),
    /// The supervisor does not answer.
    Supervisor(io::Error),
}

/// Enters. `start` starts a supervisor, with the listening socket that it is given as standard input, and returns when that
/// process is on its own.
///
/// # Errors
/// [`Refusal`]: nothing was changed.
pub fn enter(entry: &Entry<'_>, start: impl Fn(OwnedFd) -> io::Result<()>) -> Result<Entered, Refusal> {
    let Reached { supervisor, sockets, makes_sockets } = reach(entry.places, start)?;
    // Descriptors are replaced since Linux 5.9, and given since 5.14. Without, calls would fail that work on the host.
    if !kernel::is_at_least(if makes_sockets { (5, 14) } else { (5, 9) }) {
        return Err(Refusal::Filter(io::Error::from_raw_os_error(libc::ENOSYS)));
    }
    let mut more = Vec::new();
    if let Sockets::StandIns { .. } = sockets {
        more.extend([libc::SYS_getsockname, libc::SYS_getpeername]);
    }
    if makes_sockets {
        more.push(libc::SYS_socket);
    }
    let program =
        filter::program(&more).ok_or_else(|| Refusal::Filter(io::Error::from_raw_os_error(libc::ENOSYS)))?;
    // A program that has no rights to lose needs none of this; for any other it is the condition for a filter.
    let filter = match seccomp::install(&program) {
        Err(error) if error.raw_os_error() == Some(libc::EACCES) => {
            nix::sys::prctl::set_no_new_privs().map_err(|errno| Refusal::Filter(errno.into()))?;
            seccomp::install(&program)
        }
        result => result,
    };
    let filter = match filter {
        Ok(filter) => filter,
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => return Ok(occupied(entry, sockets)),
        Err(error) => return Err(Refusal::Filter(error)),
    };
    // From here on calls wait for the supervisor: if it ended at this moment, they would fail.
    let network = options::network(&supervisor).unwrap_or(0);
    let serve = Ask::Serve { member: entry.member.clone(), network };
    match ask(&supervisor, &serve, Some(filter.as_fd())) {
        Ok(Answer { errno: None, .. }) => Ok(Entered::Served(sockets)),
        Ok(Answer { errno: Some(errno), .. }) => {
            Err(Refusal::Supervisor(io::Error::from_raw_os_error(errno)))
        }
        Err(error) => Err(Refusal::Supervisor(error)),
    }
}

/// Where the system gives us ports. The caller has one thread.
///
/// # Errors
/// Why nowhere.
pub fn check() -> io::Result<Sockets> {
    match PortSpace::make(Vec::new(), || ()).0 {
        Ok(space) => {
            space.end();
            Ok(Sockets::PortSpace)
        }
        Err(error) => {
            StandIns::new()?;
            Ok(Sockets::StandIns { errno: error.raw_os_error().unwrap_or(libc::EPERM) })
        }
    }
}

/// What is known of an instance's supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Running {
    /// It serves programs.
    Serves(Sockets),
    /// It was killed, or answers nothing.
    Ended,
}

/// Asks the supervisor of an instance, if it has one. What is left of an instance of that name before `since` does not count.
pub fn running(places: &Places, since: SystemTime) -> Option<Running> {
    let (path, _) = entry_files(places);
    match open(&path).and_then(|supervisor| ask(&supervisor, &Ask::Hello, None)) {
        Ok(Answer { sockets: Some(sockets), .. }) => Some(Running::Serves(sockets)),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            let made = fs::metadata(&path).and_then(|file| file.modified()).ok()?;
            (made + FILE_TIME >= since).then_some(Running::Ended)
        }
        Ok(_) | Err(_) => None,
    }
}

/// The program that this process becomes does not get the descriptor.
pub fn close_at_exec(number: i32) {
    exec::close_at_exec(number);
}

/// Becomes the program, past our own library. Returns only if that fails.
pub fn become_program(
    path: &Path,
    arguments: &[OsString],
    environment: &[(OsString, OsString)],
) -> io::Error {
    exec::execve(path, arguments, environment)
}

/// A filter is there already.
fn occupied(entry: &Entry<'_>, sockets: Sockets) -> Entered {
    let key = |places: &Places| (places.paths.run.clone(), places.app.clone(), places.instance.clone());
    match entry.outer {
        Some(outer) if key(outer) == key(entry.places) => Entered::Inherited(sockets),
        outer => {
            if let Some(outer) = outer
                && let Ok(supervisor) = open(&entry_files(outer).0)
            {
                let _ = ask(&supervisor, &Ask::Foreign, None);
            }
            Entered::Occupied
        }
    }
}

/// Asks the supervisor how it is, and lets it read our memory, which is that of the program later: where Yama allows it to parents
/// only (`kernel.yama.ptrace_scope` 1), a process can name another one.
fn greet(supervisor: &OwnedFd) -> io::Result<Answer> {
    let answer = ask(supervisor, &Ask::Hello, None)?;
    let pid = rustix::process::Pid::from_raw(answer.pid);
    match (answer.unreadable, pid) {
        (Some(_), Some(pid)) if set_ptracer(PTracer::ProcessID(pid)).is_ok() => {
            ask(supervisor, &Ask::Hello, None)
        }
        _ => Ok(answer),
    }
}

/// A supervisor that was reached.
struct Reached {
    supervisor: OwnedFd,
    sockets: Sockets,
    /// Whether it makes the sockets of programs.
    makes_sockets: bool,
}

/// A connection to a supervisor, and where its ports are.
fn reach(places: &Places, start: impl Fn(OwnedFd) -> io::Result<()>) -> Result<Reached, Refusal> {
    let mut last = io::Error::from_raw_os_error(libc::ECONNREFUSED);
    for _ in 0..ENTRY_TRIES {
        let supervisor = find(places, &start).map_err(Refusal::Supervisor)?;
        match greet(&supervisor) {
            Ok(Answer { sockets: Some(_), unreadable: Some(errno), .. }) => {
                return Err(Refusal::Memory(io::Error::from_raw_os_error(errno)));
            }
            Ok(Answer { sockets: Some(sockets), makes_sockets, .. }) => {
                return Ok(Reached { supervisor, sockets, makes_sockets });
            }
            Ok(Answer { errno, .. }) => {
                let errno = errno.unwrap_or(libc::EIO);
                return Err(Refusal::PortSpace(io::Error::from_raw_os_error(errno)));
            }
            Err(error) if is_ending(&error) => last = error,
            Err(error) => return Err(Refusal::Supervisor(error)),
        }
    }
    Err(Refusal::Supervisor(last))
}

/// Whether the supervisor ended while we asked.
fn is_ending(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

/// Connects to the supervisor, and starts one if there is none.
fn find(places: &Places, start: &impl Fn(OwnedFd) -> io::Result<()>) -> io::Result<OwnedFd> {
    let (path, lock) = entry_files(places);
    if let Some(folder) = path.parent() {
        match DirBuilder::new().mode(PRIVATE).create(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    // A supervisor that ends removes the file.
    let mut taken = RunLock::take(&lock)?;
    while !taken.is_at(&lock) {
        taken = RunLock::take(&lock)?;
    }
    match open(&path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {}
        result => return result,
    }
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    bind(&listener, &SocketAddrUnix::new(&path)?)?;
    listen(&listener, BACKLOG)?;
    start(listener)?;
    open(&path)
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    for kind in [sockopt::Timeout::Recv, sockopt::Timeout::Send] {
        sockopt::set_socket_timeout(&socket, kind, Some(ANSWER))?;
    }
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

/// Asks, and waits for the answer.
fn ask(supervisor: &OwnedFd, question: &Ask, filter: Option<BorrowedFd<'_>>) -> io::Result<Answer> {
    let message = serde_json::to_vec(question)?;
    let filters: Vec<BorrowedFd<'_>> = filter.into_iter().collect();
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut room);
    if !filters.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&filters));
    }
    sendmsg(supervisor, &[IoSlice::new(&message)], &mut control, SendFlags::NOSIGNAL)?;
    let mut answer = vec![0; MESSAGE_BYTES];
    let (_, length) = recv(supervisor, &mut answer[..], RecvFlags::empty())?;
    if length == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_slice(answer.get(..length).unwrap_or(&[]))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentfs_wire::paths::Paths;
    use std::os::unix::net::UnixListener;
    use std::time::Duration;

    #[test]
    fn what_a_killed_supervisor_leaves_counts_for_its_instance_only() {
        let home = tempfile::tempdir_in("/tmp").unwrap();
        let paths = Paths::new(home.path(), nix::unistd::geteuid().as_raw());
        let places = Places { paths, app: "shop".to_owned(), instance: "one".to_owned() };
        let now = SystemTime::now();
        assert!(running(&places, now).is_none());
        let (path, _) = entry_files(&places);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        drop(UnixListener::bind(&path).unwrap());
        // The file's time may be a tick before.
        assert!(matches!(running(&places, now), Some(Running::Ended)));
        assert!(running(&places, now + Duration::from_secs(5)).is_none());
    }
}
