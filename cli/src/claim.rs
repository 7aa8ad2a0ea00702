//! The claim on an instance's name: its companion file, which only one can create.
//! Called by `wrap` before the program starts, and when the program has ended without a collector.
use crate::hint::{Failure, io_hint};
use crate::liveness;
use crate::naming::{Names, with_id};
use crate::{duration, exit::Exit};
use agentfs_home::{Prober, RunLock};
use agentfs_wire::companion::Companion;
use agentfs_wire::name::{Kind, SocketName, app_name, instance_name};
use agentfs_wire::paths::Paths;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Names that are tried before we give up. From the second on they have a random id, so the second succeeds.
const TRIES: u32 = 16;

/// A claimed name.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    /// What the companion says.
    pub(crate) companion: Companion,
    /// The companion file.
    path: PathBuf,
}

/// Result of one attempt.
enum Attempt {
    Claimed,
    Taken,
}

/// Claims the names of `wanted`. If an instance with these names is running, adds a random id to the
/// instance's name. `random` returns a new seed each time.
///
/// # Errors
/// The companion cannot be written.
pub(crate) fn claim(
    paths: &Paths,
    wanted: Companion,
    mut random: impl FnMut() -> u64,
) -> Result<Claim, Failure> {
    let names = Names { app: wanted.app.clone(), instance: wanted.instance.clone() };
    let mut companion = wanted;
    for _ in 0..TRIES {
        let path = file(paths, &companion)?;
        companion.started_ms = duration::now_ms();
        match attempt(paths, &path, &companion) {
            Ok(Attempt::Claimed) => return Ok(Claim { companion, path }),
            Ok(Attempt::Taken) => companion.instance = with_id(&names.instance, random()),
            Err(error) => {
                let failure =
                    Failure::new(Exit::Setup, format_args!("cannot write {}: {error}", path.display()));
                return Err(failure.hint(io_hint(&error)));
            }
        }
    }
    let message = format_args!("cannot find a free name for {}/{}", names.app, names.instance);
    Err(Failure::new(Exit::Setup, message).hint("choose one with --instance"))
}

// === impl Claim ===

impl Claim {
    /// Records the process of the program.
    ///
    /// # Errors
    /// The companion cannot be rewritten; the old one stays.
    pub(crate) fn started(&mut self, pid: u32) -> io::Result<()> {
        self.companion.child_pid = pid;
        let temporary = write_temporary(&self.path, &self.companion)?;
        fs::rename(&temporary, &self.path)
    }

    /// Gives the name back, unless something of the instance still listens. For use without a collector.
    ///
    /// # Errors
    /// Where files cannot be removed.
    pub(crate) fn release(&self, paths: &Paths) -> io::Result<()> {
        let lock = RunLock::take(&paths.run_lock)?;
        liveness::sweep(paths, &self.companion.app, &self.companion.instance, &lock)?;
        if is_listening(paths, &self.companion) { Ok(()) } else { fs::remove_file(&self.path) }
    }

    /// Withdraws the claim: the program was never started.
    pub(crate) fn withdraw(&self) {
        // A companion that stays looks like a dead instance, which is harmless.
        let _ = fs::remove_file(&self.path);
    }
}

fn attempt(paths: &Paths, path: &Path, companion: &Companion) -> io::Result<Attempt> {
    // The file is complete before it gets its name, so nobody reads half a companion.
    let temporary = write_temporary(path, companion)?;
    let result = match fs::hard_link(&temporary, path) {
        // A listener without a companion may have that name: a socket made by hand, or a daemon that was left
        // behind.
        Ok(()) if is_listening(paths, companion) => {
            fs::remove_file(path)?;
            Ok(Attempt::Taken)
        }
        Ok(()) => Ok(Attempt::Claimed),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            take_over(paths, path, &temporary, companion)
        }
        Err(error) => Err(error),
    };
    let _ = fs::remove_file(&temporary);
    result
}

/// Replaces a dead instance. Holds the run lock, so that of two processes which find it dead only one
/// replaces it.
fn take_over(paths: &Paths, path: &Path, temporary: &Path, new: &Companion) -> io::Result<Attempt> {
    if lives(paths, path, new) {
        return Ok(Attempt::Taken);
    }
    let lock = RunLock::take(&paths.run_lock)?;
    if lives(paths, path, new) {
        return Ok(Attempt::Taken);
    }
    liveness::sweep(paths, &new.app, &new.instance, &lock)?;
    fs::rename(temporary, path)?;
    Ok(Attempt::Claimed)
}

fn lives(paths: &Paths, path: &Path, new: &Companion) -> bool {
    let old = fs::read(path).ok().and_then(|bytes| serde_json::from_slice::<Companion>(&bytes).ok());
    old.is_some_and(|old| liveness::has_process(&old)) || is_listening(paths, new)
}

