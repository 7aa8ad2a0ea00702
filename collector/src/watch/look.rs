//! Checks one file of the run dir and reports what it is, without disturbing a listener.
use crate::limits::COMPANION_BYTES;
use crate::registry::FileState;
use agentfs_home::{AcceptingSockets, Price, Probe, Prober, is_ours};
use agentfs_wire::companion::Companion;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Checks several files at one moment; shared data is read only once.
pub(crate) struct Looker<'a> {
    run: &'a Path,
    prober: Prober,
    accepting: Option<AcceptingSockets>,
    price: &'a mut Price,
    /// Whether a file with that inode number listens, if it was seen before. One that listens needs no check.
    known: &'a dyn Fn(&str, u64) -> Option<bool>,
}

// === impl Looker ===

impl<'a> Looker<'a> {
    /// A checker for a run dir. `known` says which sockets were seen, and whether they listened. `price` is passed
    /// from one checker to the next.
    pub(crate) fn new(
        run: &'a Path,
        price: &'a mut Price,
        known: &'a dyn Fn(&str, u64) -> Option<bool>,
    ) -> Self {
        Self { run, prober: Prober::default(), accepting: None, price, known }
    }

    /// What `file` is, and its inode number. `told`: a notice reported its `listen`.
    pub(crate) fn look(&mut self, file: &str, told: bool) -> (FileState, u64) {
        let path = self.run.join(file);
        match fs::symlink_metadata(&path) {
            Ok(metadata) => (self.look_at(file, &path, &metadata, told), metadata.ino()),
            Err(error) => (absent(&error), 0),
        }
    }

    fn look_at(&mut self, file: &str, path: &PathBuf, metadata: &Metadata, told: bool) -> FileState {
        if metadata.is_symlink() {
            return self.look_at_link(file, path, told);
        }
        if metadata.file_type().is_socket() {
            return self.look_at_socket(file, path, path, metadata, told);
        }
        if !metadata.is_file() {
            return FileState::Foreign("is neither a socket nor a file".to_owned());
        }
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("json") => read_companion(path),
            Some("group") => FileState::Mark,
            _ => FileState::Foreign("is a plain file, not a socket".to_owned()),
        }
    }

    fn look_at_link(&mut self, file: &str, path: &Path, told: bool) -> FileState {
        let Ok(text) = fs::read_link(path) else { return FileState::Gone };
        let inside = inside(self.run, &text);
        let end = match fs::metadata(path) {
            // A file in our own folder is trusted; the target of a link only if it is ours.
            Ok(metadata) if inside.is_none() && metadata.file_type().is_socket() && !is_ours(&metadata) => {
                FileState::Foreign(format!("is a link to a socket of user {}", metadata.uid()))
            }
            // The path of the target may be too long for a socket address: the kernel follows the link from
            // the short name.
            Ok(metadata) if metadata.file_type().is_socket() => {
                let end = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
                self.look_at_socket(file, path, &end, &metadata, told)
            }
            Ok(_) => FileState::Foreign("is a link to something that is not a socket".to_owned()),
            Err(error) => absent(&error),
        };
        FileState::Link { file: inside, end: Box::new(end) }
    }

    fn look_at_socket(
        &mut self,
        file: &str,
        path: &Path,
        end: &Path,
        metadata: &Metadata,
        told: bool,
    ) -> FileState {
        match self.prober.probe(path) {
            Probe::Live => {
                let inode = metadata.ino();
                let known = (self.known)(file, inode);
                let accepting = told || known == Some(true) || self.is_listed(end, known.is_some());
                FileState::Socket { inode, accepting }
            }
            Probe::Stale => FileState::Stale,
            Probe::Gone => FileState::Gone,
            Probe::Unknown(errno) => FileState::Foreign(format!("cannot be probed: {}", errno.desc())),
        }
    }
}

impl Looker<'_> {
    /// Whether the list of sockets says that it listens. If the list is too expensive to read now, it counts as not
    /// listening yet.
    fn is_listed(&mut self, socket: &Path, seen: bool) -> bool {
        if self.accepting.is_none() {
            self.accepting = self.price.read(seen);
        }
        self.accepting.as_ref().is_some_and(|accepting| accepting.contains(socket))
    }
}

impl std::fmt::Debug for Looker<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Looker").field("run", &self.run).finish_non_exhaustive()
    }
}

/// The file of the run dir that a link's target names, if any.
fn inside(run: &Path, text: &Path) -> Option<String> {
    let file = text.file_name()?;
    let folder = text.parent()?;
    (folder == Path::new("") || folder == Path::new(".") || folder == run)
        .then(|| file.to_string_lossy().into_owned())
}

fn absent(error: &io::Error) -> FileState {
    match error.kind() {
        io::ErrorKind::NotFound => FileState::Gone,
        _ => FileState::Foreign(format!("cannot be read: {error}")),
    }
}

fn read_companion(path: &PathBuf) -> FileState {
    match try_read_companion(path) {
        Ok((companion, written_ms)) => FileState::Companion { companion: Box::new(companion), written_ms },
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound => FileState::Gone,
            _ => FileState::Foreign(format!("is not a valid companion file: {error}")),
        },
    }
}

