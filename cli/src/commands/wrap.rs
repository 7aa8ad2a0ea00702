//! `agentfs wrap`: joins an instance or makes one, prepares the program's environment and becomes the program.
//!
//! Everything that can fail is done before the program starts. After that agentfs must not change its
//! behaviour: it runs in our process, so its status, signals, job control and parent are its own, and nothing
//! has to be passed on. The collector sees its end and cleans up. Only `trace -- COMMAND` stays beside the
//! program (`supervise`), because it reports the program's last calls.
mod joining;

use crate::args::WrapArguments;
use crate::autostart;
use crate::choice::{Before, Mode, Request};
use crate::claim::{Claim, claim};
use crate::client::Client;
use crate::commands::tell::{self, Subject, Told};
use crate::environment::{self, Engine};
use crate::exit::Exit;
use crate::exposed;
use crate::follow::{Followed, Follower, Tell};
use crate::hint::Failure;
use crate::instance::Questions;
use crate::naming::Names;
use crate::place::{self, Place};
use crate::printer::Printer;
use crate::project_file::{self, Isolation};
use crate::protection::{self, Start};
use crate::settings::Settings;
use crate::{engine, instance, interposer, program, supervise};
use agentfs_wire::companion::{Companion, Rules, Started};
use agentfs_wire::control::{DaemonInfo, EndedParams, ForwardParams, method};
use agentfs_wire::env;
use agentfs_wire::label::hash5;
use agentfs_wire::notice::Why;
use agentfs_wire::url::UrlStyle;
use serde_json::Value;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bytes of a command line that are kept, in whole words. What follows is only a hash.
const COMMAND_BYTES: usize = 8192;

/// How long we try to tell the collector that the program has ended. It also finds out by itself.
const FAREWELL: Duration = Duration::from_millis(100);

/// Runs the command.
///
/// # Errors
/// Why the program could not be started.
pub(crate) fn run(arguments: WrapArguments, settings: &Settings, printer: &Printer) -> Result<Exit, Failure> {
    let tell = if printer.speaks() { Tell::Listeners } else { Tell::Nothing };
    run_telling(arguments, settings, printer, tell)
}

/// Runs the command and reports what it does.
///
/// # Errors
/// Why the program could not be started.
pub(crate) fn run_telling(
    arguments: WrapArguments,
    settings: &Settings,
    printer: &Printer,
    tell: Tell,
) -> Result<Exit, Failure> {
    let name = arguments.command.first().cloned().unwrap_or_default();
    let path = program::find(&name, settings.search_path.as_deref())?;
    let begun = (tell == Tell::Listeners).then(|| tell::begin(settings, Told::Everything));
    let announcer = begun.and_then(|begun| begun.inspect_err(|error| printer.warn(&error.message)).ok());
    let place = Place::current();
    let names = place.names(arguments.app.as_deref(), arguments.instance.as_deref(), &file_name(&path))?;
    let isolation = project_file::isolation(&place)?;
    let main = match arguments.main {
        Some(port) => Some(port),
        None => project_file::main(&place)?,
    };
    for problem in place.app.problem.iter().chain(&project_file::unknown(&place)?) {
        printer.warn(problem);
    }
    let mut wanted = Companion {
        main,
        ..describe(rules(&arguments, settings, isolation), &arguments, settings, &place, &names)
    };
    let stays = matches!(tell, Tell::Trace { .. }) && supervise::can_wait();
    if !stays {
        wanted.child_pid = std::process::id();
    }
    agentfs_home::prepare(&settings.paths).map_err(|error| Failure::from(error).exit(Exit::Setup))?;
    // A collector starts in parallel.
    let starting = autostart::begin(settings);
    let cooperative = arguments.no_interpose || settings.no_interpose;
    let library =
        if cooperative { None } else { Some(interposer::unpack(settings, |text| printer.warn(text))?) };
    let start = if cooperative {
        Start::plain(path, &arguments.command)
    } else {
        protection::prepare(settings, printer, path, &arguments.command)
    };
    start.warn(printer);
    let mut client = starting.finish(settings, printer);
    let inside = place::inside(settings, &names.app);
    let request = arguments.request(&place, &names, inside.as_deref());
    if arguments.replace {
        joining::replace(settings, printer, client.as_mut(), &place, &request, &wanted)?;
    }
    let mut claim = claim(&settings.paths, &place, &request, &wanted)?;
    joining::tell_name(printer, &claim);
    joining::tell_orphans(settings, printer, &mut claim);
    let wrap = Wrap { arguments: &arguments, rules: &wanted.rules, settings, printer, tell, start: &start };
    let done = wrap.prepare(library, client, &claim).and_then(|prepared| {
        if stays {
            wrap.stay(prepared, &mut claim)
        } else {
            Err(wrap.become_it(&prepared, &claim, announcer))
        }
    });
    let (child, follower) = done.inspect_err(|_| claim.withdraw(&settings.paths))?;
    let end = child.wait();
    if let Some(follower) = &follower {
        follower.ended();
    }
    farewell(settings, printer, &claim);
    if let Some(follower) = follower {
        follower.finish();
    }
    let error = match end {
        Ok(end) => return Ok(end.mirror()),
        Err(error) => error,
    };
    Err(Failure::new(Exit::Setup, format_args!("cannot wait for {}: {error}", start.path.display())))
}

