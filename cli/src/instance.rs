//! What a program of an instance is told: host name, URL, socket, port and how it is reached.
//! Shared by `wrap` and `exec`.
use crate::client::{Asked, Client};
use crate::duration::now_ms;
use crate::engine::{self, Choice};
use crate::environment::{Engine, Plan};
use crate::exit::Exit;
use crate::hint::Failure;
use crate::printer::Printer;
use crate::settings::Settings;
use agentfs_wire::companion::Companion;
use agentfs_wire::control::{DaemonInfo, InstanceName, RouteInfo, method};
use agentfs_wire::host::{MAIN, app_host, shown_host};
use agentfs_wire::limits::NOTICE_BYTES;
use agentfs_wire::name::{Kind, SocketName, app_name, instance_name};
use agentfs_wire::notice::{Call, Notice, Outcome, Why};
use agentfs_wire::paths::Paths;
use agentfs_wire::secret::{SECRET_BYTES, Secret};
use serde::Deserialize;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

/// The host name of an instance, as everything shows it.
pub(crate) fn host(client: Option<&mut Client>, app: &str, instance: &str) -> String {
    shown_host(app, instance, instance != MAIN || is_app_name_free(client, app))
}

/// Whether the name of an app still means the app: no route added by hand has it.
fn is_app_name_free(client: Option<&mut Client>, app: &str) -> bool {
    is_free(client.and_then(|client| client.call(method::ROUTE_LIST, json!({})).ok()).as_ref(), app)
}

fn is_free(routes: Option<&Routes>, app: &str) -> bool {
    let host = app_host(app);
    routes.is_none_or(|answer| answer.routes.iter().all(|route| route.host != host))
}

/// Answer to `route.list`.
#[derive(Debug, Deserialize)]
struct Routes {
    /// Every route.
    routes: Vec<RouteInfo>,
}

/// The plan of a program in an instance. `host` is the instance's host name, `url` its URL, if it has one.
///
/// # Errors
/// Invalid names, which only a foreign collector could give.
pub(crate) fn plan(
    settings: &Settings,
    app: &str,
    instance: &str,
    (host, url): (String, Option<String>),
    engine: Engine,
) -> Result<Plan, Failure> {
    Ok(Plan {
        run: settings.paths.run.clone(),
        app: app.to_owned(),
        instance: instance.to_owned(),
        socket: main_socket(settings, app, instance)?,
        url,
        host,
        port: None,
        command: std::process::id(),
        secret: None,
        only: Vec::new(),
        except: Vec::new(),
        isolated: Vec::new(),
        allow_host: Vec::new(),
        engine,
        launcher: None,
    })
}

/// Lets the collector see which programs hold the host's ports, so that an instance does not reach another fork's from its
/// first call. Where it fails, the collector sees them a little later.
pub(crate) fn look_at_host(client: &mut Client, app: &str, instance: &str) {
    if let Ok(asked) = ask_to_look(client, app, instance) {
        let _: Result<Value, Failure> = client.answer(&asked);
    }
}

fn ask_to_look(client: &mut Client, app: &str, instance: &str) -> Result<Asked, Failure> {
    let of = InstanceName { app: app.to_owned(), instance: instance.to_owned() };
    client.ask(method::HOST_LOOK, of)
}

/// What `wrap` asks the collector, all at once: each answer alone would take as long as all of them.
#[derive(Debug)]
pub(crate) struct Questions {
    info: Result<Asked, Failure>,
    look: Result<Asked, Failure>,
    /// Only where the answer decides the host name.
    routes: Option<Result<Asked, Failure>>,
}

/// The answers.
#[derive(Debug)]
pub(crate) struct Answers {
    /// `None`: the collector did not answer.
    pub(crate) info: Option<DaemonInfo>,
    /// The host name of the instance, as everything shows it.
    pub(crate) host: String,
}

// === impl Questions ===

impl Questions {
    /// Sends them. The collector works on them meanwhile.
    pub(crate) fn ask(client: &mut Client, app: &str, instance: &str) -> Self {
        Self {
            info: client.ask(method::DAEMON_INFO, json!({})),
            look: ask_to_look(client, app, instance),
            routes: (instance == MAIN).then(|| client.ask(method::ROUTE_LIST, json!({}))),
        }
    }

    /// Waits for all answers.
    pub(crate) fn answers(self, client: &mut Client, app: &str, instance: &str) -> Answers {
        let info = self.info.and_then(|asked| client.answer(&asked)).ok();
        let _: Result<Value, Failure> = self.look.and_then(|asked| client.answer(&asked));
        let routes = self.routes.map(|asked| asked.and_then(|asked| client.answer::<Routes>(&asked)));
        let is_free = routes.is_some_and(|routes| is_free(routes.ok().as_ref(), app));
        Answers { info, host: shown_host(app, instance, instance != MAIN || is_free) }
    }
}

/// Has the engine serve the program at `path`, which this process becomes next. If it cannot, says so; the program runs all the
/// same.
pub(crate) fn enter_engine(
    settings: &Settings,
    printer: &Printer,
    place: &engine::Place<'_>,
    (path, unreached): (&Path, Option<Why>),
    variables: &mut Vec<(OsString, OsString)>,
) {
    let why = match engine::begin(settings, place, variables) {
        Ok(served) => {
            engine::tell_rights(settings, printer);
            Some(served)
        }
        Err(failure) => {
            warn_unreached(printer, path, unreached, Some(&failure));
            unreached.map(|why| (why, 0))
        }
    };
    if let Some(why) = why {
        tell_unreached(settings, (place.app, place.instance), path, why);
    }
}

