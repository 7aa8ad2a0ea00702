//! `agentfs daemon`: starts, stops and inspects the collector.
use super::trust;
use crate::args::{DaemonAction, DaemonArguments, StartArguments};
use crate::autostart;
use crate::client::Client;
use crate::descriptors;
use crate::display;
use crate::duration::{age, now_ms};
use crate::exit::Exit;
use crate::guardian;
use crate::hint::Failure;
use crate::launch_agent::{self, LaunchAgent};
use crate::launchctl::Launchd;
use crate::printer::Printer;
use crate::settings::Settings;
use agentfs_collector::{Config, Error};
use agentfs_home::Error as HomeError;
use agentfs_tls::{self as tls, OwnPair};
use agentfs_wire::control::{DaemonInfo, method};
use agentfs_wire::env;
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a collector may take to stop.
const STOP_TIME: Duration = Duration::from_secs(10);

/// Pause between two checks whether it has stopped.
const LOOK_PAUSE: Duration = Duration::from_millis(5);

/// Runs the command.
///
/// # Errors
/// What the collector answers, or why it cannot be started.
pub(crate) fn run(
    arguments: &DaemonArguments,
    settings: &Settings,
    printer: &Printer,
) -> Result<Exit, Failure> {
    match &arguments.action {
        DaemonAction::Start(arguments) => start(arguments, settings, printer),
        DaemonAction::Stop => stop(settings, printer),
        DaemonAction::Status { json } => status(*json, settings, printer),
        DaemonAction::Install { print: true } => print_agent(settings, printer),
        DaemonAction::Install { print: false } => install(settings, printer),
        DaemonAction::Uninstall => uninstall(settings, printer),
        DaemonAction::Run { detached: true, .. } => {
            // We outlive the command that started us by far: what it was given is not for us.
            descriptors::close_inherited();
            // Fails only if we already lead a process group; then no other terminal can reach us.
            let _ = nix::unistd::setsid();
            guardian::guard(settings, printer)
        }
        DaemonAction::Run { guarded, by_launchd, .. } => serve(*guarded, *by_launchd, settings, printer),
    }
}

fn start(arguments: &StartArguments, settings: &Settings, printer: &Printer) -> Result<Exit, Failure> {
    agentfs_home::prepare(&settings.paths)?;
    let secure = arguments.tls || arguments.cert.is_some();
    if secure {
        tls::enable(&settings.paths.home, own_pair(arguments)?.as_ref())?;
    }
    if let Some(info) = autostart::answer(settings) {
        printer.talk(&format!("the collector is already running (pid {})", info.pid));
        if secure && let Some(info) = trust::reload(settings)? {
            trust::say_urls(printer, &info);
        }
        for warning in unheard(&info, settings) {
            printer.warn(&warning);
        }
        return with_router(&info);
    }
    let info = autostart::start(settings)?;
    let routes = with_router(&info)?;
    if let (true, Some(error)) = (secure, &info.tls_error) {
        return Err(Failure::of(format_args!("the collector is running without TLS: {error}"))
            .hint("run `agentfs daemon start --tls` to try again"));
    }
    printer.talk(&describe(&info));
    if let Some(error) = &info.tls_error {
        printer.warn(error);
    }
    Ok(routes)
}

/// Addresses of the environment that a running collector does not use: it read its own when it started.
fn unheard(info: &DaemonInfo, settings: &Settings) -> Vec<String> {
    [
        (env::ROUTER, settings.router, Some(&info.listen)),
        // Without TLS that address is not listened on at all.
        (env::ROUTER_TLS, settings.router_tls, Some(&info.listen_tls).filter(|all| !all.is_empty())),
    ]
    .into_iter()
    .filter_map(|(name, wanted, used)| {
        let (wanted, used) = (wanted?, used?);
        // Port 0 is any port.
        let meets = wanted.port() == 0 || used.contains(&wanted.to_string());
        let what = format!(
            "{name}={wanted} does not change the collector that is running; run `agentfs daemon stop` first"
        );
        (!meets).then_some(what)
    })
    .collect()
}