/// The inputs of one `wrap`.
#[derive(Clone, Copy, Debug)]
struct Wrap<'a> {
    arguments: &'a WrapArguments,
    /// What the command line, the environment and agentfs.toml ask for.
    rules: &'a Rules,
    settings: &'a Settings,
    printer: &'a Printer,
    tell: Tell,
    /// What is started.
    start: &'a Start,
}

/// What the program is started with.
#[derive(Debug)]
struct Prepared {
    variables: Vec<(OsString, OsString)>,
    /// How URLs are written, if a collector answered.
    urls: Option<UrlStyle>,
    /// Whether there is a collector. One that starts hundreds of programs may be too busy to say how URLs are written.
    has_collector: bool,
    /// Why the library does not reach the program.
    unreached: Option<Why>,
    /// The rules by which the seccomp engine is to serve the program, if it is.
    served_by: Option<Rules>,
}

// === impl WrapArguments ===

impl WrapArguments {
    /// What is asked of the choice of an instance.
    fn request<'a>(&'a self, place: &'a Place, names: &'a Names, inside: Option<&'a str>) -> Request<'a> {
        let mode = match (self.new, self.join) {
            (true, _) => Mode::New,
            (_, true) => Mode::Join,
            _ => Mode::Usual,
        };
        Request {
            mode,
            given: names.given.as_deref(),
            stem: &names.stem,
            folder: place.folder(),
            inside,
            own: &[],
            before: Before { stem: self.stem.as_deref(), closed: self.closed },
        }
    }

    /// The same as words, without what has no option.
    pub(crate) fn words(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> = Vec::new();
        let texts = [("--app", &self.app), ("--instance", &self.instance), ("--stem", &self.stem)];
        for (name, text) in texts {
            words.extend(text.iter().flat_map(|text| [name.into(), text.into()]));
        }
        let one = |port: &Option<u16>| port.iter().copied().collect::<Vec<u16>>();
        let ports = [
            ("--allow-host", &self.allow_host),
            ("--expose", &self.expose),
            ("--only", &self.only),
            ("--except", &self.except),
            ("--main", &one(&self.main)),
            ("--port", &one(&self.port)),
        ];
        for (name, ports) in ports {
            words.extend(ports.iter().flat_map(|port| [name.into(), port.to_string().into()]));
        }
        let switches = [
            ("--new", self.new),
            ("--join", self.join),
            ("--replace", self.replace),
            ("--isolate", self.isolate),
            ("--no-interpose", self.no_interpose),
            ("--closed", self.closed),
        ];
        words.extend(switches.into_iter().filter(|(_, is_on)| *is_on).map(|(name, _)| name.into()));
        let engine = self.engine.word();
        words.extend(engine.iter().flat_map(|engine| ["--engine".into(), engine.into()]));
        words.push("--".into());
        words.extend(self.command.iter().cloned());
        words
    }
}