/// Says that the program at `path` is not reached, and why. `served` is why the engine does not serve it either.
pub(crate) fn warn_unreached(printer: &Printer, path: &Path, why: Option<Why>, served: Option<&Failure>) {
    let reasons: Vec<String> = why
        .map(|why| cause(why).to_owned())
        .into_iter()
        .chain(served.map(|failure| failure.message.clone()))
        .collect();
    let hint = served.and_then(|failure| failure.hint.as_deref());
    printer.warn(&format!(
        "{} uses the host's ports because its calls cannot be intercepted: {}{}",
        path.display(),
        reasons.join("; "),
        hint.map(|hint| format!(" ({hint})")).unwrap_or_default()
    ));
}

/// How a program is reached: by the library, unless the seccomp engine alone was asked for.
pub(crate) fn engine(
    settings: &Settings,
    (choice, library): (Choice, PathBuf),
    isolate: bool,
    unreached: Option<Why>,
) -> Engine {
    if choice == Choice::Seccomp && cfg!(target_os = "linux") {
        return Engine::Filter { home: settings.paths.home.clone(), isolate };
    }
    // A static program ignores the list, but its children use it. The loader of another machine's program
    // would complain.
    let loaded = unreached != Some(Why::OtherMachine);
    Engine::Preload { home: settings.paths.home.clone(), library, loaded, isolate }
}

/// What the library starts programs with that it does not reach: this binary.
pub(crate) fn launcher(choice: Choice) -> Option<PathBuf> {
    (choice == Choice::Auto && cfg!(target_os = "linux")).then(|| crate::program::own_binary().ok())?
}

/// Why a program is beyond reach, for people.
fn cause(why: Why) -> &'static str {
    match why {
        Why::Static => "it is statically linked",
        Why::Go => "Go programs make their own system calls",
        Why::OtherMachine => "it is built for another kind of machine",
        Why::GainsRights => "it changes its user or gains rights, so its loader ignores the library",
        _ => "the library cannot be loaded",
    }
}

/// Sends a notice for the trace: the program at `path`, which is about to start, cannot be intercepted. Like
/// all notices it may be lost.
///
/// Or it is served by the engine; then `errno` is what the system said when it was asked for a name space.
pub(crate) fn tell_unreached(
    settings: &Settings,
    (app, instance): (&str, &str),
    path: &Path,
    (why, errno): (Why, i32),
) {
    let file = path.to_string_lossy();
    // Of a long path, a notice has room only for the end.
    let start = file.len().saturating_sub(128);
    let notice = Notice {
        call: Call::Exec,
        outcome: Outcome::Passed,
        why,
        errno,
        fd: -1,
        pid: std::process::id(),
        time_ns: now_ms().saturating_mul(1_000_000),
        dropped: 0,
        address: None,
        peer: None,
        app,
        instance,
        file: file.get(start..).unwrap_or_default(),
        program: "agentfs",
    };
    let mut datagram = [0; NOTICE_BYTES];
    if let Some(datagram) = notice.encode(&mut datagram).and_then(|length| datagram.get(..length))
        && let Ok(socket) = UnixDatagram::unbound()
        && socket.set_nonblocking(true).is_ok()
    {
        let _ = socket.send_to(datagram, &settings.paths.notice);
    }
}

/// The companion of a running instance; none if the instance was made by hand.
pub(crate) fn companion(settings: &Settings, app: &str, instance: &str) -> Option<Companion> {
    companion_in(&settings.paths, app, instance)
}

/// The companion of an instance of that home.
pub(crate) fn companion_in(paths: &Paths, app: &str, instance: &str) -> Option<Companion> {
    serde_json::from_slice(&std::fs::read(companion_file(paths, app, instance)?).ok()?).ok()
}

/// Where the companion of an instance is; none if the names are not valid.
pub(crate) fn companion_file(paths: &Paths, app: &str, instance: &str) -> Option<PathBuf> {
    let name = SocketName { app: app_name(app)?, instance: instance_name(instance)?, kind: Kind::Companion };
    Some(paths.run.join(name.format().as_str()))
}

/// A secret for a new instance of root. Other users' instances do not need one: their programs cannot change
/// their user.
pub(crate) fn new_secret(settings: &Settings) -> Option<Secret> {
    if settings.uid != 0 || !cfg!(target_os = "linux") {
        return None;
    }
    let mut random = [0; SECRET_BYTES];
    // Without a secret, the broker does not serve this instance; everything else works.
    File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut random)).ok()?;
    Some(Secret::of(random))
}

/// A port of the host that nobody uses at this moment.
///
/// # Errors
/// The system has none.
pub(crate) fn free_port() -> Result<u16, Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    listener
        .map(|address| address.port())
        .map_err(|error| Failure::new(Exit::Setup, format_args!("cannot find a free port: {error}")))
}

fn main_socket(settings: &Settings, app: &str, instance: &str) -> Result<PathBuf, Failure> {
    let names = app_name(app).zip(instance_name(instance));
    let (app, instance) = names.ok_or_else(|| {
        Failure::new(Exit::Setup, format_args!("`{app}/{instance}` is not a valid instance name"))
    })?;
    let name = SocketName { app, instance, kind: Kind::Main };
    Ok(settings.paths.run.join(name.format().as_str()))
}