/// Fails if the collector is running without a port for the router: no URL works then.
fn with_router(info: &DaemonInfo) -> Result<Exit, Failure> {
    match &info.router_error {
        None => Ok(Exit::Success),
        Some(error) => Err(Failure::of(format_args!(
            "the collector is running (pid {}) without its router: {error}",
            info.pid
        ))
        .hint("free the port or set AGENTFS_ROUTER to another; then run `agentfs daemon stop` and `agentfs daemon start`")),
    }
}

/// The user's own certificate and key, if any, as absolute paths: the collector has another working
/// directory.
fn own_pair(arguments: &StartArguments) -> Result<Option<OwnPair>, Failure> {
    let (Some(certificate), Some(key)) = (&arguments.cert, &arguments.key) else { return Ok(None) };
    let absolute = |path: &Path| {
        std::path::absolute(path).map_err(|error| {
            Failure::new(Exit::Usage, format_args!("cannot use the path {}: {error}", path.display()))
        })
    };
    Ok(Some(OwnPair { certificate: absolute(certificate)?, key: absolute(key)? }))
}

fn stop(settings: &Settings, printer: &Printer) -> Result<Exit, Failure> {
    let mut client = Client::require(&settings.paths)?;
    let info: DaemonInfo = client.call(method::DAEMON_INFO, json!({}))?;
    let _: Value = client.call(method::DAEMON_STOP, json!({}))?;
    drop(client);
    let deadline = Instant::now() + STOP_TIME;
    let lives = |pid| crate::liveness::is_running(pid, info.started_ms);
    while lives(info.pid) || info.guardian.is_some_and(lives) {
        if Instant::now() > deadline {
            let failure = Failure::of(format_args!("the collector (pid {}) does not stop", info.pid));
            return Err(failure.hint(format_args!("run `kill -9 {}`; nothing is lost", info.pid)));
        }
        std::thread::park_timeout(LOOK_PAUSE);
    }
    printer.talk(&format!("the collector (pid {}) has stopped", info.pid));
    Ok(Exit::Success)
}

fn status(as_json: bool, settings: &Settings, printer: &Printer) -> Result<Exit, Failure> {
    let info = match Client::connect(&settings.paths) {
        Ok(mut client) => Some(client.call::<DaemonInfo>(method::DAEMON_INFO, json!({}))?),
        Err(_) => None,
    };
    let text = match (&info, as_json) {
        (Some(info), true) => {
            let mut value = serde_json::to_value(info)
                .map_err(|error| Failure::of(format_args!("cannot write JSON: {error}")))?;
            if let Some(object) = value.as_object_mut() {
                object.insert("running".to_owned(), true.into());
            }
            format!("{value}\n")
        }
        (None, true) => format!("{}\n", json!({ "running": false, "home": settings.paths.home })),
        (Some(info), false) => details(info, settings),
        (None, false) => {
            let home = settings.paths.home.display().to_string();
            display::table(&[vec!["not running".to_owned()], vec!["home   ".to_owned(), home]])
        }
    };
    printer.data(&text)?;
    Ok(if info.is_some() { Exit::Success } else { Exit::NotFound })
}

fn print_agent(settings: &Settings, printer: &Printer) -> Result<Exit, Failure> {
    printer.data(&LaunchAgent::of(settings)?.plist())?;
    Ok(Exit::Success)
}

fn install(settings: &Settings, printer: &Printer) -> Result<Exit, Failure> {
    let launchd = Launchd::find(settings)?;
    let agent = LaunchAgent::of(settings)?;
    agentfs_home::prepare(&settings.paths)?;
    // A running collector holds the lock that launchd's collector needs.
    if autostart::answer(settings).is_some() {
        stop(settings, printer)?;
    }
    launchd.install(&agent)?;
    printer.talk(&format!("launchd loaded {}", agent.file().display()));
    let info = autostart::await_answer(settings).ok_or_else(|| {
        let failure = Failure::of("launchd loaded the LaunchAgent, but its collector does not answer");
        let domain = launchd.domain(&agent);
        failure.hint(format_args!(
            "run `launchctl print {domain}` to see why; its log is {}",
            agent.log().display()
        ))
    })?;
    printer.talk(&describe(&info));
    Ok(Exit::Success)
}

