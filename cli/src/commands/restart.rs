//! `agentfs restart`: stops an instance and starts its commands again. If only one was running, we become that program.
//! Of several, each is a child of ours, in the order in which they were started: they share this terminal, and their
//! announcements come here.
use crate::args::{RestartArguments, WrapArguments};
use crate::autostart;
use crate::client::Client;
use crate::commands::wrap;
use crate::engine::Choice;
use crate::exit::Exit;
use crate::here;
use crate::hint::Failure;
use crate::instance;
use crate::liveness;
use crate::members;
use crate::place::{self, Place};
use crate::printer::Printer;
use crate::program;
use crate::project_file;
use crate::reference;
use crate::settings::Settings;
use crate::stopping;
use crate::supervise::{Child, Crew, End};
use agentfs_wire::companion::{Companion, Started};
use agentfs_wire::control::{ForwardInfo, ForwardParams, InstanceInfo, Snapshot, method};
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::{Duration, Instant};

/// How long the next of several commands waits until the one before has joined the instance. Usually that takes
/// milliseconds.
const JOIN_TIME: Duration = Duration::from_secs(30);

/// Pause between two looks whether it has.
const LOOK_PAUSE: Duration = Duration::from_millis(2);

/// Ancestors of a process that are looked at. A longer line is not followed.
const ANCESTORS: usize = 64;

/// Answer to `forward.list`.
#[derive(Debug, Deserialize)]
struct Forwards {
    /// Every forward.
    forwards: Vec<ForwardInfo>,
}

/// What is started again.
#[derive(Debug)]
struct Again<'a> {
    settings: &'a Settings,
    printer: &'a Printer,
    /// `APP/INSTANCE`
    shown: String,
    companion: Companion,
    /// Its commands, in the order in which they were started.
    commands: Vec<Started>,
    forwards: Vec<ForwardParams>,
}

/// Runs the command. Returns only if the program could not be started, or if there were several.
///
/// # Errors
/// The instance is not found, was made by hand, or cannot be stopped; a folder or a program of it is gone.
pub(crate) fn run(
    arguments: &RestartArguments,
    settings: &Settings,
    printer: &Printer,
) -> Result<Exit, Failure> {
    let name = arguments.instance.as_deref();
    let Some(mut client) = autostart::where_needed(settings)? else {
        return Err(reference::nothing_runs(name));
    };
    let snapshot: Snapshot = client.call(method::LIST, json!({}))?;
    let info = here::choose(name, settings, &mut client, &snapshot, Some(printer))?;
    let shown = format!("{}/{}", info.app, info.instance);
    if place::own(settings).is_some_and(|own| own == (info.app.clone(), info.instance.clone())) {
        return Err(Failure::of(format_args!("{shown} cannot restart itself"))
            .hint("run `agentfs restart` outside the instance"));
    }
    let companion = instance::companion(settings, &info.app, &info.instance);
    let Some(companion) = companion.filter(|companion| !companion.command.is_empty()) else {
        return Err(Failure::of(format_args!("{shown} was not started by agentfs"))
            .hint("stop it and start it as you did before"));
    };
    let commands = commands_of(&companion, &members::parents());
    let forwards = forwards_of(&mut client, info)?;
    let again = Again { settings, printer, shown, companion, commands, forwards };
    // Everything that can fail comes before the stop.
    for one in &again.commands {
        again.check(one)?;
    }
    stopping::end(&mut client, &[info], Duration::from_secs(arguments.timeout), settings, printer)?;
    drop(client);
    match again.commands.as_slice() {
        [only] => again.become_it(only),
        _ => again.beside_one_another(),
    }
}

