//! The claim on an instance's name: its companion file. Called by `wrap` before the program starts, and when the
//! program has ended without a collector.
//!
//! Whoever makes, joins or leaves an instance holds the run lock while it reads what is running, decides and writes.
//! So of two commands that start at one instant, the second sees the first.
mod census;

pub(crate) use census::Census;

use crate::choice::{Choice, Mode, Refusal, Request, State, choose};
use crate::hint::{Failure, io_hint};
use crate::liveness;
use crate::place::Place;
use crate::{duration, exit::Exit};
use agentfs_home::RunLock;
use agentfs_wire::companion::{Companion, Started};
use agentfs_wire::name::{Kind, SocketName, app_name, instance_name};
use agentfs_wire::paths::Paths;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Commands that a companion lists. Beyond that, those that ended first are left out.
const COMMANDS: usize = 64;

/// Waits for the run lock, ten seconds each, before a command fails.
const LOCK_WAITS: u32 = 6;

/// Attempts to make an instance. An older agentfs takes names without the lock, so the name may be gone when we write.
const TRIES: u32 = 16;

/// A claimed name.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    /// What the companion says.
    pub(crate) companion: Companion,
    /// Our command, as it is listed there.
    pub(crate) own: Started,
    /// What was decided.
    pub(crate) choice: Choice,
    /// Whether commands of the instance have ended that were not seen to leave nothing behind.
    pub(crate) has_ended_commands: bool,
    /// The checkout that the instance was started in, if we joined it from another one: an agentfs.toml above makes both
    /// one app.
    pub(crate) other_checkout: Option<PathBuf>,
    /// The companion file.
    path: PathBuf,
}

/// Why there is no claim.
#[derive(Debug)]
pub(crate) enum NoClaim {
    /// It was refused.
    Refused(Refusal),
    /// It failed.
    Failed(Failure),
}

/// Claims a name for the command of `wanted`: makes an instance or joins one.
///
/// # Errors
/// Why there is no claim.
pub(crate) fn claim(
    paths: &Paths,
    place: &Place,
    request: &Request<'_>,
    wanted: &Companion,
) -> Result<Claim, NoClaim> {
    let failed = |path: &Path, error: &io::Error| {
        let failure = Failure::new(Exit::Setup, format_args!("cannot write {}: {error}", path.display()));
        NoClaim::Failed(failure.hint(io_hint(error)))
    };
    for _ in 0..TRIES {
        let lock = lock(paths).map_err(|error| failed(&paths.run_lock, &error))?;
        let census = Census::new(paths, place, &wanted.app, &wanted.command);
        let own = match (request.given, request.mode) {
            (Some(_), _) => Vec::new(),
            (None, Mode::Join) => census.own(),
            (None, Mode::Usual | Mode::New) => census.own_by_stem(request.stem),
        };
        let request = Request { own: &own, ..request.clone() };
        let choice = choose(&request, &mut |name| census.state(name)).map_err(NoClaim::Refused)?;
        let path = file(paths, &wanted.app, &choice.instance).map_err(NoClaim::Failed)?;
        let claimed = if choice.joins {
            join(census.companion(&choice.instance), place, wanted, choice, &path)
        } else {
            make(paths, census.companion(&choice.instance), place, wanted, choice, &path, &lock)
        };
        match claimed {
            Ok(claim) => return Ok(claim),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(&path, &error)),
        }
    }
    Err(NoClaim::Refused(Refusal::Full(request.stem.to_owned())))
}

/// Waits for the run lock. When hundreds of commands start at once, that takes more than one wait.
fn lock(paths: &Paths) -> io::Result<RunLock> {
    let mut waits = LOCK_WAITS;
    loop {
        waits -= 1;
        match RunLock::take(&paths.run_lock) {
            Err(error) if error.kind() == io::ErrorKind::TimedOut && waits > 0 => {}
            result => return result,
        }
    }
}