fn is_listening(paths: &Paths, companion: &Companion) -> bool {
    let mut prober = Prober::default();
    liveness::files_of(paths, &companion.app, &companion.instance)
        .iter()
        .any(|path| prober.probe(path).is_held())
}

fn write_temporary(path: &Path, companion: &Companion) -> io::Result<PathBuf> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}.tmp", std::process::id()));
    let temporary = PathBuf::from(temporary);
    let bytes = serde_json::to_vec(companion).map_err(io::Error::other)?;
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    // Even if the file existed before: it contains the instance's secret.
    let private = file.set_permissions(Permissions::from_mode(0o600));
    if let Err(error) = private.and_then(|()| file.write_all(&bytes)) {
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    Ok(temporary)
}

fn file(paths: &Paths, companion: &Companion) -> Result<PathBuf, Failure> {
    let names = app_name(&companion.app).zip(instance_name(&companion.instance));
    let (app, instance) = names.ok_or_else(|| {
        Failure::new(
            Exit::Setup,
            format_args!("`{}/{}` is not a valid instance name", companion.app, companion.instance),
        )
    })?;
    let name = SocketName { app, instance, kind: Kind::Companion };
    Ok(paths.run.join(name.format().as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentfs_wire::companion::Rules;
    use std::os::unix::net::UnixListener;

    fn home() -> (tempfile::TempDir, Paths) {
        let home = tempfile::tempdir_in("/tmp").unwrap();
        let paths = Paths::new(home.path(), 0);
        fs::create_dir(&paths.run).unwrap();
        (home, paths)
    }

    fn wanted(wrap_pid: u32) -> Companion {
        Companion {
            app: "shop".to_owned(),
            instance: "blue".to_owned(),
            directory: "/".into(),
            checkout: None,
            fork: false,
            branch: None,
            command: vec!["true".to_owned()],
            wrap_pid,
            child_pid: 0,
            started_ms: 0,
            version: String::new(),
            rules: Rules::default(),
            main: None,
            secret: None,
        }
    }

    fn take(paths: &Paths, wrap_pid: u32) -> Claim {
        claim(paths, wanted(wrap_pid), || 7).unwrap()
    }

    #[test]
    fn a_living_name_is_never_shared() {
        let (_home, paths) = home();
        assert_eq!(take(&paths, std::process::id()).companion.instance, "blue");
        let mode = fs::metadata(paths.run.join("shop-blue.json")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "it may have a secret");
        let second = take(&paths, std::process::id()).companion.instance;
        assert!(second.starts_with("blue-"), "{second}");
        assert_eq!(fs::read_dir(&paths.run).unwrap().count(), 2, "no temporary file is left");
    }

    #[test]
    fn a_dead_name_is_taken_over_with_its_leftovers_gone() {
        let (_home, paths) = home();
        let socket = paths.run.join("shop-blue.80.sock");
        drop(UnixListener::bind(&socket).unwrap());
        take(&paths, u32::MAX);
        assert_eq!(take(&paths, std::process::id()).companion.instance, "blue");
        assert!(!socket.exists());
    }

    #[test]
    fn a_listener_alone_holds_the_name() {
        let (_home, paths) = home();
        let _listener = UnixListener::bind(paths.run.join("shop-blue.sock")).unwrap();
        assert_ne!(take(&paths, std::process::id()).companion.instance, "blue");
    }

    #[test]
    fn a_claim_is_told_its_process_and_given_back() {
        let (_home, paths) = home();
        let mut claim = take(&paths, std::process::id());
        claim.started(4711).unwrap();
        let read: Companion = serde_json::from_slice(&fs::read(&claim.path).unwrap()).unwrap();
        assert_eq!(read.child_pid, 4711);
        claim.release(&paths).unwrap();
        assert_eq!(fs::read_dir(&paths.run).unwrap().count(), 0);
    }

    #[test]
    fn an_instance_with_one_living_process_is_not_taken_over() {
        for (wrap_pid, child_pid) in [(u32::MAX, std::process::id()), (std::process::id(), u32::MAX)] {
            let (_home, paths) = home();
            claim(&paths, Companion { child_pid, ..wanted(wrap_pid) }, || 7).unwrap();
            let second = take(&paths, std::process::id()).companion.instance;
            assert!(second.starts_with("blue-"), "wrap {wrap_pid}, child {child_pid}: {second}");
        }
    }

    /// The program has ended; a daemon that it started still serves.
    #[test]
    fn an_instance_whose_descendant_listens_is_not_taken_over() {
        let (_home, paths) = home();
        take(&paths, u32::MAX);
        let companion = fs::read(paths.run.join("shop-blue.json")).unwrap();
        let socket = paths.run.join("shop-blue.80.sock");
        let _listener = UnixListener::bind(&socket).unwrap();
        let second = take(&paths, std::process::id()).companion.instance;
        assert!(second.starts_with("blue-") && socket.exists(), "{second}");
        assert_eq!(fs::read(paths.run.join("shop-blue.json")).unwrap(), companion);
    }
}
