//! `agentfs ps`: what the collector knows, as a table or as JSON.
use crate::args::PsArguments;
use crate::client::{Client, Next};
use crate::display;
use crate::duration::{age, now_ms};
use crate::engine::{self, InUse};
use crate::exit::Exit;
use crate::hint::Failure;
use crate::orphans;
use crate::printer::{Flow, Printer};
use crate::settings::Settings;
use agentfs_wire::control::{CommandInfo, InstanceInfo, ListenerInfo, Snapshot, SubscribeParams, method};
use agentfs_wire::text::visible;
use serde::Serialize;
use serde_json::json;
use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

/// How often `--watch` updates ages and request counts.
const REFRESH: Duration = Duration::from_secs(1);

/// Events that come together are shown together.
const SETTLE: Duration = Duration::from_millis(20);

/// Clears a terminal and goes to its first line (ECMA-48 ED, CUP).
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Runs the command.
///
/// # Errors
/// The collector does not answer.
pub(crate) fn run(arguments: &PsArguments, settings: &Settings, printer: &Printer) -> Result<Exit, Failure> {
    if arguments.watch {
        return watch(arguments, settings, printer);
    }
    let snapshot = match crate::autostart::where_needed(settings)? {
        Some(mut client) => client.call(method::LIST, json!({}))?,
        None => Snapshot::default(),
    };
    if snapshot.instances.is_empty() && !arguments.json {
        printer.talk("nothing is running; start something with `agentfs wrap -- COMMAND`");
        return Ok(Exit::Success);
    }
    printer.data(&text(&snapshot, arguments.json, settings)?)?;
    if !arguments.json && snapshot.instances.iter().any(|instance| instance.url.is_none()) {
        let info = crate::autostart::answer(settings);
        if let Some(cause) = info.and_then(|info| info.router_error) {
            printer.warn(&format!("nothing has a URL, because the router does not listen: {cause}"));
        }
    }
    Ok(Exit::Success)
}

fn watch(arguments: &PsArguments, settings: &Settings, printer: &Printer) -> Result<Exit, Failure> {
    let mut client = crate::autostart::ensure(settings)?;
    let mut events = Client::require(&settings.paths)?.subscribe(&SubscribeParams::default())?;
    let terminal = std::io::stdout().is_terminal() && !arguments.json;
    let mut last = String::new();
    loop {
        let snapshot: Snapshot = client.call(method::LIST, json!({}))?;
        let now = text(&snapshot, arguments.json, settings)?;
        if now != last {
            let shown = if terminal { format!("{CLEAR}{now}") } else { now.clone() };
            if printer.data(&shown)? == Flow::Closed {
                return Ok(Exit::Success);
            }
            last = now;
        }
        let mut wait = REFRESH;
        loop {
            match events.next(Some(wait))? {
                Next::Event(_) => wait = SETTLE,
                Next::Quiet => break,
                Next::Closed => return Err(Failure::new(Exit::NotFound, "the collector has stopped")),
            }
        }
    }
}

fn text(snapshot: &Snapshot, json: bool, settings: &Settings) -> Result<String, Failure> {
    if json {
        let instances: Vec<Shown<'_>> = snapshot
            .instances
            .iter()
            .map(|instance| Shown { instance, engine: engine::in_use(settings, instance) })
            .collect();
        let text = serde_json::to_string(&instances)
            .map_err(|error| Failure::of(format_args!("cannot write JSON: {error}")))?;
        return Ok(format!("{text}\n"));
    }
    let table = table(&snapshot.instances, now_ms(), settings.user_home.as_deref());
    Ok(table + &notes(&snapshot.instances, settings))
}

/// An instance, and the engine that serves programs of it.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    instance: &'a InstanceInfo,
    #[serde(skip_serializing_if = "Option::is_none")]
    engine: Option<InUse>,
}

/// What the table has no column for: instances that the seccomp engine serves, but not as usual.
fn notes(instances: &[InstanceInfo], settings: &Settings) -> String {
    let note = |instance: &InstanceInfo| {
        let engine = engine::in_use(settings, instance)?;
        Some((format!("{}/{}", instance.app, instance.instance), engine))
    };
    let served: Vec<(String, InUse)> = instances.iter().filter_map(note).collect();
    served.iter().map(|(name, engine)| engine_line(name, engine)).collect()
}

/// How programs of an instance are served.
fn engine_line(name: &str, engine: &InUse) -> String {
    let sockets = match engine.sockets {
        Some("port_space") => "sockets of a port space",
        Some(_) => "stand-ins",
        None => "ended",
    };
    let why = engine.why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
    format!("{name}: seccomp engine, {sockets}{why}\n")
}