/// The instance that a command would join, or whose name it asks for, even if another folder has it.
pub(crate) fn running(
    paths: &Paths,
    place: &Place,
    request: &Request<'_>,
    wanted: &Companion,
) -> Option<String> {
    let census = Census::new(paths, place, &wanted.app, &wanted.command);
    if let Some(given) = request.given {
        return (census.state(given) != State::Free).then(|| given.to_owned());
    }
    let own = census.own();
    let request = Request { own: &own, mode: Mode::Join, inside: None, ..request.clone() };
    choose(&request, &mut |name| census.state(name)).ok().map(|choice| choice.instance)
}

/// Adds our command to an instance that is running.
fn join(
    found: Option<Companion>,
    place: &Place,
    wanted: &Companion,
    choice: Choice,
    path: &Path,
) -> io::Result<Claim> {
    let mut companion = found.ok_or(io::ErrorKind::NotFound)?;
    let own = started(wanted);
    let mut commands = companion.started();
    let ended = |one: &Started| !liveness::is_started(one);
    let has_ended_commands = commands.iter().any(ended);
    while commands.len() >= COMMANDS {
        // The processes of the first are in the fields of old as well.
        let first = commands.iter().position(ended).unwrap_or(0);
        commands.remove(first);
    }
    commands.push(own.clone());
    companion.commands = commands;
    // Whoever names the port last decides.
    companion.main = wanted.main.or(companion.main);
    let root = place.checkout.as_ref().map(|checkout| checkout.root.clone());
    let mut other_checkout = None;
    if companion.checkout.is_some() && companion.checkout != root {
        // The worktree may have been moved.
        if place.is_worktree_of(&companion) {
            companion.checkout = root;
        } else {
            other_checkout = companion.checkout.clone();
        }
    }
    rewrite(path, &companion)?;
    Ok(Claim { companion, own, choice, has_ended_commands, other_checkout, path: path.to_owned() })
}

/// Makes an instance: a new one, or in the place of one that is dead.
fn make(
    paths: &Paths,
    found: Option<Companion>,
    place: &Place,
    wanted: &Companion,
    choice: Choice,
    path: &Path,
    lock: &RunLock,
) -> io::Result<Claim> {
    let own = started(wanted);
    let mut companion = Companion {
        instance: choice.instance.clone(),
        started_ms: own.started_ms,
        stem: choice.stem.clone(),
        closed: choice.closed,
        commands: vec![own.clone()],
        ..wanted.clone()
    };
    if let Some(dead) = &found
        && place.owns(dead)
        && dead.secret.is_some()
    {
        // A process that was left behind may live without anybody's knowledge. It is in the same localhost.
        companion.secret = dead.secret;
    }
    let temporary = write_temporary(path, &companion)?;
    // Dead: a file that is there, whatever is in it.
    let result = if fs::symlink_metadata(path).is_ok() {
        liveness::sweep(paths, &companion.app, &companion.instance, lock)
            .and_then(|()| fs::rename(&temporary, path))
    } else {
        fs::hard_link(&temporary, path)
    };
    let _ = fs::remove_file(&temporary);
    result?;
    let (has_ended_commands, other_checkout) = (false, None);
    Ok(Claim { companion, own, choice, has_ended_commands, other_checkout, path: path.to_owned() })
}

fn started(wanted: &Companion) -> Started {
    let own = wanted.started().into_iter().next().unwrap_or_default();
    Started { child_pid: wanted.child_pid, started_ms: duration::now_ms(), ..own }
}

// === impl Claim ===

impl Claim {
    /// Records the process of the program.
    ///
    /// # Errors
    /// The companion cannot be rewritten; the old one stays.
    pub(crate) fn started(&mut self, paths: &Paths, pid: u32) -> io::Result<()> {
        let _lock = lock(paths)?;
        let Some(mut companion) = self.read() else { return Err(io::ErrorKind::NotFound.into()) };
        let first = (companion.wrap_pid, companion.started_ms) == (self.own.wrap_pid, self.own.started_ms);
        if first {
            companion.child_pid = pid;
        }
        for one in companion.commands.iter_mut().filter(|one| **one == self.own) {
            one.child_pid = pid;
        }
        self.own.child_pid = pid;
        rewrite(&self.path, &companion)?;
        self.companion = companion;
        Ok(())
    }