// === impl Wrap ===

impl Wrap<'_> {
    /// Makes the environment of a program in the claimed instance. Without a library the program must
    /// cooperate.
    fn prepare(
        self,
        library: Option<PathBuf>,
        client: Option<Client>,
        claim: &Claim,
    ) -> Result<Prepared, Failure> {
        let Self { arguments, settings, printer, start, .. } = self;
        let (app, name) = (&claim.companion.app, &claim.companion.instance);
        let mut client = client;
        exposed::open(&arguments.expose, client.as_mut(), app, name)?;
        let questions = client.as_mut().map(|client| Questions::ask(client, app, name));
        let unreached = library.as_ref().and_then(|_| program::beyond_reach(&start.path));
        let (info, host) = match client.as_mut().zip(questions) {
            Some((client, questions)) => {
                let answers = questions.answers(client, app, name);
                (answers.info, answers.host)
            }
            None => (None, instance::host(None, app, name)),
        };
        open_forwards(&arguments.forwards, client.as_mut(), printer);
        let urls = info.as_ref().map(DaemonInfo::urls);
        let chosen_port = match (arguments.port, &library) {
            (Some(port), _) => Some(port),
            (None, None) => Some(instance::free_port()?),
            (None, Some(_)) => None,
        };
        let rules = joined_rules(self.rules, claim);
        let is_served = library.is_some() && engine::serves(arguments.engine, unreached);
        let engine = match library {
            Some(library) => start.adjust(instance::engine(
                settings,
                (arguments.engine, library),
                rules.isolate,
                unreached,
            )),
            None => Engine::Cooperative { nested: settings.nested },
        };
        if unreached.is_some() && !is_served {
            instance::warn_unreached(printer, &start.path, unreached, None);
        }
        if let Some(cause) = info.as_ref().and_then(|info| info.router_error.as_deref()) {
            printer.warn(&format!("the program has no URL, because the router does not listen: {cause}"));
        }
        let url = urls.and_then(|urls| urls.url(&host));
        let mut plan = instance::plan(settings, app, name, (host, url), engine)?;
        plan.port = chosen_port;
        plan.secret = claim.companion.secret;
        if let Some(url) = &plan.url {
            printer.detail(&format!("{app}/{name} is at {url}"));
        }
        plan.launcher = instance::launcher(arguments.engine);
        let served_by = is_served.then(|| rules.clone());
        plan.only = rules.only;
        plan.except = rules.except;
        plan.isolated = rules.isolated;
        plan.allow_host = rules.allow_host;
        // The rules say it again, whatever our own environment says.
        let mut variables = environment::build(&environment::without_ports(&settings.environment), &plan);
        program::settle(&start.path, &mut variables);
        Ok(Prepared { variables, urls, has_collector: client.is_some(), unreached, served_by })
    }

    /// Becomes the program. Returns only if that fails.
    fn become_it(self, prepared: &Prepared, claim: &Claim, announcer: Option<tell::Starting>) -> Failure {
        let Self { settings, printer, start, .. } = self;
        let of = (claim.companion.app.as_str(), claim.companion.instance.as_str());
        let subject = prepared.has_collector.then(|| Subject::of(of, claim.own.started_ms, prepared.urls));
        if let Some(Err(error)) = announcer.map(|announcer| announcer.finish(subject.as_ref())) {
            printer.warn(&error.message);
        }
        let error = match &prepared.served_by {
            Some(rules) => self.become_served(prepared, rules, claim),
            None => {
                prepared.tell_unreached(settings, &start.path, claim);
                let start = start.carry(&prepared.variables);
                supervise::replace(&start.path, &start.arguments, &prepared.variables)
            }
        };
        program::cannot_start(&start.path, &error)
    }

    /// Becomes a program that the seccomp engine serves. Returns only if that fails.
    fn become_served(self, prepared: &Prepared, rules: &Rules, claim: &Claim) -> std::io::Error {
        let Self { settings, printer, start, .. } = self;
        let Companion { app, instance, .. } = &claim.companion;
        let mut variables = prepared.variables.clone();
        let place = engine::Place { app, instance, rules: rules.clone() };
        let program = (start.path.as_path(), prepared.unreached);
        instance::enter_engine(settings, printer, &place, program, &mut variables);
        supervise::replace_past_library(&start.path, &start.arguments, &variables)
    }

    /// Starts the program as a child and reports its calls.
    fn stay(
        self,
        prepared: Prepared,
        claim: &mut Claim,
    ) -> Result<(supervise::Child, Option<Follower>), Failure> {
        let Self { settings, printer, tell, start, .. } = self;
        let follower = prepared.followed(claim).and_then(|followed| {
            Follower::start(settings, *printer, tell, followed)
                .inspect_err(|error| printer.warn(&error.message))
                .ok()
        });
        let child = match &prepared.served_by {
            // The filter must be installed in the child.
            Some(_) => program::own_binary().and_then(|own| {
                let words = [own.clone().into(), "engine-run".into(), "--".into(), start.path.clone().into()];
                let words = [&words[..], &start.arguments].concat();
                supervise::spawn(&own, &words, &prepared.variables)
            }),
            None => {
                prepared.tell_unreached(settings, &start.path, claim);
                let start = start.carry(&prepared.variables);
                supervise::spawn(&start.path, &start.arguments, &prepared.variables)
            }
        };
        let child = child.map_err(|error| program::cannot_start(&start.path, &error))?;
        if let Err(error) = claim.started(&settings.paths, child.id()) {
            printer.warn(&format!("cannot record the program's process: {error}"));
        }
        Ok((child, follower))
    }
}