/// The commands to start: those that are running, without those that another of them started, which will start them again.
/// If all have ended and only left something behind, the first.
fn commands_of(companion: &Companion, parents: &BTreeMap<u32, u32>) -> Vec<Started> {
    let started = companion.started();
    let running: Vec<&Started> = started.iter().filter(|one| liveness::is_started(one)).collect();
    let above = |pid: u32| std::iter::successors(parents.get(&pid), |pid| parents.get(pid)).take(ANCESTORS);
    let has_started = |one: &Started, other: &Started| {
        other != one
            && above(one.wrap_pid).any(|pid| *pid != 0 && [other.wrap_pid, other.child_pid].contains(pid))
    };
    let first = running.iter().filter(|one| !running.iter().any(|other| has_started(one, other)));
    let first: Vec<Started> = first.map(|one| (*one).clone()).collect();
    if first.is_empty() { started.into_iter().take(1).collect() } else { first }
}

/// The forwards of an instance, as they are asked for.
fn forwards_of(client: &mut Client, info: &InstanceInfo) -> Result<Vec<ForwardParams>, Failure> {
    let Forwards { forwards } = client.call(method::FORWARD_LIST, json!({}))?;
    let own = forwards.into_iter().filter(|it| (&it.app, &it.instance) == (&info.app, &info.instance));
    let params = own.map(|forward| ForwardParams {
        app: forward.app,
        instance: forward.instance,
        listen: forward.port.map(|_| forward.listen),
        port: forward.port,
        handoff: forward.handoff,
        lan: forward.lan,
    });
    Ok(params.collect())
}

// === impl Again ===