    /// Takes ended commands out of the list: they left nothing behind.
    ///
    /// # Errors
    /// The companion cannot be rewritten; the old one stays.
    pub(crate) fn forget_ended(&mut self, paths: &Paths) -> io::Result<()> {
        let _lock = lock(paths)?;
        let Some(mut companion) = self.read() else { return Ok(()) };
        companion.commands.retain(liveness::is_started);
        rewrite(&self.path, &companion)?;
        self.companion = companion;
        Ok(())
    }

    /// Gives the name back, unless something of the instance still runs or listens. For use without a collector.
    ///
    /// # Errors
    /// Where files cannot be removed.
    pub(crate) fn release(&self, paths: &Paths) -> io::Result<()> {
        let lock = lock(paths)?;
        self.leave(|companion| {
            liveness::sweep(paths, &companion.app, &companion.instance, &lock)?;
            Ok(!census::is_listening(paths, &companion.app, &companion.instance))
        })
    }

    /// Withdraws the claim: the program was never started.
    pub(crate) fn withdraw(&self, paths: &Paths) {
        // An instance that was there before us stays. A companion that stays looks like a dead instance, which is
        // harmless.
        let _ = lock(paths).and_then(|_lock| self.leave(|_| Ok(!self.choice.joins)));
    }

    /// Takes our command out of the companion. Removes that if no other command is running and the instance `is_over`.
    /// The caller holds the lock.
    fn leave(&self, is_over: impl FnOnce(&Companion) -> io::Result<bool>) -> io::Result<()> {
        let Some(mut companion) = self.read() else { return Ok(()) };
        let others: Vec<Started> = companion.started().into_iter().filter(|one| *one != self.own).collect();
        let alone = !others.iter().any(liveness::is_started);
        if alone && is_over(&companion)? {
            return fs::remove_file(&self.path);
        }
        companion.commands = others;
        rewrite(&self.path, &companion)
    }

    /// The companion as it is, if it is still that of our instance's life.
    fn read(&self) -> Option<Companion> {
        let found: Companion = serde_json::from_slice(&fs::read(&self.path).ok()?).ok()?;
        let life = |companion: &Companion| (companion.wrap_pid, companion.started_ms);
        (life(&found) == life(&self.companion)).then_some(found)
    }
}

// === impl From<Refusal> ===

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let fail = |message: String| Self::new(Exit::Setup, message);
        match refusal {
            Refusal::NothingToJoin => fail("no running instance of this folder to join".to_owned())
                .hint("leave --join out to start one; `agentfs ps` lists what is running"),
            Refusal::Several(names) => {
                fail(format!("several instances of this folder are running: {}", names.join(", ")))
                    .hint("choose one with --instance")
            }
            Refusal::Running(name) => fail(format!("instance `{name}` is already running"))
                .hint("leave --new out to join it, or use --replace to stop it first"),
            Refusal::Taken(name, holder) => fail(format!("instance `{name}` belongs to {holder}"))
                .hint("choose another name, or use --replace to stop it first"),
            Refusal::Full(name) => {
                fail(format!("cannot find a free name for `{name}`")).hint("choose one with --instance")
            }
        }
    }
}

impl From<NoClaim> for Failure {
    fn from(none: NoClaim) -> Self {
        match none {
            NoClaim::Refused(refusal) => refusal.into(),
            NoClaim::Failed(failure) => failure,
        }
    }
}

fn rewrite(path: &Path, companion: &Companion) -> io::Result<()> {
    let temporary = write_temporary(path, companion)?;
    fs::rename(&temporary, path).inspect_err(|_| drop(fs::remove_file(&temporary)))
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

/// The companion file of an instance.
fn file(paths: &Paths, app: &str, instance: &str) -> Result<PathBuf, Failure> {
    let (app_label, instance_label) = app_name(app).zip(instance_name(instance)).ok_or_else(|| {
        Failure::new(Exit::Setup, format_args!("`{app}/{instance}` is not a valid instance name"))
    })?;
    let name = SocketName { app: app_label, instance: instance_label, kind: Kind::Companion };
    Ok(paths.run.join(name.format().as_str()))
}

#[cfg(test)]
mod tests;