// === impl Prepared ===

impl Prepared {
    /// Reports in the trace that the library cannot reach the program, if so.
    fn tell_unreached(&self, settings: &Settings, path: &Path, claim: &Claim) {
        if let Some(why) = self.unreached {
            let Companion { app, instance, .. } = &claim.companion;
            instance::tell_unreached(settings, (app, instance), path, (why, 0));
        }
    }

    /// What there is to follow; nothing without a collector.
    fn followed<'a>(&self, claim: &'a Claim) -> Option<Followed<'a>> {
        let Companion { app, instance, .. } = &claim.companion;
        Some(Followed { app, instance, urls: self.urls? })
    }
}

/// Opens forwards of an instance again. It starts without them: somebody may have taken a port.
pub(crate) fn open_forwards(forwards: &[ForwardParams], client: Option<&mut Client>, printer: &Printer) {
    let Some(client) = client else { return };
    for forward in forwards {
        if let Err(error) = client.call::<Value>(method::FORWARD_ADD, forward) {
            printer.warn(&format!("cannot open a forward again: {}", error.message));
        }
    }
}

/// The facts of the instance, if it is made. The claim sets its name and its time.
fn describe(
    rules: Rules,
    arguments: &WrapArguments,
    settings: &Settings,
    place: &Place,
    names: &Names,
) -> Companion {
    let checkout = place.checkout.as_ref();
    Companion {
        app: names.app.clone(),
        checkout: checkout.map(|checkout| checkout.root.clone()),
        fork: place.worktree().is_some(),
        branch: checkout.and_then(|checkout| checkout.branch.clone()),
        directory: place.directory.clone(),
        root: place.app.root.clone(),
        worktree: place.worktree().map(Path::to_owned),
        command: words(&arguments.command),
        commands: vec![Started {
            command: words(&arguments.command),
            directory: place.directory.clone(),
            wrap_pid: std::process::id(),
            port: arguments.port,
            no_interpose: arguments.no_interpose || settings.no_interpose,
            engine: arguments.engine.word(),
            ..Started::default()
        }],
        wrap_pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        rules,
        secret: instance::new_secret(settings),
        ..Companion::default()
    }
}