impl Again<'_> {
    /// Whether a command can be started again.
    fn check(&self, one: &Started) -> Result<(), Failure> {
        let Self { shown, settings, .. } = self;
        let running = || format!("{shown} is still running");
        self.enter(one).map_err(|failure| failure.hint(running()))?;
        let place = Place::current();
        if place.replaced(&self.companion) {
            let folder = place.folder().display();
            let message = format_args!("the worktree of {shown} was removed, and {folder} is another one");
            return Err(Failure::of(message).hint(running()));
        }
        let read = project_file::isolation(&place).and_then(|_| project_file::main(&place));
        read.map_err(|failure| failure.exit(Exit::Failure).hint(running()))?;
        if !wrap::is_whole(&one.command) {
            return Err(Failure::of(format_args!("a command line of {shown} is too long or not text"))
                .hint(format_args!("{}; stop it and start it as you did before", running())));
        }
        let program = one.command.first().cloned().unwrap_or_default();
        let found = program::find(program.as_ref(), settings.search_path.as_deref());
        found.map(drop).map_err(|failure| failure.hint(running()))
    }

    /// Goes into the folder of a command.
    fn enter(&self, one: &Started) -> Result<(), Failure> {
        std::env::set_current_dir(&one.directory).map_err(|error| {
            let folder = one.directory.display();
            Failure::of(format_args!("cannot use the folder of {}, {folder}: {error}", self.shown))
        })
    }

    fn say(&self, one: &Started) {
        let (command, folder) = (one.command.join(" "), one.directory.display());
        self.printer.note(&format!("restarting {}: {command}  (in {folder})", self.shown));
    }

    /// Becomes the program. Returns only if that fails.
    fn become_it(&self, one: &Started) -> Result<Exit, Failure> {
        self.enter(one)?;
        self.say(one);
        wrap::run(self.wrap(one), self.settings, self.printer)
    }

    /// Starts every command and waits until all have ended. The status is that of the first one that failed.
    fn beside_one_another(&self) -> Result<Exit, Failure> {
        let mut crew = Crew::default();
        let mut children: Vec<Child> = Vec::new();
        for one in &self.commands {
            if let Some(last) = children.last() {
                self.await_joined(last);
            }
            if crew.is_asked_to_end() {
                break;
            }
            let child = self.enter(one).and_then(|()| self.start(one, &mut crew));
            match child {
                Ok(child) => children.push(child),
                // The others are running: they must not be left alone.
                Err(failure) => self.printer.warn(&failure.message),
            }
            if children.len() == 1 {
                self.await_joined(&children[0]);
                self.open_forwards();
            }
        }
        let all = children.len() == self.commands.len();
        // Without a status of its own: the kernel kept none, because SIGCHLD is ignored.
        let ends: Vec<End> = children.iter().filter_map(|child| child.wait().ok()).collect();
        match ends.into_iter().find(|end| *end != End::Exited(0)) {
            Some(end) => Ok(end.mirror()),
            None if all => Ok(Exit::Success),
            None => Ok(Exit::Failure),
        }
    }

    fn start(&self, one: &Started, crew: &mut Crew) -> Result<Child, Failure> {
        self.say(one);
        let mut start = || {
            let own = program::own_binary()?;
            let mut words: Vec<OsString> = vec![own.clone().into(), "wrap".into()];
            words.extend(self.printer.options().iter().map(OsString::from));
            words.extend(self.wrap(one).words());
            crew.spawn(&own, &words, &self.settings.environment)
        };
        start()
            .map_err(|error| Failure::of(format_args!("cannot start `{}`: {error}", one.command.join(" "))))
    }

    /// Waits until a child is listed among the commands of the instance, or has ended.
    fn await_joined(&self, child: &Child) {
        let Companion { app, instance, .. } = &self.companion;
        let deadline = Instant::now() + JOIN_TIME;
        let is_listed =
            |companion: Companion| companion.started().iter().any(|one| one.wrap_pid == child.id());
        while !instance::companion(self.settings, app, instance).is_some_and(is_listed)
            && !child.has_ended()
            && Instant::now() < deadline
        {
            std::thread::park_timeout(LOOK_PAUSE);
        }
    }

    fn open_forwards(&self) {
        if self.forwards.is_empty() {
            return;
        }
        match autostart::ensure(self.settings) {
            Ok(mut client) => wrap::open_forwards(&self.forwards, Some(&mut client), self.printer),
            Err(failure) => {
                self.printer.warn(&format!("cannot open the forwards again: {}", failure.message))
            }
        }
    }

    /// The command line of `wrap` that starts the same again. We are in its folder.
    fn wrap(&self, one: &Started) -> WrapArguments {
        let companion = self.companion.clone();
        let rules = companion.rules;
        // What agentfs.toml says by now counts.
        let file_says = project_file::main(&Place::current()).map_or(true, |port| port.is_some());
        WrapArguments {
            app: Some(companion.app),
            instance: Some(companion.instance),
            new: false,
            join: false,
            replace: false,
            isolate: rules.isolate,
            allow_host: rules.allow_host,
            // Ports that were exposed are forwards by now.
            expose: Vec::new(),
            only: rules.only,
            except: rules.except,
            main: companion.main.filter(|_| !file_says),
            engine: Choice::of_word(one.engine.as_deref()),
            no_interpose: one.no_interpose,
            port: one.port,
            stem: companion.stem,
            closed: companion.closed,
            forwards: self.forwards.clone(),
            command: one.command.iter().map(OsString::from).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_running_command_is_started_again_but_not_what_another_one_started() {
        let own = std::process::id();
        // Processes that live: we, and our ancestors.
        let parents = members::parents();
        let one = |name: &str, wrap_pid: u32| Started {
            command: vec![name.to_owned()],
            wrap_pid,
            started_ms: u64::MAX,
            ..Started::default()
        };
        let names = |commands: Vec<Started>, parents: &BTreeMap<u32, u32>| -> Vec<String> {
            let companion = Companion { commands, ..Companion::default() };
            commands_of(&companion, parents).into_iter().flat_map(|one| one.command).collect()
        };
        let parent = parents[&own];
        let all = vec![one("api", parent), one("ended", u32::MAX), one("nested", own)];
        assert_eq!(names(all.clone(), &parents), ["api"]);
        assert_eq!(names(all, &BTreeMap::new()), ["api", "nested"]);
        assert_eq!(names(vec![one("a", u32::MAX), one("b", u32::MAX)], &parents), ["a"], "all have ended");
    }
}
