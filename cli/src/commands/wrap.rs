//! `agentfs wrap`: claims a name, prepares the program's environment and becomes the program.
//!
//! Everything that can fail is done before the program starts. After that agentfs must not change its
//! behaviour: it runs in our process, so its status, signals, job control and parent are its own, and nothing
//! has to be passed on. The collector sees its end and cleans up. Only `trace -- COMMAND` stays beside the
//! program (`supervise`), because it reports the program's last calls.
use crate::args::WrapArguments;
use crate::autostart;
use crate::checkout;
use crate::claim::{Claim, claim};
use crate::client::Client;
use crate::commands::tell;
use crate::environment::{self, Engine};
use crate::exit::Exit;
use crate::follow::{Followed, Follower, Tell};
use crate::hint::Failure;
use crate::printer::Printer;
use crate::protection::{self, Start};
use crate::settings::Settings;
use crate::{instance, interposer, naming, program, supervise};
use agentfs_wire::companion::{Companion, Rules};
use agentfs_wire::control::{DaemonInfo, EndedParams, ForwardParams, method};
use agentfs_wire::env;
use agentfs_wire::notice::Why;
use agentfs_wire::url::UrlStyle;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long we try to tell the collector that the program has ended. It also finds out by itself.
const FAREWELL: Duration = Duration::from_millis(100);

/// Runs the command.
///
/// # Errors
/// Why the program could not be started.
pub(crate) fn run(arguments: WrapArguments, settings: &Settings, printer: &Printer) -> Result<Exit, Failure> {
    let tell = if printer.talks() { Tell::Listeners } else { Tell::Nothing };
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
    let mut wanted = describe(&arguments, settings, &path)?;
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
    let client = starting.finish(settings, printer);
    let mut claim = claim(&settings.paths, wanted, random)?;
    let wrap = Wrap { arguments: &arguments, settings, printer, tell, start: &start };
    let done = wrap.prepare(library, client, &claim).and_then(|prepared| {
        if stays { wrap.stay(prepared, &mut claim) } else { Err(wrap.become_it(&prepared, &claim)) }
    });
    let (child, follower) = done.inspect_err(|_| claim.withdraw())?;
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
    /// Why the library does not reach the program.
    unreached: Option<Why>,
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
        let info =
            client.as_mut().and_then(|client| client.call::<DaemonInfo>(method::DAEMON_INFO, json!({})).ok());
        expose(&arguments.expose, client.as_mut(), app, name)?;
        for forward in &arguments.forwards {
            // The instance starts without it; somebody may have taken its port.
            let opened = client.as_mut().map(|client| client.call::<Value>(method::FORWARD_ADD, forward));
            if let Some(Err(error)) = opened {
                printer.warn(&format!("cannot open a forward again: {}", error.message));
            }
        }
        let urls = info.as_ref().map(DaemonInfo::urls);
        let chosen_port = match (arguments.port, &library) {
            (Some(port), _) => Some(port),
            (None, None) => Some(instance::free_port()?),
            (None, Some(_)) => None,
        };
        let unreached = library.as_ref().and_then(|_| program::beyond_reach(&start.path));
        let engine = match library {
            Some(library) => {
                let isolate = claim.companion.rules.isolate;
                let path = &start.path;
                start.adjust(instance::preload(settings, printer, path, library, isolate, unreached))
            }
            None => Engine::Cooperative { nested: settings.nested },
        };
        let expected = urls.unwrap_or_else(|| instance::expected_urls(settings));
        let mut plan = instance::plan(settings, app, name, expected, engine)?;
        plan.port = chosen_port;
        plan.secret = claim.companion.secret;
        printer.detail(&format!("{app}/{name} is at {}", plan.url));
        plan.only.clone_from(&arguments.only);
        plan.except.clone_from(&arguments.except);
        let mut variables = environment::build(&settings.environment, &plan);
        program::settle(&start.path, &mut variables);
        Ok(Prepared { variables, urls, unreached })
    }

    /// Becomes the program. Returns only if that fails.
    fn become_it(self, prepared: &Prepared, claim: &Claim) -> Failure {
        let Self { settings, printer, tell, start, .. } = self;
        let started_ms = claim.companion.started_ms;
        if let (Tell::Listeners, Some(followed)) = (tell, prepared.followed(claim))
            && let Err(error) = tell::start(settings, followed, std::process::id(), started_ms)
        {
            printer.warn(&error.message);
        }
        prepared.tell_unreached(settings, &start.path, claim);
        let error = supervise::replace(&start.path, &start.arguments, &prepared.variables);
        program::cannot_start(&start.path, &error)
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
        prepared.tell_unreached(settings, &start.path, claim);
        let child = supervise::spawn(&start.path, &start.arguments, &prepared.variables)
            .map_err(|error| program::cannot_start(&start.path, &error))?;
        if let Err(error) = claim.started(child.id()) {
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
            instance::tell_unreached(settings, app, instance, path, why);
        }
    }

    /// What there is to follow; nothing without a collector.
    fn followed<'a>(&self, claim: &'a Claim) -> Option<Followed<'a>> {
        let Companion { app, instance, fork, .. } = &claim.companion;
        Some(Followed { app, instance, urls: self.urls?, fork: *fork })
    }
}

