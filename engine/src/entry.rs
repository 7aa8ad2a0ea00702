//! How a program enters: its own process finds or starts the supervisor of its instance, installs the filter, and sends its
//! descriptor there. Then it becomes the program.
use crate::filter;
use crate::limits::{ANSWER, BACKLOG, ENTRY_TRIES, MESSAGE_BYTES};
use crate::port_space::PortSpace;
use crate::protocol::{Answer, Ask, Member};
use crate::supervisor::{Places, entry_files};
use crate::sys::{exec, seccomp};
use agentfs_home::{PRIVATE, RunLock};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, bind, connect, listen, recv, sendmsg, socket_with, sockopt,
};
use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

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
    Served,
    /// A program above has a filter of the same instance, which this program inherits.
    Inherited,
    /// A program above has a filter of another instance, or of somebody else. There can be only one, so this program is not
    /// served.
    Occupied,
}

/// Why a program cannot be served. It can be started all the same.
#[derive(Debug)]
pub enum Refusal {
    /// The system has no name spaces for us.
    PortSpace(io::Error),
    /// The system does not let us install a filter.
    Filter(io::Error),
    /// The supervisor does not answer.
    Supervisor(io::Error),
}

/// Enters. `start` starts a supervisor, with the listening socket that it is given as standard input, and returns when that
/// process is on its own.
///
/// # Errors
/// [`Refusal`]: nothing was changed.
pub fn enter(entry: &Entry<'_>, start: impl Fn(OwnedFd) -> io::Result<()>) -> Result<Entered, Refusal> {
    let program =
        filter::program().ok_or_else(|| Refusal::Filter(io::Error::from_raw_os_error(libc::ENOSYS)))?;
    let supervisor = reach(entry.places, start)?;
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
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => return Ok(occupied(entry)),
        Err(error) => return Err(Refusal::Filter(error)),
    };
    // From here on calls wait for the supervisor: if it ended at this moment, they would fail.
    match ask(&supervisor, &Ask::Serve(entry.member.clone()), Some(filter.as_fd())) {
        Ok(Answer { errno: None }) => Ok(Entered::Served),
        Ok(Answer { errno: Some(errno) }) => Err(Refusal::Supervisor(io::Error::from_raw_os_error(errno))),
        Err(error) => Err(Refusal::Supervisor(error)),
    }
}

/// Whether the system gives us a port space. The caller has one thread.
///
/// # Errors
/// Why not.
pub fn check() -> io::Result<()> {
    let (space, _) = PortSpace::make(Vec::new(), || ());
    space.map(|space| space.end())
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
fn occupied(entry: &Entry<'_>) -> Entered {
    let key = |places: &Places| (places.paths.run.clone(), places.app.clone(), places.instance.clone());
    match entry.outer {
        Some(outer) if key(outer) == key(entry.places) => Entered::Inherited,
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

/// A connection to a supervisor that has a port space.
fn reach(places: &Places, start: impl Fn(OwnedFd) -> io::Result<()>) -> Result<OwnedFd, Refusal> {
    let mut last = io::Error::from_raw_os_error(libc::ECONNREFUSED);
    for _ in 0..ENTRY_TRIES {
        let supervisor = find(places, &start).map_err(Refusal::Supervisor)?;
        match ask(&supervisor, &Ask::Hello, None) {
            Ok(Answer { errno: None }) => return Ok(supervisor),
            Ok(Answer { errno: Some(errno) }) => {
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