/// The command line as text. The end of a very long one is only a hash: all of an instance's commands are in one file.
pub(crate) fn words(command: &[OsString]) -> Vec<String> {
    let words: Vec<String> = command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let mut left = COMMAND_BYTES;
    let fits = |word: &&String| {
        let room = left.checked_sub(word.len());
        left = room.unwrap_or(0);
        room.is_some()
    };
    let mut kept: Vec<String> = words.iter().take_while(fits).cloned().collect();
    if kept.len() < words.len() {
        kept.push(format!("… {}", hash5(&words.join("\0"))));
    }
    kept
}

/// Whether words that [`words`] kept are the command line itself.
pub(crate) fn is_whole(kept: &[String]) -> bool {
    let is_hash = |last: &String| last.strip_prefix("… ").is_some_and(|hash| hash.len() == hash5("").len());
    // A word that is not UTF-8 has such a character instead.
    !kept.last().is_some_and(is_hash) && !kept.iter().any(|word| word.contains('\u{fffd}'))
}

/// The file name of a program.
pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// The rules of the command line, else of the environment.
fn rules(arguments: &WrapArguments, settings: &Settings, isolation: Isolation) -> Rules {
    let ports = |asked: &[u16], name| {
        if asked.is_empty() { environment::ports(&settings.environment, name) } else { asked.to_owned() }
    };
    Rules {
        isolate: arguments.isolate || settings.isolate || isolation.all,
        isolated: isolation.ports,
        allow_host: arguments.allow_host.clone(),
        only: ports(&arguments.only, env::ONLY),
        except: ports(&arguments.except, env::EXCEPT),
    }
}

/// The rules of this command: its own, and those of an instance that it joins. Its folder may have another agentfs.toml
/// than that of the first command, or the file has changed.
fn joined_rules(own: &Rules, claim: &Claim) -> Rules {
    let of_instance = &claim.companion.rules;
    if !claim.choice.joins {
        return of_instance.clone();
    }
    let has_ports = !own.only.is_empty() || !own.except.is_empty();
    let ports = if has_ports { own } else { of_instance };
    Rules {
        isolate: own.isolate || of_instance.isolate,
        isolated: union(&own.isolated, &of_instance.isolated),
        allow_host: union(&own.allow_host, &of_instance.allow_host),
        only: ports.only.clone(),
        except: ports.except.clone(),
    }
}

/// The ports of both lists, each once.
pub(crate) fn union(some: &[u16], others: &[u16]) -> Vec<u16> {
    some.iter().chain(others).copied().collect::<BTreeSet<_>>().into_iter().collect()
}

/// Tells the collector that the program has ended. Cleans up itself if no collector is running.
fn farewell(settings: &Settings, printer: &Printer, claim: &Claim) {
    let ended = Client::connect_within(&settings.paths, FAREWELL).map(|mut client| {
        let params = EndedParams {
            app: claim.companion.app.clone(),
            instance: claim.companion.instance.clone(),
            wrap_pid: Some(claim.own.wrap_pid),
        };
        client.call::<Value>(method::INSTANCE_ENDED, params).map(drop)
    });
    match ended {
        Ok(Ok(())) => {}
        // The collector is busy: it will find out by itself.
        Ok(Err(error)) => printer.detail(&error.message),
        Err(error) if !autostart::is_absent(&error) => printer.detail(&error.to_string()),
        Err(_) => {
            if let Err(error) = claim.release(&settings.paths) {
                printer.detail(&format!("cannot clean up: {error}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    #[test]
    fn a_very_long_command_line_is_kept_in_part_and_stays_distinct() {
        let of = |last: &str| {
            let long = "x".repeat(COMMAND_BYTES);
            words(&["make", "all", &long, last].map(OsString::from))
        };
        assert_eq!(words(&["make".into(), "all".into()]), ["make", "all"]);
        assert!(is_whole(&words(&["make".into(), "…".into()])) && !is_whole(&of("a")));
        assert!(!is_whole(&words(&[OsStr::from_bytes(b"\xff").to_owned()])));
        assert_eq!(of("a").len(), 3);
        assert_eq!(of("a"), of("a"));
        assert_ne!(of("a"), of("b"));
    }
}