fn table(instances: &[InstanceInfo], now_ms: u64, user_home: Option<&Path>) -> String {
    let heads = ["APP", "INSTANCE", "ADDRESS", "URL", "PID", "AGE", "REQUESTS", "REQ/S", "COMMAND", "FOLDER"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    for instance in instances {
        if instance.listeners.is_empty() {
            rows.push(row(instance, None, now_ms, user_home));
        }
        for listener in &instance.listeners {
            rows.push(row(instance, Some(listener), now_ms, user_home));
        }
    }
    display::table(&rows)
}

fn row(
    instance: &InstanceInfo,
    listener: Option<&ListenerInfo>,
    now_ms: u64,
    user_home: Option<&Path>,
) -> Vec<String> {
    let none = || "-".to_owned();
    let some = |text: String| if text.is_empty() { none() } else { text };
    let pid = listener
        .and_then(|listener| listener.pid)
        .or_else(|| instance.pids.first().copied())
        .or(instance.wrap_pid);
    let since = listener.map_or(instance.started_ms, |listener| listener.since_ms);
    let started = started(instance, listener.and_then(|listener| listener.pid));
    let words = started.map_or(&instance.command, |one| &one.command);
    let folder = started.map(|one| one.directory.as_str()).or(instance.directory.as_deref());
    vec![
        instance.app.clone(),
        instance.instance.clone(),
        listener.map_or_else(none, |listener| some(listener.address.clone())),
        listener.and_then(|listener| listener.url.clone()).unwrap_or_else(none),
        pid.map_or_else(none, |pid| pid.to_string()),
        age(since, now_ms),
        listener.map_or_else(none, |listener| listener.requests.to_string()),
        listener.map_or_else(none, |listener| rate(listener.requests_per_second)),
        some(command(words)),
        folder.map_or_else(none, |folder| display::short(folder, user_home)),
    ]
}

/// The command of an instance with several that started a process.
fn started(instance: &InstanceInfo, pid: Option<u32>) -> Option<&CommandInfo> {
    let wraps: Vec<u32> = instance.commands.iter().map(|one| one.wrap_pid).collect();
    let starter = pid.filter(|_| wraps.len() > 1).and_then(|pid| orphans::starter(pid, &wraps))?;
    instance.commands.iter().find(|one| one.wrap_pid == starter)
}

/// Requests per second.
fn rate(per_second: f64) -> String {
    match per_second {
        0.0 => "0".to_owned(),
        ..0.1 => "<0.1".to_owned(),
        ..10.0 => format!("{per_second:.1}"),
        _ => format!("{per_second:.0}"),
    }
}

/// A command on one line of bounded length.
fn command(words: &[String]) -> String {
    /// Characters of a command line that are shown.
    const LONGEST: usize = 40;
    let line = visible(&words.join(" ")).to_string();
    if line.chars().count() <= LONGEST {
        return line;
    }
    let head: String = line.chars().take(LONGEST - 1).collect();
    format!("{head}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_has_a_row_for_each_listener() {
        let listener = ListenerInfo {
            address: "0.0.0.0:8080".to_owned(),
            port: 8080,
            socket: "/h/run/shop-blue.8080.sock".to_owned(),
            url: Some("http://shop.localhost".to_owned()),
            main: true,
            pid: Some(4712),
            since_ms: 60_000,
            requests: 7,
            requests_per_second: 0.72,
        };
        let mut instance = InstanceInfo {
            app: "shop".to_owned(),
            instance: "blue".to_owned(),
            host: "shop.localhost".to_owned(),
            url: Some("http://shop.localhost".to_owned()),
            directory: Some("/home/ada/shop".to_owned()),
            command: vec!["npm".to_owned(), "run\ndev".to_owned()],
            commands: Vec::new(),
            wrap_pid: Some(4711),
            pids: vec![4712],
            started_ms: 0,
            listeners: vec![listener],
            has_app_name: Some(true),
        };
        let home = Some(Path::new("/home/ada"));
        let shown = table(std::slice::from_ref(&instance), 120_000, home);
        assert_eq!(
            shown,
            "APP   INSTANCE  ADDRESS       URL                    PID   AGE  REQUESTS  REQ/S  COMMAND       FOLDER\n\
             shop  blue      0.0.0.0:8080  http://shop.localhost  4712  1m   7         0.7    npm run\\ndev  ~/shop\n"
        );
        instance.listeners.clear();
        assert!(table(&[instance], 120_000, home).contains("shop  blue      -        -    4712  2m   -"));
    }

    #[test]
    fn a_long_command_is_cut() {
        let line = command(&["x".repeat(60)]);
        assert_eq!(line.chars().count(), 40);
        assert!(line.ends_with('…'));
    }
}