/// Lets the collector open ports of the instance on the host as well, until the instance ends.
fn expose(ports: &[u16], client: Option<&mut Client>, app: &str, instance: &str) -> Result<(), Failure> {
    if ports.is_empty() {
        return Ok(());
    }
    let Some(client) = client else {
        return Err(Failure::new(Exit::Setup, "--expose needs the collector, but none answers")
            .hint("run `agentfs daemon start` to see why"));
    };
    // `localhost` means both addresses, and some programs (Node 18) try only the first. A machine may have no
    // IPv6.
    let both = ["127.0.0.1", "[::1]"];
    let has_v6 = std::net::TcpListener::bind("[::1]:0").is_ok();
    // A port that is named twice is opened once.
    for port in ports.iter().collect::<BTreeSet<_>>() {
        for address in both.into_iter().take(if has_v6 { 2 } else { 1 }) {
            let params = ForwardParams {
                app: app.to_owned(),
                instance: instance.to_owned(),
                port: Some(*port),
                listen: Some(format!("{address}:{port}")),
                handoff: None,
                lan: false,
            };
            let _: Value =
                client.call(method::FORWARD_ADD, params).map_err(|error| error.exit(Exit::Setup))?;
        }
    }
    Ok(())
}

/// The names and facts of the new instance.
fn describe(arguments: &WrapArguments, settings: &Settings, path: &Path) -> Result<Companion, Failure> {
    // If the folder was removed, the program still runs; the folder just gives no names.
    let directory = std::env::current_dir().unwrap_or_default();
    let checkout = checkout::find(&directory);
    let folder = |checkout: &checkout::Checkout| {
        checkout.root.file_name().map(|name| name.to_string_lossy().into_owned())
    };
    let facts = naming::Facts {
        app: arguments.app.clone(),
        instance: arguments.instance.clone(),
        manifest: arguments
            .app
            .is_none()
            .then(|| checkout::manifest_name(&directory, checkout.as_ref()))
            .flatten(),
        repository: checkout.as_ref().and_then(|checkout| checkout.repository.clone()),
        worktree: checkout
            .as_ref()
            .filter(|checkout| checkout.linked)
            .and_then(|checkout| checkout.branch.clone().or_else(|| folder(checkout))),
        program: path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
    };
    let names = naming::resolve(&facts, random())?;
    Ok(Companion {
        app: names.app,
        instance: names.instance,
        checkout: checkout.as_ref().map(|checkout| checkout.root.clone()),
        fork: checkout.as_ref().is_some_and(|checkout| checkout.linked),
        branch: checkout.and_then(|checkout| checkout.branch),
        directory,
        command: arguments
            .command
            .iter()
            .map(|word: &OsString| word.to_string_lossy().into_owned())
            .collect(),
        wrap_pid: std::process::id(),
        child_pid: 0,
        // The claim sets it.
        started_ms: 0,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        rules: rules(arguments, settings),
        secret: instance::new_secret(settings),
    })
}

/// The instance's rules: from the command line, else from the environment.
fn rules(arguments: &WrapArguments, settings: &Settings) -> Rules {
    let ports = |asked: &[u16], name| {
        if asked.is_empty() { environment::ports(&settings.environment, name) } else { asked.to_owned() }
    };
    Rules {
        isolate: arguments.isolate || settings.isolate,
        only: ports(&arguments.only, env::ONLY),
        except: ports(&arguments.except, env::EXCEPT),
        port: arguments.port,
        no_interpose: arguments.no_interpose || settings.no_interpose,
    }
}

/// Tells the collector that the program has ended. Cleans up itself if no collector is running.
fn farewell(settings: &Settings, printer: &Printer, claim: &Claim) {
    let ended = Client::connect_within(&settings.paths, FAREWELL).map(|mut client| {
        let params =
            EndedParams { app: claim.companion.app.clone(), instance: claim.companion.instance.clone() };
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

/// A random number, from the seed that the system gives to hash maps.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