fn uninstall(settings: &Settings, printer: &Printer) -> Result<Exit, Failure> {
    let launchd = Launchd::find(settings)?;
    let agent = LaunchAgent::of(settings)?;
    if launchd.uninstall(&agent)? {
        printer.talk(&format!("removed {}", agent.file().display()));
        Ok(Exit::Success)
    } else {
        Err(Failure::new(
            Exit::NotFound,
            format_args!("cannot find {}: the LaunchAgent is not installed", agent.file().display()),
        ))
    }
}

fn serve(guarded: bool, by_launchd: bool, settings: &Settings, printer: &Printer) -> Result<Exit, Failure> {
    let mut config = Config::new(settings.paths.clone(), env!("CARGO_PKG_VERSION"));
    config.router_address = settings.router;
    match agentfs_launchd::sockets(launch_agent::SOCKETS) {
        Ok(sockets) => config.router_sockets = sockets.into_iter().map(Into::into).collect(),
        // Then the router binds its own sockets.
        Err(error) => printer.say(&format!("launchd passed no sockets: {error}")),
    }
    config.tls_address = settings.router_tls;
    config.dns_address = Some(settings.dns);
    config.router_threads = settings.router_threads;
    config.log = settings.log;
    config.guardian = guarded.then(std::os::unix::process::parent_id);
    match agentfs_collector::serve(config) {
        Err(Error::Home(error @ HomeError::AlreadyRunning { .. })) if by_launchd => {
            printer.say(&error.to_string());
        }
        // Two commands started a collector at once: the first one serves both.
        Err(Error::Home(HomeError::AlreadyRunning { .. })) if guarded => {}
        Err(error) => return Err(error.into()),
        // launchd starts a job again that fails.
        Ok(report) if (guarded || by_launchd) && !report.asked => {
            return Ok(Exit::Program(guardian::SIGNALLED));
        }
        Ok(_) => {}
    }
    Ok(Exit::Success)
}

fn describe(info: &DaemonInfo) -> String {
    format!("the collector is running (pid {}); the router listens on {}", info.pid, listen(info))
}

fn listen(info: &DaemonInfo) -> String {
    if info.listen.is_empty() { "no address".to_owned() } else { info.listen.join(", ") }
}

fn details(info: &DaemonInfo, settings: &Settings) -> String {
    let version = if info.version == env!("CARGO_PKG_VERSION") {
        info.version.clone()
    } else {
        format!(
            "{} (this command is {}; run `agentfs daemon stop`, and the next command starts that)",
            info.version,
            env!("CARGO_PKG_VERSION")
        )
    };
    let mut rows = vec![
        vec!["running".to_owned(), format!("pid {}, for {}", info.pid, age(info.started_ms, now_ms()))],
        vec!["version".to_owned(), version],
        vec!["router".to_owned(), listen(info)],
        vec!["home".to_owned(), info.home.clone()],
        vec!["run dir".to_owned(), info.run.clone()],
        vec!["log".to_owned(), settings.paths.log.display().to_string()],
    ];
    if let Some(guardian) = info.guardian {
        rows.push(vec!["guardian".to_owned(), format!("pid {guardian} starts it again if it is killed")]);
    }
    if let Some(dns) = &info.dns {
        rows.insert(3, vec!["names".to_owned(), format!("{dns} answers for *.localhost (UDP)")]);
    }
    if !info.listen_tls.is_empty() {
        rows.insert(3, vec!["tls".to_owned(), info.listen_tls.join(", ")]);
    }
    for error in [&info.router_error, &info.tls_error].into_iter().flatten() {
        rows.push(vec!["trouble".to_owned(), error.clone()]);
    }
    display::table(&rows)
}