fn try_read_companion(path: &PathBuf) -> io::Result<(Companion, u64)> {
    // If a link or a pipe replaced the file, it must not block us.
    let flags = nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_NONBLOCK;
    let file = File::options().read(true).custom_flags(flags.bits()).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || !is_ours(&metadata) || metadata.len() > COMPANION_BYTES {
        return Err(io::Error::other("it is too large, or not ours"));
    }
    let written = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut text = Vec::new();
    file.take(COMPANION_BYTES).read_to_end(&mut text)?;
    let companion = serde_json::from_slice(&text)?;
    Ok((companion, u64::try_from(written.as_millis()).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentfs_home::list;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::{UnixDatagram, UnixListener};

    fn look(run: &Path, file: &str) -> FileState {
        Looker::new(run, &mut Price::default(), &|_, _| None).look(file, false).0
    }

    #[test]
    fn sockets_are_told_apart() {
        let run = tempfile::tempdir().unwrap();
        let path = |file: &str| run.path().join(file);
        let live = UnixListener::bind(path("a-live.sock")).unwrap();
        assert!(matches!(look(run.path(), "a-live.sock"), FileState::Socket { accepting: true, .. }));
        drop(live);
        assert_eq!(look(run.path(), "a-live.sock"), FileState::Stale);
        assert_eq!(look(run.path(), "a-none.sock"), FileState::Gone);
        let _datagram = UnixDatagram::bind(path("a-datagram.sock")).unwrap();
        assert!(matches!(look(run.path(), "a-datagram.sock"), FileState::Foreign(_)));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn bound_is_not_listening() {
        use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, socket};
        use std::os::fd::AsRawFd;
        let run = tempfile::tempdir().unwrap();
        let path = run.path().join("a-b.80.sock");
        let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        nix::sys::socket::bind(socket.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
        assert!(matches!(look(run.path(), "a-b.80.sock"), FileState::Socket { accepting: false, .. }));
        nix::sys::socket::listen(&socket, nix::sys::socket::Backlog::new(1).unwrap()).unwrap();
        assert!(matches!(look(run.path(), "a-b.80.sock"), FileState::Socket { accepting: true, .. }));
    }

    /// The look comes first, but a companion may be replaced between the two.
    #[test]
    fn a_pipe_in_the_place_of_a_companion_blocks_nobody() {
        let run = tempfile::tempdir().unwrap();
        let path = run.path().join("a-b.json");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(matches!(look(run.path(), "a-b.json"), FileState::Foreign(_)));
        let (state_tx, state_rx) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || state_tx.send(read_companion(&path)).unwrap());
        let state =
            state_rx.recv_timeout(std::time::Duration::from_secs(30)).expect("nobody waits for a writer");
        assert!(matches!(state, FileState::Foreign(_)));
        thread.join().unwrap();
    }

    #[test]
    fn links_are_followed_and_loops_are_not() {
        let run = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let path = |file: &str| run.path().join(file);
        let _inside = UnixListener::bind(path("a-b.80.sock")).unwrap();
        let _outside = UnixListener::bind(outside.path().join("app.sock")).unwrap();
        symlink("a-b.80.sock", path("a-b.sock")).unwrap();
        symlink(outside.path().join("app.sock"), path("a-out.sock")).unwrap();
        symlink("a-loop.sock", path("a-loop.sock")).unwrap();
        symlink("/nowhere/x.sock", path("a-dangling.sock")).unwrap();
        symlink("/etc/passwd", path("a-file.sock")).unwrap();
        let link = |file: &str| match look(run.path(), file) {
            FileState::Link { file, end } => (file, *end),
            other => panic!("{file}: {other:?}"),
        };
        let (inside, end) = link("a-b.sock");
        assert_eq!(inside.as_deref(), Some("a-b.80.sock"));
        assert!(matches!(end, FileState::Socket { accepting: true, .. }));
        let (inside, end) = link("a-out.sock");
        assert!(inside.is_none() && matches!(end, FileState::Socket { accepting: true, .. }));
        assert!(matches!(link("a-loop.sock").1, FileState::Foreign(_)));
        assert_eq!(link("a-dangling.sock").1, FileState::Gone);
        assert!(matches!(link("a-file.sock").1, FileState::Foreign(_)));
    }

    #[test]
    fn foreign_files_are_named_and_left() {
        let run = tempfile::tempdir().unwrap();
        let path = |file: &str| run.path().join(file);
        fs::write(path("a-b.sock"), "no socket").unwrap();
        fs::create_dir(path("a-c.sock")).unwrap();
        fs::write(path("a-d.json"), "{garbage").unwrap();
        fs::create_dir(path("a-e.json")).unwrap();
        nix::unistd::mkfifo(&path("a-f.json"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        fs::write(path("unrelated.txt"), "").unwrap();
        for file in ["a-b.sock", "a-c.sock", "a-d.json", "a-e.json", "a-f.json"] {
            assert!(matches!(look(run.path(), file), FileState::Foreign(_)), "{file}");
        }
        assert_eq!(list(run.path()).unwrap().len(), 5);
    }
}
